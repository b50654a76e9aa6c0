//! The poller's half of a shard: accepts, moves connections along, keeps their deadlines. Used by one thread at a time.

use std::time::{Duration, Instant};
use std::{collections::VecDeque, io, os::fd::RawFd, sync::Arc};

use crate::engine::clock::Clock;
use crate::engine::connection::{Connection, Step, TURN_BYTES, Turn};
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::observe::{Cause, Scarce};
use crate::engine::report::Severity;
use crate::engine::shard::acceptor::{AcceptRound, Acceptor, Arrival};
use crate::engine::shard::connections::Connections;
use crate::engine::shard::drain::{Cuts, Drain, DrainStep, counted};
use crate::engine::shard::handover::Handover;
use crate::engine::shard::queues::{Phase, ShardQueues};
use crate::http::reject::Reject;
use crate::net::address::Peer;
use crate::net::descriptor_queue::DescriptorQueue;
use crate::net::listener::Listener;
use crate::net::poller::{Poller, Readiness, Waker};
use crate::net::stream::Stream;

/// Changes of readiness taken from the kernel at a time.
const MAX_EVENTS: usize = 256;
/// The shared receive buffer; a connection keeps bytes of its own only while a request is incomplete.
const SCRATCH_BYTES: usize = 64 * 1024;
/// While requests are queued, the kernel is polled at least this often.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// While requests wait for a thread, overdue ones and slow clients are looked for this often.
const PRESSURE_INTERVAL: Duration = Duration::from_millis(50);
/// What a panic in the pipeline costs.
const CONNECTION: &str = "one connection";

/// One poller and its connections.
pub struct Reactor {
    context: Arc<ShardContext>,
    poller: Poller,
    events: Vec<Readiness>,
    polled: Instant,
    pub(super) acceptor: Acceptor,
    handover: Handover,
    connections: Connections,
    // Tokens of connections that go on in the next round.
    again: Vec<usize>,
    // What comes from the workers, and goes to them.
    finished: VecDeque<Finished>,
    admitted: VecDeque<Box<Exchange>>,
    scratch: Box<[u8]>,
    clock: Clock,
    // When a thread that waits for a slow client is looked for again.
    free_thread_after: Option<Instant>,
    single_request: bool,
    drain: Option<Drain>,
    // The spool's count of revocations when it was last read.
    revoked: u64,
    // Tokens of connections whose sockets changed while others had them, if a loop takes them.
    changed: Option<Vec<usize>>,
}

impl Reactor {
    /// A reactor that accepts from `listeners`, whose requests `in_flight` knows while they are inside the application. Through
    /// `handover` connections come from other processes, and go there.
    pub fn new(
        context: Arc<ShardContext>,
        listeners: Vec<Arc<Listener>>,
        in_flight: Arc<dyn InFlight>,
        single_request: bool,
        handover: Option<Arc<DescriptorQueue>>,
    ) -> io::Result<Self> {
        let poller = Poller::new(MAX_EVENTS)?;
        let now = Instant::now();
        Ok(Self {
            events: Vec::with_capacity(MAX_EVENTS),
            polled: now,
            handover: Handover::new(Arc::clone(&context), handover, &listeners, &poller)?,
            acceptor: Acceptor::new(Arc::clone(&context), listeners, &poller, now)?,
            connections: Connections::new(Arc::clone(&context), in_flight, now),
            again: Vec::new(),
            finished: VecDeque::new(),
            admitted: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            clock: Clock::new(now),
            free_thread_after: None,
            single_request,
            drain: None,
            revoked: 0,
            changed: None,
            poller,
            context,
        })
    }

    /// Wakes this reactor from its wait.
    pub fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// The poller's descriptor: readable while the kernel has something to report.
    pub(in crate::engine) fn descriptor(&self) -> RawFd {
        self.poller.descriptor()
    }

    pub(in crate::engine) fn connections(&self) -> usize {
        self.connections.table.len()
    }

