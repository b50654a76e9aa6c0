//! The one file of the bindings that calls CPython's C API itself, where PyO3 has no safe call that is as quick.

#![allow(unsafe_code)]

use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTypeInfo, ffi};

// Where the application runs. The interpreter may end its thread in there (see `Held`), by unwinding, which PyO3's own
// declarations of these functions rule out.
mod unwinding {
    use pyo3::ffi::PyObject;

    unsafe extern "C-unwind" {
        // Not PyObject_Vectorcall, which Python 3.10 has only in its headers.
        pub fn PyObject_VectorcallDict(
            callable: *mut PyObject,
            arguments: *const *mut PyObject,
            count: usize,
            keywords: *mut PyObject,
        ) -> *mut PyObject;
        pub fn PyIter_Send(
            iterator: *mut PyObject,
            value: *mut PyObject,
            result: *mut *mut PyObject,
        ) -> pyo3::ffi::PySendResult;
        pub fn PyIter_Next(iterator: *mut PyObject) -> *mut PyObject;
    }
}

/// Before 3.14, CPython ends a daemon thread that attaches while the interpreter is finalized: it unwinds the thread's stack
/// (`pthread_exit`), and Rust aborts the process where that comes by a place that catches panics. A thread that is inside
/// the application when the program ends is parked here instead until the process exits, as CPython does since.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        // A panic of our own unwinds.
        while !std::thread::panicking() {
            std::thread::park();
        }
    }
}

/// Calls something of the application's, with at most three arguments.
pub fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N <= 3, "there is room for three arguments") };
    // The first place is the callee's, to put `self` into.
    let mut places = [std::ptr::null_mut(); 4];
    for (place, argument) in places[1..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    let held = Held;
    // SAFETY: the callable and the N arguments behind the first place are borrowed from living references; the flag says
    // that the first place may be written to. The call returns a new reference, or null with an exception set.
    let result = unsafe {
        let count = N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let keywords = std::ptr::null_mut();
        unwinding::PyObject_VectorcallDict(callable.as_ptr(), places[1..].as_ptr(), count, keywords)
    };
    std::mem::forget(held);
    // SAFETY: see above; we are attached, which `callable` proves.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// The next item of an iterator of the application's.
pub fn next<'py>(iterator: &Bound<'py, pyo3::types::PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let held = Held;
    // SAFETY: the iterator is a living reference to an object of which PyO3 has seen that it is an iterator.
    let item = unsafe { unwinding::PyIter_Next(iterator.as_ptr()) };
    std::mem::forget(held);
    // SAFETY: `PyIter_Next` returns a new reference, or null; then an exception is set unless this is the end.
    match unsafe { Bound::from_owned_ptr_or_opt(iterator.py(), item) } {
        Some(item) => Ok(Some(item)),
        None => PyErr::take(iterator.py()).map_or(Ok(None), Err),
    }
}

/// A bytes object with this content; PyO3's own way panics where there is no memory for it.
pub fn bytes<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let length = ffi::Py_ssize_t::try_from(content.len())?;
    // SAFETY: the pointer and length are those of a living slice, which CPython copies; it returns a new reference to a
    // bytes object, or null with an exception set. We are attached: `py` proves it.
    let object = unsafe {
        let pointer = ffi::PyBytes_FromStringAndSize(content.as_ptr().cast(), length);
        Bound::from_owned_ptr_or_err(py, pointer)?
    };
    Ok(object.cast_into::<PyBytes>()?)
}

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
    // SAFETY: we are attached, as `py` proves. `PyUnicode_New` returns null with an exception set, or a new str that no
    // other code has seen, with room for `length` characters of one byte each, because none is above 127. They are all written
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

/// Whether the calling thread is attached to the interpreter.
pub fn is_attached() -> bool {
    // SAFETY: it may be called at any time, from any thread.
    unsafe { ffi::PyGILState_Check() == 1 }
}

