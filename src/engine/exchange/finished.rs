//! What a worker gives back to the connection's shard when it is done with an exchange.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::reply::Progress;
use crate::engine::exchange::ticket::Ticket;
use crate::engine::observe::{CLIENT_CLOSED, Cause, Record};
use crate::engine::report::Severity;
use crate::engine::transport::Transport;
use crate::engine::transport::body::Body;
use crate::engine::transport::output::Flushed;
use crate::http::head::{Received, RequestHead};
use crate::http1::reuse::{Outcome, Unread};

/// An exchange that its worker is done with.
pub struct Finished {
    pub(in crate::engine) result: ExchangeResult,
    // Its output was sent as far as the socket took it.
    is_sent: bool,
}

/// What the worker came to.
pub(in crate::engine) enum ExchangeResult {
    /// The response is queued, whole or broken off.
    Answered(Answer),
    /// The client was asked for the body, which is taken whole before the exchange is ready again.
    AwaitsBody(Box<Exchange>),
    /// A panic dropped the exchange.
    Lost(Ticket),
}

/// A response that is queued.
pub(in crate::engine) struct Answer {
    // Without its body, and without its request while the record has that.
    exchange: Box<Exchange>,
    /// When the response was complete.
    pub at: Instant,
    /// What is left of the request on the wire.
    pub unread: Unread,
    /// The exchange has read from the socket: whether it left something is unknown.
    pub has_read: bool,
    // Reading failed, so that the next request cannot be found.
    is_broken: bool,
    /// For the observers, until they were told.
    pub record: Option<Box<Record>>,
}

impl Answer {
    fn of(mut exchange: Box<Exchange>, at: Instant) -> Self {
        exchange.reply.end_streaming();
        let (mut unread, mut has_read, mut is_broken) = (Unread::None, false, false);
        if let Body::Stream(stream) = exchange.take_body() {
            let remains = stream.remains();
            unread = match remains.unread {
                Some(0) => Unread::None,
                Some(bytes) => Unread::Bytes(bytes),
                None => Unread::Unknown,
            };
            is_broken = !remains.complete && remains.failure.is_some();
            has_read = true;
            exchange.reply.input.splice(0..0, remains.leftover);
        }
        // A file can fail after the application is done, and the log names the request.
        let is_recorded = exchange.reply.context.is_observed() || exchange.reply.response.has_file;
        let record = is_recorded.then(|| Self::record(&mut exchange, at));
        Self { exchange, at, unread, has_read, is_broken, record }
    }

    fn record(exchange: &mut Exchange, now: Instant) -> Box<Record> {
        let (client, request) = (exchange.client(), exchange.request.take());
        let response = &exchange.reply.response;
        Box::new(Record {
            client,
            request: Received::Head(request),
            status: match (response.status, response.cause) {
                (0, Some(Cause::ClientClosed | Cause::WriteTimeout | Cause::Evicted(_))) => CLIENT_CLOSED,
                (status, _) => status,
            },
            body_bytes: response.content_bytes,
            started: exchange.arrived,
            took: now.saturating_duration_since(exchange.arrived),
            complete: response.progress == Progress::Complete,
            cause: response.cause,
        })
    }

    /// Whether all of it is queued.
    pub fn outcome(&self) -> Outcome {
        let is_complete = self.exchange.progress() == Progress::Complete;
        if is_complete { Outcome::Complete } else { Outcome::Aborted }
    }

    /// Whether it leaves the connection open.
    pub fn keeps_alive(&self) -> bool {
        let reply = &self.exchange.reply;
        reply.response.encoding.keeps_alive() && !reply.closes && !reply.facts.must_close && !self.is_broken
    }

    /// Whether the end of the connection is the end of the content.
    pub fn is_until_close(&self) -> bool {
        self.exchange.is_until_close()
    }

    /// Whether no other response follows, whatever this one says.
    pub fn closes(&self) -> bool {
        self.exchange.reply.closes
    }

    /// What was read behind the request.
    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.exchange.reply.input)
    }

    /// The request's head, unless a record has it.
    pub fn into_request(self) -> RequestHead {
        self.exchange.request
    }

    // Whether the shard must see to the connection although no event of its socket is due.
    fn is_eager(&self) -> bool {
        let reply = &self.exchange.reply;
        let is_reused = self.keeps_alive() && self.outcome() == Outcome::Complete && self.unread == Unread::None;
        let has_input = reply.facts.has_input || !reply.input.is_empty() || self.has_read;
        !is_reused || has_input || reply.transport.output().has_failed() || reply.transport.pending() > 0
    }

    fn send(&mut self, context: &ShardContext) -> bool {
        let transport = &self.exchange.reply.transport;
        if matches!(transport.flush(), Ok(Flushed::All)) && self.record.is_some() {
            if let Some(request) = tell(self.record.take(), None, transport, context, Instant::now()) {
                self.exchange.request = request;
            }
        }
        self.is_eager()
    }
}

