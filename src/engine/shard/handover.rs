//! Connections that wait for a request, on their way between worker processes. A worker that others replace sends its own, and
//! the others take them as they accept clients: a client with a kept connection does not notice.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::connection::idle::IdleConnection;
use crate::engine::context::ShardContext;
use crate::engine::report::{Severity, Trouble};
use crate::engine::shard::acceptor::{Acceptor, SEARCH_INTERVAL};
use crate::engine::shard::connections::Connections;
use crate::engine::shard::handover_message::{HandoverMessage, MAX_MESSAGE_BYTES};
use crate::net::descriptor_queue::{DescriptorQueue, QueueItem};
use crate::net::listener::Listener;
use crate::net::poller::Poller;
use crate::net::stream::Stream;

/// The queue is registered with the poller under this token, which no listener reaches.
const TOKEN: usize = usize::MAX - 1;
/// How soon connections that could not be sent are tried again: the other workers empty a full queue within that time.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Connections that are taken before those that exist get their turn. Few, so that all processes get some.
const RECEIVED_PER_ROUND: usize = 8;
/// How long receiving pauses when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    // Takes connections.
    Receiver,
    // Sends its own.
    Sender,
    // Does neither.
    Closed,
}

/// A shard's part in handing connections over.
pub(in crate::engine) struct Handover {
    context: Arc<ShardContext>,
    // `None`: there are no other processes.
    queue: Option<Arc<DescriptorQueue>>,
    // Where the listeners listen, by their numbers.
    addresses: Vec<String>,
    role: Role,
    // A message may wait: the kernel says so once.
    is_ready: bool,
    paused_until: Option<Instant>,
    // Connections are left to be sent.
    retry_at: Option<Instant>,
    // Since when none could be sent, and why.
    failure: Option<(Instant, io::Error)>,
}

impl Handover {
    /// Takes connections from `queue`, which is registered with `poller`, that came through one of `listeners`.
    pub fn new(
        context: Arc<ShardContext>,
        queue: Option<Arc<DescriptorQueue>>,
        listeners: &[Arc<Listener>],
        poller: &Poller,
    ) -> io::Result<Self> {
        let mut role = Role::Closed;
        if let Some(queue) = &queue {
            poller.watch_listener(queue.receiver(), TOKEN)?;
            role = Role::Receiver;
        }
        let addresses = listeners.iter().map(|listener| listener.place().to_string()).collect();
        let is_ready = queue.is_some();
        Ok(Self { context, queue, addresses, role, is_ready, paused_until: None, retry_at: None, failure: None })
    }

    /// Notes that connections may wait, if `token` is the queue's.
    pub fn note_ready(&mut self, token: usize) {
        self.is_ready |= token == TOKEN && self.role == Role::Receiver;
    }

    /// When the next round is due although the kernel reports nothing; `now` is at once.
    pub fn next_round(&self, connections: &Connections, now: Instant) -> Option<Instant> {
        let receive = if !self.is_ready {
            None
        } else if let Some(until) = self.paused_until.filter(|until| *until > now) {
            Some(until)
        } else if self.is_full(connections) {
            // No event says that a connection can now be evicted for those that wait.
            Some(now + SEARCH_INTERVAL)
        } else {
            Some(now)
        };
        [receive, self.retry_at].into_iter().flatten().min()
    }

    // The limit of this process: connections that move do not become more.
    fn is_full(&self, connections: &Connections) -> bool {
        connections.table.len() >= self.context.options.max_connections
    }

    fn may_receive(&self, now: Instant) -> bool {
        self.is_ready && self.paused_until.is_none_or(|until| until <= now)
    }

    /// Takes connections as clients are accepted: while all places are taken, one is evicted for each that waits. Gives the places of
    /// those that were taken, which may have something to read.
    pub fn receive_round(
        &mut self,
        connections: &mut Connections,
        acceptor: &mut Acceptor,
        poller: &Poller,
        now: Instant,
    ) -> Vec<usize> {
        let mut tokens = Vec::new();
        for _ in 0..RECEIVED_PER_ROUND {
            if !self.may_receive(now) {
                break;
            }
            if self.is_full(connections) {
                self.is_ready = self.queue.as_ref().is_some_and(|queue| queue.has_message());
                if !self.is_ready {
                    break;
                }
                let Some(token) = acceptor.find_candidate(&connections.table, now) else {
                    acceptor.report_full(connections.table.len(), now);
                    break;
                };
                connections.make_room(token, poller, now);
            }
            tokens.extend(self.receive_into(connections, poller, now));
        }
        tokens
    }

    /// Takes, for a worker that is about to end, all that has not reached the other workers, be it its own, as far as there are
    /// places. Then it neither takes nor sends any.
    pub fn receive_rest(&mut self, connections: &mut Connections, poller: &Poller, now: Instant) {
        self.leave(poller);
        (self.role, self.failure) = (Role::Closed, None);
        self.is_ready = self.queue.is_some();
        while self.may_receive(now) && !self.is_full(connections) {
            self.receive_into(connections, poller, now);
        }
        self.is_ready = false;
    }

    fn receive_into(&mut self, connections: &mut Connections, poller: &Poller, now: Instant) -> Option<usize> {
        let (stream, idle) = self.receive(now)?;
        connections.resume(stream, &idle, poller)
    }

