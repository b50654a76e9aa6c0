//! A shard: one poller with its connections, and the queues between it and the workers.
//!
//! Workers are leader and followers. The leader holds the reactor: it polls, parses and queues complete requests. While the
//! application is quick the leader runs them itself, one after the other, and no request changes its thread. A request that
//! is known to block goes to a parked worker at once. If one call holds the leader up, the monitor sends a parked worker to
//! take over the poller and the queue; with no worker left, the monitor polls itself until one returns.

mod acceptor;
mod connection_table;
mod connections;
mod drain;
pub mod external_loop;
mod finished_queue;
mod gate;
mod handover;
mod handover_message;
pub mod queues;
pub mod reactor;
mod timers;
pub mod worker_pool;

use std::io;
use std::sync::{Arc, TryLockError};

use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::in_flight::InFlight;
use crate::engine::shard::queues::ShardQueues;
use crate::engine::shard::reactor::Reactor;
use crate::engine::shard::worker_pool::{Command, WorkerPool};
use crate::engine::sync::Mutex;
use crate::net::descriptor_queue::DescriptorQueue;
use crate::net::listener::Listener;

/// What a worker does next.
pub enum WorkerAction {
    /// Run the leader's requests.
    RunQueued,
    /// Run this request, for which a permit is taken.
    Run(Box<Exchange>),
    /// Lead another shard.
    MoveTo(usize),
    /// Return: the run is over.
    Stop,
}

/// One poller and its connections.
pub struct Shard {
    /// What its connections share.
    pub context: Arc<ShardContext>,
    /// What its reactor and the workers share.
    pub queues: ShardQueues,
    reactor: Mutex<Reactor>,
}

impl Shard {
    /// A shard that accepts from `listeners` and is served by `pool`. With `single_request` it accepts one connection, serves one
    /// request on it and stops. Through `handover` connections come from other processes, and go there.
    pub fn new(
        context: Arc<ShardContext>,
        listeners: Vec<Arc<Listener>>,
        pool: Arc<WorkerPool>,
        in_flight: Arc<dyn InFlight>,
        single_request: bool,
        handover: Option<Arc<DescriptorQueue>>,
    ) -> io::Result<Self> {
        let reactor = Reactor::new(Arc::clone(&context), listeners, in_flight, single_request, handover)?;
        let queues = ShardQueues::new(Arc::clone(&context), pool, reactor.waker());
        Ok(Self { context, queues, reactor: Mutex::new(reactor) })
    }

    /// Leads the shard if no other worker does, and parks otherwise, until there is something to do. Blocks: call it detached.
    pub fn lead_or_park(&self) -> WorkerAction {
        if self.queues.is_stopped() {
            return if self.queues.pool.all_shards_stopped() { WorkerAction::Stop } else { self.park() };
        }
        self.with_reactor(|reactor| self.lead(reactor)).unwrap_or_else(|| {
            self.queues.send_finished();
            // This worker is running already; it takes work before it parks.
            self.queues.pool.take_with_permit().map_or_else(|| self.park(), WorkerAction::Run)
        })
    }

    fn lead(&self, reactor: &mut Reactor) -> WorkerAction {
        if self.context.capacity.is_any_running() {
            // Other threads may wait for the interpreter that this one has just released. On a busy processor it would have it
            // back before they run. (Requests that block left 2 ms earlier beside a flood of quick ones.)
            std::thread::yield_now();
        }
        let _guard = PollingGuard::new(&self.queues);
        loop {
            let has_released = reactor.round(&self.queues, true);
            // A moment in Python lets it free what was sent from its memory.
            if self.queues.is_stopped() || self.queues.has_work() || has_released {
                return WorkerAction::RunQueued;
            }
        }
    }

    fn park(&self) -> WorkerAction {
        match self.queues.pool.park() {
            (_, Some(exchange)) => WorkerAction::Run(exchange),
            (Command::TakeOver(shard), None) => WorkerAction::MoveTo(shard),
            (Command::Run, None) => WorkerAction::RunQueued,
            (Command::Stop, None) => WorkerAction::Stop,
        }
    }

    /// Replaces a leader that one call holds up: by a parked worker, or else by the calling thread for one round. From the
    /// monitor.
    pub(in crate::engine) fn take_over(&self) {
        let pool = &self.queues.pool;
        if pool.send_to(self.context.shard) {
            return;
        }
        self.queues.hand_over();
        if pool.has_excess() {
            pool.wake_idle_leaders();
        }
        self.with_reactor(|reactor| reactor.round(&self.queues, false));
    }

    /// Does `work` with the reactor, unless another thread holds it.
    pub(in crate::engine) fn with_reactor<T>(&self, work: impl FnOnce(&mut Reactor) -> T) -> Option<T> {
        match self.reactor.try_lock() {
            Ok(mut reactor) => Some(work(&mut reactor)),
            // A panic in the reactor costs one connection; the reactor itself stays valid.
            Err(TryLockError::Poisoned(poisoned)) => Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[cfg(test)]
    pub(in crate::engine) fn reactor(&self) -> &Mutex<Reactor> {
        &self.reactor
    }

    /// Ends what is left when every worker has returned or was given up: connections close, queues empty.
    pub fn clear(&self) {
        self.queues.clear();
        // Threads may still be inside the application.
        self.with_reactor(|reactor| reactor.end_all(&self.queues));
    }
}

// Marks the shard as polled until it is dropped, be it by a panic.
struct PollingGuard<'a>(&'a ShardQueues);

impl<'a> PollingGuard<'a> {
    fn new(queues: &'a ShardQueues) -> Self {
        queues.set_polled(true);
        Self(queues)
    }
}

impl Drop for PollingGuard<'_> {
    fn drop(&mut self) {
        let Self(queues) = self;
        queues.count_progress();
        queues.set_polled(false);
        queues.context.monitor_signal.wake();
    }
}

#[cfg(test)]
mod tests;
