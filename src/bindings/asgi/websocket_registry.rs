//! The WebSockets of a run, and the memory that their messages share.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::PyClass;
use pyo3::prelude::*;

use crate::bindings::reporter::{WARNING, log};
use crate::websocket::memory::MessageMemory;

/// The least time between two log lines about evictions.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

struct RegisteredCalls<T> {
    // By serial number, until the application has returned.
    calls: HashMap<u64, Py<T>>,
    // Evictions that were not logged yet, and when the last were.
    unlogged: usize,
    logged_at: Option<Instant>,
}

/// What takes memory for messages.
pub trait MemoryHolder: PyClass {
    /// How much, in bytes times milliseconds; 0 for nothing.
    fn eviction_weight(slf: &Bound<'_, Self>, now: Instant) -> u128;

    /// Frees it, by closing the WebSocket.
    fn evict(slf: &Bound<'_, Self>);
}

/// The WebSockets of a run. Used from any thread.
pub struct WebSocketRegistry<T> {
    limit: usize,
    memory: Arc<MessageMemory>,
    state: Mutex<RegisteredCalls<T>>,
}

impl<T: MemoryHolder> WebSocketRegistry<T> {
    /// An empty registry, with memory for `limit` bytes of messages.
    pub fn new(limit: usize) -> Self {
        let state = RegisteredCalls { calls: HashMap::new(), unlogged: 0, logged_at: None };
        Self { limit, memory: MessageMemory::new(limit), state: Mutex::new(state) }
    }

    // Locked for a moment, never while Python code may run.
    fn lock(&self) -> MutexGuard<'_, RegisteredCalls<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory for messages.
    pub fn memory(&self) -> &Arc<MessageMemory> {
        &self.memory
    }

    /// Adds a WebSocket's call.
    pub fn insert(&self, serial: u64, call: Py<T>) {
        self.lock().calls.insert(serial, call);
    }

    /// Removes the call with this number, if it is there.
    pub fn remove(&self, serial: u64) {
        let call = self.lock().calls.remove(&serial);
        // Outside the lock: it may be the last reference.
        drop(call);
    }

    /// If the memory is full, evicts those with the greatest weight until there is room.
    pub fn free_memory(&self, py: Python<'_>) {
        if !self.memory.is_full() {
            return;
        }
        let now = Instant::now();
        let calls: Vec<_> = self.lock().calls.values().map(|call| call.clone_ref(py)).collect();
        let mut weighed: Vec<_> =
            calls.into_iter().map(|call| (T::eviction_weight(call.bind(py), now), call)).collect();
        weighed.sort_unstable_by_key(|(weight, _)| Reverse(*weight));
        let mut count = 0;
        for (_, call) in weighed.into_iter().take_while(|(weight, _)| *weight > 0) {
            if self.memory.has_room() {
                break;
            }
            T::evict(call.bind(py));
            count += 1;
        }
        self.log_evictions(py, count, now);
    }

    fn log_evictions(&self, py: Python<'_>, count: usize, now: Instant) {
        let mut state = self.lock();
        state.unlogged += count;
        if state.unlogged == 0 || state.logged_at.is_some_and(|at| now < at + LOG_INTERVAL) {
            return;
        }
        state.logged_at = Some(now);
        let count = std::mem::take(&mut state.unlogged);
        drop(state);
        let message = format!(
            "closed {count} WebSockets with 1013: messages took websocket_memory, {} bytes; raise it, or lower \
             websocket_max_message or websocket_queue_size",
            self.limit
        );
        log(py, WARNING, &message, None);
    }
}