    /// Notes from now on which connections change while others have them.
    pub(in crate::engine) fn note_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    pub(in crate::engine) fn take_changed(&mut self) -> Vec<usize> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How soon another round is due even if the kernel reports nothing; `None`: not at all.
    pub(in crate::engine) fn next_round(&self, now: Instant) -> Option<Duration> {
        let receive = self.handover.next_round(&self.connections, now);
        let may_accept = self.acceptor.may_accept(&self.connections.table, now);
        if !self.again.is_empty() || may_accept || receive == Some(now) {
            return Some(Duration::ZERO);
        }
        let accept = self.acceptor.next_round(&self.connections.table, now);
        // No event says that a request has been queued for too long.
        let capacity = &self.context.capacity;
        let pressure = (capacity.is_pressed() || capacity.may_stall()).then_some(now + PRESSURE_INTERVAL);
        [self.connections.next_deadline(), accept, receive, pressure, self.drain.as_ref().map(Drain::next_deadline)]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Takes back what was answered, and sends it, without polling the kernel.
    pub(in crate::engine) fn collect(&mut self, queues: &ShardQueues) {
        let now = Instant::now();
        self.take_back(queues, now);
        self.follow_phase(queues, now);
        queues.enqueue(&mut self.admitted);
        self.acceptor.publish(&self.connections.table);
    }

    /// One round: takes back what workers are done with, waits for the kernel (if `may_wait` and there is nothing else to
    /// do), and moves along whatever changed. Returns whether bytes that belong to the application were let go.
    pub fn round(&mut self, queues: &ShardQueues, may_wait: bool) -> bool {
        self.run_round(queues, may_wait);
        queues.enqueue(&mut self.admitted);
        self.acceptor.publish(&self.connections.table);
        self.connections.take_released()
    }

    fn run_round(&mut self, queues: &ShardQueues, may_wait: bool) {
        let mut now = Instant::now();
        self.take_back(queues, now);
        self.follow_phase(queues, now);
        if queues.is_stopped() {
            return;
        }
        // What was pipelined behind an answer must not wait for the kernel.
        queues.enqueue(&mut self.admitted);
        let has_work = queues.has_work();
        if !has_work {
            // Permits may have been taken since requests were queued: the first worker that gives one back runs those.
            queues.hand_over();
        }
        if !has_work || now.duration_since(self.polled) >= POLL_INTERVAL {
            let timeout = if may_wait && !has_work { self.next_round(now) } else { Some(Duration::ZERO) };
            self.acceptor.wait(timeout);
            if let Err(error) = self.poller.wait(timeout, &mut self.events) {
                self.context.reports.report(Severity::Error, &format!("waiting for the network failed: {error}"));
                self.events.clear();
            }
            now = Instant::now();
            self.polled = now;
            self.acceptor.beat(now);
            self.handle_events(queues, now);
            self.go_on(queues, now);
            self.take_back(queues, now);
            // While all workers are busy, clients are left to a shard that can serve them.
            if may_wait || !queues.has_idle_neighbour() {
                self.accept(now);
                self.receive_connections(queues, now);
            }
            self.expire(queues, now);
            self.decline_overdue(queues, now);
            self.free_thread(now);
            // After the events, so that a worker that gave a connection back meanwhile need not wake this thread.
            self.take_back(queues, now);
        }
        self.drop_revoked(queues, now);
        self.follow_phase(queues, now);
        self.context.report_spool(now);
        self.context.report_stall(now);
    }

    fn take_back(&mut self, queues: &ShardQueues, now: Instant) {
        queues.take_finished(&mut self.finished);
        // One at a time, so that a panic costs no other.
        while let Some(finished) = self.finished.pop_front() {
            self.finish(queues, finished, now);
        }
    }

    // The connection of the exchange goes on.
    fn finish(&mut self, queues: &ShardQueues, finished: Finished, now: Instant) {
        let ticket = finished.ticket();
        if finished.is_lost() {
            return self.connections.reset_lost(&ticket);
        }
        let mut finished = Some(finished);
        self.move_along(queues, ticket.slot, now, |connection, turn| {
            finished = finished.take().and_then(|finished| connection.take_back(finished, turn.now));
            connection.advance(turn)
        });
        if let Some(finished) = finished {
            // Its connection was given up meanwhile, and the slot may have another.
            finished.give_up(&self.context, Cause::ClientClosed);
        }
    }

    fn handle_events(&mut self, queues: &ShardQueues, now: Instant) {
        let events = std::mem::take(&mut self.events);
        for event in &events {
            if self.acceptor.note_ready(event.token) {
                self.handover.note_ready(event.token);
                continue;
            }
            if !event.readable && !event.ended && self.connections.table.is_parked(event.token) {
                continue;
            }
            if !self.connections.table.is_serving(event.token) {
                self.move_along(queues, event.token, now, |connection, turn| {
                    connection.note(event.readable, event.ended);
                    connection.advance(turn)
                });
            } else if let Some(transport) = self.connections.table.transport(event.token) {
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

    fn go_on(&mut self, queues: &ShardQueues, now: Instant) {
        for token in std::mem::take(&mut self.again) {
            self.connections.table.delist(token);
            self.move_along(queues, token, now, Connection::advance);
        }
    }

    fn accept(&mut self, now: Instant) {
        let mut round = self.acceptor.begin_round(now);
        while let Some(arrival) = self.acceptor.accept(&mut round, &self.connections.table, now) {
            match arrival {
                Arrival::Exhausted { evicted } => self.connections.make_room(evicted, &self.poller, now),
                Arrival::Client { stream, peer, listener, evicted } => {
                    if let Some(token) = evicted {
                        self.connections.make_room(token, &self.poller, now);
                    }
                    self.add_client(stream, peer, listener, now);
                    if self.single_request {
                        self.context.stop();
                        self.acceptor.close(&self.poller);
                    }
                }
            }
        }
    }

    fn add_client(&mut self, stream: Stream, peer: Peer, listener: usize, now: Instant) -> Option<usize> {
        self.connections.add(stream, peer, listener, &self.poller, now)
    }

    // Takes connections from other processes.
    fn receive_connections(&mut self, queues: &ShardQueues, now: Instant) {
        let Self { handover, connections, acceptor, poller, .. } = self;
        for token in handover.receive_round(connections, acceptor, poller, now) {
            self.look(queues, token, now);
        }
    }

    // Moves a connection along that may have something to read.
    fn look(&mut self, queues: &ShardQueues, token: usize, now: Instant) {
        self.move_along(queues, token, now, |connection, turn| {
            connection.note(true, false);
            connection.advance(turn)
        });
    }

    fn expire(&mut self, queues: &ShardQueues, now: Instant) {
        while let Some(token) = self.connections.next_expired(now) {
            self.move_along(queues, token, now, Connection::expire);
        }
    }

    // While every worker is inside the application the leader, or else the monitor, does this every `PRESSURE_INTERVAL`.
    fn decline_overdue(&mut self, queues: &ShardQueues, now: Instant) {
        while let Some(exchange) = queues.take_overdue(now) {
            self.decline(queues, exchange, Reject::QueueTimeout, now);
        }
    }

    // One thread at a time, while requests wait and no permit is left.
    fn free_thread(&mut self, now: Instant) {
        if self.context.capacity.is_pressed() && self.free_thread_after.is_none_or(|after| after <= now) {
            self.free_thread_after = Some(now + PRESSURE_INTERVAL);
            self.connections.free_thread(&self.poller, now);
        }
    }

    // Closes the connections whose space in temporary files was given to others.
    fn drop_revoked(&mut self, queues: &ShardQueues, now: Instant) {
        let revoked = self.context.spool.revoked();
        if std::mem::replace(&mut self.revoked, revoked) == revoked {
            return;
        }
        for token in self.connections.table.places() {
            let table = &mut self.connections.table;
            if table.is_serving(token) {
                if table.transport(token).is_some_and(|transport| transport.output().is_revoked()) {
                    self.connections.evict(token, Scarce::Spool, &self.poller);
                }
            } else if table.connection(token).is_some_and(|connection| connection.is_revoked()) {
                self.move_along(queues, token, now, Connection::revoke);
            }
        }
    }

    // A request that is not to reach the application.
    fn decline(&mut self, queues: &ShardQueues, mut exchange: Box<Exchange>, reject: Reject, now: Instant) {
        exchange.answer_refusal(reject, self.clock.date(now));
        self.finish(queues, Finished::answered(exchange, now), now);
    }

    // The pipeline, with everything around it: a panic costs the connection it happened on, and no more.
    fn move_along(
        &mut self,
        queues: &ShardQueues,
        token: usize,
        now: Instant,
        through: impl FnOnce(&mut Connection, &mut Turn<'_>) -> Step,
    ) {
        let Some(connection) = self.connections.table.wake(token, &self.context) else { return };
        let date = self.clock.date(now);
        let mut turn = Turn { now, date, scratch: &mut self.scratch, share: TURN_BYTES };
        let step = self.context.reports.catch_panic(CONNECTION, || match through(connection, &mut turn) {
            Step::Ready(exchange) => {
                let declined = queues.admit(exchange, &mut self.admitted).err();
                declined.map(|exchange| connection.decline(exchange, Reject::QueueFull, &mut turn))
            }
            step => Some(step),
        });
        match step {
            // With a worker now.
            Some(None) => {}
            Some(Some(Step::Wait)) => {
                self.connections.settle(token);
                self.handover.send_one(&mut self.connections, token, &self.poller, now);
            }
            Some(Some(Step::Again)) => {
                self.connections.settle(token);
                if self.connections.table.enlist(token) {
                    self.again.push(token);
                }
            }
            // A connection whose exchange was declined closes: no other can be ready.
            Some(Some(Step::Ready(_) | Step::Closed)) | None => self.connections.forget(token),
        }
    }

    fn follow_phase(&mut self, queues: &ShardQueues, now: Instant) {
        match queues.phase() {
            Phase::Serving => {
                if self.single_request && self.acceptor.is_closed() && self.connections() == 0 {
                    queues.enter(Phase::Stopped);
                }
            }
            Phase::Retiring | Phase::Draining => self.go_on_draining(queues, now),
            Phase::Aborting => self.abort(queues, "when it was to end at once", now),
            Phase::Stopped => {}
        }
    }

    fn go_on_draining(&mut self, queues: &ShardQueues, now: Instant) {
        if self.drain.is_none() && queues.phase() == Phase::Retiring {
            self.begin_retiring(queues, now);
        }
        if self.drain.as_ref().is_none_or(Drain::is_retirement) && queues.phase() == Phase::Draining {
            self.begin_draining(queues, now);
        }
        self.handover.send_due(&mut self.connections, &self.poller, now);
        let cuts = self.cut(queues, Cut::EventStreams, now);
        self.report_cuts(Severity::Info, cuts.message("ended", "event stream", ""));
        let due = self.drain.as_mut().map_or(DrainStep::Nothing, |drain| drain.due(now));
        if due == DrainStep::CutUnfinished {
            let cuts = self.cut(queues, Cut::Unfinished, now);
            let why = ", unfinished after half of graceful_timeout";
            self.report_cuts(Severity::Warning, cuts.message("cut", "response", why));
        }
        queues.note_draining(self.connections());
        if self.connections() == 0 && queues.is_empty() {
            queues.enter(Phase::Stopped);
        } else if due == DrainStep::Abort {
            self.abort(queues, "after the graceful timeout", now);
        } else if let Some(error) = self.handover.failed_for(self.context.options.graceful_timeout / 2, now) {
            let message = format!("idle connections are closed, because no other worker takes them over: {error}");
            self.context.reports.report(Severity::Warning, &message);
            queues.enter(Phase::Draining);
        }
    }

    // Idle connections go to other processes, each as soon as it idles. Without other processes this is a stop.
    fn begin_retiring(&mut self, queues: &ShardQueues, now: Instant) {
        self.drain = Some(Drain::retire(now, self.context.options.graceful_timeout));
        self.acceptor.close(&self.poller);
        if !self.handover.begin_sending(&self.poller, now) {
            queues.enter(Phase::Draining);
        }
    }

    // Clients in the kernel's queue and connections that no other process has taken are still served; idle connections close at
    // once, unless a request is just arriving.
    fn begin_draining(&mut self, queues: &ShardQueues, now: Instant) {
        let time = self.drain.as_ref().map_or(self.context.options.graceful_timeout, |retirement| retirement.left(now));
        self.drain = Some(Drain::new(now, time));
        let mut round = AcceptRound::default();
        while let Some((stream, peer, listener)) = self.acceptor.accept_queued(&mut round, &self.connections.table) {
            self.add_client(stream, peer, listener, now);
        }
        self.acceptor.close(&self.poller);
        self.handover.receive_rest(&mut self.connections, &self.poller, now);
        for token in self.connections.table.places() {
            if self.connections.table.is_idle(token) {
                self.look(queues, token, now);
            }
        }
        self.connections.forget_idle();
    }

    // Ends requests that are inside the application: their clients learn of it now, and the application at its next call.
    fn cut(&mut self, queues: &ShardQueues, cut: Cut, now: Instant) -> Cuts {
        let mut cuts = Cuts::default();
        for mut exchange in self.connections.in_flight.take(self.context.shard, cut) {
            cuts.add(exchange.request());
            let (transport, token) = (exchange.transport(), exchange.token());
            exchange.cut(cut.reject(), self.clock.date(now));
            let ends_by_reset = exchange.is_until_close();
            self.finish(queues, Finished::answered(exchange, now), now);
            // The application may hold the socket as well, and wait for the rest of its request.
            let own = if self.connections.table.transport(token).is_some() { 2 } else { 1 };
            if Arc::strong_count(&transport) > own && transport.pending() == 0 && !ends_by_reset {
                transport.stream().abandon();
            }
        }
        cuts
    }

    fn report_cuts(&self, severity: Severity, message: Option<String>) {
        if let Some(message) = message {
            self.context.reports.report(severity, &message);
        }
    }

    fn abort(&mut self, queues: &ShardQueues, when: &str, now: Instant) {
        self.connections.forget_idle();
        let left = self.connections();
        while let Some(exchange) = queues.take_queued() {
            self.decline(queues, exchange, Reject::Stopping, now);
        }
        let cuts = self.cut(queues, Cut::All, now);
        if left > 0 {
            let message = format!("stopped with {} unfinished {when}{}", counted(left, "connection"), cuts.names());
            self.context.reports.report(Severity::Warning, &message);
        }
        self.clear();
        queues.enter(Phase::Stopped);
    }

    /// Ends what is with the application, and everything else.
    pub(in crate::engine) fn end_all(&mut self, queues: &ShardQueues) {
        let cuts = self.cut(queues, Cut::All, Instant::now());
        self.report_cuts(Severity::Warning, cuts.message("gave up", "request", ""));
        self.clear();
    }

    fn clear(&mut self) {
        self.acceptor.close(&self.poller);
        self.connections.clear();
        self.acceptor.publish(&self.connections.table);
    }
}

#[cfg(test)]
#[path = "reactor_tests.rs"]
mod tests;
