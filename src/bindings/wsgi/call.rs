//! One call of the application: `start_response`, the `write` it returns, `early_hints` and `client_disconnected`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes};

use crate::bindings::errors::{PythonError, response_ended};
use crate::engine::clock::Clock;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::exchange::overdue::{CallStage, RunningCall};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::exchange::{Content, Disconnected, Exchange, Progress};
use crate::engine::transport::Transport;
use crate::engine::transport::body::BodyStream;
use crate::http::head::ResponseHead;
use crate::http1::plan::BodySize;
use crate::interface::outgoing;
use crate::net::outcome::Presence;

use super::header_list::{for_each_field, parse_head, type_name};
use super::input::InputStream;
use super::interruption::Interruption;

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
    // The exchange was taken away.
    cut: Option<CutRequest>,
    // Raises an exception in the thread of the call.
    interruption: Interruption,
    // What is known of the client once the call is over. Weak: an application that keeps its environ must not keep the
    // connection open.
    transport: Weak<Transport>,
}

// What is known of a request whose exchange was taken away.
#[derive(Clone)]
struct CutRequest {
    name: String,
    why: &'static str,
    is_overdue: bool,
    ticket: Ticket,
    arrived: Instant,
}

impl WsgiCallState {
    // The response is aborted, so that the client cannot take what was sent for all of it.
    fn lose_client(&mut self) {
        self.disconnected = true;
        if let Some(exchange) = self.exchange.as_deref_mut() {
            exchange.lose_client();
        }
    }

    // What the application is to do next; `None` between two requests.
    fn running(&self) -> Option<RunningCall> {
        let is_closing = self.interruption.is_closing()?;
        let Some(exchange) = self.exchange.as_deref() else {
            let ticket = self.cut.as_ref()?.ticket;
            return Some(RunningCall { ticket, stage: CallStage::Detached, is_closing });
        };
        // A quiet stream's head waits for its first event.
        let is_quiet_stream = self.head.as_ref().is_some_and(ResponseHead::is_event_stream);
        let stage = if is_quiet_stream { CallStage::Unlimited } else { exchange.stage() };
        Some(RunningCall { ticket: exchange.ticket(), stage, is_closing })
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
            interruption: Interruption::default(),
            transport: Weak::new(),
        };
        Self { state: Mutex::new(state), input: input.clone().unbind() }
    }

    /// Begins a request in the calling thread, whose `threading.get_ident()` is `thread`: the call has the exchange until it ends.
    /// `write` is its own method of that name; with `streams` the body is still arriving.
    pub fn start<'py>(
        &self,
        exchange: Box<Exchange>,
        thread: u64,
        write: &Bound<'py, PyAny>,
        streams: bool,
    ) -> Started<'_, 'py> {
        let mut state = self.lock();
        state.interruption = Interruption::of(thread);
        state.exchange = Some(exchange);
        state.head = None;
        state.called = false;
        state.write = Some(write.clone().unbind());
        state.streams = streams;
        state.disconnected = false;
        state.knows_disconnect = false;
        state.cut = None;
        Started(self, write.py())
    }

    // Held only for a moment, never while waiting for a client or for the interpreter.
    fn lock(&self) -> MutexGuard<'_, WsgiCallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, py: Python<'_>) -> Option<Box<Exchange>> {
        let mut state = self.lock();
        state.interruption.end(py);
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
        let transport = Arc::downgrade(&exchange.transport());
        state.cut = Some(CutRequest {
            name: exchange.request().method_and_path(),
            why: cut.why(),
            is_overdue: matches!(cut, Cut::Overdue(_)),
            ticket: exchange.ticket(),
            arrived: exchange.arrived(),
        });
        state.transport = transport;
        state.exchange.take()
    }

    /// Whether the exchange was taken away.
    pub fn is_cut(&self) -> bool {
        self.lock().cut.is_some()
    }

    /// Method and path of the request, and when it was complete, if its exchange was taken away because it took too long.
    pub fn overdue_request(&self) -> Option<(String, Instant)> {
        let cut = self.lock().cut.clone().filter(|cut| cut.is_overdue)?;
        Some((cut.name, cut.arrived))
    }

    // The exception for the application if it was taken away.
    fn cut_error(&self) -> Option<PyErr> {
        let why = self.lock().cut.as_ref().map(|cut| cut.why);
        why.map(response_ended)
    }

    /// What the application is to do next; `None` between two requests.
    pub fn running(&self) -> Option<RunningCall> {
        self.lock().running()
    }

    /// Raises an exception of class `kind` in the thread of this call, if it is still at the same request, and in the same part of
    /// it: `close()` has its own time.
    pub fn interrupt(&self, call: &RunningCall, kind: &Bound<'_, PyAny>) {
        let mut state = self.lock();
        let is_same = |now: RunningCall| now.ticket == call.ticket && now.is_closing == call.is_closing;
        if state.running().is_some_and(is_same) {
            state.interruption.raise(kind);
        }
    }

    /// `close()` of the response is called next. An exception that is not raised yet must not keep it from its work.
    pub fn begin_closing(&self, py: Python<'_>) {
        self.lock().interruption.begin_closing(py);
    }

    /// Method and path of the present request, also after its exchange was taken away; `None` between two requests.
    pub fn method_and_path(&self) -> Option<String> {
        self.request().map(|(name, _)| name)
    }

    /// The present request's method and path, and when it was complete, also after its exchange was taken away; `None` between
    /// two requests.
    pub fn request(&self) -> Option<(String, Instant)> {
        let state = self.lock();
        let taken = state.cut.as_ref().map(|cut| (cut.name.clone(), cut.arrived));
        let present =
            state.exchange.as_ref().map(|exchange| (exchange.request().method_and_path(), exchange.arrived()));
        present.or(taken)
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
pub struct Started<'a, 'py>(&'a WsgiCall, Python<'py>);

impl Started<'_, '_> {
    /// Ends the call and returns the exchange.
    pub fn end(self) -> Option<Box<Exchange>> {
        self.0.end(self.1)
    }
}

impl Drop for Started<'_, '_> {
    fn drop(&mut self) {
        drop(self.0.end(self.1));
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
