//! Reports calls of the application that take too long, with the stacks of all threads, and asks the supervisor for a successor.
//! No step waits for the interpreter for longer than a moment: the application may hold it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

use super::ffi::raise_signal;
use super::reporter::{ERROR, INFO, WARNING, log, log_stacks};
use crate::engine::exchange::Progress;
use crate::engine::exchange::overdue::{CallStage, OverdueCall, OverdueOutcome, RunningCall};
use crate::engine::options::{RequestTimeout, TimeoutAction};
use crate::engine::thread::spawn;
use crate::net::descriptor::{duplicate, send_now};

/// How long the end of a call waits until its stack is known.
const CAPTURE_WAIT: Duration = Duration::from_millis(250);
/// How long a report waits for the interpreter after that. Then a call of C code holds its lock.
const ATTACH_WAIT: Duration = Duration::from_secs(1);

/// The way to a supervisor: a message that asks for a successor of this process.
pub struct SuccessorRequest {
    channel: OwnedFd,
    message: Vec<u8>,
}

impl SuccessorRequest {
    /// `message` is to be sent by a duplicate of descriptor `channel`.
    pub fn new(channel: i32, message: Vec<u8>) -> io::Result<Self> {
        Ok(Self { channel: duplicate(channel)?, message })
    }

    fn send(&self) -> bool {
        send_now(&self.channel, &self.message).is_ok()
    }
}

