//! How quickly a client sends or reads: the longest silence, and a rate that its bytes must come or leave at. At a rate, every byte
//! pays for a stretch of time. How far a client can be ahead of the rate is bounded, so that a fast start buys no slow end.

use std::time::{Duration, Instant};

use crate::engine::clock::after;
use crate::engine::options::Options;

/// A client whose bytes come, or leave, steadily at this rate or above is never closed in favour of another.
pub const STEADY_BYTES_PER_SECOND: u64 = 16 * 1024;
/// A client that has been silent, or below that rate, for this long is slow: it can lose what others need.
pub const SLOW_CLIENT_GRACE: Duration = Duration::from_secs(3);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

// The instant up to which time is paid for, once `bytes` have moved: `latest` at most. At a rate of 0, one byte pays for everything.
fn pay(paid: Instant, bytes: u64, rate: u64, latest: Instant) -> Instant {
    // The product overflows at 18 GB, which pay for more than any bound.
    let earned = bytes.saturating_mul(NANOS_PER_SECOND).checked_div(rate).map_or(Duration::MAX, Duration::from_nanos);
    after(paid, earned).min(latest)
}

/// How far a client is behind the steady rate. It is never ahead of it: a client that stalls holds what others need from that
/// moment on, however fast it was.
#[derive(Clone, Copy, Debug)]
pub struct TransferRate(Instant);

impl TransferRate {
    /// Of a client that is to move bytes from `now` on.
    pub fn new(now: Instant) -> Self {
        Self(now)
    }

    /// Counts bytes that have moved.
    pub fn note(&mut self, bytes: u64, now: Instant) {
        if bytes > 0 {
            self.0 = pay(self.0, bytes, STEADY_BYTES_PER_SECOND, now);
        }
    }

    /// Since when it has been silent, or below the rate.
    pub fn slow_since(&self) -> Instant {
        self.0
    }
}

/// How quickly a body or a message comes, and until when its next byte must.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveRate {
    steady: TransferRate,
    // When its last bytes came.
    moved: Instant,
    // Up to when the minimum rate is paid for.
    paid: Instant,
    // Since when time has not been counted.
    paused: Option<Instant>,
}

impl ReceiveRate {
    /// What is waited for from `now` on.
    pub fn new(now: Instant) -> Self {
        Self { steady: TransferRate::new(now), moved: now, paid: now, paused: None }
    }

    /// What is waited for once it is resumed.
    pub fn paused(now: Instant) -> Self {
        Self { paused: Some(now), ..Self::new(now) }
    }

    /// Counts bytes that have come.
    pub fn note(&mut self, bytes: usize, now: Instant, options: &Options) {
        let (bytes, now) = (bytes as u64, self.paused.unwrap_or(now));
        if bytes > 0 {
            self.moved = now;
        }
        self.steady.note(bytes, now);
        self.paid = pay(self.paid, bytes, options.body_min_rate, after(now, options.body_timeout));
    }

    /// From `now` on time does not count against the client.
    pub fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// From `now` on time counts again.
    pub fn resume(&mut self, now: Instant) {
        if let Some(since) = self.paused.take() {
            let pause = now.saturating_duration_since(since);
            for instant in [&mut self.steady.0, &mut self.moved, &mut self.paid] {
                *instant = after(*instant, pause);
            }
        }
    }

    /// Whether time does not count.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// As [`TransferRate::slow_since`].
    pub fn slow_since(&self) -> Instant {
        self.steady.slow_since()
    }

    /// When it has timed out: after a silence, or once it is that far below the minimum rate.
    pub fn deadline(&self, options: &Options) -> Instant {
        let slow = if options.body_min_rate == 0 { self.moved } else { self.moved.min(self.paid) };
        after(slow, options.body_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(rate: u64) -> Options {
        Options { body_timeout: 10 * SECOND, body_min_rate: rate, ..Options::default() }
    }

    #[test]
    fn body_that_began_fast_buys_no_slow_end() {
        let (start, options) = (Instant::now(), options(100));
        let mut rate = ReceiveRate::new(start);
        // At the minimum rate this is half a month's worth.
        rate.note(128 << 20, start, &options);
        assert_eq!(rate.deadline(&options), start + 10 * SECOND, "a silence");
        let mut now = start;
        while rate.deadline(&options) > now + SECOND {
            now += SECOND;
            rate.note(1, now, &options);
            assert!(now < start + 60 * SECOND, "a byte a second keeps it alive");
        }
        assert!(now >= start + 18 * SECOND, "what it has earned is the timeout once more");
    }

    #[test]
    fn body_at_the_minimum_rate_never_ends_and_below_it_does() {
        let start = Instant::now();
        let lives = |rate| {
            let (options, mut body, mut now) = (options(rate), ReceiveRate::new(start), start);
            (0..1000).all(|_| {
                now += SECOND;
                body.note(100, now, &options);
                body.deadline(&options) > now
            })
        };
        assert_eq!([0, 100, 101, 200].map(lives), [true, true, true, false]);
    }

    #[test]
    fn client_that_began_fast_is_slow_as_soon_as_one_that_did_not() {
        let start = Instant::now();
        let mut rate = TransferRate::new(start);
        rate.note(1 << 30, start);
        for second in 1..=4 {
            rate.note(1, start + second * SECOND);
        }
        assert!(start + 4 * SECOND - rate.slow_since() >= SLOW_CLIENT_GRACE, "its start counts for nothing");
        let mut steady = TransferRate::new(start);
        for second in 1..=7 {
            steady.note(STEADY_BYTES_PER_SECOND, start + second * SECOND);
            assert!(start + second * SECOND <= steady.slow_since());
        }
    }

    #[test]
    fn pause_does_not_count_against_the_client() {
        let (start, options) = (Instant::now(), options(100));
        let mut rate = ReceiveRate::paused(start);
        rate.note(5, start + SECOND, &options);
        rate.resume(start + 100 * SECOND);
        assert_eq!(rate.deadline(&options), start + 110 * SECOND);
        assert_eq!(rate.slow_since(), start + 100 * SECOND);
    }
}
