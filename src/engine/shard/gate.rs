//! Even load over worker processes. All workers are told of a client that waits; a worker leaves it alone while another one should
//! take it. Nothing here wakes another process: each decides for itself, by what all publish on the page.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::engine::page::{Heartbeat, ShardCell, WorkerLoad, monotonic_ms};
use crate::engine::scheduling::capacity::Capacity;

/// A worker whose poller was last served longer ago than this, and does not wait in it, is stopped or stuck.
const STUCK_AFTER_MS: u64 = 500;
/// A worker all of whose threads have been inside the application for longer than this cannot serve a client at once. Quick requests
/// take all threads for moments only.
const BUSY_AFTER_MS: u64 = 5;
/// How long a client is left to another worker that does not take it.
const DEFERRAL_MAX: Duration = Duration::from_millis(20);
/// The same by a worker that cannot serve the client itself: there it would wait longer.
const DEFERRAL_MAX_BUSY: Duration = Duration::from_millis(STUCK_AFTER_MS);
/// How soon a worker that has left a client to another looks for it again: at first, and at most.
const RETRY_INTERVAL: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];

/// What one connection weighs in the order of workers, where one turn weighs 1.
const CONNECTION_WEIGHT: u64 = 64;
/// How many turns a worker can be behind, at most.
const TURNS_BEHIND_MAX: u64 = 32;
/// What is even: a difference of so many turns, and of a tenth of the connections. A smaller one is not worth a wait.
const EVEN_TURNS: u64 = 4;

/// Whether a worker with the load `own` leaves a client to one of `others`, which are other workers.
fn defers(own: &WorkerLoad, others: &[WorkerLoad], now_ms: u64) -> bool {
    let last_turn = last_turn(own, others);
    others.iter().any(|other| comes_before(other, own, last_turn, now_ms))
}

fn last_turn(own: &WorkerLoad, others: &[WorkerLoad]) -> u64 {
    others.iter().map(|other| other.turn).fold(own.turn, u64::max)
}

// One key alone decides between two workers that can serve, and the tolerance is that of the one with fewer: the least loaded worker
// leaves no client to others.
fn comes_before(other: &WorkerLoad, own: &WorkerLoad, last_turn: u64, now_ms: u64) -> bool {
    if !other.is_accepting || is_stuck(other, now_ms) {
        return false;
    }
    match (is_busy(other, now_ms), is_busy(own, now_ms)) {
        (false, true) => true,
        (true, false) => false,
        _ => {
            let tolerance = EVEN_TURNS + other.connections / 10 * CONNECTION_WEIGHT;
            weight(other, last_turn) + tolerance < weight(own, last_turn)
        }
    }
}

fn weight(load: &WorkerLoad, last_turn: u64) -> u64 {
    let behind = last_turn.saturating_sub(load.turn).min(TURNS_BEHIND_MAX);
    load.connections * CONNECTION_WEIGHT + TURNS_BEHIND_MAX - behind
}

// An idle worker waits in its poller with an old heartbeat.
fn is_stuck(load: &WorkerLoad, now_ms: u64) -> bool {
    !load.heartbeat.is_waiting() && now_ms.saturating_sub(load.heartbeat.at_ms()) > STUCK_AFTER_MS
}

// Threads that are taken while the poller waits are noted by the poller when it is served next.
fn is_busy(load: &WorkerLoad, now_ms: u64) -> bool {
    let since_ms = if load.busy_since_ms > 0 { load.busy_since_ms } else { load.heartbeat.at_ms() };
    load.is_saturated && now_ms.saturating_sub(since_ms) > BUSY_AFTER_MS
}

// Since when a client is left to others.
struct Deferral {
    since: Instant,
    // What all others had accepted then: while they accept, they are waited for.
    accepted: u64,
    retry_at: Instant,
    interval: Duration,
}

/// One shard's view of the load of all workers, and its own entry.
pub(in crate::engine) struct Gate {
    capacity: Arc<Capacity>,
    shard: usize,
    // The same moment by both clocks.
    epoch: (Instant, u64),
    is_accepting: bool,
    connections: usize,
    beat_ms: u64,
    busy_since_ms: u64,
    deferral: Option<Deferral>,
    // Workers that did not take a client that was left to them, by slot, with their last heartbeat. One whose heartbeat has changed
    // counts again.
    ignored: Vec<(usize, Heartbeat)>,
    // What was read last.
    others: Vec<WorkerLoad>,
}

