//! One call of the application: `start_response`, the `write` it returns, and what else an application may ask of its
//! exchange.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyList, PyString, PyTuple};

use crate::bindings::errors::{Failure, stopping};
use crate::bindings::ffi::with_latin1;
use crate::engine::body::BodyStream;
use crate::engine::clock::Clock;
use crate::engine::exchange::{Content, Exchange, Gone, Progress};
use crate::engine::in_flight::Cut;
use crate::engine::wire::Wire;
use crate::http::head::ResponseHead;
use crate::http1::plan::BodySize;
use crate::interface::outgoing::{self, Kept};
use crate::net::stream::Presence;

use super::input::InputStream;

struct State {
    // Absent once the call is over.
    exchange: Option<Box<Exchange>>,
    head: Option<ResponseHead>,
    // The method of that name, as long as the call goes on: a reference to ourselves.
    write: Option<Py<PyAny>>,
    // The request's body is still arriving.
    streams: bool,
    gone: bool,
    // A stop took the exchange away: method and path of its request.
    cut: Option<String>,
    // What is known of the client once the call is over. Weak: an application that keeps its environ must not keep the
    // connection open.
    wire: Weak<Wire>,
}

impl State {
    fn has_begun(&self) -> bool {
        self.exchange.as_ref().is_none_or(|exchange| exchange.progress() != Progress::Waiting)
    }
}

/// One call of the application. Its methods are what the application is given: as methods of a built-in class, Python
/// calls them without making a tuple of their arguments.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Call {
    state: Mutex<State>,
    input: Py<InputStream>,
}

impl Call {
    /// A call that reads its request from `input`.
    pub fn new(input: &Bound<'_, InputStream>) -> Self {
        let state = State {
            exchange: None,
            head: None,
            write: None,
            streams: false,
            gone: false,
            cut: None,
            wire: Weak::new(),
        };
        Self { state: Mutex::new(state), input: input.clone().unbind() }
    }

    /// Begins: until it ends the call has the exchange. `write` is its own method of that name; `streams` tells whether the body
    /// is still arriving.
    pub fn start(&self, exchange: Box<Exchange>, write: &Bound<'_, PyAny>, streams: bool) -> Started<'_> {
        let mut state = self.lock();
        state.exchange = Some(exchange);
        state.head = None;
        state.write = Some(write.clone().unbind());
        state.streams = streams;
        state.gone = false;
        state.cut = None;
        Started(self)
    }

    // Held only for a moment, never while waiting for a client or for the interpreter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        let (exchange, write) = (state.exchange.take(), state.write.take());
        // Python's objects are let go outside the lock.
        drop(state);
        drop(write);
        exchange
    }

    /// The application keeps something of this call, which may ask for the client later.
    pub fn outlive(&self, exchange: &Exchange) {
        self.lock().wire = Arc::downgrade(&exchange.wire());
    }

