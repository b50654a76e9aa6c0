//! The seam between the engine and what answers requests. WSGI is one gateway; a test double is another.

use crate::engine::clock::Clock;
use crate::engine::exchange::Exchange;

/// Runs applications. One value per worker thread, so it may keep what belongs to that thread.
pub trait Gateway {
    /// Answers one exchange and gives it back. One that was not answered is answered 500; one that was begun and not
    /// finished is aborted. `None` means that a stop took it
    /// away meanwhile ([`InFlight`](crate::engine::exchange::in_flight::InFlight)).
    fn serve(&mut self, exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>>;

    /// Runs `work`, which waits or talks to the kernel, without holding what others need (the interpreter).
    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T;
}
