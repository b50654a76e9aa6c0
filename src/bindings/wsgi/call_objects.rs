//! The objects that one call of the application is given: made once for each worker, and used for the next request if nothing
//! leads to them. References to them are counted, and those to the templates that refer to them. The methods are looked at for
//! weak references and for what was written to their attributes; the call and the input can have neither.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bindings::ffi::{is_marked, references};
use crate::http::head::Version;

use super::call::Call;
use super::input::InputStream;

/// One call's objects.
pub struct CallObjects<'py> {
    /// The call, of which those below but the input are methods.
    pub call: Bound<'py, Call>,
    /// `wsgi.input`.
    pub input: Bound<'py, InputStream>,
    /// The application's second argument.
    pub start_response: Bound<'py, PyAny>,
    /// What that returns.
    pub write: Bound<'py, PyAny>,
    /// `wsgi.early_hints`.
    pub early_hints: Bound<'py, PyAny>,
    /// `wsgi.client_disconnected`.
    pub client_disconnected: Bound<'py, PyAny>,
    // The templates that have some of them.
    templates: Vec<Bound<'py, PyDict>>,
    // References to each, in the order of `count`, as long as only we, those templates and the list of calls have them.
    references: [isize; 6],
}

impl<'py> CallObjects<'py> {
    /// A fresh one. `note` may keep the call.
    pub fn new(py: Python<'py>, note: impl FnOnce(&Bound<'py, Call>)) -> PyResult<Self> {
        let input = Bound::new(py, InputStream::default())?;
        let call = Bound::new(py, Call::new(&input))?;
        let method = |name| call.getattr(name);
        let start_response = method(intern!(py, "start_response"))?;
        let write = method(intern!(py, "write"))?;
        let early_hints = method(intern!(py, "early_hints"))?;
        let client_disconnected = method(intern!(py, "client_disconnected"))?;
        note(&call);
        let mut objects = Self {
            call,
            input,
            start_response,
            write,
            early_hints,
            client_disconnected,
            templates: Vec::new(),
            references: [0; 6],
        };
        objects.references = objects.count();
        Ok(objects)
    }

    // The methods first: where other threads run meanwhile, one that goes on from a method to its call is found at the call.
    fn count(&self) -> [isize; 6] {
        [
            references(&self.start_response),
            references(&self.write),
            references(&self.early_hints),
            references(&self.client_disconnected),
            references(self.call.as_any()),
            references(self.input.as_any()),
        ]
    }

    /// Puts into an environ what the application may ask for.
    pub fn install(&self, environ: &Bound<'py, PyDict>, version: Version) -> PyResult<()> {
        let py = environ.py();
        environ.set_item(intern!(py, "wsgi.input"), &self.input)?;
        environ.set_item(intern!(py, "wsgi.client_disconnected"), &self.client_disconnected)?;
        // HTTP/1.0 has no interim responses.
        if version == Version::Http11 {
            environ.set_item(intern!(py, "wsgi.early_hints"), &self.early_hints)?;
        }
        Ok(())
    }

    /// Puts it into a template, for as long as that is used with this objects.
    pub fn lend(&mut self, template: &Bound<'py, PyDict>, version: Version) -> PyResult<()> {
        self.install(template, version)?;
        self.templates.push(template.clone());
        let [_, _, early_hints, client_disconnected, _, input] = &mut self.references;
        *early_hints += isize::from(version == Version::Http11);
        *client_disconnected += 1;
        *input += 1;
        Ok(())
    }

    /// Takes it out of a template again.
    pub fn clear(template: &Bound<'py, PyDict>) -> PyResult<()> {
        let py = template.py();
        for key in [intern!(py, "wsgi.input"), intern!(py, "wsgi.client_disconnected"), intern!(py, "wsgi.early_hints")]
        {
            if template.contains(key)? {
                template.set_item(key, py.None())?;
            }
        }
        Ok(())
    }

    /// Whether nothing else leads to any of the objects, so that they can serve another request unnoticed. (Gained 2,300
    /// instructions a request.)
    pub fn is_unshared(&self) -> bool {
        let methods = [&self.start_response, &self.write, &self.early_hints, &self.client_disconnected];
        // Theirs and ours.
        self.templates.iter().all(|template| references(template) == 2)
            && !methods.into_iter().any(is_marked)
            && self.count() == self.references
    }
}
