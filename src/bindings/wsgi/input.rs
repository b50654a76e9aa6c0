//! `wsgi.input`: the request body as a binary file.

use std::collections::TryReserveError;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memchr;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::bindings::errors::{PythonError, os_error};
use crate::bindings::ffi;
use crate::engine::transport::body::{Body, BodyFailure, BodyStream};
use crate::engine::transport::spool::{MemoryReservation, SpoolFile};

/// Bytes read ahead at a time for `readline` and for reading to the end.
const BLOCK_BYTES: usize = 64 * 1024;

enum BodySource {
    Complete,
    File(SpoolFile),
    Stream(Box<BodyStream>),
}

struct BodyReader {
    // Read from the source and not yet handed out.
    buffer: Vec<u8>,
    at: usize,
    source: BodySource,
    // Returned when the buffer is freed.
    _reservation: Option<MemoryReservation>,
}

enum ReadError {
    Body(BodyFailure),
    File(std::io::Error),
    // The body does not fit into memory: an error for the application, where allocating would abort the process.
    Memory,
}

impl From<TryReserveError> for ReadError {
    fn from(_: TryReserveError) -> Self {
        Self::Memory
    }
}

// Makes `bytes` longer by `count`.
fn extend(bytes: &mut Vec<u8>, count: usize) -> Result<(), ReadError> {
    bytes.try_reserve(count)?;
    bytes.resize(bytes.len() + count, 0);
    Ok(())
}

impl From<ReadError> for PyErr {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Body(failure) => PythonError::from(failure).into(),
            ReadError::File(error) => os_error(error),
            ReadError::Memory => PyMemoryError::new_err(()),
        }
    }
}

impl BodyReader {
    fn buffered(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    // Reads some bytes straight from the source. 0 is the end.
    fn read_source(&mut self, into: &mut [u8]) -> Result<usize, ReadError> {
        match &mut self.source {
            BodySource::Complete => Ok(0),
            BodySource::File(file) => file.read(into).map_err(ReadError::File),
            BodySource::Stream(stream) => stream.read(into).map_err(ReadError::Body),
        }
    }

    // Puts more bytes behind those in the buffer. `false` is the end.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if matches!(self.source, BodySource::Complete) {
            return Ok(false);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let before = self.buffer.len();
        extend(&mut self.buffer, BLOCK_BYTES)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.read_source(&mut buffer[before..]);
        buffer.truncate(before + read.as_ref().map_or(0, |count| *count));
        self.buffer = buffer;
        read.map(|count| count > 0)
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut taken = Vec::new();
        taken.try_reserve(count)?;
        taken.extend_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(taken)
    }

    // Up to `size` bytes; fewer only at the end.
    fn read(&mut self, size: Option<usize>) -> Result<Vec<u8>, ReadError> {
        let Some(size) = size else {
            let mut all = self.take(self.buffered().len())?;
            loop {
                // Memory grows with what arrives, never with the announced length.
                let before = all.len();
                extend(&mut all, BLOCK_BYTES.max(before / 2))?;
                let read = self.read_source(&mut all[before..]);
                all.truncate(before + read.as_ref().map_or(0, |count| *count));
                if read? == 0 {
                    return Ok(all);
                }
            }
        };
        let mut taken = self.take(size.min(self.buffered().len()))?;
        while taken.len() < size {
            let before = taken.len();
            extend(&mut taken, (size - before).min(BLOCK_BYTES.max(before)))?;
            let read = self.read_source(&mut taken[before..]);
            taken.truncate(before + read.as_ref().map_or(0, |count| *count));
            if read? == 0 {
                break;
            }
        }
        Ok(taken)
    }

    // Up to and with the next line feed, at most `size` bytes.
    fn readline(&mut self, size: Option<usize>) -> Result<Vec<u8>, ReadError> {
        let mut searched = 0;
        loop {
            let limit = size.unwrap_or(usize::MAX).min(self.buffered().len());
            if let Some(at) = memchr(b'\n', &self.buffered()[searched.min(limit)..limit]) {
                return self.take(searched.min(limit) + at + 1);
            }
            if size == Some(limit) {
                return self.take(limit);
            }
            searched = limit;
            if !self.fill()? {
                return self.take(limit);
            }
        }
    }

