//! The requests that are inside an application, so that a stop, a lack of room for others, or a time limit can end them without
//! it.

use std::sync::Arc;

use crate::engine::exchange::overdue::{OverdueCall, OverdueOutcome, RunningCall};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::exchange::{Exchange, Progress};
use crate::engine::scheduling::monitor_signal::MonitorSignal;
use crate::http::reject::Reject;

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
    /// This one, which has taken longer than `request_timeout`.
    Overdue(Ticket),
}

impl Cut {
    /// Whether it ends this request.
    pub fn covers(self, exchange: &Exchange) -> bool {
        match self {
            Self::EventStreams => exchange.is_event_stream(),
            Self::Unfinished => exchange.progress() == Progress::Begun,
            Self::All => true,
            Self::Connection(ticket) => exchange.ticket().is_same_connection(&ticket),
            Self::Overdue(ticket) => exchange.ticket() == ticket,
        }
    }

    /// Why its response ends early, for the log and for the application.
    pub fn why(self) -> &'static str {
        match self {
            Self::EventStreams | Self::Unfinished | Self::All => "the response was cut because the server is stopping",
            Self::Connection(_) => "the request was ended because its client was slow and others were waiting",
            Self::Overdue(_) => "the request was ended because it took longer than request_timeout",
        }
    }

    /// What its client is answered if the response has not begun.
    pub fn reject(self) -> Reject {
        match self {
            Self::Overdue(_) => Reject::RequestTimeout,
            Self::EventStreams | Self::Unfinished | Self::All | Self::Connection(_) => Reject::Stopping,
        }
    }
}

/// The calls of an application that are running. Used from any thread, with and without the interpreter.
pub trait InFlight: Send + Sync {
    /// Takes the requests of one shard that `cut` ends away from their calls, which go on without a client.
    fn take(&self, shard: usize, cut: Cut) -> Vec<Box<Exchange>>;

    /// Method and path of each request that is running, without the query.
    fn requests(&self) -> Vec<String>;

    /// The calls that have not returned, if their time can be limited.
    fn running(&self) -> Vec<RunningCall> {
        Vec::new()
    }

    /// Is woken when a call begins; `None` where no call's time can be limited.
    fn start_signal(&self) -> Option<&MonitorSignal> {
        None
    }

    /// Reports calls that take too long. `end` takes the request of one away from it, if that was asked for: called once for each that
    /// has not ended yet, as soon as its stack is known, and without waiting for the interpreter for more than a moment. Returns whether this process is to take no more clients: it is replaced, and cannot be told so, because a call holds the
    /// interpreter.
    fn report_overdue(self: Arc<Self>, _calls: &[OverdueCall], _end: &dyn Fn(&OverdueCall) -> OverdueOutcome) -> bool {
        false
    }
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
