//! The WSGI gateway: calls the application and turns what it returns into a response.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::bindings::errors::{PythonError, is_caused_by_disconnect, is_client_disconnected, is_request_timeout};
use crate::bindings::ffi::{self, Context};
use crate::bindings::forks::Process;
use crate::bindings::reporter::{ERROR, INFO, WARNING, log};
use crate::bindings::stuck;
use crate::engine::clock::Clock;
use crate::engine::exchange::{Content, Disconnected, Exchange, Progress, ZERO_COPY_BYTES};
use crate::engine::gateway::Gateway;
use crate::engine::transport::body::{Body, BodyFailure, BodyStream};
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;

use super::call::WsgiCall;
use super::call_objects::CallObjects;
use super::calls::WorkerCalls;
use super::environ::EnvironBuilder;
use super::file_wrapper::FileWrapper;

/// One worker's gateway.
pub struct WsgiGateway<'py> {
    py: Python<'py>,
    app: Bound<'py, PyAny>,
    environs: EnvironBuilder<'py>,
    // Every call runs in a copy of it.
    context: Context,
    // Reused for the next call, unless the application has references to any of them.
    objects: Option<CallObjects<'py>>,
    // Where a stop finds this worker's call, by the worker's number.
    calls: Arc<WorkerCalls>,
    index: usize,
    // Its `threading.get_ident()`.
    ident: u64,
    process: Process,
}

impl<'py> WsgiGateway<'py> {
    /// The gateway to `app` of worker number `index`, in the thread that calls; `bases` are the listeners' base environs. Each
    /// call begins with the context variables that the thread has now.
    pub fn new(
        py: Python<'py>,
        app: Bound<'py, PyAny>,
        bases: &[Py<PyDict>],
        calls: Arc<WorkerCalls>,
        index: usize,
    ) -> PyResult<Self> {
        let (environs, context) = (EnvironBuilder::new(py, bases)?, Context::current(py)?);
        let ident = py.import("threading")?.call_method0("get_ident")?.extract()?;
        Ok(Self { py, app, environs, context, objects: None, calls, index, ident, process: Process::this() })
    }

