//! The poller's side of a shard: accepts, moves connections along, keeps their deadlines. Used by one thread at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::engine::connection::deadlines::EvictionPriority;
use crate::engine::connection::{Connection, SHARE, Step, Turn};
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::gateway::Severity;
use crate::engine::observe::Scarce;
use crate::engine::shard::Shard;
use crate::engine::shard::acceptor::{LOOK, ListenerState};
use crate::engine::shard::connection_table::ConnectionTable;
use crate::engine::shard::timers::Timers;
use crate::http::reject::Reject;
use crate::net::listener::Listener;
use crate::net::poller::{Poller, Readiness, Waker};

/// Changes of readiness taken from the kernel at a time.
const EVENTS: usize = 256;
/// The shared receive buffer; a connection keeps bytes of its own only while a request is incomplete.
const SCRATCH: usize = 64 * 1024;
/// While requests are queued, the kernel is asked for more at least this often.
const POLL_EVERY: Duration = Duration::from_millis(1);
/// How soon the deadline of a connection is looked at again that is with a worker.
const RECHECK: Duration = Duration::from_secs(5);
/// What a panic in the corridor costs.
const CONNECTION: &str = "one connection";
/// Listeners are watched under numbers from here on; connections never reach them.
const LISTENERS: usize = usize::MAX / 2;

/// One poller and its connections.
pub struct Reactor {
    pub(in crate::engine) context: Arc<ShardContext>,
    pub(in crate::engine) poller: Poller,
    events: Vec<Readiness>,
    pub(in crate::engine) listeners: Vec<ListenerState>,
    pub(in crate::engine) connections: ConnectionTable,
    pub(in crate::engine) timers: Timers,
    again: Vec<usize>,
    // What is on its way from the workers, and to them.
    answered: VecDeque<Box<Connection>>,
    admitted: VecDeque<Box<Exchange>>,
    scratch: Box<[u8]>,
    pub(in crate::engine) clock: Clock,
    polled: Instant,
    pub(in crate::engine) accept_after: Option<Instant>,
    // Connections that can make room for others, the first to go at the end, and when they are looked for again.
    pub(in crate::engine) candidates: Vec<(EvictionPriority, usize)>,
    pub(in crate::engine) look_after: Option<Instant>,
    // When a thread that waits for a slow client is looked for again.
    pub(in crate::engine) free_after: Option<Instant>,
    pub(in crate::engine) once: bool,
    pub(in crate::engine) drain_until: Option<Instant>,
    // When responses that have not come to their end are cut.
    pub(in crate::engine) cut_after: Option<Instant>,
    released: bool,
    // How often room in temporary files had been taken from the slow when that was last looked at.
    revoked: u64,
    // Connections that changed while others had them, if anybody wants to know.
    changed: Option<Vec<usize>>,
}

impl Reactor {
    /// A reactor that watches `listeners`.
    pub fn new(context: Arc<ShardContext>, listeners: Vec<Arc<Listener>>, once: bool) -> io::Result<Self> {
        let poller = Poller::new(EVENTS)?;
        let now = Instant::now();
        for (index, listener) in listeners.iter().enumerate() {
            poller.watch_listener(listener.descriptor(), LISTENERS + index)?;
        }
        Ok(Self {
            context,
            poller,
            events: Vec::with_capacity(EVENTS),
            listeners: listeners.into_iter().map(|listener| ListenerState { listener, open: true }).collect(),
            connections: ConnectionTable::default(),
            timers: Timers::new(now),
            again: Vec::new(),
            answered: VecDeque::new(),
            admitted: VecDeque::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            clock: Clock::new(now),
            polled: now,
            accept_after: None,
            candidates: Vec::new(),
            look_after: None,
            free_after: None,
            once,
            drain_until: None,
            cut_after: None,
            released: false,
            revoked: 0,
            changed: None,
        })
    }

    /// Notes from now on which connections change while others have them.
    pub(in crate::engine) fn note_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    pub(in crate::engine) fn take_changed(&mut self) -> Vec<usize> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How soon another round is due even if the kernel is silent; `None`: not at all.
    pub(in crate::engine) fn next_look(&self, now: Instant) -> Option<Duration> {
        if self.again.is_empty() && !self.may_accept(now) { self.patience(now) } else { Some(Duration::ZERO) }
    }

    /// Takes back what was answered, and sends it, without asking the kernel what has changed.
    pub(in crate::engine) fn collect(&mut self, shard: &Shard) {
        let now = Instant::now();
        self.take_back(shard, now);
        self.follow_phase(shard, now);
        shard.enqueue(&mut self.admitted);
    }

