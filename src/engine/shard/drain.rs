//! How a shard drains when the server stops: which requests are due to be cut, and the line that is logged of them.

use std::time::{Duration, Instant};

use crate::engine::clock::after;
use crate::http::head::RequestHead;

/// Requests that are named in one line of the log.
const NAMED: usize = 5;

/// What is due while a shard drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum DrainStep {
    /// Requests go on.
    Nothing,
    /// Responses that were begun and are not complete are cut, once.
    CutUnfinished,
    /// The time is over: everything is cut.
    Abort,
}

/// The deadlines of a shard that drains.
pub(in crate::engine) struct Drain {
    until: Instant,
    cut_after: Option<Instant>,
    is_retirement: bool,
}

impl Drain {
    /// Begins to drain at `now`, within `time`.
    pub fn new(now: Instant, time: Duration) -> Self {
        Self { until: after(now, time), cut_after: Some(after(now, time / 2)), is_retirement: false }
    }

    /// Begins at `now` to leave clients to other processes, which takes nothing from the responses: they have all of `time`.
    pub fn retire(now: Instant, time: Duration) -> Self {
        Self { cut_after: None, is_retirement: true, ..Self::new(now, time) }
    }

    /// Whether other processes serve meanwhile.
    pub fn is_retirement(&self) -> bool {
        self.is_retirement
    }

    /// The time that is left at `now`.
    pub fn left(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Instant) -> DrainStep {
        if self.until <= now {
            return DrainStep::Abort;
        }
        match self.cut_after.take_if(|at| *at <= now) {
            Some(_) => DrainStep::CutUnfinished,
            None => DrainStep::Nothing,
        }
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Instant {
        self.cut_after.unwrap_or(self.until)
    }
}

/// `3 connections`, `1 connection`.
pub(in crate::engine) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Requests that were cut, and the first of them by method and path.
#[derive(Default)]
pub(in crate::engine) struct Cuts {
    count: usize,
    names: Vec<String>,
}

impl Cuts {
    /// Adds a request.
    pub fn add(&mut self, request: &RequestHead) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(request.method_and_path());
        }
    }

    /// The log line of these cuts; `None` if there are none.
    pub fn message(&self, verb: &str, noun: &str, why: &str) -> Option<String> {
        (self.count > 0).then(|| format!("stopping: {verb} {}{why}{}", counted(self.count, noun), self.names()))
    }

    /// `: GET /a, GET /b`, or nothing.
    pub fn names(&self) -> String {
        let more = if self.count > self.names.len() { ", ..." } else { "" };
        if self.names.is_empty() { String::new() } else { format!(": {}{more}", self.names.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_responses_are_cut_once_at_half_time_and_all_at_its_end() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut drain = Drain::new(start, 10 * second);
        assert_eq!((drain.due(start), drain.next_deadline()), (DrainStep::Nothing, start + 5 * second));
        assert_eq!(drain.due(start + 5 * second), DrainStep::CutUnfinished);
        assert_eq!((drain.due(start + 6 * second), drain.next_deadline()), (DrainStep::Nothing, start + 10 * second));
        assert_eq!([drain.due(start + 10 * second), drain.due(start + 11 * second)], [DrainStep::Abort; 2]);
    }

    #[test]
    fn responses_of_a_retirement_have_all_of_its_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut drain = Drain::retire(start, 10 * second);
        assert_eq!((drain.due(start + 9 * second), drain.next_deadline()), (DrainStep::Nothing, start + 10 * second));
        assert_eq!((drain.left(start + 4 * second), drain.left(start + 11 * second)), (6 * second, Duration::ZERO));
        assert_eq!(drain.due(start + 10 * second), DrainStep::Abort);
    }

    #[test]
    fn shard_that_looks_late_skips_to_the_end() {
        let start = Instant::now();
        assert_eq!(Drain::new(start, Duration::ZERO).due(start), DrainStep::Abort);
        assert_eq!(Drain::new(start, Duration::from_secs(2)).due(start + Duration::from_secs(9)), DrainStep::Abort);
        assert_eq!(Drain::new(start, Duration::MAX).due(start + Duration::from_secs(9)), DrainStep::Nothing);
    }

    #[test]
    fn long_list_of_cut_requests_is_shortened() {
        let mut cuts = Cuts::default();
        assert_eq!((cuts.names(), cuts.message("cut", "response", "")), (String::new(), None));
        for number in 0..=NAMED {
            cuts.add(&RequestHead::sample(&format!("GET /{number}?secret HTTP/1.1"), &[]));
        }
        let names = ": GET /0, GET /1, GET /2, GET /3, GET /4, ...";
        assert_eq!(cuts.names(), names);
        assert_eq!(cuts.message("cut", "response", ", late"), Some(format!("stopping: cut 6 responses, late{names}")));
    }
}
