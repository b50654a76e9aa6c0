//! The corridor: the life of a request from the first byte to the last, on one connection.
//!
//! ```text
//! fill -> parse::head -> framing::decide -> (body) -> Exchange -> gateway -> plan::response -> write -> flush -> turn::next
//! ```
//!
//! A connection is a value with one owner at a time. The thread that holds the poller moves it along with
//! [`Connection::advance`] until a request is complete; then it travels inside the [`Exchange`] to a worker, whose gateway
//! answers; [`Connection::conclude`] takes it out again, and `advance` sends what is left and begins anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::{Body, BodyStream, Intake};
use super::clock::time_of_day;
use super::exchange::{Exchange, Progress as ResponseProgress, Response};
use super::observe::Record;
use super::options::SERVER;
use super::output::Flushed;
use super::site::Site;
use super::wire::Wire;
use crate::http::head::RequestHead;
use crate::http::reject::{Blame, Reject};
use crate::http1::framing::{self, BodyLength, Framing};
use crate::http1::turn::{self, Facts, Next, Outcome, Unread};
use crate::http1::{parse, write};
use crate::net::address::Peer;

/// Content of an unread body that is read away for the sake of the connection; beyond that a new one is cheaper.
const DRAIN_LIMIT: u64 = 256 * 1024;
/// A refused client gets this long to stop sending and to read the refusal.
const LINGER: Duration = Duration::from_secs(10);
/// It is given up earlier if it has been silent for this long.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// What a `503` asks the client to wait, in seconds.
const RETRY_AFTER: u32 = 1;

/// What the poller's thread lends to each connection in turn.
pub struct Turn<'a> {
    /// The instant this round of events began.
    pub now: Instant,
    /// The Date field's value.
    pub date: &'a [u8; 29],
    /// Where bytes are read into; a connection keeps only what it could not use at once.
    pub scratch: &'a mut [u8],
}

/// What a connection wants after it was moved along.
pub enum Step {
    /// To hear of the next change of its socket, or of its deadline.
    Wait(Box<Connection>),
    /// To go on in the next round, without a change of its socket.
    Again(Box<Connection>),
    /// A request is complete.
    Ready(Box<Exchange>),
    /// To be forgotten.
    Closed,
}

enum Stage {
    // No byte of a request has come.
    Idle,
    // Some of a head has.
    Head,
    Body(Box<Pending>),
    // The connection is inside an exchange.
    Serving,
    Answering(Facts),
    Draining(u64),
    Lingering,
}

// A request whose body is being taken.
struct Pending {
    request: RequestHead,
    framing: Framing,
    intake: Intake,
}

/// Whether an unread body of this size is read away rather than the connection closed.
pub(super) fn can_drain(unread: Option<u64>) -> bool {
    unread.is_some_and(|bytes| bytes <= DRAIN_LIMIT)
}

// What one pass through the corridor's loop came to.
enum Pass {
    On(Box<Connection>),
    Out(Step),
}

// What is known of the bytes in the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inflow {
    // There are none until an event says otherwise.
    Dry,
    // There may be some; a short read empties it.
    Flowing,
    // The client has closed its side: it must be read until it says so itself.
    Ending,
}

enum Fill {
    Bytes(usize),
    Nothing,
    End,
}

/// One client's connection.
pub struct Connection {
    pub(super) wire: Arc<Wire>,
    pub(super) site: Arc<Site>,
    pub(super) peer: Peer,
    pub(super) listener: usize,
    /// Its place among the shard's connections.
    pub(super) token: usize,
    stage: Stage,
    input: Vec<u8>,
    progress: parse::Progress,
    // When the stage began, and when it last moved.
    since: Instant,
    moved: Instant,
    sent: u64,
    served: u64,
    // Bytes in `input` that the parser has not seen.
    unseen: bool,
    inflow: Inflow,
    closing: bool,
    record: Option<Box<Record>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(wire: Arc<Wire>, site: Arc<Site>, peer: Peer, listener: usize, token: usize, now: Instant) -> Self {
        Self {
            wire,
            site,
            peer,
            listener,
            token,
            stage: Stage::Idle,
            input: Vec::new(),
            progress: parse::Progress::default(),
            since: now,
            moved: now,
            sent: 0,
            served: 0,
            unseen: false,
            inflow: Inflow::Dry,
            closing: false,
            record: None,
        }
    }

