//! The one file of the bindings that calls CPython's C API itself, where PyO3 has no safe call that is as quick.

#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTypeInfo, ffi};

/// A native string (PEP 3333): each byte becomes the code point of the same number.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let length = ffi::Py_ssize_t::try_from(bytes.len())?;
    // The shortest are CPython's own, made once. (The other way gained 50 instructions a string.)
    if length > 1 && bytes.is_ascii() {
        return ascii(py, bytes, length);
    }
    // SAFETY: the pointer and length are those of a live slice, which CPython copies; it returns a new reference to a
    // str, or null with an exception set, which is what `from_owned_ptr_or_err` wants. We are attached: `py` proves it.
    let string = unsafe {
        let pointer = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, pointer)?
    };
    // DecodeLatin1 returns exactly a str.
    debug_assert!(string.is_exact_instance_of::<PyString>());
    Ok(string.cast_into::<PyString>()?)
}

fn ascii<'py>(py: Python<'py>, bytes: &[u8], length: ffi::Py_ssize_t) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: we are attached, as `py` proves. `PyUnicode_New` returns null with an exception set, or a new str that nobody
    // else has seen, with room for `length` characters of one byte each, because none is above 127. They are all written
    // here, from a slice of the same length that lies elsewhere.
    let string = unsafe {
        let string = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(length, 127))?;
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), ffi::PyUnicode_DATA(string.as_ptr()).cast(), bytes.len());
        string
    };
    Ok(string.cast_into::<PyString>()?)
}

/// Calls `with` with the bytes of a native string, or returns `None` if it has a code point above 255.
pub fn with_latin1<T>(string: &Bound<'_, PyString>, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
    debug_assert!(PyString::is_type_of(string));
    // ASCII is the same in UTF-8, which every ASCII str already is.
    let text = string.to_str().ok()?;
    if text.is_ascii() {
        return Some(with(text.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        bytes.push(u8::try_from(u32::from(character)).ok()?);
    }
    Some(with(&bytes))
}

/// How many references there are to an object.
pub fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the pointer is that of a live object, and we are attached, as `object` proves.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}
