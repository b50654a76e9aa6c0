//! What all connections of one shard share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::engine::observe::{Observer, Record};
use crate::engine::options::Options;
use crate::engine::report::{Reports, Severity, Trouble};
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::scheduling::monitor_signal::MonitorSignal;
use crate::engine::scheduling::stall::StallNews;
use crate::engine::sync::AtomicBool;
use crate::engine::transport::Streaming;
use crate::engine::transport::spool::Budget;
use crate::http::origin::Client;
use crate::net::address::Peer;

/// The surroundings of a connection.
pub struct ShardContext {
    /// The shard's number.
    pub shard: usize,
    /// The operator's decisions.
    pub options: Arc<Options>,
    /// How many requests run and wait, in all shards.
    pub capacity: Arc<Capacity>,
    /// The space that temporary files may take.
    pub spool: Arc<Budget>,
    /// Responses that are being streamed.
    pub streaming: Streaming,
    /// What the operator is told.
    pub reports: Arc<Reports>,
    /// Wakes the shard's monitor.
    pub monitor_signal: MonitorSignal,
    observers: Arc<[Box<dyn Observer>]>,
    stopping: AtomicBool,
    retiring: AtomicBool,
}

impl ShardContext {
    /// The surroundings of a new shard.
    pub fn new(
        shard: usize,
        options: Arc<Options>,
        capacity: Arc<Capacity>,
        spool: Arc<Budget>,
        reports: Arc<Reports>,
        observers: Arc<[Box<dyn Observer>]>,
    ) -> Self {
        Self {
            shard,
            options,
            capacity,
            spool,
            streaming: Streaming::default(),
            reports,
            monitor_signal: MonitorSignal::default(),
            observers,
            stopping: AtomicBool::new(false),
            retiring: AtomicBool::new(false),
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

    /// From now on clients are left to other processes: a connection that cannot be handed over closes behind its next response.
    pub fn retire(&self) {
        self.retiring.store(true, Ordering::SeqCst);
    }

    /// Whether clients are left to other processes.
    pub fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::Relaxed)
    }

    /// Whether a connection from this peer is accepted. With the PROXY protocol only trusted proxies are: the header of another
    /// peer would be worth nothing, and without a header the client is unknown.
    pub(in crate::engine) fn admits(&self, peer: Peer, now: Instant) -> bool {
        let client = Client::from(peer);
        let admitted = self.options.proxy_protocol.is_none() || self.options.trusted.covers(client);
        if !admitted {
            let message =
                format!("a connection from {client} was closed: with proxy_protocol, trusted_proxies must cover it");
            self.warn_of_proxies(&message, now);
        }
        admitted
    }

    /// Reports what may be a proxy that is configured differently from this server, at most once a minute.
    pub(in crate::engine) fn warn_of_proxies(&self, message: &str, now: Instant) {
        self.reports.report_rarely(Trouble::Proxies, Severity::Warning, message, now);
    }

    /// Reports that a connection was closed without a response to what it had sent.
    pub(in crate::engine) fn report_closed(&self, client: Client, why: &str) {
        if self.reports.wants_debug() {
            self.reports.report(Severity::Debug, &format!("connection from {client} closed: {why}"));
        }
    }

    /// Reports why the system refused a temporary file, and how many clients lost theirs in favour of others.
    pub(in crate::engine) fn report_spool(&self, now: Instant) {
        if let Some(failure) = self.spool.take_failure() {
            self.reports.report_rarely(Trouble::Disk, Severity::Error, &failure, now);
        }
        for _ in 0..self.spool.take_unreported() {
            self.reports.count(Trouble::SpoolEvictions, now);
        }
    }

    /// Reports that no thread returns from the application, and that one has again.
    pub(in crate::engine) fn report_stall(&self, now: Instant) {
        match self.capacity.check_stall(now) {
            None => {}
            Some(StallNews::Over) => {
                self.reports.report(Severity::Info, "threads come back from the application again");
            }
            Some(StallNews::Begun { age, waiting }) => {
                let threads = match self.capacity.threads() {
                    1 => "the only thread is".to_owned(),
                    threads => format!("all {threads} threads are"),
                };
                self.reports.report_stall(format!(
                    "no request has come to its end for {} seconds: {waiting} wait, and {threads} inside the application",
                    age.as_secs()
                ));
            }
        }
    }

    /// Whether records are of use.
    pub fn is_observed(&self) -> bool {
        self.reports.wants_debug() || !self.observers.is_empty()
    }

    /// Passes a record to the observers. A panic of one observer costs it this record only.
    pub fn finished(&self, record: &Record) {
        if let (true, Some(cause)) = (self.reports.wants_debug(), record.cause) {
            self.reports.report(Severity::Debug, &record.summary(cause));
        }
        for observer in self.observers.iter() {
            self.reports.catch_panic("one record of an observer", || observer.finished(record));
        }
    }
}