    /// The corridor's reading side: takes the connection as far as it goes without waiting.
    pub fn advance(mut self: Box<Self>, turn: &mut Turn<'_>) -> Step {
        loop {
            let pass = match self.stage {
                Stage::Idle | Stage::Head => self.receive_head(turn),
                Stage::Body(_) => self.receive_body(turn),
                Stage::Answering(facts) => self.answer(facts, turn),
                Stage::Draining(left) => self.drain(left, turn),
                Stage::Lingering => self.linger(turn),
                Stage::Serving => return Step::Wait(self),
            };
            match pass {
                Pass::On(connection) => self = connection,
                Pass::Out(step) => return step,
            }
        }
    }

    /// The corridor's other end: takes the connection out of an exchange that was answered.
    pub fn conclude(mut exchange: Box<Exchange>) -> Box<Self> {
        exchange.end_streaming();
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
        let complete = response.progress == ResponseProgress::Complete;
        let keep_alive = response.plan.as_ref().is_some_and(|plan| plan.keep_alive) && !connection.closing;
        connection.stage = Stage::Answering(Facts {
            keep_alive: keep_alive && !body_broke,
            response: if complete { Outcome::Complete } else { Outcome::Aborted },
            unread,
            drain_limit: DRAIN_LIMIT,
            stopping: false,
            upgraded: false,
        });
        connection.served += 1;
        if connection.site.is_observed() {
            let took = arrived.elapsed();
            connection.record = Some(Box::new(Record {
                peer: connection.peer,
                request,
                status: response.status,
                body_bytes: response.content,
                arrived: time_of_day().checked_sub(took).unwrap_or_else(time_of_day),
                started: arrived,
                took,
                complete,
            }));
        }
        let _ = framing;
        connection
    }

    /// Notes a change of the socket.
    pub fn note(&mut self, readable: bool, ended: bool) {
        if ended {
            self.inflow = Inflow::Ending;
        } else if readable && self.inflow == Inflow::Dry {
            self.inflow = Inflow::Flowing;
        }
    }

    fn has_inflow(&self) -> bool {
        self.inflow != Inflow::Dry
    }

    /// Whether there is something to do that no change of the socket will announce.
    pub fn is_eager(&self) -> bool {
        let reused = match &self.stage {
            Stage::Answering(facts) => turn::next(facts) == Next::Reuse,
            _ => false,
        };
        !reused || self.unseen || self.has_inflow() || self.wire.output().pending() > 0
    }

    /// Whether it waits for a request of which no byte has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Whether the response must be the connection's last.
    pub(super) fn must_close(&self) -> bool {
        self.closing || self.site.options.keep_alive.is_zero() || self.site.is_stopping()
    }

    /// Makes the response the connection's last.
    pub(super) fn close_after_this(&mut self) {
        self.closing = true;
    }

    /// When patience with the client ends; `None` while a worker has the connection.
    pub fn deadline(&self) -> Option<Instant> {
        let options = &self.site.options;
        match &self.stage {
            Stage::Idle if self.served > 0 => Some(self.since + options.keep_alive),
            Stage::Idle | Stage::Head => Some(self.since + options.header_timeout),
            Stage::Body(pending) => Some(pending.intake.pace.deadline(options)),
            Stage::Answering(_) => Some(self.moved + options.write_timeout),
            Stage::Draining(_) | Stage::Lingering => Some((self.since + LINGER).min(self.moved + LINGER_SILENCE)),
            Stage::Serving => None,
        }
    }

    /// The deadline has passed: says what is to be done about the client.
    pub fn expire(mut self: Box<Self>, turn: &mut Turn<'_>) -> Step {
        match self.stage {
            // A client that has begun a request learns why it failed; one that has said nothing just loses the connection.
            Stage::Head => self.refuse(Reject::HeaderTimeout, turn),
            Stage::Body(_) => self.refuse(Reject::BodyTimeout, turn),
            Stage::Answering(_) => {
                self.wire.output().discard();
                self.tell(false);
                return Step::Closed;
            }
            _ => return Step::Closed,
        }
        self.advance(turn)
    }

