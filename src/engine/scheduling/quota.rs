//! How many of something clients may hold at the same time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::sync::AtomicUsize;

/// How many are held, by all shards together.
pub(in crate::engine) struct Quota(AtomicUsize);

/// One of them, until it is dropped.
pub struct QuotaGuard(Arc<Quota>);

impl Quota {
    /// None is held.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0)))
    }

    /// Takes one, if fewer than `most` are held.
    pub fn take(self: &Arc<Self>, most: usize) -> Option<QuotaGuard> {
        let before = self.0.fetch_add(1, Ordering::SeqCst);
        // One too many is given back as it drops.
        let guard = QuotaGuard(Arc::clone(self));
        (before < most).then_some(guard)
    }
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        let Self(quota) = self;
        quota.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;

    #[test]
    fn quota_gives_as_many_as_allowed_and_takes_them_back() {
        let quota = Quota::new();
        for most in [0, 1, 7, 1] {
            let held: Vec<_> = std::iter::from_fn(|| quota.take(most)).collect();
            assert_eq!(held.len(), most);
            assert!(quota.take(most).is_none() && quota.take(most + 1).is_some());
        }
    }
}