    fn is_at_hand(&self) -> bool {
        matches!(self.source, BodySource::Complete)
    }
}

/// The request body.
#[pyclass(frozen, module = "wsgi._core")]
pub struct InputStream {
    state: Mutex<BodyReader>,
}

// PEP 3333 and the io module: a negative size or None means no bound.
fn bound(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

impl Default for InputStream {
    fn default() -> Self {
        Self {
            state: Mutex::new(BodyReader {
                buffer: Vec::new(),
                at: 0,
                source: BodySource::Complete,
                _reservation: None,
            }),
        }
    }
}

impl InputStream {
    /// Makes this the input for a body.
    pub fn open(&self, body: Body) {
        let (buffer, source, reservation) = match body {
            Body::Empty => (Vec::new(), BodySource::Complete, None),
            Body::Memory(bytes, reservation) => (bytes, BodySource::Complete, Some(reservation)),
            Body::File(file) => (Vec::new(), BodySource::File(file), None),
            Body::Stream(stream) => (Vec::new(), BodySource::Stream(stream), None),
        };
        *self.lock() = BodyReader { buffer, at: 0, source, _reservation: reservation };
    }

    fn lock(&self) -> MutexGuard<'_, BodyReader> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Whether nothing can still be arriving. Never blocks.
    fn is_complete(&self) -> bool {
        self.state.try_lock().is_ok_and(|state| !matches!(state.source, BodySource::Stream(_)))
    }

    /// Looks at a body that is still arriving.
    pub fn with_stream<T>(&self, py: Python<'_>, with: impl FnOnce(&mut BodyStream) -> T + Send) -> Option<T>
    where
        T: Send,
    {
        if self.is_complete() {
            return None;
        }
        // Another thread may hold the lock while it waits for the client: wait for it detached from the interpreter.
        py.detach(|| match &mut self.lock().source {
            BodySource::Stream(stream) => Some(with(stream)),
            _ => None,
        })
    }

    /// Takes out a body that is still arriving. The input is at its end then.
    pub fn close(&self, py: Python<'_>) -> Option<Box<BodyStream>> {
        if self.is_complete() {
            return None;
        }
        py.detach(|| {
            let mut state = self.lock();
            match std::mem::replace(&mut state.source, BodySource::Complete) {
                BodySource::Stream(stream) => Some(stream),
                _ => None,
            }
        })
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut BodyReader) -> Result<T, ReadError> + Send,
    ) -> PyResult<T> {
        if let Ok(mut state) = self.state.try_lock() {
            if state.is_at_hand() {
                return Ok(work(&mut state)?);
            }
        }
        Ok(py.detach(|| work(&mut self.lock()))?)
    }
}

#[pymethods]
impl InputStream {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        // What is at hand is copied once.
        if let Some(mut state) = self.state.try_lock().ok().filter(|state| state.is_at_hand()) {
            let count = state.buffered().len().min(bound(size).unwrap_or(usize::MAX));
            let bytes = ffi::bytes(py, &state.buffered()[..count])?;
            state.at += count;
            return Ok(bytes);
        }
        let bytes = self.with(py, |state| state.read(bound(size)))?;
        ffi::bytes(py, &bytes)
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.with(py, |state| state.readline(bound(size)))?;
        ffi::bytes(py, &bytes)
    }

    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        // The io module takes 0 for "no hint".
        let hint = bound(hint).filter(|hint| *hint > 0);
        let lines = PyList::empty(py);
        let mut total = 0;
        while hint.is_none_or(|hint| total < hint) {
            let line = self.with(py, |state| state.readline(None))?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.append(ffi::bytes(py, &line)?)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.with(py, |state| state.readline(None))?;
        if line.is_empty() { Ok(None) } else { ffi::bytes(py, &line).map(Some) }
    }
}
