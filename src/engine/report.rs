//! What the operator is told: the seam to a log, and the rate limit of reports that would repeat.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::sync::Mutex;
use crate::http::reject::Reject;

/// How serious a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Helps to find the cause of a problem.
    Debug,
    /// An event of normal operation.
    Info,
    /// Something that may need a change of the configuration.
    Warning,
    /// Something was lost.
    Error,
}

/// Takes reports. Called from any thread.
pub trait Reporter: Send + Sync {
    /// Writes one line. Control characters in it are escaped here.
    fn report(&self, severity: Severity, message: &str);

    /// Whether reports of severity `Debug` are written. Asked once for each run.
    fn wants_debug(&self) -> bool {
        false
    }

    /// Reports that no thread returns from the application, with what each of them is running, if that is known here.
    fn report_stall(&self, message: String) {
        self.report(Severity::Warning, &message);
    }
}

/// A problem that may persist and is reported once per interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No client can be accepted.
    Accept,
    /// The temporary files are at their limit.
    Spool,
    /// A response was cut because of that limit.
    Cut,
    /// The system refuses a temporary file.
    Disk,
    /// Proxies seem to be configured differently from this server.
    Proxies,
    /// Connections are not handed over between workers.
    Handover,
    /// The request queue is full.
    QueueFull,
    /// Requests wait in the queue for too long.
    QueueTimeout,
    /// WebSockets hold as many connections as they may.
    WebSockets,
    /// Slow connections are closed during a request or response, in favour of new connections.
    Evictions,
    /// The same, in favour of requests that wait for a thread.
    ThreadEvictions,
    /// The same, in favour of other temporary files.
    SpoolEvictions,
}

impl Trouble {
    // In the order of their numbers.
    const ALL: [Self; 12] = [
        Self::Accept,
        Self::Spool,
        Self::Cut,
        Self::Disk,
        Self::Proxies,
        Self::Handover,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::WebSockets,
        Self::Evictions,
        Self::ThreadEvictions,
        Self::SpoolEvictions,
    ];
    const COUNT: usize = Self::ALL.len();

    /// The trouble that a refusal counts for, if the server and not the client is the reason.
    const fn of(reject: Reject) -> Option<Self> {
        match reject {
            Reject::QueueFull => Some(Self::QueueFull),
            Reject::QueueTimeout => Some(Self::QueueTimeout),
            Reject::SpoolFull => Some(Self::Spool),
            Reject::TooManyWebSockets => Some(Self::WebSockets),
            // A refused temporary file is reported with its folder, where the system refused it.
            _ => None,
        }
    }

    // The report of `count` cases, for troubles of which the number matters.
    fn message(self, count: u64) -> Option<String> {
        let reject = match self {
            Self::Spool => Reject::SpoolFull,
            Self::QueueFull => Reject::QueueFull,
            Self::QueueTimeout => Reject::QueueTimeout,
            Self::WebSockets => Reject::TooManyWebSockets,
            Self::Evictions | Self::ThreadEvictions | Self::SpoolEvictions => {
                let connections = if count == 1 { "connection" } else { "connections" };
                let why = match self {
                    Self::ThreadEvictions => "free threads for waiting requests; raise threads",
                    Self::SpoolEvictions => {
                        "free temporary files for others; raise max_spool_size, or the limit of open files"
                    }
                    _ => "make room for new ones; raise max_connections, or the limit of open files",
                };
                return Some(format!("{count} slow {connections} closed to {why}"));
            }
            Self::Accept | Self::Cut | Self::Disk | Self::Proxies | Self::Handover => return None,
        };
        let requests = if count == 1 { "request" } else { "requests" };
        Some(format!("{count} {requests} refused with 503: {}", reject.detail()))
    }
}

/// The shortest time between two reports of one trouble.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

// How often a trouble occurred since its last report, and when that was.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: u64,
    reported: Option<Instant>,
}

/// The reports of one run. Shared by all of its shards.
pub struct Reports {
    reporter: Arc<dyn Reporter>,
    wants_debug: bool,
    tallies: Mutex<[Tally; Trouble::COUNT]>,
}

impl Reports {
    /// Reports that go to `reporter`.
    pub fn new(reporter: Arc<dyn Reporter>) -> Self {
        Self { wants_debug: reporter.wants_debug(), reporter, tallies: Mutex::default() }
    }

