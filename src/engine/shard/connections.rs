//! The connections of a shard with what each has elsewhere: a registration with the poller, an entry in the timers, and a
//! request inside the application.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::connection::Connection;
use crate::engine::connection::idle::IdleConnection;
use crate::engine::context::ShardContext;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::observe::{Cause, Scarce};
use crate::engine::report::Trouble;
use crate::engine::shard::connection_table::ConnectionTable;
use crate::engine::shard::timers::Timers;
use crate::engine::transport::Transport;
use crate::engine::transport::client_rate::SLOW_CLIENT_GRACE;
use crate::net::address::Peer;
use crate::net::poller::Poller;
use crate::net::stream::Stream;

/// How soon the deadline of a connection that a worker has is checked again.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The connections of a shard.
pub(in crate::engine) struct Connections {
    context: Arc<ShardContext>,
    /// Their requests that are inside the application.
    pub in_flight: Arc<dyn InFlight>,
    /// Where each of them is.
    pub table: ConnectionTable,
    timers: Timers,
    has_released: bool,
}

impl Connections {
    /// No connections.
    pub fn new(context: Arc<ShardContext>, in_flight: Arc<dyn InFlight>, now: Instant) -> Self {
        let (table, timers) = (ConnectionTable::default(), Timers::new(now));
        Self { context, in_flight, table, timers, has_released: false }
    }

