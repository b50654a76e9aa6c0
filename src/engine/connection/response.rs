//! The corridor's far end: what was answered leaves, the observers learn of it, and the connection is used again, read
//! away or closed.

use std::io;
use std::time::{Duration, Instant};

use crate::engine::connection::{Connection, Fill, Pass, Stage, Step, Turn};
use crate::engine::exchange::{Exchange, Progress};
use crate::engine::observe::{CLIENT_CLOSED, Cause, Record, Scarce};
use crate::engine::options::SERVER;
use crate::engine::report::Severity;
use crate::engine::transport::body::{Body, DRAIN_LIMIT_BYTES};
use crate::engine::transport::output::Flushed;
use crate::http::head::Received;
use crate::http::reject::Reject;
use crate::http1::encoder::{self, Encoder};
use crate::http1::parse;
use crate::http1::reuse::{self, Next, Outcome, ReuseInput, Unread};

/// What a `503` asks the client to wait, in seconds.
const RETRY_AFTER: u32 = 1;

/// What decides about a connection once its response has left.
pub(in crate::engine) fn facts(keep_alive: bool, response: Outcome, unread: Unread) -> ReuseInput {
    ReuseInput { keep_alive, response, unread, drain_limit: DRAIN_LIMIT_BYTES, stopping: false, upgraded: false }
}

impl Connection {
    /// The corridor's other end: takes the connection out of an exchange that was answered.
    pub fn conclude(mut exchange: Box<Exchange>, now: Instant) -> Box<Self> {
        exchange.end_streaming();
        let client = exchange.client();
        let Exchange { mut connection, request, framing, body, response, arrived, .. } = *exchange;
        let (unread, body_broke) = match body {
            Body::Stream(stream) => {
                let remains = stream.remains();
                if !remains.leftover.is_empty() {
                    connection.input.splice(0..0, remains.leftover);
                    connection.unseen = true;
                }
                let unread = match remains.unread {
                    Some(0) => Unread::None,
                    Some(bytes) => Unread::Bytes(bytes),
                    None => Unread::Unknown,
                };
                // The worker read from the socket: nobody knows whether it left something.
                connection.note(true, false);
                (unread, !remains.complete && remains.failure.is_some())
            }
            _ => (Unread::None, false),
        };
        let complete = response.progress == Progress::Complete;
        let keep_alive = response.encoder.as_ref().is_some_and(Encoder::keeps_alive) && !connection.closing;
        let outcome = if complete { Outcome::Complete } else { Outcome::Aborted };
        connection.enter(Stage::Answering(facts(keep_alive && !body_broke, outcome, unread)), now);
        connection.until_close = response.encoder.as_ref().is_some_and(Encoder::is_until_close);
        connection.parting = !framing.persistent;
        connection.served = true;
        // A file can fail after the application is done, and the log names the request.
        if connection.context.is_observed() || response.has_file {
            connection.record = Some(Box::new(Record {
                client,
                request: Received::Head(request),
                status: match (response.status, response.cause) {
                    (0, Some(Cause::ClientClosed | Cause::WriteTimeout | Cause::Evicted(_))) => CLIENT_CLOSED,
                    (status, _) => status,
                },
                body_bytes: response.content,
                started: arrived,
                took: now.saturating_duration_since(arrived),
                complete,
                cause: response.cause,
            }));
        } else {
            connection.progress = parse::Progress::behind(request);
        }
        connection
    }

    /// Answers a complete request that cannot be taken, before it reaches a worker.
    pub fn decline(mut exchange: Box<Exchange>, reject: Reject, turn: &mut Turn<'_>) -> Step {
        exchange.answer_refusal(reject, turn.date);
        Self::conclude(exchange, turn.now).advance(turn)
    }

    /// Queues a refusal of the server's own, after which the connection closes.
    /// Returns the size of its content.
    pub(in crate::engine) fn queue_refusal(&self, reject: Reject, head_method: bool, date: &[u8; 29]) -> u64 {
        self.context.reports.count_refusal(reject);
        let retry_after = (reject.status().code() == 503).then_some(RETRY_AFTER);
        let mut content = 0;
        self.transport.output().append(|out| {
            content = encoder::refusal(out, &reject, date, SERVER, head_method, retry_after);
        });
        content
    }

