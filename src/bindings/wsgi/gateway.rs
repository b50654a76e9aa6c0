//! The WSGI gateway: calls the application and turns what it returns into a response.

use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::bindings::errors::Failure;
use crate::bindings::reporter::log;
use crate::engine::body::BodyStream;
use crate::engine::clock::Clock;
use crate::engine::exchange::{Content, Exchange, Gone, ZERO_COPY};
use crate::engine::gateway::Gateway;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;

use super::call::Call;
use super::environ::Builder;
use super::file_wrapper::FileWrapper;
use super::input::InputStream;

const ERROR: u8 = 40;
const WARNING: u8 = 30;

/// One worker's gateway.
pub struct WsgiGateway<'py> {
    py: Python<'py>,
    app: Bound<'py, PyAny>,
    environs: Builder,
}

impl<'py> WsgiGateway<'py> {
    /// A gateway to `app`; `templates` are the listeners' base environs.
    pub fn new(py: Python<'py>, app: Bound<'py, PyAny>, templates: Vec<Py<PyDict>>) -> Self {
        Self { py, app, environs: Builder::new(templates) }
    }

    // From the call to the response's end. An error is one of the application's.
    fn answer(&mut self, call: &Bound<'py, Call>, environ: Bound<'py, PyDict>, clock: &mut Clock) -> PyResult<()> {
        let result = self.app.call1((environ, call))?;
        let response = Response { py: self.py, call: call.get(), result: &result, clock };
        let answered = response.send();
        // close() is called exactly once, whatever happened, and what it raises harms no response.
        let closed = match result.getattr_opt("close") {
            Ok(Some(close)) => close.call0().map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            log(self.py, ERROR, "close() of the application's response raised", Some(&error));
        }
        answered
    }
}

impl Gateway for WsgiGateway<'_> {
    fn serve(&mut self, mut exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>> {
        let py = self.py;
        let input = Bound::new(py, InputStream::new(exchange.take_body()));
        let made = input.and_then(|input| Ok((Bound::new(py, Call::new(&input))?, input)));
        let (call, input) = match made {
            Ok(made) => made,
            // Python is out of memory: the engine answers.
            Err(error) => {
                log(py, ERROR, "a request could not be handed to the application", Some(&error));
                return Some(exchange);
            }
        };
        call.get().start(exchange);
        let environ = call.get().with(|exchange| self.environs.build(py, exchange, &input, &call));
        let answered = match environ {
            Some(Ok(environ)) => self.answer(&call, environ, clock),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        let stream = input.get().close(py);
        let mut exchange = call.get().end()?;
        if let Err(error) = answered {
            if let Some(failure) = stream.as_deref().and_then(BodyStream::failure) {
                // The application could not read its request: that is the client's doing, and no news for the log.
                exchange.refuse(failure.reject(), clock);
            } else {
                log(py, ERROR, &failed(&exchange), Some(&error));
                exchange.refuse(Reject::AppFailed, clock);
            }
        }
        if let Some(stream) = stream {
            exchange.give_back(stream);
        }
        Some(exchange)
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        self.py.detach(work)
    }
}

fn failed(exchange: &Exchange) -> String {
    let head = exchange.request();
    // The query may hold secrets; the log escapes what is not printable.
    let (method, path) = (String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.path()));
    format!("the application failed at {method} {path}")
}

// What the application returned, on its way to the client.
struct Response<'a, 'py> {
    py: Python<'py>,
    call: &'a Call,
    result: &'a Bound<'py, PyAny>,
    clock: &'a mut Clock,
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

impl<'py> Response<'_, 'py> {
    fn send(mut self) -> PyResult<()> {
        match self.send_content() {
            Ok(()) => self.finish(),
            Err(Stop::Gone) => drop(self.call.with(Exchange::abort)),
            Err(Stop::Error(error)) => return Err(error),
        }
        Ok(())
    }

    fn send_content(&mut self) -> Result<(), Stop> {
        if let Some((items, total)) = self.complete()? {
            self.begin(BodySize::Known(total))?;
            // All of it leaves when this request is done: nothing needs to be sent ahead.
            for item in items {
                self.call.with(|exchange| exchange.write(owned_or_borrowed(&item))).unwrap_or(Err(Gone))?;
            }
            return Ok(());
        }
        if let Ok(wrapper) = self.result.cast_exact::<FileWrapper>() {
            if let Some(span) = wrapper.get().span(self.py) {
                self.begin(BodySize::Known(span.length))?;
                self.call.with(|exchange| exchange.write_file(span));
                return Ok(());
            }
        }
        self.iterate()
    }

    // A list or tuple is all there: its length is known, and no chunking is needed.
    fn complete(&self) -> PyResult<Option<(Vec<Bound<'py, PyBytes>>, u64)>> {
        let items: Vec<Bound<'py, PyAny>> = if let Ok(list) = self.result.cast_exact::<PyList>() {
            list.iter().collect()
        } else if let Ok(tuple) = self.result.cast_exact::<PyTuple>() {
            tuple.iter().collect()
        } else {
            return Ok(None);
        };
        let mut total = 0;
        let mut contents = Vec::with_capacity(items.len());
        for item in items {
            let bytes = content(&item)?;
            total += bytes.as_bytes().len() as u64;
            contents.push(bytes);
        }
        Ok(Some((contents, total)))
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
        for item in iterator {
            let item = item?;
            let bytes = content(&item)?;
            // PEP 3333: the head waits for the first content that is not empty.
            if bytes.as_bytes().is_empty() {
                continue;
            }
            self.begin(BodySize::Unknown)?;
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
        self.begin(BodySize::Known(0))
    }

    fn begin(&mut self, size: BodySize) -> Result<(), Stop> {
        if !self.call.has_head() {
            let message = "the application did not call start_response before its first content (PEP 3333)";
            return Err(Stop::Error(PyAssertionError::new_err(message)));
        }
        self.call.begin(self.py, size, self.clock);
        Ok(())
    }

    fn finish(&mut self) {
        let told = self.call.with(|exchange| {
            let (lacking, surplus) = (exchange.lacking(), exchange.has_surplus());
            exchange.finish();
            (lacking, surplus, failed(exchange))
        });
        match told {
            Some((lacking, _, place)) if lacking > 0 => {
                let message = format!("{place}: its content is {lacking} bytes shorter than its Content-Length");
                log(self.py, ERROR, &message, None);
            }
            Some((_, true, place)) => {
                let message = format!("{place}: its content is longer than its Content-Length; the rest was not sent");
                log(self.py, WARNING, &message, None);
            }
            _ => {}
        }
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
