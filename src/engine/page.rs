//! The counters that a server's processes publish: each writes cells of its own, and all may read all of them. Nothing here needs
//! the interpreter, so a process can be observed while its application holds that.
//!
//! A row of cells has one writer and cache lines of its own. Each cell has a meaning of its own: no reader needs two cells that fit
//! together. A single process has a page in its own memory, so that the engine has one way to count.

use std::fs::File;
#[cfg(not(all(test, models)))]
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::time::{ClockId, clock_gettime};

use crate::engine::sync::AtomicU64;
#[cfg(not(all(test, models)))]
use crate::net::shared_memory::SharedCells;

/// The meaning of the cells. It changes with their order and number.
const LAYOUT: u64 = u64::from_be_bytes(*b"wsgi\0\0\0\x01");
/// Cells of a row: two cache lines, because processors fetch lines in pairs.
const ROW_CELLS: usize = 16;
/// The rows before those of the first slot: the supervisor's, and one that any process writes.
const FIRST_SLOT_ROW: usize = 2;
/// The most slots of a page, and the most shards of a slot.
const SLOTS_MAX: usize = 4096;

/// Cells that the supervisor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum SupervisorCell {
    /// `LAYOUT`.
    Layout,
    /// How many slots there are.
    Slots,
    /// How many shards each slot has.
    Shards,
    /// One more than the highest number of a slot that is taken.
    UsedSlots,
    /// Its process.
    Pid,
    /// Workers that are wanted.
    Target,
    /// The generation that serves.
    Generation,
    /// Reloads that were requested.
    ReloadsBegun,
    /// Reloads whose generation serves.
    ReloadsDone,
    /// Reloads that failed or were given up.
    ReloadsFailed,
}

/// Cells that any process writes.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(in crate::engine) enum CommonCell {
    /// 1 while a shard may have more queued requests than its equal part of the limit.
    IsQueueUneven,
}

/// Cells that one worker process writes.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum WorkerCell {
    /// 1 while the slot is taken. Written by the supervisor.
    IsTaken,
    /// The generation of its application. Written by the supervisor.
    Generation,
    /// Its process, once it has begun to serve.
    Pid,
    /// Requests that can be inside its application at the same time; 0 for an event loop, which has no such limit.
    Threads,
    /// Requests that are inside its application.
    Running,
    /// WebSockets that it holds.
    WebSockets,
    /// Bytes in its temporary files.
    SpooledBytes,
}

/// Cells that the poller of one shard writes.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum ShardCell {
    /// 1 while it accepts connections.
    IsAccepting,
    /// Connections that it holds.
    Connections,
    /// Requests that wait for a thread, or for the answer of an ASGI application.
    Queued,
    /// Its [`Heartbeat`].
    Heartbeat,
    /// Connections that it has accepted.
    Accepted,
    /// The connections that it has accepted, as far as its turn depends on them: a worker that accepted nothing for long catches up.
    Turn,
    /// Since when all threads are inside the application, as far as its poller knows, in milliseconds as a heartbeat; 0: they are not.
    BusySince,
}

/// When a poller was last served by a thread, in milliseconds of the system's monotonic clock, and whether a thread may wait in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heartbeat(u64);

impl Heartbeat {
    /// The heartbeat of a poller that is served at `at_ms`.
    pub fn new(at_ms: u64, is_waiting: bool) -> Self {
        Self(at_ms << 1 | u64::from(is_waiting))
    }

    /// What is stored in a cell.
    pub fn bits(self) -> u64 {
        let Self(bits) = self;
        bits
    }

    /// When the poller was last served.
    pub fn at_ms(self) -> u64 {
        let Self(bits) = self;
        bits >> 1
    }

    /// Whether the poller waits for the kernel, so that its heartbeat may be old.
    pub fn is_waiting(self) -> bool {
        let Self(bits) = self;
        bits & 1 == 1
    }
}

/// Milliseconds of the monotonic clock, which all processes of a machine share.
pub fn monotonic_ms() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

// The models run with loom's atomics, which cannot lie in mapped memory.
#[derive(Debug)]
enum Memory {
    Private(Box<[AtomicU64]>),
    #[cfg(not(all(test, models)))]
    Shared(SharedCells),
}

