//! How long a client may take over a message that it has begun.

use std::time::{Duration, Instant};

/// The time by which more of a message must come.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    silence: Duration,
    // Bytes a second on the whole; zero asks for none.
    rate: u64,
    // Nothing without a message that is awaited.
    at: Option<Instant>,
}

impl Deadline {
    /// A deadline that allows for so much `silence` and asks for `rate` bytes a second, zero for any.
    pub fn new(silence: Duration, rate: u64) -> Self {
        Self { silence, rate, at: None }
    }

    /// `bytes` of the message have come. They earn time at the minimum rate, of which no more than one silence is kept.
    pub fn hear(&mut self, bytes: usize, now: Instant) {
        let latest = now + self.silence;
        let earned = |at: Instant| {
            let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000).checked_div(self.rate)?;
            at.checked_add(Duration::from_nanos(nanoseconds))
        };
        self.at = Some(match self.at {
            Some(at) if bytes == 0 => at,
            Some(at) => earned(at).map_or(latest, |at| at.min(latest)),
            None => latest,
        });
    }

    /// No message is awaited, or the client is not what it waits for.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// When the client has had its time.
    pub fn due(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it has.
    pub fn is_over(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_ends_it_and_bytes_put_it_off() {
        let began = Instant::now();
        let mut deadline = Deadline::new(30 * SECOND, 0);
        assert!(!deadline.is_over(began + 1000 * SECOND));
        deadline.hear(1, began);
        deadline.hear(1, began + 29 * SECOND);
        deadline.hear(0, began + 40 * SECOND);
        assert_eq!(deadline.due(), Some(began + 59 * SECOND));
        assert!(deadline.is_over(began + 59 * SECOND));
        deadline.clear();
        assert_eq!(deadline.due(), None);
    }

    #[test]
    fn trickle_ends_it_however_fast_the_start_was() {
        let began = Instant::now();
        let mut deadline = Deadline::new(30 * SECOND, 500);
        deadline.hear(100_000_000, began);
        deadline.hear(100_000_000, began);
        let end = (1..100).find(|&second| {
            let now = began + second * SECOND;
            let is_over = deadline.is_over(now);
            deadline.hear(50, now);
            is_over
        });
        assert_eq!(end, Some(34));
        let mut deadline = Deadline::new(30 * SECOND, 500);
        for second in 0..1000 {
            assert!(!deadline.is_over(began + second * SECOND));
            deadline.hear(500, began + second * SECOND);
        }
    }
}
