//! The calls that the workers of a run are in, which a stop may end without them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::call::Call;
use crate::engine::exchange::Exchange;
use crate::engine::in_flight::{Cut, InFlight};

/// One call for each worker, by the workers' numbers.
#[derive(Default)]
pub struct Calls(Mutex<Vec<Option<Py<Call>>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Py<Call>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what worker number `index` uses for its requests from here on.
    pub fn set(&self, index: usize, call: &Bound<'_, Call>) {
        let mut calls = self.lock();
        if calls.len() <= index {
            calls.resize_with(index + 1, || None);
        }
        let former = calls.get_mut(index).and_then(|slot| slot.replace(call.clone().unbind()));
        // Python's objects are let go outside the lock.
        drop(calls);
        drop(former);
    }
}

impl InFlight for Calls {
    fn take(&self, shard: usize, cut: Cut) -> Vec<Box<Exchange>> {
        self.lock().iter().flatten().filter_map(|call| call.get().cut(shard, cut)).collect()
    }

    fn requests(&self) -> Vec<String> {
        self.lock().iter().flatten().filter_map(|call| call.get().place()).collect()
    }
}