    fn take_objects(&mut self) -> PyResult<CallObjects<'py>> {
        // Checked again: between two requests another thread may have got one of them from `gc.get_objects()`.
        if let Some(objects) = self.objects.take().filter(CallObjects::is_unshared) {
            return Ok(objects);
        }
        // The templates may still have the objects of the last call, also after a panic.
        self.environs.forget_objects();
        CallObjects::new(self.py, |call| self.calls.set(self.index, self.ident, call))
    }

    // From the call to the response's end. An error is one of the application's. Nothing is logged here: an exception that is
    // meant for the application may be raised in this thread meanwhile. `closed` gets what `close()` raised.
    fn answer(
        &mut self,
        objects: &CallObjects<'py>,
        environ: Bound<'py, PyDict>,
        clock: &mut Clock,
        closed: &mut PyResult<()>,
    ) -> PyResult<Option<Mistake>> {
        let result = ffi::call(&self.app, [environ.as_any(), objects.start_response.as_any()]);
        self.process.exit_if_forked(self.py, result.as_ref().err())?;
        let result = result?;
        // From here on only references of the application keep the environ alive.
        drop(environ);
        // A list or tuple is all there, and has no close(). Most have one item.
        if let Some(content) = only(&result)? {
            return self.answer_whole(objects.call.get(), &[content], clock);
        }
        if let Some(contents) = complete(&result)? {
            return self.answer_whole(objects.call.get(), &contents, clock);
        }
        let (py, call, process) = (self.py, objects.call.get(), &self.process);
        let response = ResponseSender { py, call, result: &result, clock, process, has_begun: false };
        let answered = response.send();
        call.begin_closing(py);
        // It is called exactly once in any case. What it raises is logged; the response is sent all the same.
        *closed = match result.getattr_opt(intern!(self.py, "close")) {
            Ok(Some(close)) => ffi::call(&close, []).map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.process.exit_if_forked(self.py, closed.as_ref().err())?;
        answered
    }

    // All of the content is there: it is sent with the head.
    fn answer_whole(
        &mut self,
        call: &WsgiCall,
        contents: &[Bound<'py, PyBytes>],
        clock: &mut Clock,
    ) -> PyResult<Option<Mistake>> {
        let total = contents.iter().map(|bytes| bytes.as_bytes().len() as u64).sum();
        let contents = contents.iter().map(owned_or_borrowed);
        let mistake = call.with_head(self.py, |exchange, head| {
            if exchange.write_whole(head, total, contents, clock).is_ok() {
                return finish(exchange);
            }
            exchange.lose_client();
            None
        })?;
        Ok(mistake.flatten())
    }
}

impl Gateway for WsgiGateway<'_> {
    fn serve(&mut self, mut exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>> {
        let py = self.py;
        // The application's code runs in this context, up to the finalizers of what the call releases.
        let entered = self.context.enter(py);
        let (_entered, mut objects) = match entered.and_then(|entered| Ok((entered, self.take_objects()?))) {
            Ok(prepared) => prepared,
            // Python is out of memory: the engine answers.
            Err(error) => {
                log(py, ERROR, "a request could not be handed to the application", Some(&error));
                return Some(exchange);
            }
        };
        let body = exchange.take_body();
        let (has_body, streams) = (!matches!(body, Body::Empty), matches!(body, Body::Stream(_)));
        if has_body {
            objects.input.get().open(body);
        }
        let (ended, answered) = match self.environs.build(py, &exchange, &mut objects) {
            Ok(environ) => {
                let started = objects.call.get().start(exchange, self.ident, &objects.write, streams);
                self.calls.note_start();
                let mut closed = Ok(());
                let answered = self.answer(&objects, environ, clock, &mut closed);
                let ended = started.end();
                if let Err(error) = closed {
                    log(py, ERROR, "close() of the application's response raised", Some(&error));
                }
                (ended, answered.map(|mistake| log_mistake(py, mistake)))
            }
            Err(error) => (Some(exchange), Err(error)),
        };
        let stream = if streams { objects.input.get().close(py) } else { None };
        let Some(mut exchange) = ended else {
            let failure = stream.as_deref().and_then(BodyStream::failure);
            let is_own = |error: &PyErr| is_client_disconnected(py, error) || is_request_timeout(py, error);
            if let Some(error) = answered.err().filter(|error| failure.is_none() && !is_own(error)) {
                log(py, ERROR, &failed_at(&objects.call.get().method_and_path().unwrap_or_default()), Some(&error));
            }
            if let Some((request, arrived)) = objects.call.get().overdue_request() {
                stuck::log_end(py, &request, arrived);
            }
            self.calls.clear(self.index);
            return None;
        };
        let knows_disconnect = || objects.call.get().knows_disconnect();
        match (answered, stream.as_deref().and_then(BodyStream::failure)) {
            // The application failed because its request body is incomplete: the client is the cause.
            (Err(_), Some(failure @ BodyFailure::Incomplete)) => {
                exchange.lose_client();
                log(py, INFO, &at(failure.reject().detail(), &exchange), None);
            }
            (Err(_), Some(failure)) => exchange.refuse(failure.reject(), clock),
            (Err(error), None) if knows_disconnect() && is_caused_by_disconnect(py, &error) => {
                abandon(py, &mut exchange);
            }
            (Err(error), None) => {
                log(py, ERROR, &failed_at(&exchange.request().method_and_path()), Some(&error));
                if knows_disconnect() {
                    exchange.lose_client();
                } else {
                    exchange.refuse(Reject::AppFailed, clock);
                }
            }
            (Ok(()), _) if exchange.progress() == Progress::Waiting && knows_disconnect() => abandon(py, &mut exchange),
            (Ok(()), _) => {}
        }
        if let Some(stream) = stream {
            exchange.give_back(stream);
        }
        if objects.is_unshared() {
            if has_body {
                objects.input.get().open(Body::Empty);
            }
            self.objects = Some(objects);
        } else {
            self.calls.clear(self.index);
            objects.call.get().keep_transport(&exchange);
            self.environs.forget_objects();
        }
        Some(exchange)
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        self.py.detach(work)
    }
}

// Ends the exchange of an application that knows of the disconnect and gave no response.
fn abandon(py: Python<'_>, exchange: &mut Exchange) {
    let why = exchange.lose_client();
    log(py, INFO, &at(why, exchange), None);
}

fn at(what: &str, exchange: &Exchange) -> String {
    format!("{what} at {}", exchange.request().method_and_path())
}

fn failed_at(request: &str) -> String {
    format!("the application failed at {request}")
}

// Sends what the application returned.
struct ResponseSender<'a, 'py> {
    py: Python<'py>,
    call: &'a WsgiCall,
    result: &'a Bound<'py, PyAny>,
    clock: &'a mut Clock,
    process: &'a Process,
    // Its head is queued.
    has_begun: bool,
}

// Why sending ends: an error of the application, or a disconnect of the client.
enum Stop {
    Error(PyErr),
    Disconnected,
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnected> for Stop {
    fn from(_: Disconnected) -> Self {
        Self::Disconnected
    }
}

impl ResponseSender<'_, '_> {
    fn send(mut self) -> PyResult<Option<Mistake>> {
        match self.send_content() {
            Ok(()) => Ok(self.call.with(finish).flatten()),
            Err(Stop::Disconnected) => Ok(None),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn send_content(&mut self) -> Result<(), Stop> {
        match self.result.cast_exact::<FileWrapper>() {
            Ok(wrapper) => self.send_file(wrapper.get()),
            Err(_) => self.iterate(),
        }
    }

    // PEP 3333: until the file ends or as much was sent as Content-Length says, whichever comes first. No more is read than
    // that, because a pipe may have no more.
    fn send_file(&mut self, wrapper: &FileWrapper) -> Result<(), Stop> {
        if let Some(mut span) = wrapper.span(self.py) {
            self.call.begin(self.py, BodySize::Known(span.length), self.clock)?;
            span.length = span.length.min(self.call.room());
            self.call.with(|exchange| exchange.write_file(span));
            return Ok(());
        }
        loop {
            let room = self.call.room();
            if room == 0 {
                break;
            }
            let block = wrapper.read(self.py, room);
            self.process.exit_if_forked(self.py, block.as_ref().err())?;
            let Some(block) = block? else { break };
            let mut bytes = content(&block)?;
            if bytes.as_bytes().len() as u64 > room {
                // `read` gave more than it was asked for.
                bytes = PyBytes::new(self.py, &bytes.as_bytes()[..usize::try_from(room).unwrap_or(usize::MAX)]);
            }
            if !self.send_piece(&bytes)? {
                return Ok(());
            }
        }
        Ok(self.call.begin(self.py, BodySize::Known(0), self.clock)?)
    }

    fn iterate(&mut self) -> Result<(), Stop> {
        // Iterating these gives numbers, characters and keys, which are never what was meant.
        let is_no_body = self.result.is_instance_of::<PyBytes>()
            || self.result.is_instance_of::<PyString>()
            || self
                .result
                .cast::<PyDict>()
                .is_ok_and(|dict| dict.keys().iter().any(|key| !key.is_instance_of::<PyBytes>()));
        if is_no_body {
            return Err(Stop::Error(not_iterable(self.result)));
        }
        let iterator = match self.result.try_iter() {
            Ok(iterator) => iterator,
            // What the application's own __iter__ raises is its error.
            Err(error) if self.result.hasattr("__iter__")? => return Err(Stop::Error(error)),
            Err(_) => return Err(Stop::Error(not_iterable(self.result))),
        };
        loop {
            let item = ffi::next(&iterator);
            self.process.exit_if_forked(self.py, item.as_ref().err())?;
            let Some(item) = item? else { break };
            if !self.send_piece(&content(&item)?)? {
                return Ok(());
            }
        }
        Ok(self.call.begin(self.py, BodySize::Known(0), self.clock)?)
    }

    // Returns whether more content can be sent.
    fn send_piece(&mut self, bytes: &Bound<'_, PyBytes>) -> Result<bool, Stop> {
        // PEP 3333: the head waits for the first content that is not empty.
        if bytes.as_bytes().is_empty() {
            return Ok(!self.call.is_cut());
        }
        if !self.has_begun {
            self.call.begin(self.py, BodySize::Unknown, self.clock)?;
            self.has_begun = true;
        }
        Ok(self.call.write_content(self.py, owned_or_borrowed(bytes))?)
    }
}

// A log line about content that does not have the announced length, and its level.
type Mistake = (u8, String);

// Ends a response.
fn finish(exchange: &mut Exchange) -> Option<Mistake> {
    let (lacking, surplus) = (exchange.lacking(), exchange.has_surplus());
    exchange.finish();
    if lacking > 0 {
        let message = format!("its content is {lacking} bytes shorter than its Content-Length");
        return Some((ERROR, format!("{}: {message}", failed_at(&exchange.request().method_and_path()))));
    }
    let message = "its content is longer than its Content-Length; the rest was not sent";
    surplus.then(|| (WARNING, format!("{}: {message}", failed_at(&exchange.request().method_and_path()))))
}

fn log_mistake(py: Python<'_>, mistake: Option<Mistake>) {
    if let Some((level, message)) = mistake {
        log(py, level, &message, None);
    }
}

// The content, where it is all of a list or tuple.
fn only<'py>(result: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let item = if let Ok(list) = result.cast_exact::<PyList>() {
        (list.len() == 1).then(|| list.get_item(0)).transpose()?
    } else if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        (tuple.len() == 1).then(|| tuple.get_item(0)).transpose()?
    } else {
        None
    };
    item.map(|item| content(&item)).transpose()
}

// A list or tuple is all there: its length is known, and no chunking is needed.
fn complete<'py>(result: &Bound<'py, PyAny>) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
    if let Ok(list) = result.cast_exact::<PyList>() {
        list.iter().map(|item| content(&item)).collect::<PyResult<_>>().map(Some)
    } else if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        tuple.iter().map(|item| content(&item)).collect::<PyResult<_>>().map(Some)
    } else {
        Ok(None)
    }
}

