//! The environ of one request: what the worker keeps ready for its listener, and what the request adds.

use std::net::IpAddr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bindings::ffi::latin1;
use crate::bindings::names::FieldNames;
use crate::engine::exchange::Exchange;
use crate::http::head::Version;
use crate::http::number::Decimal;
use crate::http::origin::Client;
use crate::interface::cgi::{self, Facts, Name};

use super::kit::Kit;

/// What one worker keeps to build environs from.
pub struct Builder<'py> {
    templates: Vec<Template<'py>>,
    names: FieldNames,
}

// A listener's base environ with what most requests have in common, to be copied: that is quicker than adding to an
// empty dict, and the copy has room for what comes.
struct Template<'py> {
    environ: Bound<'py, PyDict>,
    // Whose address it has: on a busy keep-alive connection, or behind a proxy, the next client's is the same.
    remote: Option<IpAddr>,
}

impl<'py> Builder<'py> {
    /// A builder for the listeners' base environs, in the order of the listeners.
    pub fn new(py: Python<'py>, bases: &[Py<PyDict>]) -> PyResult<Self> {
        let template = |base: &Py<PyDict>| {
            let environ = base.bind(py).copy()?;
            for (key, value) in [
                (intern!(py, "REQUEST_METHOD"), intern!(py, "GET")),
                (intern!(py, "PATH_INFO"), intern!(py, "/")),
                (intern!(py, "QUERY_STRING"), intern!(py, "")),
                (intern!(py, "REQUEST_URI"), intern!(py, "/")),
                (intern!(py, "RAW_URI"), intern!(py, "/")),
                (intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.1")),
                // Some clients have no address; CGI's REMOTE_ADDR must be there all the same.
                (intern!(py, "REMOTE_ADDR"), intern!(py, "")),
            ] {
                environ.set_item(key, value)?;
            }
            Ok(Template { environ, remote: None })
        };
        let templates = bases.iter().map(template).collect::<PyResult<_>>()?;
        Ok(Self { templates, names: FieldNames::default() })
    }

    /// From now on environs hand out what `kit` has.
    pub fn equip(&self, py: Python<'py>, kit: &Kit<'py>) -> PyResult<()> {
        for Template { environ, .. } in &self.templates {
            environ.set_item(intern!(py, "wsgi.input"), &kit.input)?;
            environ.set_item(intern!(py, "wsgi.early_hints"), &kit.early_hints)?;
            environ.set_item(intern!(py, "wsgi.client_disconnected"), &kit.client_disconnected)?;
        }
        Ok(())
    }

    /// The environ of one exchange.
    pub fn build(&mut self, py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyDict>> {
        let Self { templates, names } = self;
        let environ = match templates.get_mut(exchange.listener()) {
            Some(template) => template.copy_for(py, exchange)?,
            None => PyDict::new(py),
        };
        let head = exchange.request();
        if head.version() != Version::Http11 {
            environ.del_item(intern!(py, "wsgi.early_hints"))?;
        }
        let facts = Facts { body_length: exchange.body_length(), origin: exchange.origin() };
        // Most targets are a path without escapes, and one string serves three variables.
        let mut target: Option<Bound<'py, PyString>> = None;
        let mut set = |name: Name<'_>, value: &[u8]| match name {
            Name::Field(name) => {
                let (key, value) = names.item(py, name, value)?;
                environ.set_item(key, value)
            }
            // What the template says already.
            Name::RequestMethod if value == b"GET" => Ok(()),
            Name::QueryString if value.is_empty() => Ok(()),
            Name::ServerProtocol if value == b"HTTP/1.1" => Ok(()),
            Name::RequestMethod => environ.set_item(intern!(py, "REQUEST_METHOD"), latin1(py, value)?),
            Name::QueryString => environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, value)?),
            Name::ServerProtocol => environ.set_item(intern!(py, "SERVER_PROTOCOL"), latin1(py, value)?),
            Name::ContentType => environ.set_item(intern!(py, "CONTENT_TYPE"), latin1(py, value)?),
            Name::ContentLength => environ.set_item(intern!(py, "CONTENT_LENGTH"), latin1(py, value)?),
            Name::ServerPort => environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, value)?),
            Name::ScriptName => environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, value)?),
            Name::UrlScheme => environ.set_item(intern!(py, "wsgi.url_scheme"), latin1(py, value)?),
            Name::PathInfo => {
                let value_is_target = value == head.target();
                let value = latin1(py, value)?;
                target = value_is_target.then(|| value.clone());
                environ.set_item(intern!(py, "PATH_INFO"), value)
            }
            Name::RequestUri | Name::RawUri => {
                let value = match &target {
                    Some(target) => target,
                    None => target.insert(latin1(py, value)?),
                };
                let is_raw = matches!(name, Name::RawUri);
                environ.set_item(if is_raw { intern!(py, "RAW_URI") } else { intern!(py, "REQUEST_URI") }, value)
            }
        };
        let mut outcome = Ok(());
        cgi::variables(head, &facts, |name, value| {
            if outcome.is_ok() {
                outcome = set(name, value);
            }
        });
        outcome?;
        Ok(environ)
    }
}

impl<'py> Template<'py> {
    fn copy_for(&mut self, py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyDict>> {
        let (ip, port) = match exchange.client() {
            Client::Ip(ip, port) => (Some(ip), port),
            Client::Local | Client::Unknown => (None, None),
        };
        if self.remote != ip {
            let text = ip.map_or_else(String::new, |ip| ip.to_string());
            self.environ.set_item(intern!(py, "REMOTE_ADDR"), text)?;
            self.remote = ip;
        }
        let environ = self.environ.copy()?;
        if let Some(port) = port {
            environ.set_item(intern!(py, "REMOTE_PORT"), latin1(py, Decimal::new(port.into()).as_bytes())?)?;
        }
        Ok(environ)
    }
}
