//! The calls that the workers of a run are in, so that a stop can take their exchanges away, and a report of a stall can name
//! their requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::call::WsgiCall;
use crate::bindings::ffi::call;
use crate::bindings::reporter::{ERROR, LoggingReporter, log, tell};
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::report::{Reporter, Severity};

// The call object of one worker, used for one request after the other.
struct WorkerSlot {
    // Its `threading.get_ident()`.
    ident: u64,
    call: Py<WsgiCall>,
}

/// One call for each worker, by the workers' numbers.
#[derive(Default)]
pub struct WorkerCalls(Mutex<Vec<Option<WorkerSlot>>>);

impl WorkerCalls {
    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<WorkerSlot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the call object of worker number `index`, whose `threading.get_ident()` is `ident`.
    pub fn set(&self, index: usize, ident: u64, call: &Bound<'_, WsgiCall>) {
        self.replace(index, Some(WorkerSlot { ident, call: call.clone().unbind() }));
    }

    /// Removes a worker's call object, to which the application still has a reference.
    pub fn clear(&self, index: usize) {
        self.replace(index, None);
    }

    fn replace(&self, index: usize, slot: Option<WorkerSlot>) {
        let mut slots = self.lock();
        if slots.len() <= index {
            slots.resize_with(index + 1, || None);
        }
        let former = slots.get_mut(index).and_then(|former| std::mem::replace(former, slot));
        // Python's objects are released outside the lock.
        drop(slots);
        drop(former);
    }

    // Of each call that runs: its thread's name and `threading.get_ident()`, the request, and its age in seconds.
    fn running(&self) -> Vec<(String, u64, String, f64)> {
        let running = |(index, slot): (usize, &Option<WorkerSlot>)| {
            let WorkerSlot { ident, call } = slot.as_ref()?;
            let (name, age) =
                call.get().with(|exchange| (exchange.request().method_and_path(), exchange.arrived().elapsed()))?;
            Some((format!("wsgi-worker-{index}"), *ident, name, age.as_secs_f64()))
        };
        self.lock().iter().enumerate().filter_map(running).collect()
    }
}

impl InFlight for WorkerCalls {
    fn take(&self, shard: usize, cut: Cut) -> Vec<Box<Exchange>> {
        self.lock().iter().flatten().filter_map(|slot| slot.call.get().cut(shard, cut)).collect()
    }

    fn requests(&self) -> Vec<String> {
        let running = |slot: &WorkerSlot| slot.call.get().method_and_path();
        self.lock().iter().flatten().filter_map(running).collect()
    }
}

impl Reporter for WorkerCalls {
    fn report(&self, severity: Severity, message: &str) {
        LoggingReporter.report(severity, message);
    }

    fn wants_debug(&self) -> bool {
        LoggingReporter.wants_debug()
    }

    fn report_stall(&self, message: String) {
        let calls = self.running();
        tell(move |py| {
            let described = py.import(intern!(py, "wsgi.stalls")).and_then(|module| {
                let report = module.getattr(intern!(py, "report_stall"))?;
                call(&report, [PyString::new(py, &message).as_any(), PyList::new(py, &calls)?.as_any()])
            });
            if let Err(error) = described {
                log(py, ERROR, &message, Some(&error));
            }
        });
    }
}
