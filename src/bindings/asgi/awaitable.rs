//! What `receive()` and `send()` return. To asyncio it is a coroutine, so that it can be awaited or made a task of.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::call::{Call, Polled};
use crate::bindings::ffi::{Resumed, resume};

/// What is awaited.
pub enum Asked {
    /// The next message to the application.
    Receive,
    /// That this message is on its way.
    Send(Py<PyAny>),
    /// That the client has caught up with what was sent.
    Drain,
}

struct State {
    // Absent once it is over.
    asked: Option<Asked>,
    waiting: Option<Wait>,
}

// A place among those that wait at a call. It is given up with this, however the waiting ends.
struct Wait {
    call: Py<Call>,
    ticket: u64,
    // How the future in that place is awaited.
    awaited: Py<PyAny>,
    // It ends before what it waits for has come, and that is the request's body.
    pauses: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.call.get().leave_line(self.ticket, self.pauses);
    }
}

/// One `receive()` or `send()`.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Awaitable {
    call: Py<Call>,
    state: Mutex<State>,
}

impl Awaitable {
    /// What `asked` of `call` gives.
    pub fn new(call: Py<Call>, asked: Asked) -> Self {
        Self { call, state: Mutex::new(State { asked: Some(asked), waiting: None }) }
    }

    // Held only for a moment, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, State> {
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
                    // Somebody else has cancelled the future.
                    Err(error) => {
                        self.give_up();
                        return Err(error);
                    }
                }
            }
            let call = self.call.bind(py);
            if call.get().must_yield() {
                // Tasks take None as `asyncio.sleep(0)` does: they go on in the next turn of the loop.
                return Ok(Stepped::Waits(py.None().into_bound(py)));
            }
            let asked = self.lock().asked.take();
            let (asked, polled) = match asked {
                None => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
                Some(Asked::Receive) => (Asked::Receive, Call::receive_now(call)?),
                Some(Asked::Send(message)) => (Asked::Drain, Call::send_now(call, message.bind(py))?),
                Some(Asked::Drain) => (Asked::Drain, Call::drain_now(call)?),
            };
            match polled {
                Polled::Ready(result) => return Ok(Stepped::Over(result)),
                Polled::Later => {
                    let (ticket, future) = Call::line_up(call)?;
                    let pauses = matches!(asked, Asked::Receive);
                    let mut waiting = Wait { call: self.call.clone_ref(py), ticket, awaited: future.unbind(), pauses };
                    waiting.awaited = waiting.awaited.call_method0(py, intern!(py, "__await__"))?;
                    let mut state = self.lock();
                    state.asked = Some(asked);
                    state.waiting = Some(waiting);
                }
            }
        }
    }

    // It is over. What it waited for comes back.
    fn give_up(&self) -> Option<Wait> {
        let mut state = self.lock();
        let (asked, waiting) = (state.asked.take(), state.waiting.take());
        // A message of the application's is let go outside the lock.
        drop(state);
        drop(asked);
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
        match self.give_up() {
            Some(waiting) => waiting.awaited.bind(py).call_method1(intern!(py, "throw"), error),
            None => Err(thrown(error)?),
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(waiting) = self.give_up() {
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
