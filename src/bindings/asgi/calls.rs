//! The calls that have an exchange, by the numbers of their connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::call::AsgiCall;
use super::event_loop::CallId;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::{Cut, InFlight};

/// The open calls of one run.
#[derive(Default)]
pub struct OpenCalls {
    slots: Mutex<Vec<Option<Py<AsgiCall>>>>,
    open: AtomicUsize,
    // Those whose exchanges were taken away, until the driver has taken them.
    cut: Mutex<Vec<Py<AsgiCall>>>,
}

impl OpenCalls {
    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Py<AsgiCall>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the call of a connection.
    pub fn insert(&self, call: &Bound<'_, AsgiCall>) {
        let token = call.get().id.token;
        let mut calls = self.lock();
        if calls.len() <= token {
            calls.resize_with(token + 1, || None);
        }
        let former = calls[token].replace(call.clone().unbind());
        drop(calls);
        self.open.fetch_add(usize::from(former.is_none()), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The call with this number.
    pub fn get(&self, py: Python<'_>, id: CallId) -> Option<Py<AsgiCall>> {
        self.of_connection(py, id.token).filter(|call| call.get().id == id)
    }

    /// The call of a connection.
    pub fn of_connection(&self, py: Python<'_>, token: usize) -> Option<Py<AsgiCall>> {
        self.lock().get(token).and_then(Option::as_ref).map(|call| call.clone_ref(py))
    }

    /// All of them.
    pub fn all(&self, py: Python<'_>) -> Vec<Py<AsgiCall>> {
        self.lock().iter().flatten().map(|call| call.clone_ref(py)).collect()
    }

    /// The calls whose exchanges were taken away since the last call of this.
    pub fn take_cut(&self) -> Vec<Py<AsgiCall>> {
        std::mem::take(&mut *self.cut.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes a call, which has given its exchange back.
    pub fn remove(&self, id: CallId) {
        let freed = self.lock().get_mut(id.token).and_then(|slot| slot.take_if(|call| call.get().id == id));
        self.open.fetch_sub(usize::from(freed.is_some()), Ordering::Relaxed);
        // Outside the lock: it may be the last reference.
        drop(freed);
    }
}

impl InFlight for OpenCalls {
    // A loop has one shard.
    fn take(&self, _: usize, cut: Cut) -> Vec<Box<Exchange>> {
        // Event streams end themselves at a stop.
        if cut == Cut::EventStreams {
            return Vec::new();
        }
        let mut calls = self.lock();
        let range = match cut {
            Cut::Connection(ticket) => ticket.slot..(ticket.slot + 1).min(calls.len()),
            _ => 0..calls.len(),
        };
        let mut lost = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let mut take = |slot: &mut Option<Py<AsgiCall>>| {
            let exchange = slot.as_ref()?.get().cut(cut)?;
            lost.extend(slot.take());
            self.open.fetch_sub(1, Ordering::Relaxed);
            Some(exchange)
        };
        calls.get_mut(range).into_iter().flatten().filter_map(&mut take).collect()
    }

    fn requests(&self) -> Vec<String> {
        self.lock().iter().flatten().filter_map(|call| call.get().open_request()).collect()
    }
}
