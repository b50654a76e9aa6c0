//! What HTTP requests and WebSockets have in common: an exchange, an application that is to be told and that says
//! something, and a client that may fall behind or go.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::message::SendEvent;
use crate::engine::clock::Clock;
use crate::engine::exchange::{Exchange, Progress};
use crate::websocket::deflate::Compressors;
use crate::websocket::receive::Event;

/// Work of one call in one turn of the loop, in bytes that are read, expanded or handed over: about a millisecond.
pub const TURN_BYTES: usize = 256 * 1024;
/// What a `receive()` or `send()` counts for besides its bytes: 32 of them make a turn.
pub const OPERATION_BYTES: usize = TURN_BYTES / 32;

/// What the loop's thread lends.
pub struct Io<'a> {
    /// The time.
    pub now: Instant,
    /// The time of day.
    pub clock: &'a mut Clock,
    /// Where bytes are read into.
    pub scratch: &'a mut [u8],
    /// What compresses the messages of WebSockets.
    pub compressors: &'a mut Compressors,
    /// The longest time in which a client takes nothing.
    pub write_timeout: Duration,
    /// What may still be done before the others have their turn, in bytes.
    pub budget: usize,
}

impl Io<'_> {
    /// Counts work that was done.
    pub fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }
}

/// What there is at the moment.
pub enum Next<T> {
    /// This.
    Now(T),
    /// Nothing yet; it must be looked at again when the socket changes, or at the instant.
    Later(Option<Instant>),
}

/// What the application is told next. It becomes a dict only when no lock is held: making one may set off a collection,
/// and that any code.
pub enum ReceiveEvent {
    /// A piece of the request's body, and whether there is more.
    Request(Py<PyBytes>, bool),
    /// The client has gone, or the response is complete.
    Disconnect,
    /// A client asks for a WebSocket.
    Connect,
    /// A message came through it.
    Received(Event),
    /// It is over, with this code and reason.
    Closed(u16, String),
}

/// One session. Nothing here waits, and no code of the application's runs.
pub trait Session: Send {
    /// The exchange, as long as there is one.
    fn exchange(&mut self) -> Option<&mut Exchange>;

    /// The exchange, if nothing more can be event about it.
    fn take_concluded(&mut self) -> Option<Box<Exchange>>;

    /// The exchange, whatever was event about it: for the application its client has gone.
    fn release(&mut self) -> Option<Box<Exchange>>;

    /// Whether the application could not have its request, or lost its client.
    fn was_let_down(&self) -> bool;

    /// Why the client did not get a whole response, where that is not the application's doing; for the log.
    fn cut_short(&self) -> Option<&'static str>;

    /// The next message to the application.
    fn receive(&mut self, py: Python<'_>, io: &mut Io<'_>) -> PyResult<Next<ReceiveEvent>>;

    /// The application has turned to something else than its request's body.
    fn pause(&mut self, now: Instant);

    /// Takes a message of the application's.
    fn send(&mut self, event: SendEvent<'_>, io: &mut Io<'_>) -> PyResult<()>;

    /// Whether the application can go on sending.
    fn drain(&mut self, io: &mut Io<'_>) -> PyResult<Next<()>>;

    /// The socket has changed, or a time has come: does what needs no application.
    fn advance(&mut self, io: &mut Io<'_>);

    /// When it must be looked at, even if the socket stays as it is.
    fn due(&self) -> Option<Instant>;

    /// When the head of the response leaves, should its content not have begun by then.
    fn head_due(&self) -> Option<Instant>;

    /// The server is being stopped.
    fn stop(&mut self, io: &mut Io<'_>);

    /// Nothing that is sent reaches the client any more.
    fn lose(&mut self);

    /// The application has returned. Says what it left undone.
    fn returned(&mut self, io: &mut Io<'_>) -> Option<&'static str>;

    /// The application has raised.
    fn raised(&mut self, io: &mut Io<'_>);

    /// What its part of the memory that all share costs the others.
    fn weight(&self, _now: Instant) -> u128 {
        0
    }

    /// Gives that memory back, and ends.
    fn evict(&mut self, _tools: &mut Io<'_>) {}
}

/// How far an application that is ahead of its client has to wait for it.
#[derive(Default)]
pub struct Stall {
    // Bytes sent when it began to wait, and when that changed last.
    waiting: Option<(u64, Instant)>,
}

impl Stall {
    /// Whether the application can go on. `Err`: the client has gone, or takes nothing any more.
    pub fn check(&mut self, exchange: &mut Exchange, io: &Io<'_>) -> Result<Next<()>, ()> {
        if exchange.has_failed() {
            return Err(());
        }
        let Some((sent, since)) = self.waiting else {
            if !exchange.is_ahead() {
                return Ok(Next::Now(()));
            }
            self.waiting = Some((exchange.traffic().1, io.now));
            return Ok(Next::Later(Some(io.now + io.write_timeout)));
        };
        if exchange.has_caught_up() {
            self.waiting = None;
            return Ok(Next::Now(()));
        }
        let moved = exchange.traffic().1;
        let since = if moved == sent { since } else { io.now };
        self.waiting = Some((moved, since));
        let end = since + io.write_timeout;
        if end > io.now {
            return Ok(Next::Later(Some(end)));
        }
        exchange.note_stall();
        Err(())
    }
}

/// Whether a response can get no further.
pub fn is_decided(progress: Progress) -> bool {
    matches!(progress, Progress::Complete | Progress::Aborted)
}
