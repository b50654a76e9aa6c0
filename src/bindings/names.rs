//! A cache of Python objects for field names, which clients repeat.

use pyo3::prelude::*;

/// Rows of the cache. A name replaces another one in its row, so that clients cannot make the cache grow.
const ROWS: usize = 512;
/// Longer names are not cached.
const MAX_NAME_BYTES: usize = 64;

struct CachedName<T> {
    name: Box<[u8]>,
    object: Py<T>,
}

/// One thread's cache, by field name as received.
pub struct NameCache<T>(Box<[Option<CachedName<T>>]>);

impl<T> Default for NameCache<T> {
    fn default() -> Self {
        Self((0..ROWS).map(|_| None).collect())
    }
}

// Length, beginning and end of the name as it was sent: one client always writes it in the same way.
fn row_of(name: &[u8]) -> usize {
    let word = |chunk: Option<&[u8; 4]>| chunk.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let [first, last] = [word(name.first_chunk()), word(name.last_chunk())];
    let mixed = (first ^ last.rotate_left(11) ^ u32::from(name.len().to_le_bytes()[0])).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as usize % ROWS
}

impl<T> NameCache<T> {
    /// The object for a name, made by `make` if it is not cached. Its argument is whether the object is the first of
    /// its row.
    pub fn get_or_make<'py>(
        &mut self,
        py: Python<'py>,
        name: &[u8],
        make: impl FnOnce(bool) -> PyResult<Bound<'py, T>>,
    ) -> PyResult<Bound<'py, T>> {
        if name.len() > MAX_NAME_BYTES {
            return make(false);
        }
        let row = &mut self.0[row_of(name)];
        if let Some(cached) = row.as_ref().filter(|cached| *cached.name == *name) {
            return Ok(cached.object.bind(py).clone());
        }
        let object = make(row.is_none())?;
        *row = Some(CachedName { name: name.into(), object: object.clone().unbind() });
        Ok(object)
    }
}
