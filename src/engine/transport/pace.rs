//! How a client keeps up: the longest silence, and a rate that its bytes must come or leave at. At a rate, every byte pays for a
//! stretch of time. How far a client can be ahead of it is bounded, so that a fast start buys no slow end.

use std::time::{Duration, Instant};

use crate::engine::clock::after;
use crate::engine::options::Options;

/// Clients whose bytes come, or leave, steadily and at this many bytes a second are never closed in favour of another.
const BRISK: u64 = 16 * 1024;
/// And those below are left this long.
pub(in crate::engine) const SLACK: Duration = Duration::from_secs(3);

const NANOS: u64 = 1_000_000_000;

// The instant up to which a client has paid, once it has moved `bytes`: `latest` at most. At a rate of 0, one byte pays for
// everything.
fn pay(paid: Instant, bytes: u64, rate: u64, latest: Instant) -> Instant {
    // 18 GB at once are more than any slack.
    let earned = bytes.saturating_mul(NANOS).checked_div(rate).map_or(Duration::MAX, Duration::from_nanos);
    after(paid, earned).min(latest)
}

/// How far a client is behind a brisk one. It is never ahead of one: a client that stalls holds what others need from that moment
/// on, however fast it was.
#[derive(Clone, Copy, Debug)]
pub struct Lag(Instant);

impl Lag {
    /// Of a client that is to move bytes from `now` on.
    pub fn new(now: Instant) -> Self {
        Self(now)
    }

    /// It has moved this many.
    pub fn note(&mut self, bytes: u64, now: Instant) {
        if bytes > 0 {
            self.0 = pay(self.0, bytes, BRISK, now);
        }
    }

    /// Since when it is behind: silent, or below the rate.
    pub fn since(&self) -> Instant {
        self.0
    }
}

/// How quickly a body comes, and until when its next byte must.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    lag: Lag,
    // When its last bytes came.
    moved: Instant,
    // Up to when the minimum rate is paid for.
    paid: Instant,
    // Since when the client need not answer for the time.
    paused: Option<Instant>,
}

impl Pace {
    /// A body that is awaited from `now` on.
    pub fn new(now: Instant) -> Self {
        Self { lag: Lag::new(now), moved: now, paid: now, paused: None }
    }

    /// A body that is awaited once it goes on.
    pub fn paused(now: Instant) -> Self {
        Self { paused: Some(now), ..Self::new(now) }
    }

    /// Bytes have come.
    pub fn note(&mut self, bytes: usize, now: Instant, options: &Options) {
        let (bytes, now) = (bytes as u64, self.paused.unwrap_or(now));
        if bytes > 0 {
            self.moved = now;
        }
        self.lag.note(bytes, now);
        self.paid = pay(self.paid, bytes, options.body_min_rate, after(now, options.body_timeout));
    }

    /// From now on the client does not answer for the time.
    pub fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// From now on it does again.
    pub fn go_on(&mut self, now: Instant) {
        if let Some(since) = self.paused.take() {
            let pause = now.saturating_duration_since(since);
            for instant in [&mut self.lag.0, &mut self.moved, &mut self.paid] {
                *instant = after(*instant, pause);
            }
        }
    }

    /// Whether it does not.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Since when the client is behind a brisk one.
    pub fn behind_since(&self) -> Instant {
        self.lag.since()
    }

    /// When patience ends: after a silence, or when the body is so far below the minimum rate.
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
        let mut pace = Pace::new(start);
        // At the minimum rate this is half a month's worth.
        pace.note(128 << 20, start, &options);
        assert_eq!(pace.deadline(&options), start + 10 * SECOND, "a silence");
        let mut now = start;
        while pace.deadline(&options) > now + SECOND {
            now += SECOND;
            pace.note(1, now, &options);
            assert!(now < start + 60 * SECOND, "a byte a second keeps it alive");
        }
        assert!(now >= start + 18 * SECOND, "what it has earned is the timeout once more");
    }

    #[test]
    fn body_at_the_minimum_rate_never_ends_and_below_it_does() {
        let start = Instant::now();
        let lives = |rate| {
            let (options, mut pace, mut now) = (options(rate), Pace::new(start), start);
            (0..1000).all(|_| {
                now += SECOND;
                pace.note(100, now, &options);
                pace.deadline(&options) > now
            })
        };
        assert_eq!([0, 100, 101, 200].map(lives), [true, true, true, false]);
    }

    #[test]
    fn client_that_began_fast_is_behind_as_soon_as_one_that_did_not() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        lag.note(1 << 30, start);
        for second in 1..=4 {
            lag.note(1, start + second * SECOND);
        }
        assert!(start + 4 * SECOND - lag.since() >= SLACK, "its start counts for nothing");
        let mut steady = Lag::new(start);
        for second in 1..=7 {
            steady.note(BRISK, start + second * SECOND);
            assert!(start + second * SECOND <= steady.since());
        }
    }

    #[test]
    fn pause_is_not_the_clients() {
        let (start, options) = (Instant::now(), options(100));
        let mut pace = Pace::paused(start);
        pace.note(5, start + SECOND, &options);
        pace.go_on(start + 100 * SECOND);
        assert_eq!(pace.deadline(&options), start + 110 * SECOND);
        assert_eq!(pace.behind_since(), start + 100 * SECOND);
    }
}
