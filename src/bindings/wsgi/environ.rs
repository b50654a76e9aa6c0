//! The environ of one request. One of a usual shape is copied from that shape's template, in which only what differs from
//! the last such request was put right; any other is built from the variables one by one.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bindings::ffi::latin1;
use crate::engine::exchange::Exchange;
use crate::interface::cgi;
use crate::interface::shape;

use super::call_objects::CallObjects;
use super::template::Template;
use super::variables::{FieldKeys, facts, key, set_client, set_tls};

/// Templates of one worker, so that clients cannot make them grow.
const MAX_TEMPLATES: usize = 32;

/// What one worker keeps to build environs from.
pub struct EnvironBuilder<'py> {
    bases: Vec<Bound<'py, PyDict>>,
    keys: FieldKeys,
    slots: Vec<TemplateSlot<'py>>,
}

// Where the templates of some shapes lie.
#[derive(Default)]
struct TemplateSlot<'py> {
    template: Option<Template<'py>>,
    // The digest that was looked for last and had none. A shape that comes twice in a row gets the slot, so that a shape
    // that comes once costs no more than its variables.
    missed: Option<u32>,
}

impl<'py> EnvironBuilder<'py> {
    /// A builder for the listeners' base environs, in the order of the listeners.
    pub fn new(py: Python<'py>, bases: &[Py<PyDict>]) -> PyResult<Self> {
        let bases = bases.iter().map(|base| base.bind(py).copy()).collect::<PyResult<_>>()?;
        let slots = (0..MAX_TEMPLATES).map(|_| TemplateSlot::default()).collect();
        Ok(Self { bases, keys: FieldKeys::default(), slots })
    }

    /// The environ of one exchange, with the objects of `objects`.
    pub fn build(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        objects: &mut CallObjects<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.build_plain(py, exchange, objects)?;
        if let Some(facts) = exchange.tls_facts() {
            set_tls(&environ, facts)?;
        }
        Ok(environ)
    }

    fn build_plain(
        &mut self,
        py: Python<'py>,
        exchange: &Exchange,
        objects: &mut CallObjects<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.request();
        let digest = shape::digest(head, &facts(exchange));
        let Self { bases, keys, slots } = self;
        let slot = &mut slots[(digest as usize ^ exchange.listener()) % MAX_TEMPLATES];
        let mut different = slot.template.as_ref().and_then(|template| template.differences(exchange));
        if different.is_some() {
            slot.missed = None;
        } else if slot.missed.replace(digest) == Some(digest) {
            if let Some(template) = Template::learn(py, bases, keys, exchange)? {
                different = template.differences(exchange);
                slot.template = Some(template);
            }
        }
        let (Some(template), Some(different)) = (&mut slot.template, different) else {
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
                outcome = key(py, &mut self.keys, name).and_then(|key| environ.set_item(key, latin1(py, value)?));
            }
        });
        outcome?;
        Ok(environ)
    }

    /// Lets go of the objects, of which the application keeps something: the templates must not keep it as well.
    pub fn forget_objects(&mut self) {
        for slot in &mut self.slots {
            // A template that still refers to them is dropped.
            if slot.template.as_mut().is_some_and(|template| template.clear().is_err()) {
                slot.template = None;
            }
        }
    }
}
