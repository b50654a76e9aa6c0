//! The event loop's side of a run: looks after the shard, makes a task of every request, and keeps their times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::call::{Call, Ended};
use super::calls::Calls;
use super::http::Http;
use super::run::Running;
use super::scope::Builder;
use super::session::{Io, Session, TURN_BYTES};
use super::sockets::Sockets;
use super::websocket::WebSocket;
use crate::bindings::ffi::Context;
use crate::bindings::forks::Process;
use crate::bindings::reporter::{ERROR, log};
use crate::engine::clock::Clock;
use crate::engine::exchange::{Content, Exchange};
use crate::engine::scheduling::pool::AdmissionGuard;
use crate::engine::shard::external_loop::ExternalLoop;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;
use crate::interface::{outgoing, scope};
use crate::websocket::deflate::Compressors;
use crate::websocket::handshake::{self, Asked};

/// Bytes of a request body in one message at most.
const SCRATCH: usize = 64 * 1024;
/// Times are kept as well as this.
const PRECISION: Duration = Duration::from_millis(1);
/// Looks at the shard in one turn of the loop; then others have their turn.
const PASSES: usize = 4;

/// The loop, as far as it is needed here.
struct Hooks {
    create_task: Py<PyAny>,
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    call_later: Py<PyAny>,
    // Called once when every connection has gone.
    over: Py<PyAny>,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
struct State {
    // asyncio holds its tasks only weakly.
    tasks: HashMap<u64, Py<PyAny>>,
    serial: u64,
    deadlines: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    // When the loop will call, and what takes that back.
    timer: Option<(Instant, Py<PyAny>)>,
    // The loop will call in its next turn.
    soon: bool,
    // The loop is inside `turn`, which sees to everything itself.
    turning: bool,
    dirty: Vec<Py<Call>>,
    told: bool,
    // Sessions that have no end of their own were told of the stop.
    stopped: bool,
    dismissed: bool,
}

struct Scratch {
    clock: Clock,
    buffer: Box<[u8]>,
    compressors: Compressors,
}

/// What a loop calls when the shard's descriptor is readable.
#[pyclass(frozen, module = "wsgi._core")]
pub struct LoopDriver {
    shard: ExternalLoop,
    calls: Arc<Calls>,
    app: Py<PyAny>,
    hooks: Hooks,
    // What the loop is given begins with a copy of it, and never with that of a request which happens to run.
    context: Context,
    builder: Mutex<Builder>,
    sockets: Sockets,
    scratch_state: Mutex<Scratch>,
    state: Mutex<State>,
    process: Process,
}

impl LoopDriver {
    /// What looks after `shard` for `event_loop`; `create_task` makes a task of a coroutine, each with a copy of `context`.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, and made elsewhere")]
    pub fn new(
        shard: ExternalLoop,
        calls: Arc<Calls>,
        app: Py<PyAny>,
        builder: Builder,
        event_loop: &Bound<'_, PyAny>,
        context: Context,
        create_task: Py<PyAny>,
        over: Py<PyAny>,
    ) -> PyResult<Self> {
        let method = |name| event_loop.getattr(name).map(Bound::unbind);
        let hooks = Hooks {
            create_task,
            create_future: method("create_future")?,
            call_soon: method("call_soon")?,
            call_later: method("call_later")?,
            over,
        };
        let scratch_state = Scratch {
            clock: Clock::new(Instant::now()),
            buffer: vec![0; SCRATCH].into_boxed_slice(),
            compressors: Compressors::default(),
        };
        Ok(Self {
            sockets: Sockets::new(shard.options().websocket.memory),
            shard,
            calls,
            app,
            hooks,
            context,
            builder: Mutex::new(builder),
            scratch_state: Mutex::new(scratch_state),
            state: Mutex::default(),
            process: Process::this(),
        })
    }

