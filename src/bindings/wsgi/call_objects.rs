//! The objects that one call of the application is given. They are made once for each worker, and reused for the next request
//! if the application has no reference to them: the reference counts of the objects, and of the templates that contain them,
//! are compared with the expected ones. The methods are checked for weak references and set attributes as well; the call and
//! the input can have neither.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bindings::ffi::{is_marked, references};
use crate::http::head::Version;

use super::call::WsgiCall;
use super::input::InputStream;

/// One call's objects.
pub struct CallObjects<'py> {
    /// The call, of which those below but the input are methods.
    pub call: Bound<'py, WsgiCall>,
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
    /// New objects. `note` may keep a reference to the call.
    pub fn new(py: Python<'py>, note: impl FnOnce(&Bound<'py, WsgiCall>)) -> PyResult<Self> {
        let input = Bound::new(py, InputStream::default())?;
        let call = Bound::new(py, WsgiCall::new(&input))?;
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

    // The methods first: a thread that gets the call from a method meanwhile is counted at the call.
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

    /// Sets the keys of an environ that the application reads them by.
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

    /// Installs them in a template, which is used with these objects from then on.
    pub fn install_in_template(&mut self, template: &Bound<'py, PyDict>, version: Version) -> PyResult<()> {
        self.install(template, version)?;
        self.templates.push(template.clone());
        let [_, _, early_hints, client_disconnected, _, input] = &mut self.references;
        *early_hints += isize::from(version == Version::Http11);
        *client_disconnected += 1;
        *input += 1;
        Ok(())
    }

    /// Removes them from a template.
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

    /// Whether the application has no reference to any of the objects, so that they can be reused. (Gained 2,300 instructions a
    /// request.)
    pub fn is_unshared(&self) -> bool {
        let methods = [&self.start_response, &self.write, &self.early_hints, &self.client_disconnected];
        // Theirs and ours.
        self.templates.iter().all(|template| references(template) == 2)
            && !methods.into_iter().any(is_marked)
            && self.count() == self.references
    }
}
