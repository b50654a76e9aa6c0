//! How many requests run and wait, out of how many that may: permits for the application, and places in the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::engine::page::{CommonCell, CounterPage, PageSlot, ShardCell, WorkerCell};
use crate::engine::scheduling::quota::{Quota, QuotaGuard};
use crate::engine::scheduling::stall::{StallNews, StallWatch};
use crate::engine::sync::AtomicU64;

/// A request's place in the queue, which it keeps until this is dropped.
pub struct AdmissionGuard {
    capacity: Arc<Capacity>,
    shard: usize,
}

impl Drop for AdmissionGuard {
    fn drop(&mut self) {
        self.capacity.leave_queue(self.shard);
    }
}

/// A connection's place among the WebSockets, until this is dropped.
pub struct WebSocketGuard(Arc<Capacity>);

impl Drop for WebSocketGuard {
    fn drop(&mut self) {
        let Self(capacity) = self;
        capacity.slot.worker(WorkerCell::WebSockets).fetch_sub(1, Ordering::SeqCst);
    }
}

/// The capacity of a run, shared by its shards. Requests that run, those that are queued by the shard they came from, and WebSockets
/// are counted on the page, because limits of the last two are for all workers together.
pub struct Capacity {
    threads: usize,
    // Requests that may run at the same time. An event loop runs any number in one thread.
    permits: u64,
    shards: usize,
    slot: PageSlot,
    // Other processes may have slots on the page.
    is_shared: bool,
    // Connections of all workers together.
    max_connections: usize,
    // Calls that read their bodies off the socket, although bodies are read before the call.
    direct_reads: Arc<Quota>,
    stall: StallWatch,
}

impl Capacity {
    /// The capacity of `shards` shards that run at most `threads` requests at the same time, in a process that is alone and has no
    /// limit of connections.
    pub fn new(threads: usize, shards: usize) -> Self {
        Self::on(PageSlot::private(shards), Some(threads), shards, usize::MAX)
    }

    /// The same for a worker process whose counters are in `slot`, where all workers together have at most `max_connections`.
    /// Without `threads`, an event loop runs all requests.
    pub fn on(slot: PageSlot, threads: Option<usize>, shards: usize, max_connections: usize) -> Self {
        slot.worker(WorkerCell::Threads).store(threads.unwrap_or(0) as u64, Ordering::Relaxed);
        Self {
            threads: threads.unwrap_or(1),
            permits: threads.map_or(u64::MAX, |threads| threads as u64),
            shards,
            is_shared: slot.page().slots() > 1,
            slot,
            max_connections,
            direct_reads: Quota::new(),
            stall: StallWatch::default(),
        }
    }

    /// Where the counters of this process are.
    pub(in crate::engine) fn slot(&self) -> &PageSlot {
        &self.slot
    }

    fn page(&self) -> &CounterPage {
        self.slot.page()
    }

    /// How many connections all workers together may have.
    pub(in crate::engine) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// How many requests may run at the same time.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How many shards share it.
    pub fn shards(&self) -> usize {
        self.shards
    }

    fn running(&self) -> &AtomicU64 {
        self.slot.worker(WorkerCell::Running)
    }

    /// Takes a permit to run a request. `false`: none is left.
    pub(in crate::engine) fn acquire(&self) -> bool {
        let cell = self.running();
        let mut running = cell.load(Ordering::SeqCst);
        while running < self.permits {
            match cell.compare_exchange(running, running + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(changed) => running = changed,
            }
        }
        false
    }

