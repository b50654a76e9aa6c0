//! The half of a shard that any thread uses: the queues between its reactor and the workers, its phase, and its progress.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::finished::Finished;
use crate::engine::observe::Cause;
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::scheduling::profile::BlockingProfile;
use crate::engine::scheduling::queue::Queue;
use crate::engine::shard::finished_queue::FinishedQueue;
use crate::engine::shard::worker_pool::WorkerPool;
use crate::engine::sync::{AtomicU8, AtomicU64, fence};
use crate::net::poller::Waker;

/// The life of a shard, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Accepts clients.
    Serving,
    /// Leaves clients to other processes: accepts no more, and hands over those that wait for a request.
    Retiring,
    /// Accepts no more, and finishes what it has.
    Draining,
    /// Drops what it has.
    Aborting,
    /// Is over.
    Stopped,
}

/// The queues of a shard.
pub struct ShardQueues {
    /// What its connections share.
    pub context: Arc<ShardContext>,
    /// Which requests block their thread.
    pub profile: BlockingProfile,
    /// The workers of all shards.
    pub(in crate::engine) pool: Arc<WorkerPool>,
    // Requests for the worker that leads.
    ready: Queue<Box<Exchange>>,
    // Exchanges that workers are done with.
    finished: FinishedQueue,
    waker: Waker,
    // Counts what leaders get done.
    progress_count: AtomicU64,
    phase: AtomicU8,
    // Connections that are left while it drains.
    draining: AtomicU64,
}

