//! The calls that the workers of a run are in: a stop may end them without their workers, and a stall is reported with what
//! each of them is about.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::call::{Call, place};
use crate::bindings::ffi::call;
use crate::bindings::reporter::{ERROR, LoggingReporter, log, tell};
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::gateway::{Reporter, Severity};

// What one worker makes its calls with.
struct Slot {
    // Its `threading.get_ident()`.
    ident: u64,
    call: Py<Call>,
}

/// One call for each worker, by the workers' numbers.
#[derive(Default)]
pub struct Calls(Mutex<Vec<Option<Slot>>>);

impl Calls {
    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what worker number `index`, whose `threading.get_ident()` is `ident`, uses for its requests from here on.
    pub fn set(&self, index: usize, ident: u64, call: &Bound<'_, Call>) {
        self.replace(index, Some(Slot { ident, call: call.clone().unbind() }));
    }

    /// Forgets a worker's call, of which the application keeps something.
    pub fn clear(&self, index: usize) {
        self.replace(index, None);
    }

    fn replace(&self, index: usize, slot: Option<Slot>) {
        let mut slots = self.lock();
        if slots.len() <= index {
            slots.resize_with(index + 1, || None);
        }
        let former = slots.get_mut(index).and_then(|former| std::mem::replace(former, slot));
        // Python's objects are let go outside the lock.
        drop(slots);
        drop(former);
    }

    // Of each call that runs: its thread's name and `threading.get_ident()`, the request, and its age in seconds.
    fn running(&self) -> Vec<(String, u64, String, f64)> {
        let running = |(index, slot): (usize, &Option<Slot>)| {
            let Slot { ident, call } = slot.as_ref()?;
            let (name, age) = call.get().with(|exchange| (place(exchange), exchange.arrived().elapsed()))?;
            Some((format!("wsgi-worker-{index}"), *ident, name, age.as_secs_f64()))
        };
        self.lock().iter().enumerate().filter_map(running).collect()
    }
}

impl InFlight for Calls {
    fn take(&self, shard: usize, cut: Cut) -> Vec<Box<Exchange>> {
        self.lock().iter().flatten().filter_map(|slot| slot.call.get().cut(shard, cut)).collect()
    }

    fn requests(&self) -> Vec<String> {
        let running = |slot: &Slot| slot.call.get().place().or_else(|| slot.call.get().cut_place());
        self.lock().iter().flatten().filter_map(running).collect()
    }
}

impl Reporter for Calls {
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
