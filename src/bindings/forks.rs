//! An application may fork. The child shares the server's memory, sockets and poller with its parent: if it returned from
//! the application into the server, it would answer the parent's client a second time and consume the poller's events.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;

use super::ffi::call;
use super::reporter::{ERROR, log};

static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Called in each child after a fork.
#[pyfunction]
pub fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process that something was made in. Counting forks distinguishes processes without a system call.
pub struct Process(usize);

impl Process {
    /// This one.
    pub fn this() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Logs an error and exits the process if it is a forked child that returned from the application.
    pub fn exit_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        if self.0 == FORKS.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = "a process that the application forked returned to the server and was ended: end it with \
                       os._exit()";
        log(py, ERROR, message, error);
        let code = 1_i32.into_pyobject(py)?.into_any();
        call(&py.import("os")?.getattr("_exit")?, [&code]).map(drop)
    }
}
