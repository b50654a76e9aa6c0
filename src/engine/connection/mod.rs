//! The pipeline: the life of a request from the first byte to the last, on one connection.
//!
//! ```text
//! fill -> parse::head -> framing::decide -> Origins::origin -> (body) -> Exchange
//!     -> gateway -> Encoder -> Finished -> flush -> reuse::next
//! ```
//!
//! A connection stays in the table of its shard. The thread that holds the poller moves it along with [`Connection::advance`]
//! until a request is complete. The [`Exchange`] goes to a worker, whose gateway answers; the connection gets the
//! [`Finished`] exchange by [`Connection::take_back`], and `advance` sends what is left and begins anew.

pub mod deadlines;
mod driver;
pub(in crate::engine) mod idle;
mod inflow;
pub(in crate::engine) mod proxy_header;
mod sending;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::connection::deadlines::{Awaited, EvictionPriority};
use crate::engine::connection::driver::{
    AfterResponse, Expiry, Http1Driver, Incoming, ReadyBody, Reception, Surroundings,
};
use crate::engine::connection::idle::IdleConnection;
use crate::engine::connection::inflow::{Fill, Inflow};
use crate::engine::connection::proxy_header::find_client;
use crate::engine::connection::sending::Sending;
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::encoding::{Encoding, refuse_http1};
use crate::engine::exchange::finished::{Answer, ExchangeResult, Finished, give_up, tell};
use crate::engine::exchange::reply::{Reply, ReplyFacts};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::observe::{Cause, Record, Scarce};
use crate::engine::scheduling::profile;
use crate::engine::transport::Transport;
use crate::engine::transport::body::{Body, BodyStream};
use crate::engine::transport::output::Flushed;
use crate::http::head::Received;
use crate::http::origin::{Client, Scheme};
use crate::http::reject::Reject;
use crate::http1::plan::ResponseContext;
use crate::http1::reuse::ReuseInput;

/// Bytes that one connection reads in one turn at most: the smallest chunks make a millisecond's work of them.
pub const TURN_BYTES: usize = 64 * 1024;

/// What the poller's thread lends to each connection in turn.
pub struct Turn<'a> {
    /// The instant this round of events began.
    pub now: Instant,
    /// The Date field's value.
    pub date: &'a [u8; 29],
    /// Where bytes are read into; a connection keeps only what it could not use at once.
    pub scratch: &'a mut [u8],
    /// Bytes that this connection may still read before others get their turn.
    pub share: usize,
}

/// What a connection wants after it was moved along.
pub enum Step {
    /// To hear of the next change of its socket, of its deadline, or of its request.
    Wait,
    /// To go on in the next round, without a change of its socket.
    Again,
    /// A request is complete.
    Ready(Box<Exchange>),
    /// To be forgotten.
    Closed,
}

/// One client's connection: its transport, its protocol, and its place in the shard.
pub struct Connection {
    /// The socket and its output.
    pub(in crate::engine) transport: Arc<Transport>,
    context: Arc<ShardContext>,
    /// The number of the listener that it came through.
    pub(in crate::engine) listener: usize,
    // Of the last exchange.
    ticket: Ticket,
    driver: Http1Driver,
    inflow: Inflow,
    sending: Sending,
}

fn surroundings(context: &ShardContext, now: Instant) -> Surroundings<'_> {
    Surroundings { options: &context.options, spool: &context.spool, now, is_stopping: context.is_stopping() }
}

impl Connection {
    /// A connection that was just accepted. The stream of `ticket` is 0.
    pub fn new(
        transport: Arc<Transport>,
        context: Arc<ShardContext>,
        client: Client,
        listener: usize,
        ticket: Ticket,
        now: Instant,
    ) -> Self {
        let driver = Http1Driver::new(client, context.options.proxy_protocol, now);
        let (inflow, sending) = (Inflow::Dry, Sending::new(now));
        Self { transport, context, listener, ticket, driver, inflow, sending }
    }

    /// A connection that was put away, or that comes from another process.
    pub(in crate::engine) fn resumed(
        transport: Arc<Transport>,
        context: Arc<ShardContext>,
        ticket: Ticket,
        idle: &IdleConnection,
    ) -> Self {
        let driver = Http1Driver::resumed(idle, context.options.proxy_protocol);
        let (inflow, sending) = (Inflow::Dry, Sending::new(idle.since));
        Self { transport, context, listener: idle.listener, ticket, driver, inflow, sending }
    }

