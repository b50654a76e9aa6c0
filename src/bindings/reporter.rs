//! What the engine has to say goes to Python's logging.

use std::io::{self, Write};

use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyString};

use super::ffi::call;
use crate::engine::gateway::{Reporter, Severity};

// The levels of Python's logging.
/// Of use while something is looked into.
pub const DEBUG: u8 = 10;
/// Worth knowing.
pub const INFO: u8 = 20;
/// Worth a look.
pub const WARNING: u8 = 30;
/// Something was lost.
pub const ERROR: u8 = 40;

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
        // At the interpreter's end there is no logging any more, and this thread must not panic over it.
        let _ = Python::try_attach(|py| log(py, level, message, None));
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
