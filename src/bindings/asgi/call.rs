//! One call of the application: its `receive` and `send`, and whoever waits for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::attendant::Attendant;
use super::awaitable::{Asked, Awaitable};
use super::conversation::{Conversation, Next};
use super::message::{Said, telling};
use crate::bindings::errors::is_gone;
use crate::bindings::reporter::{ERROR, log};
use crate::engine::exchange::Exchange;
use crate::engine::in_flight::Cut;

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
    talk: Box<dyn Conversation>,
    receivers: Vec<Py<PyAny>>,
    senders: Vec<Py<PyAny>>,
    // When the attendant will next look at it.
    scheduled: Option<Instant>,
    // It is among those that the attendant flushes.
    dirty: bool,
    // What the application did wrong last, should nobody else tell.
    misuse: Option<String>,
}

/// One call.
#[pyclass(frozen, module = "wsgi._core", name = "ASGICall")]
pub struct Call {
    attendant: Py<Attendant>,
    /// The number of the connection.
    pub token: usize,
    /// Its own number among all calls.
    pub serial: u64,
    is_websocket: bool,
    // The request line's first two words, for the log.
    place: String,
    state: Mutex<State>,
}

impl Call {
    /// A call about what is talked of.
    pub fn new(
        attendant: Py<Attendant>,
        serial: u64,
        token: usize,
        place: String,
        talk: Box<dyn Conversation>,
        is_websocket: bool,
    ) -> Self {
        let state =
            State { talk, receivers: Vec::new(), senders: Vec::new(), scheduled: None, dirty: false, misuse: None };
        Self { attendant, token, serial, is_websocket, place, state: Mutex::new(state) }
    }

