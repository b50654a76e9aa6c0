//! One call of the application: its `receive` and `send`, and whoever waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::awaitable::{Asked, Awaitable};
use super::loop_driver::LoopDriver;
use super::message::{SendEvent, to_dict};
use super::session::{Io, Next, OPERATION_BYTES, Session, TURN_BYTES};
use crate::bindings::errors::{comes_of_departure, is_gone};
use crate::bindings::reporter::{ERROR, INFO, log};
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::Cut;

/// What is gathered before it is sent, in bytes: what is more leaves at once, what is less at the end of the loop's turn.
const GATHER: u64 = 32 * 1024;

/// What an awaitable has at the moment.
pub enum Polled<'py> {
    /// Its result; nothing for `send`.
    Ready(Option<Bound<'py, PyAny>>),
    /// Nothing; a future is to be waited for.
    Later,
}

/// How the application's call came to its end.
pub enum Ended {
    /// It returned.
    Returned,
    /// It raised this.
    Raised(PyErr),
    /// Its task was cancelled, or thrown away.
    Cancelled(PyErr),
}

struct State {
    session: Box<dyn Session>,
    // The futures of those that wait, in the order in which they came.
    waiting: BTreeMap<u64, Py<PyAny>>,
    // The next one's number.
    ticket: u64,
    // When the driver will next look at it.
    scheduled: Option<Instant>,
    // It is among those that the driver flushes.
    dirty: bool,
    // What the application did wrong last, should nobody else tell.
    misuse: Option<String>,
    // A stop took the exchange away, and has event so.
    cut: bool,
}

/// One call.
#[pyclass(frozen, module = "wsgi._core", name = "ASGICall")]
pub struct Call {
    driver: Py<LoopDriver>,
    /// The number of the connection.
    pub token: usize,
    /// Its own number among all calls.
    pub serial: u64,
    is_websocket: bool,
    // The application's own task is inside a step.
    runs: AtomicBool,
    // What the application may still ask for before the others have their turn, in bytes.
    budget: AtomicUsize,
    // The request line's first two words, for the log.
    place: String,
    state: Mutex<State>,
}

impl Call {
    /// A call about what is talked of.
    pub fn new(
        driver: Py<LoopDriver>,
        serial: u64,
        token: usize,
        place: String,
        session: Box<dyn Session>,
        is_websocket: bool,
    ) -> Self {
        let waiting = BTreeMap::new();
        let state = State { session, waiting, ticket: 0, scheduled: None, dirty: false, misuse: None, cut: false };
        let (runs, budget) = (AtomicBool::new(false), AtomicUsize::new(TURN_BYTES));
        Self { driver, token, serial, is_websocket, runs, budget, place, state: Mutex::new(state) }
    }

    // Held only for a moment, never while Python code of the application's may run.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the others have their turn first. Then the next one is the application's again.
    pub fn must_yield(&self) -> bool {
        let is_spent = self.budget.load(Ordering::Relaxed) == 0;
        if is_spent {
            self.renew();
        }
        is_spent
    }

    // The loop is about to make a turn.
    fn renew(&self) {
        self.budget.store(TURN_BYTES, Ordering::Relaxed);
    }