impl Finished {
    /// The response of `exchange` is queued at `now`, whole or broken off.
    pub fn answered(exchange: Box<Exchange>, now: Instant) -> Self {
        Self { result: ExchangeResult::Answered(Answer::of(exchange, now)), is_sent: false }
    }

    /// The client of `exchange` holds its body back: asks for it, so that it is taken whole before the exchange is ready again.
    pub(in crate::engine) fn awaiting_body(exchange: Box<Exchange>) -> Self {
        exchange.reply.interim_continue();
        Self { result: ExchangeResult::AwaitsBody(exchange), is_sent: false }
    }

    /// What is left of an exchange that a panic dropped.
    pub fn lost(ticket: Ticket) -> Self {
        Self { result: ExchangeResult::Lost(ticket), is_sent: true }
    }

    fn exchange(&self) -> Result<&Exchange, Ticket> {
        match &self.result {
            ExchangeResult::Answered(answer) => Ok(&answer.exchange),
            ExchangeResult::AwaitsBody(exchange) => Ok(exchange),
            ExchangeResult::Lost(ticket) => Err(*ticket),
        }
    }

    /// Where it belongs.
    pub fn ticket(&self) -> Ticket {
        self.exchange().map_or_else(|ticket| ticket, Exchange::ticket)
    }

    /// Whether a panic dropped the exchange.
    pub(in crate::engine) fn is_lost(&self) -> bool {
        self.exchange().is_err()
    }

    /// The transport of its connection, unless that is lost.
    pub(in crate::engine) fn transport(&self) -> Option<&Arc<Transport>> {
        self.exchange().ok().map(|exchange| &exchange.reply.transport)
    }

    /// Whether its output was sent as far as the socket took it.
    pub(in crate::engine) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Sends its output as far as the socket takes it, from a worker that does not hold the poller. The rest, and what went wrong,
    /// is seen to by the shard. Returns whether that must happen although no event of the socket is due.
    pub fn send(&mut self, context: &ShardContext) -> bool {
        self.is_sent = true;
        match &mut self.result {
            ExchangeResult::Answered(answer) => answer.send(context),
            ExchangeResult::AwaitsBody(exchange) => {
                // A connection that broke is found at the next read.
                drop(exchange.reply.transport.flush());
                true
            }
            ExchangeResult::Lost(_) => true,
        }
    }

    /// Its response cannot leave any more: the observers learn of it.
    pub(in crate::engine) fn give_up(self, context: &ShardContext, cause: Cause) {
        if let ExchangeResult::Answered(answer) = self.result {
            let reply = &answer.exchange.reply;
            // What other exchanges of the connection have queued is theirs.
            if reply.response.encoding.owns_connection() {
                give_up(&reply.transport);
            }
            tell(answer.record, Some(cause), &reply.transport, context, Instant::now());
        }
    }
}

/// What is still queued will never be sent. The reset tells the client, also where the end of the connection would be the end
/// of the content, and lets the kernel forget what it holds.
pub(in crate::engine) fn give_up(transport: &Transport) {
    transport.output().discard();
    transport.stream().reset_on_close();
}

/// Tells the observers of a response once its last byte has left, or once it is `cut`. Gives the head of its request back.
pub(in crate::engine) fn tell(
    record: Option<Box<Record>>,
    cut: Option<Cause>,
    transport: &Transport,
    context: &ShardContext,
    now: Instant,
) -> Option<RequestHead> {
    let cut = cut.map(|cause| {
        let is_reported = report_file_failure(record.as_deref(), transport, context);
        if is_reported { Cause::File } else { cause }
    });
    let mut record = record?;
    if let Some(cause) = cut {
        record.complete = false;
        record.cause.get_or_insert(cause);
    }
    // A round of the poller may have begun before the answer was there.
    record.took = record.took.max(now.saturating_duration_since(record.started));
    context.finished(&record);
    match record.request {
        Received::Head(head) => Some(head),
        Received::Line(_) => None,
    }
}

// Reports why a file could not be sent whole. Says whether that is the reason of a cut.
fn report_file_failure(record: Option<&Record>, transport: &Transport, context: &ShardContext) -> bool {
    let Some(failure) = transport.output().take_file_failure() else { return false };
    let request = record
        .and_then(|record| record.request.head())
        .map_or_else(String::new, |head| format!(" to {}", head.method_and_path()));
    let message = format!("the response{request} was cut off: {failure}");
    context.reports.report(Severity::Error, &message);
    true
}
