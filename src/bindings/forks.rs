//! An application may fork. The child shares the server's memory, sockets and poller with its parent: if it returned from
//! the application into the server, it would answer the parent's client a second time and consume the poller's events.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;

use super::ffi::{self, call};
use super::reporter::{ERROR, log};

static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Called in each child after a fork.
#[pyfunction]
pub fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// From now on, processes whose parent ends become children of this one if they descend from it. False: the system has no such
/// thing.
#[pyfunction]
pub fn adopt_orphans() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Forks without the handlers of `os.register_at_fork`: 0 in the child, which is killed if the parent ends first.
#[pyfunction]
pub fn fork_quietly() -> PyResult<i32> {
    let pid = ffi::fork()?;
    #[cfg(target_os = "linux")]
    if pid == 0 {
        // Without it, a child that hangs would stay for ever.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    Ok(pid)
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