    /// Takes the connection as far as it goes without waiting.
    pub fn advance(&mut self, turn: &mut Turn<'_>) -> Step {
        loop {
            let step = if self.driver.is_serving() {
                Some(Step::Wait)
            } else if self.driver.is_answering() {
                self.answer(turn)
            } else {
                self.receive(turn)
            };
            match step {
                Some(step) => return step,
                // A client that floods must not hold the poller.
                None if turn.share == 0 => return Step::Again,
                None => {}
            }
        }
    }

    /// Notes a change of the socket.
    pub fn note(&mut self, readable: bool, ended: bool) {
        self.inflow.note(readable, ended);
    }

    /// Takes an exchange back that its worker is done with. Its output is sent when the connection is moved along. Returns one that
    /// is not this connection's, or not its present one's.
    pub fn take_back(&mut self, finished: Finished, now: Instant) -> Option<Finished> {
        if !self.is_serving() || finished.ticket() != self.ticket {
            return Some(finished);
        }
        let (ready_while_away, ended) = self.transport.take_ready_while_away();
        self.note(ready_while_away, ended);
        match finished.result {
            ExchangeResult::Answered(answer) => self.begin_answer(answer),
            ExchangeResult::AwaitsBody(exchange) => {
                let Exchange { request, framing, origin, body_length, .. } = *exchange;
                let incoming = Incoming { request, framing, origin };
                self.driver.await_body(incoming, body_length, &surroundings(&self.context, now));
            }
            ExchangeResult::Lost(_) => {}
        }
        None
    }

    /// Answers a complete request that is not to reach a worker.
    pub fn decline(&mut self, mut exchange: Box<Exchange>, reject: Reject, turn: &mut Turn<'_>) -> Step {
        exchange.answer_refusal(reject, turn.date);
        self.take_back(Finished::answered(exchange, turn.now), turn.now);
        self.advance(turn)
    }

    /// Whether bytes of the application's were let go since this was last asked.
    pub fn take_released(&mut self) -> bool {
        self.sending.take_released()
    }

    /// Its place in the shard's table.
    pub(in crate::engine) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Who sends: the other end, or whom a proxy names ahead of the connection.
    pub(in crate::engine) fn client(&self) -> Client {
        self.driver.client
    }

    /// How that client speaks to the proxy, where that tells it.
    pub(in crate::engine) fn scheme(&self) -> Option<Scheme> {
        self.driver.scheme
    }

    /// Whether it waits for a request of which no byte has come.
    pub fn is_idle(&self) -> bool {
        self.driver.is_idle()
    }

    /// Whether its request is with a worker.
    pub fn is_serving(&self) -> bool {
        self.driver.is_serving()
    }

    /// Whether a response is on its way.
    pub fn is_answering(&self) -> bool {
        self.driver.is_answering() && self.transport.pending() > 0
    }

    /// Whether a request is arriving or a response is on its way.
    pub(in crate::engine) fn is_busy(&self) -> bool {
        self.driver.is_receiving() || self.is_answering()
    }

    // Whether everything that came was looked at.
    fn is_dry(&self) -> bool {
        !self.driver.is_unseen() && self.inflow == Inflow::Dry
    }

    // Whether the socket is all there is to its transport, and no other thread has it.
    fn is_at_rest(&self) -> bool {
        let has_rest = |transport: &Transport| transport.pending() > 0 || transport.output().has_failed();
        self.sending.record.is_none()
            && !has_rest(&self.transport)
            && Arc::strong_count(&self.transport) == 1
            && Arc::weak_count(&self.transport) == 0
    }

    /// Since when it idles, and whether it has had a response, if nothing else is to be kept of it than its socket and its client.
    pub(in crate::engine) fn can_park(&self) -> Option<(Instant, bool)> {
        self.driver.can_park().filter(|_| self.is_dry() && self.is_at_rest())
    }

    /// What there is to it beside its socket, if it waits for a request.
    pub(in crate::engine) fn idle(&self) -> Option<IdleConnection> {
        if self.is_at_rest() { self.driver.idle(self.listener) } else { None }
    }

