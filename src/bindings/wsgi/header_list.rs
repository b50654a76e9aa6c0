//! What an application passes to `start_response` and `early_hints`: a status, and a list of (name, value) tuples.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyList, PyMapping, PyString, PyTuple};

use crate::bindings::errors::PythonError;
use crate::bindings::ffi::{self, with_latin1};
use crate::bindings::reporter::{DEBUG, log};
use crate::http::head::ResponseHead;
use crate::interface::outgoing::{self, AppError, FieldOutcome, InvalidCharacter};

/// The name of a value's type, for messages.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// Most characters of a status that a message contains.
const MAX_SHOWN_STATUS_CHARS: usize = 40;

/// The head that an application passed to `start_response`.
pub fn parse_head(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<ResponseHead> {
    const FUNCTION: &str = "start_response";
    let Ok(line) = status.cast::<PyString>() else {
        let message = format!("{FUNCTION}: the status must be a str such as '200 OK', not {}", type_name(status));
        return Err(PythonError::Type(message).into());
    };
    let outcome =
        with_latin1(line, outgoing::status).unwrap_or_else(|| Err(AppError::ReasonByte(first_beyond_latin1(line))));
    let mut head = outcome.map_err(|error| {
        let shown: String = match error {
            AppError::ReasonByte(_) => String::new(),
            _ => format!(
                " '{}'",
                line.to_string_lossy().chars().take(MAX_SHOWN_STATUS_CHARS).collect::<String>().escape_debug()
            ),
        };
        PythonError::Value(format!("{FUNCTION}: status{shown}: {error}"))
    })?;
    for_each_field(FUNCTION, headers, |name, value| outgoing::field(&mut head, name, value))?;
    Ok(head)
}

/// Calls `with` with the bytes of each (name, value) pair that the application passed to `function`.
pub fn for_each_field(
    function: &str,
    headers: &Bound<'_, PyAny>,
    mut with: impl FnMut(&[u8], &[u8]) -> Result<FieldOutcome, AppError>,
) -> PyResult<()> {
    let mut one = |pair: &Bound<'_, PyAny>| {
        if let Some([name, value]) = pair.cast::<PyTuple>().ok().map(PyTupleMethods::as_slice) {
            return add_field(function, name, value, &mut with);
        }
        let [name, value] = unpacked(function, pair)?;
        add_field(function, &name, &value, &mut with)
    };
    if let Ok(list) = headers.cast::<PyList>() {
        return list.iter().try_for_each(|pair| one(&pair));
    }
    if let Ok(tuple) = headers.cast::<PyTuple>() {
        return tuple.iter().try_for_each(|pair| one(&pair));
    }
    // PEP 3333 requires a list, but other servers accept any iterable of pairs, and some applications rely on it.
    let is_mistake = is_text(headers) || headers.is_instance_of::<PyMapping>();
    let Some(pairs) = headers.try_iter().ok().filter(|_| !is_mistake) else {
        let kind = type_name(headers);
        return Err(PythonError::Type(format!(
            "{function}: the headers must be a list of (name, value) tuples, not {kind}"
        ))
        .into());
    };
    note_leniency(function, "the headers were given as", headers);
    while let Some(pair) = ffi::next(&pairs)? {
        one(&pair)?;
    }
    Ok(())
}

fn add_field(
    function: &str,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    with: &mut impl FnMut(&[u8], &[u8]) -> Result<FieldOutcome, AppError>,
) -> PyResult<()> {
    let Ok(name) = name.cast::<PyString>() else {
        return Err(PythonError::Type(format!("{function}: a header name must be str, not {}", type_name(name))).into());
    };
    let Ok(value) = value.cast::<PyString>() else {
        let (name, kind) = (outgoing::shown_name(name.to_string_lossy().as_bytes()), type_name(value));
        let message = format!("{function}: header '{name}': the value must be str, not {kind}");
        return Err(PythonError::Type(message).into());
    };
    let outcome = with_latin1(name, |name| with_latin1(value, |value| with(name, value)));
    let error = match outcome {
        Some(Some(Ok(_))) => return Ok(()),
        Some(Some(Err(error))) => error,
        Some(None) => AppError::FieldValueByte(first_beyond_latin1(value)),
        None => AppError::FieldNameByte(first_beyond_latin1(name)),
    };
    Err(PythonError::Value(format!("{function}: {}", error.in_field(name.to_string_lossy().as_bytes()))).into())
}

// The two items of a header that is no tuple.
#[cold]
fn unpacked<'py>(function: &str, pair: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 2]> {
    let kind = type_name(pair);
    let wrong =
        |of: &str| PythonError::Type(format!("{function}: a header must be a (name, value) tuple, not {kind}{of}"));
    let Some(iterator) = pair.try_iter().ok().filter(|_| !is_text(pair)) else { return Err(wrong("").into()) };
    let mut items = Vec::with_capacity(2);
    while let Some(item) = ffi::next(&iterator)? {
        if items.len() == 2 {
            return Err(wrong(" of more than two items").into());
        }
        items.push(item);
    }
    let pair_of_items = <[_; 2]>::try_from(items).map_err(|items| match items.len() {
        0 => wrong(" without items"),
        _ => wrong(" of one item"),
    })?;
    note_leniency(function, "a header was given as", pair);
    Ok(pair_of_items)
}

fn is_text(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>()
}

static NOTED: AtomicBool = AtomicBool::new(false);

// Logged once in a process: such an application works here, and may not elsewhere.
#[cold]
fn note_leniency(function: &str, what: &str, value: &Bound<'_, PyAny>) {
    if !NOTED.swap(true, Ordering::Relaxed) {
        let message =
            format!("{function}: {what} {}; PEP 3333 requires a list of (name, value) tuples", type_name(value));
        log(value.py(), DEBUG, &message, None);
    }
}

// The first character of a str that is no byte of latin-1, which may be a lone surrogate.
#[cold]
fn first_beyond_latin1(text: &Bound<'_, PyString>) -> InvalidCharacter {
    let find = || -> PyResult<InvalidCharacter> {
        let encoded = text.call_method1("encode", ("latin-1",));
        let Err(error) = encoded else { return Ok(InvalidCharacter { code: 0, at: 0 }) };
        let at: usize = error.value(text.py()).getattr("start")?.extract()?;
        let code = text.py().import("builtins")?.getattr("ord")?.call1((text.get_item(at)?,))?.extract()?;
        Ok(InvalidCharacter { code, at })
    };
    find().unwrap_or(InvalidCharacter { code: 0xfffd, at: 0 })
}
