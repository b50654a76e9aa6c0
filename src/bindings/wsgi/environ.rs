//! The environ of one request: the listener's template, and what the request adds.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bindings::ffi::latin1;
use crate::bindings::names::FieldNames;
use crate::engine::exchange::Exchange;
use crate::engine::wire::Wire;
use crate::http::head::Version;
use crate::interface::cgi::{self, Facts, Name};
use crate::net::stream::Presence;

use super::call::{Call, EarlyHints};
use super::input::InputStream;

/// What one worker keeps to build environs from.
pub struct Builder {
    templates: Vec<Py<PyDict>>,
    names: FieldNames,
    // The last client's address as a string: on a busy keep-alive connection, or behind a proxy, it is the next one's.
    last_ip: Option<(IpAddr, Py<PyString>)>,
}

impl Builder {
    /// A builder for the listeners' templates, in the order of the listeners.
    pub fn new(templates: Vec<Py<PyDict>>) -> Self {
        Self { templates, names: FieldNames::default(), last_ip: None }
    }

    /// The environ of one exchange.
    pub fn build<'py>(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        input: &Bound<'py, InputStream>,
        call: &Bound<'py, Call>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = match self.templates.get(exchange.listener()) {
            Some(template) => template.bind(py).copy()?,
            None => PyDict::new(py),
        };
        let head = exchange.request();
        let facts = Facts { body_length: exchange.body_length() };
        let mut outcome = Ok(());
        cgi::variables(head, &facts, |name, value| {
            if outcome.is_ok() {
                outcome = self.set(py, &environ, name, value);
            }
        });
        outcome?;
        self.set_remote(py, &environ, exchange)?;
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        if head.version() == Version::Http11 {
            environ.set_item(intern!(py, "wsgi.early_hints"), EarlyHints::new(call))?;
        }
        environ.set_item(
            intern!(py, "wsgi.client_disconnected"),
            ClientDisconnected { wire: Arc::downgrade(&exchange.wire()) },
        )?;
        Ok(environ)
    }

    fn set(&mut self, py: Python<'_>, environ: &Bound<'_, PyDict>, name: Name<'_>, value: &[u8]) -> PyResult<()> {
        let field;
        let key = match name {
            Name::RequestMethod => intern!(py, "REQUEST_METHOD"),
            Name::PathInfo => intern!(py, "PATH_INFO"),
            Name::QueryString => intern!(py, "QUERY_STRING"),
            Name::RequestUri => intern!(py, "REQUEST_URI"),
            Name::RawUri => intern!(py, "RAW_URI"),
            Name::ServerProtocol => intern!(py, "SERVER_PROTOCOL"),
            Name::ContentType => intern!(py, "CONTENT_TYPE"),
            Name::ContentLength => intern!(py, "CONTENT_LENGTH"),
            Name::Field(name) => {
                field = self.names.key(py, name)?;
                &field
            }
        };
        environ.set_item(key, latin1(py, value)?)
    }

    fn set_remote(&mut self, py: Python<'_>, environ: &Bound<'_, PyDict>, exchange: &Exchange) -> PyResult<()> {
        let peer = exchange.peer();
        let (Some(ip), Some(port)) = (peer.ip(), peer.port()) else {
            // A Unix socket's client has no address; CGI's REMOTE_ADDR must be there all the same.
            return environ.set_item(intern!(py, "REMOTE_ADDR"), intern!(py, ""));
        };
        let known = self.last_ip.as_ref().filter(|(last, _)| *last == ip).map(|(_, text)| text.clone_ref(py));
        let text = known.unwrap_or_else(|| {
            let text = PyString::new(py, &ip.to_string()).unbind();
            self.last_ip = Some((ip, text.clone_ref(py)));
            text
        });
        environ.set_item(intern!(py, "REMOTE_ADDR"), text)?;
        environ.set_item(intern!(py, "REMOTE_PORT"), port.to_string())
    }
}

/// `environ["wsgi.client_disconnected"]`: called without arguments, tells whether the client has gone.
#[pyclass(frozen, module = "wsgi._core")]
pub struct ClientDisconnected {
    // Weak: an application that keeps its environ must not keep the connection open.
    wire: Weak<Wire>,
}

#[pymethods]
impl ClientDisconnected {
    fn __call__(&self) -> bool {
        self.wire.upgrade().is_none_or(|wire| wire.stream().presence() != Presence::Here)
    }
}
