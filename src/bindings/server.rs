//! The classes behind `wsgi.server.WSGIServer`: a bound server, and one run of it.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict};

use super::asgi::loop_driver::LoopDriver;
use super::asgi::scope::ScopeBuilder;
use super::errors::PythonError;
use super::options::Settings;
use super::page::Page;
use super::stuck::{StuckReporter, SuccessorRequest};
use super::wsgi::gateway::WsgiGateway;
use super::{asgi, wsgi};
use crate::engine::exchange::in_flight::InFlight;
use crate::engine::log_source::LogSource;
use crate::engine::observe::Observer;
use crate::engine::options::Options;
use crate::engine::report::Reporter;
use crate::engine::request_limit::RequestLimit;
use crate::engine::server::{RunConfig, ServerRun};
use crate::net::descriptor::duplicate;
use crate::net::descriptor_queue::DescriptorQueue;
use crate::net::listener::{ListenAddress, Listener, PassedSocket};

/// A [`PassedSocket`] as Python has it: what it was opened for, descriptor, device and inode of its file.
type Passed = (String, i32, Option<(u64, u64)>);

/// Listening sockets and options. Stays bound while runs come and go.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Server {
    listeners: Mutex<Vec<Arc<Listener>>>,
    options: Arc<Options>,
    access_log: Option<LogSource>,
    warnings: Vec<String>,
    // Those of the present run.
    observers: Mutex<Weak<[Box<dyn Observer>]>>,
}

impl Server {
    fn observers(&self) -> MutexGuard<'_, Weak<[Box<dyn Observer>]>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Arc<Listener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (settings, /, *, inherit = Vec::new(), passed = Vec::new()))]
    fn new(settings: &Bound<'_, PyAny>, inherit: Vec<PyRef<'_, Self>>, passed: Vec<Passed>) -> PyResult<Self> {
        let settings = Settings(settings);
        let mut open = Vec::<Arc<Listener>>::new();
        for listener in inherit.into_iter().flat_map(|server| server.listeners().clone()) {
            if !open.iter().any(|other| other.shares_socket(&listener)) {
                open.push(listener);
            }
        }
        for (bind, descriptor, file) in passed {
            let listener = Listener::from_passed(&PassedSocket { bind, descriptor, file });
            open.push(Arc::new(listener.map_err(PythonError::from)?));
        }
        let options = Arc::new(settings.options()?);
        let access_log = settings.access_log()?;
        let observers: Weak<[Box<dyn Observer>]> = Weak::<[Box<dyn Observer>; 0]>::new();
        let (tls, warnings) = settings.tls()?;
        let listeners = settings.listeners(tls.as_ref(), &open)?;
        Ok(Self { listeners: Mutex::new(listeners), options, access_log, warnings, observers: Mutex::new(observers) })
    }

    /// Where the server listens: `(host, port)` for IP, a path or `@name` for Unix sockets.
    #[getter]
    fn places<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        // Python objects are not made under the lock: a collection may run, and want it.
        let listeners = self.listeners().clone();
        listeners
            .iter()
            .map(|listener| match listener.place() {
                ListenAddress::Ip(address) => {
                    Ok((address.ip().to_string(), address.port()).into_pyobject(py)?.into_any())
                }
                ListenAddress::Unix(path) => Ok(path.to_string_lossy().into_pyobject(py)?.into_any()),
            })
            .collect()
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.listeners().iter().map(|listener| listener.url()).collect()
    }

    #[getter]
    fn schemes(&self) -> Vec<&'static str> {
        self.listeners().iter().map(|listener| if listener.tls().is_some() { "https" } else { "http" }).collect()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    fn sockets(&self) -> Vec<Passed> {
        let passed = |listener: &Arc<Listener>| {
            let PassedSocket { bind, descriptor, file } = listener.to_passed();
            (bind, descriptor, file)
        };
        self.listeners().iter().map(passed).collect()
    }

    fn filenos(&self) -> Vec<i32> {
        self.listeners().iter().map(|listener| listener.descriptor().as_raw_fd()).collect()
    }

    #[pyo3(signature = (app, environs, *, shards = 1, single_request = false, external_loop = false,
        multiprocess = false, page = None, slot = 0, handover = None, request_limit = None,
        successor = None))]
    #[expect(clippy::too_many_arguments, reason = "each is named where it is called")]
    fn start(
        &self,
        py: Python<'_>,
        app: Py<PyAny>,
        environs: Vec<Py<PyDict>>,
        shards: usize,
        single_request: bool,
        external_loop: bool,
        multiprocess: bool,
        page: Option<&Bound<'_, Page>>,
        slot: usize,
        handover: Option<(i32, i32)>,
        request_limit: Option<(u64, i32)>,
        successor: Option<(i32, Vec<u8>)>,
    ) -> PyResult<Run> {
        let listeners = self.listeners().clone();
        if listeners.is_empty() {
            return Err(PyRuntimeError::new_err("the server is closed"));
        }
        if environs.len() != listeners.len() {
            return Err(PyValueError::new_err("one environ is needed for each listener"));
        }
        let page_slot = page.map(|page| page.get().slot(slot, shards)).transpose()?;
        let environs =
            environs.into_iter().map(|environ| for_run(environ.bind(py), multiprocess)).collect::<PyResult<_>>()?;
        let (calls, loop_calls) =
            (Arc::<wsgi::calls::WorkerCalls>::default(), Arc::<asgi::calls::OpenCalls>::default());
        let in_flight: Arc<dyn InFlight> =
            if external_loop { Arc::clone(&loop_calls) as _ } else { Arc::clone(&calls) as _ };
        if let Some(timeout) = self.options.request_timeout {
            let dump_signal = py.import("wsgi.stalls")?.call_method0("register_dump")?.extract()?;
            let process = py.import("os")?.call_method0("getpid")?.extract()?;
            let successor = successor.map(|(channel, message)| SuccessorRequest::new(channel, message)).transpose()?;
            let reporter = Arc::new(StuckReporter::new(timeout, external_loop, dump_signal, successor, process));
            loop_calls.set_stuck_reporter(Arc::clone(&reporter));
            calls.set_stuck_reporter(reporter);
        }
        let reporter = Arc::clone(&calls) as Arc<dyn Reporter>;
        let mut observers = Vec::<Box<dyn Observer>>::new();
        if let Some(log) = &self.access_log {
            let target = log.open().map_err(|error| {
                PyValueError::new_err(format!("option access_log: cannot open {}: {error}", log.name()))
            })?;
            observers.push(Box::new(log.start(target, Arc::clone(&reporter))?));
        }
        if let Some((limit, signal)) = request_limit {
            observers.push(Box::new(RequestLimit::new(limit, duplicate(signal)?)));
        }
        let observers: Arc<[Box<dyn Observer>]> = observers.into();
        *self.observers() = Arc::downgrade(&observers);
        let config = RunConfig {
            options: Arc::clone(&self.options),
            shards,
            single_request,
            external_loop,
            page_slot,
            handover: handover
                .map(|(sender, receiver)| DescriptorQueue::new(sender, receiver).map(Arc::new))
                .transpose()?,
            reporter,
            in_flight: Arc::clone(&in_flight),
            observers: Arc::clone(&observers),
        };
        let engine = ServerRun::start(&listeners, &config)?;
        Ok(Run { engine, app, environs, calls, loop_calls, in_flight, observers })
    }

    fn reopen_logs(&self, py: Python<'_>) {
        let observers = self.observers().upgrade();
        py.detach(|| {
            if let Some(log) = &self.access_log {
                log.reopen();
            }
            observers.iter().flat_map(|observers| observers.iter()).for_each(|observer| observer.reopen());
        });
    }

    fn close_listeners(&self) {
        self.listeners().clear();
    }

    fn close(&self, py: Python<'_>) {
        self.close_listeners();
        // A run that goes on, such as that of the application which calls this, keeps its log.
        let observers = self.observers().upgrade();
        py.detach(|| observers.iter().flat_map(|observers| observers.iter()).for_each(|observer| observer.flush()));
    }
}

