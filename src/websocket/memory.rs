//! Memory that clients' messages hold until the application takes them, counted over all conversations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// All of it.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    used: AtomicUsize,
}

impl Memory {
    /// Room for `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Whether nothing more is to be read.
    pub fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether so much is free that no more has to be: an eighth, so that a flood does not ask for each byte anew.
    pub fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.limit - self.limit.div_ceil(8)
    }
}

/// What one conversation holds of it, given back with this.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    bytes: usize,
    // Since when it holds something, or when the application last took something of it.
    since: Option<Instant>,
}

impl Share {
    /// Nothing yet.
    pub fn of(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0, since: None }
    }

    /// Whether nothing more is to be read.
    pub fn is_full(&self) -> bool {
        self.memory.is_full()
    }

    /// It holds so much now.
    pub fn hold(&mut self, bytes: usize, now: Instant) {
        if bytes >= self.bytes {
            self.memory.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.memory.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        self.since = if bytes == 0 { None } else { Some(self.since.unwrap_or(now)) };
    }

    /// The application has taken a message.
    pub fn progress(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    /// What it costs the others, in bytes times milliseconds: who holds much for long goes first where room has to be made.
    pub fn weight(&self, now: Instant) -> u128 {
        let age = self.since.map_or(0, |since| now.saturating_duration_since(since).as_millis());
        self.bytes as u128 * (age + 1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_given_back() {
        let (memory, now) = (Memory::new(80), Instant::now());
        let (mut one, mut other) = (Share::of(&memory), Share::of(&memory));
        one.hold(60, now);
        other.hold(19, now);
        assert!(!memory.is_full() && !memory.has_room());
        other.hold(20, now);
        assert!(one.is_full());
        one.hold(50, now);
        assert!(!memory.is_full() && memory.has_room());
        drop((one, other));
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn much_that_is_held_for_long_weighs_most() {
        let (memory, began) = (Memory::new(1), Instant::now());
        let mut shares = [1, 1000, 2000, 1000, 0].map(|_| Share::of(&memory));
        for (share, bytes) in shares.iter_mut().zip([1, 1000, 2000, 1000, 0]) {
            share.hold(bytes, began);
        }
        let now = began + Duration::from_secs(10);
        // The application takes from these; and one holds what has just come.
        shares[1].progress(now);
        shares[2].hold(0, now);
        shares[2].hold(2000, now);
        let weights = shares.each_ref().map(|share| share.weight(now));
        assert_eq!(weights, [10_001, 1000, 2000, 10_001_000, 0]);
    }
}
