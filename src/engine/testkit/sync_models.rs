use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

pub use self::loomed::*;

mod loomed {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    pub use loom::sync::atomic::fence;
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    pub use loom::thread::{Thread, current, park};

    /// Time does not pass in a model.
    pub fn park_timeout(_: Duration) {
        loom::thread::yield_now();
    }

    // Loom takes SeqCst accesses for AcqRel ones, which would let two threads miss each other's writes where the language
    // forbids it. A fence behind each write, as processors have it, restores that and no more: plain reads stay free, so that
    // a fence that is missing elsewhere is missed.
    macro_rules! atomic {
        ($name:ident, $value:ty, $($method:ident)*) => {
            #[derive(Debug, Default)]
            pub struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.0.load(if order == Ordering::SeqCst { Ordering::Acquire } else { order })
                }

                #[allow(dead_code, reason = "not each of them is stored to")]
                pub fn store(&self, value: $value, order: Ordering) {
                    self.0.store(value, if order == Ordering::SeqCst { Ordering::Release } else { order });
                    fence_behind(order);
                }

                $(
                    pub fn $method(&self, value: $value, order: Ordering) -> $value {
                        let before = self.0.$method(value, if order == Ordering::SeqCst { Ordering::AcqRel } else { order });
                        fence_behind(order);
                        before
                    }
                )*
            }
        };
    }

    fn fence_behind(order: Ordering) {
        if order == Ordering::SeqCst {
            fence(Ordering::SeqCst);
        }
    }

    atomic!(AtomicBool, bool, swap);
    atomic!(AtomicU8, u8, swap fetch_or fetch_max);
    atomic!(AtomicU64, u64, fetch_add fetch_sub swap);
    atomic!(AtomicUsize, usize, fetch_add fetch_sub);

    impl AtomicU64 {
        pub fn compare_exchange(&self, old: u64, new: u64, won: Ordering, lost: Ordering) -> Result<u64, u64> {
            let order = |order, weaker| if order == Ordering::SeqCst { weaker } else { order };
            let result =
                self.0.compare_exchange(old, new, order(won, Ordering::AcqRel), order(lost, Ordering::Acquire));
            fence_behind(won);
            result
        }
    }
}

/// A queue that promises as little as crossbeam's: what was put is seen by a later look, and that nothing is there
/// orders nothing.
pub struct Channel<T> {
    items: Mutex<VecDeque<T>>,
    length: AtomicUsize,
    filled: Condvar,
}

impl<T> Channel<T> {
    pub fn new() -> Self {
        Self { items: Mutex::new(VecDeque::new()), length: AtomicUsize::new(0), filled: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, item: T) {
        let mut items = self.lock();
        items.push_back(item);
        self.length.store(items.len(), Ordering::Release);
        drop(items);
        self.filled.notify_one();
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    pub fn wait(&self) -> Option<T> {
        let mut items = self.lock();
        loop {
            if let Some(item) = items.pop_front() {
                self.length.store(items.len(), Ordering::Release);
                return Some(item);
            }
            items = self.filled.wait(items).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
