//! A first-in, first-out queue between threads whose length is read without its lock.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::engine::sync::{AtomicUsize, Mutex, MutexGuard};

/// Items in the order they came. Safe to share between threads.
pub(in crate::engine) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    // Read far more often than the queue changes.
    length: AtomicUsize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Mutex::new(VecDeque::new()), length: AtomicUsize::new(0) }
    }
}

impl<T> Queue<T> {
    pub fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn put(&self, item: T) {
        let mut items = self.lock();
        items.push_back(item);
        self.length.store(items.len(), Ordering::SeqCst);
    }

    /// Adds all of `more`, under one lock.
    pub fn put_all(&self, more: &mut VecDeque<T>) {
        if more.is_empty() {
            return;
        }
        let mut items = self.lock();
        items.append(more);
        self.length.store(items.len(), Ordering::SeqCst);
    }

    /// Takes the first item, if it is `wanted`.
    pub fn take_if(&self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.lock();
        let taken = if wanted(items.front()?) { items.pop_front() } else { None };
        // A stale length only overestimates; no thread parks because of it.
        self.length.store(items.len(), Ordering::Release);
        taken
    }

    pub fn take(&self) -> Option<T> {
        self.take_if(|_| true)
    }

    /// Takes the first item that is `own`, at any position, if it is `wanted`.
    pub fn take_own_if(&self, own: impl Fn(&T) -> bool, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.lock();
        let at = items.iter().position(own).filter(|at| items.get(*at).is_some_and(wanted))?;
        let taken = items.remove(at);
        self.length.store(items.len(), Ordering::Release);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_the_order_they_came() {
        let queue = Queue::default();
        let mut more = VecDeque::from([2, 3]);
        queue.put(1);
        queue.put_all(&mut more);
        assert_eq!((queue.len(), more.len()), (3, 0));
        assert_eq!(queue.take_if(|first| *first == 2), None);
        assert_eq!(queue.take_own_if(|one| *one > 1, |own| *own == 3), None);
        assert_eq!(queue.take_own_if(|one| *one > 2, |own| *own == 3), Some(3));
        queue.put(3);
        assert_eq!(queue.take(), Some(1));
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some(2), Some(3), None]);
        assert!(queue.is_empty());
    }
}
