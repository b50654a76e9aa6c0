//! The WSGI gateway: calls the application and turns what it returns into a response.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::bindings::errors::{Failure, is_gone};
use crate::bindings::ffi;
use crate::bindings::forks::Process;
use crate::bindings::reporter::{ERROR, WARNING, log};
use crate::engine::body::{Body, BodyStream};
use crate::engine::clock::Clock;
use crate::engine::exchange::{Content, Exchange, Gone, ZERO_COPY};
use crate::engine::gateway::Gateway;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;

use super::call::{Call, place};
use super::calls::Calls;
use super::environ::Builder;
use super::file_wrapper::FileWrapper;
use super::kit::Kit;

/// One worker's gateway.
pub struct WsgiGateway<'py> {
    py: Python<'py>,
    app: Bound<'py, PyAny>,
    environs: Builder<'py>,
    // For the next call, unless the application kept something of the last.
    kit: Option<Kit<'py>>,
    // Where a stop finds the call that this worker is in, and the worker's number there.
    calls: Arc<Calls>,
    index: usize,
    process: Process,
}

impl<'py> WsgiGateway<'py> {
    /// The gateway to `app` of worker number `index`; `bases` are the listeners' base environs.
    pub fn new(
        py: Python<'py>,
        app: Bound<'py, PyAny>,
        bases: &[Py<PyDict>],
        calls: Arc<Calls>,
        index: usize,
    ) -> PyResult<Self> {
        Ok(Self { py, app, environs: Builder::new(py, bases)?, kit: None, calls, index, process: Process::this() })
    }

