//! Keep-alive: a silent client is pinged, and given up if it does not answer (RFC 6455 §5.5.2).

use std::time::{Duration, Instant};

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingAction {
    /// Nothing.
    Wait,
    /// Send a ping.
    SendPing,
    /// Give the client up: it did not answer.
    TimedOut,
}

/// The keep-alive of one session.
#[derive(Clone, Copy, Debug)]
pub struct PingTimer {
    // Zero: no pings.
    interval: Duration,
    timeout: Duration,
    last_bytes: Instant,
    pinged_at: Option<Instant>,
}

impl PingTimer {
    /// A timer that starts at `now`: a ping after `interval` of silence, zero for never, and `timeout` for its answer.
    pub fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, last_bytes: now, pinged_at: None }
    }

    /// Bytes have come, whatever they are.
    pub fn on_bytes(&mut self, now: Instant) {
        self.last_bytes = now;
        self.pinged_at = None;
    }

    /// When to call [`PingTimer::poll`] next.
    pub fn deadline(&self) -> Option<Instant> {
        if self.interval.is_zero() {
            return None;
        }
        Some(self.pinged_at.map_or(self.last_bytes + self.interval, |at| at + self.timeout))
    }

    /// What is to be done at `now`. A ping that it asks for counts as sent.
    pub fn poll(&mut self, now: Instant) -> PingAction {
        match (self.deadline(), self.pinged_at) {
            (Some(deadline), Some(_)) if deadline <= now => PingAction::TimedOut,
            (Some(deadline), None) if deadline <= now => {
                self.pinged_at = Some(now);
                PingAction::SendPing
            }
            _ => PingAction::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silent_client_is_pinged_once_and_then_given_up() {
        let mut now = Instant::now();
        let mut timer = PingTimer::new(20 * SECOND, 5 * SECOND, now);
        assert_eq!((timer.poll(now), timer.deadline()), (PingAction::Wait, Some(now + 20 * SECOND)));
        now += 20 * SECOND;
        assert_eq!((timer.poll(now), timer.deadline()), (PingAction::SendPing, Some(now + 5 * SECOND)));
        assert_eq!(timer.poll(now + 4 * SECOND), PingAction::Wait);
        assert_eq!(timer.poll(now + 5 * SECOND), PingAction::TimedOut);
    }

    #[test]
    fn any_bytes_restart_the_interval() {
        let mut now = Instant::now();
        let mut timer = PingTimer::new(20 * SECOND, 5 * SECOND, now);
        for _ in 0..3 {
            now += 20 * SECOND;
            assert_eq!(timer.poll(now), PingAction::SendPing);
            now += 4 * SECOND;
            timer.on_bytes(now);
            assert_eq!(timer.deadline(), Some(now + 20 * SECOND));
        }
    }

    #[test]
    fn interval_of_zero_never_pings() {
        let now = Instant::now();
        let mut timer = PingTimer::new(Duration::ZERO, SECOND, now);
        assert_eq!((timer.poll(now + 1000 * SECOND), timer.deadline()), (PingAction::Wait, None));
    }
}
