//! The dicts that applications send: their fields, and those about responses. Reading them may run code of the application's; what
//! comes of it is plain.

use std::fs::File;
use std::path::PathBuf;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString};

use crate::engine::exchange::{Content, ZERO_COPY_BYTES};
use crate::http::head::ResponseHead;
use crate::interface::outgoing::{self, AppError};
use crate::net::descriptor;

/// A message about a response, judged.
pub enum HttpSendEvent<'py> {
    /// `http.response.start`.
    Start {
        /// Status and fields.
        head: ResponseHead,
        /// Trailer fields are announced.
        trailers: bool,
    },
    /// `http.response.body`.
    Body {
        /// Content.
        bytes: Bound<'py, PyBytes>,
        /// There is more to come.
        more: bool,
    },
    /// `http.response.pathsend`.
    File {
        /// The open file.
        file: File,
        /// Its size.
        length: u64,
    },
    /// `http.response.trailers`.
    Trailers {
        /// The field lines.
        lines: Vec<u8>,
        /// There are more to come.
        more: bool,
    },
    /// `http.response.early_hint`, as field lines.
    Hint(Vec<u8>),
}

impl<'py> HttpSendEvent<'py> {
    /// What a message says of a response; `None` if it is about something else.
    pub fn of(message: &Message<'_, 'py>) -> PyResult<Option<Self>> {
        let py = message.fields.py();
        Ok(Some(match message.kind.as_str() {
            "http.response.start" => message.start()?,
            "http.response.body" => {
                Self::Body { bytes: message.bytes(intern!(py, "body"))?, more: message.flag(intern!(py, "more_body"))? }
            }
            "http.response.pathsend" => message.file()?,
            "http.response.trailers" => {
                let mut lines = Vec::new();
                message
                    .each_header(|name, value| outgoing::hint_or_trailer_field(&mut lines, name, value).map(drop))?;
                Self::Trailers { lines, more: message.flag(intern!(py, "more_trailers"))? }
            }
            "http.response.early_hint" => message.hint()?,
            _ => return Ok(None),
        }))
    }

    /// The error for a message at a wrong time.
    pub fn out_of_order(&self, why: &str) -> PyErr {
        let kind = match self {
            Self::Start { .. } => "start",
            Self::Body { .. } => "body",
            Self::File { .. } => "pathsend",
            Self::Trailers { .. } => "trailers",
            Self::Hint(_) => "early_hint",
        };
        PyRuntimeError::new_err(format!("http.response.{kind} was sent {why}"))
    }
}

/// The error for a message that the protocol of the request does not have.
pub fn out_of_place(what: &str, place: &str) -> PyErr {
    PyValueError::new_err(format!("send: {what} has no place in {place}"))
}

/// A message of the application's as it came.
pub struct Message<'a, 'py> {
    /// All of it.
    pub fields: &'a Bound<'py, PyAny>,
    /// Its type.
    pub kind: String,
}