/// What reports do to the calls that they are about.
pub trait StuckCalls: Send + Sync {
    /// Raises an exception in a call, unless it has come further meanwhile.
    fn interrupt(&self, py: Python<'_>, call: &RunningCall) -> PyResult<()>;

    /// The task of a call, if it is one and waits.
    fn waiting_task(&self, py: Python<'_>, call: &RunningCall) -> Option<Py<PyAny>>;
}

/// A call that takes too long, as it is reported.
pub struct StuckCall {
    /// What the watchdog saw and did.
    pub overdue: OverdueCall,
    /// Method and path.
    pub request: String,
    /// When the request was complete.
    pub arrived: Instant,
    /// The name of the thread that it runs in.
    pub thread: String,
    /// The thread's `threading.get_ident()`.
    pub ident: u64,
}

/// A thread that runs the application: its name, its `threading.get_ident()`, the request, and its age in seconds.
pub type RunningThread = (String, u64, String, f64);

/// What the reports of a run need.
pub struct StuckReporter {
    timeout: RequestTimeout,
    // Each call is a task of an event loop.
    has_tasks: bool,
    // The signal at which faulthandler writes the stacks of all threads to standard error.
    dump_signal: Option<i32>,
    successor: Option<SuccessorRequest>,
    // The number of this process.
    process: u32,
    // A report waits for the interpreter.
    is_waiting: AtomicBool,
}

impl StuckReporter {
    /// The reporter of one run.
    pub fn new(
        timeout: RequestTimeout,
        has_tasks: bool,
        dump_signal: Option<i32>,
        successor: Option<SuccessorRequest>,
        process: u32,
    ) -> Self {
        Self { timeout, has_tasks, dump_signal, successor, process, is_waiting: AtomicBool::new(false) }
    }

    /// Whether calls that take too long are to be interrupted.
    pub fn interrupts(&self) -> bool {
        self.timeout.action == TimeoutAction::Interrupt
    }

    /// Reports those of `all` that take too long, ends them by `end` as soon as their stacks are known, and interrupts them if that
    /// was asked for. `running` are all threads that run the application. Returns whether a successor was asked for while a call
    /// holds the interpreter.
    pub fn report(
        self: &Arc<Self>,
        all: Arc<dyn StuckCalls>,
        calls: Vec<StuckCall>,
        running: Vec<RunningThread>,
        end: &dyn Fn(&OverdueCall) -> OverdueOutcome,
    ) -> bool {
        let calls = Arc::new(calls);
        let (mark_captured, is_captured) = channel();
        let (tell_lines, told_lines) = channel::<Vec<String>>();
        // While an earlier report waits for the interpreter, this one would as well.
        let mut is_held = self.is_waiting.swap(true, Ordering::SeqCst);
        if !is_held {
            let (reporter, calls) = (Arc::clone(self), Arc::clone(&calls));
            let reporting = spawn("wsgi-report".to_owned(), move || {
                // A finalized interpreter has no logging.
                let _ = Python::try_attach(|py| {
                    reporter.is_waiting.store(false, Ordering::SeqCst);
                    let stacks = stacks_of(py, &*all, &calls, running);
                    mark_captured.send(()).ok();
                    if let Ok(lines) = py.detach(move || told_lines.recv()) {
                        reporter.report_attached(py, &*all, &calls, &lines, &stacks);
                    }
                });
                reporter.is_waiting.store(false, Ordering::SeqCst);
            });
            // The system may allow no more threads.
            is_held = reporting.is_err();
        }
        let has_captured = !is_held && is_captured.recv_timeout(CAPTURE_WAIT).is_ok();
        let outcomes: Vec<_> = calls.iter().map(|stuck| end(&stuck.overdue)).collect();
        let has_asked = calls.iter().any(|stuck| self.wants_successor(&stuck.overdue))
            && self.successor.as_ref().is_some_and(SuccessorRequest::send);
        let mut lines: Vec<_> =
            calls.iter().zip(&outcomes).map(|(stuck, outcome)| self.describe(stuck, *outcome, has_asked)).collect();
        is_held = is_held || !(has_captured || is_captured.recv_timeout(ATTACH_WAIT).is_ok());
        if is_held {
            self.report_held(&lines);
            for line in &mut lines {
                line.push_str("; a call of C code held the interpreter lock until now");
            }
        }
        drop(tell_lines.send(lines));
        is_held && has_asked
    }

    // A call that goes on after a first exception is not ended by another one.
    fn wants_successor(&self, overdue: &OverdueCall) -> bool {
        match self.timeout.action {
            TimeoutAction::Log => false,
            TimeoutAction::Interrupt => overdue.reports > 0,
            TimeoutAction::Recycle => true,
        }
    }

    // One line: the request, its age, and what was done.
    fn describe(&self, stuck: &StuckCall, outcome: OverdueOutcome, has_asked: bool) -> String {
        let StuckCall { overdue, request, arrived, thread, .. } = stuck;
        let problem = match overdue.call.stage {
            _ if overdue.call.is_closing => "is in close() of its response",
            CallStage::Responding { progress: Progress::Waiting, .. } => "has no response",
            CallStage::Responding { .. } => "has a response that does not go on",
            CallStage::AwaitsClient | CallStage::Unlimited | CallStage::Detached => "goes on although it was ended",
        };
        let (age, limit) = (arrived.elapsed().as_secs_f64(), self.timeout.after.as_secs_f64());
        let mut line = format!("{request} {problem} after {age:.1} s (request_timeout {limit} s) in {thread}");
        line.push_str(match outcome {
            OverdueOutcome::Ended => return line + "; it has ended meanwhile",
            OverdueOutcome::Kept | OverdueOutcome::Detached => "",
            OverdueOutcome::Answered => "; its client was answered 504",
            OverdueOutcome::Cut => "; its response was cut",
        });
        if self.interrupts() {
            line.push_str(match (overdue.reports, self.has_tasks) {
                (0, false) => "; RequestTimeout is raised in it, which cannot end a call of C code that blocks",
                (0, true) => "; its task is cancelled as soon as the event loop is free",
                (_, false) => "; RequestTimeout is raised again: the first was caught, or a call of C code blocks",
                (_, true) => "; its task has caught its cancellation, or blocks the event loop",
            });
        }
        if self.wants_successor(overdue) && self.successor.is_some() {
            line.push_str(if has_asked { "; this worker is replaced" } else { "; its supervisor has gone" });
        }
        line
    }

    fn report_attached(
        &self,
        py: Python<'_>,
        all: &dyn StuckCalls,
        calls: &[StuckCall],
        lines: &[String],
        stacks: &PyResult<Vec<String>>,
    ) {
        let level = if self.timeout.action == TimeoutAction::Log { WARNING } else { ERROR };
        for (at, (stuck, line)) in calls.iter().zip(lines).enumerate() {
            match stacks {
                Ok(stacks) => log_stacks(py, level, line, stacks.get(at).map_or("", String::as_str)),
                Err(error) => log(py, level, line, Some(error)),
            }
            if self.interrupts() {
                if let Err(error) = all.interrupt(py, &stuck.overdue.call) {
                    log(py, ERROR, "a call of the application could not be interrupted", Some(&error));
                }
            }
        }
    }

    // No thread can run Python code: what is to be known goes to standard error.
    fn report_held(&self, lines: &[String]) {
        let (mut text, process) = (String::new(), self.process);
        let stacks = match self.dump_signal {
            Some(_) => "the stacks of all threads follow",
            None => "their stacks cannot be shown, because the signal for that has another handler",
        };
        let held = format!("a call of C code holds the interpreter lock, so that no Python thread runs; {stacks}");
        for line in lines.iter().chain([&held]) {
            // Writing into a string does not fail.
            let _ = writeln!(text, "[{process}] {}", line.escape_debug());
        }
        // There may be no standard error.
        drop(io::stderr().write_all(text.as_bytes()));
        if let Some(signal) = self.dump_signal {
            raise_signal(signal);
        }
    }
}

// For each call the stack of its thread or task; the first has those of the other threads as well.
fn stacks_of(
    py: Python<'_>,
    all: &dyn StuckCalls,
    calls: &[StuckCall],
    running: Vec<RunningThread>,
) -> PyResult<Vec<String>> {
    let stuck: Vec<_> = calls
        .iter()
        .map(|stuck| {
            let StuckCall { overdue, request, thread, ident, .. } = stuck;
            (thread.as_str(), *ident, request.as_str(), all.waiting_task(py, &overdue.call))
        })
        .collect();
    py.import(intern!(py, "wsgi.stalls"))?.getattr(intern!(py, "stuck_stacks"))?.call1((stuck, running))?.extract()
}

/// Logs that a call which took too long has come to its end.
pub fn log_end(py: Python<'_>, request: &str, arrived: Instant) {
    let age = arrived.elapsed().as_secs_f64();
    log(py, INFO, &format!("{request} has ended after {age:.1} s; it took longer than request_timeout"), None);
}
