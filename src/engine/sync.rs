//! What the threads of this room meet at: locks, atomics, queues, and the way to sleep. Everywhere but in the models it is
//! the standard library's and crossbeam's. There it is loom's, which tries every order that the memory model allows.

#[cfg(not(all(test, models)))]
mod real {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};
    pub use std::sync::{Mutex, MutexGuard};
    pub use std::thread::{Thread, current, park, park_timeout};

    use crossbeam_channel::{Receiver, Sender, unbounded};

    /// A queue of which both ends are ours.
    pub struct Queue<T>(Sender<T>, Receiver<T>);

    impl<T> Queue<T> {
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
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, MutexGuard, Queue, Thread, current, fence, park, park_timeout,
};

#[cfg(models)]
#[cfg(test)]
#[path = "sync_models.rs"]
mod models;
#[cfg(all(test, models))]
pub use models::*;