    fn awaited(&self) -> Awaited<'_> {
        self.driver.awaited(&self.sending.rate, self.context.is_stopping())
    }

    /// When its deadline is; `None` while a worker has its request.
    pub fn deadline(&self) -> Option<Instant> {
        self.awaited().deadline(&self.context.options)
    }

    /// How readily it is given up for the sake of another. While a worker has its request, it can be closed if the application
    /// waits for its client.
    pub fn eviction_priority(&self, now: Instant) -> Option<EvictionPriority> {
        match self.awaited() {
            Awaited::Application => deadlines::slow(self.transport.slow_since()?, now),
            awaited => awaited.eviction_priority(now),
        }
    }

    /// The deadline has passed: says what is to be done about the client.
    pub fn expire(&mut self, turn: &mut Turn<'_>) -> Step {
        match self.driver.expire(&self.context.options) {
            Expiry::Refused(reject, request) => {
                self.refuse(reject, request, turn);
                return self.advance(turn);
            }
            Expiry::Unread => self.give_up(Cause::WriteTimeout),
            Expiry::Silent(Some(why)) => self.context.report_closed(self.client(), why),
            Expiry::Silent(None) => {}
        }
        Step::Closed
    }

    // fill, then what the protocol makes of it.
    fn receive(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        let with = surroundings(&self.context, turn.now);
        if self.driver.can_resume() {
            let reception = self.driver.receive(b"", &with);
            return self.received(reception, turn);
        }
        if self.driver.has_asked_for_body() {
            // The client may wait for the rest of what asks for the body. A connection that broke is found at the next read.
            drop(self.transport.flush());
        }
        match self.inflow.fill(&self.transport, turn.scratch) {
            Fill::Bytes(count) => {
                turn.share = turn.share.saturating_sub(count);
                self.driver.note_moved(turn.now);
                let reception = self.driver.receive(&turn.scratch[..count], &with);
                self.received(reception, turn)
            }
            Fill::Nothing if self.driver.is_over(with.is_stopping) => Some(Step::Closed),
            Fill::Nothing => Some(Step::Wait),
            Fill::End => {
                if let Some(why) = self.driver.end() {
                    self.context.report_closed(self.client(), why);
                }
                Some(Step::Closed)
            }
            Fill::Broken(error) => {
                // A record layer's reasons are its own; those of a socket say no more than that it has ended.
                let is_unreadable = error.kind() == io::ErrorKind::InvalidData;
                let why = if is_unreadable { Some(error.to_string()) } else { self.driver.end().map(str::to_owned) };
                if let Some(why) = why {
                    self.context.report_closed(self.client(), &why);
                }
                Some(Step::Closed)
            }
        }
    }

    fn received(&mut self, reception: Reception, turn: &mut Turn<'_>) -> Option<Step> {
        match reception {
            Reception::Incomplete => None,
            Reception::Ready(incoming, body) => Some(Step::Ready(self.ready(incoming, body, turn.now))),
            Reception::Refused { reject, request, is_proxys } => {
                if is_proxys {
                    let message = format!("a request was refused: {}", reject.detail());
                    self.context.warn_of_proxies(&message, turn.now);
                }
                self.refuse(reject, request, turn);
                None
            }
            Reception::Proxied => {
                // TLS begins behind the header.
                match self.transport.stream().begin_tls(self.driver.take_input()) {
                    Ok(rest) => self.driver.put_back(rest),
                    Err(error) => {
                        self.context.report_closed(self.client(), &error.to_string());
                        return Some(Step::Closed);
                    }
                }
                if self.transport.stream().is_encrypted() {
                    self.note(true, false);
                }
                None
            }
            Reception::NotProxied(problem) => {
                let message = format!("a connection was closed: its PROXY protocol header is unusable: {problem}");
                self.context.warn_of_proxies(&message, turn.now);
                Some(Step::Closed)
            }
            Reception::Over => {
                self.linger(turn.now);
                None
            }
        }
    }

    fn ready(&mut self, incoming: Incoming, body: ReadyBody, now: Instant) -> Box<Exchange> {
        let Incoming { request, framing, origin } = incoming;
        let (transport, context) = (Arc::clone(&self.transport), Arc::clone(&self.context));
        self.ticket = self.ticket.next();
        let facts = ReplyFacts {
            client: self.client(),
            listener: self.listener,
            asked: ResponseContext {
                head_method: request.method() == b"HEAD",
                version: request.version(),
                persistent: framing.persistent,
            },
            wants_upgrade: framing.upgrade,
            must_close: self.driver.closes() || context.options.keep_alive.is_zero(),
            has_ended: self.inflow == Inflow::Ending,
            has_input: !self.is_dry(),
        };
        let stream = |length: Option<u64>, ready: Vec<u8>| {
            let (transport, options) = (Arc::clone(&transport), Arc::clone(&context.options));
            Box::new(match length {
                Some(length) => BodyStream::of_length(transport, options, length, ready),
                None => BodyStream::chunked(transport, options, &ready),
            })
        };
        let (body, body_length) = match body {
            ReadyBody::Whole(body, length) => (body, length),
            ReadyBody::Streamed(length, ready) => (Body::Stream(stream(length, ready)), length),
            ReadyBody::Expected(length) => {
                let mut stream = stream(length, Vec::new());
                stream.expect_continue();
                (Body::Stream(stream), length)
            }
        };
        // Bytes of the other protocol may have come already.
        let input = if framing.upgrade { self.driver.take_input() } else { Vec::new() };
        Box::new(Exchange {
            ticket: self.ticket,
            key: profile::key(request.method(), request.path()),
            request,
            framing,
            origin,
            body,
            body_length,
            arrived: now,
            reply: Reply::new(transport, context, facts, Encoding::Http1(None), input),
            websocket: None,
        })
    }

    // The response is queued.
    fn begin_answer(&mut self, mut answer: Answer) {
        if answer.has_read {
            self.note(true, false);
        }
        let facts = ReuseInput::new(answer.keeps_alive(), answer.outcome(), answer.unread);
        self.driver.answer(facts, answer.closes(), answer.take_input(), answer.at);
        self.sending.begin(answer.is_until_close(), answer.at);
        match answer.record.take() {
            Some(record) => self.sending.record = Some(record),
            None => self.driver.forget(answer.into_request()),
        }
    }

    // Refuses a request that never became an exchange, of which `request` is known. The connection closes behind it.
    fn refuse(&mut self, reject: Reject, request: Received, turn: &Turn<'_>) {
        let Self { context, driver, .. } = self;
        context.reports.count_refusal(reject);
        let (mut content, head_method) = (0, request.asks_by_head());
        self.transport.output().append(|out| content = refuse_http1(out, reject, head_method, turn.date));
        driver.refuse(turn.now);
        self.sending.begin(false, turn.now);
        if context.is_observed() {
            self.sending.record = Some(Box::new(Record {
                client: find_client(&context.options, request.head(), driver.client, driver.scheme),
                request,
                status: reject.status().code(),
                body_bytes: content,
                started: turn.now,
                took: Duration::ZERO,
                complete: true,
                cause: Some(Cause::Refused(reject)),
            }));
        }
    }

    // flush, then reuse::next.
    fn answer(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        let (flushed, has_moved) = self.sending.flush(&self.transport, turn.now);
        if has_moved {
            self.driver.note_moved(turn.now);
        }
        match flushed {
            Ok(Flushed::All) => {}
            Ok(Flushed::Blocked) => return Some(Step::Wait),
            Ok(Flushed::Yielded) => return Some(Step::Again),
            // The client has gone, or a file became shorter than was announced, which the close tells.
            Err(_) => {
                if self.sending.is_until_close {
                    self.transport.stream().reset_on_close();
                }
                let was_revoked = self.transport.output().is_revoked();
                let cause = if was_revoked { Cause::Evicted(Scarce::Spool) } else { Cause::ClientClosed };
                self.tell(Some(cause), turn.now);
                return Some(Step::Closed);
            }
        }
        self.tell(None, turn.now);
        match self.driver.after_response(self.inflow == Inflow::Dry, self.context.is_stopping(), turn.now) {
            AfterResponse::GoOn => None,
            AfterResponse::Linger => {
                self.linger(turn.now);
                None
            }
            AfterResponse::Close { in_order } => {
                if in_order {
                    // A process that the application has forked may hold the descriptor: closing alone would not end it.
                    self.transport.stream().finish_writing();
                    if self.transport.pending() > 0 {
                        // A record layer's last record has not left.
                        self.driver.linger(turn.now);
                        return None;
                    }
                }
                Some(Step::Closed)
            }
        }
    }

    fn linger(&mut self, now: Instant) {
        self.transport.stream().finish_writing();
        self.driver.linger(now);
        // Input that came before is of no interest, but the socket must be read to its end.
        self.note(true, false);
    }

    // The observers learn of the response once its last byte has left, or once it is `cut`.
    fn tell(&mut self, cut: Option<Cause>, now: Instant) {
        if let Some(head) = tell(self.sending.record.take(), cut, &self.transport, &self.context, now) {
            self.driver.forget(head);
        }
    }

    /// What is still queued will never be sent.
    pub(in crate::engine) fn give_up(&mut self, cause: Cause) {
        give_up(&self.transport);
        self.tell(Some(cause), Instant::now());
    }

    /// Whether its body or its response had room in temporary files that another has now.
    pub fn is_revoked(&self) -> bool {
        self.driver.is_body_revoked().unwrap_or_else(|| self.transport.output().is_revoked())
    }

    /// Ends it for that.
    pub fn revoke(&mut self, turn: &mut Turn<'_>) -> Step {
        if self.driver.is_body_revoked().is_some() {
            return self.expire(turn);
        }
        self.give_up(Cause::Evicted(Scarce::Spool));
        Step::Closed
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "work_tests.rs"]
mod work;
