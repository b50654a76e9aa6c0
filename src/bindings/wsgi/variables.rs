//! The variables of an environ: their keys, and the values that come with the exchange.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bindings::ffi::latin1;
use crate::bindings::names::NameCache;
use crate::engine::exchange::Exchange;
use crate::http::number::{Decimal, push_ip};
use crate::http::origin::Client;
use crate::interface::cgi::{Facts, Name, field_key};
use crate::net::tls::facts::TlsFacts;

/// The environ keys of fields, such as `HTTP_USER_AGENT`: made once, because clients repeat the fields.
#[derive(Default)]
pub struct FieldKeys {
    cache: NameCache<PyString>,
    scratch: Vec<u8>,
}

impl FieldKeys {
    fn get<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
        let Self { cache, scratch } = self;
        cache.get_or_make(py, name, |is_first| {
            scratch.clear();
            field_key(name, scratch);
            let key = latin1(py, scratch)?;
            // Some Pythons never free interned strings: only the first name of each row is interned.
            if is_first { Ok(PyString::intern(py, key.to_str()?)) } else { Ok(key) }
        })
    }
}

/// What the exchange adds to its head.
pub(super) fn facts(exchange: &Exchange) -> Facts<'_> {
    Facts { body_length: exchange.body_length(), origin: exchange.origin() }
}

/// The key of a variable.
pub(super) fn key<'py>(py: Python<'py>, keys: &mut FieldKeys, name: Name<'_>) -> PyResult<Bound<'py, PyString>> {
    Ok(match name {
        Name::RequestMethod => intern!(py, "REQUEST_METHOD").clone(),
        Name::PathInfo => intern!(py, "PATH_INFO").clone(),
        Name::QueryString => intern!(py, "QUERY_STRING").clone(),
        Name::RequestUri => intern!(py, "REQUEST_URI").clone(),
        Name::RawUri => intern!(py, "RAW_URI").clone(),
        Name::ServerProtocol => intern!(py, "SERVER_PROTOCOL").clone(),
        Name::ContentType => intern!(py, "CONTENT_TYPE").clone(),
        Name::ContentLength => intern!(py, "CONTENT_LENGTH").clone(),
        Name::ServerPort => intern!(py, "SERVER_PORT").clone(),
        Name::ScriptName => intern!(py, "SCRIPT_NAME").clone(),
        Name::UrlScheme => intern!(py, "wsgi.url_scheme").clone(),
        Name::Field(name) => keys.get(py, name)?,
    })
}

/// Sets the address of the client, empty for one without an address: CGI requires `REMOTE_ADDR`.
pub(super) fn set_client(environ: &Bound<'_, PyDict>, client: Client) -> PyResult<()> {
    let py = environ.py();
    let mut address = Vec::new();
    let port = match client {
        Client::Ip(ip, port) => {
            push_ip(&mut address, ip);
            port
        }
        Client::Local | Client::Unknown => None,
    };
    environ.set_item(intern!(py, "REMOTE_ADDR"), latin1(py, &address)?)?;
    match port {
        Some(port) => set_port(environ, port),
        None => Ok(()),
    }
}

/// Sets the port of the client.
pub(super) fn set_port(environ: &Bound<'_, PyDict>, port: u16) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "REMOTE_PORT"), latin1(py, Decimal::new(port.into()).as_bytes())?)
}

/// Sets what was agreed on with a client that speaks TLS, under the names of Apache's `mod_ssl`.
pub(super) fn set_tls(environ: &Bound<'_, PyDict>, facts: &TlsFacts) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "SSL_PROTOCOL"), facts.version_name())?;
    environ.set_item(intern!(py, "SSL_CIPHER"), &facts.cipher)?;
    if let Some(name) = &facts.server_name {
        environ.set_item(intern!(py, "SSL_TLS_SNI"), name)?;
    }
    let Some(client) = facts.client_chain.first() else {
        return environ.set_item(intern!(py, "SSL_CLIENT_VERIFY"), intern!(py, "NONE"));
    };
    environ.set_item(intern!(py, "SSL_CLIENT_VERIFY"), intern!(py, "SUCCESS"))?;
    if let Some(subject) = &client.subject {
        environ.set_item(intern!(py, "SSL_CLIENT_S_DN"), latin1(py, subject.as_bytes())?)?;
    }
    environ.set_item(intern!(py, "SSL_CLIENT_CERT"), &client.pem)
}
