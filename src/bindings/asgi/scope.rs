//! The scope of one request, from the request's head and the listener.

use std::net::IpAddr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::bindings::ffi::latin1;
use crate::bindings::names::NameCache;
use crate::engine::exchange::Exchange;
use crate::engine::options::Options;
use crate::http::head::Version;
use crate::http::origin::{Client, Scheme};
use crate::interface::scope;

/// What a loop keeps to build scopes from.
pub struct ScopeBuilder {
    // The `server` of each listener, in the order of the listeners.
    servers: Vec<Py<PyAny>>,
    // The lifespan's state; none if the application does not support lifespans.
    state: Option<Py<PyDict>>,
    // Applications are offered to send files by their path.
    pathsend: bool,
    // The prefix of every path, unless a proxy forwards another.
    root_path: Vec<u8>,
    // In lower case.
    names: NameCache<PyBytes>,
    last_ip: Option<(IpAddr, Py<PyString>)>,
}

impl ScopeBuilder {
    /// A builder for listeners that are at `servers`.
    pub fn new(servers: Vec<Py<PyAny>>, state: Option<Py<PyDict>>, options: &Options) -> Self {
        let (pathsend, root_path) = (options.pathsend, options.root_path.clone());
        Self { servers, state, pathsend, root_path, names: NameCache::default(), last_ip: None }
    }

    /// The scope of an HTTP request.
    pub fn http<'py>(&mut self, py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.request();
        let made = self.common(py, exchange, intern!(py, "http"))?;
        let scheme = if is_secure(exchange) { intern!(py, "https") } else { intern!(py, "http") };
        made.set_item(intern!(py, "scheme"), scheme)?;
        made.set_item(intern!(py, "method"), latin1(py, head.method())?)?;
        let extensions = PyDict::new(py);
        if self.pathsend {
            extensions.set_item(intern!(py, "http.response.pathsend"), PyDict::new(py))?;
        }
        if head.version() == Version::Http11 {
            extensions.set_item(intern!(py, "http.response.early_hint"), PyDict::new(py))?;
        }
        if scope::takes_trailers(head) {
            extensions.set_item(intern!(py, "http.response.trailers"), PyDict::new(py))?;
        }
        set_tls(&extensions, exchange)?;
        made.set_item(intern!(py, "extensions"), extensions)?;
        Ok(made)
    }

    /// The scope of a WebSocket for which the client offers these subprotocols.
    pub fn websocket<'py>(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        protocols: &[String],
    ) -> PyResult<Bound<'py, PyDict>> {
        let made = self.common(py, exchange, intern!(py, "websocket"))?;
        let scheme = if is_secure(exchange) { intern!(py, "wss") } else { intern!(py, "ws") };
        made.set_item(intern!(py, "scheme"), scheme)?;
        made.set_item(intern!(py, "subprotocols"), PyList::new(py, protocols)?)?;
        let extensions = PyDict::new(py);
        extensions.set_item(intern!(py, "websocket.http.response"), PyDict::new(py))?;
        set_tls(&extensions, exchange)?;
        made.set_item(intern!(py, "extensions"), extensions)?;
        Ok(made)
    }

    fn common<'py>(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        kind: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.request();
        let made = PyDict::new(py);
        made.set_item(intern!(py, "type"), kind)?;
        let asgi = PyDict::new(py);
        asgi.set_item(intern!(py, "version"), intern!(py, "3.0"))?;
        // `send` raises once the client has disconnected, which is new in 2.4. But Starlette relies on that alone with 2.4: a
        // stream that has nothing to send would not end with its client.
        asgi.set_item(intern!(py, "spec_version"), intern!(py, "2.3"))?;
        made.set_item(intern!(py, "asgi"), asgi)?;
        let version = match head.version() {
            Version::Http10 => intern!(py, "1.0"),
            Version::Http11 => intern!(py, "1.1"),
        };
        made.set_item(intern!(py, "http_version"), version)?;
        let prefix = exchange.origin().and_then(|origin| origin.prefix.as_deref()).unwrap_or(&self.root_path);
        made.set_item(intern!(py, "path"), &*scope::path(head, prefix))?;
        made.set_item(intern!(py, "raw_path"), PyBytes::new(py, &scope::raw_path(head, prefix)))?;
        made.set_item(intern!(py, "query_string"), PyBytes::new(py, head.query()))?;
        made.set_item(intern!(py, "root_path"), String::from_utf8_lossy(prefix))?;
        made.set_item(intern!(py, "headers"), self.headers(py, exchange)?)?;
        made.set_item(intern!(py, "client"), self.client(py, exchange)?)?;
        made.set_item(intern!(py, "server"), self.server(py, exchange)?)?;
        if let Some(state) = &self.state {
            made.set_item(intern!(py, "state"), state.bind(py).copy()?)?;
        }
        Ok(made)
    }

    // The address that the client connected to, as trusted proxies forward it.
    fn server<'py>(&self, py: Python<'py>, exchange: &Exchange) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(server) = self.servers.get(exchange.listener()) else { return Ok(None) };
        match exchange.origin().and_then(|origin| origin.port) {
            Some(port) => Ok(Some((server.bind(py).get_item(0)?, port).into_pyobject(py)?.into_any())),
            None => Ok(Some(server.bind(py).clone())),
        }
    }

    fn headers<'py>(&mut self, py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyList>> {
        let headers = PyList::empty(py);
        let mut outcome = Ok(());
        scope::fields(exchange.request(), exchange.origin(), |name, value| {
            if outcome.is_ok() {
                let lower = |_| Ok(PyBytes::new(py, &name.to_ascii_lowercase()));
                outcome = self.names.get_or_make(py, name, lower).and_then(|name| {
                    let pair: Bound<'_, PyTuple> = (name, PyBytes::new(py, value)).into_pyobject(py)?;
                    headers.append(pair)
                });
            }
        });
        outcome.map(|()| headers)
    }

    // The client of a Unix socket has no address. The port of a client behind proxies is not known.
    fn client<'py>(&mut self, py: Python<'py>, exchange: &Exchange) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Client::Ip(ip, port) = exchange.client() else { return Ok(None) };
        let known = self.last_ip.as_ref().filter(|(last, _)| *last == ip).map(|(_, text)| text.clone_ref(py));
        let text = known.unwrap_or_else(|| {
            let text = PyString::new(py, &ip.to_string()).unbind();
            self.last_ip = Some((ip, text.clone_ref(py)));
            text
        });
        (text, port.unwrap_or(0)).into_pyobject(py).map(Some)
    }
}

