//! The seam between the engine and what answers requests. WSGI is one gateway; a test double is another.

use std::fmt::Debug;

use crate::engine::clock::Clock;
use crate::engine::exchange::Exchange;
use crate::http::head::RequestHead;
use crate::http::origin::{Client, Origin, Scheme};
use crate::http::reject::Reject;

/// Runs applications. One value per worker thread, so it may keep what belongs to that thread.
pub trait Gateway {
    /// Answers one exchange and gives it back. One that was not answered is answered 500; one that was begun and not
    /// finished is aborted. `None` means that a stop took it
    /// away meanwhile ([`InFlight`](crate::engine::exchange::in_flight::InFlight)).
    fn serve(&mut self, exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>>;

    /// Runs `work`, which waits or talks to the kernel, without holding what others need (the interpreter).
    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T;
}

/// The seam to what the fields of proxies mean.
pub trait Origins: Debug + Send + Sync {
    /// Where a request comes from. `peer` is the other end of its connection, and `scheme` how that one speaks, both as the
    /// PROXY protocol may tell.
    fn origin(&self, head: &RequestHead, peer: Client, scheme: Option<Scheme>) -> Result<Origin, Reject>;
}

/// How loud a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Of use where a cause is looked for.
    Debug,
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
    /// Something was lost.
    Error,
}

/// Where the engine says what an operator should know. Called from any thread.
pub trait Reporter: Send + Sync {
    /// One line. Control characters are escaped here.
    fn report(&self, severity: Severity, message: &str);

    /// Whether reports of severity `Debug` are of use. Asked once for each run.
    fn wants_debug(&self) -> bool {
        false
    }

    /// The same of threads that do not come back from the application, to be told with what each of them is at, if that is
    /// known here.
    fn report_stall(&self, message: String) {
        self.report(Severity::Warning, &message);
    }
}