    // Refuses a request that never became an exchange, of which `request` is known.
    pub(in crate::engine) fn refuse(&mut self, reject: Reject, request: Received, turn: &Turn<'_>) {
        let content = self.queue_refusal(reject, request.asks_by_head(), turn.date);
        self.input = Vec::new();
        self.unseen = false;
        self.enter(Stage::Answering(facts(false, Outcome::Complete, Unread::Unknown)), turn.now);
        if self.context.is_observed() {
            self.record = Some(Box::new(Record {
                client: self.find_client(request.head()),
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

    pub(in crate::engine) fn refused(mut self: Box<Self>, reject: Reject, request: Received, turn: &Turn<'_>) -> Pass {
        self.refuse(reject, request, turn);
        Pass::On(self)
    }

    // flush, then reuse::next.
    pub(in crate::engine) fn answer(mut self: Box<Self>, facts: ReuseInput, turn: &mut Turn<'_>) -> Pass {
        match self.flush(turn.now) {
            Ok(Flushed::All) => {}
            Ok(Flushed::Blocked) => return Pass::Out(Step::Wait(self)),
            Ok(Flushed::Yielded) => return Pass::Out(Step::Again(self)),
            // The client has gone, or a file became shorter than was announced, which the close tells.
            Err(_) => {
                if self.until_close {
                    self.transport.stream().reset_on_close();
                }
                let was_revoked = self.transport.output().is_revoked();
                self.tell(
                    Some(if was_revoked { Cause::Evicted(Scarce::Spool) } else { Cause::ClientClosed }),
                    turn.now,
                );
                return Pass::Out(Step::Closed);
            }
        }
        self.tell(None, turn.now);
        // A request that was pipelined behind this one has been received, and is still answered when the server stops.
        let facts = ReuseInput { stopping: self.context.is_stopping() && !self.unseen, ..facts };
        match reuse::next(&facts) {
            Next::Reuse => {
                self.enter(Stage::Idle, turn.now);
                Pass::On(self)
            }
            Next::Drain(left) => {
                self.enter(Stage::Draining(left), turn.now);
                Pass::On(self)
            }
            // Closing on bytes that were not read would be a reset, which can destroy the response before it is read. Only a
            // client that asked for the close itself sends nothing more.
            Next::Close if facts.response == Outcome::Complete && !(self.parting && self.is_dry()) => {
                self.begin_lingering(turn)
            }
            Next::Linger => self.begin_lingering(turn),
            Next::Close | Next::Upgrade => {
                if facts.response == Outcome::Complete {
                    // A process that the application has forked may hold the descriptor: closing alone would not end it.
                    self.transport.stream().finish_writing();
                    if self.transport.pending() > 0 {
                        // A record layer's last record has not left.
                        self.enter(Stage::Lingering, turn.now);
                        return Pass::On(self);
                    }
                }
                Pass::Out(Step::Closed)
            }
        }
    }

    fn begin_lingering(mut self: Box<Self>, turn: &Turn<'_>) -> Pass {
        self.transport.stream().finish_writing();
        self.enter(Stage::Lingering, turn.now);
        // Input that came before is of no interest, but the socket must be read to its end.
        self.note(true, false);
        Pass::On(self)
    }

    /// Sends what the socket takes, without the poller. What this leaves is seen to when the connection is back there.
    pub fn send(&mut self) {
        let now = Instant::now();
        if matches!(self.flush(now), Ok(Flushed::All)) {
            self.tell(None, now);
        }
    }

    fn flush(&mut self, now: Instant) -> io::Result<Flushed> {
        let mut output = self.transport.output();
        let flushed = output.flush(self.transport.stream());
        self.released |= output.take_released();
        if output.sent() != self.sent {
            self.leaving.note(output.sent() - self.sent, now);
            self.sent = output.sent();
            self.moved = now;
        }
        flushed
    }

    /// What is still queued will never be sent. The reset tells the client, also where the end of the connection would be
    /// the end of the content, and lets the kernel forget what it holds.
    pub(in crate::engine) fn give_up(&mut self, cause: Cause) {
        self.transport.output().discard();
        self.transport.stream().reset_on_close();
        self.tell(Some(cause), Instant::now());
    }

    /// Whether its body or its response had room in temporary files that another has now.
    pub fn is_revoked(&self) -> bool {
        match &self.stage {
            Stage::Body(pending) => pending.intake.is_revoked(),
            _ => self.transport.output().is_revoked(),
        }
    }

    /// Ends it for that.
    pub fn revoke(mut self: Box<Self>, turn: &mut Turn<'_>) -> Step {
        if matches!(self.stage, Stage::Body(_)) {
            return self.expire(turn);
        }
        self.give_up(Cause::Evicted(Scarce::Spool));
        Step::Closed
    }

    // Reports why a file could not be sent whole. Says whether that is the reason of a cut.
    fn report_file_failure(&self) -> bool {
        let Some(failure) = self.transport.output().take_file_failure() else { return false };
        let request = self
            .record
            .as_ref()
            .and_then(|record| record.request.head())
            .map_or_else(String::new, |head| format!(" to {}", head.method_and_path()));
        let message = format!("the response{request} was cut off: {failure}");
        self.context.reports.report(Severity::Error, &message);
        true
    }

    // The observers learn of the response once its last byte has left, or once it is `cut`.
    pub(in crate::engine) fn tell(&mut self, cut: Option<Cause>, now: Instant) {
        let cut = cut.map(|cause| if self.report_file_failure() { Cause::File } else { cause });
        if let Some(mut record) = self.record.take() {
            if let Some(cause) = cut {
                record.complete = false;
                record.cause.get_or_insert(cause);
            }
            // A round of the poller may have begun before the answer was there.
            record.took = record.took.max(now.saturating_duration_since(record.started));
            self.context.finished(&record);
            if let Received::Head(head) = record.request {
                self.progress = parse::Progress::behind(head);
            }
        }
    }

    pub(in crate::engine) fn drain(mut self: Box<Self>, left: u64, turn: &mut Turn<'_>) -> Pass {
        match self.fill(turn) {
            Fill::Bytes(count) => {
                let own = usize::try_from(left).unwrap_or(usize::MAX).min(count);
                let left = left - own as u64;
                self.stage = Stage::Draining(left);
                if left == 0 {
                    self.keep_input(&turn.scratch[own..count]);
                    self.enter(Stage::Idle, turn.now);
                    if self.context.is_stopping() && !self.unseen {
                        return self.begin_lingering(turn);
                    }
                }
                Pass::On(self)
            }
            Fill::Nothing => Pass::Out(Step::Wait(self)),
            Fill::End => Pass::Out(Step::Closed),
        }
    }

    pub(in crate::engine) fn linger(mut self: Box<Self>, turn: &mut Turn<'_>) -> Pass {
        match self.fill(turn) {
            Fill::Bytes(_) => Pass::On(self),
            Fill::Nothing => Pass::Out(Step::Wait(self)),
            Fill::End => Pass::Out(Step::Closed),
        }
    }
}
