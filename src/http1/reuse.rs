//! What becomes of a connection when a response has left.
//!
//! Laws:
//! 1. A response that is not whole ends the connection at once: that is how the client learns of it.
//! 2. The next request is looked for only where the last one is known to end.
//! 3. A connection whose client may still be sending is not just closed: the reset that would answer its bytes can
//!    destroy the response before the client reads it (RFC 9112 §9.6).

/// How the response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was sent.
    Complete,
    /// It broke off.
    Aborted,
}

/// What is left of the request's body on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing.
    None,
    /// Nothing: what the application did not read has arrived.
    Buffered,
    /// This many bytes.
    Bytes(u64),
    /// An unknown amount: a chunked body, or the rest of a refused request.
    Unknown,
}

/// What is known of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReuseInput {
    /// The response's plan left the connection open.
    pub keep_alive: bool,
    /// How the response ended.
    pub response: Outcome,
    /// What is left of the request.
    pub unread: Unread,
    /// Bytes of an unread body that are read away for the sake of the connection.
    pub drain_limit: u64,
    /// The server is stopping.
    pub stopping: bool,
    /// The response changed the protocol.
    pub upgraded: bool,
}

/// Content of an unread body that is read away for the sake of the connection; beyond that a new one is cheaper.
const DRAIN_LIMIT_BYTES: u64 = 256 * 1024;

/// Whether an unread body of so many bytes is read away rather than the connection closed. `None`: its length is unknown.
pub fn can_drain(unread: Option<u64>) -> bool {
    unread.is_some_and(|bytes| bytes <= DRAIN_LIMIT_BYTES)
}

impl ReuseInput {
    /// What is known when a response is queued, and the server is not stopping.
    pub const fn new(keep_alive: bool, response: Outcome, unread: Unread) -> Self {
        Self { keep_alive, response, unread, drain_limit: DRAIN_LIMIT_BYTES, stopping: false, upgraded: false }
    }
}

/// What to do with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReuseDecision {
    /// Read the next request.
    Reuse,
    /// Read this many bytes away, then the next request.
    Drain(u64),
    /// Close the writing side, read away what comes until the client closes or time is up, then close.
    Linger,
    /// Close now.
    Close,
    /// Hand it to the other protocol.
    Upgrade,
}

// The three columns of the table.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Aborted,
    Upgraded,
    // The client was told that it may send more.
    Kept,
    // It was told so, but the server stops now.
    Stopped,
    // It was told that this was the last response.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Little,
    Much,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Reuse,
    Drain,
    Linger,
    Close,
    Upgrade,
}

const TABLE: [(Fate, Rest, Action); 15] = [
    (Fate::Aborted, Rest::Nothing, Action::Close),
    (Fate::Aborted, Rest::Little, Action::Close),
    (Fate::Aborted, Rest::Much, Action::Close),
    (Fate::Upgraded, Rest::Nothing, Action::Upgrade),
    // A protocol cannot begin inside a body.
    (Fate::Upgraded, Rest::Little, Action::Linger),
    (Fate::Upgraded, Rest::Much, Action::Linger),
    (Fate::Kept, Rest::Nothing, Action::Reuse),
    (Fate::Kept, Rest::Little, Action::Drain),
    (Fate::Kept, Rest::Much, Action::Linger),
    // The client may have begun its next request.
    (Fate::Stopped, Rest::Nothing, Action::Linger),
    (Fate::Stopped, Rest::Little, Action::Linger),
    (Fate::Stopped, Rest::Much, Action::Linger),
    (Fate::Closed, Rest::Nothing, Action::Close),
    (Fate::Closed, Rest::Little, Action::Linger),
    (Fate::Closed, Rest::Much, Action::Linger),
];

/// Looks the next move up.
pub fn next(facts: &ReuseInput) -> ReuseDecision {
    let fate = match facts {
        ReuseInput { response: Outcome::Aborted, .. } => Fate::Aborted,
        ReuseInput { upgraded: true, .. } => Fate::Upgraded,
        ReuseInput { keep_alive: false, .. } => Fate::Closed,
        ReuseInput { stopping: true, .. } => Fate::Stopped,
        ReuseInput { .. } => Fate::Kept,
    };
    let (rest, bytes) = match facts.unread {
        Unread::None | Unread::Buffered | Unread::Bytes(0) => (Rest::Nothing, 0),
        Unread::Bytes(bytes) if bytes <= facts.drain_limit => (Rest::Little, bytes),
        Unread::Bytes(bytes) => (Rest::Much, bytes),
        Unread::Unknown => (Rest::Much, 0),
    };
    let row = TABLE.iter().find(|row| row.0 == fate && row.1 == rest);
    // The table is complete, as its test shows; closing would be right in any case.
    match row.map_or(Action::Close, |row| row.2) {
        Action::Reuse => ReuseDecision::Reuse,
        Action::Drain => ReuseDecision::Drain(bytes),
        Action::Linger => ReuseDecision::Linger,
        Action::Close => ReuseDecision::Close,
        Action::Upgrade => ReuseDecision::Upgrade,
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
