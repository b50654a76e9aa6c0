//! An application may fork. Its child has the server's memory, sockets and poller, but they are its parent's: a child that
//! comes back from the application would answer the parent's client a second time and take away what its poller reports.

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

/// The process that something was made in. A count of forks tells processes apart without a system call.
pub struct Process(usize);

impl Process {
    /// This one.
    pub fn this() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Ends the process, with a word in the log, if it is a child that came back from the application.
    pub fn leave_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        if self.0 == FORKS.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = "a process that the application forked came back to the server and was ended: it must end by \
                       os._exit()";
        log(py, ERROR, message, error);
        let code = 1_i32.into_pyobject(py)?.into_any();
        call(&py.import("os")?.getattr("_exit")?, [&code]).map(drop)
    }
}
