//! The way from Rust's refusals to Python's exceptions. The exceptions themselves live in `wsgi.errors`.

use std::io;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::engine::body::BodyFailure;
use crate::http::reject::Reject;
use crate::interface::outgoing::AppError;
use crate::net::listener::BindFailure;

/// A failure that becomes a Python exception.
pub enum Failure {
    /// An address cannot be listened on.
    Bind(BindFailure),
    /// A request body cannot be read to its end.
    Body(BodyFailure),
    /// What the application handed to `start_response` breaks a rule of PEP 3333 or of HTTP.
    App(AppError),
    /// What the application handed over is of a wrong type.
    Type(String),
}

static BIND_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CLIENT_DISCONNECTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BODY_TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static MALFORMED_BODY: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn raise(cell: &'static PyOnceLock<Py<PyType>>, name: &str, arguments: impl pyo3::PyErrArguments + 'static) -> PyErr {
    Python::attach(|py| match cell.import(py, "wsgi.errors", name) {
        Ok(kind) => PyErr::from_type(kind.clone(), arguments),
        Err(error) => error,
    })
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Bind(failure) => {
                raise(&BIND_ERROR, "BindError", (failure.to_string(), failure.error.raw_os_error()))
            }
            Failure::Body(BodyFailure::Incomplete | BodyFailure::Refused(Reject::BodyIncomplete)) => raise(
                &CLIENT_DISCONNECTED,
                "ClientDisconnected",
                ("the client left before its request body was complete",),
            ),
            Failure::Body(BodyFailure::TimedOut) => {
                raise(&BODY_TIMEOUT, "BodyTimeout", ("the request body came too slowly",))
            }
            Failure::Body(BodyFailure::Refused(reject)) => raise(&MALFORMED_BODY, "MalformedBody", (reject.detail(),)),
            Failure::App(error) => PyValueError::new_err(error.message()),
            Failure::Type(message) => PyTypeError::new_err(message),
        }
    }
}

impl From<BodyFailure> for Failure {
    fn from(failure: BodyFailure) -> Self {
        Self::Body(failure)
    }
}

impl From<BindFailure> for Failure {
    fn from(failure: BindFailure) -> Self {
        Self::Bind(failure)
    }
}

/// What an application is told that sends something to a client which has gone.
pub fn gone() -> PyErr {
    raise(&CLIENT_DISCONNECTED, "ClientDisconnected", ("the client has gone",))
}

/// What an application is told that writes more to a response which a stop has ended.
pub fn stopping() -> PyErr {
    raise(&CLIENT_DISCONNECTED, "ClientDisconnected", ("the response was cut because the server is stopping",))
}

/// Whether an error says that a client has gone.
pub fn is_gone(py: Python<'_>, error: &PyErr) -> bool {
    let kind = CLIENT_DISCONNECTED.import(py, "wsgi.errors", "ClientDisconnected");
    kind.is_ok_and(|kind| error.is_instance(py, kind))
}

/// An I/O error of ours that no class above fits.
pub fn os_error(error: io::Error) -> PyErr {
    error.into()
}
