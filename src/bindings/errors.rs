//! The way from Rust's refusals to Python's exceptions. The exceptions themselves live in `wsgi.errors`.

use std::io;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::engine::transport::body::BodyFailure;
use crate::http::reject::Reject;
use crate::net::listener::BindFailure;

/// A failure that becomes a Python exception.
pub enum Failure {
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
            Failure::Value(message) => PyValueError::new_err(message),
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

/// What an application is told that writes more to a response which was ended without it.
pub fn ended(why: &'static str) -> PyErr {
    raise(&CLIENT_DISCONNECTED, "ClientDisconnected", (why,))
}

/// Whether an error says that a client has gone.
pub fn is_gone(py: Python<'_>, error: &PyErr) -> bool {
    let kind = CLIENT_DISCONNECTED.import(py, "wsgi.errors", "ClientDisconnected");
    kind.is_ok_and(|kind| error.is_instance(py, kind))
}

/// Whether an error says in its own way that the client has gone: it is the server's, follows from it, or is called so. A
/// group says it if all of its errors do.
pub fn comes_of_departure(py: Python<'_>, error: &PyErr) -> bool {
    // A chain of errors can be a ring.
    let mut links = 64;
    says_departure(error.value(py).as_any(), &mut links)
}

fn says_departure(error: &Bound<'_, PyAny>, links: &mut usize) -> bool {
    let mut link = Some(error.clone());
    while let Some(error) = link {
        if *links == 0 {
            return false;
        }
        *links -= 1;
        let name = error.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        if is_gone(error.py(), &PyErr::from_value(error.clone())) || name.contains("Disconnect") {
            return true;
        }
        // BaseExceptionGroup, and its backport to Python 3.10.
        let members = error.getattr("exceptions").ok().and_then(|members| members.cast_into::<PyTuple>().ok());
        if members.is_some_and(|all| !all.is_empty() && all.iter().all(|member| says_departure(&member, links))) {
            return true;
        }
        let next = |name| error.getattr(name).ok().filter(|next: &Bound<'_, PyAny>| !next.is_none());
        link = next("__cause__").or_else(|| next("__context__"));
    }
    false
}

/// An I/O error of ours that no class above fits.
pub fn os_error(error: io::Error) -> PyErr {
    error.into()
}
