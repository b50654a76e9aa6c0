//! What the engine has to say goes to Python's logging.

use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyString};

use super::ffi::call;
use crate::engine::gateway::{Reporter, Severity};

// The levels of Python's logging.
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
            Severity::Info => INFO,
            Severity::Warning => WARNING,
            Severity::Error => ERROR,
        };
        Python::attach(|py| log(py, level, message, None));
    }
}

/// Logs one line, with an exception's traceback if there is one.
pub fn log(py: Python<'_>, level: u8, message: &str, error: Option<&PyErr>) {
    let logged = py.import("wsgi.logging").and_then(|module| {
        let (level, message) = (level.into_pyobject(py)?.into_any(), PyString::new(py, message).into_any());
        let exception = error.map_or_else(|| py.None().into_bound(py), |error| error.value(py).clone().into_any());
        call(&module.getattr("report")?, [&level, &message, &exception])
    });
    if let Err(problem) = logged {
        // A logging handler of the program's own failed: the last resort is standard error.
        problem.write_unraisable(py, None);
    }
}
