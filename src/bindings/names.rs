//! Python strings that are made once: environ keys, and the field names that clients repeat.

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

/// One worker's cache of environ keys, by field name as received.
pub struct FieldNames {
    rows: Box<[Option<Row>]>,
    scratch: Vec<u8>,
}

impl Default for FieldNames {
    fn default() -> Self {
        Self { rows: (0..ROWS).map(|_| None).collect(), scratch: Vec::new() }
    }
}

fn row_of(name: &[u8]) -> usize {
    // FNV-1a over the name as it was sent: one client always writes it in the same way.
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 15)) as usize % ROWS
}

impl FieldNames {
    /// The environ key of a field, such as `HTTP_USER_AGENT`.
    pub fn key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
        let cacheable = name.len() <= LONGEST;
        let index = row_of(name);
        if cacheable {
            if let Some(row) = &self.rows[index] {
                if *row.name == *name {
                    return Ok(row.key.bind(py).clone());
                }
            }
        }
        self.scratch.clear();
        field_key(name, &mut self.scratch);
        let key = latin1(py, &self.scratch)?;
        if cacheable {
            let interned = PyString::intern(py, key.to_str()?);
            self.rows[index] = Some(Row { name: name.into(), key: interned.clone().unbind() });
            return Ok(interned);
        }
        Ok(key)
    }
}
