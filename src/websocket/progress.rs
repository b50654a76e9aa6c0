//! Whether a client makes progress with a message that it has begun.

use std::time::{Duration, Instant};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Measures a client against a longest silence and a minimum rate. Each byte earns time at that rate, up to `allowance` ahead of
/// now, so that a fast start does not pay for a slow end.
#[derive(Clone, Copy, Debug)]
pub struct ProgressTimer {
    allowance: Duration,
    min_bytes_per_second: u64,
    // Absent while nothing is awaited.
    deadline: Option<Instant>,
}

impl ProgressTimer {
    /// A timer that is not running. It allows `allowance` without a byte, and asks for `min_bytes_per_second` bytes a second; 0 asks for none.
    pub fn new(allowance: Duration, min_bytes_per_second: u64) -> Self {
        Self { allowance, min_bytes_per_second, deadline: None }
    }

    /// `bytes` of what is awaited have come; starts the timer if it is not running.
    pub fn on_bytes(&mut self, bytes: usize, now: Instant) {
        let latest = now + self.allowance;
        let earned = |deadline: Instant| {
            let nanos = (bytes as u64).saturating_mul(NANOS_PER_SECOND).checked_div(self.min_bytes_per_second)?;
            deadline.checked_add(Duration::from_nanos(nanos))
        };
        self.deadline = Some(match self.deadline {
            Some(deadline) if bytes == 0 => deadline,
            Some(deadline) => earned(deadline).map_or(latest, |deadline| deadline.min(latest)),
            None => latest,
        });
    }

    /// Nothing is awaited of the client.
    pub fn stop(&mut self) {
        self.deadline = None;
    }

    /// When the allowance is used up.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Since when the client is slow: silent, or below the rate.
    pub fn slow_since(&self) -> Option<Instant> {
        self.deadline.and_then(|deadline| deadline.checked_sub(self.allowance))
    }

    /// Whether the allowance is used up.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_expires_and_bytes_defer_the_deadline() {
        let start = Instant::now();
        let mut timer = ProgressTimer::new(30 * SECOND, 0);
        assert!(!timer.is_expired(start + 1000 * SECOND));
        timer.on_bytes(1, start);
        assert_eq!(timer.slow_since(), Some(start));
        timer.on_bytes(1, start + 29 * SECOND);
        timer.on_bytes(0, start + 40 * SECOND);
        assert_eq!(timer.deadline(), Some(start + 59 * SECOND));
        assert_eq!(timer.slow_since(), Some(start + 29 * SECOND));
        assert!(timer.is_expired(start + 59 * SECOND));
        timer.stop();
        assert_eq!((timer.deadline(), timer.slow_since()), (None, None));
    }

    #[test]
    fn trickle_expires_however_fast_the_start_was() {
        let start = Instant::now();
        let mut timer = ProgressTimer::new(30 * SECOND, 500);
        timer.on_bytes(100_000_000, start);
        timer.on_bytes(100_000_000, start);
        let end = (1..100).find(|&second| {
            let now = start + second * SECOND;
            let is_expired = timer.is_expired(now);
            timer.on_bytes(50, now);
            is_expired
        });
        assert_eq!(end, Some(34));
        let mut timer = ProgressTimer::new(30 * SECOND, 500);
        for second in 0..1000 {
            assert!(!timer.is_expired(start + second * SECOND));
            timer.on_bytes(500, start + second * SECOND);
        }
    }
}
