//! A shard: one poller with its connections, the queues between it and the workers, and who leads.
//!
//! Any worker may do any of the work. Whoever holds the reactor leads: it reads, parses and queues complete requests. While
//! the application is quick the leader answers them itself, one after the other, and no request is handed over. A request
//! known to wait goes to a parked worker at once. If the leader is held up by a call, the monitor sends a parked worker to
//! take over the poller and the queue, or, with none left, sees to the poller itself until somebody is free.

mod acceptor;
mod connection_table;
mod draining;
pub mod external_loop;
pub mod reactor;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};
use std::time::Instant;

use crate::engine::connection::Connection;
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::observe::Cause;
use crate::engine::scheduling::pool::{AdmissionGuard, Command, WorkerPool};
use crate::engine::scheduling::profile::BlockingProfile;
use crate::engine::scheduling::queue::Queue;
use crate::engine::shard::reactor::Reactor;
use crate::engine::sync::{AtomicU8, AtomicU64, Channel, Mutex, fence};
use crate::net::listener::Listener;
use crate::net::poller::Waker;

/// What a worker is to do after it looked after a shard.
pub enum Attended {
    /// Look at the queue.
    Work,
    /// Answer this.
    Run(Box<Exchange>),
    /// See to another shard.
    Go(usize),
    /// Go home.
    Stop,
}

/// The life of a shard, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Takes everybody.
    Serving,
    /// Takes nobody new and finishes what it has.
    Draining,
    /// Drops what it has.
    Aborting,
    /// Is over.
    Stopped,
}

/// One poller and its connections.
pub struct Shard {
    /// What its connections share.
    pub context: Arc<ShardContext>,
    /// Which requests wait.
    pub profile: BlockingProfile,
    pool: Arc<WorkerPool>,
    reactor: Mutex<Reactor>,
    // Requests for whoever leads.
    ready: Queue<Box<Exchange>>,
    // Connections whose requests were answered, in two states: their output not yet sent, and looked after already.
    answered: Queue<Box<Connection>>,
    returned: Queue<Box<Connection>>,
    // Exchanges that a panic swallowed.
    lost: Channel<usize>,
    waker: Waker,
    // Counts what whoever leads gets done.
    progress_count: AtomicU64,
    phase: AtomicU8,
    // Connections that are left while it drains.
    draining: AtomicU64,
}

