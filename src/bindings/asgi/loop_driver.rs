//! Drives the shard of a run from its event loop: makes a task of every request, and does in each turn of the loop what is due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::call::{AsgiCall, Ended};
use super::calls::OpenCalls;
use super::event_loop::{CallId, Due, EventLoop, log_loop_error};
use super::http::Http;
use super::run::Running;
use super::scope::ScopeBuilder;
use super::session::Session;
use super::websocket::WebSocket;
use super::websocket_registry::WebSocketRegistry;
use crate::bindings::ffi::Context;
use crate::engine::exchange::{Content, Exchange};
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::shard::external_loop::ExternalLoop;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;
use crate::interface::{outgoing, scope};
use crate::websocket::handshake::{self, UpgradeRequest};

/// Passes over the shard in one turn of the loop; then other callbacks have their turn.
const MAX_PASSES: usize = 4;

/// What a loop calls when the shard's descriptor is readable.
#[pyclass(frozen, module = "wsgi._core")]
pub struct LoopDriver {
    event_loop: Arc<EventLoop>,
    calls: Arc<OpenCalls>,
    app: Py<PyAny>,
    create_task: Py<PyAny>,
    // Called once when every connection is closed.
    over: Py<PyAny>,
    over_called: AtomicBool,
    // The sessions were told that the server is being stopped.
    stopped: AtomicBool,
    builder: Mutex<ScopeBuilder>,
    websockets: WebSocketRegistry<AsgiCall>,
}

impl LoopDriver {
    /// The driver of `shard` in `event_loop`. `create_task` makes a task of a coroutine, each in a copy of `context`; `over` is
    /// called once when every connection is closed after a stop.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, and made elsewhere")]
    pub fn create(
        shard: ExternalLoop,
        calls: Arc<OpenCalls>,
        app: Py<PyAny>,
        builder: ScopeBuilder,
        event_loop: &Bound<'_, PyAny>,
        context: Context,
        create_task: Py<PyAny>,
        over: Py<PyAny>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let websockets = WebSocketRegistry::new(shard.options().websocket.memory);
        let event_loop = Arc::new(EventLoop::new(shard, event_loop, context)?);
        let driver = Self {
            event_loop: Arc::clone(&event_loop),
            calls,
            app,
            create_task,
            over,
            over_called: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            builder: Mutex::new(builder),
            websockets,
        };
        let thread = py.import(intern!(py, "threading"))?.call_method0(intern!(py, "get_ident"))?.extract()?;
        driver.calls.set_thread(thread);
        let driver = Bound::new(py, driver)?;
        let method = |name| driver.getattr(name).map(Bound::unbind);
        event_loop.connect(method("settle")?, method("alarm")?);
        Ok(driver.unbind())
    }

    fn shard(&self) -> &ExternalLoop {
        self.event_loop.shard()
    }

    // Makes a task of one request.
    fn begin(&self, py: Python<'_>, mut exchange: Box<Exchange>, admission: AdmissionGuard) -> PyResult<()> {
        if !scope::can_name_method(exchange.request()) {
            self.refuse(exchange, Reject::MethodLowerCase);
            return Ok(());
        }
        let token = exchange.token();
        let compresses = self.shard().options().websocket.compression;
        let (upgrade, has_body) =
            (exchange.asks_for_upgrade(), exchange.body_length().is_some_and(|length| length > 0));
        let handshake = match handshake::parse_upgrade(exchange.request(), upgrade, has_body, compresses) {
            UpgradeRequest::None => None,
            UpgradeRequest::WebSocket(handshake) => Some(handshake),
            UpgradeRequest::Malformed(text) => {
                self.refuse_handshake(exchange, 400, text);
                return Ok(());
            }
            UpgradeRequest::UnsupportedVersion => {
                self.refuse_handshake(exchange, 426, "only version 13 of WebSocket is supported");
                return Ok(());
            }
        };
        if handshake.is_some() && !exchange.count_as_websocket() {
            self.refuse(exchange, Reject::TooManyWebSockets);
            return Ok(());
        }
        let scope = {
            let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
            match &handshake {
                Some(handshake) => builder.websocket(py, &exchange, &handshake.protocols),
                None => builder.http(py, &exchange),
            }
        };
        let request = exchange.request().method_and_path();
        let now = Instant::now();
        let is_websocket = handshake.is_some();
        let mut session: Box<dyn Session> = match handshake {
            Some(handshake) => Box::new(WebSocket::new(
                exchange,
                admission,
                handshake,
                self.shard().options(),
                self.websockets.memory(),
                now,
            )),
            None => Box::new(Http::new(exchange, admission, now)),
        };
        if self.shard().is_stopping() {
            self.event_loop.with_io(|io| session.stop(self.shard().is_retiring(), io));
        }
        let id = CallId { token, serial: self.event_loop.next_serial() };
        let call = AsgiCall::new(Arc::clone(&self.event_loop), id, request, session, is_websocket);
        let call = Bound::new(py, call)?;
        self.calls.insert(&call);
        if is_websocket {
            self.websockets.insert(id.serial, call.clone().unbind());
        }
        let running = scope.and_then(|scope| {
            let running = Running::new(call.clone().unbind(), self.app.clone_ref(py), scope.unbind());
            let running = Bound::new(py, running)?;
            let task = self.event_loop.create_task(self.create_task.bind(py), running.as_any())?;
            Ok((running, task))
        });
        match running {
            Ok((running, task)) => {
                if !running.get().is_over() {
                    self.event_loop.keep_task(id, task.unbind());
                }
            }
            Err(error) => call.get().end(py, Ended::Raised(error)),
        }
        Ok(())
    }

