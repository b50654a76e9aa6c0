//! The workers of all shards: requests that any of them may run, and parked threads. A worker leads one shard at a time and
//! moves to another when it is sent there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::engine::exchange::Exchange;
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::scheduling::queue::Queue;
use crate::engine::sync::{AtomicBool, AtomicUsize, CacheLine, Channel};
use crate::net::poller::Waker;

/// Command to a parked worker.
pub(in crate::engine) enum Command {
    /// Run a queued request.
    Run,
    /// Lead this shard, whose poller has no thread.
    TakeOver(usize),
    /// Return: the run is over.
    Stop,
}

/// How workers reach a shard.
struct ShardHandle {
    waker: Waker,
    // A worker waits in the poller, or is about to.
    is_polled: CacheLine<AtomicBool>,
}

/// The workers of a run.
pub struct WorkerPool {
    capacity: Arc<Capacity>,
    // Requests for any worker.
    queue: Queue<Box<Exchange>>,
    wakeups: Channel<Command>,
    parked: AtomicUsize,
    // Shards that are not stopped.
    running: AtomicUsize,
    handles: OnceLock<Vec<ShardHandle>>,
}

impl WorkerPool {
    /// The pool of a run with this capacity.
    pub fn new(capacity: Arc<Capacity>) -> Self {
        Self {
            queue: Queue::default(),
            wakeups: Channel::new(),
            parked: AtomicUsize::new(0),
            running: AtomicUsize::new(capacity.shards()),
            handles: OnceLock::new(),
            capacity,
        }
    }

    /// Registers the shards, in the order of their numbers.
    pub fn register(&self, wakers: Vec<Waker>) {
        let handle = |waker| ShardHandle { waker, is_polled: CacheLine(AtomicBool::new(false)) };
        self.handles.get_or_init(|| wakers.into_iter().map(handle).collect());
    }

    fn handle(&self, shard: usize) -> Option<&ShardHandle> {
        self.handles.get()?.get(shard)
    }

    /// The permits and queue places.
    pub fn capacity(&self) -> &Arc<Capacity> {
        &self.capacity
    }

    /// How many workers there are: `threads`, and one more for each shard that polls while `threads` requests run. With no more
    /// threads than shards the leaders run requests themselves: one thread stays one thread.
    pub(in crate::engine) fn workers(&self) -> usize {
        let threads = self.capacity.threads();
        if self.has_followers() { threads + self.capacity.shards() } else { threads }
    }

    /// Whether there are more threads than shards.
    pub(in crate::engine) fn has_followers(&self) -> bool {
        self.capacity.threads() > self.capacity.shards()
    }

    /// Queues a request for any worker.
    pub(in crate::engine) fn push(&self, exchange: Box<Exchange>) {
        self.queue.put(exchange);
        // Without a permit, the next release wakes a worker.
        if self.capacity.has_permit() {
            self.wake_one();
        }
    }

    // At most one command for each parked worker: a worker that is awake checks the queue before it parks.
    fn wake_one(&self) {
        if self.parked.load(Ordering::SeqCst) > self.wakeups.len() {
            self.wakeups.put(Command::Run);
        }
    }

    /// Gives a permit back, and wakes a worker if requests are queued.
    pub(in crate::engine) fn release(&self) {
        self.capacity.release();
        if !self.queue.is_empty() {
            self.wake_one();
        }
    }

    /// Takes the first request.
    pub(in crate::engine) fn take(&self) -> Option<Box<Exchange>> {
        self.leave_queue(self.queue.take())
    }

    /// Takes the first request that came from `shard`, if it is `wanted`.
    pub(in crate::engine) fn take_from(
        &self,
        shard: usize,
        wanted: impl FnOnce(&Exchange) -> bool,
    ) -> Option<Box<Exchange>> {
        self.leave_queue(self.queue.take_own_if(|exchange| exchange.shard() == shard, |exchange| wanted(exchange)))
    }

    /// Takes the first request, and a permit for it.
    pub(in crate::engine) fn take_with_permit(&self) -> Option<Box<Exchange>> {
        if self.queue.is_empty() || !self.capacity.acquire() {
            return None;
        }
        let exchange = self.take();
        if exchange.is_none() {
            self.release();
        }
        exchange
    }

    /// Counts a request out of the queue that it was taken from.
    pub(in crate::engine) fn leave_queue(&self, exchange: Option<Box<Exchange>>) -> Option<Box<Exchange>> {
        exchange.inspect(|exchange| self.capacity.leave_queue(exchange.shard()))
    }

    /// Drops every queued request.
    pub(in crate::engine) fn clear(&self) {
        while self.take().is_some() {}
    }

    /// Whether more requests are queued than workers are parked. While there are enough of those, leaders leave the queue to
    /// them: a leader that ran a blocking call would have to be relieved.
    pub(in crate::engine) fn has_excess(&self) -> bool {
        self.queue.len() > self.parked.load(Ordering::SeqCst)
    }

    /// Parks the calling worker until it gets a command. Returns the command, and with [`Command::Run`] the request, if there is
    /// one, for which a permit is taken.
    pub(in crate::engine) fn park(&self) -> (Command, Option<Box<Exchange>>) {
        self.parked.fetch_add(1, Ordering::SeqCst);
        // No command was sent for what was queued before this worker counted as parked.
        let (command, exchange) = if let Some(exchange) = self.take_with_permit() {
            (Command::Run, Some(exchange))
        } else {
            let command = self.wakeups.wait().unwrap_or(Command::Stop);
            // Taken while this worker still counts as parked, so that the request is not taken for excess.
            let exchange = if matches!(command, Command::Run) { self.take_with_permit() } else { None };
            (command, exchange)
        };
        self.parked.fetch_sub(1, Ordering::SeqCst);
        if self.has_excess() {
            // A leader left requests to this worker, which takes one of them only.
            self.wake_idle_leaders();
        }
        (command, exchange)
    }

    /// Sends a parked worker to a shard. `false`: none is parked.
    pub(in crate::engine) fn send_to(&self, shard: usize) -> bool {
        if self.parked.load(Ordering::SeqCst) == 0 {
            return false;
        }
        if self.wakeups.is_empty() {
            self.wakeups.put(Command::TakeOver(shard));
        }
        true
    }

    /// Whether a worker polls this shard, or is about to.
    pub(in crate::engine) fn is_polled(&self, shard: usize) -> bool {
        self.handle(shard).is_some_and(|handle| handle.is_polled.0.load(Ordering::SeqCst))
    }

    pub(in crate::engine) fn set_polled(&self, shard: usize, is_polled: bool) {
        if let Some(handle) = self.handle(shard) {
            handle.is_polled.0.store(is_polled, Ordering::SeqCst);
        }
    }

    /// Whether the leader of another shard is idle.
    pub(in crate::engine) fn has_idle_neighbour(&self, shard: usize) -> bool {
        (0..self.capacity.shards()).any(|other| other != shard && self.is_polled(other))
    }

    /// Wakes the leaders that wait in their pollers, so that they check the queue.
    pub(in crate::engine) fn wake_idle_leaders(&self) {
        for handle in self.handles.get().into_iter().flatten() {
            if handle.is_polled.0.load(Ordering::SeqCst) {
                handle.waker.wake();
            }
        }
    }

    /// A shard has stopped. With the last one, every worker is told to return.
    pub(in crate::engine) fn shard_stopped(&self) {
        if self.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            for _ in 0..self.workers() {
                self.wakeups.put(Command::Stop);
            }
        }
    }

    /// Whether every shard has stopped.
    pub fn all_shards_stopped(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }
}
