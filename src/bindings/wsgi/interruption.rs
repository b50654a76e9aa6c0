//! An exception that is raised in the thread of a call, and never outside of it.
//!
//! It is raised, and the call ends, under the lock of the call's state: after its end none is raised any more. One that the thread
//! has not come to yet is taken back at the end, before the thread runs Python code that is not the application's.

use pyo3::prelude::*;

use crate::bindings::ffi::set_async_exception;

/// The thread of a call while an exception may be raised in it.
#[derive(Default)]
pub struct Interruption {
    // Its `threading.get_ident()`; `None` while no call runs.
    thread: Option<u64>,
    // An exception was raised that may not have come to the thread.
    is_pending: bool,
    // `close()` of the response runs.
    is_closing: bool,
}

impl Interruption {
    /// That of a call that begins in the calling thread.
    pub fn of(thread: u64) -> Self {
        Self { thread: Some(thread), is_pending: false, is_closing: false }
    }

    /// Whether `close()` of the response runs; `None`: no call runs.
    pub fn is_closing(&self) -> Option<bool> {
        self.thread.map(|_| self.is_closing)
    }

    /// Raises an exception of class `kind` in the thread, if a call runs there.
    pub fn raise(&mut self, kind: &Bound<'_, PyAny>) {
        if let Some(thread) = self.thread {
            set_async_exception(kind.py(), thread, Some(kind));
            self.is_pending = true;
        }
    }

    /// `close()` of the response is next. From the thread of the call.
    pub fn begin_closing(&mut self, py: Python<'_>) {
        self.is_closing = true;
        self.take_back(py);
    }

    /// The call is over. From the thread of the call.
    pub fn end(&mut self, py: Python<'_>) {
        self.take_back(py);
        self.thread = None;
    }

    fn take_back(&mut self, py: Python<'_>) {
        if let (true, Some(thread)) = (std::mem::take(&mut self.is_pending), self.thread) {
            set_async_exception(py, thread, None);
        }
    }
}
