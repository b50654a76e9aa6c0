//! The reactor's listeners: clients are let in, and room is made for them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::connection::Connection;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::gateway::Severity;
use crate::engine::observe::{Cause, Scarce};
use crate::engine::scheduling::pool::Trouble;
use crate::engine::shard::reactor::Reactor;
use crate::engine::transport::Transport;
use crate::engine::transport::client_rate::SLOW_CLIENT_GRACE;
use crate::net::address::Peer;
use crate::net::listener::{Accepted, Listener};
use crate::net::stream::Stream;

/// Clients accepted before those that are here get their turn.
const ACCEPTS: usize = 64;
/// How often connections are looked through for one that can make room, and the line for requests that are overdue.
pub(in crate::engine) const LOOK: Duration = Duration::from_millis(50);
/// How long accepting pauses when descriptors have run out.
pub(in crate::engine) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener, and what is known of its queue.
pub(in crate::engine) struct ListenerState {
    pub listener: Arc<Listener>,
    // Clients may be waiting: the kernel says so only once.
    pub open: bool,
}

impl Reactor {
    pub(in crate::engine) fn may_accept(&self, now: Instant) -> bool {
        self.accept_after.is_none_or(|after| after <= now)
            && self.listeners.iter().any(|listener| listener.open)
            && self.connections() < self.context.options.max_connections
    }

