//! The page of counters, as the supervisor and its commands use it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::page::{CounterPage, PageSlot, SupervisorCell, WorkerCounters};
use crate::net::descriptor;

/// The supervisor's cells by the names that Python gives them.
const NAMES: [(&str, SupervisorCell); 6] = [
    ("pid", SupervisorCell::Pid),
    ("target", SupervisorCell::Target),
    ("generation", SupervisorCell::Generation),
    ("reloads_begun", SupervisorCell::ReloadsBegun),
    ("reloads_done", SupervisorCell::ReloadsDone),
    ("reloads_failed", SupervisorCell::ReloadsFailed),
];

fn named(name: &str) -> PyResult<SupervisorCell> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, cell)| *cell).ok_or_else(|| PyValueError::new_err(format!("no cell has the name {name}")))
}

/// Counters of all processes of a server.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Page(Arc<CounterPage>);

impl Page {
    /// The slot with this number, for a run of `shards` shards.
    pub fn slot(&self, slot: usize, shards: usize) -> PyResult<PageSlot> {
        let Self(page) = self;
        if shards > page.shards() {
            let message = format!("the page has room for {} shards, not for {shards}", page.shards());
            return Err(PyValueError::new_err(message));
        }
        PageSlot::new(Arc::clone(page), slot)
            .ok_or_else(|| PyValueError::new_err(format!("the page has no slot {slot}")))
    }
}

// A file that is no page is a wrong value; anything else is the system's refusal.
fn to_python(error: &io::Error) -> PyErr {
    match error.kind() {
        io::ErrorKind::InvalidData => PyValueError::new_err(error.to_string()),
        _ => PyOSError::new_err((error.raw_os_error(), error.to_string())),
    }
}

#[derive(FromPyObject)]
enum PageSource {
    Descriptor(i32),
    Path(PathBuf),
}

#[pymethods]
impl Page {
    #[new]
    #[pyo3(signature = (slots, *, shards = 1))]
    fn new(slots: usize, shards: usize) -> PyResult<Self> {
        let page = CounterPage::shared(slots, shards).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => PyValueError::new_err("a page has 1 to 4096 slots, of 1 to 4096 shards"),
            _ => to_python(&error),
        })?;
        Ok(Self(Arc::new(page)))
    }

    #[staticmethod]
    #[pyo3(signature = (source, /))]
    fn open(source: PageSource) -> PyResult<Self> {
        let file = match source {
            PageSource::Descriptor(number) => descriptor::duplicate(number).map(File::from),
            PageSource::Path(path) => OpenOptions::new().read(true).write(true).open(path),
        };
        Ok(Self(Arc::new(file.and_then(CounterPage::open).map_err(|error| to_python(&error))?)))
    }

    fn fileno(&self) -> PyResult<i32> {
        let Self(page) = self;
        page.file().map(AsRawFd::as_raw_fd).ok_or_else(|| PyRuntimeError::new_err("the page has no file"))
    }

    #[getter]
    fn slots(&self) -> usize {
        self.0.slots()
    }

    #[pyo3(signature = (generation, /))]
    fn take_slot(&self, generation: u64) -> PyResult<usize> {
        self.0.take_slot(generation).ok_or_else(|| PyRuntimeError::new_err("every slot of the page is taken"))
    }

    #[pyo3(signature = (slot, /))]
    fn release_slot(&self, slot: usize) {
        self.0.release_slot(slot);
    }

    #[pyo3(signature = (name, value, /))]
    fn set(&self, name: &str, value: u64) -> PyResult<()> {
        self.0.supervisor(named(name)?).store(value, Ordering::SeqCst);
        Ok(())
    }

    #[pyo3(signature = (name, /))]
    fn get(&self, name: &str) -> PyResult<u64> {
        Ok(self.0.supervisor(named(name)?).load(Ordering::SeqCst))
    }

    fn workers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.0.workers().iter().map(|worker| to_dict(py, worker)).collect()
    }
}

fn to_dict<'py>(py: Python<'py>, worker: &WorkerCounters) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("slot", worker.slot)?;
    dict.set_item("is_accepting", worker.is_accepting)?;
    dict.set_item("is_waiting", worker.is_waiting)?;
    for (name, value) in [
        ("pid", worker.pid),
        ("generation", worker.generation),
        ("connections", worker.connections),
        ("websockets", worker.websockets),
        ("threads", worker.threads),
        ("running", worker.running),
        ("queued", worker.queued),
        ("spooled_bytes", worker.spooled_bytes),
        ("heartbeat_ms", worker.heartbeat_ms),
        ("accepted", worker.accepted),
    ] {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
