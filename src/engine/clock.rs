//! The time of day, for the Date field and the log. Everything else counts in `Instant`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::date::imf_fixdate;

/// The time of day, read from the kernel.
#[expect(clippy::disallowed_methods, reason = "this room is where the time of day is read")]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
            let since = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.text = imf_fixdate(since.as_secs());
            self.until = now + Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()));
        }
        &self.text
    }
}