    /// Whether bytes that belong to the application were let go since this was last asked.
    pub fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.has_released)
    }

    /// Adds a client that was accepted. `None`: it is turned away.
    pub fn add(&mut self, stream: Stream, peer: Peer, listener: usize, poller: &Poller, now: Instant) -> Option<usize> {
        if !self.context.admits(peer, now) {
            return None;
        }
        self.insert(stream, poller, |transport, context, ticket| {
            Connection::new(transport, context, peer.into(), listener, ticket, now)
        })
    }

    /// Adds a connection that another process has handed over. `None`: the kernel refuses it.
    pub fn resume(&mut self, stream: Stream, idle: &IdleConnection, poller: &Poller) -> Option<usize> {
        self.insert(stream, poller, |transport, context, ticket| Connection::resumed(transport, context, ticket, idle))
    }

    fn insert(
        &mut self,
        stream: Stream,
        poller: &Poller,
        make: impl FnOnce(Arc<Transport>, Arc<ShardContext>, Ticket) -> Connection,
    ) -> Option<usize> {
        let ticket = self.table.next_ticket(self.context.shard);
        let token = ticket.slot;
        if let Some(descriptor) = stream.descriptor() {
            // Only a kernel without memory refuses this.
            poller.watch(descriptor, token).ok()?;
        }
        self.table.insert(Box::new(make(Arc::new(Transport::new(stream)), Arc::clone(&self.context), ticket)));
        self.settle(token);
        Some(token)
    }

    /// Hands a connection that waits for a request over to another process, by `send`. `false`: it waits for one, and is still
    /// here. What a record layer knows cannot be handed over: such a connection stays until its next response.
    pub fn hand_over(
        &mut self,
        token: usize,
        poller: &Poller,
        send: impl FnOnce(BorrowedFd<'_>, &IdleConnection) -> bool,
    ) -> bool {
        let Some((stream, idle)) = self.table.idle(token) else { return !self.table.is_idle(token) };
        if stream.is_encrypted() {
            return true;
        }
        let Some(descriptor) = stream.descriptor() else { return false };
        // Not after it was sent: the poller would report what the connection does in the other process (epoll(7)).
        poller.forget(descriptor);
        // What comes in between is reported when it is watched again.
        let is_kept = !send(descriptor, &idle) && poller.watch(descriptor, token).is_ok();
        if !is_kept {
            self.forget(token);
        }
        !is_kept
    }

    /// The connection was moved along, and waits.
    pub fn settle(&mut self, token: usize) {
        self.has_released |= self.table.settle(token, &mut self.timers);
    }

    /// Ends a connection, whose socket closes with its last owner.
    pub fn forget(&mut self, token: usize) {
        if let Some(transport) = self.table.remove(token) {
            self.has_released |= transport.output().take_released();
        }
    }

    /// Ends all connections that wait for a request.
    pub fn forget_idle(&mut self) {
        for token in self.table.places() {
            if self.table.is_idle(token) {
                self.forget(token);
            }
        }
    }

    /// Resets a connection whose exchange was dropped by a panic.
    pub fn reset_lost(&mut self, ticket: &Ticket) {
        if let Some(connection) = self.table.of(ticket) {
            self.context.streaming.remove(&connection.transport);
            connection.transport.stream().reset_on_close();
            self.forget(ticket.slot);
        }
    }

    /// When the next deadline may be due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next connection whose deadline has passed.
    pub fn next_expired(&mut self, now: Instant) -> Option<usize> {
        while let Some((tick, place)) = self.timers.pop(now) {
            let token = place as usize;
            if !self.table.unschedule(token, tick) {
                continue;
            }
            match self.table.deadline(token, &self.context) {
                Some(deadline) if deadline <= now => return Some(token),
                Some(deadline) => self.table.schedule(token, deadline, &mut self.timers),
                // With a worker.
                None => self.table.schedule(token, now + RECHECK_INTERVAL, &mut self.timers),
            }
        }
        self.timers.shrink();
        None
    }

    /// Closes a connection in favour of a new one. A connection that idles loses nothing by it.
    pub fn make_room(&mut self, token: usize, poller: &Poller, now: Instant) {
        if self.table.is_serving(token) {
            if self.evict(token, Scarce::Connections, poller) {
                self.context.reports.count(Trouble::Evictions, now);
            }
            return;
        }
        if let Some(connection) = self.table.connection(token).filter(|connection| connection.is_busy()) {
            if connection.is_answering() {
                connection.give_up(Cause::Evicted(Scarce::Connections));
            } else {
                self.context.report_closed(connection.client(), Cause::Evicted(Scarce::Connections).text());
            }
            self.context.reports.count(Trouble::Evictions, now);
        }
        self.forget(token);
    }

    /// Frees a thread that waits for the request body of a slow client. One that waits for its client to read goes on without it,
    /// into a temporary file.
    pub fn free_thread(&mut self, poller: &Poller, now: Instant) {
        let since = |token| Some((self.table.transport(token)?.receive_wait()?, token));
        let slowest = self.table.places().filter_map(since).min();
        if let Some((_, token)) =
            slowest.filter(|(since, _)| now.saturating_duration_since(*since) >= SLOW_CLIENT_GRACE)
        {
            if self.evict(token, Scarce::Threads, poller) {
                self.context.reports.count(Trouble::ThreadEvictions, now);
            }
        }
    }

    /// Ends a request whose application waits for a slow client: the application learns that its client has gone. `false`: it has
    /// come to its end meanwhile.
    pub fn evict(&mut self, token: usize, scarce: Scarce, poller: &Poller) -> bool {
        let Some(connection) = self.table.connection(token) else { return false };
        let transport = Arc::clone(&connection.transport);
        let cause = Cause::Evicted(scarce);
        match self.in_flight.take(self.context.shard, Cut::Connection(connection.ticket())).pop() {
            Some(mut exchange) => {
                exchange.evict(cause);
                let ends_by_reset = exchange.is_until_close();
                let now = Instant::now();
                connection.take_back(Finished::answered(exchange, now), now);
                connection.give_up(cause);
                if let Some(descriptor) = transport.stream().descriptor() {
                    // A thread may hold the socket for a moment, and its events must not reach the connection that gets the token.
                    poller.forget(descriptor);
                }
                self.forget(token);
                // Wakes the thread.
                if Arc::strong_count(&transport) > 1 && !ends_by_reset {
                    transport.stream().abandon();
                }
            }
            // The request is on its way back, unless its body is being read.
            None if transport.receive_wait().is_some() => transport.stream().abandon(),
            None => return false,
        }
        true
    }

    /// Drops every connection, also those of threads that are still inside the application.
    pub fn clear(&mut self) {
        for token in self.table.places() {
            let Some(connection) = self.table.connection(token) else { continue };
            if connection.is_serving() {
                connection.transport.stream().reset_on_close();
                connection.transport.stream().abandon();
            } else if connection.is_answering() {
                connection.give_up(Cause::Stopped);
            }
        }
        self.table = ConnectionTable::default();
        self.timers.clear();
    }
}
