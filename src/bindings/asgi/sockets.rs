//! The WebSockets of a run, and the memory that their messages share.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::call::AsgiCall;
use crate::bindings::reporter::{WARNING, log};
use crate::websocket::memory::Memory;

/// The least time between two lines of the log about memory that is full.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    // By their own numbers, until the application has come to its end.
    calls: HashMap<u64, Py<AsgiCall>>,
    // How many were closed since that was logged, and when it was.
    closed: usize,
    logged: Option<Instant>,
}

/// All of them.
pub struct Sockets {
    limit: usize,
    memory: Arc<Memory>,
    state: Mutex<State>,
}

impl Sockets {
    /// None yet, with memory for `limit` bytes of messages.
    pub fn new(limit: usize) -> Self {
        Self { limit, memory: Memory::new(limit), state: Mutex::default() }
    }

    // Held only for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Notes one.
    pub fn put(&self, call: &Bound<'_, AsgiCall>) {
        self.lock().calls.insert(call.get().id.serial, call.clone().unbind());
    }

    /// The application of this one has come to its end.
    pub fn forget(&self, serial: u64) {
        let call = self.lock().calls.remove(&serial);
        // Outside the lock: it may be the last reference.
        drop(call);
    }

    /// Where memory is full, closes those that cost the others most.
    pub fn make_room(&self, py: Python<'_>) {
        if !self.memory.is_full() {
            return;
        }
        let now = Instant::now();
        let calls: Vec<_> = self.lock().calls.values().map(|call| call.clone_ref(py)).collect();
        let mut holders: Vec<_> = calls.into_iter().map(|call| (call.get().weight(now), call)).collect();
        holders.sort_unstable_by_key(|(weight, _)| Reverse(*weight));
        let mut count = 0;
        for (_, call) in holders.into_iter().take_while(|(weight, _)| *weight > 0) {
            if self.memory.has_room() {
                break;
            }
            call.get().evict(py);
            count += 1;
        }
        self.tell(py, count, now);
    }

    fn tell(&self, py: Python<'_>, count: usize, now: Instant) {
        let mut state = self.lock();
        state.closed += count;
        if state.closed == 0 || state.logged.is_some_and(|at| now < at + QUIET) {
            return;
        }
        state.logged = Some(now);
        let count = std::mem::take(&mut state.closed);
        drop(state);
        let message = format!(
            "closed {count} WebSockets with 1013: messages took websocket_memory, {} bytes; raise it, or lower \
             websocket_max_message or websocket_queue_size",
            self.limit
        );
        log(py, WARNING, &message, None);
    }
}
