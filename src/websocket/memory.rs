//! Memory that clients' messages take until the application has them, bounded over all sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The bound, and how much of it is in use.
#[derive(Debug)]
pub struct MessageMemory {
    limit: usize,
    used: AtomicUsize,
}

impl MessageMemory {
    /// Room for `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether no session may read on.
    pub fn is_full(&self) -> bool {
        self.used() >= self.limit
    }

    /// Whether enough is free again to stop evicting: an eighth, so that not every further byte evicts a session.
    pub fn has_room(&self) -> bool {
        self.used() <= self.limit - self.limit.div_ceil(8)
    }
}

/// What one session takes of it, given back on drop.
#[derive(Debug)]
pub struct MessageReservation {
    memory: Arc<MessageMemory>,
    bytes: usize,
    // Since when it takes anything, or when the application last took a message.
    since: Option<Instant>,
}

impl MessageReservation {
    /// A reservation of nothing yet.
    pub fn new(memory: &Arc<MessageMemory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0, since: None }
    }

    /// Whether no session may read on.
    pub fn is_memory_full(&self) -> bool {
        self.memory.is_full()
    }

    /// The session takes `bytes` now.
    pub fn resize(&mut self, bytes: usize, now: Instant) {
        if bytes >= self.bytes {
            self.memory.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.memory.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        self.since = if bytes == 0 { None } else { Some(self.since.unwrap_or(now)) };
    }

    /// The application has taken a message.
    pub fn on_message_taken(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    /// Bytes times milliseconds: the session with the most is evicted first when memory is full.
    pub fn eviction_weight(&self, now: Instant) -> u128 {
        let age = self.since.map_or(0, |since| now.saturating_duration_since(since).as_millis());
        self.bytes as u128 * (age + 1)
    }
}

impl Drop for MessageReservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reserved_bytes_count_until_they_are_given_back() {
        let (memory, now) = (MessageMemory::new(80), Instant::now());
        let (mut one, mut other) = (MessageReservation::new(&memory), MessageReservation::new(&memory));
        one.resize(60, now);
        other.resize(19, now);
        assert!(!memory.is_full() && !memory.has_room());
        other.resize(20, now);
        assert!(one.is_memory_full());
        one.resize(50, now);
        assert!(!memory.is_full() && memory.has_room());
        drop((one, other));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn many_bytes_for_long_weigh_most() {
        let (memory, start) = (MessageMemory::new(1), Instant::now());
        let mut reservations = [1, 1000, 2000, 1000, 0].map(|_| MessageReservation::new(&memory));
        for (reservation, bytes) in reservations.iter_mut().zip([1, 1000, 2000, 1000, 0]) {
            reservation.resize(bytes, start);
        }
        let now = start + Duration::from_secs(10);
        // The application has just taken a message of the second; the third was empty until now.
        reservations[1].on_message_taken(now);
        reservations[2].resize(0, now);
        reservations[2].resize(2000, now);
        let weights = reservations.each_ref().map(|reservation| reservation.eviction_weight(now));
        assert_eq!(weights, [10_001, 1000, 2000, 10_001_000, 0]);
    }
}
