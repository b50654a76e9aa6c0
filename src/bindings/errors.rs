//! The way from Rust's refusals to Python's exceptions. The exceptions themselves live in `wsgi.errors`.

use std::io;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::engine::transport::body::BodyFailure;
use crate::http::reject::Reject;
use crate::net::listener::BindFailure;

/// An error that becomes a Python exception.
pub enum PythonError {
    /// An address cannot be listened on.
    Bind(BindFailure),
    /// A request body cannot be read to its end.
    Body(BodyFailure),
    /// What the application handed over breaks a rule of PEP 3333 or of HTTP.
    Value(String),
    /// What the application handed over is of a wrong type.
    Type(String),
}

static BIND_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CLIENT_DISCONNECTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BODY_TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static MALFORMED_BODY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static REQUEST_TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn raise(cell: &'static PyOnceLock<Py<PyType>>, name: &str, arguments: impl pyo3::PyErrArguments + 'static) -> PyErr {
    Python::attach(|py| match cell.import(py, "wsgi.errors", name) {
        Ok(kind) => PyErr::from_type(kind.clone(), arguments),
        Err(error) => error,
    })
}

impl From<PythonError> for PyErr {
    fn from(failure: PythonError) -> Self {
        match failure {
            PythonError::Bind(failure) => {
                raise(&BIND_ERROR, "BindError", (failure.to_string(), failure.error.raw_os_error()))
            }
            PythonError::Body(BodyFailure::Incomplete | BodyFailure::Refused(Reject::BodyIncomplete)) => raise(
                &CLIENT_DISCONNECTED,
                "ClientDisconnected",
                ("the client left before its request body was complete",),
            ),
            PythonError::Body(BodyFailure::TimedOut) => {
                raise(&BODY_TIMEOUT, "BodyTimeout", ("the request body came too slowly",))
            }
            PythonError::Body(BodyFailure::Refused(reject)) => {
                raise(&MALFORMED_BODY, "MalformedBody", (reject.detail(),))
            }
            PythonError::Value(message) => PyValueError::new_err(message),
            PythonError::Type(message) => PyTypeError::new_err(message),
        }
    }
}

impl From<BodyFailure> for PythonError {
    fn from(failure: BodyFailure) -> Self {
        Self::Body(failure)
    }
}

impl From<BindFailure> for PythonError {
    fn from(failure: BindFailure) -> Self {
        Self::Bind(failure)
    }
}

/// The exception for an application that sends to a client which has disconnected.
pub fn client_disconnected() -> PyErr {
    raise(&CLIENT_DISCONNECTED, "ClientDisconnected", ("the client has disconnected",))
}

/// The exception for an application that writes to a response which the server has ended, with the reason.
pub fn response_ended(why: &'static str) -> PyErr {
    raise(&CLIENT_DISCONNECTED, "ClientDisconnected", (why,))
}

/// The class of the exception that is raised in a call that takes too long.
pub fn request_timeout(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    REQUEST_TIMEOUT.import(py, "wsgi.errors", "RequestTimeout")
}

/// Whether an error is of that class.
pub fn is_request_timeout(py: Python<'_>, error: &PyErr) -> bool {
    request_timeout(py).is_ok_and(|kind| error.is_instance(py, kind))
}

/// Whether an error is the one of [`client_disconnected`], [`response_ended`] or an incomplete request body.
pub fn is_client_disconnected(py: Python<'_>, error: &PyErr) -> bool {
    let kind = CLIENT_DISCONNECTED.import(py, "wsgi.errors", "ClientDisconnected");
    kind.is_ok_and(|kind| error.is_instance(py, kind))
}

/// Whether an error was caused by a disconnect of the client: it is the server's own, was raised from it or while it was
/// handled, or its class has "Disconnect" in its name. For an exception group, whether all of its errors were.
pub fn is_caused_by_disconnect(py: Python<'_>, error: &PyErr) -> bool {
    // A chain of errors can be a ring.
    let mut links = 64;
    has_disconnect_in_chain(error.value(py).as_any(), &mut links)
}

fn has_disconnect_in_chain(error: &Bound<'_, PyAny>, links: &mut usize) -> bool {
    let mut link = Some(error.clone());
    while let Some(error) = link {
        if *links == 0 {
            return false;
        }
        *links -= 1;
        let name = error.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        if is_client_disconnected(error.py(), &PyErr::from_value(error.clone())) || name.contains("Disconnect") {
            return true;
        }
        // BaseExceptionGroup, and its backport to Python 3.10.
        let members = error.getattr("exceptions").ok().and_then(|members| members.cast_into::<PyTuple>().ok());
        if members
            .is_some_and(|all| !all.is_empty() && all.iter().all(|member| has_disconnect_in_chain(&member, links)))
        {
            return true;
        }
        let next = |name| error.getattr(name).ok().filter(|next: &Bound<'_, PyAny>| !next.is_none());
        link = next("__cause__").or_else(|| next("__context__"));
    }
    false
}

/// An I/O error that no class above fits.
pub fn os_error(error: io::Error) -> PyErr {
    error.into()
}
