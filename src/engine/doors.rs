//! The reactor's doors: clients are let in, and room is made for them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::gateway::Severity;
use super::reactor::{Reactor, Slot};
use super::shard::Shard;
use super::wire::Wire;
use crate::net::address::Peer;
use crate::net::listener::{Accepted, Listener};
use crate::net::stream::Stream;

/// Clients accepted before those that are here get their turn.
const ACCEPTS: usize = 64;
/// How long accepting pauses when descriptors have run out.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often running out of descriptors is reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// A listener, and what is known of its queue.
pub(super) struct Door {
    pub listener: Arc<Listener>,
    // Clients may be waiting: the kernel says so only once.
    pub open: bool,
}

impl Reactor {
    pub(super) fn may_accept(&self, now: Instant) -> bool {
        self.accept_after.is_none_or(|after| after <= now)
            && self.doors.iter().any(|door| door.open)
            && self.connections() < self.site.options.max_connections
    }

    pub(super) fn accept(&mut self, shard: &Shard, now: Instant) {
        if self.accept_after.is_some_and(|after| after > now) {
            return;
        }
        self.accept_after = None;
        for index in 0..self.doors.len() {
            for _ in 0..ACCEPTS {
                if !self.doors.get(index).is_some_and(|door| door.open) {
                    break;
                }
                // Idle connections never starve new clients: the one that comes up next makes room.
                let full = self.connections() >= self.site.options.max_connections;
                let spare = if full { self.find_idle(now) } else { None };
                if full && spare.is_none() {
                    return;
                }
                match self.doors[index].listener.accept() {
                    Accepted::Client(stream, peer) => {
                        if let Some(token) = spare {
                            self.forget(token);
                        }
                        self.welcome(stream, peer, index, now);
                        if self.once {
                            shard.site.stop();
                            self.close_doors();
                            return;
                        }
                    }
                    Accepted::Nobody => self.doors[index].open = false,
                    Accepted::Vanished => {}
                    Accepted::Exhausted(error) => {
                        match self.find_idle(now) {
                            Some(token) => self.forget(token),
                            None => self.accept_after = Some(now + ACCEPT_PAUSE),
                        }
                        self.report_refusal(
                            shard,
                            &error,
                            "; if files have run out, raise their limit or lower max_connections",
                            now,
                        );
                        return;
                    }
                    Accepted::Failed(error) => {
                        self.accept_after = Some(now + ACCEPT_PAUSE);
                        self.report_refusal(shard, &error, "", now);
                        break;
                    }
                }
            }
        }
    }

    fn report_refusal(&self, shard: &Shard, error: &io::Error, advice: &str, now: Instant) {
        if shard.may_report(now, REPORT_EVERY) {
            let message = format!("cannot accept connections: {error}{advice}");
            self.site.reporter.report(Severity::Error, &message);
        }
    }

    pub(super) fn welcome(&mut self, stream: Stream, peer: Peer, listener: usize, now: Instant) -> Option<usize> {
        let token = self.free.last().copied().unwrap_or(self.slots.len());
        if let Some(descriptor) = stream.descriptor() {
            // Only a kernel without memory refuses this; the client is turned away.
            self.poller.watch(descriptor, token).ok()?;
        }
        if self.free.pop().is_none() {
            self.slots.push(Slot::default());
        }
        let wire = Arc::new(Wire::new(stream));
        self.slots[token].wire = Some(Arc::clone(&wire));
        let connection = Connection::new(wire, Arc::clone(&self.site), peer, listener, token, now);
        self.keep(token, Box::new(connection));
        Some(token)
    }

    // A connection that can make room for another, going round so that each gets its turn.
    fn find_idle(&mut self, now: Instant) -> Option<usize> {
        for _ in 0..self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            if self.slots[self.hand].connection.as_ref().is_some_and(|connection| connection.is_spare(now)) {
                return Some(self.hand);
            }
        }
        None
    }

    pub(super) fn close_doors(&mut self) {
        for door in self.doors.drain(..) {
            self.poller.forget(door.listener.descriptor());
        }
    }
}
