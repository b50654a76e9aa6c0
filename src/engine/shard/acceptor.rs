//! The listeners of a reactor: which client is accepted next, and which connection is evicted for it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::clock::time_of_day;
use crate::engine::connection::deadlines::EvictionPriority;
use crate::engine::context::ShardContext;
use crate::engine::report::{Severity, Trouble};
use crate::engine::shard::connection_table::ConnectionTable;
use crate::engine::shard::gate::Gate;
use crate::net::address::Peer;
use crate::net::listener::{AcceptOutcome, Listener};
use crate::net::poller::Poller;
use crate::net::stream::Stream;
use crate::net::tls::TlsNews;

/// Attempts to accept at one listener before the connections that exist get their turn.
const ATTEMPTS_PER_ROUND: usize = 64;
/// The same for a server that is about to close its listeners: more than the kernel's queue usually holds.
const ATTEMPTS_BEFORE_CLOSE: usize = 16 * 1024;
/// The shortest time between two searches through all connections for candidates of an eviction.
pub(super) const SEARCH_INTERVAL: Duration = Duration::from_millis(50);
/// How long accepting pauses when descriptors have run out.
pub(in crate::engine) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Listeners are registered with the poller under tokens from here on; connections never reach them.
const FIRST_TOKEN: usize = usize::MAX / 2;

// A listener, and whether clients may wait there: the kernel says so once.
struct ListenerState {
    listener: Arc<Listener>,
    is_ready: bool,
}

/// Where a round of accepting is.
#[derive(Default)]
pub(in crate::engine) struct AcceptRound {
    listener: usize,
    attempts: usize,
}

impl AcceptRound {
    fn skip_listener(&mut self) {
        *self = Self { listener: self.listener + 1, attempts: 0 };
    }

    fn end(&mut self) {
        self.listener = usize::MAX;
    }
}

/// What a step of a round came to.
pub(in crate::engine) enum Arrival {
    /// A client at the listener with this number, and the connection that is evicted for it.
    Client { stream: Stream, peer: Peer, listener: usize, evicted: Option<usize> },
    /// Descriptors have run out: the connection with this token is evicted, and accepting goes on in the next round.
    Exhausted { evicted: usize },
}

/// Accepts clients. Registration with the poller, which the reactor owns, goes through parameters.
pub(in crate::engine) struct Acceptor {
    context: Arc<ShardContext>,
    listeners: Vec<ListenerState>,
    paused_until: Option<Instant>,
    // Leaves clients to other workers, and counts them.
    gate: Gate,
    // Since when all places are taken and no connection can be evicted here.
    full_since: Option<Instant>,
    // Connections that can be evicted, the first to go at the end.
    candidates: Vec<(EvictionPriority, usize)>,
    pub(super) next_search: Option<Instant>,
}

impl Acceptor {
    /// Accepts from `listeners`, which are registered with `poller`.
    pub fn new(
        context: Arc<ShardContext>,
        listeners: Vec<Arc<Listener>>,
        poller: &Poller,
        now: Instant,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter().enumerate() {
            poller.watch_listener(listener.descriptor(), FIRST_TOKEN + index)?;
        }
        let listeners = listeners.into_iter().map(|listener| ListenerState { listener, is_ready: true }).collect();
        let gate = Gate::new(Arc::clone(&context.capacity), context.shard, now);
        let (paused_until, full_since, next_search) = (None, None, None);
        Ok(Self { context, listeners, paused_until, gate, full_since, candidates: Vec::new(), next_search })
    }

