//! The end of a shard: what is let finish when the server stops, and what is cut.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::after;
use crate::engine::connection::Connection;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::gateway::Severity;
use crate::engine::observe::Cause;
use crate::engine::shard::connection_table::ConnectionTable;
use crate::engine::shard::reactor::Reactor;
use crate::engine::shard::{Phase, Shard};
use crate::http::head::RequestHead;
use crate::http::reject::Reject;
use crate::net::listener::Accepted;

/// Clients accepted at the most when the server stops: more than the kernel's queue usually holds.
const DRAIN_ACCEPTS: usize = 16 * 1024;
/// Requests that are named in one line of the log.
const NAMED: usize = 5;

impl Reactor {
    pub(in crate::engine) fn follow_phase(&mut self, shard: &Shard, now: Instant) {
        match shard.phase() {
            Phase::Serving => {
                if self.once && self.listeners.is_empty() && self.connections() == 0 {
                    shard.enter(Phase::Stopped);
                }
            }
            Phase::Draining => {
                if self.drain_until.is_none() {
                    self.begin_draining(shard, now);
                }
                let cuts = self.cut(shard, Cut::EventStreams, now);
                self.tell(&cuts, Severity::Info, "ended", "event stream", "");
                let over = self.drain_until.is_some_and(|until| until <= now);
                if !over && self.cut_after.is_some_and(|after| after <= now) {
                    self.cut_after = None;
                    let cuts = self.cut(shard, Cut::Unfinished, now);
                    self.tell(
                        &cuts,
                        Severity::Warning,
                        "cut",
                        "response",
                        ", unfinished after half of graceful_timeout",
                    );
                }
                shard.note_draining(self.connections());
                if self.connections() == 0 && shard.is_quiet() {
                    shard.enter(Phase::Stopped);
                } else if over {
                    self.abort(shard, "after the graceful timeout", now);
                }
            }
            Phase::Aborting => self.abort(shard, "when it was to end at once", now),
            Phase::Stopped => {}
        }
    }

    // Whoever is in the kernel's queue is still served; idle connections close at once, unless a request is just arriving.
    fn begin_draining(&mut self, shard: &Shard, now: Instant) {
        let time = self.context.options.graceful_timeout;
        self.drain_until = Some(after(now, time));
        self.cut_after = Some(after(now, time / 2));
        for index in 0..self.listeners.len() {
            for _ in 0..DRAIN_ACCEPTS {
                if self.connections() >= self.context.options.max_connections {
                    break;
                }
                match self.listeners[index].listener.accept() {
                    Accepted::Client(stream, peer) => drop(self.add_client(stream, peer, index, now)),
                    Accepted::Vanished => {}
                    Accepted::Nobody | Accepted::Exhausted(_) | Accepted::Failed(_) => break,
                }
            }
        }
        self.close_listeners();
        for token in self.connections.places() {
            if !self.connections.is_idle(token) {
                continue;
            }
            if let Some(mut connection) = self.connections.take(token, &self.context) {
                connection.note(true, false);
                self.move_along(shard, connection, now, Connection::advance);
                if self.connections.is_idle(token) {
                    self.forget(token);
                }
            }
        }
    }

    // Ends requests that are inside the application: their clients learn of it now, and the application with its next word.
    fn cut(&mut self, shard: &Shard, cut: Cut, now: Instant) -> Cuts {
        let mut cuts = Cuts::default();
        for mut exchange in self.context.in_flight.take(self.context.shard, cut) {
            cuts.add(exchange.request());
            let (transport, token) = (exchange.transport(), exchange.token());
            exchange.cut(self.clock.date(now));
            let ends_by_reset = exchange.is_until_close();
            self.move_along(shard, Connection::conclude(exchange, now), now, Connection::advance);
            // The application may hold the socket as well, and wait for the rest of its request.
            let ours = if self.connections.transport(token).is_some() { 3 } else { 1 };
            if Arc::strong_count(&transport) > ours && transport.pending() == 0 && !ends_by_reset {
                transport.stream().abandon();
            }
        }
        cuts
    }

    fn tell(&self, cuts: &Cuts, severity: Severity, verb: &str, noun: &str, why: &str) {
        if cuts.count > 0 {
            let message = format!("stopping: {verb} {}{why}{}", counted(cuts.count, noun), cuts.named(": "));
            self.context.reporter.report(severity, &message);
        }
    }

    fn abort(&mut self, shard: &Shard, when: &str, now: Instant) {
        let left = self.connections();
        while let Some(exchange) = shard.take_waiting() {
            self.decline(exchange, Reject::Stopping, now);
        }
        let cuts = self.cut(shard, Cut::All, now);
        if left > 0 {
            let message = format!("stopped with {} unfinished {when}{}", counted(left, "connection"), cuts.named(": "));
            self.context.reporter.report(Severity::Warning, &message);
        }
        self.clear();
        shard.enter(Phase::Stopped);
    }

    /// Ends what is with the application, and everything else.
    pub(in crate::engine) fn end_all(&mut self, shard: &Shard) {
        let cuts = self.cut(shard, Cut::All, Instant::now());
        self.tell(&cuts, Severity::Warning, "gave up", "request", "");
        self.clear();
    }

    /// Drops every connection, those of workers that are still inside the application too.
    pub fn clear(&mut self) {
        self.close_listeners();
        for token in self.connections.places() {
            if let Some(connection) = self.connections.connection(token) {
                if connection.is_answering() {
                    connection.give_up(Cause::Stopped);
                }
            } else if let Some(transport) = self.connections.transport(token) {
                transport.stream().reset_on_close();
                transport.stream().abandon();
            }
        }
        self.connections = ConnectionTable::default();
        self.timers.clear();
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Requests that were ended without the application, and the first of them by method and path.
#[derive(Default)]
struct Cuts {
    count: usize,
    names: Vec<String>,
}

impl Cuts {
    fn add(&mut self, request: &RequestHead) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(request.method_and_path());
        }
    }

    // What is to be said behind the count; nothing where there is none.
    fn named(&self, before: &str) -> String {
        let more = if self.count > self.names.len() { ", ..." } else { "" };
        if self.names.is_empty() { String::new() } else { format!("{before}{}{more}", self.names.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cuts, NAMED};
    use crate::http::head::RequestHead;

    #[test]
    fn long_list_of_cut_requests_is_shortened() {
        let mut cuts = Cuts::default();
        assert_eq!(cuts.named(": "), "");
        for number in 0..=NAMED {
            cuts.add(&RequestHead::sample(&format!("GET /{number}?secret HTTP/1.1"), &[]));
        }
        assert_eq!((cuts.count, cuts.named(": ").as_str()), (6, ": GET /0, GET /1, GET /2, GET /3, GET /4, ..."));
    }
}
