//! One call of the application: `start_response`, the `write` it returns, and what else an application may ask of its
//! exchange.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyList, PyMapping, PyString, PyTuple};

use crate::bindings::errors::{Failure, ended};
use crate::bindings::ffi::{self, with_latin1};
use crate::bindings::reporter::{DEBUG, log};
use crate::engine::clock::Clock;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::exchange::{Content, Disconnected, Exchange, Progress};
use crate::engine::transport::Transport;
use crate::engine::transport::body::BodyStream;
use crate::http::head::ResponseHead;
use crate::http1::plan::BodySize;
use crate::interface::outgoing::{self, AppError, Kept, Misfit};
use crate::net::outcome::Presence;

use super::input::InputStream;

#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
struct State {
    // Absent once the call is over.
    exchange: Option<Box<Exchange>>,
    head: Option<ResponseHead>,
    // start_response was called, be it in vain.
    called: bool,
    // The method of that name, as long as the call goes on: a reference to ourselves.
    write: Option<Py<PyAny>>,
    // The request's body is still arriving.
    streams: bool,
    gone: bool,
    // The application has asked and knows that the client has gone.
    told: bool,
    // The exchange was taken away: method and path of its request, and why.
    cut: Option<(String, &'static str)>,
    // What is known of the client once the call is over. Weak: an application that keeps its environ must not keep the
    // connection open.
    transport: Weak<Transport>,
}

impl State {
    // What is not sent must not look like the end of the response, however the application goes on.
    fn lose_client(&mut self) {
        self.gone = true;
        if let Some(exchange) = self.exchange.as_deref_mut() {
            exchange.lose_client();
        }
    }

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
            called: false,
            write: None,
            streams: false,
            gone: false,
            told: false,
            cut: None,
            transport: Weak::new(),
        };
        Self { state: Mutex::new(state), input: input.clone().unbind() }
    }

    /// Begins: until it ends the call has the exchange. `write` is its own method of that name; `streams` tells whether the body
    /// is still arriving.
    pub fn start(&self, exchange: Box<Exchange>, write: &Bound<'_, PyAny>, streams: bool) -> Started<'_> {
        let mut state = self.lock();
        state.exchange = Some(exchange);
        state.head = None;
        state.called = false;
        state.write = Some(write.clone().unbind());
        state.streams = streams;
        state.gone = false;
        state.told = false;
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
        self.lock().transport = Arc::downgrade(&exchange.transport());
    }

    /// Whether the application was told that the client has gone: it owes no response then.
    pub fn knows_of_departure(&self) -> bool {
        self.lock().told
    }

    /// Takes the exchange away, if it is one of this shard that is ended so: what the application still says is dropped.
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
        let (place, transport) = (place(exchange), Arc::downgrade(&exchange.transport()));
        state.cut = Some((place, cut.why()));
        state.transport = transport;
        state.exchange.take()
    }

    /// Method and path of the request that was taken away.
    pub fn cut_place(&self) -> Option<String> {
        self.lock().cut.as_ref().map(|(place, _)| place.clone())
    }

    /// Whether the exchange was taken away.
    pub fn is_cut(&self) -> bool {
        self.lock().cut.is_some()
    }

    // What the application is told if it was.
    fn end_of_cut(&self) -> Option<PyErr> {
        let why = self.lock().cut.as_ref().map(|(_, why)| *why);
        why.map(ended)
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
                if state.told {
                    return Ok(None);
                }
                return Err(PyAssertionError::new_err(if state.called {
                    "start_response failed, and was not called again with exc_info (PEP 3333)"
                } else {
                    "the application did not call start_response before its first content (PEP 3333): call it with a \
                     status and a list of headers, as in start_response('200 OK', [])"
                }));
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

    /// Bytes of content that may still be sent: what is left of the length that the application announced.
    pub fn room(&self) -> u64 {
        let state = self.lock();
        match (&state.exchange, &state.head) {
            (Some(exchange), _) if state.has_begun() => exchange.room(),
            (Some(_), head) => head.as_ref().and_then(|head| head.content_length).unwrap_or(u64::MAX),
            (None, _) => 0,
        }
    }

    /// Queues content and sees to it that it leaves; waits for a client that is far behind. Tells whether the response has a use
    /// for more.
    pub fn write_content(&self, py: Python<'_>, content: Content<'_>) -> Result<bool, Disconnected> {
        let (has_use, behind) = {
            let mut state = self.lock();
            if state.gone {
                return Err(Disconnected);
            }
            let Some(exchange) = state.exchange.as_deref_mut() else { return Err(Disconnected) };
            if !exchange.wants_content() {
                return Ok(false);
            }
            let queued = exchange.write(content).and_then(|()| exchange.push());
            // PEP 3333: enough is enough. Only the piece past the announced length shows it, so that what an application
            // does after its last piece is not cut off.
            let (has_use, behind) = (!exchange.has_surplus(), exchange.behind());
            if queued.is_err() {
                state.lose_client();
                return Err(Disconnected);
            }
            (has_use, behind)
        };
        if let Some(behind) = behind {
            py.detach(|| behind.wait_drained()).inspect_err(|_| self.lock().lose_client())?;
        }
        Ok(has_use)
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
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Outside the lock: what was handed over may run code of its own.
        let head = parse_head(status, headers);
        let mut state = slf.get().lock();
        let was_called = std::mem::replace(&mut state.called, true);
        match exc_info {
            Some(exc_info) if state.has_begun() => {
                drop(state);
                // PEP 3333: too late for an error page, so the error itself goes on its way.
                return Err(PyErr::from_value(exc_info.get_item(1)?));
            }
            None if was_called => {
                return Err(PyAssertionError::new_err(
                    "start_response was called before: a second call needs exc_info (PEP 3333)",
                ));
            }
            _ => {
                // What was said before does not stand, also where this call fails.
                state.head = None;
                state.head = Some(head?);
            }
        }
        if let Some(write) = &state.write {
            return Ok(write.bind(slf.py()).clone());
        }
        drop(state);
        slf.getattr(intern!(slf.py(), "write"))
    }

    /// What `start_response` returns: sends content at once, ahead of what is iterated.
    #[pyo3(signature = (data))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(bytes) = data.cast::<PyBytes>() else {
            return Err(Failure::Type(format!("write: the data must be bytes, not {}", type_name(data))).into());
        };
        if self.lock().exchange.is_none() {
            return Err(self.end_of_cut().unwrap_or_else(|| PyRuntimeError::new_err("write: the response is over")));
        }
        self.begin(py, BodySize::Unknown, &mut Clock::new(Instant::now()))?;
        // A client that has gone is no fault of the application's: it goes on, and nothing is sent. A stop cannot wait for
        // what has no end.
        let written = self.write_content(py, Content::Borrowed(bytes.as_bytes()));
        written.err().and_then(|_| self.end_of_cut()).map_or(Ok(()), Err)
    }

    /// `environ["wsgi.early_hints"]`: takes a list of header tuples, sends them ahead of the response (RFC 8297).
    #[pyo3(signature = (headers))]
    fn early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut lines = Vec::new();
        for_each_field("early_hints", headers, |name, value| outgoing::loose_field(&mut lines, name, value))?;
        self.with(|exchange| exchange.early_hints(&lines));
        Ok(())
    }

    /// `environ["wsgi.client_disconnected"]`: tells whether the client has gone.
    fn client_disconnected(&self) -> bool {
        let mut state = self.lock();
        let presence = match &state.exchange {
            Some(exchange) => Some(exchange.presence()),
            None => state.transport.upgrade().map(|transport| transport.stream().presence()),
        };
        let gone = presence != Some(Presence::Here);
        state.told |= gone;
        gone
    }
}