/// The cells, in one slot for each worker.
#[derive(Debug)]
pub struct CounterPage {
    memory: Memory,
    slots: usize,
    shards: usize,
}

impl CounterPage {
    /// A page in this process alone.
    pub fn private(slots: usize, shards: usize) -> Self {
        let memory = (0..rows(slots, shards) * ROW_CELLS).map(|_| AtomicU64::default()).collect();
        Self { memory: Memory::Private(memory), slots, shards }.initialized()
    }

    /// A page that forked processes share, for at most `slots` workers of at most `shards` shards.
    ///
    /// # Errors
    /// `InvalidInput`: there are none, or too many of them. Otherwise the system has no memory or descriptors left.
    #[cfg(not(all(test, models)))]
    pub fn shared(slots: usize, shards: usize) -> io::Result<Self> {
        if !(1..=SLOTS_MAX).contains(&slots) || !(1..=SLOTS_MAX).contains(&shards) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let memory = Memory::Shared(SharedCells::new(rows(slots, shards) * ROW_CELLS)?);
        Ok(Self { memory, slots, shards }.initialized())
    }

    /// Maps the page that `shared` has made in another process, or before a program was executed.
    ///
    /// # Errors
    /// `InvalidData`: the file is not a page of this version.
    #[cfg(not(all(test, models)))]
    pub fn open(file: File) -> io::Result<Self> {
        let memory = SharedCells::open(file)?;
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let header =
            |cell: SupervisorCell| memory.cells().get(cell as usize).map_or(0, |cell| cell.load(Ordering::Relaxed));
        if header(SupervisorCell::Layout) != LAYOUT {
            return Err(invalid("the counters are those of another version of this server"));
        }
        let number = |cell| usize::try_from(header(cell)).ok().filter(|number| (1..=SLOTS_MAX).contains(number));
        match (number(SupervisorCell::Slots), number(SupervisorCell::Shards)) {
            (Some(slots), Some(shards)) if rows(slots, shards) * ROW_CELLS <= memory.cells().len() => {
                Ok(Self { memory: Memory::Shared(memory), slots, shards })
            }
            _ => Err(invalid("the counters contradict the length of their file")),
        }
    }

    fn initialized(self) -> Self {
        for (cell, value) in [
            (SupervisorCell::Layout, LAYOUT),
            (SupervisorCell::Slots, self.slots as u64),
            (SupervisorCell::Shards, self.shards as u64),
        ] {
            self.supervisor(cell).store(value, Ordering::Relaxed);
        }
        self
    }

