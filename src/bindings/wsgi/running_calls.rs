//! Which calls of the application are going on, for a word in the log about threads that do not come back.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::bindings::ffi::call;
use crate::bindings::reporter::{ERROR, LoggingReporter, log};
use crate::engine::gateway::{Reporter, Severity};

use super::call::Call;
use super::gateway::named;

/// What one worker runs, if it runs anything.
#[derive(Default)]
pub struct Slot(Mutex<Option<(u64, Py<Call>)>>);

impl Slot {
    /// From now on this worker, whose `threading.get_ident()` is `ident`, makes its calls with `call`.
    pub fn set(&self, ident: u64, call: &Bound<'_, Call>) {
        self.replace(Some((ident, call.clone().unbind())));
    }

    /// The application keeps something of the call: it must not be kept here as well.
    pub fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, by: Option<(u64, Py<Call>)>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), by);
        // Python's objects are let go outside the lock.
        drop(before);
    }
}

/// The slots of all workers. Says what they run where a stall is reported.
pub struct RunningCalls(pub Vec<Arc<Slot>>);

impl RunningCalls {
    /// Slots for so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Arc::default()).collect())
    }

    fn describe(&self, py: Python<'_>, message: &str) -> PyResult<()> {
        let rows = PyList::empty(py);
        for (index, slot) in self.0.iter().enumerate() {
            let going = slot.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|(ident, call)| {
                let (name, age) = call.get().with(|exchange| (named(exchange), exchange.arrived().elapsed()))?;
                Some((*ident, name, age))
            });
            if let Some((ident, name, age)) = going {
                rows.append((format!("wsgi-worker-{index}"), ident, name, age.as_secs_f64()))?;
            }
        }
        let report = py.import(intern!(py, "wsgi.stalls"))?.getattr(intern!(py, "report_stall"))?;
        call(&report, [message.into_pyobject(py)?.as_any(), rows.as_any()]).map(drop)
    }
}

impl Reporter for RunningCalls {
    fn report(&self, severity: Severity, message: &str) {
        LoggingReporter.report(severity, message);
    }

    fn report_stall(&self, message: &str) {
        Python::attach(|py| {
            if let Err(error) = self.describe(py, message) {
                log(py, ERROR, message, Some(&error));
            }
        });
    }
}