    /// Reports one line.
    pub fn report(&self, severity: Severity, message: &str) {
        self.reporter.report(severity, message);
    }

    /// Whether reports of severity `Debug` are written.
    pub fn wants_debug(&self) -> bool {
        self.wants_debug
    }

    /// Reports a trouble, unless it was reported within the last minute.
    pub fn report_rarely(&self, trouble: Trouble, severity: Severity, message: &str, now: Instant) {
        if self.add(trouble, now).is_some() {
            self.report(severity, message);
        }
    }

    /// Counts one more case of a trouble, and reports the number of cases at most once a minute.
    pub fn count(&self, trouble: Trouble, now: Instant) {
        if let Some(count) = self.add(trouble, now) {
            self.report_count(trouble, count);
        }
    }

    /// Counts a refusal, if the server and not the client is the reason.
    pub fn count_refusal(&self, reject: Reject) {
        if let Some(trouble) = Trouble::of(reject) {
            self.count(trouble, Instant::now());
        }
    }

    /// Reports what was counted since the last report of each trouble.
    pub fn report_rest(&self) {
        let counts: Vec<_> = {
            let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.iter_mut().map(|tally| std::mem::take(&mut tally.count)).collect()
        };
        for (trouble, count) in Trouble::ALL.into_iter().zip(counts) {
            if count > 0 {
                self.report_count(trouble, count);
            }
        }
    }

    fn report_count(&self, trouble: Trouble, count: u64) {
        if let Some(message) = trouble.message(count) {
            self.report(Severity::Warning, &message);
        }
    }

    // The number of cases since the last report, if the next one is due.
    fn add(&self, trouble: Trouble, now: Instant) -> Option<u64> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tallies.get_mut(trouble as usize)?;
        tally.count += 1;
        let is_due = tally.reported.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_INTERVAL);
        is_due.then(|| {
            tally.reported = Some(now);
            std::mem::take(&mut tally.count)
        })
    }

    /// Reports that no thread returns from the application.
    pub fn report_stall(&self, message: String) {
        self.reporter.report_stall(message);
    }

    /// Does `work`. A panic in it is reported as a defect that cost `loss`. What `work` changes must be valid after a panic, or
    /// be dropped with it.
    pub fn catch_panic<T>(&self, loss: &str, work: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(work)).ok();
        if done.is_none() {
            self.report(Severity::Error, &format!("a defect of the server itself cost {loss} (panic)"));
        }
        done
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;
    use crate::engine::testkit::doubles::Notebook;

    #[test]
    fn troubles_are_reported_once_a_minute_with_the_count_since_the_last_report() {
        let (notebook, start) = (Arc::<Notebook>::default(), Instant::now());
        let reports = Reports::new(Arc::clone(&notebook) as Arc<dyn Reporter>);
        let take = || std::mem::take(&mut *notebook.0.lock().unwrap());
        let queue = |count| format!("{count} refused with 503: the request queue is full");
        let spool =
            |count| format!("{count} refused with 503: the request bodies in temporary files are at their bound");
        for (seconds, told) in [
            (0, vec![spool("1 request"), queue("1 request")]),
            (1, vec![]),
            (59, vec![]),
            (60, vec![queue("3 requests")]),
            (61, vec![]),
            (119, vec![]),
        ] {
            reports.count(Trouble::Spool, start);
            reports.count(Trouble::QueueFull, start + Duration::from_secs(seconds));
            assert_eq!(take(), told, "after {seconds} s");
        }
        reports.report_rest();
        assert_eq!(take(), [spool("5 requests"), queue("2 requests")]);
        reports.report_rest();
        assert!(take().is_empty());
    }

    #[test]
    fn trouble_without_a_count_keeps_its_own_text() {
        let (notebook, start) = (Arc::<Notebook>::default(), Instant::now());
        let reports = Reports::new(Arc::clone(&notebook) as Arc<dyn Reporter>);
        for seconds in [0, 1, 59, 60, 61] {
            let text = format!("after {seconds} s");
            reports.report_rarely(Trouble::Disk, Severity::Error, &text, start + Duration::from_secs(seconds));
        }
        reports.report_rest();
        assert_eq!(*notebook.0.lock().unwrap(), ["after 0 s", "after 60 s"]);
    }

    #[test]
    fn every_trouble_has_its_own_tally() {
        for (number, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble as usize, number);
        }
    }
}
