//! What the threads of this room meet at: locks, atomics, queues, and the way to sleep. Everywhere but in the models it is
//! the standard library's and crossbeam's. There it is loom's, which tries every order that the memory model allows.

#[cfg(not(all(test, models)))]
mod real {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};
    #[cfg(not(sanitized))]
    pub use std::sync::{Mutex, MutexGuard};
    pub use std::thread::{Thread, current, park, park_timeout};

    use crossbeam_channel::{Receiver, Sender, unbounded};

    #[cfg(sanitized)]
    pub use super::seen::{Mutex, MutexGuard};

    /// A queue of which both ends are ours.
    pub struct Channel<T>(Sender<T>, Receiver<T>);

    impl<T> Channel<T> {
        /// An empty one.
        pub fn new() -> Self {
            let (sender, receiver) = unbounded();
            Self(sender, receiver)
        }

        /// Puts an item behind all others.
        pub fn put(&self, item: T) {
            // Both ends live as long as the queue: it cannot be disconnected.
            drop(self.0.send(item));
        }

        /// Takes the first item, if there is one.
        pub fn take(&self) -> Option<T> {
            self.1.try_recv().ok()
        }

        /// Whether nothing is there.
        pub fn is_empty(&self) -> bool {
            self.1.is_empty()
        }

        /// How much is there.
        pub fn len(&self) -> usize {
            self.1.len()
        }

        /// Takes the first item; sleeps until there is one.
        pub fn wait(&self) -> Option<T> {
            self.1.recv().ok()
        }
    }
}

#[cfg(not(all(test, models)))]
pub use real::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Channel, Mutex, MutexGuard, Thread, current, fence, park,
    park_timeout,
};

// A lock whose hand-over ThreadSanitizer sees: where there is a wait for the standard library's own, that happens in code
// which is shipped without the sanitizer's marks.
#[cfg(sanitized)]
mod seen {
    pub use std::sync::MutexGuard;
    use std::sync::{LockResult, TryLockError, TryLockResult};

    #[derive(Debug, Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            self.0.try_lock()
        }

        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            loop {
                match self.try_lock() {
                    Ok(guard) => return Ok(guard),
                    Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
                    Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                }
            }
        }
    }
}

#[cfg(models)]
#[cfg(test)]
#[path = "testkit/sync_models.rs"]
mod models;
#[cfg(all(test, models))]
pub use models::*;
