//! Field names in lower case, as Python has them: made once, because clients repeat them.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Rows of the cache; a name that falls on another's row takes it over, so that clients cannot make it grow.
const ROWS: usize = 512;
/// Longer names are not worth a row.
const LONGEST: usize = 64;

struct Row {
    name: Box<[u8]>,
    lower: Py<PyBytes>,
}

/// A loop's cache, by name as received.
pub struct LowerNames(Box<[Option<Row>]>);

impl Default for LowerNames {
    fn default() -> Self {
        Self((0..ROWS).map(|_| None).collect())
    }
}

impl LowerNames {
    /// The name as ASGI has it.
    pub fn get<'py>(&mut self, py: Python<'py>, name: &[u8]) -> Bound<'py, PyBytes> {
        let lower = || PyBytes::new(py, &name.to_ascii_lowercase());
        if name.len() > LONGEST {
            return lower();
        }
        // FNV-1a over the name as it was sent: one client always writes it in the same way.
        let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let row = &mut self.0[(hash ^ (hash >> 15)) as usize % ROWS];
        match row {
            Some(known) if *known.name == *name => known.lower.bind(py).clone(),
            _ => {
                let lower = lower();
                *row = Some(Row { name: name.into(), lower: lower.clone().unbind() });
                lower
            }
        }
    }
}