    /// Takes the exchange away, if it is one of this shard that a stop ends so: what the application still says is dropped.
    pub fn cut(&self, shard: usize, cut: Cut) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        let State { exchange, head, .. } = &*state;
        let exchange = exchange.as_deref().filter(|exchange| exchange.shard() == shard)?;
        // A quiet stream's head waits for its first event.
        let is_quiet_stream = || {
            cut == Cut::EventStreams
                && exchange.progress() == Progress::Waiting
                && head.as_ref().is_some_and(ResponseHead::is_event_stream)
        };
        if !cut.covers(exchange) && !is_quiet_stream() {
            return None;
        }
        let (place, wire) = (place(exchange), Arc::downgrade(&exchange.wire()));
        state.cut = Some(place);
        state.wire = wire;
        state.exchange.take()
    }

    /// Method and path of the request that a stop took away.
    pub fn cut_place(&self) -> Option<String> {
        self.lock().cut.clone()
    }

    /// Whether a stop took the exchange away.
    pub fn is_cut(&self) -> bool {
        self.lock().cut.is_some()
    }

    /// Method and path of the request that it is about; `None` between two requests.
    pub fn place(&self) -> Option<String> {
        self.lock().exchange.as_deref().map(place)
    }

    /// Looks at the exchange.
    pub fn with<T>(&self, with: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
        self.lock().exchange.as_deref_mut().map(with)
    }

    /// Queues the head. Nothing happens if it was queued before.
    pub fn begin(&self, py: Python<'_>, size: BodySize, clock: &mut Clock) -> PyResult<()> {
        self.with_head(py, |exchange, head| {
            if let Some(head) = head {
                exchange.begin(head, size, clock);
            }
        })
        .map(drop)
    }

    /// Does `with` the exchange and the head that the application gave it, which is none if it has left already.
    pub fn with_head<T>(
        &self,
        py: Python<'_>,
        with: impl FnOnce(&mut Exchange, Option<&ResponseHead>) -> T,
    ) -> PyResult<Option<T>> {
        let mut state = self.lock();
        let mut reusable = true;
        if !state.has_begun() {
            if state.head.is_none() {
                let message = "the application did not call start_response before its first content (PEP 3333)";
                return Err(PyAssertionError::new_err(message));
            }
            if state.streams {
                // Whoever reads the body holds the input while the client is slow: not to be waited for under the lock.
                drop(state);
                reusable = self.input.get().with_stream(py, BodyStream::settle).unwrap_or(true);
                state = self.lock();
            }
        }
        let begins = !state.has_begun();
        let State { exchange, head, .. } = &mut *state;
        let Some(exchange) = exchange else { return Ok(None) };
        if !reusable {
            exchange.close_connection();
        }
        Ok(Some(with(exchange, head.as_ref().filter(|_| begins))))
    }

    /// Queues content and sees to it that it leaves; waits for a client that is far behind.
    pub fn write_content(&self, py: Python<'_>, content: Content<'_>) -> Result<(), Gone> {
        let behind = {
            let mut state = self.lock();
            if state.gone {
                return Err(Gone);
            }
            let Some(exchange) = state.exchange.as_deref_mut() else { return Err(Gone) };
            let queued = exchange.write(content).and_then(|()| exchange.push());
            let behind = exchange.behind();
            if queued.is_err() {
                state.gone = true;
                return Err(Gone);
            }
            behind
        };
        let Some(behind) = behind else { return Ok(()) };
        py.detach(|| behind.catch_up()).inspect_err(|_| self.lock().gone = true)
    }
}

/// A call that goes on. It ends with this, be it by a panic: neither the exchange nor the call itself may stay behind.
pub struct Started<'a>(&'a Call);

impl Started<'_> {
    /// The call is over: takes the exchange out.
    pub fn end(self) -> Option<Box<Exchange>> {
        self.0.end()
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        drop(self.0.end());
    }
}