    /// A handle that wakes this reactor from its wait.
    pub fn waker(&self) -> Waker {
        self.poller.waker()
    }

    pub(in crate::engine) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// One round: takes back what workers are done with, waits for the kernel (if `may_wait` and there is nothing else to
    /// do), and moves along whatever changed. Returns whether bytes that belong to the application were let go.
    pub fn round(&mut self, shard: &Shard, may_wait: bool) -> bool {
        self.go_round(shard, may_wait);
        shard.enqueue(&mut self.admitted);
        std::mem::take(&mut self.released)
    }

    fn go_round(&mut self, shard: &Shard, may_wait: bool) {
        let mut now = Instant::now();
        self.take_back(shard, now);
        self.follow_phase(shard, now);
        if shard.is_stopped() {
            return;
        }
        // What was pipelined behind an answer must not wait for the kernel.
        shard.enqueue(&mut self.admitted);
        let busy = shard.has_work();
        if !busy {
            // Seats may have been taken since requests came into line: whoever rises first answers those.
            shard.hand_over_queue();
        }
        if !busy || now.duration_since(self.polled) >= POLL_EVERY {
            let idle = may_wait && !busy && self.again.is_empty() && !self.may_accept(now);
            let timeout = if idle { self.patience(now) } else { Some(Duration::ZERO) };
            if let Err(error) = self.poller.wait(timeout, &mut self.events) {
                self.context.reporter.report(Severity::Error, &format!("waiting for the network failed: {error}"));
                self.events.clear();
            }
            now = Instant::now();
            self.polled = now;
            self.handle_events(shard, now);
            self.go_on(shard, now);
            self.take_back(shard, now);
            // Where the workers of this shard are all busy, clients are left to a shard that can serve them.
            if may_wait || !shard.has_idle_neighbour() {
                self.accept(now);
            }
            self.expire(shard, now);
            self.decline_overdue(shard, now);
            self.free_thread(now);
            // Polled after the events, so that a worker that gave a connection back meanwhile need not wake us.
            self.take_back(shard, now);
        }
        self.drop_revoked(shard, now);
        self.follow_phase(shard, now);
        self.context.report_spool();
        self.context.report_stall(now);
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        // No event says that a connection can now make room for the clients that wait outside.
        let full = self.connections() >= self.context.options.max_connections
            && self.listeners.iter().any(|listener| listener.open);
        // Nor that a request has been in line for too long.
        let look = (full || self.context.pool.is_pressed() || self.context.pool.is_stalling()).then_some(now + LOOK);
        [self.timers.next(), look, self.accept_after, self.cut_after, self.drain_until]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn take_back(&mut self, shard: &Shard, now: Instant) {
        shard.take_answered(&mut self.answered);
        // One at a time, so that a panic costs no other.
        while let Some(mut connection) = self.answered.pop_front() {
            let (ready_while_away, ended) = connection.transport.take_ready_while_away();
            connection.note(ready_while_away, ended);
            self.move_along(shard, connection, now, Connection::advance);
        }
        while let Some(token) = shard.take_lost() {
            if let Some(transport) = self.connections.transport(token) {
                self.context.streaming.remove(transport);
                transport.stream().reset_on_close();
            }
            self.forget(token);
        }
    }

    fn handle_events(&mut self, shard: &Shard, now: Instant) {
        let events = std::mem::take(&mut self.events);
        for event in &events {
            if event.token >= LISTENERS {
                if let Some(listener) = self.listeners.get_mut(event.token - LISTENERS) {
                    listener.open = true;
                }
                continue;
            }
            if !event.readable && !event.ended && self.connections.is_parked(event.token) {
                continue;
            }
            if let Some(mut connection) = self.connections.take(event.token, &self.context) {
                connection.note(event.readable, event.ended);
                self.move_along(shard, connection, now, Connection::advance);
            } else if let Some(transport) = self.connections.transport(event.token) {
                transport.note_ready_while_away(event.ended);
                if let Some(changed) = &mut self.changed {
                    changed.push(event.token);
                }
                if event.writable {
                    // A broken connection is found by its owner, at its next write.
                    drop(transport.flush());
                }
            }
        }
        self.events = events;
    }

    fn go_on(&mut self, shard: &Shard, now: Instant) {
        for token in std::mem::take(&mut self.again) {
            self.connections.delist(token);
            if let Some(connection) = self.connections.take(token, &self.context) {
                self.move_along(shard, connection, now, Connection::advance);
            }
        }
    }

    // Also while every worker is inside the application: the leader comes by every [`LOOK`] then, or the monitor.
    fn decline_overdue(&mut self, shard: &Shard, now: Instant) {
        while let Some(exchange) = shard.take_overdue(now) {
            self.decline(exchange, Reject::QueueTimeout, now);
        }
    }

    // Closes the connections whose room in temporary files others have by now.
    fn drop_revoked(&mut self, shard: &Shard, now: Instant) {
        let revoked = self.context.spool.revoked();
        if std::mem::replace(&mut self.revoked, revoked) == revoked {
            return;
        }
        for token in self.connections.places() {
            if self.connections.is_served(token) {
                if self.connections.transport(token).is_some_and(|transport| transport.output().is_revoked()) {
                    self.evict(token, Scarce::Spool);
                }
            } else if self.connections.connection(token).is_some_and(|connection| connection.is_revoked()) {
                if let Some(connection) = self.connections.take(token, &self.context) {
                    self.move_along(shard, connection, now, Connection::revoke);
                }
            }
        }
    }

    pub(in crate::engine) fn decline(&mut self, exchange: Box<Exchange>, reject: Reject, now: Instant) {
        let token = exchange.connection.token;
        let date = *self.clock.date(now);
        let mut turn = Turn { now, date: &date, scratch: &mut self.scratch, share: SHARE };
        let step = self.context.guard(CONNECTION, || Connection::decline(exchange, reject, &mut turn));
        self.place(token, Some(step.unwrap_or(Step::Closed)));
    }

    // The corridor, with everything around it: a panic costs the connection it happened on, and no more.
    pub(in crate::engine) fn move_along(
        &mut self,
        shard: &Shard,
        connection: Box<Connection>,
        now: Instant,
        through: impl FnOnce(Box<Connection>, &mut Turn<'_>) -> Step,
    ) {
        let token = connection.token;
        let date = *self.clock.date(now);
        let mut turn = Turn { now, date: &date, scratch: &mut self.scratch, share: SHARE };
        let step = self.context.guard(CONNECTION, || {
            let step = through(connection, &mut turn);
            match step {
                Step::Ready(exchange) => match shard.admit(exchange, &mut self.admitted) {
                    Ok(()) => None,
                    Err(exchange) => Some(Connection::decline(exchange, Reject::QueueFull, &mut turn)),
                },
                step => Some(step),
            }
        });
        self.place(token, step.unwrap_or(Some(Step::Closed)));
    }

    fn place(&mut self, token: usize, step: Option<Step>) {
        match step {
            // With a worker now.
            None => {}
            Some(Step::Wait(connection)) => self.keep(token, connection),
            Some(Step::Again(connection)) => {
                self.keep(token, connection);
                if self.connections.enlist(token) {
                    self.again.push(token);
                }
            }
            // A declined exchange cannot be ready again: its connection closes.
            Some(Step::Ready(_) | Step::Closed) => self.forget(token),
        }
    }

    fn keep(&mut self, token: usize, mut connection: Box<Connection>) {
        self.released |= connection.take_released();
        if let Some(deadline) = connection.deadline() {
            self.connections.schedule(token, deadline, &mut self.timers);
        }
        self.connections.keep(token, connection);
    }

    /// Gives a new connection its place.
    pub(in crate::engine) fn add(&mut self, connection: Box<Connection>) {
        self.connections.open(&connection.transport);
        self.keep(connection.token, connection);
    }

    pub(in crate::engine) fn forget(&mut self, token: usize) {
        if let Some(transport) = self.connections.remove(token) {
            self.released |= transport.output().take_released();
        }
    }

    fn expire(&mut self, shard: &Shard, now: Instant) {
        while let Some((tick, place)) = self.timers.pop(now) {
            let token = place as usize;
            if !self.connections.unschedule(token, tick) {
                continue;
            }
            match self.connections.deadline(token, &self.context) {
                Some(deadline) if deadline <= now => {
                    if let Some(connection) = self.connections.take(token, &self.context) {
                        self.move_along(shard, connection, now, Connection::expire);
                    }
                }
                Some(deadline) => self.connections.schedule(token, deadline, &mut self.timers),
                // With a worker.
                None => self.connections.schedule(token, now + RECHECK, &mut self.timers),
            }
        }
        self.timers.shrink();
    }
}

#[cfg(test)]
#[path = "reactor_tests.rs"]
mod tests;