/// Method and path of a request, for the log. The query may hold secrets; the log escapes what is not printable.
pub fn place(exchange: &Exchange) -> String {
    exchange.request().method_and_path()
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// Characters of a status that a message repeats.
const SHOWN_STATUS: usize = 40;

fn parse_head(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<ResponseHead> {
    const PLACE: &str = "start_response";
    let Ok(line) = status.cast::<PyString>() else {
        let message = format!("{PLACE}: the status must be a str such as '200 OK', not {}", type_name(status));
        return Err(Failure::Type(message).into());
    };
    let judged =
        with_latin1(line, outgoing::status).unwrap_or_else(|| Err(AppError::ReasonByte(first_beyond_latin1(line))));
    let mut head = judged.map_err(|error| {
        let shown: String = match error {
            AppError::ReasonByte(_) => String::new(),
            _ => format!(" '{}'", line.to_string_lossy().chars().take(SHOWN_STATUS).collect::<String>().escape_debug()),
        };
        Failure::Value(format!("{PLACE}: status{shown}: {error}"))
    })?;
    for_each_field(PLACE, headers, |name, value| outgoing::field(&mut head, name, value))?;
    Ok(head)
}

// Calls `with` with the bytes of each (name, value) pair that `place` was given.
fn for_each_field(
    place: &str,
    headers: &Bound<'_, PyAny>,
    mut with: impl FnMut(&[u8], &[u8]) -> Result<Kept, AppError>,
) -> PyResult<()> {
    let mut one = |pair: &Bound<'_, PyAny>| {
        if let Some([name, value]) = pair.cast::<PyTuple>().ok().map(PyTupleMethods::as_slice) {
            return judge_field(place, name, value, &mut with);
        }
        let [name, value] = unpacked(place, pair)?;
        judge_field(place, &name, &value, &mut with)
    };
    if let Ok(list) = headers.cast::<PyList>() {
        return list.iter().try_for_each(|pair| one(&pair));
    }
    if let Ok(tuple) = headers.cast::<PyTuple>() {
        return tuple.iter().try_for_each(|pair| one(&pair));
    }
    // PEP 3333 wants a list, but other servers take whatever gives pairs, so that there are applications that rely on it.
    let is_mistake = is_text(headers) || headers.is_instance_of::<PyMapping>();
    let Some(pairs) = headers.try_iter().ok().filter(|_| !is_mistake) else {
        let kind = type_name(headers);
        return Err(
            Failure::Type(format!("{place}: the headers must be a list of (name, value) tuples, not {kind}")).into()
        );
    };
    note_leniency(place, "the headers were given as", headers);
    while let Some(pair) = ffi::next(&pairs)? {
        one(&pair)?;
    }
    Ok(())
}

fn judge_field(
    place: &str,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    with: &mut impl FnMut(&[u8], &[u8]) -> Result<Kept, AppError>,
) -> PyResult<()> {
    let Ok(name) = name.cast::<PyString>() else {
        return Err(Failure::Type(format!("{place}: a header name must be str, not {}", type_name(name))).into());
    };
    let Ok(value) = value.cast::<PyString>() else {
        let (name, kind) = (outgoing::shown_name(name.to_string_lossy().as_bytes()), type_name(value));
        let message = format!("{place}: header '{name}': the value must be str, not {kind}");
        return Err(Failure::Type(message).into());
    };
    let judged = with_latin1(name, |name| with_latin1(value, |value| with(name, value)));
    let error = match judged {
        Some(Some(Ok(_))) => return Ok(()),
        Some(Some(Err(error))) => error,
        Some(None) => AppError::FieldValueByte(first_beyond_latin1(value)),
        None => AppError::FieldNameByte(first_beyond_latin1(name)),
    };
    Err(Failure::Value(format!("{place}: {}", error.in_field(name.to_string_lossy().as_bytes()))).into())
}

// The two items of a header that is no tuple.
#[cold]
fn unpacked<'py>(place: &str, pair: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 2]> {
    let kind = type_name(pair);
    let wrong = |of: &str| Failure::Type(format!("{place}: a header must be a (name, value) tuple, not {kind}{of}"));
    let Some(iterator) = pair.try_iter().ok().filter(|_| !is_text(pair)) else { return Err(wrong("").into()) };
    let mut items = Vec::with_capacity(2);
    while let Some(item) = ffi::next(&iterator)? {
        if items.len() == 2 {
            return Err(wrong(" of more than two items").into());
        }
        items.push(item);
    }
    let pair_of_items = <[_; 2]>::try_from(items).map_err(|items| match items.len() {
        0 => wrong(" without items"),
        _ => wrong(" of one item"),
    })?;
    note_leniency(place, "a header was given as", pair);
    Ok(pair_of_items)
}

fn is_text(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>()
}

static NOTED: AtomicBool = AtomicBool::new(false);

// Said once in a process: such an application works here, and may not elsewhere.
#[cold]
fn note_leniency(place: &str, what: &str, value: &Bound<'_, PyAny>) {
    if !NOTED.swap(true, Ordering::Relaxed) {
        let message = format!("{place}: {what} {}; PEP 3333 requires a list of (name, value) tuples", type_name(value));
        log(value.py(), DEBUG, &message, None);
    }
}

// The first character of a str that is no byte of latin-1, which may be a lone surrogate.
#[cold]
fn first_beyond_latin1(text: &Bound<'_, PyString>) -> Misfit {
    let find = || -> PyResult<Misfit> {
        let encoded = text.call_method1("encode", ("latin-1",));
        let Err(error) = encoded else { return Ok(Misfit { code: 0, at: 0 }) };
        let at: usize = error.value(text.py()).getattr("start")?.extract()?;
        let code = text.py().import("builtins")?.getattr("ord")?.call1((text.get_item(at)?,))?.extract()?;
        Ok(Misfit { code, at })
    };
    find().unwrap_or(Misfit { code: 0xfffd, at: 0 })
}