/// Forks without the handlers of `os.register_at_fork`: 0 in the child. The child has this thread only, and must end without
/// returning into code that would run twice.
pub fn fork() -> io::Result<i32> {
    unsafe extern "C" {
        fn fork() -> i32;
    }
    // SAFETY: it takes nothing, and the C library's own handlers keep its state whole in the child. The caller holds the
    // interpreter, so that the child's copy of it is between two instructions of this thread.
    let pid = unsafe { fork() };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// Raises an exception of class `kind` in the thread with this `threading.get_ident()`, when it next runs Python code; `None`
/// takes one back that was not raised yet.
pub fn set_async_exception(_: Python<'_>, ident: u64, kind: Option<&Bound<'_, PyAny>>) {
    // CPython's parameter is unsigned (since 3.7), PyO3's declaration of it is not.
    #[expect(clippy::cast_possible_wrap, reason = "the bits are what counts")]
    let ident = ident as std::ffi::c_long;
    let kind = kind.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: we are attached: the first argument proves it. CPython looks for a thread with the number, and takes a reference of its own to the
    // class, which is a live object, or null.
    unsafe { ffi::PyThreadState_SetAsyncExc(ident, kind) };
}

unsafe extern "C" {
    fn raise(signal: std::ffi::c_int) -> std::ffi::c_int;
}

/// Sends the calling thread a signal, for which a handler is installed.
pub fn raise_signal(signal: i32) {
    // SAFETY: it takes any number, and refuses one that is no signal. The handler is the process's own.
    unsafe { raise(signal) };
}

/// How many references there are to an object.
pub fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the pointer is that of a live object, and we are attached, as `object` proves.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

// What CPython's `PyCFunctionObject` begins with, in 3.10 to 3.14. (PyO3's own struct has no fixed layout.)
#[repr(C)]
struct BuiltinMethod {
    object: ffi::PyObject,
    definition: *mut std::ffi::c_void,
    owner: *mut ffi::PyObject,
    module: *mut ffi::PyObject,
    weak_references: *mut ffi::PyObject,
}

/// Whether a method of a built-in object carries something of its users: weak references, or a `__module__`, the one attribute
/// that can be set. True as well for an object whose layout is not known.
pub fn is_marked(method: &Bound<'_, PyAny>) -> bool {
    let load = |field: *mut *mut ffi::PyObject| {
        // SAFETY: the field is one of a live object, and aligned, as called below. Free-threaded builds may write to it meanwhile.
        unsafe { AtomicPtr::from_ptr(field) }.load(Ordering::Relaxed)
    };
    // SAFETY: the pointer is that of a live object, and we are attached, as `method` proves. The type of built-in methods is
    // always there. The object is taken for one of that type only if it is exactly that, and if the type itself says that its
    // weak references are where they are in our struct, so that all fields before are within the object as well.
    unsafe {
        let pointer = method.as_ptr();
        let kind = &raw mut ffi::PyCFunction_Type;
        let at = offset_of!(BuiltinMethod, weak_references);
        if ffi::Py_TYPE(pointer) != kind || usize::try_from((*kind).tp_weaklistoffset) != Ok(at) {
            return true;
        }
        let method = pointer.cast::<BuiltinMethod>();
        !load(&raw mut (*method).weak_references).is_null() || !load(&raw mut (*method).module).is_null()
    }
}

/// How far a coroutine came.
pub enum Resumed<'py> {
    /// It waits for this.
    Yielded(Bound<'py, PyAny>),
    /// It is over, with this result.
    Returned,
}

/// Takes a coroutine one step on (`send(None)`), without the exception that would carry its result.
pub fn resume<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Resumed<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    let held = Held;
    // SAFETY: `coroutine` is a live object and `result` a place for a pointer; PyIter_Send takes any object and reports one
    // that is no iterator. We are attached: `py` proves it.
    let outcome = unsafe { unwinding::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) };
    std::mem::forget(held);
    if matches!(outcome, ffi::PySendResult::PYGEN_ERROR) {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: except after an error, PyIter_Send stores a new reference.
    let result = unsafe { Bound::from_owned_ptr_or_err(py, result)? };
    Ok(if matches!(outcome, ffi::PySendResult::PYGEN_NEXT) { Resumed::Yielded(result) } else { Resumed::Returned })
}

/// The context variables (PEP 567) that stood at one moment. What is entered are copies, so that nothing changes it.
pub struct Context(Py<PyAny>);

impl Context {
    /// A copy of the calling thread's present context.
    pub fn current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: we are attached: `py` proves it. The call returns a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }.map(|copy| Self(copy.unbind()))
    }

    /// Makes a fresh copy the calling thread's context until the guard is dropped, be it by a panic.
    pub fn enter<'py>(&self, py: Python<'py>) -> PyResult<Entered<'py>> {
        // SAFETY: we are attached: `py` proves it. PyContext_Copy takes any living object, and reports one that is no
        // context; it returns a new reference, or null with an exception set. A fresh copy is entered nowhere else.
        unsafe {
            let copy = Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(self.0.as_ptr()))?;
            if ffi::PyContext_Enter(copy.as_ptr()) == 0 { Ok(Entered(copy)) } else { Err(PyErr::fetch(py)) }
        }
    }
}

impl From<Py<PyAny>> for Context {
    /// What `contextvars.copy_context()` gave.
    fn from(context: Py<PyAny>) -> Self {
        Self(context)
    }
}

/// The calling thread is in a context that was entered for it. Bound to the thread, as the context is.
#[must_use]
pub struct Entered<'py>(Bound<'py, PyAny>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: we are attached, on the thread that entered: a `Bound` proves the one and never leaves the other. No
        // exception is set between two calls of ours.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            // Foreign code left one of its own entered. The next request gets a fresh copy on top of it all the same.
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), Some(&self.0));
        }
    }
}
