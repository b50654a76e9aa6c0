//! Python strings that are made once: the environ keys of the fields that clients send.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::ffi::latin1;
use crate::interface::cgi::field_key;

/// Rows of the cache; a name that falls on another's row takes it over, so that clients cannot make it grow.
const ROWS: usize = 512;
/// Longer names are not worth a row.
const LONGEST: usize = 64;

struct Row {
    name: Box<[u8]>,
    key: Py<PyString>,
}

/// One worker's cache, by field name as received.
pub struct FieldNames {
    rows: Box<[Option<Row>]>,
    scratch: Vec<u8>,
}

impl Default for FieldNames {
    fn default() -> Self {
        Self { rows: (0..ROWS).map(|_| None).collect(), scratch: Vec::new() }
    }
}

// Length, beginning and end of the name as it was sent: one client always writes it in the same way.
fn row_of(name: &[u8]) -> usize {
    let word = |chunk: Option<&[u8; 4]>| chunk.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let [first, last] = [word(name.first_chunk()), word(name.last_chunk())];
    let mixed = (first ^ last.rotate_left(11) ^ u32::from(name.len().to_le_bytes()[0])).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as usize % ROWS
}

impl FieldNames {
    /// The environ key of a field, such as `HTTP_USER_AGENT`.
    pub fn key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
        if name.len() > LONGEST {
            return self.make_key(py, name);
        }
        let index = row_of(name);
        if let Some(row) = self.rows[index].as_ref().filter(|row| *row.name == *name) {
            return Ok(row.key.bind(py).clone());
        }
        let mut key = self.make_key(py, name)?;
        // Some Pythons never let go of what was interned: only the first name of each row is.
        if self.rows[index].is_none() {
            key = PyString::intern(py, key.to_str()?);
        }
        self.rows[index] = Some(Row { name: name.into(), key: key.clone().unbind() });
        Ok(key)
    }

    fn make_key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
        self.scratch.clear();
        field_key(name, &mut self.scratch);
        latin1(py, &self.scratch)
    }
}