// Whether the client uses TLS: towards this server, unless a trusted proxy forwards something else.
fn is_secure(exchange: &Exchange) -> bool {
    let forwarded = exchange.origin().and_then(|origin| origin.scheme);
    forwarded.map_or_else(|| exchange.tls_facts().is_some(), |scheme| scheme == Scheme::Https)
}

// The extension `tls` (ASGI, "TLS Extension" 0.2). The server's own certificate is not told, as the specification allows.
fn set_tls(extensions: &Bound<'_, PyDict>, exchange: &Exchange) -> PyResult<()> {
    let Some(facts) = exchange.tls_facts() else { return Ok(()) };
    let py = extensions.py();
    let tls = PyDict::new(py);
    tls.set_item(intern!(py, "server_cert"), py.None())?;
    tls.set_item(intern!(py, "client_cert_chain"), facts.client_chain.iter().map(|one| &*one.pem).collect::<Vec<_>>())?;
    let subject = facts.client_chain.first().and_then(|client| client.subject.as_deref());
    tls.set_item(intern!(py, "client_cert_name"), subject)?;
    tls.set_item(intern!(py, "client_cert_error"), py.None())?;
    tls.set_item(intern!(py, "tls_version"), facts.version)?;
    tls.set_item(intern!(py, "cipher_suite"), facts.cipher_suite)?;
    extensions.set_item(intern!(py, "tls"), tls)
}
