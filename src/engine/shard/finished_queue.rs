//! The way back from the workers to their shard: exchanges in the order in which they were finished.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::engine::exchange::finished::Finished;
use crate::engine::sync::{AtomicUsize, Mutex, MutexGuard};

/// Finished exchanges. The output of those that are not sent is for the next round of the reactor, or for the first worker that
/// finds another thread in the poller.
#[derive(Default)]
pub(in crate::engine) struct FinishedQueue {
    finished: Mutex<VecDeque<Finished>>,
    // Their number, and the number of those that are not sent: read far more often than the queue changes. Written with the lock.
    length: AtomicUsize,
    unsent: AtomicUsize,
}

impl FinishedQueue {
    pub fn is_empty(&self) -> bool {
        self.length.load(Ordering::SeqCst) == 0
    }

    /// Puts one behind all others.
    pub fn put(&self, finished: Finished) {
        let is_sent = finished.is_sent();
        let mut queue = self.lock();
        queue.push_back(finished);
        self.length.store(queue.len(), Ordering::SeqCst);
        if !is_sent {
            self.unsent.store(self.unsent.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
        }
    }

    /// Takes all there are, behind those in `into`.
    pub fn take_all(&self, into: &mut VecDeque<Finished>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut *queue, into);
        } else {
            into.append(&mut queue);
        }
        self.length.store(0, Ordering::Release);
        self.unsent.store(0, Ordering::Release);
    }

    /// Takes one whose output is not sent.
    pub fn take_unsent(&self) -> Option<Finished> {
        if self.unsent.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut queue = self.lock();
        let at = queue.iter().position(|finished| !finished.is_sent())?;
        let taken = queue.remove(at);
        self.length.store(queue.len(), Ordering::Release);
        self.unsent.store(self.unsent.load(Ordering::Relaxed).saturating_sub(1), Ordering::Release);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Finished>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
