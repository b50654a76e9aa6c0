//! The calls that have an exchange, by the numbers of their connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::prelude::*;

use super::call::AsgiCall;
use super::event_loop::CallId;
use crate::bindings::stuck::{StuckCall, StuckCalls, StuckReporter};
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::exchange::overdue::{OverdueCall, OverdueOutcome, RunningCall};
use crate::engine::scheduling::monitor_signal::MonitorSignal;

/// The open calls of one run.
#[derive(Default)]
pub struct OpenCalls {
    slots: Mutex<Vec<Option<Py<AsgiCall>>>>,
    open: AtomicUsize,
    // Those whose exchanges were taken away, until the driver has taken them.
    cut: Mutex<Vec<Py<AsgiCall>>>,
    // Those that the driver has taken, until they end.
    detached: Mutex<Vec<Py<AsgiCall>>>,
    // The watchdog waits on it while there is no call.
    start_signal: MonitorSignal,
    stuck_reporter: OnceLock<Arc<StuckReporter>>,
    // `threading.get_ident()` of the loop's thread.
    thread: AtomicU64,
}

// A list of calls, locked for a moment, never while Python code may run.
fn locked(calls: &Mutex<Vec<Py<AsgiCall>>>) -> MutexGuard<'_, Vec<Py<AsgiCall>>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenCalls {
    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Py<AsgiCall>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what reports calls that take too long.
    pub fn set_stuck_reporter(&self, reporter: Arc<StuckReporter>) {
        self.stuck_reporter.get_or_init(|| reporter);
    }

    /// Sets the thread of the loop, by its `threading.get_ident()`.
    pub fn set_thread(&self, ident: u64) {
        self.thread.store(ident, Ordering::Relaxed);
    }

    /// Whether calls that take too long are cancelled.
    pub fn interrupts(&self) -> bool {
        self.stuck_reporter.get().is_some_and(|reporter| reporter.interrupts())
    }

    /// Adds the call of a connection.
    pub fn insert(&self, call: &Bound<'_, AsgiCall>) {
        let token = call.get().id.token;
        let mut calls = self.lock();
        if calls.len() <= token {
            calls.resize_with(token + 1, || None);
        }
        let former = calls[token].replace(call.clone().unbind());
        drop(calls);
        self.open.fetch_add(usize::from(former.is_none()), Ordering::Relaxed);
        self.start_signal.wake();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The call with this number.
    pub fn get(&self, py: Python<'_>, id: CallId) -> Option<Py<AsgiCall>> {
        self.of_connection(py, id.token).filter(|call| call.get().id == id)
    }

    /// The call of a connection.
    pub fn of_connection(&self, py: Python<'_>, token: usize) -> Option<Py<AsgiCall>> {
        self.lock().get(token).and_then(Option::as_ref).map(|call| call.clone_ref(py))
    }

    /// All of them.
    pub fn all(&self, py: Python<'_>) -> Vec<Py<AsgiCall>> {
        self.lock().iter().flatten().map(|call| call.clone_ref(py)).collect()
    }

    /// The calls whose exchanges were taken away since the last call of this.
    pub fn take_cut(&self) -> Vec<Py<AsgiCall>> {
        std::mem::take(&mut *locked(&self.cut))
    }

    /// Keeps a call whose exchange was taken away for the watchdog, until it has ended or the run is over.
    pub fn keep_detached(&self, call: Py<AsgiCall>) {
        if self.stuck_reporter.get().is_none() {
            return;
        }
        let mut detached = locked(&self.detached);
        let (mut running, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *detached).into_iter().partition(|call| call.get().running().is_some());
        running.push(call);
        *detached = running;
        // Python's objects are released outside the lock.
        drop(detached);
        drop(ended);
    }

    /// The run is over: calls that have not ended are kept no longer, because they refer to the shard, and that to this.
    pub fn forget_detached(&self) {
        let detached = std::mem::take(&mut *locked(&self.detached));
        drop(detached);
    }

    // Does `with` each call that has not ended, until that gives something.
    fn find<T>(&self, mut with: impl FnMut(&AsgiCall) -> Option<T>) -> Option<T> {
        let found = self.lock().iter().flatten().find_map(|call| with(call.get()));
        found.or_else(|| {
            [&self.cut, &self.detached]
                .into_iter()
                .find_map(|calls| locked(calls).iter().find_map(|call| with(call.get())))
        })
    }

    fn find_running<T>(&self, call: &RunningCall, with: impl Fn(&AsgiCall) -> T) -> Option<T> {
        self.find(|other| other.running().filter(|other| other.ticket == call.ticket).map(|_| with(other)))
    }

    /// Removes a call, which has given its exchange back.
    pub fn remove(&self, id: CallId) {
        let freed = self.lock().get_mut(id.token).and_then(|slot| slot.take_if(|call| call.get().id == id));
        self.open.fetch_sub(usize::from(freed.is_some()), Ordering::Relaxed);
        // Outside the lock: it may be the last reference.
        drop(freed);
    }
}

impl InFlight for OpenCalls {
    // A loop has one shard.
    fn take(&self, _: usize, cut: Cut) -> Vec<Box<Exchange>> {
        // Event streams end themselves at a stop.
        if cut == Cut::EventStreams {
            return Vec::new();
        }
        let mut calls = self.lock();
        let range = match cut {
            Cut::Connection(ticket) | Cut::Overdue(ticket) => ticket.slot..(ticket.slot + 1).min(calls.len()),
            _ => 0..calls.len(),
        };
        let mut lost = locked(&self.cut);
        let mut take = |slot: &mut Option<Py<AsgiCall>>| {
            let exchange = slot.as_ref()?.get().cut(cut)?;
            lost.extend(slot.take());
            self.open.fetch_sub(1, Ordering::Relaxed);
            Some(exchange)
        };
        calls.get_mut(range).into_iter().flatten().filter_map(&mut take).collect()
    }

    fn requests(&self) -> Vec<String> {
        self.lock().iter().flatten().filter_map(|call| call.get().open_request()).collect()
    }
    fn running(&self) -> Vec<RunningCall> {
        let mut running = Vec::new();
        self.find(|call| {
            running.extend(call.running());
            None::<()>
        });
        running
    }

    fn start_signal(&self) -> Option<&MonitorSignal> {
        Some(&self.start_signal)
    }

    fn report_overdue(self: Arc<Self>, calls: &[OverdueCall], end: &dyn Fn(&OverdueCall) -> OverdueOutcome) -> bool {
        let ident = self.thread.load(Ordering::Relaxed);
        let stuck_call = |&overdue: &OverdueCall| {
            let (request, arrived) = self.find_running(&overdue.call, AsgiCall::request)?;
            Some(StuckCall { overdue, request, arrived, thread: "the event loop".to_owned(), ident })
        };
        let stuck: Vec<_> = calls.iter().filter_map(stuck_call).collect();
        let Some(reporter) = self.stuck_reporter.get().cloned().filter(|_| !stuck.is_empty()) else { return false };
        reporter.report(self, stuck, Vec::new(), end)
    }
}

impl StuckCalls for OpenCalls {
    // The loop cancels the task, when it is free.
    fn interrupt(&self, _: Python<'_>, _: &RunningCall) -> PyResult<()> {
        Ok(())
    }

    fn waiting_task(&self, py: Python<'_>, call: &RunningCall) -> Option<Py<PyAny>> {
        self.find_running(call, |call| call.waiting_task(py)).flatten()
    }
}
