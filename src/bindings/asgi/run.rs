//! The coroutine of an application call's task: it calls the application inside the task, passes every step on, and ends the
//! call. Nothing that the application raises reaches the loop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyAttributeError, PyGeneratorExit, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::awaitable::{ReceiveFn, SendFn, thrown};
use super::call::{AsgiCall, Ended};
use super::message::type_name;
use crate::bindings::ffi::{self, Resumed, resume};

enum CoroutineState {
    // The application was not called yet: it is to be called in the context of the task.
    Fresh { app: Py<PyAny>, scope: Py<PyDict> },
    Started(Py<PyAny>),
    Over,
}

/// One call of the application.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Running {
    call: Py<AsgiCall>,
    state: Mutex<CoroutineState>,
}

static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();

impl Running {
    /// The call of `app` with `scope`.
    pub fn new(call: Py<AsgiCall>, app: Py<PyAny>, scope: Py<PyDict>) -> Self {
        Self { call, state: Mutex::new(CoroutineState::Fresh { app, scope }) }
    }

    // Held only for a moment, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, CoroutineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the application has come to its end.
    pub fn is_over(&self) -> bool {
        matches!(*self.lock(), CoroutineState::Over)
    }

    fn coroutine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call.get().run();
        let fresh = {
            let mut state = self.lock();
            match &*state {
                CoroutineState::Started(coroutine) => return Ok(coroutine.bind(py).clone()),
                CoroutineState::Over => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
                CoroutineState::Fresh { .. } => std::mem::replace(&mut *state, CoroutineState::Over),
            }
        };
        let CoroutineState::Fresh { app, scope } = fresh else {
            return Err(PyRuntimeError::new_err("the application was called already"));
        };
        let receive = Bound::new(py, ReceiveFn(self.call.clone_ref(py)))?;
        let send = Bound::new(py, SendFn(self.call.clone_ref(py)))?;
        let returned = ffi::call(app.bind(py), [scope.bind(py).as_any(), receive.as_any(), send.as_any()])?;
        let coroutine = awaited(&returned)?;
        *self.lock() = CoroutineState::Started(coroutine.clone().unbind());
        Ok(coroutine)
    }

    // What one step came to: what the task is to wait for, or nothing more.
    fn note<'py>(&self, py: Python<'py>, step: PyResult<Resumed<'py>>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.call.get().exit_if_forked(py, step.as_ref().err())?;
        let ended = match step {
            Ok(Resumed::Yielded(future)) => {
                self.call.get().rest(py);
                return Ok(Some(future));
            }
            Ok(Resumed::Returned) => Ended::Returned,
            Err(error) if is_cancellation(py, &error)? => Ended::Cancelled(error),
            Err(error) => Ended::Raised(error),
        };
        *self.lock() = CoroutineState::Over;
        // A cancelled task must end as cancelled.
        let cancelled = if let Ended::Cancelled(error) = &ended { Some(error.clone_ref(py)) } else { None };
        self.call.get().end(py, ended);
        cancelled.map_or(Ok(None), Err)
    }
}

fn is_cancellation(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.is_instance(py, CANCELLED.import(py, "asyncio", "CancelledError")?)
        || error.is_instance_of::<PyGeneratorExit>(py))
}

// A coroutine as it is, anything else that can be awaited by its way to be.
fn awaited<'py>(returned: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = returned.py();
    if returned.hasattr(intern!(py, "send"))? && returned.hasattr(intern!(py, "throw"))? {
        return Ok(returned.clone());
    }
    if returned.hasattr(intern!(py, "__await__"))? {
        return returned.call_method0(intern!(py, "__await__"));
    }
    let message = format!("an ASGI application must return an awaitable, not {}", type_name(returned));
    Err(PyTypeError::new_err(message))
}

#[pymethods]
impl Running {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let step = self.coroutine(py).and_then(|coroutine| resume(&coroutine));
        self.note(py, step)
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let step = if value.is_none() {
            self.coroutine(py).and_then(|coroutine| resume(&coroutine))
        } else {
            self.pass_on(py, "send", (value,).into_pyobject(py)?)
        };
        self.note(py, step)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(&self, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = error.py();
        let is_fresh = matches!(*self.lock(), CoroutineState::Fresh { .. });
        let step = if is_fresh { Err(thrown(error)?) } else { self.pass_on(py, "throw", error.clone()) };
        self.note(py, step)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let state = std::mem::replace(&mut *self.lock(), CoroutineState::Over);
        let closed = match &state {
            CoroutineState::Started(coroutine) => coroutine.bind(py).call_method0(intern!(py, "close")).map(drop),
            CoroutineState::Fresh { .. } => Ok(()),
            CoroutineState::Over => return Ok(()),
        };
        self.call.get().end(py, Ended::Cancelled(PyGeneratorExit::new_err(())));
        closed
    }

    // Debuggers and anyio look at a coroutine's frame and state: they see those of the application.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let coroutine = match &*self.lock() {
            CoroutineState::Started(coroutine) => coroutine.clone_ref(py),
            _ => return Err(PyAttributeError::new_err(name.clone().unbind())),
        };
        coroutine.bind(py).getattr(name.cast::<pyo3::types::PyString>()?)
    }
}

impl Running {
    fn pass_on<'py>(&self, py: Python<'py>, method: &str, arguments: Bound<'py, PyTuple>) -> PyResult<Resumed<'py>> {
        match self.coroutine(py)?.call_method1(method, arguments) {
            Ok(future) => Ok(Resumed::Yielded(future)),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(Resumed::Returned),
            Err(error) => Err(error),
        }
    }
}
