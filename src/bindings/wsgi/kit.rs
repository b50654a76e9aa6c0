//! The objects that one call of the application is given: made once for each worker, and used for the next request
//! if the application has kept none of them.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bindings::ffi::references;
use crate::http::head::Version;

use super::call::Call;
use super::input::InputStream;

/// One call's objects.
pub struct Kit<'py> {
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
    // References of each, in this order, while only we and the worker's templates have them.
    references: [isize; 6],
}

impl<'py> Kit<'py> {
    /// A fresh one.
    pub fn new(py: Python<'py>) -> PyResult<Self> {
        let input = Bound::new(py, InputStream::default())?;
        let call = Bound::new(py, Call::new(&input))?;
        let method = |name| call.getattr(name);
        let start_response = method(intern!(py, "start_response"))?;
        let write = method(intern!(py, "write"))?;
        let early_hints = method(intern!(py, "early_hints"))?;
        let client_disconnected = method(intern!(py, "client_disconnected"))?;
        Ok(Self { call, input, start_response, write, early_hints, client_disconnected, references: [0; 6] })
    }

    fn count(&self) -> [isize; 6] {
        [
            references(self.call.as_any()),
            references(self.input.as_any()),
            references(&self.start_response),
            references(&self.write),
            references(&self.early_hints),
            references(&self.client_disconnected),
        ]
    }

    /// Puts into an environ, or its template, what the application may ask for.
    pub fn equip(&self, environ: &Bound<'py, PyDict>, version: Version) -> PyResult<()> {
        let py = environ.py();
        environ.set_item(intern!(py, "wsgi.input"), &self.input)?;
        environ.set_item(intern!(py, "wsgi.client_disconnected"), &self.client_disconnected)?;
        // HTTP/1.0 has no interim responses.
        if version == Version::Http11 {
            environ.set_item(intern!(py, "wsgi.early_hints"), &self.early_hints)?;
        }
        Ok(())
    }

    /// Takes it out of a template again.
    pub fn strip(template: &Bound<'py, PyDict>) -> PyResult<()> {
        let py = template.py();
        for key in [intern!(py, "wsgi.input"), intern!(py, "wsgi.client_disconnected"), intern!(py, "wsgi.early_hints")]
        {
            if template.contains(key)? {
                template.set_item(key, py.None())?;
            }
        }
        Ok(())
    }

    /// Everybody who may have the objects has them now, but for the application.
    pub fn settle(&mut self) {
        self.references = self.count();
    }

    /// Whether nobody else has any of the objects, so that nobody can notice that they serve another request. (Gained
    /// 2,300 instructions a request.)
    pub fn is_ours_alone(&self) -> bool {
        self.count() == self.references
    }
}