    /// The file of a shared page.
    pub fn file(&self) -> Option<&File> {
        match &self.memory {
            Memory::Private(_) => None,
            #[cfg(not(all(test, models)))]
            Memory::Shared(cells) => Some(cells.file()),
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many shards each slot has.
    pub fn shards(&self) -> usize {
        self.shards
    }

    fn cell(&self, row: usize, cell: usize) -> &AtomicU64 {
        self.at(row * ROW_CELLS + cell)
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        let cells: &[AtomicU64] = match &self.memory {
            Memory::Private(cells) => cells,
            #[cfg(not(all(test, models)))]
            Memory::Shared(cells) => cells.cells(),
        };
        &cells[index]
    }

    fn worker_row(&self, slot: usize) -> usize {
        FIRST_SLOT_ROW + slot * rows_of_slot(self.shards)
    }

    /// One of the supervisor's cells.
    pub fn supervisor(&self, cell: SupervisorCell) -> &AtomicU64 {
        self.cell(0, cell as usize)
    }

    pub(in crate::engine) fn common(&self, cell: CommonCell) -> &AtomicU64 {
        self.cell(1, cell as usize)
    }

    // The slot and the shard must exist.
    fn worker(&self, slot: usize, cell: WorkerCell) -> &AtomicU64 {
        self.cell(self.worker_row(slot), cell as usize)
    }

    fn shard(&self, slot: usize, shard: usize, cell: ShardCell) -> &AtomicU64 {
        self.cell(self.worker_row(slot) + 1 + shard, cell as usize)
    }

    /// Takes a free slot for a worker that is about to start, until it is released. `None`: every slot is taken. Called by the
    /// supervisor only.
    pub fn take_slot(&self, generation: u64) -> Option<usize> {
        let slot = (0..self.slots).find(|slot| !self.is_taken(*slot))?;
        self.worker(slot, WorkerCell::Generation).store(generation, Ordering::Relaxed);
        self.worker(slot, WorkerCell::IsTaken).store(1, Ordering::Relaxed);
        // The equal part of each shard becomes smaller: until all are within theirs, the sum counts.
        self.common(CommonCell::IsQueueUneven).store(1, Ordering::SeqCst);
        // Readers look at no slot beyond the last one that is taken.
        self.supervisor(SupervisorCell::UsedSlots).store(self.used_slots().max(slot + 1) as u64, Ordering::SeqCst);
        Some(slot)
    }

    /// Forgets a worker that has ended: its share of the limits is free again. Called by the supervisor only.
    pub fn release_slot(&self, slot: usize) {
        if slot >= self.slots {
            return;
        }
        let first = self.worker_row(slot);
        for row in first..first + rows_of_slot(self.shards) {
            (0..ROW_CELLS).for_each(|cell| self.cell(row, cell).store(0, Ordering::SeqCst));
        }
        let used = (0..self.used_slots()).rev().find(|slot| self.is_taken(*slot)).map_or(0, |last| last + 1);
        self.supervisor(SupervisorCell::UsedSlots).store(used as u64, Ordering::SeqCst);
    }

    fn is_taken(&self, slot: usize) -> bool {
        self.worker(slot, WorkerCell::IsTaken).load(Ordering::Relaxed) == 1
    }

    /// No slot from this one on is taken.
    pub(in crate::engine) fn used_slots(&self) -> usize {
        let used = self.supervisor(SupervisorCell::UsedSlots).load(Ordering::SeqCst);
        usize::try_from(used).map_or(self.slots, |used| used.min(self.slots))
    }

    /// How many shards there are at most in the slots that are used.
    pub(in crate::engine) fn used_shards(&self) -> usize {
        self.used_slots() * self.shards
    }

    /// The values of one cell in all shards of all workers.
    pub(in crate::engine) fn all_shards(&self, cell: ShardCell) -> impl Iterator<Item = u64> {
        (0..self.used_slots()).flat_map(move |slot| self.shards_of(slot, cell))
    }

    fn shards_of(&self, slot: usize, cell: ShardCell) -> impl Iterator<Item = u64> {
        (0..self.shards).map(move |shard| self.shard(slot, shard, cell).load(Ordering::SeqCst))
    }

    /// The load of the worker in this slot, of which there must be one.
    pub(in crate::engine) fn load(&self, slot: usize) -> WorkerLoad {
        let worker = |cell| self.worker(slot, cell).load(Ordering::Relaxed);
        let (threads, running) = (worker(WorkerCell::Threads), worker(WorkerCell::Running));
        let mut load = WorkerLoad { slot, is_saturated: threads > 0 && running >= threads, ..WorkerLoad::default() };
        for shard in 0..self.shards {
            let value = |cell| self.shard(slot, shard, cell).load(Ordering::Relaxed);
            load.is_accepting |= value(ShardCell::IsAccepting) == 1;
            load.connections += value(ShardCell::Connections);
            load.accepted += value(ShardCell::Accepted);
            load.turn += value(ShardCell::Turn);
            load.busy_since_ms = load.busy_since_ms.max(value(ShardCell::BusySince));
            load.heartbeat = load.heartbeat.max(Heartbeat(value(ShardCell::Heartbeat)));
        }
        load
    }

    /// What the page has of each worker.
    pub fn workers(&self) -> Vec<WorkerCounters> {
        (0..self.used_slots()).filter(|slot| self.is_taken(*slot)).map(|slot| self.counters(slot)).collect()
    }

    fn counters(&self, slot: usize) -> WorkerCounters {
        let worker = |cell| self.worker(slot, cell).load(Ordering::Relaxed);
        let shards = |cell| (0..self.shards).map(move |shard| self.shard(slot, shard, cell).load(Ordering::Relaxed));
        let heartbeat = || shards(ShardCell::Heartbeat).map(Heartbeat);
        WorkerCounters {
            slot,
            pid: worker(WorkerCell::Pid),
            generation: worker(WorkerCell::Generation),
            is_accepting: shards(ShardCell::IsAccepting).any(|is_accepting| is_accepting == 1),
            connections: shards(ShardCell::Connections).sum(),
            websockets: worker(WorkerCell::WebSockets),
            threads: worker(WorkerCell::Threads),
            running: worker(WorkerCell::Running),
            queued: shards(ShardCell::Queued).sum(),
            spooled_bytes: worker(WorkerCell::SpooledBytes),
            heartbeat_ms: heartbeat().map(Heartbeat::at_ms).max().unwrap_or(0),
            is_waiting: heartbeat().any(Heartbeat::is_waiting),
            accepted: shards(ShardCell::Accepted).sum(),
        }
    }
}

fn rows_of_slot(shards: usize) -> usize {
    1 + shards
}

fn rows(slots: usize, shards: usize) -> usize {
    FIRST_SLOT_ROW + slots * rows_of_slot(shards)
}

/// A snapshot of one worker's cells, each read on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the cells say what each is")]
pub struct WorkerCounters {
    pub slot: usize,
    pub pid: u64,
    pub generation: u64,
    pub is_accepting: bool,
    pub connections: u64,
    pub websockets: u64,
    pub threads: u64,
    pub running: u64,
    pub queued: u64,
    pub spooled_bytes: u64,
    pub heartbeat_ms: u64,
    pub is_waiting: bool,
    pub accepted: u64,
}

/// By what workers decide which of them accepts the next client.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct WorkerLoad {
    pub slot: usize,
    pub is_accepting: bool,
    /// All its threads are inside the application at this moment.
    pub is_saturated: bool,
    pub busy_since_ms: u64,
    pub connections: u64,
    pub heartbeat: Heartbeat,
    pub accepted: u64,
    pub turn: u64,
}

/// One worker's place on a page.
#[derive(Clone, Debug)]
pub struct PageSlot {
    page: Arc<CounterPage>,
    slot: usize,
    // Where its cells begin: they are used several times for each request.
    first_cell: usize,
}

impl PageSlot {
    /// The only slot of a page of this process' own.
    pub fn private(shards: usize) -> Self {
        let page = CounterPage::private(1, shards);
        page.take_slot(0);
        Self::at(Arc::new(page), 0)
    }

