//! How many requests run and wait, out of how many that may: permits for the application, and places in the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::engine::scheduling::quota::{Quota, QuotaGuard};
use crate::engine::scheduling::stall::{StallNews, StallWatch};
use crate::engine::sync::{AtomicBool, AtomicUsize, CacheLine};

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

/// The capacity of a run, shared by its shards.
pub struct Capacity {
    threads: usize,
    // Requests that may still begin before `threads` run.
    permits: AtomicUsize,
    // Queued requests by the shard they came from.
    queued: Vec<CacheLine<AtomicUsize>>,
    // A shard has more of them than its equal part of the limit.
    is_uneven: AtomicBool,
    // Calls that read their bodies off the socket, although bodies are read before the call.
    direct_reads: Arc<Quota>,
    // Connections that are WebSockets.
    websockets: Arc<Quota>,
    stall: StallWatch,
}

impl Capacity {
    /// The capacity of `shards` shards that run at most `threads` requests at the same time.
    pub fn new(threads: usize, shards: usize) -> Self {
        Self {
            threads,
            permits: AtomicUsize::new(threads),
            queued: (0..shards).map(|_| CacheLine(AtomicUsize::new(0))).collect(),
            is_uneven: AtomicBool::new(false),
            direct_reads: Quota::new(),
            websockets: Quota::new(),
            stall: StallWatch::default(),
        }
    }

    /// How many requests may run at the same time.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How many shards share it.
    pub fn shards(&self) -> usize {
        self.queued.len()
    }

    /// Takes a permit to run a request. `false`: none is left.
    pub(in crate::engine) fn acquire(&self) -> bool {
        let mut permits = self.permits.load(Ordering::SeqCst);
        while permits > 0 {
            match self.permits.compare_exchange(permits, permits - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(changed) => permits = changed,
            }
        }
        false
    }

    /// Gives a permit back. Called by the worker pool, which wakes a worker for it.
    pub(in crate::engine) fn release(&self) {
        self.stall.note_release();
        self.permits.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a permit is left.
    pub(in crate::engine) fn has_permit(&self) -> bool {
        self.permits.load(Ordering::SeqCst) > 0
    }

    /// Whether any request runs.
    pub(in crate::engine) fn is_any_running(&self) -> bool {
        self.permits.load(Ordering::Relaxed) < self.threads
    }

    /// Counts one more queued request of a shard. `false`: `limit` are queued already, from all shards together.
    pub(in crate::engine) fn admit(&self, shard: usize, limit: usize) -> bool {
        let Some(CacheLine(queued)) = self.queued.get(shard) else { return false };
        let own = queued.fetch_add(1, Ordering::SeqCst) + 1;
        let admitted = match self.shards() {
            1 => own <= limit,
            // While every shard stays within its part, the sum need not be read, which other processors write all the time.
            _ => (self.is_within_part(own, limit) && !self.is_uneven.load(Ordering::SeqCst)) || self.has_room(limit),
        };
        if !admitted {
            self.leave_queue(shard);
        }
        admitted
    }

    fn is_within_part(&self, queued: usize, limit: usize) -> bool {
        queued.saturating_mul(self.shards()) <= limit
    }

    // The flag is set before the sum is read, so that a shard that adds from here on reads the sum as well.
    fn has_room(&self, limit: usize) -> bool {
        self.is_uneven.store(true, Ordering::SeqCst);
        let has_room = self.queued_total() <= limit;
        if self.is_even(limit) {
            self.is_uneven.store(false, Ordering::SeqCst);
            if !self.is_even(limit) {
                self.is_uneven.store(true, Ordering::SeqCst);
            }
        }
        has_room
    }

    fn is_even(&self, limit: usize) -> bool {
        self.queued.iter().all(|CacheLine(queued)| self.is_within_part(queued.load(Ordering::SeqCst), limit))
    }

    fn queued_total(&self) -> usize {
        self.queued.iter().map(|CacheLine(queued)| queued.load(Ordering::SeqCst)).sum()
    }

    /// Counts one queued request of a shard less.
    pub(in crate::engine) fn leave_queue(&self, shard: usize) {
        if let Some(CacheLine(queued)) = self.queued.get(shard) {
            queued.fetch_sub(1, Ordering::SeqCst);
        }
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
    pub(in crate::engine) fn open_websocket(&self, connections: usize) -> Option<QuotaGuard> {
        let all = connections.saturating_mul(self.shards());
        self.websockets.take((all - all.div_ceil(8)).max(1))
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
            let capacity = Capacity::new(shards, shards);
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