    /// Answers a complete request that cannot be taken, before it reaches a worker.
    pub fn decline(mut exchange: Box<Exchange>, reject: Reject, turn: &mut Turn<'_>) -> Step {
        let head_method = exchange.request.method() == b"HEAD";
        exchange.connection.queue_refusal(reject, head_method, turn.date);
        exchange.connection.close_after_this();
        exchange.response.status = reject.status().code();
        exchange.response.progress = ResponseProgress::Complete;
        Self::conclude(exchange).advance(turn)
    }

    /// Queues a refusal of the server's own, after which the connection closes.
    pub(super) fn queue_refusal(&self, reject: Reject, head_method: bool, date: &[u8; 29]) {
        let retry_after = (reject.status().code() == 503).then_some(RETRY_AFTER);
        self.wire.output().append(|out| write::reject(out, &reject, date, SERVER, head_method, retry_after));
    }

    // Reads once. What came is in `turn.scratch`.
    fn fill(&mut self, turn: &mut Turn<'_>) -> Fill {
        if self.inflow == Inflow::Dry {
            return Fill::Nothing;
        }
        match self.wire.stream().read(turn.scratch) {
            Ok(0) => Fill::End,
            Ok(count) => {
                // A short read has emptied the socket: asking again would only cost a system call.
                if self.inflow == Inflow::Flowing && count < turn.scratch.len() {
                    self.inflow = Inflow::Dry;
                }
                self.moved = turn.now;
                Fill::Bytes(count)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.inflow = Inflow::Dry;
                Fill::Nothing
            }
            Err(_) => Fill::End,
        }
    }

    // parse::head, then framing::decide.
    fn receive_head(mut self: Box<Self>, turn: &mut Turn<'_>) -> Pass {
        if !self.unseen {
            let count = match self.fill(turn) {
                Fill::Bytes(count) => count,
                Fill::Nothing => return Pass::Out(Step::Wait(self)),
                // Nobody waits for an answer to half a head.
                Fill::End => return Pass::Out(Step::Closed),
            };
            if self.input.is_empty() {
                // The usual case: a whole head in one read, parsed where it was read.
                let received = &turn.scratch[..count];
                let parsed = parse::head(received, &mut self.progress, &self.site.options.limits);
                match parsed {
                    Ok(Some((head, used))) => {
                        let rest = turn.scratch[used..count].to_vec();
                        return self.begin(head, rest, turn);
                    }
                    Ok(None) => {
                        self.input.extend_from_slice(received);
                        return self.wait_for_head(turn);
                    }
                    Err(reject) => {
                        self.refuse(reject, turn);
                        return Pass::On(self);
                    }
                }
            }
            self.input.extend_from_slice(&turn.scratch[..count]);
        }
        self.unseen = false;
        match parse::head(&self.input, &mut self.progress, &self.site.options.limits) {
            Ok(Some((head, used))) => {
                let mut rest = std::mem::take(&mut self.input);
                rest.drain(..used);
                self.begin(head, rest, turn)
            }
            Ok(None) => self.wait_for_head(turn),
            Err(reject) => {
                self.refuse(reject, turn);
                Pass::On(self)
            }
        }
    }

    fn wait_for_head(mut self: Box<Self>, turn: &Turn<'_>) -> Pass {
        if matches!(self.stage, Stage::Idle) {
            self.enter(Stage::Head, turn.now);
        }
        Pass::On(self)
    }