    /// Publishes that a thread is about to wait in the poller, for as long as `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) {
        if timeout != Some(Duration::ZERO) {
            self.gate.wait();
        }
    }

    /// Publishes that a thread serves the poller at `now`.
    pub fn beat(&mut self, now: Instant) {
        self.gate.beat(now);
    }

    /// Publishes how many connections there are and whether more are accepted.
    pub fn publish(&mut self, connections: &ConnectionTable) {
        self.gate.set_connections(connections.len());
        let is_accepting = self.paused_until.is_none() && !self.is_closed() && !self.context.is_stopping();
        self.gate.set_accepting(is_accepting);
    }

    /// Closes the listeners.
    pub fn close(&mut self, poller: &Poller) {
        for state in self.listeners.drain(..) {
            poller.forget(state.listener.descriptor());
        }
    }

    /// Whether the listeners are closed.
    pub fn is_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Notes that clients may wait, if `token` is a listener's. `false`: it is a connection's.
    pub fn note_ready(&mut self, token: usize) -> bool {
        let Some(index) = token.checked_sub(FIRST_TOKEN) else { return false };
        if let Some(state) = self.listeners.get_mut(index) {
            state.is_ready = true;
        }
        true
    }

    #[cfg(test)]
    pub fn note_listener_ready(&mut self, listener: usize) {
        assert!(self.note_ready(FIRST_TOKEN + listener));
    }

    fn is_any_ready(&self) -> bool {
        self.listeners.iter().any(|state| state.is_ready)
    }

    fn is_full(&self, connections: &ConnectionTable) -> bool {
        connections.len() >= self.context.options.max_connections || self.gate.is_full(connections.len())
    }

    /// Whether a round would accept clients without an eviction.
    pub fn may_accept(&self, connections: &ConnectionTable, now: Instant) -> bool {
        self.paused_until.is_none_or(|until| until <= now)
            && self.is_any_ready()
            && self.gate.retry_at().is_none()
            && !self.is_full(connections)
    }

    /// When the next round is due although the kernel reports nothing.
    pub fn next_round(&self, connections: &ConnectionTable, now: Instant) -> Option<Instant> {
        // No event says that a connection can now be evicted for the clients that wait.
        let search = (self.is_full(connections) && self.is_any_ready()).then_some(now + SEARCH_INTERVAL);
        [search, self.paused_until, self.gate.retry_at()].into_iter().flatten().min()
    }

    /// Begins a round, which is empty while accepting pauses.
    pub fn begin_round(&mut self, now: Instant) -> AcceptRound {
        let mut round = AcceptRound::default();
        if self.paused_until.is_some_and(|until| until > now) {
            self.gate.end_deferral();
            round.end();
        } else {
            self.paused_until = None;
            self.look_at_certificates(now);
        }
        round
    }

    // New certificates are for the clients that come now.
    fn look_at_certificates(&self, now: Instant) {
        for tls in self.listeners.iter().filter(|state| state.is_ready).filter_map(|state| state.listener.tls()) {
            match tls.look(now, time_of_day) {
                None => {}
                Some(TlsNews::Reloaded(text)) => self.context.reports.report(Severity::Info, &text),
                Some(TlsNews::Warning(text)) => self.context.reports.report(Severity::Warning, &text),
                Some(TlsNews::Failed(text)) => self.context.reports.report(Severity::Error, &text),
            }
        }
    }

    /// The next client of a round. While all places are taken, one is evicted for each client that waits.
    pub fn accept(&mut self, round: &mut AcceptRound, connections: &ConnectionTable, now: Instant) -> Option<Arrival> {
        while let Some(state) = self.listeners.get_mut(round.listener) {
            if !state.is_ready || round.attempts == ATTEMPTS_PER_ROUND {
                round.skip_listener();
                continue;
            }
            round.attempts += 1;
            let is_full = self.is_full(connections);
            if is_full {
                // Evictions have a time of their own.
                self.gate.end_deferral();
            }
            if !is_full && !self.gate.is_open(now) {
                self.leave_to_others(now);
                break;
            }
            let state = self.listeners.get_mut(round.listener)?;
            // No connection is evicted before a client needs its place.
            if is_full && !state.listener.has_client() {
                state.is_ready = false;
                continue;
            }
            let evicted = if is_full { self.find_candidate(connections, now) } else { None };
            if is_full && evicted.is_none() {
                self.report_full(connections.len(), now);
                break;
            }
            self.full_since = None;
            if !is_full && !self.gate.take_place(connections.len()) {
                break;
            }
            let state = self.listeners.get_mut(round.listener)?;
            let outcome = state.listener.accept(self.context.options.proxy_protocol.is_some());
            if !matches!(outcome, AcceptOutcome::Client(..)) {
                self.gate.set_connections(connections.len());
            }
            match outcome {
                AcceptOutcome::Client(stream, peer) => {
                    self.gate.count_accepted();
                    return Some(Arrival::Client { stream, peer, listener: round.listener, evicted });
                }
                AcceptOutcome::Empty => state.is_ready = false,
                AcceptOutcome::Vanished => {}
                AcceptOutcome::Exhausted(error) => {
                    let advice = "; if files have run out, raise their limit or lower max_connections";
                    self.report_failure(&error, advice, now);
                    round.end();
                    let evicted = self.find_candidate(connections, now);
                    if evicted.is_none() {
                        self.paused_until = Some(now + ACCEPT_PAUSE);
                    }
                    return evicted.map(|evicted| Arrival::Exhausted { evicted });
                }
                AcceptOutcome::Failed(error) => {
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    self.report_failure(&error, "", now);
                    round.skip_listener();
                }
            }
        }
        round.end();
        if !self.is_any_ready() {
            // The client was accepted by another worker, or has gone: there is nothing to look at again.
            self.gate.end_deferral();
        }
        None
    }

    // The kernel tells once of a client: that is remembered until the client is accepted, here or by another worker.
    fn leave_to_others(&mut self, now: Instant) {
        if self.gate.take_retry(now) {
            for state in self.listeners.iter_mut().filter(|state| state.is_ready) {
                state.is_ready = state.listener.has_client();
            }
            if !self.is_any_ready() {
                self.gate.end_deferral();
            }
        }
    }

    /// The next client that is in the kernel's queues while the server is about to close them. None is evicted for it.
    pub fn accept_queued(
        &mut self,
        round: &mut AcceptRound,
        connections: &ConnectionTable,
    ) -> Option<(Stream, Peer, usize)> {
        while let Some(state) = self.listeners.get(round.listener) {
            if self.is_full(connections) || round.attempts == ATTEMPTS_BEFORE_CLOSE {
                round.skip_listener();
                continue;
            }
            round.attempts += 1;
            match state.listener.accept(self.context.options.proxy_protocol.is_some()) {
                AcceptOutcome::Client(stream, peer) => {
                    self.gate.count_accepted();
                    return Some((stream, peer, round.listener));
                }
                AcceptOutcome::Vanished => {}
                AcceptOutcome::Empty | AcceptOutcome::Exhausted(_) | AcceptOutcome::Failed(_) => round.skip_listener(),
            }
        }
        None
    }

    // A connection that can be evicted. All are searched at most once per interval, so that many waiting clients do not cost a
    // search through many connections each.
    pub(super) fn find_candidate(&mut self, connections: &ConnectionTable, now: Instant) -> Option<usize> {
        if self.candidates.is_empty() && self.next_search.is_none_or(|at| at <= now) {
            self.next_search = Some(now + SEARCH_INTERVAL);
            let candidate = |token| Some((connections.eviction_priority(token, now)?, token));
            self.candidates.extend(connections.places().filter_map(candidate));
            self.candidates.sort_unstable();
        }
        while let Some((found, token)) = self.candidates.pop() {
            // A connection that has made progress since then has a lower priority than it had.
            if connections.eviction_priority(token, now) >= Some(found) {
                return Some(token);
            }
        }
        None
    }

    pub(super) fn report_full(&mut self, connections: usize, now: Instant) {
        // Another worker may have a connection that can be evicted.
        let since = *self.full_since.get_or_insert(now);
        if self.gate.has_others() && now.saturating_duration_since(since) < SEARCH_INTERVAL {
            return;
        }
        let message = format!(
            "cannot accept connections: all {} are busy; raise max_connections, or the limit of open files, of which \
             connections get five eighths",
            self.gate.total(connections)
        );
        self.context.reports.report_rarely(Trouble::Accept, Severity::Warning, &message, now);
    }

    fn report_failure(&self, error: &io::Error, advice: &str, now: Instant) {
        let message = format!("cannot accept connections: {error}{advice}");
        self.context.reports.report_rarely(Trouble::Accept, Severity::Error, &message, now);
    }
}