impl Gate {
    /// The gate of a shard, whose counters are on the page of `capacity`.
    pub fn new(capacity: Arc<Capacity>, shard: usize, now: Instant) -> Self {
        Self {
            capacity,
            shard,
            epoch: (now, monotonic_ms()),
            is_accepting: false,
            connections: 0,
            beat_ms: 0,
            busy_since_ms: 0,
            deferral: None,
            ignored: Vec::new(),
            others: Vec::new(),
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        let (instant, ms) = self.epoch;
        let since = now.saturating_duration_since(instant);
        ms + since.as_secs() * 1000 + u64::from(since.subsec_millis())
    }

    fn store(&self, cell: ShardCell, value: u64) {
        self.capacity.slot().shard(self.shard, cell).store(value, Ordering::Relaxed);
    }

    /// Publishes that a thread is about to wait in the poller.
    pub fn wait(&self) {
        self.store(ShardCell::Heartbeat, Heartbeat::new(self.beat_ms, true).bits());
    }

    /// Publishes that a thread serves the poller at `now`.
    pub fn beat(&mut self, now: Instant) {
        let now_ms = self.ms(now);
        self.store(ShardCell::Heartbeat, Heartbeat::new(now_ms, false).bits());
        let busy_since_ms = match (self.capacity.has_permit(), self.busy_since_ms) {
            (true, _) => 0,
            // They may have been taken any time since the last beat.
            (false, 0) => self.beat_ms,
            (false, since) => since,
        };
        self.beat_ms = now_ms;
        if busy_since_ms != self.busy_since_ms {
            self.busy_since_ms = busy_since_ms;
            self.store(ShardCell::BusySince, busy_since_ms);
        }
    }

    /// Publishes how many connections the shard has.
    pub fn set_connections(&mut self, connections: usize) {
        if connections != self.connections {
            self.connections = connections;
            self.store(ShardCell::Connections, connections as u64);
        }
    }

    /// Publishes whether the shard accepts connections.
    pub fn set_accepting(&mut self, is_accepting: bool) {
        if is_accepting != self.is_accepting {
            self.is_accepting = is_accepting;
            self.store(ShardCell::IsAccepting, u64::from(is_accepting));
        }
    }

    /// Connections of all workers together, of which `connections` are this shard's.
    pub fn total(&self, connections: usize) -> u64 {
        connections as u64 + self.capacity.slot().sum_of_other_shards(self.shard, ShardCell::Connections)
    }

    /// Whether all workers together have as many connections as they may.
    pub fn is_full(&self, connections: usize) -> bool {
        self.total(connections) >= self.capacity.max_connections() as u64
    }

    /// Takes one of the places of all workers' connections. `false`: all are taken, or another worker took the last one at the same
    /// moment. [`Gate::set_connections`] gives it back.
    pub fn take_place(&mut self, connections: usize) -> bool {
        // In this order, so that of two workers that want the last place at most one gets it.
        self.connections = connections + 1;
        let cell = self.capacity.slot().shard(self.shard, ShardCell::Connections);
        cell.store(self.connections as u64, Ordering::SeqCst);
        let has_place = self.total(self.connections) <= self.capacity.max_connections() as u64;
        if !has_place {
            self.set_connections(connections);
        }
        has_place
    }

    /// Whether there are other workers.
    pub fn has_others(&self) -> bool {
        self.capacity.slot().page().used_slots() > 1
    }

    /// Counts a client that was accepted.
    pub fn count_accepted(&mut self) {
        self.add(ShardCell::Accepted, 1);
        if self.has_others() {
            let (own, _) = self.read_loads();
            let behind = last_turn(&own, &self.others) - own.turn;
            self.add(ShardCell::Turn, behind.saturating_sub(TURNS_BEHIND_MAX).max(1));
        }
    }

    // One thread at a time writes the cells of a shard.
    fn add(&self, cell: ShardCell, more: u64) {
        let cell = self.capacity.slot().shard(self.shard, cell);
        cell.store(cell.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// Whether this worker takes a client that waits now. If not, [`Gate::retry_at`] says when it looks again.
    pub fn is_open(&mut self, now: Instant) -> bool {
        if !self.has_others() {
            self.deferral = None;
            return true;
        }
        let now_ms = self.ms(now);
        let (own, accepted) = self.read_loads();
        let ignored = &mut self.ignored;
        ignored.retain(|(slot, beat)| self.others.iter().any(|load| (load.slot, load.heartbeat) == (*slot, *beat)));
        self.others.retain(|load| ignored.iter().all(|(slot, _)| *slot != load.slot));
        if !defers(&own, &self.others, now_ms) {
            self.deferral = None;
            return true;
        }
        let [interval, _] = RETRY_INTERVAL;
        let fresh = Deferral { since: now, accepted, retry_at: now + interval, interval };
        let deferral = self.deferral.get_or_insert(fresh);
        if deferral.accepted != accepted {
            (deferral.since, deferral.accepted) = (now, accepted);
        }
        let since = deferral.since;
        let longest = if is_busy(&own, now_ms) { DEFERRAL_MAX_BUSY } else { DEFERRAL_MAX };
        if now.saturating_duration_since(since) < longest {
            return false;
        }
        let (since_ms, last_turn) = (self.ms(since), last_turn(&own, &self.others));
        let is_stopped =
            |load: &&WorkerLoad| comes_before(load, &own, last_turn, now_ms) && load.heartbeat.at_ms() <= since_ms;
        self.ignored.extend(self.others.iter().filter(is_stopped).map(|load| (load.slot, load.heartbeat)));
        self.deferral = None;
        true
    }

    // Reads the loads of the other workers. Gives that of this one, and how many clients the others have accepted.
    fn read_loads(&mut self) -> (WorkerLoad, u64) {
        let slot = self.capacity.slot();
        self.others.clear();
        self.others.extend(slot.others().map(|other| slot.page().load(other)));
        (slot.page().load(slot.number()), self.others.iter().map(|load| load.accepted).sum())
    }

    /// When a client that was left to another worker is looked for again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.deferral.as_ref().map(|deferral| deferral.retry_at)
    }

    /// Whether it is time to look whether a client still waits; the next time is later.
    pub fn take_retry(&mut self, now: Instant) -> bool {
        let Some(deferral) = self.deferral.as_mut().filter(|deferral| deferral.retry_at <= now) else { return false };
        let [_, longest] = RETRY_INTERVAL;
        deferral.interval = (deferral.interval * 2).min(longest);
        deferral.retry_at = now + deferral.interval;
        true
    }

    /// No client waits any more.
    pub fn end_deferral(&mut self) {
        self.deferral = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::page::{CounterPage, PageSlot};

    const NOW_MS: u64 = 100_000;

    fn load(connections: u64) -> WorkerLoad {
        let heartbeat = Heartbeat::new(NOW_MS, false);
        WorkerLoad { is_accepting: true, connections, heartbeat, ..WorkerLoad::default() }
    }

    fn busy(connections: u64, for_ms: u64) -> WorkerLoad {
        WorkerLoad { is_saturated: true, busy_since_ms: NOW_MS - for_ms, ..load(connections) }
    }

    fn turn(connections: u64, turn: u64) -> WorkerLoad {
        WorkerLoad { turn, ..load(connections) }
    }

    fn beaten(connections: u64, at_ms: u64, is_waiting: bool) -> WorkerLoad {
        WorkerLoad { heartbeat: Heartbeat::new(at_ms, is_waiting), ..load(connections) }
    }

    #[test]
    fn worker_leaves_a_client_to_one_that_should_take_it_and_to_no_other() {
        let not_accepting = WorkerLoad { is_accepting: false, ..load(0) };
        // Threads that were taken a moment ago, and a note of it that is not true any more.
        let [briefly, no_more] = [busy(0, 5), WorkerLoad { is_saturated: false, ..busy(0, 50) }];
        for (own, other, is_left) in [
            (load(5), load(4), true),
            (load(5), load(5), false),
            (load(5), load(6), false),
            // A tenth more is even.
            (load(10), load(9), true),
            (load(11), load(10), false),
            (load(12), load(10), true),
            (load(110), load(100), false),
            (load(112), load(100), true),
            // So are a few turns.
            (turn(2, 104), turn(2, 100), false),
            (turn(2, 105), turn(2, 100), true),
            (turn(2, 100), turn(2, 105), false),
            (turn(2, 105), turn(3, 0), false),
            (turn(3, 0), turn(2, 1000), true),
            (load(5), not_accepting, false),
            (load(5), briefly, true),
            (load(5), no_more, true),
            // Whether a worker can serve comes before the number of connections.
            (load(5), busy(0, 6), false),
            (busy(0, 6), load(5), true),
            // What its poller does not know yet.
            (load(5), WorkerLoad { is_saturated: true, ..beaten(0, NOW_MS - 6, true) }, false),
            (load(5), WorkerLoad { is_saturated: true, ..beaten(0, NOW_MS - 5, true) }, true),
            (busy(5, 6), busy(4, 6), true),
            (busy(4, 6), busy(5, 6), false),
            // An old heartbeat is that of a stopped worker, unless it waits for the kernel.
            (load(5), beaten(0, NOW_MS - 500, false), true),
            (load(5), beaten(0, NOW_MS - 501, false), false),
            (load(5), beaten(0, 1, true), true),
            // Its clock was read a moment later.
            (load(5), beaten(0, NOW_MS + 1, false), true),
        ] {
            assert_eq!(defers(&own, &[other], NOW_MS), is_left, "{own:?} {other:?}");
            let three = [busy(1000, 6), other, not_accepting];
            assert_eq!(defers(&own, &three, NOW_MS), is_left, "{own:?} {other:?}");
        }
        assert!(!defers(&load(1000), &[], NOW_MS));
    }

    #[test]
    fn clients_that_stay_are_spread_within_a_fifth_whatever_the_order_of_the_workers() {
        for workers in [2, 3, 4, 8] {
            let mut held = vec![0_u64; workers];
            for client in 0..400 {
                // The worker that is awake first takes it, unless it leaves it to another.
                let first = (0..workers).map(|step| (step * 7 + client * 5) % workers).find(|own| {
                    let others = held.iter().enumerate().filter(|(other, _)| other != own).map(|(_, held)| load(*held));
                    !defers(&load(held[*own]), &others.collect::<Vec<_>>(), NOW_MS)
                });
                held[first.expect("the least loaded worker leaves no client to others")] += 1;
                let (most, least) = (held.iter().max().unwrap(), held.iter().min().unwrap());
                let mean = held.iter().sum::<u64>() / workers as u64;
                assert!(most - least <= (mean / 5).max(1), "{held:?}");
            }
        }
    }

    #[test]
    fn client_is_taken_by_one_of_the_workers_in_every_state() {
        // All states of three workers over a few values: never does each of them leave the client to another.
        let kinds = || {
            let accepting =
                |connections| [load(connections), busy(connections, 6), turn(connections, 9), turn(connections, 99)];
            [0, 1, 10, 11, 12].into_iter().flat_map(accepting)
        };
        for one in kinds() {
            for two in kinds() {
                for three in kinds() {
                    let all = [one, two, three];
                    let taken = (0..3).any(|own| {
                        let others: Vec<_> = (0..3).filter(|other| *other != own).map(|other| all[other]).collect();
                        !defers(&all[own], &others, NOW_MS)
                    });
                    assert!(taken, "{all:?}");
                }
            }
        }
    }

    #[test]
    fn clients_that_leave_at_once_are_spread_evenly_and_a_newcomer_gets_no_more_than_others() {
        let mut turns = [1_000_000, 1_000_003, 0];
        let before = turns;
        for _ in 0..600 {
            // The first worker is always awake first.
            let first = (0..3).find(|own| {
                let others: Vec<_> = (0..3).filter(|other| other != own).map(|other| turn(0, turns[other])).collect();
                !defers(&turn(0, turns[*own]), &others, NOW_MS)
            });
            let first = first.expect("one of them takes it");
            let last = turns.into_iter().max().unwrap();
            turns[first] = (turns[first] + 1).max(last.saturating_sub(TURNS_BEHIND_MAX));
        }
        let [one, two, newcomer] = [0, 1, 2].map(|worker| turns[worker] - before[worker]);
        assert!((185..=215).contains(&one) && (185..=215).contains(&two), "{one} {two}");
        assert!(turns[2] + 36 > turns[0] && newcomer > 1_000_000, "{turns:?}");
    }

    // The gates of two workers, of which the first has one connection more.
    fn gates(now: Instant) -> [Gate; 2] {
        let page = Arc::new(CounterPage::private(3, 1));
        [1, 0].map(|connections| {
            let slot = PageSlot::new(Arc::clone(&page), page.take_slot(1).unwrap()).unwrap();
            let mut gate = Gate::new(Arc::new(Capacity::on(slot, Some(1), 1, 3)), 0, now);
            gate.beat(now);
            gate.wait();
            gate.set_accepting(true);
            gate.set_connections(connections);
            gate
        })
    }

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn client_that_a_stopped_worker_does_not_take_is_left_for_a_moment_and_only_once() {
        let start = Instant::now();
        let [mut more, mut fewer] = gates(start);
        assert!(fewer.is_open(start) && fewer.retry_at().is_none());
        let mut retries = Vec::new();
        let mut now = start;
        while !more.is_open(now) {
            let at = more.retry_at().unwrap();
            assert!(!more.take_retry(at.checked_sub(ms(1)).unwrap()) && more.take_retry(at));
            retries.push(at.duration_since(start).as_millis());
            now = at;
        }
        assert_eq!(retries, [1, 3, 7, 12, 17, 22]);
        // From now on it is ignored, until its poller is served again.
        assert!(more.is_open(now) && more.is_open(now + ms(1000)));
        fewer.beat(now + ms(1001));
        assert!(!more.is_open(now + ms(1001)));
    }

    #[test]
    fn worker_that_cannot_serve_a_client_leaves_it_to_others_for_longer() {
        let start = Instant::now();
        let [mut busy, _fewer] = gates(start);
        assert!(busy.capacity.acquire());
        busy.beat(start);
        assert!(!busy.is_open(start + ms(6)) && !busy.is_open(start + ms(505)));
        assert!(busy.is_open(start + ms(506)));
    }

    #[test]
    fn workers_that_go_on_accepting_are_waited_for() {
        let start = Instant::now();
        let [mut more, mut fewer] = gates(start);
        for step in 0..100 {
            fewer.count_accepted();
            assert!(!more.is_open(start + ms(15 * step)), "step {step}");
        }
        // One that works and takes no client keeps none waiting, either.
        assert!(more.is_open(start + ms(99 * 15 + 20)));
    }

    #[test]
    fn worker_that_is_ignored_counts_again_in_a_slot_that_was_released() {
        let start = Instant::now();
        let [mut more, fewer] = gates(start);
        assert!(!more.is_open(start) && more.is_open(start + ms(20)) && more.is_open(start + ms(21)));
        let slot = fewer.capacity.slot();
        slot.page().release_slot(slot.number());
        assert!(more.is_open(start + ms(22)));
        assert_eq!(slot.page().take_slot(2), Some(slot.number()));
        assert!(more.is_open(start + ms(23)), "it does not serve yet");
        let mut successor = Gate::new(Arc::clone(&fewer.capacity), 0, start + ms(24));
        successor.beat(start + ms(24));
        successor.set_accepting(true);
        assert!(!more.is_open(start + ms(24)));
    }

    #[test]
    fn worker_that_is_alone_leaves_nothing_to_others() {
        let start = Instant::now();
        let mut gate = Gate::new(Arc::new(Capacity::new(1, 2)), 0, start);
        gate.set_connections(1000);
        assert!(gate.is_open(start) && !gate.has_others());
    }

    #[test]
    fn places_of_all_workers_together_are_taken_and_given_back() {
        let [mut one, mut two] = gates(Instant::now());
        assert!(two.take_place(0) && two.take_place(1) && !two.take_place(2));
        assert!(two.is_full(2) && one.is_full(1) && !one.take_place(1));
        assert_eq!((one.total(1), two.total(2)), (3, 3));
        // The one that was taken for a client that did not come.
        two.set_connections(1);
        assert!(!one.is_full(1) && one.take_place(1) && one.is_full(2));
        one.capacity.slot().page().release_slot(one.capacity.slot().number());
        assert!(!two.is_full(1));
    }
}
