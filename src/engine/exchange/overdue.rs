//! Calls of the application as their watchdog sees them.

use crate::engine::exchange::reply::Progress;
use crate::engine::exchange::ticket::Ticket;

/// What a call of the application is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    /// Give more of its response, of which there are `sent` bytes of content.
    Responding {
        /// How far the response is.
        progress: Progress,
        /// Bytes of its content so far.
        sent: u64,
    },
    /// Nothing: its client is to send more of the request, or to read what was sent.
    AwaitsClient,
    /// Give events whenever there are some.
    Unlimited,
    /// Return: its exchange was taken away.
    Detached,
}

/// A call of the application that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningCall {
    /// Its exchange.
    pub ticket: Ticket,
    /// What it is to do next.
    pub stage: CallStage,
    /// It is in `close()` of a WSGI response.
    pub is_closing: bool,
}

/// What was done with a call that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverdueOutcome {
    /// Nothing.
    Kept,
    /// Its client was answered.
    Answered,
    /// Its response, which had begun, was cut.
    Cut,
    /// Its exchange was taken away earlier, or is complete.
    Detached,
    /// It has ended meanwhile.
    Ended,
}

/// A call that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverdueCall {
    /// The call as it was seen.
    pub call: RunningCall,
    /// How often it was reported before.
    pub reports: u32,
}
