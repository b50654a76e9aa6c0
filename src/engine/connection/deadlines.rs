//! How long the server waits for a client: its deadlines, and how readily its place is given to another. Pure functions of what a
//! connection waits for.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::engine::clock::after;
use crate::engine::options::Options;
use crate::engine::transport::client_rate::{ReceiveRate, SLOW_CLIENT_GRACE, TransferRate};

/// A refused client gets this long to stop sending and to read the refusal.
const LINGER: Duration = Duration::from_secs(10);
/// It is given up earlier if it has been silent for this long.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// And still earlier when the server stops.
const STOP_SILENCE: Duration = Duration::from_millis(500);
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

/// What a connection waits for.
#[derive(Clone, Copy)]
pub(in crate::engine) enum Awaited<'a> {
    /// The header of a proxy, since the connection was accepted.
    ProxyHeader { since: Instant },
    /// A request of which no byte has come; the first one, or another.
    Request { since: Instant, is_first: bool },
    /// The rest of a head.
    Head { since: Instant },
    /// The rest of a body.
    Body(&'a ReceiveRate),
    /// Its client, to take the response. Bytes last left at `moved`.
    Reader { moved: Instant, rate: &'a TransferRate },
    /// The end of what the client sends. Bytes last came at `moved`.
    End { since: Instant, moved: Instant, is_stopping: bool },
    /// The application.
    Application,
}

impl Awaited<'_> {
    /// When the wait ends; `None` while a worker has the request.
    pub fn deadline(&self, options: &Options) -> Option<Instant> {
        Some(match *self {
            Self::Request { since, is_first: false } => after(since, options.keep_alive),
            Self::ProxyHeader { since } | Self::Request { since, is_first: true } | Self::Head { since } => {
                after(since, options.header_timeout)
            }
            Self::Body(rate) => rate.deadline(options),
            Self::Reader { moved, .. } => after(moved, options.write_timeout),
            Self::End { since, moved, is_stopping } => {
                let silence = if is_stopping { STOP_SILENCE } else { LINGER_SILENCE };
                (since + LINGER).min(moved + silence)
            }
            Self::Application => return None,
        })
    }

    /// Whether the connection can be closed for the sake of another client, and how much rather than others: first those that
    /// have had their turn or let it pass, then those that hold a place by being slow; of these, the one furthest behind.
    pub fn eviction_priority(&self, now: Instant) -> Option<EvictionPriority> {
        let (rank, since) = match *self {
            Self::ProxyHeader { since } | Self::Request { since, .. } | Self::End { since, .. } => (Rank::Idle, since),
            Self::Head { since } => (Rank::Slow, since),
            Self::Body(rate) => return slow(rate.slow_since(), now),
            Self::Reader { rate, .. } => return slow(rate.slow_since(), now),
            Self::Application => return None,
        };
        let elapsed = now.saturating_duration_since(since);
        (elapsed >= GRACE).then_some(EvictionPriority(Reverse(rank), elapsed))
    }
}

/// The same of a client that has been behind since then.
pub(in crate::engine) fn slow(since: Instant, now: Instant) -> Option<EvictionPriority> {
    let lag = now.saturating_duration_since(since);
    (lag >= SLOW_CLIENT_GRACE).then_some(EvictionPriority(Reverse(Rank::Slow), lag))
}
