//! The deadlines of a shard's connections, in one heap. An entry takes half the memory of an instant with a token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Entries that the heap has memory for from the beginning, and keeps: growing would leave fragments to the allocator, and pages
/// that were never used take no memory.
const MIN_ENTRIES: usize = 16 * 1024;

/// An instant in whole milliseconds since shortly before the heap was made.
pub(in crate::engine) type Tick = NonZeroU64;

/// When the deadline of which place is to be checked.
pub(in crate::engine) struct Timers {
    origin: Instant,
    entries: BinaryHeap<Reverse<(Tick, u32)>>,
}

impl Timers {
    /// No entries.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, entries: BinaryHeap::with_capacity(MIN_ENTRIES) }
    }

    // Rounded up, so that no deadline comes early. The count begins at 1.
    fn tick(&self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(self.origin);
        let part = u64::from(since.subsec_nanos().div_ceil(1_000_000));
        Tick::MIN.saturating_add(since.as_secs().saturating_mul(1000).saturating_add(part))
    }

    /// Ensures that a place is checked when `deadline` comes. `scheduled` is the place's entry: an earlier one does as well,
    /// because the check finds that the deadline has moved. So a busy connection costs the heap nothing.
    pub fn schedule(&mut self, place: u32, deadline: Instant, scheduled: &mut Option<Tick>) {
        let tick = self.tick(deadline);
        if scheduled.is_none_or(|entry| entry > tick) {
            *scheduled = Some(tick);
            self.entries.push(Reverse((tick, place)));
        }
    }

    /// When the next entry is due.
    pub fn next(&self) -> Option<Instant> {
        let Reverse((tick, _)) = self.entries.peek()?;
        self.origin.checked_add(Duration::from_millis(tick.get() - 1))
    }

    /// Takes an entry that is due. It is valid only if it is still its place's.
    pub fn pop(&mut self, now: Instant) -> Option<(Tick, u32)> {
        if self.next().is_none_or(|next| next > now) {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// Gives memory back after a flood of short connections.
    pub fn shrink(&mut self) {
        if self.entries.capacity() > MIN_ENTRIES && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(MIN_ENTRIES.max(self.entries.len() * 2));
        }
    }

    /// Drops all entries.
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
        assert!(timers.entries.capacity() <= MIN_ENTRIES);
    }
}