    // Does what the application asks for, within its budget.
    fn work<T>(&self, py: Python<'_>, work: impl FnOnce(&mut dyn Session, &mut Io<'_>) -> T) -> T {
        self.driver.bind(py).get().with_io(|io| {
            io.budget = self.budget.load(Ordering::Relaxed);
            let done = work(&mut *self.lock().session, io);
            io.spend(OPERATION_BYTES);
            self.budget.store(io.budget, Ordering::Relaxed);
            done
        })
    }

    /// Looks for the next message to the application.
    pub fn receive_now<'py>(slf: &Bound<'py, Self>) -> PyResult<Polled<'py>> {
        let (py, call) = (slf.py(), slf.get());
        let driver = call.driver.bind(py);
        let received = call.work(py, |session, io| session.receive(py, io));
        Self::settle(slf);
        Ok(match received? {
            Next::Now(told) => Polled::Ready(Some(to_dict(py, told)?.into_any())),
            Next::Later(at) => {
                call.schedule(driver, at);
                Polled::Later
            }
        })
    }

    /// Takes a message of the application's.
    pub fn send_now<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Polled<'py>> {
        let (py, call) = (slf.py(), slf.get());
        let event = SendEvent::read(message, call.is_websocket);
        let sent = call.work(py, |session, io| {
            let event = event?;
            io.spend(event.size());
            session.send(event, io)
        });
        if let Err(error) = &sent {
            let misuse = (!is_gone(py, error)).then(|| error.value(py).to_string());
            call.lock().misuse = misuse;
        }
        Self::settle(slf);
        sent?;
        Self::drain_now(slf)
    }

    /// Looks whether the client has caught up.
    pub fn drain_now<'py>(slf: &Bound<'py, Self>) -> PyResult<Polled<'py>> {
        let call = slf.get();
        let driver = call.driver.bind(slf.py());
        let drained = driver.get().with_io(|io| call.lock().session.drain(io));
        Self::settle(slf);
        Ok(match drained? {
            Next::Now(()) => Polled::Ready(None),
            Next::Later(at) => {
                call.schedule(driver, at);
                Polled::Later
            }
        })
    }

    /// A future that is set when it is worth looking again, and the number under which it waits: whoever stops waiting for
    /// it says so.
    pub fn line_up<'py>(slf: &Bound<'py, Self>) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let call = slf.get();
        let future = call.driver.bind(slf.py()).get().future(slf.py())?;
        let mut state = call.lock();
        state.ticket += 1;
        let ticket = state.ticket;
        call.renew();
        state.waiting.insert(ticket, future.clone().unbind());
        Ok((ticket, future))
    }

    /// The waiter with this number has what it waited for, or wants it no more. `pauses`: nobody waits for the request's body
    /// any more.
    pub fn leave_line(&self, ticket: u64, pauses: bool) {
        let mut state = self.lock();
        let future = state.waiting.remove(&ticket);
        if pauses {
            state.session.pause(Instant::now());
        }
        drop(state);
        // Outside the lock: it may be the last to hold what waits.
        drop(future);
    }

    /// Ends the process if it is a child that came back from the application.
    pub fn leave_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.driver.bind(py).get().leave_if_forked(py, error)
    }

    fn schedule(&self, driver: &Bound<'_, LoopDriver>, at: Option<Instant>) {
        let Some(at) = at else { return };
        let mut state = self.lock();
        if state.scheduled.is_none_or(|earlier| earlier > at) {
            state.scheduled = Some(at);
            drop(state);
            LoopDriver::schedule(driver, at, self.token, self.serial);
        }
    }

    /// The application's task begins a step.
    pub fn run(&self) {
        self.runs.store(true, Ordering::Relaxed);
    }

    /// The step is over: a head to which no content was given is sent after a moment.
    pub fn rest(slf: &Bound<'_, Self>) {
        let call = slf.get();
        call.runs.store(false, Ordering::Relaxed);
        let head_due = call.lock().session.head_due();
        call.schedule(call.driver.bind(slf.py()), head_due);
    }

    /// The socket has changed.
    pub fn changed(slf: &Bound<'_, Self>) {
        let driver = slf.get().driver.bind(slf.py());
        driver.get().with_io(|io| slf.get().lock().session.advance(io));
        Self::wake(slf);
        Self::settle(slf);
    }

    /// An instant that it was scheduled for has come.
    pub fn expire(slf: &Bound<'_, Self>, now: Instant) {
        // An earlier look may have moved it.
        if slf.get().lock().scheduled.take_if(|at| *at <= now).is_some() {
            Self::changed(slf);
        }
    }

    /// The server is being stopped.
    pub fn stop(slf: &Bound<'_, Self>) {
        let driver = slf.get().driver.bind(slf.py());
        driver.get().with_io(|io| slf.get().lock().session.stop(io));
        Self::changed(slf);
    }

    /// What it costs the others in memory that all share.
    pub fn weight(&self, now: Instant) -> u128 {
        self.lock().session.weight(now)
    }

    /// There is no memory left, and it is to make room.
    pub fn evict(slf: &Bound<'_, Self>) {
        let driver = slf.get().driver.bind(slf.py());
        driver.get().with_io(|io| slf.get().lock().session.evict(io));
        Self::wake(slf);
        Self::settle(slf);
    }

    /// Sends what is gathered.
    pub fn flush(slf: &Bound<'_, Self>) {
        let mut state = slf.get().lock();
        state.dirty = false;
        let failed = state.session.exchange().is_some_and(|exchange| exchange.flush().is_err());
        if failed {
            state.session.lose();
        }
        drop(state);
        if failed {
            Self::settle(slf);
        }
    }

    // Whoever waits looks again.
    fn wake(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let waiting = std::mem::take(&mut slf.get().lock().waiting);
        for future in waiting.into_values() {
            let set = future.bind(py).call_method0(intern!(py, "done")).and_then(|done| {
                if done.is_truthy()? {
                    Ok(())
                } else {
                    future.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
                }
            });
            if let Err(error) = set {
                log(py, ERROR, "an application that waits for its client could not be woken", Some(&error));
            }
        }
    }

    // Gives the exchange back once nothing more can be event about it. Until then what is queued is to be sent, and the
    // session may have its own times.
    fn settle(slf: &Bound<'_, Self>) {
        let call = slf.get();
        let driver = call.driver.bind(slf.py());
        let mut becomes_dirty = false;
        let (concluded, due) = {
            let mut state = call.lock();
            let concluded = state.session.take_concluded();
            if let Some(exchange) = state.session.exchange() {
                let (pending, _) = exchange.traffic();
                if pending >= GATHER {
                    // A client that has gone is found right after.
                    let _ = exchange.flush();
                } else if pending > 0 {
                    becomes_dirty = !std::mem::replace(&mut state.dirty, true);
                }
            }
            // While the application runs, content may follow at once: `rest` sees to the head then.
            let head_due = if call.runs.load(Ordering::Relaxed) { None } else { state.session.head_due() };
            (concluded, [state.session.due(), head_due].into_iter().flatten().min())
        };
        if let Some(exchange) = concluded {
            LoopDriver::conclude(driver, slf, exchange);
            Self::wake(slf);
        } else {
            call.schedule(driver, due);
        }
        if becomes_dirty {
            LoopDriver::flush_later(driver, slf);
        }
    }

    /// Takes the exchange away, if it is ended so. The application learns of it from `receive` and `send`.
    pub fn cut(&self, cut: Cut) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        let taken = state.session.exchange().is_some_and(|exchange| cut.covers(exchange));
        state.cut |= taken;
        if taken { state.session.release() } else { None }
    }

    /// Method and path of the request.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The application's call is over.
    pub fn end(slf: &Bound<'_, Self>, ended: Ended) {
        let (py, call) = (slf.py(), slf.get());
        let driver = call.driver.bind(py);
        let (undone, misuse, let_down, cut_short) = driver.get().with_io(|io| {
            let mut state = call.lock();
            let (let_down, cut_short) =
                if state.cut { (true, None) } else { (state.session.was_let_down(), state.session.cut_short()) };
            let undone = match &ended {
                Ended::Returned => state.session.returned(io),
                Ended::Raised(_) | Ended::Cancelled(_) => {
                    state.session.raised(io);
                    None
                }
            };
            (undone, state.misuse.take(), let_down, cut_short)
        });
        Self::settle(slf);
        driver.get().forget(call.serial);
        if let Some(why) = cut_short {
            log(py, INFO, &format!("{why} at {}", call.place), None);
        }
        match ended {
            Ended::Returned => {
                if let Some(misuse) = misuse {
                    log(py, ERROR, &format!("the application broke ASGI at {}: {misuse}", call.place), None);
                }
                if let Some(undone) = undone {
                    log(py, ERROR, &format!("the application {undone} at {}", call.place), None);
                }
            }
            // One that could not have its request, or lost its client, has nothing to answer for; nor has one that was told
            // to stop.
            Ended::Raised(error) if let_down && comes_of_departure(py, &error) => {}
            Ended::Cancelled(_) if let_down || driver.get().is_dismissed() || driver.get().is_stopping() => {}
            Ended::Raised(error) | Ended::Cancelled(error) => {
                log(py, ERROR, &format!("the application failed at {}", call.place), Some(&error));
            }
        }
    }
}

/// The application's second argument. A class of its own, and no method of the call: `wsgi.asgi` marks it as a coroutine
/// function, which a built-in method cannot be.
#[pyclass(frozen, module = "wsgi._core", name = "ASGIReceive")]
pub struct ReceiveFn(pub Py<Call>);

#[pymethods]
impl ReceiveFn {
    #[getter]
    fn __name__(_: &Bound<'_, Self>) -> &'static str {
        "receive"
    }

    fn __call__(&self, py: Python<'_>) -> Awaitable {
        Awaitable::new(self.0.clone_ref(py), Asked::Receive)
    }
}

/// The application's third argument, likewise.
#[pyclass(frozen, module = "wsgi._core", name = "ASGISend")]
pub struct SendFn(pub Py<Call>);

#[pymethods]
impl SendFn {
    #[getter]
    fn __name__(_: &Bound<'_, Self>) -> &'static str {
        "send"
    }

    #[pyo3(signature = (message, /))]
    fn __call__(&self, py: Python<'_>, message: Py<PyAny>) -> Awaitable {
        Awaitable::new(self.0.clone_ref(py), Asked::Send(message))
    }
}
