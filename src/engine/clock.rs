//! The time of day, for the Date field and the log. Everything else counts in `Instant`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::date::imf_fixdate;

/// The time of day, read from the kernel.
#[expect(clippy::disallowed_methods, reason = "the one place where the time of day is read")]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// `duration` after `instant`; an instant a century away where the sum is out of range.
pub fn after(instant: Instant, duration: Duration) -> Instant {
    // The monotonic clock of a running machine is more than a century from its end.
    const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    instant.checked_add(duration.min(NEVER)).unwrap_or(instant)
}

/// The Date field's value, formatted once a second.
pub struct Clock {
    text: [u8; 29],
    until: Instant,
}

impl Clock {
    /// A clock that is right at `now`.
    pub fn new(now: Instant) -> Self {
        let mut clock = Self { text: imf_fixdate(0), until: now };
        clock.date(now);
        clock
    }

    /// The value at `now`.
    pub fn date(&mut self, now: Instant) -> &[u8; 29] {
        if now >= self.until {
            self.set(now, time_of_day());
        }
        &self.text
    }

    // However the time of day is set, it is read again within a second.
    fn set(&mut self, now: Instant, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.text = imf_fixdate(since.as_secs());
        self.until = now + Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_day_that_jumps_is_followed_within_a_second() {
        let now = Instant::now();
        let mut clock = Clock::new(now);
        let second = Duration::from_secs(1);
        for (time, text) in [
            (UNIX_EPOCH + Duration::from_millis(784_111_777_250), b"Sun, 06 Nov 1994 08:49:37 GMT"),
            // Set back, to before the beginning of time, and to its end.
            (UNIX_EPOCH, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (UNIX_EPOCH - 5 * second, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (UNIX_EPOCH + Duration::from_secs(1 << 40), b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            clock.set(now, time);
            assert_eq!(clock.text, *text);
            assert!(clock.until > now && clock.until <= now + second);
            // An instant that comes again, or lies before the last one, asks for nothing.
            assert_eq!(clock.date(now), text);
        }
        assert_ne!(clock.date(now + second), b"Fri, 31 Dec 9999 23:59:59 GMT", "the true time is read again");
    }

    #[test]
    fn instant_after_any_duration_is_in_range() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(5)), now + Duration::from_secs(5));
        let never = after(now, Duration::MAX);
        assert!(never > now + Duration::from_secs(1 << 31));
        assert!(after(never, Duration::MAX) >= never);
    }
}
