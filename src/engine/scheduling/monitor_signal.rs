//! What a shard's monitor thread sleeps on.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::engine::sync::{AtomicBool, Thread, current, park};

/// Wakes the one thread that waits on it.
#[derive(Default)]
pub struct MonitorSignal {
    is_waiting: AtomicBool,
    thread: OnceLock<Thread>,
}

impl MonitorSignal {
    /// Wakes the thread if it waits. One load if it does not.
    pub fn wake(&self) {
        if self.is_waiting.load(Ordering::SeqCst) && self.is_waiting.swap(false, Ordering::SeqCst) {
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
    }

    /// Makes the calling thread the one that waits.
    pub(in crate::engine) fn use_this_thread(&self) {
        self.thread.get_or_init(current);
    }

    /// Waits to be woken, unless the thread is `needed` already.
    pub(in crate::engine) fn wait_unless(&self, needed: impl Fn() -> bool) {
        self.is_waiting.store(true, Ordering::SeqCst);
        // A need that arose before the line above has woken no thread.
        if needed() {
            self.is_waiting.store(false, Ordering::SeqCst);
        }
        while self.is_waiting.load(Ordering::SeqCst) {
            park();
        }
    }
}
