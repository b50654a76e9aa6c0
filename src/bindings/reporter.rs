//! What the engine has to say goes to Python's logging.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyString};

use super::ffi::{call, is_attached};
use crate::engine::report::{Reporter, Severity};
use crate::engine::thread::spawn;

// The levels of Python's logging.
/// Of use while something is looked into.
pub const DEBUG: u8 = 10;
/// Worth knowing.
pub const INFO: u8 = 20;
/// Worth a look.
pub const WARNING: u8 = 30;
/// Something was lost.
pub const ERROR: u8 = 40;

/// How long a thread of the engine waits for its report. An application may hold the interpreter for longer than that, and what
/// the engine has to do goes on then.
const REPORT_WAIT: Duration = Duration::from_millis(50);

// The last report that was waited for has not come to its end: the next ones are not waited for.
static HELD_UP: AtomicBool = AtomicBool::new(false);

/// Reports something by Python: at once where this thread holds the interpreter, and else from a thread of its own, which is waited
/// for a moment.
pub fn tell(report: impl Fn(Python<'_>) + Send + Sync + 'static) {
    // At the interpreter's end there is no logging any more, and this thread must not panic over it.
    let now = move || {
        let _ = Python::try_attach(&report);
    };
    if is_attached() {
        return now();
    }
    let (now, (done, is_done)) = (Arc::new(now), channel());
    let reporting = spawn("wsgi-report".to_owned(), {
        let now = Arc::clone(&now);
        move || {
            now();
            HELD_UP.store(false, Ordering::Relaxed);
            // The thread that reports may have gone on.
            done.send(()).ok();
        }
    });
    match reporting {
        Ok(_) if HELD_UP.load(Ordering::Relaxed) => {}
        Ok(_) => {
            if is_done.recv_timeout(REPORT_WAIT).is_err() {
                HELD_UP.store(true, Ordering::Relaxed);
            }
        }
        // The system has no more threads.
        Err(_) => now(),
    }
}

/// Hands reports to `wsgi.logging.report`.
pub struct LoggingReporter;

impl Reporter for LoggingReporter {
    fn report(&self, severity: Severity, message: &str) {
        let level = match severity {
            Severity::Debug => DEBUG,
            Severity::Info => INFO,
            Severity::Warning => WARNING,
            Severity::Error => ERROR,
        };
        let message = message.to_owned();
        tell(move |py| log(py, level, &message, None));
    }

    fn wants_debug(&self) -> bool {
        let wants = |py: Python<'_>| py.import("wsgi.logging")?.call_method1("is_reported", (DEBUG,))?.extract();
        Python::attach(|py| {
            wants(py).unwrap_or_else(|problem: PyErr| {
                problem.write_unraisable(py, None);
                false
            })
        })
    }
}

/// Logs one line, with an exception's traceback if there is one.
pub fn log(py: Python<'_>, level: u8, message: &str, error: Option<&PyErr>) {
    let logged = py.import("wsgi.logging").and_then(|module| {
        let (level, message) = (level.into_pyobject(py)?.into_any(), PyString::new(py, message).into_any());
        // Before Python 3.12 `PyErr` keeps the traceback beside the exception; `into_value` puts it where logging looks.
        let exception = error.map_or_else(|| py.None(), |error| error.clone_ref(py).into_value(py).into_any());
        call(&module.getattr("report")?, [&level, &message, exception.bind(py)])
    });
    if let Err(problem) = logged {
        // The interpreter is going away, or what a handler raised is meant for the whole program (SystemExit, say).
        drop(writeln!(io::stderr(), "{}", message.escape_debug()));
        for error in error.into_iter().chain([&problem]) {
            error.clone_ref(py).write_unraisable(py, None);
        }
    }
}
