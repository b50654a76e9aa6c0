//! The environ of one request. One of a usual shape is copied from that shape's template, in which only what differs from
//! the last such request was put right; any other is built from the variables one by one.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bindings::ffi::latin1;
use crate::bindings::names::FieldNames;
use crate::engine::exchange::Exchange;
use crate::http::number::{Decimal, push_ip};
use crate::http::origin::Client;
use crate::interface::cgi::{self, Facts, Name};
use crate::interface::shape;

use super::call_objects::CallObjects;
use super::template::Template;

/// Templates of one worker: clients cannot make it more.
const TEMPLATES: usize = 32;

/// What one worker keeps to build environs from.
pub struct Builder<'py> {
    bases: Vec<Bound<'py, PyDict>>,
    names: FieldNames,
    places: Vec<Place<'py>>,
}

// Where the templates of some shapes lie.
#[derive(Default)]
struct Place<'py> {
    template: Option<Template<'py>>,
    // The digest that was looked for last and had none. A shape that comes twice in a row gets the place, so that a shape
    // that comes once costs no more than its variables.
    missed: Option<u32>,
}

/// What the exchange adds to its head.
pub(super) fn facts(exchange: &Exchange) -> Facts<'_> {
    Facts { body_length: exchange.body_length(), origin: exchange.origin() }
}

impl<'py> Builder<'py> {
    /// A builder for the listeners' base environs, in the order of the listeners.
    pub fn new(py: Python<'py>, bases: &[Py<PyDict>]) -> PyResult<Self> {
        let bases = bases.iter().map(|base| base.bind(py).copy()).collect::<PyResult<_>>()?;
        let places = (0..TEMPLATES).map(|_| Place::default()).collect();
        Ok(Self { bases, names: FieldNames::default(), places })
    }

    /// The environ of one exchange, with the objects of `objects`.
    pub fn build(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        objects: &mut CallObjects<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.request();
        let digest = shape::digest(head, &facts(exchange));
        let Self { bases, names, places } = self;
        let place = &mut places[(digest as usize ^ exchange.listener()) % TEMPLATES];
        let mut different = place.template.as_ref().and_then(|template| template.differences(exchange));
        if different.is_some() {
            place.missed = None;
        } else if place.missed.replace(digest) == Some(digest) {
            if let Some(template) = Template::learn(py, bases, names, exchange)? {
                different = template.differences(exchange);
                place.template = Some(template);
            }
        }
        let (Some(template), Some(different)) = (&mut place.template, different) else {
            return self.assemble(py, exchange, objects);
        };
        template.environ(py, exchange, different, objects)
    }

    // Variable by variable.
    fn assemble(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        objects: &CallObjects<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = match self.bases.get(exchange.listener()) {
            Some(base) => base.copy()?,
            None => PyDict::new(py),
        };
        objects.install(&environ, exchange.request().version())?;
        set_client(&environ, exchange.client())?;
        let mut outcome = Ok(());
        cgi::variables(exchange.request(), &facts(exchange), |name, value| {
            if outcome.is_ok() {
                outcome = key(py, &mut self.names, name).and_then(|key| environ.set_item(key, latin1(py, value)?));
            }
        });
        outcome?;
        Ok(environ)
    }

    /// Lets go of the objects, of which the application keeps something: the templates must not keep it as well.
    pub fn forget_objects(&mut self) {
        for place in &mut self.places {
            // What could not be stripped is of no use.
            if place.template.as_mut().is_some_and(|template| template.clear().is_err()) {
                place.template = None;
            }
        }
    }
}

/// The key of a variable.
pub(super) fn key<'py>(py: Python<'py>, names: &mut FieldNames, name: Name<'_>) -> PyResult<Bound<'py, PyString>> {
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
        Name::Field(name) => names.key(py, name)?,
    })
}

/// Who asks. A client without an address has an empty one: CGI's `REMOTE_ADDR` must be there all the same.
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

/// The port that it asks from.
pub(super) fn set_port(environ: &Bound<'_, PyDict>, port: u16) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "REMOTE_PORT"), latin1(py, Decimal::new(port.into()).as_bytes())?)
}