fn owned_or_borrowed<'a>(bytes: &'a Bound<'_, PyBytes>) -> Content<'a> {
    if bytes.as_bytes().len() >= ZERO_COPY_BYTES {
        Content::Owned(Box::new(PyBackedBytes::from(bytes.clone())))
    } else {
        Content::Borrowed(bytes.as_bytes())
    }
}

fn content<'py>(item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = item.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    if let Ok(bytes) = item.cast::<PyBytes>() {
        // A subclass may have a finalizer, which would run wherever the last reference is dropped.
        return Ok(PyBytes::new(item.py(), bytes.as_bytes()));
    }
    let hint = if item.is_instance_of::<PyString>() { ": encode text, as in text.encode()" } else { "" };
    let message = format!("the application's response must consist of bytes, not {}{hint}", type_name(item));
    Err(PythonError::Type(message).into())
}

// Usual mistakes of a first program get a hint.
fn not_iterable(result: &Bound<'_, PyAny>) -> PyErr {
    let hint = if result.is_none() {
        ": is a return missing?"
    } else if result.is_instance_of::<PyString>() {
        ": return [text.encode()]"
    } else if result.is_instance_of::<PyBytes>() {
        ": return [content], a list with it"
    } else if result.is_instance_of::<PyDict>() {
        ": return [json.dumps(data).encode()]"
    } else if result.get_type().hasattr(intern!(result.py(), "__await__")).unwrap_or(false) {
        ": it is an async function; WSGI needs 'def', and ASGI (interface=asgi) the parameters (scope, receive, send)"
    } else {
        ""
    };
    let message = format!("the application must return an iterable of bytes, not {}{hint}", type_name(result));
    PythonError::Type(message).into()
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