// The environ that every request of a run begins with. What the program has set itself stays.
fn for_run(environ: &Bound<'_, PyDict>, multiprocess: bool) -> PyResult<Py<PyDict>> {
    let environ = environ.copy()?;
    if !environ.contains("wsgi.multiprocess")? {
        environ.set_item("wsgi.multiprocess", multiprocess)?;
    }
    Ok(environ.unbind())
}

/// One run of a server, from `start` to `finish`.
#[pyclass(frozen, module = "wsgi._core")]
pub struct Run {
    engine: ServerRun,
    app: Py<PyAny>,
    environs: Vec<Py<PyDict>>,
    calls: Arc<wsgi::calls::WorkerCalls>,
    loop_calls: Arc<asgi::calls::OpenCalls>,
    in_flight: Arc<dyn InFlight>,
    observers: Arc<[Box<dyn Observer>]>,
}

#[pymethods]
impl Run {
    #[getter]
    fn workers(&self) -> usize {
        self.engine.workers()
    }

    #[getter]
    fn is_over(&self) -> bool {
        self.engine.is_over()
    }

    #[pyo3(signature = (index, /))]
    fn work(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        let mut gateway =
            WsgiGateway::new(py, self.app.bind(py).clone(), &self.environs, Arc::clone(&self.calls), index)?;
        self.engine.work(index, &mut gateway);
        Ok(())
    }

    #[pyo3(signature = (event_loop, servers, state, /, *, context, create_task, over))]
    #[expect(clippy::too_many_arguments, reason = "each is named where it is called")]
    fn drive(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        servers: Vec<Py<PyAny>>,
        state: Option<Py<PyDict>>,
        context: Py<PyAny>,
        create_task: Py<PyAny>,
        over: Py<PyAny>,
    ) -> PyResult<Py<LoopDriver>> {
        let external_loop =
            self.engine.external_loop().ok_or_else(|| PyRuntimeError::new_err("the run has no external loop"))?;
        let builder = ScopeBuilder::new(servers, state, external_loop.options());
        LoopDriver::create(
            external_loop,
            Arc::clone(&self.loop_calls),
            self.app.clone_ref(py),
            builder,
            event_loop,
            context.into(),
            create_task,
            over,
        )
    }

    /// Method and path of each request that is running.
    fn requests(&self) -> Vec<String> {
        self.in_flight.requests()
    }

    /// Connections that a stop still waits for.
    #[getter]
    fn connections(&self) -> usize {
        self.engine.connections()
    }

    fn stop(&self) {
        self.engine.stop();
    }

    fn retire(&self) {
        self.engine.retire();
    }

    fn abort(&self) {
        self.engine.abort();
    }

    fn wake(&self) {
        self.engine.wake();
    }

    fn finish(&self, py: Python<'_>) {
        py.detach(|| {
            self.engine.finish();
            self.observers.iter().for_each(|observer| observer.end());
        });
    }
}
