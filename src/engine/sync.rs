//! What the engine's threads share: locks, atomics, channels, and parking. The types are the standard library's and crossbeam's;
//! in the models they are loom's, which tries every order that the memory model allows.

/// A value with cache lines of its own: writes to its neighbours in memory slow down no processor that reads it.
#[derive(Default)]
#[repr(align(128))]
pub struct CacheLine<T>(pub T);

#[cfg(not(all(test, models)))]
mod real {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};
    #[cfg(not(sanitized))]
    pub use std::sync::{Mutex, MutexGuard};
    pub use std::thread::{Thread, current, park, park_timeout};

    use crossbeam_channel::{Receiver, Sender, unbounded};

    #[cfg(sanitized)]
    pub use super::seen::{Mutex, MutexGuard};

    /// A queue whose two ends live equally long.
    pub struct Channel<T>(Sender<T>, Receiver<T>);

    impl<T> Channel<T> {
        /// An empty one.
        pub fn new() -> Self {
            let (sender, receiver) = unbounded();
            Self(sender, receiver)
        }

        /// Adds an item at the end.
        pub fn put(&self, item: T) {
            // It cannot be disconnected.
            drop(self.0.send(item));
        }

        /// Whether no item is there.
        pub fn is_empty(&self) -> bool {
            self.1.is_empty()
        }

        /// How many items are there.
        pub fn len(&self) -> usize {
            self.1.len()
        }

        /// Takes the first item, and waits until there is one.
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
