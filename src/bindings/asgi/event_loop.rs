//! The event loop of a run as its calls see it: futures and timers, the connections' shard, and what is due at the end of a
//! turn. The loop driver stands above the calls and does that work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

use super::session::{Io, TURN_BYTES};
use crate::bindings::ffi::Context;
use crate::bindings::forks::Process;
use crate::bindings::reporter::{ERROR, log};
use crate::engine::clock::Clock;
use crate::engine::exchange::Exchange;
use crate::engine::shard::external_loop::ExternalLoop;
use crate::websocket::deflate::CompressorPool;

/// Most bytes of a request body in one message.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A timer that is this much too late is not set anew.
const TIMER_PRECISION: Duration = Duration::from_millis(1);

/// Names a call of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId {
    /// The number of its connection.
    pub token: usize,
    /// Its own number, which no other call of the run has.
    pub serial: u64,
}

// Methods of the loop.
struct LoopMethods {
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    call_later: Py<PyAny>,
}

// Methods of the driver that the loop calls.
struct DriverMethods {
    settle: Py<PyAny>,
    alarm: Py<PyAny>,
}

#[derive(Default)]
struct LoopState {
    // Absent before the driver is there, and once the run is over: the driver and we refer to each other.
    driver: Option<DriverMethods>,
    // asyncio holds its tasks only weakly.
    tasks: HashMap<u64, Py<PyAny>>,
    last_serial: u64,
    deadlines: BinaryHeap<Reverse<(Instant, CallId)>>,
    // When the loop will call `alarm`, and the handle to cancel that.
    timer: Option<(Instant, Py<PyAny>)>,
    // The loop will call `settle` in its next turn.
    settles: bool,
    // The loop is inside `turn`, which does everything that is due itself.
    turning: bool,
    dirty: Vec<CallId>,
    concluded: Vec<CallId>,
    ended: Vec<CallId>,
    cancels: bool,
}

struct Scratch {
    clock: Clock,
    buffer: Box<[u8]>,
    compressors: CompressorPool,
}

/// What is due in a turn, besides what the shard reports.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    /// Calls that have content to send.
    Flush,
    /// Calls whose exchanges were given back.
    Concluded,
    /// Calls of which the application has returned.
    Ended,
}

/// The event loop. Used by the thread that runs it; the locks are there for free-threaded builds.
pub struct EventLoop {
    shard: ExternalLoop,
    methods: LoopMethods,
    // What the loop is given runs in a copy of it, never in the context of the request that happens to run.
    context: Context,
    scratch: Mutex<Scratch>,
    state: Mutex<LoopState>,
    process: Process,
}

impl EventLoop {
    /// The asyncio loop `event_loop`, which drives `shard`. Callbacks and tasks run in copies of `context`.
    pub fn new(shard: ExternalLoop, event_loop: &Bound<'_, PyAny>, context: Context) -> PyResult<Self> {
        let method = |name| event_loop.getattr(name).map(Bound::unbind);
        let methods = LoopMethods {
            create_future: method("create_future")?,
            call_soon: method("call_soon")?,
            call_later: method("call_later")?,
        };
        let scratch = Scratch {
            clock: Clock::new(Instant::now()),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            compressors: CompressorPool::default(),
        };
        Ok(Self {
            shard,
            methods,
            context,
            scratch: Mutex::new(scratch),
            state: Mutex::default(),
            process: Process::this(),
        })
    }

    // Held only for a moment, never while Python code of the application's may run.
    fn lock(&self) -> MutexGuard<'_, LoopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects the driver, whose `settle` the loop is to call at the end of a turn, and whose `alarm` at a deadline.
    pub fn connect(&self, settle: Py<PyAny>, alarm: Py<PyAny>) {
        self.lock().driver = Some(DriverMethods { settle, alarm });
    }

    /// Cancels the timer and drops the references to the driver. From now on nothing more is scheduled.
    pub fn disconnect(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        let (driver, timer) = (state.driver.take(), state.timer.take());
        // Python's objects are released outside the lock.
        drop(state);
        drop(driver);
        timer.map_or(Ok(()), |(_, handle)| handle.call_method0(py, intern!(py, "cancel")).map(drop))
    }

    /// The connections.
    pub fn shard(&self) -> &ExternalLoop {
        &self.shard
    }

    /// Calls `with` with the clock, the read buffer and a budget for one turn.
    pub fn with_io<T>(&self, with: impl FnOnce(&mut Io<'_>) -> T) -> T {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { clock, buffer, compressors } = &mut *scratch;
        let write_timeout = self.shard.options().write_timeout;
        let now = Instant::now();
        with(&mut Io { now, clock, scratch: buffer, compressors, write_timeout, budget: TURN_BYTES })
    }

    /// Exits the process if it is a forked child that returned from the application.
    pub fn exit_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.process.exit_if_forked(py, error)
    }