    // Held only for a moment, never while Python code of the application's may run.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the clock and the receive buffer, for the work of a turn.
    pub fn with_io<T>(&self, with: impl FnOnce(&mut Io<'_>) -> T) -> T {
        let mut scratch_state = self.scratch_state.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { clock, buffer, compressors } = &mut *scratch_state;
        let write_timeout = self.shard.options().write_timeout;
        let now = Instant::now();
        with(&mut Io { now, clock, scratch: buffer, compressors, write_timeout, budget: TURN_BYTES })
    }

    /// Ends the process if it is a child that came back from the application.
    pub fn leave_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.process.leave_if_forked(py, error)
    }

    /// A new future of the loop.
    pub fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.hooks.create_future.bind(py).call0()
    }

    /// Whether the applications were told to stop.
    pub fn is_dismissed(&self) -> bool {
        self.lock().dismissed
    }

    /// Whether the server is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.shard.is_stopping()
    }

    /// Sees to it that a call is looked at when an instant has come.
    pub fn schedule(slf: &Bound<'_, Self>, at: Instant, token: usize, serial: u64) {
        let mut state = slf.get().lock();
        state.deadlines.push(Reverse((at, token, serial)));
        let turning = state.turning;
        drop(state);
        if !turning {
            Self::wake_at(slf, at);
        }
    }

    /// Sends what a call has gathered at the end of the loop's turn.
    pub fn flush_later(slf: &Bound<'_, Self>, call: &Bound<'_, Call>) {
        slf.get().lock().dirty.push(call.clone().unbind());
        Self::look_soon(slf);
    }

    /// Takes back an exchange that is over; it is sent off at the end of the loop's turn.
    pub fn conclude(slf: &Bound<'_, Self>, call: &Bound<'_, Call>, exchange: Box<Exchange>) {
        let driver = slf.get();
        driver.shard.conclude(exchange);
        driver.calls.forget(call.get());
        Self::look_soon(slf);
    }

    /// A call's task is over.
    pub fn forget(&self, serial: u64) {
        let task = self.lock().tasks.remove(&serial);
        drop(task);
        self.sockets.forget(serial);
    }

    fn look_soon(slf: &Bound<'_, Self>) {
        let mut state = slf.get().lock();
        if state.turning || std::mem::replace(&mut state.soon, true) {
            return;
        }
        drop(state);
        let py = slf.py();
        let asked = (|| {
            let _entered = slf.get().context.enter(py)?;
            slf.get().hooks.call_soon.call1(py, (slf.getattr(intern!(py, "settle"))?,))
        })();
        Self::complain(py, asked.map(drop));
    }

    fn wake_at(slf: &Bound<'_, Self>, at: Instant) {
        let (py, driver) = (slf.py(), slf.get());
        if driver.shard.is_over() {
            return;
        }
        let later = {
            let mut state = driver.lock();
            // A timer that is too early looks again: one that moves later, as most do, costs nothing.
            if state.timer.as_ref().is_some_and(|(earlier, _)| *earlier <= at + PRECISION) {
                return;
            }
            state.timer.take()
        };
        let delay = at.saturating_duration_since(Instant::now()).as_secs_f64();
        let set = (|| {
            if let Some((_, handle)) = later {
                handle.call_method0(py, intern!(py, "cancel"))?;
            }
            let alarm = slf.getattr(intern!(py, "alarm"))?;
            let _entered = driver.context.enter(py)?;
            driver.hooks.call_later.call1(py, (delay, alarm))
        })();
        match set {
            Ok(handle) => driver.lock().timer = Some((at, handle)),
            Err(error) => Self::complain(py, Err(error)),
        }
    }

    fn complain(py: Python<'_>, outcome: PyResult<()>) {
        if let Err(error) = outcome {
            log(py, ERROR, "Python refused what the server asked of its event loop", Some(&error));
        }
    }

    // gateway: makes a task of one request.
    fn begin(slf: &Bound<'_, Self>, mut exchange: Box<Exchange>, place: AdmissionGuard) -> PyResult<()> {
        let (py, driver) = (slf.py(), slf.get());
        if !scope::can_name_method(exchange.request()) {
            driver.refuse(exchange, Reject::MethodLowerCase);
            return Ok(());
        }
        let token = exchange.token();
        let compresses = driver.shard.options().websocket.compression;
        let (upgrade, has_body) =
            (exchange.asks_for_upgrade(), exchange.body_length().is_some_and(|length| length > 0));
        let handshake = match handshake::judge(exchange.request(), upgrade, has_body, compresses) {
            Asked::Response => None,
            Asked::WebSocket(handshake) => Some(handshake),
            Asked::Malformed(text) => {
                driver.turn_away(exchange, 400, text);
                return Ok(());
            }
            Asked::OtherVersion => {
                driver.turn_away(exchange, 426, "WebSocket version 13 is spoken here");
                return Ok(());
            }
        };
        if handshake.is_some() && !exchange.count_as_websocket() {
            driver.refuse(exchange, Reject::TooManyWebSockets);
            return Ok(());
        }
        let scope = {
            let mut builder = driver.builder.lock().unwrap_or_else(PoisonError::into_inner);
            match &handshake {
                Some(handshake) => builder.websocket(py, &exchange, &handshake.protocols),
                None => builder.http(py, &exchange),
            }
        };
        let about = exchange.request().method_and_path();
        let now = Instant::now();
        let is_websocket = handshake.is_some();
        let mut session: Box<dyn Session> = match handshake {
            Some(handshake) => Box::new(WebSocket::new(
                exchange,
                place,
                handshake,
                driver.shard.options(),
                driver.sockets.memory(),
                now,
            )),
            None => Box::new(Http::new(exchange, place, now)),
        };
        if driver.shard.is_stopping() {
            driver.with_io(|io| session.stop(io));
        }
        let serial = {
            let mut state = driver.lock();
            state.serial += 1;
            state.serial
        };
        let call = Bound::new(py, Call::new(slf.clone().unbind(), serial, token, about, session, is_websocket))?;
        driver.calls.put(&call);
        if is_websocket {
            driver.sockets.put(&call);
        }
        let running = scope.and_then(|scope| {
            let running = Running::new(call.clone().unbind(), driver.app.clone_ref(py), scope.unbind());
            let running = Bound::new(py, running)?;
            let _entered = driver.context.enter(py)?;
            let task = driver.hooks.create_task.bind(py).call1((&running,))?;
            Ok((running, task))
        });
        match running {
            Ok((running, task)) => {
                if !running.get().is_over() {
                    driver.lock().tasks.insert(serial, task.unbind());
                }
            }
            Err(error) => Call::end(&call, Ended::Raised(error)),
        }
        Ok(())
    }

    // Answers a request that the application does not see.
    fn refuse(&self, mut exchange: Box<Exchange>, reject: Reject) {
        self.with_io(|io| exchange.refuse(reject, io.clock));
        self.shard.conclude(exchange);
    }

    // Answers a handshake that cannot be met (RFC 6455 §4.2.2, §4.4; RFC 9110 §15.5.22).
    fn turn_away(&self, mut exchange: Box<Exchange>, status: u16, text: &'static str) {
        if let Ok(mut head) = outgoing::status_code(status) {
            if status == 426 {
                head.push(b"Upgrade", b"websocket");
                head.push(b"Sec-WebSocket-Version", b"13");
            }
            head.push(b"Content-Type", b"text/plain; charset=utf-8");
            let content = format!("{text}.\n");
            exchange.close_connection();
            exchange.refuse_handshake(text);
            self.with_io(|io| exchange.begin(&head, BodySize::Known(content.len() as u64), io.clock));
            // A client that has gone is found when this is sent.
            let _ = exchange.write(Content::Borrowed(content.as_bytes()));
            exchange.finish();
        }
        self.shard.conclude(exchange);
    }

    fn expire(slf: &Bound<'_, Self>) {
        let (py, driver) = (slf.py(), slf.get());
        let now = Instant::now();
        // A call that wants more at once has it in the next turn.
        let mut due = Vec::new();
        let mut state = driver.lock();
        while state.deadlines.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            due.extend(state.deadlines.pop().map(|Reverse((_, token, serial))| (token, serial)));
        }
        drop(state);
        for (token, serial) in due {
            if let Some(call) = driver.calls.get(py, token).filter(|call| call.get().serial == serial) {
                Call::expire(call.bind(py), now);
            }
        }
    }

    fn stop(slf: &Bound<'_, Self>) {
        for call in slf.get().calls.all(slf.py()) {
            Call::stop(call.bind(slf.py()));
        }
    }

    fn flush(slf: &Bound<'_, Self>) {
        let dirty = std::mem::take(&mut slf.get().lock().dirty);
        for call in dirty {
            Call::flush(call.bind(slf.py()));
        }
    }

    fn look(slf: &Bound<'_, Self>) -> Option<Duration> {
        let (py, driver) = (slf.py(), slf.get());
        for pass in 0..PASSES {
            let seen = driver.shard.poll_once(pass == 0);
            for token in seen.changed {
                if let Some(call) = driver.calls.get(py, token) {
                    Call::changed(call.bind(py));
                }
            }
            for (exchange, place) in seen.ready {
                Self::complain(py, Self::begin(slf, exchange, place));
            }
            if pass == 0 {
                Self::expire(slf);
                driver.sockets.make_room(py);
            }
            if driver.shard.is_stopping() && !std::mem::replace(&mut driver.lock().stopped, true) {
                Self::stop(slf);
            }
            for call in driver.calls.take_cut() {
                Call::changed(call.bind(py));
            }
            Self::flush(slf);
            if !driver.shard.has_answers() {
                return seen.next;
            }
        }
        Some(Duration::ZERO)
    }
}

