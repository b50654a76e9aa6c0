//! A shard that an event loop drives instead of workers: the loop watches the poller's descriptor, looks after the shard
//! when it is readable, and answers every request itself, many at a time. Nothing here waits.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::{Exchange, Progress};
use crate::engine::options::Options;
use crate::engine::page::WorkerCell;
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::shard::Shard;
use crate::engine::shard::queues::Phase;

/// What one look at a shard found.
#[derive(Default)]
pub struct PolledShard {
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
    /// Drives `shard`, which no worker polls.
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
    pub fn poll_once(&self, poll: bool) -> PolledShard {
        let mut seen = PolledShard::default();
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

    /// The loop's turn is over: it waits for what it has registered, or goes on with other tasks. `running` requests are inside the
    /// application.
    pub fn end_turn(&self, running: usize) {
        self.shard.context.capacity.slot().worker(WorkerCell::Running).store(running as u64, Ordering::Relaxed);
        self.shard.with_reactor(|reactor| reactor.acceptor.wait(None));
    }

    /// Gives back an exchange that was answered, or given up. It is sent off at the next look.
    pub fn conclude(&self, mut exchange: Box<Exchange>) {
        if exchange.progress() != Progress::Complete {
            exchange.abort();
        }
        self.shard.queues.hand_back(Finished::answered(exchange, Instant::now()));
    }

    /// Whether answers wait to be sent off.
    pub fn has_answers(&self) -> bool {
        !self.shard.queues.is_empty()
    }

    /// Whether other processes serve from now on.
    pub fn is_retiring(&self) -> bool {
        self.shard.queues.phase() == Phase::Retiring
    }

    /// Whether the server is being stopped, or replaced.
    pub fn is_stopping(&self) -> bool {
        self.shard.queues.phase() != Phase::Serving
    }

    /// Whether every connection has gone, for good.
    pub fn is_over(&self) -> bool {
        self.shard.queues.is_stopped()
    }
}

#[cfg(test)]
#[path = "external_loop_tests.rs"]
mod tests;