    // Held only for a moment, never while Python code of the application's may run.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for the next message to the application.
    pub fn receive_now<'py>(slf: &Bound<'py, Self>) -> PyResult<Polled<'py>> {
        let (py, call) = (slf.py(), slf.get());
        let attendant = call.attendant.bind(py);
        let received = attendant.get().with_tools(|tools| call.lock().talk.receive(py, tools));
        Self::settle(slf);
        Ok(match received? {
            Next::Now(told) => Polled::Ready(Some(telling(py, told)?.into_any())),
            Next::Later(at) => {
                call.schedule(attendant, at);
                Polled::Later
            }
        })
    }

    /// Takes a message of the application's.
    pub fn send_now<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Polled<'py>> {
        let (py, call) = (slf.py(), slf.get());
        let attendant = call.attendant.bind(py);
        let sent = Said::read(message, call.is_websocket)
            .and_then(|said| attendant.get().with_tools(|tools| call.lock().talk.send(said, tools)));
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
        let attendant = call.attendant.bind(slf.py());
        let drained = attendant.get().with_tools(|tools| call.lock().talk.drain(tools));
        Self::settle(slf);
        Ok(match drained? {
            Next::Now(()) => Polled::Ready(None),
            Next::Later(at) => {
                call.schedule(attendant, at);
                Polled::Later
            }
        })
    }

    /// A future that is set when it is worth looking again.
    pub fn future<'py>(slf: &Bound<'py, Self>, receives: bool) -> PyResult<Bound<'py, PyAny>> {
        let call = slf.get();
        let future = call.attendant.bind(slf.py()).get().future(slf.py())?;
        let mut state = call.lock();
        let line = if receives { &mut state.receivers } else { &mut state.senders };
        line.push(future.clone().unbind());
        Ok(future)
    }

    /// Ends the process if it is a child that came back from the application.
    pub fn leave_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.attendant.bind(py).get().leave_if_forked(py, error)
    }

    /// Nobody waits for the request's body any more.
    pub fn pause(&self) {
        self.lock().talk.pause(Instant::now());
    }

    fn schedule(&self, attendant: &Bound<'_, Attendant>, at: Option<Instant>) {
        let Some(at) = at else { return };
        let mut state = self.lock();
        if state.scheduled.is_none_or(|earlier| earlier > at) {
            state.scheduled = Some(at);
            drop(state);
            Attendant::schedule(attendant, at, self.token, self.serial);
        }
    }

    /// The socket has changed.
    pub fn changed(slf: &Bound<'_, Self>) {
        let attendant = slf.get().attendant.bind(slf.py());
        attendant.get().with_tools(|tools| slf.get().lock().talk.look(tools));
        Self::wake(slf);
        Self::settle(slf);
    }

    /// An instant that it was scheduled for has come.
    pub fn expire(slf: &Bound<'_, Self>) {
        slf.get().lock().scheduled = None;
        Self::changed(slf);
    }

    /// The server is being stopped.
    pub fn stop(slf: &Bound<'_, Self>) {
        let attendant = slf.get().attendant.bind(slf.py());
        attendant.get().with_tools(|tools| slf.get().lock().talk.stop(tools));
        Self::changed(slf);
    }

    /// Sends what is gathered.
    pub fn flush(slf: &Bound<'_, Self>) {
        let mut state = slf.get().lock();
        state.dirty = false;
        let failed = state.talk.exchange().is_some_and(|exchange| exchange.flush().is_err());
        if failed {
            state.talk.lose();
        }
        drop(state);
        if failed {
            Self::settle(slf);
        }
    }

    // Whoever waits looks again.
    fn wake(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let waiting = {
            let mut state = slf.get().lock();
            let mut waiting = std::mem::take(&mut state.receivers);
            waiting.append(&mut state.senders);
            waiting
        };
        for future in waiting {
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

    // Gives the exchange back once nothing more can be said about it. Until then what is queued is to be sent, and the
    // conversation may have its own times.
    fn settle(slf: &Bound<'_, Self>) {
        let call = slf.get();
        let attendant = call.attendant.bind(slf.py());
        let mut becomes_dirty = false;
        let (concluded, due) = {
            let mut state = call.lock();
            let concluded = state.talk.take_concluded();
            if let Some(exchange) = state.talk.exchange() {
                let (pending, _) = exchange.traffic();
                if pending >= GATHER {
                    // A client that has gone is found right after.
                    let _ = exchange.flush();
                } else if pending > 0 {
                    becomes_dirty = !std::mem::replace(&mut state.dirty, true);
                }
            }
            (concluded, state.talk.due())
        };
        if let Some(exchange) = concluded {
            Attendant::conclude(attendant, slf, exchange);
            Self::wake(slf);
        } else {
            call.schedule(attendant, due);
        }
        if becomes_dirty {
            Attendant::flush_later(attendant, slf);
        }
    }

    /// Takes the exchange away, if a stop ends it so. The application learns of it from `receive` and `send`.
    pub fn cut(&self, cut: Cut) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        if state.talk.exchange().is_some_and(|exchange| cut.covers(exchange)) { state.talk.release() } else { None }
    }

    /// Whether it has no exchange any more.
    pub fn is_cut(&self) -> bool {
        self.lock().talk.exchange().is_none()
    }

    /// Method and path of the request.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The application's call is over.
    pub fn end(slf: &Bound<'_, Self>, ended: Ended) {
        let (py, call) = (slf.py(), slf.get());
        let attendant = call.attendant.bind(py);
        let (undone, misuse, let_down) = attendant.get().with_tools(|tools| {
            let mut state = call.lock();
            let let_down = state.talk.was_let_down();
            let undone = match &ended {
                Ended::Returned => state.talk.returned(tools),
                Ended::Raised(_) | Ended::Cancelled(_) => {
                    state.talk.raised(tools);
                    None
                }
            };
            (undone, state.misuse.take(), let_down)
        });
        Self::settle(slf);
        attendant.get().forget(call.serial);
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
            Ended::Raised(error) if let_down && comes_of_absence(py, &error) => {}
            Ended::Cancelled(_) if attendant.get().is_dismissed() || attendant.get().is_stopping() => {}
            Ended::Raised(error) | Ended::Cancelled(error) => {
                log(py, ERROR, &format!("the application failed at {}", call.place), Some(&error));
            }
        }
    }
}

// Whether an error says in its own way that the client has gone: it is the server's, follows from it, or is called so.
fn comes_of_absence(py: Python<'_>, error: &PyErr) -> bool {
    let mut link = Some(error.value(py).clone().into_any());
    // A chain of errors can be a ring.
    for _ in 0..16 {
        let Some(error) = link else { return false };
        let name = error.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        if is_gone(py, &PyErr::from_value(error.clone())) || name.contains("Disconnect") {
            return true;
        }
        let next = |name| error.getattr(name).ok().filter(|next: &Bound<'_, PyAny>| !next.is_none());
        link = next("__cause__").or_else(|| next("__context__"));
    }
    false
}

#[pymethods]
impl Call {
    fn receive(slf: Py<Self>) -> Awaitable {
        Awaitable::new(slf, Asked::Receive)
    }

    #[pyo3(signature = (message, /))]
    fn send(slf: Py<Self>, message: Py<PyAny>) -> Awaitable {
        Awaitable::new(slf, Asked::Send(message))
    }
}
