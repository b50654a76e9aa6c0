//! Notices that requests wait while no thread returns from the application.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::engine::sync::{AtomicBool, Mutex};

/// How long requests may wait without a thread that returns, before that is a stall.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// The shortest time between two reports of stalls.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What is to be reported.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum StallNews {
    /// No thread has returned for `age`, and `waiting` requests are queued.
    Begun { age: Duration, waiting: usize },
    /// A stall that was reported is over.
    Over,
}

/// Since when requests wait without a thread that returns.
#[derive(Default)]
pub(in crate::engine) struct StallWatch {
    // A thread returned since the last check.
    was_released: AtomicBool,
    // `stall.since` is set: readable without the lock.
    is_active: AtomicBool,
    stall: Mutex<Stall>,
}

#[derive(Default)]
struct Stall {
    since: Option<Instant>,
    is_reported: bool,
    last_report: Option<Instant>,
}

impl StallWatch {
    /// A thread returned from the application.
    pub fn note_release(&self) {
        self.was_released.store(true, Ordering::Relaxed);
    }

    /// Whether another check is due soon: requests waited without a thread for them at the last one.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Checks for a stall. `waiting` is the number of requests that wait for a thread. A refusal of what waits for too long ends
    /// no stall; only a thread that returns does.
    pub fn check(&self, waiting: usize, now: Instant) -> Option<StallNews> {
        if waiting == 0 && !self.is_active() {
            return None;
        }
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = None;
        if self.was_released.swap(false, Ordering::Relaxed) {
            stall.since = None;
            news = std::mem::take(&mut stall.is_reported).then_some(StallNews::Over);
        }
        if waiting > 0 {
            let age = now.saturating_duration_since(*stall.since.get_or_insert(now));
            let is_due = stall.last_report.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_INTERVAL);
            if age >= STALLED_AFTER && is_due {
                stall.is_reported = true;
                stall.last_report = Some(now);
                news = Some(StallNews::Begun { age, waiting });
            }
        }
        self.is_active.store(stall.since.is_some(), Ordering::Relaxed);
        news
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;

    fn begun(seconds: u64, waiting: usize) -> StallNews {
        StallNews::Begun { age: Duration::from_secs(seconds), waiting }
    }

    #[test]
    fn stall_is_reported_once_a_minute_and_its_end_once() {
        let (watch, start) = (StallWatch::default(), Instant::now());
        let check = |seconds, waiting| watch.check(waiting, start + Duration::from_secs(seconds));
        assert_eq!((check(0, 0), watch.is_active()), (None, false), "no request waits");
        assert_eq!((check(1, 2), watch.is_active()), (None, true));
        assert_eq!(check(5, 2), None);
        assert_eq!(check(6, 2), Some(begun(5, 2)));
        assert_eq!(check(65, 2), None);
        assert_eq!(check(66, 2), Some(begun(65, 2)));
        // The requests were refused meanwhile, which frees no thread.
        assert_eq!((check(200, 0), watch.is_active()), (None, true));
        watch.note_release();
        assert_eq!((check(201, 0), watch.is_active()), (Some(StallNews::Over), false));
        assert_eq!(check(202, 0), None);
    }

    #[test]
    fn next_stall_is_reported_a_minute_after_the_last_report() {
        let (watch, start) = (StallWatch::default(), Instant::now());
        let check = |seconds| watch.check(1, start + Duration::from_secs(seconds));
        check(0);
        assert_eq!(check(5), Some(begun(5, 1)));
        watch.note_release();
        assert_eq!(check(10), Some(StallNews::Over));
        assert_eq!([check(20), check(64)], [None, None]);
        assert_eq!(check(65), Some(begun(55, 1)));
    }

    #[test]
    fn threads_that_return_late_are_no_stall() {
        let (watch, start) = (StallWatch::default(), Instant::now());
        for second in 0..100 {
            assert_eq!(watch.check(1, start + Duration::from_secs(second)), None);
            if second % 4 == 0 {
                watch.note_release();
            }
        }
    }
}
