//! The environ of the last request of one shape, to be copied for the next one: a dict that has all keys is copied more
//! quickly than one is filled, and most requests differ in few values. (Gained 5,000 of 22,000 instructions a request.)

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bindings::ffi::{latin1, references};
use crate::engine::exchange::Exchange;
use crate::http::head::RequestHead;
use crate::http::number::Decimal;
use crate::http::origin::Client;
use crate::http::target::percent_decode;
use crate::interface::shape::Shape;

use super::call_objects::CallObjects;
use super::variables::{FieldKeys, facts, key, set_client, set_port};

/// Longer values are not kept in a template.
const MAX_VALUE_BYTES: usize = 256;
/// Fields whose values are secrets of one client.
const SECRET_FIELDS: [&[u8]; 3] = [b"cookie", b"authorization", b"proxy-authorization"];

// The variable of one field line.
struct TemplateLine {
    key: Py<PyString>,
    // The line whose value the environ has; none where it has none.
    text: Vec<u8>,
    keeps: bool,
}

/// What one worker keeps of one shape.
pub struct Template<'py> {
    shape: Shape,
    listener: usize,
    environ: Bound<'py, PyDict>,
    has_objects: bool,
    // False while the environ is changed: an error or a panic has left it inconsistent with the fields below.
    is_sound: bool,
    // What the environ contains of the last request.
    client: Client,
    method: Vec<u8>,
    target: Vec<u8>,
    length: Option<u64>,
    lines: Vec<Option<TemplateLine>>,
}

impl<'py> Template<'py> {
    /// A template for requests like this one. `None`: it has no shape.
    pub fn learn(
        py: Python<'py>,
        bases: &[Bound<'py, PyDict>],
        keys: &mut FieldKeys,
        exchange: &Exchange,
    ) -> PyResult<Option<Self>> {
        let shape = Shape::of(exchange.request(), &facts(exchange));
        let (Some(shape), Some(base)) = (shape, bases.get(exchange.listener())) else { return Ok(None) };
        let environ = base.copy()?;
        // Every copy has the keys of all lines.
        let mut lines = Vec::new();
        for (variable, (name, _)) in shape.variables().zip(exchange.request().fields()) {
            let Some(variable) = variable else {
                lines.push(None);
                continue;
            };
            let key = key(py, keys, variable)?;
            environ.set_item(&key, intern!(py, ""))?;
            let keeps = !SECRET_FIELDS.iter().any(|secret| name.eq_ignore_ascii_case(secret));
            lines.push(Some(TemplateLine { key: key.unbind(), text: Vec::new(), keeps }));
        }
        let protocol = latin1(py, shape.version().as_bytes())?;
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
        let (listener, client) = (exchange.listener(), exchange.client());
        set_client(&environ, client)?;
        // No request has an empty method or target: the first one sets them.
        let (method, target, length) = (Vec::new(), Vec::new(), None);
        Ok(Some(Self {
            shape,
            listener,
            environ,
            has_objects: false,
            is_sound: true,
            client,
            method,
            target,
            length,
            lines,
        }))
    }

    /// Whether this is the template for an exchange, and by which lines that differs from the last one.
    pub fn differences(&self, exchange: &Exchange) -> Option<u64> {
        // The garbage collector lists the environ. One that something else refers to must not lead to later requests.
        if !self.is_sound
            || references(&self.environ) != 1 + isize::from(self.has_objects)
            || self.listener != exchange.listener()
            || has_port(self.client) != has_port(exchange.client())
        {
            return None;
        }
        self.shape.differences(exchange.request(), &facts(exchange), |number, line| {
            self.lines.get(number).and_then(Option::as_ref).is_some_and(|known| known.text == line)
        })
    }

    /// The environ of an exchange that it is for, with the objects of `objects`. `different` are the lines that differ.
    pub fn environ(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        different: u64,
        objects: &mut CallObjects<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.request();
        self.is_sound = false;
        if !self.has_objects {
            objects.install_in_template(&self.environ, head.version())?;
            self.has_objects = true;
        }
        self.update_client(exchange.client())?;
        if self.method != head.method() {
            self.environ.set_item(intern!(py, "REQUEST_METHOD"), latin1(py, head.method())?)?;
            replace(&mut self.method, head.method());
        }
        if self.length != exchange.body_length() {
            let length = exchange.body_length().unwrap_or_default();
            self.environ.set_item(intern!(py, "CONTENT_LENGTH"), latin1(py, Decimal::new(length).as_bytes())?)?;
            self.length = exchange.body_length();
        }
        // A query may hold secrets.
        let keeps_target = head.query().is_empty() && head.target().len() <= MAX_VALUE_BYTES;
        if keeps_target && self.target != head.target() {
            set_target(&self.environ, head)?;
            replace(&mut self.target, head.target());
        }
        let mut unkept = 0;
        for number in bits(different) {
            let (Some(Some(line)), Some((whole, _))) = (self.lines.get_mut(number), head.lines().nth(number)) else {
                continue;
            };
            if !line.keeps(whole) {
                unkept |= 1 << number;
            } else if let Some((_, value)) = head.fields().nth(number) {
                self.environ.set_item(&line.key, latin1(py, value)?)?;
                replace(&mut line.text, whole);
            }
        }
        let environ = self.environ.copy()?;
        self.is_sound = true;
        if !keeps_target {
            set_target(&environ, head)?;
        }
        for number in bits(unkept) {
            if let (Some(Some(line)), Some((_, value))) = (self.lines.get(number), head.fields().nth(number)) {
                environ.set_item(&line.key, latin1(py, value)?)?;
            }
        }
        Ok(environ)
    }

    fn update_client(&mut self, client: Client) -> PyResult<()> {
        if self.client == client {
            return Ok(());
        }
        match (self.client, client) {
            // On a busy keep-alive connection, or behind a proxy, the next client's address is the same.
            (Client::Ip(before, _), Client::Ip(ip, Some(port))) if before == ip => set_port(&self.environ, port)?,
            _ => set_client(&self.environ, client)?,
        }
        self.client = client;
        Ok(())
    }

    /// Removes the call objects from the environ.
    pub fn clear(&mut self) -> PyResult<()> {
        if std::mem::take(&mut self.has_objects) { CallObjects::clear(&self.environ) } else { Ok(()) }
    }
}

impl TemplateLine {
    fn keeps(&self, line: &[u8]) -> bool {
        self.keeps && line.len() <= MAX_VALUE_BYTES
    }
}

// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}

fn has_port(client: Client) -> bool {
    matches!(client, Client::Ip(_, Some(_)))
}

fn replace(kept: &mut Vec<u8>, by: &[u8]) {
    kept.clear();
    kept.extend_from_slice(by);
}

// Most targets are a path without escapes, and one string serves three variables.
fn set_target(environ: &Bound<'_, PyDict>, head: &RequestHead) -> PyResult<()> {
    let py = environ.py();
    let target = latin1(py, head.target())?;
    environ.set_item(intern!(py, "REQUEST_URI"), &target)?;
    environ.set_item(intern!(py, "RAW_URI"), &target)?;
    let path = percent_decode(head.path());
    let path = if *path == *head.target() { target } else { latin1(py, &path)? };
    environ.set_item(intern!(py, "PATH_INFO"), path)?;
    environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, head.query())?)
}