    // `None`: there was none, or one that was closed; `may_receive` tells whether to go on.
    fn receive(&mut self, now: Instant) -> Option<(Stream, IdleConnection)> {
        let mut message = [0; MAX_MESSAGE_BYTES];
        let problem = match self.queue.as_ref()?.receive(&mut message) {
            QueueItem::Stream(stream, length) => match self.read(&message[..length], now) {
                Ok(idle) => return Some((stream, idle)),
                Err(problem) => problem,
            },
            QueueItem::Empty => {
                self.is_ready = false;
                return None;
            }
            QueueItem::Malformed(problem) => problem.to_owned(),
            QueueItem::Exhausted(error) => {
                self.paused_until = Some(now + PAUSE);
                let message = format!(
                    "cannot take connections over from another worker: {error}; if files have run out, raise their limit or lower \
                     max_connections"
                );
                self.context.reports.report_rarely(Trouble::Handover, Severity::Error, &message, now);
                return None;
            }
            QueueItem::Failed(error) => {
                self.is_ready = false;
                let message = format!("cannot take connections over from another worker: {error}");
                self.context.reports.report_rarely(Trouble::Handover, Severity::Error, &message, now);
                return None;
            }
        };
        let message = format!("a connection that another worker handed over was closed: {problem}");
        self.context.reports.report_rarely(Trouble::Handover, Severity::Warning, &message, now);
        None
    }

    fn read(&self, message: &[u8], now: Instant) -> Result<IdleConnection, String> {
        let HandoverMessage { address, client, scheme, is_served, awaits_proxy_header, idle_for, input, listener } =
            HandoverMessage::decode(message)?;
        let is_same = |place: &String| *place == address;
        let listener = Some(usize::from(listener))
            .filter(|number| self.addresses.get(*number).is_some_and(is_same))
            .or_else(|| self.addresses.iter().position(is_same))
            .ok_or_else(|| format!("this worker does not listen on {address}"))?;
        // The monotonic clock is not older than the machine.
        let since = now.checked_sub(idle_for).unwrap_or(now);
        Ok(IdleConnection { client, scheme, listener, is_served, awaits_proxy_header, since, input })
    }

    /// Takes no more connections, and sends from now on. `false`: there are no other processes.
    pub fn begin_sending(&mut self, poller: &Poller, now: Instant) -> bool {
        self.leave(poller);
        self.context.retire();
        if self.queue.is_some() {
            (self.role, self.retry_at) = (Role::Sender, Some(now));
        }
        self.queue.is_some()
    }

    fn leave(&mut self, poller: &Poller) {
        if let (Role::Receiver, Some(queue)) = (self.role, &self.queue) {
            poller.forget(queue.receiver());
        }
        (self.is_ready, self.retry_at) = (false, None);
    }

    /// Sends a connection that was moved along, if it waits for a request and is not to be tried with others.
    pub fn send_one(&mut self, connections: &mut Connections, token: usize, poller: &Poller, now: Instant) {
        if self.role == Role::Sender && self.retry_at.is_none() {
            self.send_from(connections, token, poller, now);
        }
    }

    /// Sends the connections that wait for a request, when that begins and when it is due again for those that are left.
    pub fn send_due(&mut self, connections: &mut Connections, poller: &Poller, now: Instant) {
        if self.role == Role::Sender && self.retry_at.take_if(|at| *at <= now).is_some() {
            // The first refusal is that of a full queue, most likely.
            connections.table.places().all(|token| self.send_from(connections, token, poller, now));
        }
    }

    // `false`: the system refuses it.
    fn send_from(&mut self, connections: &mut Connections, token: usize, poller: &Poller, now: Instant) -> bool {
        let mut is_refused = false;
        let is_gone = connections.hand_over(token, poller, |descriptor, idle| {
            is_refused = !self.send(descriptor, idle, now);
            !is_refused
        });
        if !is_gone {
            self.retry_at.get_or_insert(now + RETRY_INTERVAL);
        }
        !is_refused
    }

    fn send(&mut self, descriptor: BorrowedFd<'_>, idle: &IdleConnection, now: Instant) -> bool {
        let Some(queue) = &self.queue else { return false };
        let message = self.addresses.get(idle.listener).and_then(|address| {
            let message = HandoverMessage {
                listener: u16::try_from(idle.listener).ok()?,
                address: address.clone(),
                client: idle.client,
                scheme: idle.scheme,
                is_served: idle.is_served,
                awaits_proxy_header: idle.awaits_proxy_header,
                idle_for: now.saturating_duration_since(idle.since),
                input: idle.input.clone(),
            };
            message.encode()
        });
        let sent = match message {
            Some(message) => queue.send(&message, descriptor),
            None => Err(io::ErrorKind::InvalidData.into()),
        };
        match sent {
            Ok(()) => self.failure = None,
            Err(error) => {
                let since = self.failure.take().map_or(now, |(since, _)| since);
                self.failure = Some((since, error));
            }
        }
        self.failure.is_none()
    }

    /// Makes it so much longer that none could be sent.
    #[cfg(test)]
    pub fn age_failure(&mut self, by: Duration) {
        if let Some((since, _)) = &mut self.failure {
            *since = since.checked_sub(by).unwrap();
        }
    }

    /// Why no connection could be sent for `time`.
    pub fn failed_for(&self, time: Duration, now: Instant) -> Option<&io::Error> {
        self.failure.as_ref().filter(|(since, _)| now.saturating_duration_since(*since) >= time).map(|(_, error)| error)
    }
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
