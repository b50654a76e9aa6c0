//! What HTTP requests and WebSockets have in common: an exchange, messages from and to the application, and a client that may
//! be slow or disconnect.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::receive_event::ReceiveEvent;
use super::send_event::SendEvent;
use crate::engine::clock::Clock;
use crate::engine::exchange::{Exchange, Progress};
use crate::websocket::deflate::CompressorPool;

/// Work of one call in one turn of the loop, in bytes that are read, expanded or handed over: about a millisecond.
pub const TURN_BYTES: usize = 256 * 1024;
/// What a `receive()` or `send()` counts for besides its bytes: 32 of them make a turn.
pub const OPERATION_BYTES: usize = TURN_BYTES / 32;

/// What the event loop provides for the work of a session.
pub struct Io<'a> {
    /// The time.
    pub now: Instant,
    /// The time of day.
    pub clock: &'a mut Clock,
    /// Where bytes are read into.
    pub scratch: &'a mut [u8],
    /// What compresses the messages of WebSockets.
    pub compressors: &'a mut CompressorPool,
    /// The longest time in which a client may read nothing.
    pub write_timeout: Duration,
    /// The work that may still be done in this turn of the loop, in bytes.
    pub budget: usize,
}

impl Io<'_> {
    /// Counts work that was done.
    pub fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }
}

/// What is available at the moment.
pub enum PollOutcome<T> {
    /// This.
    Ready(T),
    /// Nothing yet: look again when the socket changes, or at the instant.
    Pending(Option<Instant>),
}

/// One session. No method waits or runs code of the application.
pub trait Session: Send {
    /// The exchange, as long as there is one.
    fn exchange(&mut self) -> Option<&mut Exchange>;

    /// Takes the exchange, if the session is done with it.
    fn take_concluded(&mut self) -> Option<Box<Exchange>>;

    /// Takes the exchange in any state. To the application its client has disconnected.
    fn release(&mut self) -> Option<Box<Exchange>>;

    /// Whether the client, or a stop, has ended the request before the application did.
    fn was_interrupted(&self) -> bool;

    /// Why the response is incomplete for another reason than the application; for the log.
    fn cut_short(&self) -> Option<&'static str>;

    /// The next message to the application.
    fn receive(&mut self, py: Python<'_>, io: &mut Io<'_>) -> PyResult<PollOutcome<ReceiveEvent>>;

    /// The application no longer waits for its request's body.
    fn pause(&mut self, now: Instant);

    /// Handles a message of the application.
    fn send(&mut self, event: SendEvent<'_>, io: &mut Io<'_>) -> PyResult<()>;

    /// Whether the application can go on sending.
    fn drain(&mut self, io: &mut Io<'_>) -> PyResult<PollOutcome<()>>;

    /// The socket has changed, or a deadline has come: does what needs no application.
    fn advance(&mut self, io: &mut Io<'_>);

    /// When to call `advance`, even if the socket does not change.
    fn due(&self) -> Option<Instant>;

    /// When the head of the response is sent if there is no content until then.
    fn head_due(&self) -> Option<Instant>;

    /// The server is being stopped. `is_restart`: other processes serve meanwhile.
    fn stop(&mut self, is_restart: bool, io: &mut Io<'_>);

    /// The client has disconnected.
    fn lose(&mut self);

    /// The application has returned. Returns what it failed to do, for the log.
    fn returned(&mut self, io: &mut Io<'_>) -> Option<&'static str>;

    /// The application has raised.
    fn raised(&mut self, io: &mut Io<'_>);

    /// What its part of the memory that all share costs the others.
    fn eviction_weight(&self, _now: Instant) -> u128 {
        0
    }

    /// Gives that memory back, and ends.
    fn evict(&mut self, _io: &mut Io<'_>) {}
}

/// Backpressure for an application that is ahead of its client.
#[derive(Default)]
pub struct WriteStall {
    // Bytes sent when it began to wait, and when that changed last.
    waiting: Option<(u64, Instant)>,
}

impl WriteStall {
    /// Whether the application can go on. `Err`: the client has disconnected, or has read nothing for `write_timeout`.
    pub fn check(&mut self, exchange: &mut Exchange, io: &Io<'_>) -> Result<PollOutcome<()>, ()> {
        if exchange.has_failed() {
            return Err(());
        }
        let Some((sent, since)) = self.waiting else {
            if !exchange.is_ahead() {
                return Ok(PollOutcome::Ready(()));
            }
            self.waiting = Some((exchange.traffic().1, io.now));
            return Ok(PollOutcome::Pending(Some(io.now + io.write_timeout)));
        };
        if exchange.has_caught_up() {
            self.waiting = None;
            return Ok(PollOutcome::Ready(()));
        }
        let moved = exchange.traffic().1;
        let since = if moved == sent { since } else { io.now };
        self.waiting = Some((moved, since));
        let end = since + io.write_timeout;
        if end > io.now {
            return Ok(PollOutcome::Pending(Some(end)));
        }
        exchange.note_stall();
        Err(())
    }
}

/// Whether a response is complete or aborted.
pub fn is_decided(progress: Progress) -> bool {
    matches!(progress, Progress::Complete | Progress::Aborted)
}
