//! A line: what one thread puts in, another takes out, in order.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::engine::sync::{AtomicUsize, Mutex, MutexGuard};

/// Things in the order they came. Safe to share between threads.
pub(in crate::engine) struct Queue<T> {
    things: Mutex<VecDeque<T>>,
    // Read far more often than the line changes.
    length: AtomicUsize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { things: Mutex::new(VecDeque::new()), length: AtomicUsize::new(0) }
    }
}

impl<T> Queue<T> {
    pub fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn put(&self, thing: T) {
        let mut things = self.lock();
        things.push_back(thing);
        self.length.store(things.len(), Ordering::SeqCst);
    }

    /// Puts all of `more` in, behind one lock.
    pub fn put_all(&self, more: &mut VecDeque<T>) {
        if more.is_empty() {
            return;
        }
        let mut things = self.lock();
        things.append(more);
        self.length.store(things.len(), Ordering::SeqCst);
    }

    /// Takes the first, if it is `wanted`.
    pub fn take_if(&self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut things = self.lock();
        let taken = if wanted(things.front()?) { things.pop_front() } else { None };
        // Whoever sees the length of before finds less than it thought, and nobody goes to sleep over that.
        self.length.store(things.len(), Ordering::Release);
        taken
    }

    pub fn take(&self) -> Option<T> {
        self.take_if(|_| true)
    }

    /// Takes the first of those that are `own`, wherever it stands, if it is `wanted`.
    pub fn take_own_if(&self, own: impl Fn(&T) -> bool, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut things = self.lock();
        let at = things.iter().position(own).filter(|at| things.get(*at).is_some_and(wanted))?;
        let taken = things.remove(at);
        self.length.store(things.len(), Ordering::Release);
        taken
    }

    /// Takes all there is, behind what is in `into`.
    pub fn take_all(&self, into: &mut VecDeque<T>) {
        if self.is_empty() {
            return;
        }
        let mut things = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut *things, into);
        } else {
            into.append(&mut things);
        }
        self.length.store(0, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;

    #[test]
    fn things_leave_in_the_order_they_came() {
        let line = Queue::default();
        let mut more = VecDeque::from([2, 3]);
        line.put(1);
        line.put_all(&mut more);
        assert_eq!((line.len(), more.len()), (3, 0));
        assert_eq!(line.take_if(|first| *first == 2), None);
        assert_eq!(line.take_own_if(|one| *one > 1, |own| *own == 3), None);
        assert_eq!(line.take_own_if(|one| *one > 2, |own| *own == 3), Some(3));
        line.put(3);
        assert_eq!(line.take(), Some(1));
        let mut all = VecDeque::from([0]);
        line.take_all(&mut all);
        assert_eq!(all, [0, 2, 3]);
        assert!(line.is_empty() && line.take().is_none());
        line.take_all(&mut all);
        assert_eq!(all.len(), 3);
    }
}