    fn take_kit(&mut self) -> PyResult<Kit<'py>> {
        if let Some(kit) = self.kit.take() {
            return Ok(kit);
        }
        // A panic may have cost the last one.
        self.environs.forget_kit();
        let kit = Kit::new(self.py)?;
        self.calls.set(self.index, &kit.call);
        Ok(kit)
    }

    // From the call to the response's end. An error is one of the application's.
    fn answer(&mut self, kit: &Kit<'py>, environ: Bound<'py, PyDict>, clock: &mut Clock) -> PyResult<()> {
        let result = ffi::call(&self.app, [environ.as_any(), kit.start_response.as_any()]);
        self.process.leave_if_forked(self.py, result.as_ref().err())?;
        let result = result?;
        // What the application keeps of its environ is its own from here on.
        drop(environ);
        // A list or tuple is all there, and has no close(). Most have one item.
        if let Some(content) = only(&result)? {
            return self.answer_whole(kit.call.get(), &[content], clock);
        }
        if let Some(contents) = complete(&result)? {
            return self.answer_whole(kit.call.get(), &contents, clock);
        }
        let response = Response { py: self.py, call: kit.call.get(), result: &result, clock, process: &self.process };
        let answered = response.send();
        // close() is called exactly once, whatever happened, and what it raises harms no response.
        let closed = match result.getattr_opt(intern!(self.py, "close")) {
            Ok(Some(close)) => ffi::call(&close, []).map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.process.leave_if_forked(self.py, closed.as_ref().err())?;
        if let Err(error) = closed {
            log(self.py, ERROR, "close() of the application's response raised", Some(&error));
        }
        answered
    }

    // All of the content leaves when this request is done: nothing needs to be sent ahead.
    fn answer_whole(&mut self, call: &Call, contents: &[Bound<'py, PyBytes>], clock: &mut Clock) -> PyResult<()> {
        let total = contents.iter().map(|bytes| bytes.as_bytes().len() as u64).sum();
        let contents = contents.iter().map(owned_or_borrowed);
        let complaint = call.with_head(self.py, |exchange, head| {
            if exchange.write_whole(head, total, contents, clock).is_ok() {
                return finish(exchange);
            }
            exchange.abort();
            None
        })?;
        complain(self.py, complaint.flatten());
        Ok(())
    }
}

impl Gateway for WsgiGateway<'_> {
    fn serve(&mut self, mut exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>> {
        let py = self.py;
        let mut kit = match self.take_kit() {
            Ok(kit) => kit,
            // Python is out of memory: the engine answers.
            Err(error) => {
                log(py, ERROR, "a request could not be handed to the application", Some(&error));
                return Some(exchange);
            }
        };
        let body = exchange.take_body();
        let (has_body, streams) = (!matches!(body, Body::Empty), matches!(body, Body::Stream(_)));
        if has_body {
            kit.input.get().open(body);
        }
        let (ended, answered) = match self.environs.build(py, &exchange, &mut kit) {
            Ok(environ) => {
                let started = kit.call.get().start(exchange, &kit.write, streams);
                let answered = self.answer(&kit, environ, clock);
                (started.end(), answered)
            }
            Err(error) => (Some(exchange), Err(error)),
        };
        let stream = if streams { kit.input.get().close(py) } else { None };
        let Some(mut exchange) = ended else {
            let failure = stream.as_deref().and_then(BodyStream::failure);
            if let Some(error) = answered.err().filter(|error| failure.is_none() && !is_gone(py, error)) {
                log(py, ERROR, &failed(&kit.call.get().cut_place().unwrap_or_default()), Some(&error));
            }
            return None;
        };
        if let Err(error) = answered {
            if let Some(failure) = stream.as_deref().and_then(BodyStream::failure) {
                // The application could not read its request: that is the client's doing, and no news for the log.
                exchange.refuse(failure.reject(), clock);
            } else {
                log(py, ERROR, &failed(&place(&exchange)), Some(&error));
                exchange.refuse(Reject::AppFailed, clock);
            }
        }
        if let Some(stream) = stream {
            exchange.give_back(stream);
        }
        if kit.is_ours_alone() {
            if has_body {
                kit.input.get().open(Body::Empty);
            }
            self.kit = Some(kit);
        } else {
            kit.call.get().outlive(&exchange);
            self.environs.forget_kit();
        }
        Some(exchange)
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        self.py.detach(work)
    }
}

fn failed(place: &str) -> String {
    format!("the application failed at {place}")
}

// What the application returned, on its way to the client.
struct Response<'a, 'py> {
    py: Python<'py>,
    call: &'a Call,
    result: &'a Bound<'py, PyAny>,
    clock: &'a mut Clock,
    process: &'a Process,
}

// Nothing more needs to be sent: an error of the application, or a client that has gone.
enum Stop {
    Error(PyErr),
    Gone,
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Error(error)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Response<'_, '_> {
    fn send(mut self) -> PyResult<()> {
        match self.send_content() {
            Ok(()) => self.finish(),
            Err(Stop::Gone) => drop(self.call.with(Exchange::abort)),
            Err(Stop::Error(error)) => return Err(error),
        }
        Ok(())
    }

    fn send_content(&mut self) -> Result<(), Stop> {
        if let Ok(wrapper) = self.result.cast_exact::<FileWrapper>() {
            if let Some(span) = wrapper.get().span(self.py) {
                self.call.begin(self.py, BodySize::Known(span.length), self.clock)?;
                self.call.with(|exchange| exchange.write_file(span));
                return Ok(());
            }
        }
        self.iterate()
    }

    fn iterate(&mut self) -> Result<(), Stop> {
        if self.result.is_instance_of::<PyBytes>() || self.result.is_instance_of::<PyString>() {
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
            self.process.leave_if_forked(self.py, item.as_ref().err())?;
            let Some(item) = item? else { break };
            let bytes = content(&item)?;
            // PEP 3333: the head waits for the first content that is not empty.
            if bytes.as_bytes().is_empty() {
                if self.call.is_cut() {
                    return Err(Stop::Gone);
                }
                continue;
            }
            self.call.begin(self.py, BodySize::Unknown, self.clock)?;
            if !self.call.with(|exchange| exchange.wants_content()).unwrap_or(false) {
                return Ok(());
            }
            self.call.write_content(self.py, owned_or_borrowed(&bytes))?;
            // PEP 3333: enough is enough. Only the piece past the announced length shows it, so that what an application
            // does after its last piece is not cut off.
            if self.call.with(|exchange| exchange.has_surplus()).unwrap_or(true) {
                return Ok(());
            }
        }
        Ok(self.call.begin(self.py, BodySize::Known(0), self.clock)?)
    }

    fn finish(&mut self) {
        let complaint = self.call.with(finish).flatten();
        complain(self.py, complaint);
    }
}

// Ends a response. What the application did wrong with its length comes back.
fn finish(exchange: &mut Exchange) -> Option<(u8, String)> {
    let (lacking, surplus) = (exchange.lacking(), exchange.has_surplus());
    exchange.finish();
    if lacking > 0 {
        let message = format!("its content is {lacking} bytes shorter than its Content-Length");
        return Some((ERROR, format!("{}: {message}", failed(&place(exchange)))));
    }
    let message = "its content is longer than its Content-Length; the rest was not sent";
    surplus.then(|| (WARNING, format!("{}: {message}", failed(&place(exchange)))))
}

fn complain(py: Python<'_>, complaint: Option<(u8, String)>) {
    if let Some((level, message)) = complaint {
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
    if bytes.as_bytes().len() >= ZERO_COPY {
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
        // A subclass may run code of its own when it is let go, wherever that is.
        return Ok(PyBytes::new(item.py(), bytes.as_bytes()));
    }
    let kind = item.get_type();
    Err(Failure::Type(format!("the application's response must consist of bytes, not {kind}")).into())
}

fn not_iterable(result: &Bound<'_, PyAny>) -> PyErr {
    Failure::Type(format!("the application must return an iterable of bytes, not {}", result.get_type())).into()
}