    /// The slot with this number; `None`: the page has none.
    pub fn new(page: Arc<CounterPage>, slot: usize) -> Option<Self> {
        (slot < page.slots).then(|| Self::at(page, slot))
    }

    fn at(page: Arc<CounterPage>, slot: usize) -> Self {
        let first_cell = page.worker_row(slot) * ROW_CELLS;
        Self { page, slot, first_cell }
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.slot
    }

    /// The numbers of the slots of other workers.
    pub(in crate::engine) fn others(&self) -> impl Iterator<Item = usize> {
        let own = self.slot;
        (0..self.page.used_slots()).filter(move |slot| *slot != own)
    }

    /// What the other workers have together in one cell.
    pub(in crate::engine) fn sum_of_others(&self, cell: WorkerCell) -> u64 {
        self.others().map(|slot| self.page.worker(slot, cell).load(Ordering::SeqCst)).sum()
    }

    /// What all shards but one of this worker have together in one cell.
    pub(in crate::engine) fn sum_of_other_shards(&self, shard: usize, cell: ShardCell) -> u64 {
        let all: u64 = self.page.all_shards(cell).sum();
        all.saturating_sub(self.shard(shard, cell).load(Ordering::SeqCst))
    }

    /// The whole page.
    pub fn page(&self) -> &CounterPage {
        &self.page
    }

    /// One of the worker's own cells.
    pub fn worker(&self, cell: WorkerCell) -> &AtomicU64 {
        self.page.at(self.first_cell + cell as usize)
    }