    /// Gives a permit back. Called by the worker pool, which wakes a worker for it.
    pub(in crate::engine) fn release(&self) {
        self.stall.note_release();
        self.running().fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a permit is left.
    pub(in crate::engine) fn has_permit(&self) -> bool {
        self.running().load(Ordering::SeqCst) < self.permits
    }

    /// Whether any request runs.
    pub(in crate::engine) fn is_any_running(&self) -> bool {
        self.running().load(Ordering::Relaxed) > 0
    }

    // The queue of a shard; the number must exist.
    fn queued(&self, shard: usize) -> &AtomicU64 {
        self.slot.shard(shard, ShardCell::Queued)
    }

    /// Counts one more queued request of a shard. `false`: `limit` are queued already, from all shards of all workers together.
    pub(in crate::engine) fn admit(&self, shard: usize, limit: usize) -> bool {
        let parts = if self.is_shared { self.page().used_shards() } else { self.shards };
        let (limit, parts) = (limit as u64, parts as u64);
        let own = self.queued(shard).fetch_add(1, Ordering::SeqCst) + 1;
        let admitted = match parts {
            1 => own <= limit,
            // While every shard stays within its part, the sum need not be read, which other processors write all the time.
            _ => (is_within_part(own, parts, limit) && !self.is_uneven()) || self.has_room(parts, limit),
        };
        if !admitted {
            self.leave_queue(shard);
        }
        admitted
    }

    // A shard may have more queued requests than its equal part of the limit.
    fn is_uneven(&self) -> bool {
        self.page().common(CommonCell::IsQueueUneven).load(Ordering::SeqCst) == 1
    }

    // The flag is set before the sum is read, so that a shard that adds from here on reads the sum as well.
    fn has_room(&self, parts: u64, limit: u64) -> bool {
        let page = self.page();
        let set_uneven = |value| page.common(CommonCell::IsQueueUneven).store(value, Ordering::SeqCst);
        let is_even = || page.all_shards(ShardCell::Queued).all(|queued| is_within_part(queued, parts, limit));
        set_uneven(1);
        let has_room = page.all_shards(ShardCell::Queued).sum::<u64>() <= limit;
        if is_even() {
            set_uneven(0);
            if !is_even() {
                set_uneven(1);
            }
        }
        has_room
    }

    // Of this process.
    fn queued_total(&self) -> usize {
        let queued = |shard| self.queued(shard).load(Ordering::SeqCst);
        usize::try_from((0..self.shards).map(queued).sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Counts one queued request of a shard less.
    pub(in crate::engine) fn leave_queue(&self, shard: usize) {
        self.queued(shard).fetch_sub(1, Ordering::SeqCst);
    }

    /// The place of an admitted request of `shard` that was taken out of its queue and counts until the guard is dropped.
    pub(in crate::engine) fn admission_guard(self: &Arc<Self>, shard: usize) -> AdmissionGuard {
        AdmissionGuard { capacity: Arc::clone(self), shard }
    }

    /// Permission for a call to read its body off the socket. Slow clients can hold a quarter of the threads by that, and never
    /// the only one.
    pub(in crate::engine) fn read_directly(&self) -> Option<QuotaGuard> {
        self.direct_reads.take(if self.threads > 1 { (self.threads / 4).max(1) } else { 0 })
    }

    /// Permission for a connection to be a WebSocket, where each shard accepts `connections`. A WebSocket that answers pings is
    /// never evicted: WebSockets can hold seven eighths of the connections by that, and never the last of several.
    pub(in crate::engine) fn open_websocket(self: &Arc<Self>, connections: usize) -> Option<WebSocketGuard> {
        let most = |all: usize| (all - all.div_ceil(8)).max(1) as u64;
        let own = self.slot.worker(WorkerCell::WebSockets).fetch_add(1, Ordering::SeqCst) + 1;
        // One too many is given back as it drops.
        let guard = WebSocketGuard(Arc::clone(self));
        let fits = own <= most(connections.saturating_mul(self.shards))
            && own + self.slot.sum_of_others(WorkerCell::WebSockets) <= most(self.max_connections);
        fits.then_some(guard)
    }

    /// Whether requests are queued and no permit is left for them.
    pub(in crate::engine) fn is_pressed(&self) -> bool {
        self.waiting() > 0
    }

    // Queued requests that wait for a permit.
    fn waiting(&self) -> usize {
        if self.has_permit() { 0 } else { self.queued_total() }
    }

    /// Whether [`Capacity::check_stall`] is due again soon.
    pub(in crate::engine) fn may_stall(&self) -> bool {
        self.stall.is_active()
    }

    /// Checks whether threads return from the application while requests wait for them.
    pub(in crate::engine) fn check_stall(&self, now: Instant) -> Option<StallNews> {
        self.stall.check(self.waiting(), now)
    }
}

fn is_within_part(queued: u64, parts: u64, limit: u64) -> bool {
    queued.saturating_mul(parts) <= limit
}

#[cfg(all(test, not(models)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn direct_reads_leave_most_threads_to_others() {
        for (threads, most) in [(1, 0), (2, 1), (7, 1), (16, 4)] {
            let capacity = Capacity::new(threads, 1);
            let guards: Vec<_> = std::iter::from_fn(|| capacity.read_directly()).collect();
            assert_eq!(guards.len(), most, "of {threads}");
        }
    }

    #[test]
    fn websockets_leave_an_eighth_of_the_connections_of_all_shards_to_others() {
        for (shards, connections, most) in
            [(1, 1, 1), (1, 2, 1), (1, 3, 2), (1, 8, 7), (1, 9, 7), (4, 1, 3), (4, 50, 175)]
        {
            let capacity = Arc::new(Capacity::new(shards, shards));
            let guards: Vec<_> = std::iter::from_fn(|| capacity.open_websocket(connections)).collect();
            assert_eq!(guards.len(), most, "of {shards} times {connections}");
        }
    }

    #[test]
    fn limit_holds_for_all_shards_together_in_any_distribution() {
        let capacity = Capacity::new(4, 4);
        assert!((0..10).all(|_| capacity.admit(1, 10)), "one shard may have all places");
        assert!((0..4).all(|shard| !capacity.admit(shard, 10)));
        for _ in 0..9 {
            capacity.leave_queue(1);
        }
        assert!((0..9).all(|number| capacity.admit(number % 4, 10)));
        assert!((0..4).all(|shard| !capacity.admit(shard, 10)));
        assert_eq!(capacity.queued_total(), 10);
        assert!(!Capacity::new(1, 1).admit(0, 0));
    }

    // The capacities of as many workers, each with one thread, which may have eight connections together.
    #[expect(clippy::expect_used, reason = "a page of as many slots has a free one for each")]
    fn workers<const N: usize>() -> [Arc<Capacity>; N] {
        let page = Arc::new(CounterPage::private(N, 1));
        [(); N].map(|()| {
            let slot = page.take_slot(1).and_then(|slot| PageSlot::new(Arc::clone(&page), slot)).expect("one is free");
            Arc::new(Capacity::on(slot, Some(1), 1, 8))
        })
    }

    #[test]
    fn limit_of_the_queue_holds_for_all_workers_together_and_a_killed_one_gives_its_places_back() {
        let [one, two, three] = workers();
        assert!((0..7).all(|_| one.admit(0, 10)), "one worker may have most places");
        assert!((0..3).all(|_| two.admit(0, 10)));
        assert!([&one, &two, &three].iter().all(|worker| !worker.admit(0, 10)));
        assert_eq!((one.queued_total(), two.queued_total(), three.queued_total()), (7, 3, 0));
        one.slot().page().release_slot(one.slot().number());
        assert!((0..7).all(|_| three.admit(0, 10)) && !three.admit(0, 10) && !two.admit(0, 10));
        // Limits that are smaller than the number of workers.
        let [one, two] = workers();
        assert!(one.admit(0, 1) && !two.admit(0, 1) && !one.admit(0, 1));
        one.leave_queue(0);
        assert!(two.admit(0, 1) && !one.admit(0, 1));
    }

    #[test]
    fn worker_that_starts_beside_others_gets_no_place_that_they_have() {
        let page = Arc::new(CounterPage::private(3, 1));
        let start = || {
            let slot = page.take_slot(1).and_then(|slot| PageSlot::new(Arc::clone(&page), slot)).expect("one is free");
            Capacity::on(slot, Some(1), 1, 8)
        };
        let [one, two] = [start(), start()];
        assert!((0..6).all(|_| one.admit(0, 12) && two.admit(0, 12)), "each has its equal part");
        assert!(!start().admit(0, 12));
    }

    #[test]
    fn permits_of_workers_are_their_own() {
        let [one, two] = workers();
        assert!(one.acquire() && !one.acquire() && two.acquire());
        one.release();
        assert!(one.has_permit() && !two.has_permit());
        let running: Vec<_> =
            one.slot().page().workers().iter().map(|worker| (worker.threads, worker.running)).collect();
        assert_eq!(running, [(1, 0), (1, 1)]);
    }

    #[test]
    fn websockets_of_all_workers_leave_an_eighth_of_their_connections_to_others() {
        let [one, two] = workers();
        let mut held: Vec<_> = (0..4).map(|_| one.open_websocket(8).expect("one of seven")).collect();
        held.extend((0..3).map(|_| two.open_websocket(8).expect("one of seven")));
        assert!(one.open_websocket(8).is_none() && two.open_websocket(8).is_none());
        held.pop();
        assert!(one.open_websocket(8).is_some());
    }

    #[test]
    fn event_loop_runs_any_number_of_requests() {
        let slot = PageSlot::private(1);
        let capacity = Capacity::on(slot.clone(), None, 1, 1);
        slot.worker(WorkerCell::Running).store(1_000_000, Ordering::Relaxed);
        assert!(capacity.has_permit() && capacity.threads() == 1 && !capacity.is_pressed());
    }

    #[test]
    fn stall_needs_queued_requests_without_a_permit() {
        let (capacity, start) = (Capacity::new(1, 1), Instant::now());
        let check = |seconds| capacity.check_stall(start + Duration::from_secs(seconds));
        assert!(capacity.admit(0, 10));
        assert_eq!((check(0), capacity.may_stall(), capacity.is_pressed()), (None, false, false), "a permit is left");
        assert!(capacity.acquire());
        assert_eq!((check(1), capacity.may_stall(), capacity.is_pressed()), (None, true, true));
        assert_eq!(check(6), Some(StallNews::Begun { age: Duration::from_secs(5), waiting: 1 }));
        capacity.release();
        assert_eq!((check(7), capacity.may_stall()), (Some(StallNews::Over), false));
    }
}
