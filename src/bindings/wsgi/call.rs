//! One call of the application: `start_response`, the `write` it returns, `early_hints` and `client_disconnected`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyList, PyMapping, PyString, PyTuple};

use crate::bindings::errors::{PythonError, response_ended};
use crate::bindings::ffi::{self, with_latin1};
use crate::bindings::reporter::{DEBUG, log};
use crate::engine::clock::Clock;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::exchange::{Content, Disconnected, Exchange, Progress};
use crate::engine::transport::Transport;
use crate::engine::transport::body::BodyStream;
use crate::http::head::ResponseHead;
use crate::http1::plan::BodySize;
use crate::interface::outgoing::{self, AppError, FieldOutcome, InvalidCharacter};
use crate::net::outcome::Presence;

use super::input::InputStream;

#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
struct WsgiCallState {
    // Absent once the call is over.
    exchange: Option<Box<Exchange>>,
    head: Option<ResponseHead>,
    // start_response was called, be it in vain.
    called: bool,
    // The method of that name, while the call runs: a reference to the call itself.
    write: Option<Py<PyAny>>,
    // The request's body is still arriving.
    streams: bool,
    // Content could not be sent: the client has disconnected.
    disconnected: bool,
    // `client_disconnected` has returned true to the application.
    knows_disconnect: bool,
    // The exchange was taken away: method and path of its request, and why.
    cut: Option<(String, &'static str)>,
    // What is known of the client once the call is over. Weak: an application that keeps its environ must not keep the
    // connection open.
    transport: Weak<Transport>,
}

impl WsgiCallState {
    // The response is aborted, so that the client cannot take what was sent for all of it.
    fn lose_client(&mut self) {
        self.disconnected = true;
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
#[pyclass(frozen, module = "wsgi._core", name = "WSGICall")]
pub struct WsgiCall {
    state: Mutex<WsgiCallState>,
    input: Py<InputStream>,
}

impl WsgiCall {
    /// A call that reads its request from `input`.
    pub fn new(input: &Bound<'_, InputStream>) -> Self {
        let state = WsgiCallState {
            exchange: None,
            head: None,
            called: false,
            write: None,
            streams: false,
            disconnected: false,
            knows_disconnect: false,
            cut: None,
            transport: Weak::new(),
        };
        Self { state: Mutex::new(state), input: input.clone().unbind() }
    }

    /// Begins a request: the call has the exchange until it ends. `write` is its own method of that name; with `streams` the
    /// body is still arriving.
    pub fn start(&self, exchange: Box<Exchange>, write: &Bound<'_, PyAny>, streams: bool) -> Started<'_> {
        let mut state = self.lock();
        state.exchange = Some(exchange);
        state.head = None;
        state.called = false;
        state.write = Some(write.clone().unbind());
        state.streams = streams;
        state.disconnected = false;
        state.knows_disconnect = false;
        state.cut = None;
        Started(self)
    }

    // Held only for a moment, never while waiting for a client or for the interpreter.
    fn lock(&self) -> MutexGuard<'_, WsgiCallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        let (exchange, write) = (state.exchange.take(), state.write.take());
        // Python's objects are released outside the lock.
        drop(state);
        drop(write);
        exchange
    }

    /// Keeps the transport of a finished exchange for `client_disconnected`, where the application still has a reference to
    /// this call.
    pub fn keep_transport(&self, exchange: &Exchange) {
        self.lock().transport = Arc::downgrade(&exchange.transport());
    }

    /// Whether `client_disconnected` has returned true: the application need not respond then.
    pub fn knows_disconnect(&self) -> bool {
        self.lock().knows_disconnect
    }

    /// Takes the exchange away if it belongs to this shard and `cut` covers it. What the application still sends is dropped.
    pub fn cut(&self, shard: usize, cut: Cut) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        let WsgiCallState { exchange, head, .. } = &*state;
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
        let (request, transport) = (exchange.request().method_and_path(), Arc::downgrade(&exchange.transport()));
        state.cut = Some((request, cut.why()));
        state.transport = transport;
        state.exchange.take()
    }

    /// Whether the exchange was taken away.
    pub fn is_cut(&self) -> bool {
        self.lock().cut.is_some()
    }

    // The exception for the application if it was.
    fn cut_error(&self) -> Option<PyErr> {
        let why = self.lock().cut.as_ref().map(|(_, why)| *why);
        why.map(response_ended)
    }

    /// Method and path of the present request, also after its exchange was taken away; `None` between two requests.
    pub fn method_and_path(&self) -> Option<String> {
        let state = self.lock();
        let taken = state.cut.as_ref().map(|(request, _)| request.clone());
        state.exchange.as_ref().map(|exchange| exchange.request().method_and_path()).or(taken)
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
                if state.knows_disconnect {
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
                // A reader holds the input while it waits for the client: take it without holding our lock.
                drop(state);
                reusable = self.input.get().with_stream(py, BodyStream::settle).unwrap_or(true);
                state = self.lock();
            }
        }
        let begins = !state.has_begun();
        let WsgiCallState { exchange, head, .. } = &mut *state;
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

    /// Queues and sends content; waits while too much of it is unsent. Returns whether more content can be sent.
    pub fn write_content(&self, py: Python<'_>, content: Content<'_>) -> Result<bool, Disconnected> {
        let (has_use, behind) = {
            let mut state = self.lock();
            if state.disconnected {
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

/// A running call. Dropping it ends the call, also in a panic, so that neither the exchange nor the reference of the call to
/// itself is left.
pub struct Started<'a>(&'a WsgiCall);

impl Started<'_> {
    /// Ends the call and returns the exchange.
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
impl WsgiCall {
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
                // PEP 3333: too late for an error page, so the error itself is raised again.
                return Err(PyErr::from_value(exc_info.get_item(1)?));
            }
            None if was_called => {
                return Err(PyAssertionError::new_err(
                    "start_response was called before: a second call needs exc_info (PEP 3333)",
                ));
            }
            _ => {
                // An earlier head is discarded, also if this call fails.
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
            return Err(PythonError::Type(format!("write: the data must be bytes, not {}", type_name(data))).into());
        };
        if self.lock().exchange.is_none() {
            return Err(self.cut_error().unwrap_or_else(|| PyRuntimeError::new_err("write: the response is complete")));
        }
        self.begin(py, BodySize::Unknown, &mut Clock::new(Instant::now()))?;
        // A disconnect is not the application's error: it goes on, and nothing is sent. Only a stop of the server raises,
        // because the content may have no end.
        let written = self.write_content(py, Content::Borrowed(bytes.as_bytes()));
        written.err().and_then(|_| self.cut_error()).map_or(Ok(()), Err)
    }

    /// `environ["wsgi.early_hints"]`: takes a list of header tuples, sends them ahead of the response (RFC 8297).
    #[pyo3(signature = (headers))]
    fn early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut lines = Vec::new();
        for_each_field("early_hints", headers, |name, value| outgoing::hint_or_trailer_field(&mut lines, name, value))?;
        self.with(|exchange| exchange.early_hints(&lines));
        Ok(())
    }

    /// `environ["wsgi.client_disconnected"]`: tells whether the client has disconnected.
    fn client_disconnected(&self) -> bool {
        let mut state = self.lock();
        let presence = match &state.exchange {
            Some(exchange) => Some(exchange.presence()),
            None => state.transport.upgrade().map(|transport| transport.stream().presence()),
        };
        let disconnected = presence != Some(Presence::Here);
        state.knows_disconnect |= disconnected;
        disconnected
    }
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// Most characters of a status that a message contains.
const MAX_SHOWN_STATUS_CHARS: usize = 40;

fn parse_head(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<ResponseHead> {
    const FUNCTION: &str = "start_response";
    let Ok(line) = status.cast::<PyString>() else {
        let message = format!("{FUNCTION}: the status must be a str such as '200 OK', not {}", type_name(status));
        return Err(PythonError::Type(message).into());
    };
    let outcome =
        with_latin1(line, outgoing::status).unwrap_or_else(|| Err(AppError::ReasonByte(first_beyond_latin1(line))));
    let mut head = outcome.map_err(|error| {
        let shown: String = match error {
            AppError::ReasonByte(_) => String::new(),
            _ => format!(
                " '{}'",
                line.to_string_lossy().chars().take(MAX_SHOWN_STATUS_CHARS).collect::<String>().escape_debug()
            ),
        };
        PythonError::Value(format!("{FUNCTION}: status{shown}: {error}"))
    })?;
    for_each_field(FUNCTION, headers, |name, value| outgoing::field(&mut head, name, value))?;
    Ok(head)
}

// Calls `with` with the bytes of each (name, value) pair that the application passed to `function`.
fn for_each_field(
    function: &str,
    headers: &Bound<'_, PyAny>,
    mut with: impl FnMut(&[u8], &[u8]) -> Result<FieldOutcome, AppError>,
) -> PyResult<()> {
    let mut one = |pair: &Bound<'_, PyAny>| {
        if let Some([name, value]) = pair.cast::<PyTuple>().ok().map(PyTupleMethods::as_slice) {
            return add_field(function, name, value, &mut with);
        }
        let [name, value] = unpacked(function, pair)?;
        add_field(function, &name, &value, &mut with)
    };
    if let Ok(list) = headers.cast::<PyList>() {
        return list.iter().try_for_each(|pair| one(&pair));
    }
    if let Ok(tuple) = headers.cast::<PyTuple>() {
        return tuple.iter().try_for_each(|pair| one(&pair));
    }
    // PEP 3333 requires a list, but other servers accept any iterable of pairs, and some applications rely on it.
    let is_mistake = is_text(headers) || headers.is_instance_of::<PyMapping>();
    let Some(pairs) = headers.try_iter().ok().filter(|_| !is_mistake) else {
        let kind = type_name(headers);
        return Err(PythonError::Type(format!(
            "{function}: the headers must be a list of (name, value) tuples, not {kind}"
        ))
        .into());
    };
    note_leniency(function, "the headers were given as", headers);
    while let Some(pair) = ffi::next(&pairs)? {
        one(&pair)?;
    }
    Ok(())
}

fn add_field(
    function: &str,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    with: &mut impl FnMut(&[u8], &[u8]) -> Result<FieldOutcome, AppError>,
) -> PyResult<()> {
    let Ok(name) = name.cast::<PyString>() else {
        return Err(PythonError::Type(format!("{function}: a header name must be str, not {}", type_name(name))).into());
    };
    let Ok(value) = value.cast::<PyString>() else {
        let (name, kind) = (outgoing::shown_name(name.to_string_lossy().as_bytes()), type_name(value));
        let message = format!("{function}: header '{name}': the value must be str, not {kind}");
        return Err(PythonError::Type(message).into());
    };
    let outcome = with_latin1(name, |name| with_latin1(value, |value| with(name, value)));
    let error = match outcome {
        Some(Some(Ok(_))) => return Ok(()),
        Some(Some(Err(error))) => error,
        Some(None) => AppError::FieldValueByte(first_beyond_latin1(value)),
        None => AppError::FieldNameByte(first_beyond_latin1(name)),
    };
    Err(PythonError::Value(format!("{function}: {}", error.in_field(name.to_string_lossy().as_bytes()))).into())
}

// The two items of a header that is no tuple.
#[cold]
fn unpacked<'py>(function: &str, pair: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 2]> {
    let kind = type_name(pair);
    let wrong =
        |of: &str| PythonError::Type(format!("{function}: a header must be a (name, value) tuple, not {kind}{of}"));
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
    note_leniency(function, "a header was given as", pair);
    Ok(pair_of_items)
}

fn is_text(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>()
}

static NOTED: AtomicBool = AtomicBool::new(false);

// Logged once in a process: such an application works here, and may not elsewhere.
#[cold]
fn note_leniency(function: &str, what: &str, value: &Bound<'_, PyAny>) {
    if !NOTED.swap(true, Ordering::Relaxed) {
        let message =
            format!("{function}: {what} {}; PEP 3333 requires a list of (name, value) tuples", type_name(value));
        log(value.py(), DEBUG, &message, None);
    }
}

// The first character of a str that is no byte of latin-1, which may be a lone surrogate.
#[cold]
fn first_beyond_latin1(text: &Bound<'_, PyString>) -> InvalidCharacter {
    let find = || -> PyResult<InvalidCharacter> {
        let encoded = text.call_method1("encode", ("latin-1",));
        let Err(error) = encoded else { return Ok(InvalidCharacter { code: 0, at: 0 }) };
        let at: usize = error.value(text.py()).getattr("start")?.extract()?;
        let code = text.py().import("builtins")?.getattr("ord")?.call1((text.get_item(at)?,))?.extract()?;
        Ok(InvalidCharacter { code, at })
    };
    find().unwrap_or(InvalidCharacter { code: 0xfffd, at: 0 })
}
