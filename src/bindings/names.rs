//! Python strings that are made once: the environ keys of the fields that clients send, and the values they repeat.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::ffi::latin1;
use crate::interface::cgi::field_key;

/// Rows of the cache; a name that falls on another's row takes it over, so that clients cannot make it grow.
const ROWS: usize = 512;
/// Longer names are not worth a row.
const LONGEST: usize = 64;
/// Longer values are not kept.
const LONGEST_VALUE: usize = 256;
/// Values that are a secret of one client, or of its request alone.
const UNKEPT: [&[u8]; 3] = [b"cookie", b"authorization", b"proxy-authorization"];

/// A name's key and its value, as the environ has them.
pub type Item<'py> = (Bound<'py, PyString>, Bound<'py, PyString>);

struct Row {
    name: Box<[u8]>,
    key: Py<PyString>,
    // The last value: most fields say the same in most requests, whoever sends them (Host, Accept-Encoding, …).
    value: Vec<u8>,
    text: Option<Py<PyString>>,
    keeps: bool,
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
    /// The environ item of a field, such as `HTTP_USER_AGENT` with what the client says it is.
    pub fn item<'py>(&mut self, py: Python<'py>, name: &[u8], value: &[u8]) -> PyResult<Item<'py>> {
        if name.len() > LONGEST {
            return Ok((self.make_key(py, name)?, latin1(py, value)?));
        }
        let index = row_of(name);
        if self.rows[index].as_ref().is_none_or(|row| *row.name != *name) {
            let key = PyString::intern(py, self.make_key(py, name)?.to_str()?).unbind();
            let keeps = !UNKEPT.iter().any(|unkept| name.eq_ignore_ascii_case(unkept));
            self.rows[index] = Some(Row { name: name.into(), key, value: Vec::new(), text: None, keeps });
        }
        let Some(row) = &mut self.rows[index] else { return Ok((self.make_key(py, name)?, latin1(py, value)?)) };
        let key = row.key.bind(py).clone();
        if let Some(text) = row.text.as_ref().filter(|_| row.value == value) {
            return Ok((key, text.bind(py).clone()));
        }
        let text = latin1(py, value)?;
        if row.keeps && value.len() <= LONGEST_VALUE {
            row.value.clear();
            row.value.extend_from_slice(value);
            row.text = Some(text.clone().unbind());
        }
        Ok((key, text))
    }

    fn make_key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
        self.scratch.clear();
        field_key(name, &mut self.scratch);
        latin1(py, &self.scratch)
    }
}