impl Shard {
    /// A shard that accepts from `listeners` and is served by `pool`. With `once`, it takes one connection, serves one
    /// request on it and stops.
    pub fn new(
        context: Arc<ShardContext>,
        listeners: Vec<Arc<Listener>>,
        pool: Arc<WorkerPool>,
        once: bool,
    ) -> io::Result<Self> {
        let reactor = Reactor::new(Arc::clone(&context), listeners, once)?;
        Ok(Self {
            context,
            profile: BlockingProfile::default(),
            pool,
            waker: reactor.waker(),
            reactor: Mutex::new(reactor),
            ready: Queue::default(),
            answered: Queue::default(),
            returned: Queue::default(),
            lost: Channel::new(),
            progress_count: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Serving as u8),
            draining: AtomicU64::new(0),
        })
    }

    /// Wakes whoever waits for this shard's poller.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Where the shard is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Aborting,
            _ => Phase::Stopped,
        }
    }

    /// Connections that are left while it drains.
    pub fn draining(&self) -> usize {
        usize::try_from(self.draining.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(in crate::engine) fn note_draining(&self, connections: usize) {
        self.draining.store(connections as u64, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub fn is_stopped(&self) -> bool {
        self.phase() == Phase::Stopped
    }

    /// Whether somebody sees to the poller right now.
    pub fn is_attended(&self) -> bool {
        self.pool.is_attended(self.context.shard)
    }

    /// Shows the monitor that whoever leads is not held up.
    pub fn count_progress(&self) {
        self.progress_count.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was shown.
    pub fn progress(&self) -> u64 {
        self.progress_count.load(Ordering::SeqCst)
    }

    /// Moves the shard's life on; it never goes back. Safe from any thread and from a signal handler of Python's.
    pub fn enter(&self, phase: Phase) {
        // Before anybody sees the phase: what is answered from now on closes its connection.
        self.context.stop();
        if self.phase.fetch_max(phase as u8, Ordering::SeqCst) >= phase as u8 {
            return;
        }
        if phase == Phase::Stopped {
            self.pool.shard_stopped();
        }
        self.waker.wake();
        self.context.watch();
    }

    /// Lets the worker that leads begin to answer. `false`: as many requests run as may, and what is in line is for whoever
    /// is done first.
    pub fn begin(&self) -> bool {
        let seated = self.pool.acquire();
        if !seated {
            self.hand_over_queue();
        }
        seated
    }

    /// A worker has answered what it began.
    pub fn end(&self) {
        self.pool.release();
    }

    // The leader's line is for whoever becomes free first now, in any shard.
    pub(in crate::engine) fn hand_over_queue(&self) {
        while let Some(exchange) = self.ready.take() {
            self.pool.push(exchange);
        }
    }

    /// The next request for a worker that leads and has begun to answer.
    pub fn next(&self) -> Option<Box<Exchange>> {
        self.take_ready(|_| true).or_else(|| if self.pool.has_excess() { self.pool.take() } else { None })
    }

    fn take_ready(&self, wanted: impl FnOnce(&Exchange) -> bool) -> Option<Box<Exchange>> {
        self.pool.taken(self.ready.take_if(|exchange| wanted(exchange)))
    }

    /// The next request, which goes on being counted as long as its place is kept.
    pub(in crate::engine) fn take_with_place(&self) -> Option<(Box<Exchange>, AdmissionGuard)> {
        self.ready.take().map(|exchange| (exchange, self.pool.place(self.context.shard)))
    }

    /// A request that has been in line for longer than it may.
    pub(in crate::engine) fn take_overdue(&self, now: Instant) -> Option<Box<Exchange>> {
        let patience = self.context.options.queue_timeout;
        let overdue = |exchange: &Exchange| now.saturating_duration_since(exchange.arrived()) > patience;
        self.take_ready(overdue).or_else(|| self.pool.take_from(self.context.shard, overdue))
    }

    /// A request of this shard that waits in line.
    pub(in crate::engine) fn take_waiting(&self) -> Option<Box<Exchange>> {
        self.take_ready(|_| true).or_else(|| self.pool.take_from(self.context.shard, |_| true))
    }

    /// Gives back a connection whose request was answered. It is sent off when somebody next attends the shard.
    pub fn hand_back(&self, connection: Box<Connection>) {
        self.answered.put(connection);
        if self.is_stopped() {
            self.give_up_answered();
        }
    }

    /// A panic swallowed an exchange and its connection, whose place this is: the client learns of it by a reset.
    pub(in crate::engine) fn lose(&self, token: usize) {
        self.lost.put(token);
        self.waker.wake();
    }

    pub(in crate::engine) fn take_lost(&self) -> Option<usize> {
        self.lost.take()
    }

    /// A complete request, from the reactor. What is for whoever leads is left in `ours`, to be put in line later. `Err`: the
    /// queue is full.
    pub(in crate::engine) fn admit(
        &self,
        exchange: Box<Exchange>,
        ours: &mut VecDeque<Box<Exchange>>,
    ) -> Result<(), Box<Exchange>> {
        if !self.pool.admit(self.context.shard, self.context.options.queue_limit) {
            return Err(exchange);
        }
        if self.pool.has_followers() && (self.profile.is_blocking(exchange.key) || !self.pool.has_permit()) {
            self.pool.push(exchange);
        } else {
            ours.push_back(exchange);
        }
        Ok(())
    }

    /// Puts admitted requests in line for whoever leads.
    pub(in crate::engine) fn enqueue(&self, ours: &mut VecDeque<Box<Exchange>>) {
        self.ready.put_all(ours);
    }

    /// Takes the connections whose requests were answered.
    pub(in crate::engine) fn take_answered(&self, into: &mut VecDeque<Box<Connection>>) {
        self.answered.take_all(into);
        self.returned.take_all(into);
    }

    /// Whether requests wait for the thread that leads.
    pub(in crate::engine) fn has_work(&self) -> bool {
        (!self.ready.is_empty() || self.pool.has_excess()) && self.pool.has_permit()
    }

    /// Whether another shard's leader has nothing to do.
    pub(in crate::engine) fn has_idle_neighbour(&self) -> bool {
        self.pool.has_idle_neighbour(self.context.shard)
    }

    /// Whether a request or a connection is anywhere between the reactor and the workers.
    pub(in crate::engine) fn is_quiet(&self) -> bool {
        self.ready.is_empty() && self.answered.is_empty() && self.returned.is_empty()
    }

    /// Looks after the shard: leads if nobody does, otherwise sleeps until there is something to do. Blocks: call it
    /// detached.
    pub fn attend(&self) -> Attended {
        if self.is_stopped() {
            return if self.pool.all_shards_stopped() { Attended::Stop } else { self.park() };
        }
        self.with_reactor(|reactor| self.lead(reactor)).unwrap_or_else(|| {
            self.send_answers();
            // Whoever is awake anyway saves another the waking.
            self.pool.take_with_permit().map_or_else(|| self.park(), Attended::Run)
        })
    }

    fn lead(&self, reactor: &mut Reactor) -> Attended {
        if self.pool.is_any_running() {
            // Others may wait for the interpreter that this thread has just let go. On a busy processor it would have it back
            // before they run. (Requests that wait left 2 ms earlier beside a flood of quick ones.)
            std::thread::yield_now();
        }
        let _attendance = Attendance::begin(self);
        loop {
            let released = reactor.round(self, true);
            // Coming back to Python for a moment lets it free what was sent from its memory.
            if self.is_stopped() || self.has_work() || released {
                return Attended::Work;
            }
        }
    }

    // Somebody else holds the poller, perhaps asleep in the kernel: sends what this worker answered without it.
    pub(in crate::engine) fn send_answers(&self) {
        while let Some(mut connection) = self.answered.take() {
            let (token, transport) = (connection.token, Arc::clone(&connection.transport));
            let sent = self.context.guard("one connection", || {
                connection.send();
                connection
            });
            let Some(connection) = sent else {
                self.lose(token);
                continue;
            };
            let eager = connection.is_eager();
            self.returned.put(connection);
            // The reactor notes a change of the socket first and looks at `returned` after; we do the reverse.
            fence(Ordering::SeqCst);
            if eager || transport.was_ready_while_away() || self.phase() != Phase::Serving {
                self.waker.wake();
            }
        }
    }

    fn park(&self) -> Attended {
        match self.pool.park() {
            (_, Some(exchange)) => Attended::Run(exchange),
            (Command::TakeOver(shard), None) => Attended::Go(shard),
            (Command::Run, None) => Attended::Work,
            (Command::Stop, None) => Attended::Stop,
        }
    }

    /// The leader is held up: sends somebody else, or does what needs no application at once. From the monitor.
    pub(in crate::engine) fn take_over(&self) {
        if self.pool.send_to(self.context.shard) {
            return;
        }
        self.hand_over_queue();
        if self.pool.has_excess() {
            self.pool.wake_idle_leaders();
        }
        self.with_reactor(|reactor| reactor.round(self, false));
    }

    /// Has the reactor do `work`, unless somebody else holds it.
    pub(in crate::engine) fn with_reactor<T>(&self, work: impl FnOnce(&mut Reactor) -> T) -> Option<T> {
        match self.reactor.try_lock() {
            Ok(mut reactor) => Some(work(&mut reactor)),
            // A panic in the reactor costs the connection it was at; the reactor itself goes on.
            Err(TryLockError::Poisoned(poisoned)) => Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[cfg(test)]
    pub(in crate::engine) fn reactor(&self) -> &Mutex<Reactor> {
        &self.reactor
    }

    /// Ends what is left when every worker has gone or been given up: connections close, queues empty.
    pub fn clear(&self) {
        while self.take_ready(|_| true).is_some() {}
        self.pool.clear();
        self.give_up_answered();
        // Threads may be inside the application still.
        self.with_reactor(|reactor| reactor.end_all(self));
    }

    // What is answered after the end is not sent; the observers still learn of it.
    fn give_up_answered(&self) {
        let mut answered = VecDeque::new();
        self.take_answered(&mut answered);
        for mut connection in answered {
            connection.give_up(Cause::Stopped);
        }
    }
}

// Somebody leads, until this goes, be it by a panic.
struct Attendance<'a>(&'a Shard);

impl<'a> Attendance<'a> {
    fn begin(shard: &'a Shard) -> Self {
        shard.pool.set_attended(shard.context.shard, true);
        Self(shard)
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let Self(shard) = self;
        shard.count_progress();
        shard.pool.set_attended(shard.context.shard, false);
        shard.context.watch();
    }
}

#[cfg(test)]
mod tests;