    // A head is complete; `rest` is what came behind it.
    fn begin(mut self: Box<Self>, request: RequestHead, mut rest: Vec<u8>, turn: &mut Turn<'_>) -> Pass {
        self.progress = parse::Progress::default();
        let framing = match framing::decide(&request, &self.site.options.limits) {
            Ok(framing) => framing,
            Err(reject) => {
                self.refuse(reject, turn);
                return Pass::On(self);
            }
        };
        let options = Arc::clone(&self.site.options);
        let intake = match framing.body {
            BodyLength::None | BodyLength::Length(0) => {
                let length = (framing.body != BodyLength::None).then_some(0);
                if framing.expect_continue && length.is_some() {
                    self.invite();
                }
                self.keep_input(rest);
                return Pass::Out(Step::Ready(self.ready(request, framing, Body::Empty, length, turn.now)));
            }
            BodyLength::Length(length) if length <= options.body_buffer as u64 => Intake::of_length(length, turn.now),
            BodyLength::Length(length) => {
                let own = rest.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                let next = rest.split_off(own);
                let has_begun = !rest.is_empty();
                let mut stream = BodyStream::of_length(Arc::clone(&self.wire), options, length, rest, turn.now);
                if framing.expect_continue && !has_begun {
                    stream.expect_continue();
                }
                self.keep_input(next);
                let body = Body::Stream(Box::new(stream));
                return Pass::Out(Step::Ready(self.ready(request, framing, body, Some(length), turn.now)));
            }
            BodyLength::Chunked if options.stream_chunked => {
                let mut stream = BodyStream::chunked(Arc::clone(&self.wire), options, &rest, turn.now);
                if framing.expect_continue && rest.is_empty() {
                    stream.expect_continue();
                }
                let body = Body::Stream(Box::new(stream));
                return Pass::Out(Step::Ready(self.ready(request, framing, body, None, turn.now)));
            }
            BodyLength::Chunked => Intake::chunked(&options, turn.now),
        };
        // A client that has sent some of its body already has not waited to be asked.
        if framing.expect_continue && rest.is_empty() {
            self.invite();
        }
        self.enter(Stage::Body(Box::new(Pending { request, framing, intake })), turn.now);
        self.take_in(rest, turn)
    }

    // 100 Continue. A connection that broke is found at the next read.
    fn invite(&self) {
        self.wire.output().append(write::interim_continue);
        drop(self.wire.flush());
    }

    fn receive_body(mut self: Box<Self>, turn: &mut Turn<'_>) -> Pass {
        match self.fill(turn) {
            Fill::Bytes(count) => {
                let received = turn.scratch[..count].to_vec();
                self.take_in(received, turn)
            }
            Fill::Nothing => Pass::Out(Step::Wait(self)),
            // The application never sees a body that is shorter than it was announced.
            Fill::End => Pass::Out(Step::Closed),
        }
    }

    fn take_in(mut self: Box<Self>, mut received: Vec<u8>, turn: &mut Turn<'_>) -> Pass {
        let Stage::Body(pending) = &mut self.stage else { return Pass::On(self) };
        match pending.intake.feed(&received, turn.now) {
            Ok((_, false)) => Pass::On(self),
            Ok((used, true)) => {
                received.drain(..used);
                self.keep_input(received);
                let Stage::Body(pending) = std::mem::replace(&mut self.stage, Stage::Serving) else {
                    return Pass::On(self);
                };
                let Pending { request, framing, intake } = *pending;
                match intake.finish() {
                    Ok((body, length)) => {
                        Pass::Out(Step::Ready(self.ready(request, framing, body, Some(length), turn.now)))
                    }
                    Err(reject) => {
                        self.refuse(reject, turn);
                        Pass::On(self)
                    }
                }
            }
            Err(reject) => {
                self.refuse(reject, turn);
                Pass::On(self)
            }
        }
    }

    fn keep_input(&mut self, rest: Vec<u8>) {
        self.unseen = !rest.is_empty();
        self.input = rest;
    }

    fn ready(
        mut self: Box<Self>,
        request: RequestHead,
        framing: Framing,
        body: Body,
        body_length: Option<u64>,
        now: Instant,
    ) -> Box<Exchange> {
        self.stage = Stage::Serving;
        Box::new(Exchange {
            key: super::learning::key(request.method(), request.path()),
            connection: self,
            request,
            framing,
            body,
            body_length,
            arrived: now,
            response: Response::new(),
        })
    }

    // Queues the refusal of a request that never became an exchange.
    fn refuse(&mut self, reject: Reject, turn: &Turn<'_>) {
        if reject.blame() == Blame::Server {
            self.site.reporter.report(super::gateway::Severity::Error, reject.detail());
        }
        self.queue_refusal(reject, false, turn.date);
        self.input = Vec::new();
        self.unseen = false;
        self.enter(
            Stage::Answering(Facts {
                keep_alive: false,
                response: Outcome::Complete,
                unread: Unread::Unknown,
                drain_limit: DRAIN_LIMIT,
                stopping: false,
                upgraded: false,
            }),
            turn.now,
        );
    }

