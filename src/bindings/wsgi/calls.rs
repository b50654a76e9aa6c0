//! The calls that the workers of a run are in, so that a stop can take their exchanges away, and the report of a stall or of a
//! call that takes too long can name their requests.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::call::WsgiCall;
use crate::bindings::errors::request_timeout;
use crate::bindings::ffi::call;
use crate::bindings::reporter::{ERROR, LoggingReporter, log, tell};
use crate::bindings::stuck::{RunningThread, StuckCall, StuckCalls, StuckReporter};
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::exchange::overdue::{OverdueCall, OverdueOutcome, RunningCall};
use crate::engine::report::{Reporter, Severity};
use crate::engine::scheduling::monitor_signal::MonitorSignal;

// The call object of one worker, used for one request after the other.
struct WorkerSlot {
    // Its `threading.get_ident()`.
    ident: u64,
    call: Py<WsgiCall>,
}

/// One call for each worker, by the workers' numbers.
#[derive(Default)]
pub struct WorkerCalls {
    slots: Mutex<Vec<Option<WorkerSlot>>>,
    // The watchdog waits on it while no call runs.
    start_signal: MonitorSignal,
    stuck_reporter: OnceLock<Arc<StuckReporter>>,
}

impl WorkerCalls {
    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<WorkerSlot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the call object of worker number `index`, whose `threading.get_ident()` is `ident`.
    pub fn set(&self, index: usize, ident: u64, call: &Bound<'_, WsgiCall>) {
        self.replace(index, Some(WorkerSlot { ident, call: call.clone().unbind() }));
    }

    /// Sets what reports calls that take too long.
    pub fn set_stuck_reporter(&self, reporter: Arc<StuckReporter>) {
        self.stuck_reporter.get_or_init(|| reporter);
    }

    /// A call of the application begins.
    pub fn note_start(&self) {
        self.start_signal.wake();
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

    // Of each call that runs.
    fn running_threads(&self) -> Vec<RunningThread> {
        let running = |(index, slot): (usize, &Option<WorkerSlot>)| {
            let WorkerSlot { ident, call } = slot.as_ref()?;
            let (name, arrived) = call.get().request()?;
            Some((thread_name(index), *ident, name, arrived.elapsed().as_secs_f64()))
        };
        self.lock().iter().enumerate().filter_map(running).collect()
    }

    // What a report says of a call that takes too long; `None` if it has returned meanwhile.
    fn stuck_call(&self, overdue: OverdueCall) -> Option<StuckCall> {
        let is_same =
            |slot: &WorkerSlot| slot.call.get().running().is_some_and(|running| running.ticket == overdue.call.ticket);
        let slots = self.lock();
        let (index, slot) = slots
            .iter()
            .enumerate()
            .find_map(|(index, slot)| slot.as_ref().filter(|slot| is_same(slot)).map(|slot| (index, slot)))?;
        let (request, arrived): (String, Instant) = slot.call.get().request()?;
        Some(StuckCall { overdue, request, arrived, thread: thread_name(index), ident: slot.ident })
    }
}

fn thread_name(index: usize) -> String {
    format!("wsgi-worker-{index}")
}

impl StuckCalls for WorkerCalls {
    fn interrupt(&self, py: Python<'_>, call: &RunningCall) -> PyResult<()> {
        let kind = request_timeout(py)?;
        self.lock().iter().flatten().for_each(|slot| slot.call.get().interrupt(call, kind.as_any()));
        Ok(())
    }

    fn waiting_task(&self, _: Python<'_>, _: &RunningCall) -> Option<Py<PyAny>> {
        None
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

    fn running(&self) -> Vec<RunningCall> {
        self.lock().iter().flatten().filter_map(|slot| slot.call.get().running()).collect()
    }

    fn start_signal(&self) -> Option<&MonitorSignal> {
        Some(&self.start_signal)
    }

    fn report_overdue(self: Arc<Self>, calls: &[OverdueCall], end: &dyn Fn(&OverdueCall) -> OverdueOutcome) -> bool {
        let stuck: Vec<_> = calls.iter().filter_map(|&overdue| self.stuck_call(overdue)).collect();
        let Some(reporter) = self.stuck_reporter.get().cloned().filter(|_| !stuck.is_empty()) else { return false };
        let running = self.running_threads();
        reporter.report(self, stuck, running, end)
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
        let calls = self.running_threads();
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