#[pymethods]
impl LoopDriver {
    /// The descriptor that the loop is to watch.
    fn fileno(&self) -> PyResult<i32> {
        self.shard.descriptor().ok_or_else(|| PyRuntimeError::new_err("the shard is looked after by somebody else"))
    }

    /// Looks after the shard.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, driver) = (slf.py(), slf.get());
        driver.leave_if_forked(py, None)?;
        if std::mem::replace(&mut driver.lock().turning, true) {
            return Ok(());
        }
        let next = Self::look(slf);
        let (deadline, over) = {
            let mut state = driver.lock();
            state.turning = false;
            let over = driver.shard.is_over() && !std::mem::replace(&mut state.told, true);
            (state.deadlines.peek().map(|Reverse((at, _, _))| *at), over)
        };
        if over {
            driver.hooks.over.call0(py)?;
        }
        if driver.shard.is_over() {
            // It refers to us, as we to it.
            let timer = driver.lock().timer.take();
            return timer.map_or(Ok(()), |(_, handle)| handle.call_method0(py, intern!(py, "cancel")).map(drop));
        }
        match next {
            Some(Duration::ZERO) => Self::look_soon(slf),
            Some(delay) => Self::wake_at(slf, Instant::now() + delay),
            None => {}
        }
        if let Some(at) = deadline {
            Self::wake_at(slf, at);
        }
        Ok(())
    }

    /// The same, at the end of the loop's turn.
    fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().lock().soon = false;
        Self::turn(slf)
    }

    /// The same, at a time that was asked for.
    fn alarm(slf: &Bound<'_, Self>) -> PyResult<()> {
        let timer = slf.get().lock().timer.take();
        drop(timer);
        Self::turn(slf)
    }

    /// The tasks of applications that have not come to their end.
    #[getter]
    fn tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let tasks: Vec<_> = self.lock().tasks.values().map(|task| task.clone_ref(py)).collect();
        PyList::new(py, tasks)
    }

    /// From now on applications that are cancelled are no news.
    fn dismiss(&self) {
        self.lock().dismissed = true;
    }
}