    pub(in crate::engine) fn accept(&mut self, now: Instant) {
        if self.accept_after.is_some_and(|after| after > now) {
            return;
        }
        self.accept_after = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                if !self.listeners.get(index).is_some_and(|listener| listener.open) {
                    break;
                }
                // Neither idle nor slow connections starve new clients; but while nobody comes, nobody has to go.
                let full = self.connections() >= self.context.options.max_connections;
                if full && !self.listeners[index].listener.has_client() {
                    self.listeners[index].open = false;
                    break;
                }
                let spare = if full { self.find_eviction_candidate(now) } else { None };
                if full && spare.is_none() {
                    self.report_crowding(now);
                    return;
                }
                match self.listeners[index].listener.accept() {
                    Accepted::Client(stream, peer) => {
                        if let Some(token) = spare {
                            self.give_up(token);
                        }
                        self.add_client(stream, peer, index, now);
                        if self.once {
                            self.context.stop();
                            self.close_listeners();
                            return;
                        }
                    }
                    Accepted::Nobody => self.listeners[index].open = false,
                    Accepted::Vanished => {}
                    Accepted::Exhausted(error) => {
                        match self.find_eviction_candidate(now) {
                            Some(token) => self.give_up(token),
                            None => self.accept_after = Some(now + ACCEPT_PAUSE),
                        }
                        let advice = "; if files have run out, raise their limit or lower max_connections";
                        self.report_refusal(&error, advice, now);
                        return;
                    }
                    Accepted::Failed(error) => {
                        self.accept_after = Some(now + ACCEPT_PAUSE);
                        self.report_refusal(&error, "", now);
                        break;
                    }
                }
            }
        }
    }

    // Closes a connection for the sake of another. One that idles loses nothing by it.
    fn give_up(&mut self, token: usize) {
        if self.connections.is_served(token) {
            if self.evict(token, Scarce::Connections) {
                self.context.count_trouble(Trouble::Evictions);
            }
            return;
        }
        if let Some(connection) = self.connections.connection(token).filter(|connection| connection.is_busy()) {
            if connection.is_answering() {
                connection.give_up(Cause::Evicted(Scarce::Connections));
            } else {
                self.context.report_closed(connection.client, Cause::Evicted(Scarce::Connections).text());
            }
            self.context.count_trouble(Trouble::Evictions);
        }
        self.forget(token);
    }

    // Ends a request whose application waits for a slow client, which has to make room for others: the application learns that
    // its client has gone. `false`: it has come to its end meanwhile.
    pub(in crate::engine) fn evict(&mut self, token: usize, scarce: Scarce) -> bool {
        let Some(transport) = self.connections.transport(token).map(Arc::clone) else { return false };
        let cause = Cause::Evicted(scarce);
        match self.context.in_flight.take(self.context.shard, Cut::Connection(token)).pop() {
            Some(mut exchange) => {
                exchange.evict(cause);
                let ends_by_reset = exchange.is_until_close();
                Connection::conclude(exchange, Instant::now()).give_up(cause);
                if let Some(descriptor) = transport.stream().descriptor() {
                    // A thread may hold the socket for a moment, and its events would be taken for those of the newcomer.
                    self.poller.forget(descriptor);
                }
                self.forget(token);
                // The thread wakes.
                if Arc::strong_count(&transport) > 1 && !ends_by_reset {
                    transport.stream().abandon();
                }
            }
            // It is on its way back, but for a body that is being read.
            None if transport.receive_wait().is_some() => transport.stream().abandon(),
            None => return false,
        }
        true
    }

    // Requests wait, and every thread is taken: a thread that waits for the body of a slow client is freed, one at a time. (One
    // that waits for its client to read goes on without it, into a temporary file.)
    pub(in crate::engine) fn free_thread(&mut self, now: Instant) {
        if !self.context.pool.is_pressed() || self.free_after.is_some_and(|after| after > now) {
            return;
        }
        self.free_after = Some(now + LOOK);
        let since = |token| Some((self.connections.transport(token)?.receive_wait()?, token));
        let slowest = self.connections.places().filter_map(since).min();
        if let Some((_, token)) =
            slowest.filter(|(since, _)| now.saturating_duration_since(*since) >= SLOW_CLIENT_GRACE)
        {
            if self.evict(token, Scarce::Threads) {
                self.context.count_trouble(Trouble::ThreadEvictions);
            }
        }
    }

    fn report_crowding(&self, now: Instant) {
        if self.context.pool.may_report(Trouble::Accept, now) {
            let message = format!(
                "cannot accept connections: all {} are busy; raise max_connections, or the limit of open files, of which \
                 connections get five eighths",
                self.connections()
            );
            self.context.reporter.report(Severity::Warning, &message);
        }
    }

    fn report_refusal(&self, error: &io::Error, advice: &str, now: Instant) {
        if self.context.pool.may_report(Trouble::Accept, now) {
            let message = format!("cannot accept connections: {error}{advice}");
            self.context.reporter.report(Severity::Error, &message);
        }
    }

    pub(in crate::engine) fn add_client(
        &mut self,
        stream: Stream,
        peer: Peer,
        listener: usize,
        now: Instant,
    ) -> Option<usize> {
        if !self.context.admits(peer, now) {
            return None;
        }
        let token = self.connections.next_place();
        if let Some(descriptor) = stream.descriptor() {
            // Only a kernel without memory refuses this; the client is turned away.
            self.poller.watch(descriptor, token).ok()?;
        }
        let transport = Arc::new(Transport::new(stream));
        let connection = Connection::new(transport, Arc::clone(&self.context), peer.into(), listener, token, now);
        self.add(Box::new(connection));
        Some(token)
    }

    // A connection that can make room for another. All are looked through at most once in a while, because a crowd of
    // clients outside must not cost a look at a crowd inside for each.
    fn find_eviction_candidate(&mut self, now: Instant) -> Option<usize> {
        if self.candidates.is_empty() && self.look_after.is_none_or(|after| after <= now) {
            self.look_after = Some(now + LOOK);
            let spare = |token| Some((self.connections.eviction_priority(token, now)?, token));
            let mut found: Vec<_> = self.connections.places().filter_map(spare).collect();
            found.sort_unstable();
            self.candidates = found;
        }
        while let Some((found, token)) = self.candidates.pop() {
            // Whoever has done something since then is less spare than it was.
            if self.connections.eviction_priority(token, now) >= Some(found) {
                return Some(token);
            }
        }
        None
    }

    pub(in crate::engine) fn close_listeners(&mut self) {
        for listener in self.listeners.drain(..) {
            self.poller.forget(listener.listener.descriptor());
        }
    }
}