    // Answers a request that the application does not see.
    fn refuse(&self, mut exchange: Box<Exchange>, reject: Reject) {
        self.event_loop.with_io(|io| exchange.refuse(reject, io.clock));
        self.shard().conclude(exchange);
    }

    // Answers an invalid handshake (RFC 6455 §4.2.2, §4.4; RFC 9110 §15.5.22).
    fn refuse_handshake(&self, mut exchange: Box<Exchange>, status: u16, text: &'static str) {
        if let Ok(mut head) = outgoing::status_code(status) {
            if status == 426 {
                head.push(b"Upgrade", b"websocket");
                head.push(b"Sec-WebSocket-Version", b"13");
            }
            head.push(b"Content-Type", b"text/plain; charset=utf-8");
            let content = format!("{text}.\n");
            exchange.close_connection();
            exchange.refuse_handshake(text);
            self.event_loop.with_io(|io| exchange.begin(&head, BodySize::Known(content.len() as u64), io.clock));
            // An error is found when this is sent.
            let _ = exchange.write(Content::Borrowed(content.as_bytes()));
            exchange.finish();
        }
        self.shard().conclude(exchange);
    }

    fn expire(&self, py: Python<'_>) {
        let now = Instant::now();
        // A call that is due at once again has its turn in the next turn of the loop.
        for id in self.event_loop.take_expired(now) {
            if let Some(call) = self.calls.get(py, id) {
                call.get().expire(py, now);
            }
        }
    }

    fn remove_concluded(&self) {
        for id in self.event_loop.take(Due::Concluded) {
            self.calls.remove(id);
        }
    }

    fn flush(&self, py: Python<'_>) {
        for id in self.event_loop.take(Due::Flush) {
            if let Some(call) = self.calls.get(py, id) {
                call.get().flush(py);
            }
        }
    }

    // Tells the applications whose exchanges were taken away.
    fn end_cut(&self, py: Python<'_>) {
        for call in self.calls.take_cut() {
            call.get().changed(py);
            if self.calls.interrupts() {
                call.get().cancel_if_overdue(py);
            }
            self.calls.keep_detached(call);
        }
    }

    // Does what is due. Returns when the shard is to be polled again, even if its descriptor stays silent.
    fn drive(&self, py: Python<'_>) -> Option<Duration> {
        for pass in 0..MAX_PASSES {
            self.remove_concluded();
            let polled = self.shard().poll_once(pass == 0);
            for token in polled.changed {
                if let Some(call) = self.calls.of_connection(py, token) {
                    call.get().changed(py);
                }
            }
            for (exchange, admission) in polled.ready {
                log_loop_error(py, self.begin(py, exchange, admission));
            }
            self.remove_concluded();
            if pass == 0 {
                self.expire(py);
                for id in self.event_loop.take(Due::Ended) {
                    self.websockets.remove(id.serial);
                }
                self.websockets.free_memory(py);
            }
            if self.shard().is_stopping() && !self.stopped.swap(true, Ordering::Relaxed) {
                for call in self.calls.all(py) {
                    call.get().stop(py);
                }
            }
            self.end_cut(py);
            self.flush(py);
            if !self.shard().has_answers() {
                return polled.next;
            }
        }
        Some(Duration::ZERO)
    }
}

#[pymethods]
impl LoopDriver {
    /// The descriptor that the loop is to watch.
    fn fileno(&self) -> PyResult<i32> {
        self.shard().descriptor().ok_or_else(|| PyRuntimeError::new_err("another thread drives the shard"))
    }

    /// Drives the shard for one turn of the loop.
    fn turn(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.exit_if_forked(py, None)?;
        if !self.event_loop.begin_turn() {
            return Ok(());
        }
        let next = self.drive(py);
        self.shard().end_turn(self.calls.len());
        let deadline = self.event_loop.end_turn();
        if self.shard().is_over() {
            self.calls.forget_detached();
            let called =
                if self.over_called.swap(true, Ordering::Relaxed) { Ok(()) } else { self.over.call0(py).map(drop) };
            return self.event_loop.disconnect(py).and(called);
        }
        match next {
            Some(Duration::ZERO) => self.event_loop.settle_soon(py),
            Some(delay) => self.event_loop.wake_at(py, Instant::now() + delay),
            None => {}
        }
        if let Some(at) = deadline {
            self.event_loop.wake_at(py, at);
        }
        Ok(())
    }

    /// The same, at the end of the loop's turn.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.settled();
        self.turn(py)
    }

    /// The same, at a deadline.
    fn alarm(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.take_timer();
        self.turn(py)
    }

    /// The tasks of applications that have not returned.
    #[getter]
    fn tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.event_loop.tasks(py))
    }

    /// From now on applications that are cancelled are not logged.
    fn dismiss(&self) {
        self.event_loop.cancel();
    }
}