#[pymethods]
impl Call {
    /// PEP 3333's callable of that name.
    #[pyo3(signature = (status, headers, exc_info = None, /))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Outside the lock: what was handed over may run code of its own.
        let head = parse_head(status, headers);
        let mut state = slf.get().lock();
        match exc_info {
            Some(exc_info) if state.has_begun() => {
                drop(state);
                // PEP 3333: too late for an error page, so the error itself goes on its way.
                return Err(PyErr::from_value(exc_info.get_item(1)?));
            }
            None if state.head.is_some() => {
                return Err(PyAssertionError::new_err(
                    "start_response was called before: a second call needs exc_info (PEP 3333)",
                ));
            }
            _ => state.head = Some(head?),
        }
        if let Some(write) = &state.write {
            return Ok(write.bind(slf.py()).clone());
        }
        drop(state);
        slf.getattr(intern!(slf.py(), "write"))
    }

    /// What `start_response` returns: sends content at once, ahead of what is iterated.
    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(bytes) = data.cast::<PyBytes>() else {
            return Err(Failure::Type(format!("write: the data must be bytes, not {}", type_name(data))).into());
        };
        if self.lock().exchange.is_none() {
            return Err(if self.is_cut() {
                stopping()
            } else {
                PyRuntimeError::new_err("write: the response is over")
            });
        }
        self.begin(py, BodySize::Unknown, &mut Clock::new(Instant::now()))?;
        // A client that has gone is no fault of the application's: it goes on, and nothing is sent. A stop cannot wait for
        // what has no end.
        let written = self.write_content(py, Content::Borrowed(bytes.as_bytes()));
        if written.is_err() && self.is_cut() { Err(stopping()) } else { Ok(()) }
    }

    /// `environ["wsgi.early_hints"]`: takes a list of header tuples, sends them ahead of the response (RFC 8297).
    #[pyo3(signature = (headers, /))]
    fn early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut lines = Vec::new();
        for_each_field(headers, |name, value| outgoing::loose_field(&mut lines, name, value))?;
        self.with(|exchange| exchange.early_hints(&lines));
        Ok(())
    }

    /// `environ["wsgi.client_disconnected"]`: tells whether the client has gone.
    fn client_disconnected(&self) -> bool {
        let state = self.lock();
        let presence = match &state.exchange {
            Some(exchange) => Some(exchange.presence()),
            None => state.wire.upgrade().map(|wire| wire.stream().presence()),
        };
        presence != Some(Presence::Here)
    }
}

/// Method and path of a request, for the log. The query may hold secrets; the log escapes what is not printable.
pub fn place(exchange: &Exchange) -> String {
    let head = exchange.request();
    format!("{} {}", String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.path()))
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

fn parse_head(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<ResponseHead> {
    let Ok(line) = status.cast::<PyString>() else {
        let message = format!("start_response: the status must be a str such as '200 OK', not {}", type_name(status));
        return Err(Failure::Type(message).into());
    };
    let mut head = with_latin1(line, outgoing::status)
        .unwrap_or(Err(outgoing::AppError::StatusMalformed))
        .map_err(Failure::App)?;
    for_each_field(headers, |name, value| outgoing::field(&mut head, name, value))?;
    Ok(head)
}

// Calls `with` with the bytes of each (name, value) pair.
fn for_each_field(
    headers: &Bound<'_, PyAny>,
    mut with: impl FnMut(&[u8], &[u8]) -> Result<Kept, outgoing::AppError>,
) -> PyResult<()> {
    let mut one = |pair: &Bound<'_, PyAny>| -> PyResult<()> {
        let Some([name, value]) = pair.cast::<PyTuple>().ok().map(PyTupleMethods::as_slice) else {
            let message = format!("start_response: a header must be a (name, value) tuple, not {}", type_name(pair));
            return Err(Failure::Type(message).into());
        };
        let (Ok(name), Ok(value)) = (name.cast::<PyString>(), value.cast::<PyString>()) else {
            return Err(Failure::Type("start_response: header names and values must be str".to_owned()).into());
        };
        let judged = with_latin1(name, |name| with_latin1(value, |value| with(name, value)));
        match judged {
            Some(Some(judged)) => judged.map(|_| ()).map_err(|error| Failure::App(error).into()),
            Some(None) => Err(Failure::App(outgoing::AppError::FieldValueByte).into()),
            None => Err(Failure::App(outgoing::AppError::FieldNameByte).into()),
        }
    };
    if let Ok(list) = headers.cast::<PyList>() {
        for pair in list.iter() {
            one(&pair)?;
        }
        return Ok(());
    }
    let Ok(tuple) = headers.cast::<PyTuple>() else {
        let message = format!("start_response: the headers must be a list, not {}", type_name(headers));
        return Err(Failure::Type(message).into());
    };
    for pair in tuple.iter() {
        one(&pair)?;
    }
    Ok(())
}
