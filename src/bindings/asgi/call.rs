//! One call of the application: the session it is about, its budget for a turn of the loop, and the futures of what waits in
//! its `receive` and `send`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::event_loop::{CallId, EventLoop};
use super::send_event::SendEvent;
use super::session::{Io, OPERATION_BYTES, PollOutcome, Session, TURN_BYTES};
use super::websocket_registry::MemoryHolder;
use crate::bindings::errors::{is_caused_by_disconnect, is_client_disconnected};
use crate::bindings::reporter::{ERROR, INFO, log};
use crate::bindings::stuck;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::exchange::overdue::{CallStage, RunningCall};
use crate::engine::exchange::ticket::Ticket;

/// Gathered content is sent at once from this size on, and at the end of the loop's turn below it.
const GATHER_BYTES: u64 = 32 * 1024;

/// The result of an awaitable, none for `send`; pending if it is to wait for a future.
pub type OperationPoll<'py> = Poll<Option<Bound<'py, PyAny>>>;

/// How the application's call ended.
pub enum Ended {
    /// It returned.
    Returned,
    /// It raised this.
    Raised(PyErr),
    /// Its task was cancelled, or its coroutine closed.
    Cancelled(PyErr),
}

struct AsgiCallState {
    session: Box<dyn Session>,
    // The futures that `receive` and `send` wait for, by ticket, in order.
    waiting: BTreeMap<u64, Py<PyAny>>,
    last_ticket: u64,
    // The deadline that the event loop has for this call.
    scheduled: Option<Instant>,
    // The event loop will flush it.
    dirty: bool,
    // The last error of the application that was raised to it by `send`, in case it returns without one.
    misuse: Option<String>,
    // Why the exchange was taken away, if it was.
    cut: Option<Cut>,
    // The application has returned, raised or was cancelled.
    has_ended: bool,
}

/// One call.
#[pyclass(frozen, module = "wsgi._core", name = "ASGICall")]
pub struct AsgiCall {
    event_loop: Arc<EventLoop>,
    /// Its number.
    pub id: CallId,
    is_websocket: bool,
    // The application's own task is inside a step.
    runs: AtomicBool,
    // What the application may still do in this turn of the loop, in bytes.
    budget: AtomicUsize,
    // Method and path, for the log.
    request: String,
    // Of its exchange.
    ticket: Ticket,
    arrived: Instant,
    state: Mutex<AsgiCallState>,
}

impl AsgiCall {
    /// A call about a session. `request` is its method and path, for the log.
    pub fn new(
        event_loop: Arc<EventLoop>,
        id: CallId,
        request: String,
        mut session: Box<dyn Session>,
        is_websocket: bool,
    ) -> Self {
        let (ticket, arrived) = session
            .exchange()
            .map_or_else(|| (Ticket::default(), Instant::now()), |exchange| (exchange.ticket(), exchange.arrived()));
        let state = AsgiCallState {
            session,
            waiting: BTreeMap::new(),
            last_ticket: 0,
            scheduled: None,
            dirty: false,
            misuse: None,
            cut: None,
            has_ended: false,
        };
        let (runs, budget) = (AtomicBool::new(false), AtomicUsize::new(TURN_BYTES));
        Self { event_loop, id, is_websocket, runs, budget, request, ticket, arrived, state: Mutex::new(state) }
    }

    // Held only for a moment, never while Python code of the application's may run.
    fn lock(&self) -> MutexGuard<'_, AsgiCallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the budget is spent, so that other tasks have their turn first. It is renewed then.
    pub fn must_yield(&self) -> bool {
        let is_spent = self.budget.load(Ordering::Relaxed) == 0;
        if is_spent {
            self.renew();
        }
        is_spent
    }

    fn renew(&self) {
        self.budget.store(TURN_BYTES, Ordering::Relaxed);
    }

