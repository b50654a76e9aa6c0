//! The deadlines of a shard's connections, in one queue. An entry has half the size that an instant and a place would.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Room that is there from the beginning and kept: growing would leave its former places to the allocator, and what was
/// never used takes no memory.
const MANY: usize = 16 * 1024;

/// A moment in whole milliseconds of the queue's own count.
pub(in crate::engine) type Tick = NonZeroU64;

/// When which place is to be looked at.
pub(in crate::engine) struct Timers {
    origin: Instant,
    entries: BinaryHeap<Reverse<(Tick, u32)>>,
}

impl Timers {
    /// An empty queue.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, entries: BinaryHeap::with_capacity(MANY) }
    }

    // Rounded up, so that no deadline comes early. The count begins at 1.
    fn tick(&self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(self.origin);
        let millis = since.as_millis() + u128::from(since.subsec_nanos() % 1_000_000 != 0);
        Tick::MIN.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// Sees to it that a place is looked at when `deadline` comes. `scheduled` is the place's entry: an earlier one is as
    /// good, because whoever looks finds the deadline moved. So a busy connection costs the queue nothing.
    pub fn schedule(&mut self, place: u32, deadline: Instant, scheduled: &mut Option<Tick>) {
        let tick = self.tick(deadline);
        if scheduled.is_none_or(|standing| standing > tick) {
            *scheduled = Some(tick);
            self.entries.push(Reverse((tick, place)));
        }
    }

    /// When the next entry comes.
    pub fn next(&self) -> Option<Instant> {
        let Reverse((tick, _)) = self.entries.peek()?;
        self.origin.checked_add(Duration::from_millis(tick.get() - 1))
    }

    /// Takes an entry whose time has come. It stands only if it is still its place's.
    pub fn pop(&mut self, now: Instant) -> Option<(Tick, u32)> {
        if self.next().is_none_or(|next| next > now) {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// Gives memory back when a flood of short connections has left, and with it its deadlines.
    pub fn shrink(&mut self) {
        if self.entries.capacity() > MANY && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(MANY.max(self.entries.len() * 2));
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries = BinaryHeap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn entry_comes_at_its_millisecond_and_never_early() {
        let start = Instant::now();
        for (delay, due) in [(Duration::ZERO, 0), (MS / 2, 1), (MS, 1), (MS * 3 / 2, 2), (MS * 1000, 1000)] {
            let mut timers = Timers::new(start);
            timers.schedule(7, start + delay, &mut None);
            assert_eq!(timers.next(), Some(start + MS * due), "{delay:?}");
            if due > 0 {
                assert_eq!(timers.pop(start + MS * (due - 1)), None, "{delay:?}");
            }
            assert_eq!(timers.pop(start + MS * due).map(|(_, place)| place), Some(7), "{delay:?}");
        }
    }

    #[test]
    fn place_has_one_entry_unless_its_deadline_moves_nearer() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let mut scheduled = None;
        for seconds in [10, 20, 30] {
            timers.schedule(1, start + MS * 1000 * seconds, &mut scheduled);
        }
        assert_eq!(timers.entries.len(), 1);
        timers.schedule(1, start + MS, &mut scheduled);
        assert_eq!((timers.entries.len(), timers.next()), (2, Some(start + MS)));
        assert_eq!(timers.pop(start + MS), scheduled.map(|tick| (tick, 1)));
    }

    #[test]
    fn entries_come_in_order_and_those_without_end_never_do() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let century = start + Duration::from_secs(100 * 365 * 24 * 3600);
        for (place, at) in [(0, century), (1, start + MS * 2), (2, start + MS)] {
            timers.schedule(place, at, &mut None);
        }
        let now = start + MS * 1_000_000;
        assert_eq!([timers.pop(now), timers.pop(now)].map(|entry| entry.map(|(_, place)| place)), [Some(2), Some(1)]);
        assert_eq!(timers.pop(now), None);
    }

    #[test]
    fn memory_of_a_flood_is_given_back() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        for place in 0..100_000 {
            timers.schedule(place, start, &mut None);
        }
        while timers.pop(start).is_some() {}
        timers.shrink();
        assert!(timers.entries.capacity() <= MANY);
    }
}
