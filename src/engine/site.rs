//! What all connections of one shard share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::crew::Crew;
use super::gateway::{Reporter, Severity};
use super::in_flight::InFlight;
use super::monitor::Alarm;
use super::observe::{Observer, Record};
use super::options::Options;
use super::spool::Budget;
use super::sync::AtomicBool;
use super::wire::Streaming;

/// The surroundings of a connection.
pub struct Site {
    /// The shard's number.
    pub shard: usize,
    /// The operator's decisions.
    pub options: Arc<Options>,
    /// The workers of all shards.
    pub crew: Arc<Crew>,
    /// What temporary files may take.
    pub spool: Arc<Budget>,
    /// Responses that are being streamed.
    pub streaming: Streaming,
    /// Where problems are told.
    pub reporter: Arc<dyn Reporter>,
    /// The requests that are inside the application.
    pub in_flight: Arc<dyn InFlight>,
    observers: Arc<[Box<dyn Observer>]>,
    stopping: AtomicBool,
    alarm: Alarm,
}

impl Site {
    /// The surroundings of a new shard.
    pub fn new(
        shard: usize,
        options: Arc<Options>,
        crew: Arc<Crew>,
        spool: Arc<Budget>,
        reporter: Arc<dyn Reporter>,
        in_flight: Arc<dyn InFlight>,
        observers: Arc<[Box<dyn Observer>]>,
    ) -> Self {
        Self {
            shard,
            options,
            crew,
            spool,
            streaming: Streaming::default(),
            reporter,
            in_flight,
            observers,
            stopping: AtomicBool::new(false),
            alarm: Alarm::default(),
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

    /// Whether anybody wants records.
    pub fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Tells the observers. A panic of one costs it this record, and no more.
    pub fn finished(&self, record: &Record) {
        for observer in self.observers.iter() {
            self.guard("one record of an observer", || observer.finished(record));
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
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Sees to it that the monitor is awake: something may need it within a moment.
    pub fn watch(&self) {
        self.alarm.ring();
    }
}