    // Does what the application asks for, within its budget.
    fn work<T>(&self, work: impl FnOnce(&mut dyn Session, &mut Io<'_>) -> T) -> T {
        self.event_loop.with_io(|io| {
            io.budget = self.budget.load(Ordering::Relaxed);
            let done = work(&mut *self.lock().session, io);
            io.spend(OPERATION_BYTES);
            self.budget.store(io.budget, Ordering::Relaxed);
            done
        })
    }

    /// Looks for the next message to the application.
    pub fn receive_now<'py>(&self, py: Python<'py>) -> PyResult<OperationPoll<'py>> {
        let received = self.work(|session, io| session.receive(py, io));
        self.settle(py);
        Ok(match received? {
            PollOutcome::Ready(event) => Poll::Ready(Some(event.into_dict(py)?.into_any())),
            PollOutcome::Pending(at) => {
                self.schedule(py, at);
                Poll::Pending
            }
        })
    }

    /// Takes a message of the application's.
    pub fn send_now<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<OperationPoll<'py>> {
        let py = message.py();
        let event = SendEvent::read(message, self.is_websocket);
        let sent = self.work(|session, io| {
            let event = event?;
            io.spend(event.size());
            session.send(event, io)
        });
        if let Err(error) = &sent {
            let misuse = (!is_client_disconnected(py, error)).then(|| error.value(py).to_string());
            self.lock().misuse = misuse;
        }
        self.settle(py);
        sent?;
        self.drain_now(py)
    }

    /// Looks whether the application can go on sending.
    pub fn drain_now<'py>(&self, py: Python<'py>) -> PyResult<OperationPoll<'py>> {
        let drained = self.event_loop.with_io(|io| self.lock().session.drain(io));
        self.settle(py);
        Ok(match drained? {
            PollOutcome::Ready(()) => Poll::Ready(None),
            PollOutcome::Pending(at) => {
                self.schedule(py, at);
                Poll::Pending
            }
        })
    }

    /// A future that is set when it is worth looking again, and its ticket for [`AsgiCall::stop_waiting`].
    pub fn wait<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let future = self.event_loop.future(py)?;
        let mut state = self.lock();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        self.renew();
        state.waiting.insert(ticket, future.clone().unbind());
        Ok((ticket, future))
    }

    /// Drops the future with this ticket. `pauses`: it waited for the request's body, and nothing does any more.
    pub fn stop_waiting(&self, ticket: u64, pauses: bool) {
        let mut state = self.lock();
        let future = state.waiting.remove(&ticket);
        if pauses {
            state.session.pause(Instant::now());
        }
        drop(state);
        // Outside the lock: it may be the last reference.
        drop(future);
    }

    /// Exits the process if it is a forked child that returned from the application.
    pub fn exit_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.event_loop.exit_if_forked(py, error)
    }

    fn schedule(&self, py: Python<'_>, at: Option<Instant>) {
        let Some(at) = at else { return };
        let mut state = self.lock();
        if state.scheduled.is_none_or(|earlier| earlier > at) {
            state.scheduled = Some(at);
            drop(state);
            self.event_loop.schedule(py, at, self.id);
        }
    }

    /// The application's task begins a step.
    pub fn run(&self) {
        self.runs.store(true, Ordering::Relaxed);
    }

    /// The step is over: a head without content is sent after a moment.
    pub fn rest(&self, py: Python<'_>) {
        self.runs.store(false, Ordering::Relaxed);
        let head_due = self.lock().session.head_due();
        self.schedule(py, head_due);
    }

    /// The socket has changed.
    pub fn changed(&self, py: Python<'_>) {
        self.event_loop.with_io(|io| self.lock().session.advance(io));
        self.wake(py);
        self.settle(py);
    }

    /// The instant that it was scheduled for has come, unless it was moved.
    pub fn expire(&self, py: Python<'_>, now: Instant) {
        if self.lock().scheduled.take_if(|at| *at <= now).is_some() {
            self.changed(py);
        }
    }

    /// The server is being stopped.
    pub fn stop(&self, py: Python<'_>) {
        let is_restart = self.event_loop.shard().is_retiring();
        self.event_loop.with_io(|io| self.lock().session.stop(is_restart, io));
        self.changed(py);
    }

    /// Sends what is gathered.
    pub fn flush(&self, py: Python<'_>) {
        let mut state = self.lock();
        state.dirty = false;
        let failed = state.session.exchange().is_some_and(|exchange| exchange.flush().is_err());
        if failed {
            state.session.lose();
        }
        drop(state);
        if failed {
            self.settle(py);
        }
    }

    // Sets the futures of what waits.
    fn wake(&self, py: Python<'_>) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for future in waiting.into_values() {
            let set = future.bind(py).call_method0(intern!(py, "done")).and_then(|done| {
                if done.is_truthy()? {
                    Ok(())
                } else {
                    future.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
                }
            });
            if let Err(error) = set {
                log(py, ERROR, "a future that an application waits for could not be set", Some(&error));
            }
        }
    }

    // Gives the exchange back once the session is done with it. Until then what is gathered is to be sent, and the session may
    // have deadlines.
    fn settle(&self, py: Python<'_>) {
        let mut becomes_dirty = false;
        let (concluded, due) = {
            let mut state = self.lock();
            let concluded = state.session.take_concluded();
            if let Some(exchange) = state.session.exchange() {
                let (pending, _) = exchange.traffic();
                if pending >= GATHER_BYTES {
                    // An error is found by the next look at the session.
                    let _ = exchange.flush();
                } else if pending > 0 {
                    becomes_dirty = !std::mem::replace(&mut state.dirty, true);
                }
            }
            // While the application runs, content may follow at once: `rest` schedules the head then.
            let head_due = if self.runs.load(Ordering::Relaxed) { None } else { state.session.head_due() };
            (concluded, [state.session.due(), head_due].into_iter().flatten().min())
        };
        if let Some(exchange) = concluded {
            self.event_loop.conclude(py, self.id, exchange);
            self.wake(py);
        } else {
            self.schedule(py, due);
        }
        if becomes_dirty {
            self.event_loop.flush_later(py, self.id);
        }
    }

    /// Takes the exchange away if `cut` covers it. The application learns of it from `receive` and `send`.
    pub fn cut(&self, cut: Cut) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        let taken = state.session.exchange().is_some_and(|exchange| cut.covers(exchange));
        if !taken {
            return None;
        }
        state.cut = Some(cut);
        state.session.release()
    }

    // Whether the exchange was taken away because the call took too long.
    fn is_overdue(&self) -> bool {
        matches!(self.lock().cut, Some(Cut::Overdue(_)))
    }

    /// Cancels the application's task, once, if its exchange was taken away because it took too long.
    pub fn cancel_if_overdue(&self, py: Python<'_>) {
        if self.is_overdue() {
            self.event_loop.cancel_task(py, self.id);
        }
    }

    /// What the application is to do next. `None`: it has given its response, or has returned.
    pub fn running(&self) -> Option<RunningCall> {
        let mut state = self.lock();
        if state.has_ended {
            return None;
        }
        let is_cut = state.cut.is_some();
        let next = match state.session.exchange() {
            _ if self.is_websocket => CallStage::Unlimited,
            Some(exchange) => exchange.stage(),
            None if is_cut => CallStage::Detached,
            None => return None,
        };
        Some(RunningCall { ticket: self.ticket, stage: next, is_closing: false })
    }

    /// Method and path of the request, and when it was complete.
    pub fn request(&self) -> (String, Instant) {
        (self.request.clone(), self.arrived)
    }

    /// The task, unless it is inside a step.
    pub fn waiting_task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if self.runs.load(Ordering::Relaxed) { None } else { self.event_loop.task(py, self.id) }
    }

    /// Method and path of the request; none once its exchange was given back.
    pub fn open_request(&self) -> Option<String> {
        self.lock().session.exchange().map(|_| self.request.clone())
    }

    /// The application has returned, raised or was cancelled.
    pub fn end(&self, py: Python<'_>, ended: Ended) {
        let (undone, misuse, interrupted, cut_short) = self.event_loop.with_io(|io| {
            let mut state = self.lock();
            let (interrupted, cut_short) = if state.cut.is_some() {
                (true, None)
            } else {
                (state.session.was_interrupted(), state.session.cut_short())
            };
            let undone = match &ended {
                Ended::Returned => state.session.returned(io),
                Ended::Raised(_) | Ended::Cancelled(_) => {
                    state.session.raised(io);
                    None
                }
            };
            (undone, state.misuse.take(), interrupted, cut_short)
        });
        self.lock().has_ended = true;
        self.settle(py);
        self.event_loop.end(py, self.id, self.is_websocket);
        if self.is_overdue() {
            stuck::log_end(py, &self.request, self.arrived);
        }
        if let Some(why) = cut_short {
            log(py, INFO, &format!("{why} at {}", self.request), None);
        }
        match ended {
            Ended::Returned => {
                if let Some(misuse) = misuse {
                    log(py, ERROR, &format!("the application broke ASGI at {}: {misuse}", self.request), None);
                }
                if let Some(undone) = undone {
                    log(py, ERROR, &format!("the application {undone} at {}", self.request), None);
                }
            }
            // No error of the application: it lost its client, or was cancelled by a stop.
            Ended::Raised(error) if interrupted && is_caused_by_disconnect(py, &error) => {}
            Ended::Cancelled(_) if interrupted || self.event_loop.cancels() => {}
            Ended::Raised(error) | Ended::Cancelled(error) => {
                log(py, ERROR, &format!("the application failed at {}", self.request), Some(&error));
            }
        }
    }
}

impl MemoryHolder for AsgiCall {
    fn eviction_weight(slf: &Bound<'_, Self>, now: Instant) -> u128 {
        slf.get().lock().session.eviction_weight(now)
    }

    fn evict(slf: &Bound<'_, Self>) {
        let (py, call) = (slf.py(), slf.get());
        call.event_loop.with_io(|io| call.lock().session.evict(io));
        call.wake(py);
        call.settle(py);
    }
}
