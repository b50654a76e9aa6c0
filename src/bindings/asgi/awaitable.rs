//! `receive` and `send`, the application's second and third argument, and what they return: to asyncio it is a coroutine, so
//! that it can be awaited or made a task of.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::call::AsgiCall;
use crate::bindings::ffi::{Resumed, resume};

/// What is awaited.
pub enum Operation {
    /// The next message to the application.
    Receive,
    /// That this message is sent.
    Send(Py<PyAny>),
    /// That enough of what was sent has reached the client.
    Drain,
}

struct AwaitableState {
    // Absent once it is over.
    operation: Option<Operation>,
    waiting: Option<Wait>,
}

// Waits for a future of a call, until it is dropped.
struct Wait {
    call: Py<AsgiCall>,
    ticket: u64,
    // The future's iterator.
    awaited: Py<PyAny>,
    // It waits for the request's body, which has not come.
    pauses: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.call.get().stop_waiting(self.ticket, self.pauses);
    }
}

/// One `receive()` or `send()`.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Awaitable {
    call: Py<AsgiCall>,
    state: Mutex<AwaitableState>,
}

impl Awaitable {
    /// The awaitable of an operation of `call`.
    pub fn new(call: Py<AsgiCall>, operation: Operation) -> Self {
        Self { call, state: Mutex::new(AwaitableState { operation: Some(operation), waiting: None }) }
    }

    // Held only for a moment, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, AwaitableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // One step on: what it waits for, or its result.
    fn step<'py>(&self, py: Python<'py>) -> PyResult<Stepped<'py>> {
        loop {
            let waiting = self.lock().waiting.take();
            if let Some(mut waiting) = waiting {
                match resume(waiting.awaited.bind(py)) {
                    Ok(Resumed::Yielded(future)) => {
                        self.lock().waiting = Some(waiting);
                        return Ok(Stepped::Waits(future));
                    }
                    Ok(Resumed::Returned) => waiting.pauses = false,
                    // The future was cancelled by other code than its task.
                    Err(error) => {
                        self.take_wait();
                        return Err(error);
                    }
                }
            }
            let call = self.call.get();
            if call.must_yield() {
                // Tasks take None as `asyncio.sleep(0)` does: they go on in the next turn of the loop.
                return Ok(Stepped::Waits(py.None().into_bound(py)));
            }
            let operation = self.lock().operation.take();
            let (operation, polled) = match operation {
                None => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
                Some(Operation::Receive) => (Operation::Receive, call.receive_now(py)?),
                Some(Operation::Send(message)) => (Operation::Drain, call.send_now(message.bind(py))?),
                Some(Operation::Drain) => (Operation::Drain, call.drain_now(py)?),
            };
            match polled {
                Poll::Ready(result) => return Ok(Stepped::Over(result)),
                Poll::Pending => {
                    let (ticket, future) = call.wait(py)?;
                    let pauses = matches!(operation, Operation::Receive);
                    let mut waiting = Wait { call: self.call.clone_ref(py), ticket, awaited: future.unbind(), pauses };
                    waiting.awaited = waiting.awaited.call_method0(py, intern!(py, "__await__"))?;
                    let mut state = self.lock();
                    state.operation = Some(operation);
                    state.waiting = Some(waiting);
                }
            }
        }
    }

    // It is over. Returns what it waits for.
    fn take_wait(&self) -> Option<Wait> {
        let mut state = self.lock();
        let (operation, waiting) = (state.operation.take(), state.waiting.take());
        // Outside the lock: it may be the last reference to the message.
        drop(state);
        drop(operation);
        waiting
    }
}

enum Stepped<'py> {
    Waits(Bound<'py, PyAny>),
    Over(Option<Bound<'py, PyAny>>),
}

#[pymethods]
impl Awaitable {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.step(py)? {
            Stepped::Waits(future) => Ok(Some(future)),
            Stepped::Over(None) => Ok(None),
            Stepped::Over(Some(result)) => Err(PyStopIteration::new_err((result.unbind(),))),
        }
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // What it waits for are futures, which take nothing.
        if !value.is_none() {
            return Err(pyo3::exceptions::PyTypeError::new_err("this coroutine takes no values"));
        }
        self.__next__(py)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(&self, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = error.py();
        match self.take_wait() {
            Some(waiting) => waiting.awaited.bind(py).call_method1(intern!(py, "throw"), error),
            None => Err(thrown(error)?),
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(waiting) = self.take_wait() {
            waiting.awaited.bind(py).call_method0(intern!(py, "close"))?;
        }
        Ok(())
    }
}

/// The exception that `throw(error)` or `throw(type, value, traceback)` is given.
pub fn thrown(error: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let value = error.get_item(1).ok().filter(|value| !value.is_none());
    Ok(PyErr::from_value(value.map_or_else(|| error.get_item(0), Ok)?))
}

/// `receive`. It is a class rather than a method of the call: `wsgi.asgi` marks it as a coroutine function, which a built-in
/// method cannot be.
#[pyclass(frozen, module = "wsgi._core", name = "ASGIReceive")]
pub struct ReceiveFn(pub Py<AsgiCall>);

#[pymethods]
impl ReceiveFn {
    #[getter]
    fn __name__(_: &Bound<'_, Self>) -> &'static str {
        "receive"
    }

    fn __call__(&self, py: Python<'_>) -> Awaitable {
        Awaitable::new(self.0.clone_ref(py), Operation::Receive)
    }
}

/// `send`, likewise.
#[pyclass(frozen, module = "wsgi._core", name = "ASGISend")]
pub struct SendFn(pub Py<AsgiCall>);

#[pymethods]
impl SendFn {
    #[getter]
    fn __name__(_: &Bound<'_, Self>) -> &'static str {
        "send"
    }

    #[pyo3(signature = (message, /))]
    fn __call__(&self, py: Python<'_>, message: Py<PyAny>) -> Awaitable {
        Awaitable::new(self.0.clone_ref(py), Operation::Send(message))
    }
}