    /// A new future of the loop.
    pub fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.methods.create_future.bind(py).call0()
    }

    /// A number for a new call.
    pub fn next_serial(&self) -> u64 {
        let mut state = self.lock();
        state.last_serial += 1;
        state.last_serial
    }

    /// Makes a task of a call's coroutine, in a copy of the context.
    pub fn create_task<'py>(
        &self,
        create_task: &Bound<'py, PyAny>,
        coroutine: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _entered = self.context.enter(coroutine.py())?;
        create_task.call1((coroutine,))
    }

    /// Keeps the task of a call until [`EventLoop::end`].
    pub fn keep_task(&self, call: CallId, task: Py<PyAny>) {
        self.lock().tasks.insert(call.serial, task);
    }

    /// The tasks that are kept.
    pub fn tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.lock().tasks.values().map(|task| task.clone_ref(py)).collect()
    }

    /// The task of a call, if it is kept.
    pub fn task(&self, py: Python<'_>, call: CallId) -> Option<Py<PyAny>> {
        self.lock().tasks.get(&call.serial).map(|task| task.clone_ref(py))
    }

    /// Cancels the task of a call, if it is kept.
    pub fn cancel_task(&self, py: Python<'_>, call: CallId) {
        let cancelled =
            self.task(py, call).map_or(Ok(()), |task| task.call_method0(py, intern!(py, "cancel")).map(drop));
        log_loop_error(py, cancelled);
    }

    /// The application of a call has returned or raised: drops its task. `is_websocket` calls are reported as [`Due::Ended`].
    pub fn end(&self, py: Python<'_>, call: CallId, is_websocket: bool) {
        let mut state = self.lock();
        let task = state.tasks.remove(&call.serial);
        if is_websocket {
            state.ended.push(call);
        }
        drop(state);
        // Outside the lock: it may be the last reference.
        drop(task);
        if is_websocket {
            self.settle_soon(py);
        }
    }

    /// Applications are being cancelled, which is no error of theirs.
    pub fn cancel(&self) {
        self.lock().cancels = true;
    }

    /// Whether applications may be cancelled without an error of theirs.
    pub fn cancels(&self) -> bool {
        self.shard.is_stopping() || self.lock().cancels
    }

    /// Schedules a call to be looked at when an instant has come.
    pub fn schedule(&self, py: Python<'_>, at: Instant, call: CallId) {
        let mut state = self.lock();
        state.deadlines.push(Reverse((at, call)));
        let turning = state.turning;
        drop(state);
        if !turning {
            self.wake_at(py, at);
        }
    }

    /// Sends what a call has gathered at the end of the loop's turn.
    pub fn flush_later(&self, py: Python<'_>, call: CallId) {
        self.lock().dirty.push(call);
        self.settle_soon(py);
    }

    /// Gives back the exchange of a call; the connection continues at the end of the loop's turn.
    pub fn conclude(&self, py: Python<'_>, call: CallId, exchange: Box<Exchange>) {
        self.shard.conclude(exchange);
        self.lock().concluded.push(call);
        self.settle_soon(py);
    }

    /// Takes the calls for which something is due.
    pub fn take(&self, due: Due) -> Vec<CallId> {
        let mut state = self.lock();
        std::mem::take(match due {
            Due::Flush => &mut state.dirty,
            Due::Concluded => &mut state.concluded,
            Due::Ended => &mut state.ended,
        })
    }

    /// Takes the calls whose deadlines have come.
    pub fn take_expired(&self, now: Instant) -> Vec<CallId> {
        let mut state = self.lock();
        let mut expired = Vec::new();
        while state.deadlines.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            expired.extend(state.deadlines.pop().map(|Reverse((_, call))| call));
        }
        expired
    }

    /// A turn begins: what falls due is done by it. False if it is inside of one.
    pub fn begin_turn(&self) -> bool {
        !std::mem::replace(&mut self.lock().turning, true)
    }

    /// The turn ends. Returns the next deadline.
    pub fn end_turn(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.turning = false;
        state.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// The loop has called `settle`.
    pub fn settled(&self) {
        self.lock().settles = false;
    }

    /// The timer has fired.
    pub fn take_timer(&self) {
        let timer = self.lock().timer.take();
        drop(timer);
    }

    /// Has the loop call `settle` in its next turn.
    pub fn settle_soon(&self, py: Python<'_>) {
        let mut state = self.lock();
        if state.turning || state.settles {
            return;
        }
        let Some(driver) = &state.driver else { return };
        let settle = driver.settle.clone_ref(py);
        state.settles = true;
        drop(state);
        let called = self.context.enter(py).and_then(|_entered| self.methods.call_soon.call1(py, (settle,)));
        log_loop_error(py, called.map(drop));
    }

    /// Has the loop call `alarm` at an instant, or earlier.
    pub fn wake_at(&self, py: Python<'_>, at: Instant) {
        let (alarm, later) = {
            let mut state = self.lock();
            // A timer that fires too early sets another one: a deadline that moves later, as most do, costs nothing.
            if state.timer.as_ref().is_some_and(|(earlier, _)| *earlier <= at + TIMER_PRECISION) {
                return;
            }
            let Some(driver) = &state.driver else { return };
            (driver.alarm.clone_ref(py), state.timer.take())
        };
        let delay = at.saturating_duration_since(Instant::now()).as_secs_f64();
        let set = (|| {
            if let Some((_, handle)) = later {
                handle.call_method0(py, intern!(py, "cancel"))?;
            }
            let _entered = self.context.enter(py)?;
            self.methods.call_later.call1(py, (delay, alarm))
        })();
        match set {
            Ok(handle) => self.lock().timer = Some((at, handle)),
            Err(error) => log_loop_error(py, Err(error)),
        }
    }
}

/// Logs an error of the loop, which no code of ours expects.
pub fn log_loop_error(py: Python<'_>, outcome: PyResult<()>) {
    if let Err(error) = outcome {
        log(py, ERROR, "the event loop refused a task, a callback or a timer of the server", Some(&error));
    }
}
