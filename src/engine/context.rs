//! What all connections of one shard share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::engine::exchange::in_flight::InFlight;
use crate::engine::gateway::{Reporter, Severity};
use crate::engine::monitor::MonitorSignal;
use crate::engine::observe::{Observer, Record};
use crate::engine::options::Options;
use crate::engine::scheduling::pool::{StallNews, Trouble, WorkerPool};
use crate::engine::sync::AtomicBool;
use crate::engine::transport::Streaming;
use crate::engine::transport::spool::Budget;
use crate::http::origin::Client;
use crate::http::reject::Reject;

/// The surroundings of a connection.
pub struct ShardContext {
    /// The shard's number.
    pub shard: usize,
    /// The operator's decisions.
    pub options: Arc<Options>,
    /// The workers of all shards.
    pub pool: Arc<WorkerPool>,
    /// What temporary files may take.
    pub spool: Arc<Budget>,
    /// Responses that are being streamed.
    pub streaming: Streaming,
    /// Where problems are told.
    pub reporter: Arc<dyn Reporter>,
    /// The requests that are inside the application.
    pub in_flight: Arc<dyn InFlight>,
    observers: Arc<[Box<dyn Observer>]>,
    // Whether refusals and cut responses are reported one by one.
    debug: bool,
    stopping: AtomicBool,
    monitor_signal: MonitorSignal,
}

impl ShardContext {
    /// The surroundings of a new shard.
    pub fn new(
        shard: usize,
        options: Arc<Options>,
        pool: Arc<WorkerPool>,
        spool: Arc<Budget>,
        reporter: Arc<dyn Reporter>,
        in_flight: Arc<dyn InFlight>,
        observers: Arc<[Box<dyn Observer>]>,
    ) -> Self {
        Self {
            shard,
            options,
            pool,
            spool,
            streaming: Streaming::default(),
            debug: reporter.wants_debug(),
            reporter,
            in_flight,
            observers,
            stopping: AtomicBool::new(false),
            monitor_signal: MonitorSignal::default(),
        }
    }

    /// From now on every response closes its connection.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the server is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Reports a trouble that may go on, if it was not reported lately.
    pub(in crate::engine) fn report_rarely(&self, trouble: Trouble, severity: Severity, message: &str) {
        if self.pool.may_report(trouble, Instant::now()) {
            self.reporter.report(severity, message);
        }
    }

    /// Reports what the system had against a temporary file, and how many clients lost theirs to others.
    pub(in crate::engine) fn report_spool(&self) {
        if let Some(failure) = self.spool.take_failure() {
            self.report_rarely(Trouble::Disk, Severity::Error, &failure);
        }
        for _ in 0..self.spool.take_unreported() {
            self.count_trouble(Trouble::SpoolEvictions);
        }
    }

    /// Reports that no thread comes back from the application, and that one has.
    pub(in crate::engine) fn report_stall(&self, now: Instant) {
        match self.pool.look_for_stall(now) {
            None => {}
            Some(StallNews::Over) => {
                self.reporter.report(Severity::Info, "threads come back from the application again");
            }
            Some(StallNews::Begun(age, waiting)) => {
                let threads = match self.pool.threads() {
                    1 => "the only thread is".to_owned(),
                    threads => format!("all {threads} threads are"),
                };
                self.reporter.report_stall(format!(
                    "no request has come to its end for {} seconds: {waiting} wait, and {threads} inside the application",
                    age.as_secs()
                ));
            }
        }
    }

    /// Whether anybody wants records.
    pub fn is_observed(&self) -> bool {
        self.debug || !self.observers.is_empty()
    }

    /// Tells the observers. A panic of one costs it this record, and no more.
    pub fn finished(&self, record: &Record) {
        if let (true, Some(cause)) = (self.debug, record.cause) {
            self.reporter.report(Severity::Debug, &record.summary(cause));
        }
        for observer in self.observers.iter() {
            self.guard("one record of an observer", || observer.finished(record));
        }
    }

    /// Reports that a connection was closed without an answer to what had come.
    pub(in crate::engine) fn report_closed(&self, client: Client, why: &str) {
        if self.debug {
            self.reporter.report(Severity::Debug, &format!("connection from {client} closed: {why}"));
        }
    }

    /// Reports a refusal if the server, and not the client, is the reason: now and then where there may be many.
    pub(in crate::engine) fn note_refusal(&self, reject: Reject) {
        match reject {
            Reject::QueueFull => self.count_trouble(Trouble::QueueFull),
            Reject::QueueTimeout => self.count_trouble(Trouble::QueueTimeout),
            Reject::SpoolFull => self.count_trouble(Trouble::Spool),
            Reject::TooManyWebSockets => self.count_trouble(Trouble::WebSockets),
            // Why the system refused a temporary file is reported where it did, with the folder.
            _ => {}
        }
    }

    /// Counts one more case of a trouble, and reports the count if that is due.
    pub(in crate::engine) fn count_trouble(&self, trouble: Trouble) {
        if let Some(count) = self.pool.count_trouble(trouble, Instant::now()) {
            self.report_trouble(trouble, count);
        }
    }

    /// Reports what was counted and not reported yet.
    pub fn report_rest(&self) {
        for (trouble, count) in self.pool.take_unreported() {
            self.report_trouble(trouble, count);
        }
    }

    fn report_trouble(&self, trouble: Trouble, count: u64) {
        if let Some(message) = trouble.message(count) {
            self.reporter.report(Severity::Warning, &message);
        }
    }

    /// Does `work`; a panic in it is reported as a defect that cost `loss`.
    pub fn guard<T>(&self, loss: &str, work: impl FnOnce() -> T) -> Option<T> {
        // Whoever asks for this leaves nothing behind that a panic could have left half done, or forgets it.
        let done = catch_unwind(AssertUnwindSafe(work)).ok();
        if done.is_none() {
            self.reporter.report(Severity::Error, &format!("a defect of the server itself cost {loss} (panic)"));
        }
        done
    }

    /// What the monitor sleeps on.
    pub fn monitor_signal(&self) -> &MonitorSignal {
        &self.monitor_signal
    }

    /// Sees to it that the monitor is awake: something may need it within a moment.
    pub fn watch(&self) {
        self.monitor_signal.wake();
    }
}