    /// One of the cells of the worker's shards, whose number is below the page's [`CounterPage::shards`].
    pub fn shard(&self, shard: usize, cell: ShardCell) -> &AtomicU64 {
        self.page.at(self.first_cell + (1 + shard) * ROW_CELLS + cell as usize)
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;

    fn set(slot: &PageSlot, shard: usize, cell: ShardCell, value: u64) {
        slot.shard(shard, cell).store(value, Ordering::Relaxed);
    }

    #[test]
    fn slot_of_a_worker_that_has_ended_is_free_and_empty() {
        let page = Arc::new(CounterPage::shared(2, 2).unwrap());
        let [one, other] = [7, 8].map(|generation| {
            let slot = PageSlot::new(Arc::clone(&page), page.take_slot(generation).unwrap()).unwrap();
            set(&slot, 0, ShardCell::Connections, generation);
            set(&slot, 1, ShardCell::Connections, 1);
            slot.worker(WorkerCell::Running).store(3, Ordering::Relaxed);
            slot
        });
        assert_eq!(page.workers().iter().map(|worker| worker.connections).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(page.take_slot(9), None);
        page.release_slot(one.slot);
        assert_eq!(page.workers().iter().map(|worker| (worker.slot, worker.generation)).collect::<Vec<_>>(), [(1, 8)]);
        assert_eq!(page.take_slot(9), Some(one.slot));
        let counters = page.counters(one.slot);
        assert_eq!((counters.connections, counters.running, counters.generation), (0, 0, 9));
        page.release_slot(one.slot);
        page.release_slot(other.slot);
        assert_eq!((page.workers(), page.used_slots()), (Vec::new(), 0));
        page.release_slot(2);
    }

    #[test]
    fn worker_that_other_processes_have_mapped_is_seen_as_it_is() {
        let page = Arc::new(CounterPage::shared(3, 1).unwrap());
        let slot = PageSlot::new(Arc::clone(&page), page.take_slot(4).unwrap()).unwrap();
        set(&slot, 0, ShardCell::Heartbeat, Heartbeat::new(1234, true).0);
        set(&slot, 0, ShardCell::IsAccepting, 1);
        let again = CounterPage::open(page.file().unwrap().try_clone().unwrap()).unwrap();
        assert_eq!((again.slots(), again.shards()), (3, 1));
        assert_eq!(again.workers(), page.workers());
        let [seen] = &again.workers()[..] else { panic!("one slot is taken") };
        assert_eq!((seen.heartbeat_ms, seen.is_waiting, seen.is_accepting, seen.generation), (1234, true, true, 4));
        assert!(PageSlot::new(page, 3).is_none());
    }

    #[test]
    fn page_of_another_layout_or_length_is_not_opened() {
        for (cell, value, why) in [
            (SupervisorCell::Layout, LAYOUT + 1, "another version"),
            (SupervisorCell::Slots, 3, "contradict"),
            (SupervisorCell::Slots, u64::MAX, "contradict"),
            (SupervisorCell::Shards, 0, "contradict"),
        ] {
            let page = CounterPage::shared(2, 1).unwrap();
            page.supervisor(cell).store(value, Ordering::Relaxed);
            let error = CounterPage::open(page.file().unwrap().try_clone().unwrap()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let short = SharedCells::new(1).unwrap();
        assert!(CounterPage::open(short.file().try_clone().unwrap()).is_err());
    }

    #[test]
    fn page_without_slots_or_with_too_many_is_refused() {
        for (slots, shards) in [(0, 1), (1, 0), (SLOTS_MAX + 1, 1), (1, usize::MAX)] {
            assert_eq!(CounterPage::shared(slots, shards).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn rows_of_a_page_do_not_overlap() {
        let page = CounterPage::shared(3, 2).unwrap();
        let mut value = 0;
        let mut all = Vec::new();
        for slot in 0..3 {
            all.push(page.worker(slot, WorkerCell::SpooledBytes));
            all.extend((0..2).map(|shard| page.shard(slot, shard, ShardCell::Accepted)));
        }
        all.push(page.common(CommonCell::IsQueueUneven));
        all.push(page.supervisor(SupervisorCell::ReloadsFailed));
        for cell in &all {
            value += 1;
            cell.store(value, Ordering::Relaxed);
        }
        assert_eq!(all.iter().map(|cell| cell.load(Ordering::Relaxed)).sum::<u64>(), (1..=value).sum::<u64>());
    }

    #[test]
    fn monotonic_clock_is_that_of_the_machine() {
        let before = monotonic_ms();
        assert!(before > 0 && monotonic_ms() >= before);
    }
}