impl ShardQueues {
    /// Empty queues of a shard whose poller `waker` wakes.
    pub fn new(context: Arc<ShardContext>, pool: Arc<WorkerPool>, waker: Waker) -> Self {
        Self {
            context,
            profile: BlockingProfile::default(),
            pool,
            ready: Queue::default(),
            finished: FinishedQueue::default(),
            waker,
            progress_count: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Serving as u8),
            draining: AtomicU64::new(0),
        }
    }

    /// Wakes the thread that waits in the shard's poller.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Where the shard is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Retiring,
            2 => Phase::Draining,
            3 => Phase::Aborting,
            _ => Phase::Stopped,
        }
    }

    /// Whether it is over.
    pub fn is_stopped(&self) -> bool {
        self.phase() == Phase::Stopped
    }

    /// Moves the shard's life on; it never goes back. Safe from any thread, and from Python's signal handlers.
    pub fn enter(&self, phase: Phase) {
        if phase >= Phase::Draining {
            // Before the phase is visible: every response from now on closes its connection.
            self.context.stop();
        }
        if self.phase.fetch_max(phase as u8, Ordering::SeqCst) >= phase as u8 {
            return;
        }
        if phase == Phase::Stopped {
            self.pool.shard_stopped();
        }
        self.waker.wake();
        self.context.monitor_signal.wake();
    }

    /// Connections that are left while it drains.
    pub fn draining(&self) -> usize {
        usize::try_from(self.draining.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(in crate::engine) fn note_draining(&self, connections: usize) {
        self.draining.store(connections as u64, Ordering::Relaxed);
    }

    /// Whether a worker polls the shard, or is about to.
    pub fn is_polled(&self) -> bool {
        self.pool.is_polled(self.context.shard)
    }

    pub(in crate::engine) fn set_polled(&self, is_polled: bool) {
        self.pool.set_polled(self.context.shard, is_polled);
    }

    /// Whether another shard's leader is idle.
    pub(in crate::engine) fn has_idle_neighbour(&self) -> bool {
        self.pool.has_idle_neighbour(self.context.shard)
    }

    /// Shows the monitor that the leader is not held up.
    pub fn count_progress(&self) {
        self.progress_count.fetch_add(1, Ordering::SeqCst);
    }

    /// How often progress was counted.
    pub fn progress_count(&self) -> u64 {
        self.progress_count.load(Ordering::SeqCst)
    }

    /// Takes a permit for the leader, which begins to run requests. `false`: none is left, and its requests are for the first
    /// worker that gives one back.
    pub fn acquire(&self) -> bool {
        let acquired = self.context.capacity.acquire();
        if !acquired {
            self.hand_over();
        }
        acquired
    }

    /// Gives the permit back.
    pub fn release(&self) {
        self.pool.release();
    }

    /// Moves the leader's requests to the queue of all workers.
    pub(in crate::engine) fn hand_over(&self) {
        while let Some(exchange) = self.ready.take() {
            self.pool.push(exchange);
        }
    }

    /// Queues a complete request, from the reactor. One for the leader is left in `admitted`, for [`ShardQueues::enqueue`]. `Err`:
    /// the queue is full.
    pub(in crate::engine) fn admit(
        &self,
        exchange: Box<Exchange>,
        admitted: &mut VecDeque<Box<Exchange>>,
    ) -> Result<(), Box<Exchange>> {
        let capacity = &self.context.capacity;
        if !capacity.admit(self.context.shard, self.context.options.queue_limit) {
            return Err(exchange);
        }
        if self.pool.has_followers() && (self.profile.is_blocking(exchange.key) || !capacity.has_permit()) {
            self.pool.push(exchange);
        } else {
            admitted.push_back(exchange);
        }
        Ok(())
    }

    /// Queues admitted requests for the leader.
    pub(in crate::engine) fn enqueue(&self, admitted: &mut VecDeque<Box<Exchange>>) {
        self.ready.put_all(admitted);
    }

    /// Whether requests wait for the leader.
    pub(in crate::engine) fn has_work(&self) -> bool {
        self.has_next() && self.context.capacity.has_permit()
    }

    /// Whether a request waits for a leader that has a permit.
    pub fn has_next(&self) -> bool {
        !self.ready.is_empty() || self.pool.has_excess()
    }

    /// The next request for a leader that has a permit.
    pub fn take(&self) -> Option<Box<Exchange>> {
        self.take_ready(|_| true).or_else(|| if self.pool.has_excess() { self.pool.take() } else { None })
    }

    fn take_ready(&self, wanted: impl FnOnce(&Exchange) -> bool) -> Option<Box<Exchange>> {
        self.pool.leave_queue(self.ready.take_if(|exchange| wanted(exchange)))
    }

    /// The next request, which keeps its place in the queue until the guard is dropped.
    pub(in crate::engine) fn take_with_guard(&self) -> Option<(Box<Exchange>, AdmissionGuard)> {
        let guard = || self.context.capacity.admission_guard(self.context.shard);
        self.ready.take().map(|exchange| (exchange, guard()))
    }

    /// A request of this shard that has been queued for longer than it may.
    pub(in crate::engine) fn take_overdue(&self, now: Instant) -> Option<Box<Exchange>> {
        let timeout = self.context.options.queue_timeout;
        let is_overdue = |exchange: &Exchange| now.saturating_duration_since(exchange.arrived()) > timeout;
        self.take_ready(is_overdue).or_else(|| self.pool.take_from(self.context.shard, is_overdue))
    }

    /// Any queued request of this shard.
    pub(in crate::engine) fn take_queued(&self) -> Option<Box<Exchange>> {
        self.take_ready(|_| true).or_else(|| self.pool.take_from(self.context.shard, |_| true))
    }

    /// Gives an exchange back that a worker is done with. Its output is sent in the next round of the reactor, together with that
    /// of others. While another thread polls, [`ShardQueues::send_finished`] must follow soon: nothing wakes that thread for it.
    pub fn hand_back(&self, finished: Finished) {
        let is_lost = finished.is_lost();
        self.finished.put(finished);
        if is_lost {
            self.waker.wake();
        }
        if self.is_stopped() {
            self.give_up_finished();
        }
    }

    /// Takes the exchanges that workers are done with.
    pub(in crate::engine) fn take_finished(&self, into: &mut VecDeque<Finished>) {
        self.finished.take_all(into);
    }

    /// Sends the output of finished exchanges from a worker, while another thread holds the reactor and may wait in the kernel. Talks
    /// to the kernel and the observers: call it detached.
    pub(in crate::engine) fn send_finished(&self) {
        while let Some(finished) = self.finished.take_unsent() {
            self.send(finished);
        }
    }

    fn send(&self, mut finished: Finished) {
        let ticket = finished.ticket();
        let transport = finished.transport().map(Arc::clone);
        let sent = self.context.reports.catch_panic("one connection", || {
            let is_eager = finished.send(&self.context);
            (finished, is_eager)
        });
        let (finished, is_eager) = sent.unwrap_or_else(|| (Finished::lost(ticket), true));
        self.finished.put(finished);
        // The reactor notes a change of the socket first and reads `finished` after; here the order is reversed.
        fence(Ordering::SeqCst);
        let was_ready = transport.is_some_and(|transport| transport.was_ready_while_away());
        if is_eager || was_ready || self.phase() != Phase::Serving {
            self.waker.wake();
        }
    }

    // Output that was queued after the end is not sent; the observers get its record.
    fn give_up_finished(&self) {
        let mut finished = VecDeque::new();
        self.take_finished(&mut finished);
        for finished in finished {
            finished.give_up(&self.context, Cause::Stopped);
        }
    }

    /// Whether no request and no connection is between the reactor and the workers.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.finished.is_empty()
    }

    /// Drops what is queued, when every worker has returned or was given up.
    pub(in crate::engine) fn clear(&self) {
        while self.take_ready(|_| true).is_some() {}
        self.pool.clear();
        self.give_up_finished();
    }
}