    // flush, then turn::next.
    fn answer(mut self: Box<Self>, facts: Facts, turn: &mut Turn<'_>) -> Pass {
        let (flushed, sent) = {
            let mut output = self.wire.output();
            (output.flush(self.wire.stream()), output.sent())
        };
        if sent != self.sent {
            self.sent = sent;
            self.moved = turn.now;
        }
        match flushed {
            Ok(Flushed::All) => {}
            Ok(Flushed::Blocked) => return Pass::Out(Step::Wait(self)),
            Ok(Flushed::Yielded) => return Pass::Out(Step::Again(self)),
            Err(error) => {
                // A file that became shorter leaves a response that is shorter than announced: the close tells.
                self.wire.output().discard();
                let _ = error;
                self.tell(false);
                return Pass::Out(Step::Closed);
            }
        }
        self.tell(true);
        // A request that was pipelined behind this one has been received, and is still answered when the server stops.
        let facts = Facts { stopping: self.site.is_stopping() && !self.unseen, ..facts };
        match turn::next(&facts) {
            Next::Reuse => {
                self.enter(Stage::Idle, turn.now);
                if self.unseen {
                    self.enter(Stage::Head, turn.now);
                }
                Pass::On(self)
            }
            Next::Drain(left) => {
                self.enter(Stage::Draining(left), turn.now);
                Pass::On(self)
            }
            // Closing on bytes that were not read would be a reset, which can destroy the response before it is read.
            Next::Close if facts.response == Outcome::Complete && (self.unseen || self.has_inflow()) => {
                self.begin_lingering(turn)
            }
            Next::Linger => self.begin_lingering(turn),
            Next::Close | Next::Upgrade => Pass::Out(Step::Closed),
        }
    }

    fn begin_lingering(mut self: Box<Self>, turn: &Turn<'_>) -> Pass {
        self.wire.stream().finish_writing();
        self.enter(Stage::Lingering, turn.now);
        // Input that came before is of no interest, but the socket must be read to its end.
        self.note(true, false);
        Pass::On(self)
    }

    /// Sends what the socket takes, without the poller. What this leaves is seen to when the connection is back there.
    pub fn send(&mut self) {
        let (flushed, sent) = {
            let mut output = self.wire.output();
            (output.flush(self.wire.stream()), output.sent())
        };
        if sent != self.sent {
            self.sent = sent;
            self.moved = Instant::now();
        }
        if matches!(flushed, Ok(Flushed::All)) {
            self.tell(true);
        }
    }

    // The observers learn of the exchange once its last byte has left.
    fn tell(&mut self, sent: bool) {
        if let Some(mut record) = self.record.take() {
            record.complete &= sent;
            record.took = record.started.elapsed();
            self.site.finished(&record);
        }
    }

    fn drain(mut self: Box<Self>, left: u64, turn: &mut Turn<'_>) -> Pass {
        match self.fill(turn) {
            Fill::Bytes(count) => {
                let own = usize::try_from(left).unwrap_or(usize::MAX).min(count);
                let left = left - own as u64;
                self.stage = Stage::Draining(left);
                if left == 0 {
                    let rest = turn.scratch[own..count].to_vec();
                    self.keep_input(rest);
                    self.enter(if self.unseen { Stage::Head } else { Stage::Idle }, turn.now);
                }
                Pass::On(self)
            }
            Fill::Nothing => Pass::Out(Step::Wait(self)),
            Fill::End => Pass::Out(Step::Closed),
        }
    }

    fn linger(mut self: Box<Self>, turn: &mut Turn<'_>) -> Pass {
        match self.fill(turn) {
            // One read each round: a client that floods must not hold the poller.
            Fill::Bytes(_) if self.has_inflow() => Pass::Out(Step::Again(self)),
            Fill::Bytes(_) | Fill::Nothing => Pass::Out(Step::Wait(self)),
            Fill::End => Pass::Out(Step::Closed),
        }
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
        self.moved = now;
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
