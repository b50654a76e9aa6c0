//! The calls whose exchanges are open, by the numbers of their connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::call::Call;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::{Cut, InFlight};

/// The calls of one run.
#[derive(Default)]
pub struct Calls {
    slots: Mutex<Vec<Option<Py<Call>>>>,
    // Those whose exchanges were taken away, which have not heard of it.
    cut: Mutex<Vec<Py<Call>>>,
}

impl Calls {
    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Py<Call>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call that a connection's request is with.
    pub fn put(&self, call: &Bound<'_, Call>) {
        let token = call.get().token;
        let mut calls = self.lock();
        if calls.len() <= token {
            calls.resize_with(token + 1, || None);
        }
        calls[token] = Some(call.clone().unbind());
    }

    /// The call of a connection.
    pub fn get(&self, py: Python<'_>, token: usize) -> Option<Py<Call>> {
        self.lock().get(token).and_then(Option::as_ref).map(|call| call.clone_ref(py))
    }

    /// All of them.
    pub fn all(&self, py: Python<'_>) -> Vec<Py<Call>> {
        self.lock().iter().flatten().map(|call| call.clone_ref(py)).collect()
    }

    /// The calls whose exchanges were taken away since this was last asked.
    pub fn take_cut(&self) -> Vec<Py<Call>> {
        std::mem::take(&mut *self.cut.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call has given its exchange back.
    pub fn forget(&self, call: &Call) {
        let freed =
            self.lock().get_mut(call.token).and_then(|slot| slot.take_if(|other| other.get().serial == call.serial));
        // Outside the lock: it may be the last reference.
        drop(freed);
    }
}

impl InFlight for Calls {
    // A loop has one shard.
    fn take(&self, _: usize, cut: Cut) -> Vec<Box<Exchange>> {
        // Event streams are told of the stop, and end themselves.
        if cut == Cut::EventStreams {
            return Vec::new();
        }
        let mut calls = self.lock();
        let range = match cut {
            Cut::Connection(token) => token..(token + 1).min(calls.len()),
            _ => 0..calls.len(),
        };
        let mut lost = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let mut take = |slot: &mut Option<Py<Call>>| {
            let exchange = slot.as_ref()?.get().cut(cut)?;
            lost.extend(slot.take());
            Some(exchange)
        };
        calls.get_mut(range).into_iter().flatten().filter_map(&mut take).collect()
    }

    fn requests(&self) -> Vec<String> {
        self.lock().iter().flatten().map(|call| call.get().place().to_owned()).collect()
    }
}
