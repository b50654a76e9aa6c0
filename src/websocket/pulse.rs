//! Whether the other side is still there: it is pinged after a silence, and given up if it does not answer (RFC 6455
//! §5.5.2).

use std::time::{Duration, Instant};

/// What a look at the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Quiet,
    /// A ping is to be sent.
    Ping,
    /// There was no answer.
    Dead,
}

/// The times of one conversation.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    // Zero: nobody is pinged.
    interval: Duration,
    timeout: Duration,
    heard: Instant,
    pinged: Option<Instant>,
}

impl Pulse {
    /// A pulse that begins at `now`: a ping after `interval` of silence, zero for never, and `timeout` for its answer.
    pub fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, heard: now, pinged: None }
    }

    /// Something was heard, whatever it was.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// When to look next.
    pub fn due(&self) -> Option<Instant> {
        if self.interval.is_zero() {
            return None;
        }
        Some(self.pinged.map_or(self.heard + self.interval, |at| at + self.timeout))
    }

    /// Looks. A ping that is asked for counts as sent.
    pub fn beat(&mut self, now: Instant) -> Beat {
        match (self.due(), self.pinged) {
            (Some(due), Some(_)) if due <= now => Beat::Dead,
            (Some(due), None) if due <= now => {
                self.pinged = Some(now);
                Beat::Ping
            }
            _ => Beat::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_pinged_once_and_then_given_up() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(20 * SECOND, 5 * SECOND, now);
        assert_eq!((pulse.beat(now), pulse.due()), (Beat::Quiet, Some(now + 20 * SECOND)));
        now += 20 * SECOND;
        assert_eq!((pulse.beat(now), pulse.due()), (Beat::Ping, Some(now + 5 * SECOND)));
        assert_eq!(pulse.beat(now + 4 * SECOND), Beat::Quiet);
        assert_eq!(pulse.beat(now + 5 * SECOND), Beat::Dead);
    }

    #[test]
    fn whatever_is_heard_begins_anew() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(20 * SECOND, 5 * SECOND, now);
        for _ in 0..3 {
            now += 20 * SECOND;
            assert_eq!(pulse.beat(now), Beat::Ping);
            now += 4 * SECOND;
            pulse.hear(now);
            assert_eq!(pulse.due(), Some(now + 20 * SECOND));
        }
    }

    #[test]
    fn interval_of_zero_never_asks() {
        let now = Instant::now();
        let mut pulse = Pulse::new(Duration::ZERO, SECOND, now);
        assert_eq!((pulse.beat(now + 1000 * SECOND), pulse.due()), (Beat::Quiet, None));
    }
}
