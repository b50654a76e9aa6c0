//! How long the server waits for a client: its deadlines, and how readily its place is given to another.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::engine::clock::after;
use crate::engine::connection::{Connection, Stage};
use crate::engine::options::Options;
use crate::engine::transport::Transport;
use crate::engine::transport::client_rate::SLOW_CLIENT_GRACE;

/// A refused client gets this long to stop sending and to read the refusal.
const LINGER: Duration = Duration::from_secs(10);
/// It is given up earlier if it has been silent for this long.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// And still earlier when the server stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// A connection is left this long for its next request before it can be closed in favour of another, and every request for
/// its head. A client's first head follows its handshake, and mostly has come before the client is let in.
pub(in crate::engine) const GRACE: Duration = Duration::from_millis(250);

/// How readily a connection is given up for the sake of another: the greatest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvictionPriority(Reverse<Rank>, Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Idle,
    Slow,
}

/// A connection that waits for a request.
pub(in crate::engine) struct Waiting {
    /// Since when.
    pub since: Instant,
    /// Whether it has had one.
    pub served: bool,
}

impl Waiting {
    /// When patience with the client ends.
    pub fn deadline(&self, options: &Options) -> Instant {
        after(self.since, if self.served { options.keep_alive } else { options.header_timeout })
    }

    /// How readily it makes room for another.
    pub fn eviction_priority(&self, now: Instant) -> Option<EvictionPriority> {
        let lag = now.saturating_duration_since(self.since);
        (lag >= GRACE).then_some(EvictionPriority(Reverse(Rank::Idle), lag))
    }
}

// Of a client that has been behind since then.
fn slow(since: Instant, now: Instant) -> Option<EvictionPriority> {
    let lag = now.saturating_duration_since(since);
    (lag >= SLOW_CLIENT_GRACE).then_some(EvictionPriority(Reverse(Rank::Slow), lag))
}

impl EvictionPriority {
    /// Of a connection whose request is with the application: it can be closed if the application waits for its client.
    pub(in crate::engine) fn of_served(transport: &Transport, now: Instant) -> Option<Self> {
        slow(transport.slow_since()?, now)
    }
}

impl Connection {
    fn waiting(&self) -> Waiting {
        Waiting { since: self.since, served: self.served }
    }

    /// When patience with the client ends; `None` while a worker has the connection.
    pub fn deadline(&self) -> Option<Instant> {
        let options = &self.context.options;
        match &self.stage {
            Stage::Idle => Some(self.waiting().deadline(options)),
            Stage::ProxyHeader(_) | Stage::Head => Some(after(self.since, options.header_timeout)),
            Stage::Body(pending) => Some(pending.intake.rate.deadline(options)),
            Stage::Answering(_) => Some(after(self.moved, options.write_timeout)),
            Stage::Draining(_) | Stage::Lingering => {
                let silence = if self.context.is_stopping() { FAREWELL } else { LINGER_SILENCE };
                Some((self.since + LINGER).min(self.moved + silence))
            }
            Stage::Serving => None,
        }
    }

    /// Whether it can be closed for the sake of another client, and how much rather than others: first those that have had
    /// their turn or let it pass, then those that hold a place by being slow; of these, whoever is furthest behind.
    pub fn eviction_priority(&self, now: Instant) -> Option<EvictionPriority> {
        let elapsed = now.saturating_duration_since(self.since);
        let (rank, lag, patience) = match &self.stage {
            Stage::Idle | Stage::ProxyHeader(_) => return self.waiting().eviction_priority(now),
            Stage::Draining(_) | Stage::Lingering => (Rank::Idle, elapsed, GRACE),
            Stage::Head => (Rank::Slow, elapsed, GRACE),
            Stage::Body(pending) => return slow(pending.intake.rate.slow_since(), now),
            Stage::Answering(_) => return slow(self.leaving.slow_since(), now),
            Stage::Serving => return None,
        };
        (lag >= patience).then_some(EvictionPriority(Reverse(rank), lag))
    }
}
