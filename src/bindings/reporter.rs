//! Reports of the engine go to Python's logging.

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
/// Helps to find the cause of a problem.
pub const DEBUG: u8 = 10;
/// An event of normal operation.
pub const INFO: u8 = 20;
/// Something that may need a change of the configuration.
pub const WARNING: u8 = 30;
/// Something was lost.
pub const ERROR: u8 = 40;

/// How long a thread of the engine waits for its report to be written. An application may hold the interpreter for longer; the
/// thread goes on then.
const REPORT_WAIT: Duration = Duration::from_millis(50);

// The last report was not written in time: threads do not wait for the next ones.
static HELD_UP: AtomicBool = AtomicBool::new(false);

/// Reports something by Python: at once where this thread holds the interpreter, and else from another thread, for which this one
/// waits for a moment.
pub fn tell(report: impl Fn(Python<'_>) + Send + Sync + 'static) {
    // A finalized interpreter has no logging; the report is lost without a panic.
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
            // The thread that reports may have gone on meanwhile.
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
        // The system allows no more threads.
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
    log_with(py, level, message, error, None);
}

/// Logs one line, with the stacks of threads below it.
pub fn log_stacks(py: Python<'_>, level: u8, message: &str, stacks: &str) {
    log_with(py, level, message, None, Some(stacks));
}

fn log_with(py: Python<'_>, level: u8, message: &str, error: Option<&PyErr>, stacks: Option<&str>) {
    let logged = py.import("wsgi.logging").and_then(|module| {
        let (level, message) = (level.into_pyobject(py)?.into_any(), PyString::new(py, message).into_any());
        // Before Python 3.12 `PyErr` keeps the traceback beside the exception; `into_value` puts it where logging looks.
        let exception = error.map_or_else(|| py.None(), |error| error.clone_ref(py).into_value(py).into_any());
        let report = module.getattr("report")?;
        match stacks {
            None => call(&report, [&level, &message, exception.bind(py)]),
            Some(stacks) => report.call1((level, message, exception, stacks)),
        }
    });
    if let Err(problem) = logged {
        // The interpreter is being finalized, or a handler raised an exception for the whole program, such as SystemExit.
        drop(writeln!(io::stderr(), "{}", message.escape_debug()));
        for error in error.into_iter().chain([&problem]) {
            error.clone_ref(py).write_unraisable(py, None);
        }
    }
}
