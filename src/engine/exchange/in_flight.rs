//! The requests that are inside an application, so that a stop, or a lack of room for others, can end them without it.

use crate::engine::exchange::ticket::Ticket;
use crate::engine::exchange::{Exchange, Progress};

/// Which requests are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Event streams, from the beginning of the stop on: they have no end of their own.
    EventStreams,
    /// Responses that were begun and are not complete, after half of the graceful timeout.
    Unfinished,
    /// All that is left, when there is no more time.
    All,
    /// The one on this connection, whose client is slow, in favour of others.
    Connection(Ticket),
}

impl Cut {
    /// Whether it ends this request.
    pub fn covers(self, exchange: &Exchange) -> bool {
        match self {
            Self::EventStreams => exchange.is_event_stream(),
            Self::Unfinished => exchange.progress() == Progress::Begun,
            Self::All => true,
            Self::Connection(ticket) => exchange.ticket().is_same_connection(&ticket),
        }
    }

    /// Why its response ends early, for the log and for the application.
    pub fn why(self) -> &'static str {
        match self {
            Self::EventStreams | Self::Unfinished | Self::All => "the response was cut because the server is stopping",
            Self::Connection(_) => "the request was ended because its client was slow and others were waiting",
        }
    }
}

/// The calls of an application that are running. Used from any thread, with and without the interpreter.
pub trait InFlight: Send + Sync {
    /// Takes the requests of one shard that `cut` ends away from their calls, which go on without a client.
    fn take(&self, shard: usize, cut: Cut) -> Vec<Box<Exchange>>;

    /// Method and path of each request that is running, without the query.
    fn requests(&self) -> Vec<String>;
}

/// For a gateway whose calls cannot be interrupted.
pub struct Uninterruptible;

impl InFlight for Uninterruptible {
    fn take(&self, _: usize, _: Cut) -> Vec<Box<Exchange>> {
        Vec::new()
    }

    fn requests(&self) -> Vec<String> {
        Vec::new()
    }
}