impl<'a, 'py> Message<'a, 'py> {
    /// Reads its type.
    pub fn new(fields: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if !fields.is_instance_of::<PyDict>() && !fields.is_instance_of::<PyMapping>() {
            return Err(PyTypeError::new_err(format!("send: a message must be a dict, not {}", type_name(fields))));
        }
        let mut message = Self { fields, kind: String::new() };
        let kind = message
            .get(intern!(fields.py(), "type"))?
            .ok_or_else(|| PyValueError::new_err("send: the message has no 'type'"))?;
        let Ok(kind) = kind.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("send: 'type' must be a str, not {}", type_name(&kind))));
        };
        // No type of ASGI's has anything but ASCII: a str without a UTF-8 form is one more that is unknown.
        message.kind = kind.to_string_lossy().into_owned();
        Ok(message)
    }

    fn start(&self) -> PyResult<HttpSendEvent<'py>> {
        let py = self.fields.py();
        let status = self.required("status")?;
        let code: i64 = status.extract().map_err(|_| self.wrong_type("status", "an int", &status))?;
        let code = u16::try_from(code).map_err(|_| self.wrong_status(AppError::StatusRange))?;
        let mut head = outgoing::status_code(code).map_err(|error| self.wrong_status(error))?;
        self.each_header(|name, value| outgoing::field(&mut head, name, value).map(drop))?;
        Ok(HttpSendEvent::Start { head, trailers: self.flag(intern!(py, "trailers"))? })
    }

    fn file(&self) -> PyResult<HttpSendEvent<'py>> {
        let path = self.required("path")?;
        let path = path.cast::<PyString>().map_err(|_| self.wrong_type("path", "a str", &path))?;
        // As everywhere in Python, what is no UTF-8 of a file's name is there as lone surrogates.
        let path: PathBuf = path.extract()?;
        // Opening a file is short; sending it is the kernel's, piece by piece.
        let file = File::open(path)?;
        let Some(length) = descriptor::known_size(&file)? else {
            let message = "http.response.pathsend: \"path\" must be that of a regular file of known size";
            return Err(PyValueError::new_err(message));
        };
        Ok(HttpSendEvent::File { file, length })
    }

    fn hint(&self) -> PyResult<HttpSendEvent<'py>> {
        let links = self.required("links")?;
        let mut hints = Vec::new();
        for link in links.try_iter().map_err(|_| self.wrong_type("links", "an iterable of bytes", &links))? {
            let link = link?;
            let value = link.extract::<&[u8]>().map_err(|_| self.wrong_type("links", "bytes", &link))?;
            outgoing::hint_or_trailer_field(&mut hints, b"Link", value)
                .map_err(|error| self.wrong_field(b"Link", error))?;
        }
        Ok(HttpSendEvent::Hint(hints))
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Ok(dict) = self.fields.cast_exact::<PyDict>() {
            return dict.get_item(key);
        }
        let found = self.fields.call_method1(intern!(self.fields.py(), "get"), (key,))?;
        Ok((!found.is_none()).then_some(found))
    }

    fn required(&self, key: &str) -> PyResult<Bound<'py, PyAny>> {
        let found = self.get(&PyString::intern(self.fields.py(), key))?;
        found.ok_or_else(|| PyValueError::new_err(format!("{}: the message has no {key:?}", self.kind)))
    }

    // A value that is true or false; false if it is not there.
    fn flag(&self, key: &Bound<'py, PyString>) -> PyResult<bool> {
        self.get(key)?.map_or(Ok(false), |value| value.is_truthy())
    }

    /// The error for a value of a wrong type.
    pub fn wrong_type(&self, key: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
        PyTypeError::new_err(format!("{}: {key:?} must be {wanted}, not {}", self.kind, type_name(value)))
    }

    fn wrong_status(&self, error: AppError) -> PyErr {
        PyValueError::new_err(format!("{}: \"status\": {error}", self.kind))
    }

    fn wrong_field(&self, name: &[u8], error: AppError) -> PyErr {
        PyValueError::new_err(format!("{}: {}", self.kind, error.in_field(name)))
    }

    /// The text of a str that has a UTF-8 form.
    pub fn text<'t>(&self, key: &str, value: &'t Bound<'py, PyString>) -> PyResult<&'t str> {
        value.to_str().map_err(|_| {
            PyValueError::new_err(format!("{}: {key:?} contains a lone surrogate, which has no UTF-8 form", self.kind))
        })
    }

    /// The bytes of a key, empty if it is not there.
    pub fn bytes(&self, key: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyBytes>> {
        let py = self.fields.py();
        let Some(value) = self.get(key)? else { return Ok(PyBytes::new(py, b"")) };
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return Ok(bytes.clone());
        }
        self.copied(key, &value)
    }

    // A copy: a subclass of bytes may have a finalizer, which would run wherever the last reference is dropped, and other
    // buffers may change.
    fn copied(&self, key: &Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(PyBytes::new(value.py(), bytes.as_bytes()));
        }
        let is_buffer = ["bytearray", "memoryview"].contains(&type_name(value).as_str());
        if !is_buffer {
            return Err(self.wrong_type(&key.to_string_lossy(), "bytes", value));
        }
        let made = value.py().get_type::<PyBytes>().call1((value,))?;
        Ok(made.cast_into::<PyBytes>()?)
    }

    /// Calls `with` with name and value of each header.
    pub fn each_header(&self, mut with: impl FnMut(&[u8], &[u8]) -> Result<(), AppError>) -> PyResult<()> {
        let Some(headers) = self.get(intern!(self.fields.py(), "headers"))? else { return Ok(()) };
        let wrong = |value: &Bound<'py, PyAny>| self.wrong_type("headers", "an iterable of pairs of bytes", value);
        for pair in headers.try_iter().map_err(|_| wrong(&headers))? {
            let pair = pair?;
            let (name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = if let Ok(pair) = pair.extract() {
                pair
            } else {
                let parts: Vec<Bound<'py, PyAny>> = pair.extract().map_err(|_| wrong(&pair))?;
                let Ok([name, value]) = <[_; 2]>::try_from(parts) else { return Err(wrong(&pair)) };
                (name, value)
            };
            let Ok(name) = name.cast::<PyBytes>() else {
                let message = format!("{}: a header name must be bytes, not {}", self.kind, type_name(&name));
                return Err(PyTypeError::new_err(message));
            };
            let Ok(value) = value.cast::<PyBytes>() else {
                let (name, kind) = (outgoing::shown_name(name.as_bytes()), type_name(&value));
                let message = format!("{}: header '{name}': the value must be bytes, not {kind}", self.kind);
                return Err(PyTypeError::new_err(message));
            };
            with(name.as_bytes(), value.as_bytes()).map_err(|error| self.wrong_field(name.as_bytes(), error))?;
        }
        Ok(())
    }
}

/// Content that is sent from where it lies, if it is large.
pub fn content<'a>(bytes: &'a Bound<'_, PyBytes>) -> Content<'a> {
    if bytes.as_bytes().len() >= ZERO_COPY_BYTES {
        Content::Owned(Box::new(PyBackedBytes::from(bytes.clone())))
    } else {
        Content::Borrowed(bytes.as_bytes())
    }
}

/// The name of a value's type, for a message.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
