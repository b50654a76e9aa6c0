//! The seam between the engine and what answers requests. WSGI is one gateway; a test double is another.

use crate::engine::clock::Clock;
use crate::engine::exchange::Exchange;

/// Runs an application. Each worker thread has a gateway of its own.
pub trait Gateway {
    /// Answers one exchange and gives it back. The engine answers 500 to one without a response, and aborts one whose response is
    /// incomplete. `None`: it was taken away meanwhile ([`InFlight`](crate::engine::exchange::in_flight::InFlight)).
    fn serve(&mut self, exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>>;

    /// Runs `work`, which blocks, without holding the interpreter.
    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T;
}
