//! A shard that an event loop drives instead of workers: the loop watches the poller's descriptor, looks after the shard
//! when it is readable, and answers every request itself, many at a time. Nothing here waits.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::engine::connection::{Connection, Inflow};
use crate::engine::exchange::{Content, Disconnected, Exchange, Progress};
use crate::engine::options::Options;
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::shard::Shard;
use crate::engine::shard::queues::Phase;
use crate::engine::transport::Transport;
use crate::engine::transport::body::Body;
use crate::engine::transport::output::Flushed;
use crate::http::head::ResponseHead;
use crate::http1::encoder::Encoder;
use crate::http1::plan::Plan;
use crate::net::outcome::ReadOutcome;

/// What one look at a shard found.
#[derive(Default)]
pub struct Polled {
    /// Complete requests, each with its place among those that wait for an answer.
    pub ready: Vec<(Box<Exchange>, AdmissionGuard)>,
    /// The numbers of connections whose sockets changed while their exchanges were with the application.
    pub changed: Vec<usize>,
    /// When the shard wants to be looked at again, even if its descriptor stays silent.
    pub next: Option<Duration>,
}

/// The loop's hold on its shard.
pub struct ExternalLoop {
    shard: Arc<Shard>,
}

impl ExternalLoop {
    /// A hold on `shard`, which nobody else looks after.
    pub(in crate::engine) fn new(shard: Arc<Shard>) -> Self {
        Self { shard }
    }

    /// What the loop is to watch: readable when the shard wants to be looked at.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.shard.with_reactor(|reactor| reactor.descriptor())
    }

    /// The operator's decisions.
    pub fn options(&self) -> &Options {
        &self.shard.context.options
    }

    /// Looks after the shard: accepts, reads, parses, sends, keeps the deadlines. Without `poll` the kernel is not asked
    /// what has changed; only what was answered is sent.
    pub fn poll_once(&self, poll: bool) -> Polled {
        let mut seen = Polled::default();
        self.shard.with_reactor(|reactor| {
            if poll {
                reactor.round(&self.shard.queues, false);
            } else {
                reactor.collect(&self.shard.queues);
            }
            seen.changed = reactor.take_changed();
            seen.next = reactor.next_round(Instant::now());
        });
        while let Some(taken) = self.shard.queues.take_with_guard() {
            seen.ready.push(taken);
        }
        seen
    }

    /// Gives back an exchange that was answered, or given up. It is sent off at the next look.
    pub fn conclude(&self, mut exchange: Box<Exchange>) {
        if exchange.progress() != Progress::Complete {
            exchange.abort();
        }
        self.shard.queues.hand_back(Connection::conclude(exchange, Instant::now()));
    }

    /// Whether answers wait to be sent off.
    pub fn has_answers(&self) -> bool {
        !self.shard.queues.is_empty()
    }

    /// Whether the server is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.shard.queues.phase() != Phase::Serving
    }

    /// Whether every connection has gone, for good.
    pub fn is_over(&self) -> bool {
        self.shard.queues.is_stopped()
    }
}

// What an exchange offers to a loop, which may neither wait nor leave anything to a monitor.
impl Exchange {
    /// Whether so much is queued that the application should wait for its client.
    pub fn is_ahead(&self) -> bool {
        self.connection.transport.is_ahead()
    }

    /// Whether the server is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.connection.context.is_stopping()
    }

    /// Puts the body back where it was taken from.
    pub fn put_body(&mut self, body: Body) {
        self.body = body;
    }

    /// Whether the client has closed its sending side. It may still read.
    pub fn has_ended(&self) -> bool {
        self.connection.inflow == Inflow::Ending || self.connection.transport.has_ended()
    }

    /// Gives the socket what it takes of what is queued.
    pub fn flush(&mut self) -> Result<(), Disconnected> {
        self.connection.transport.flush().map(|_: Flushed| ()).map_err(|_| Disconnected)
    }

    /// Whether nothing that is written reaches the client any more.
    pub fn has_failed(&self) -> bool {
        self.connection.transport.output().has_failed()
    }

    /// Notes that the application has waited for the client for as long as it may.
    pub fn note_stall(&self) {
        self.connection.transport.note_write_timeout();
    }

    /// Bytes queued and sent so far on the connection.
    pub fn traffic(&self) -> (u64, u64) {
        let transport = &self.connection.transport;
        (transport.pending(), transport.output().sent())
    }

    /// Whether so little is queued that the application can go on.
    pub fn has_caught_up(&self) -> bool {
        self.connection.transport.pending() <= Transport::LOW_WATER_BYTES
    }

    /// Whether the client would change the protocol (RFC 9110 §7.8).
    pub fn asks_for_upgrade(&self) -> bool {
        self.framing.upgrade
    }

    /// The application waits for what its client sends, which has been behind since then; `None`: it does not wait.
    pub fn set_receive_wait(&self, slow_since: Option<Instant>) {
        self.connection.transport.set_receive_wait(slow_since);
    }

    /// Counts the connection as a WebSocket until the exchange ends. `false`: there are as many as there may be.
    pub fn count_as_websocket(&mut self) -> bool {
        let context = &self.connection.context;
        self.websocket = context.capacity.open_websocket(context.options.max_connections);
        self.websocket.is_some()
    }

    /// Changes the protocol: queues the head of the 101 response, after which the connection is the caller's to read and
    /// write. It closes in the end. Gives what the client has sent already.
    pub fn upgrade(&mut self, head: &ResponseHead, clock: &mut Clock) -> Vec<u8> {
        self.response.open(head, Plan::upgrade(), clock, &mut self.connection.transport.output());
        self.connection.close_after_this();
        self.connection.unseen = false;
        std::mem::take(&mut self.connection.input)
    }

    /// Reads what is there, after the protocol has changed.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        self.connection.transport.stream().read(into)
    }

    /// Queues bytes of the other protocol: what `write` appends, then `content` from where it lies.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>), content: Option<Content<'_>>) {
        let mut output = self.connection.transport.output();
        let before = output.pending();
        output.append(write);
        match content {
            Some(Content::Owned(owner)) => output.push_owned(owner),
            Some(Content::Borrowed(bytes)) => output.append(|out| out.extend_from_slice(bytes)),
            None => {}
        }
        self.response.content += output.pending() - before;
    }

    /// Whether trailer fields can follow the content: it is chunked.
    pub fn can_trail(&self) -> bool {
        self.response.encoder.as_ref().is_some_and(Encoder::can_trail)
    }
}

#[cfg(test)]
#[path = "external_loop_tests.rs"]
mod tests;
