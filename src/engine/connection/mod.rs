//! The corridor: the life of a request from the first byte to the last, on one connection.
//!
//! ```text
//! fill -> parse::head -> framing::decide -> Origins::origin -> (body) -> Exchange -> gateway -> plan::response -> write -> flush -> reuse::next
//! ```
//!
//! A connection is a value with one owner at a time. The thread that holds the poller moves it along with
//! [`Connection::advance`] until a request is complete; then it travels inside the [`Exchange`] to a worker, whose gateway
//! answers; [`Connection::conclude`] takes it out again, and `advance` sends what is left and begins anew.

pub mod deadlines;
mod proxy_header;
pub mod response;

use std::sync::Arc;
use std::time::Instant;

use crate::engine::context::ShardContext;
use crate::engine::exchange::{Exchange, Response};
use crate::engine::observe::{Cause, Record};
use crate::engine::transport::Transport;
use crate::engine::transport::body::{Body, BodyStream};
use crate::engine::transport::client_rate::TransferRate;
use crate::engine::transport::intake::Intake;
use crate::http::head::{Received, RequestHead};
use crate::http::origin::{Client, Origin, Scheme};
use crate::http::reject::Reject;
use crate::http1::framing::{self, BodyLength, Framing};
use crate::http1::reuse::{self, Next, ReuseInput};
use crate::http1::{encoder, parse};
use crate::net::outcome::ReadOutcome;
use crate::net::proxy_protocol::Accepted;

/// Bytes that one connection reads in one turn at most: the smallest chunks make a millisecond's work of them.
pub const SHARE: usize = 64 * 1024;

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
    /// To hear of the next change of its socket, or of its deadline.
    Wait(Box<Connection>),
    /// To go on in the next round, without a change of its socket.
    Again(Box<Connection>),
    /// A request is complete.
    Ready(Box<Exchange>),
    /// To be forgotten.
    Closed,
}

pub(in crate::engine) enum Stage {
    // A proxy is to tell whose connection it is.
    ProxyHeader(Accepted),
    // No byte of a request has come.
    Idle,
    // Some of a head has.
    Head,
    Body(Box<Pending>),
    // The connection is inside an exchange.
    Serving,
    Answering(ReuseInput),
    Draining(u64),
    Lingering,
}

// A request whose body is being taken.
pub(in crate::engine) struct Pending {
    pub incoming: Incoming,
    pub intake: Intake,
}

// A request of which all is known but its body.
pub(in crate::engine) struct Incoming {
    pub request: RequestHead,
    framing: Framing,
    origin: Option<Box<Origin>>,
}

// What one pass through the corridor's loop came to.
pub(in crate::engine) enum Pass {
    On(Box<Connection>),
    Out(Step),
}

// What is known of the bytes in the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Inflow {
    // There are none until an event says otherwise.
    Dry,
    // There may be some, in the socket or decrypted, until a read says that it took the last.
    Flowing,
    // The client has closed its side: it must be read until it says so itself.
    Ending,
}

pub(in crate::engine) enum Fill {
    Bytes(usize),
    Nothing,
    End,
}

/// One client's connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
pub struct Connection {
    pub(in crate::engine) transport: Arc<Transport>,
    pub(in crate::engine) context: Arc<ShardContext>,
    pub(in crate::engine) client: Client,
    // How the client speaks to the proxy, where that tells it ahead of the connection.
    pub(in crate::engine) scheme: Option<Scheme>,
    pub(in crate::engine) listener: usize,
    /// Its place among the shard's connections.
    pub(in crate::engine) token: usize,
    pub(in crate::engine) stage: Stage,
    pub(in crate::engine) input: Vec<u8>,
    pub(in crate::engine) progress: parse::Progress,
    // When the stage began, and when it last moved.
    pub(in crate::engine) since: Instant,
    pub(in crate::engine) moved: Instant,
    pub(in crate::engine) sent: u64,
    // Bytes of somebody else's were let go.
    pub(in crate::engine) released: bool,
    // How its client keeps up with the response that leaves.
    pub(in crate::engine) leaving: TransferRate,
    // It has had a response.
    pub(in crate::engine) served: bool,
    // Bytes in `input` that the parser has not seen.
    pub(in crate::engine) unseen: bool,
    pub(in crate::engine) inflow: Inflow,
    // The response is the last: by our decision, or because the client asked for that.
    pub(in crate::engine) closing: bool,
    pub(in crate::engine) parting: bool,
    // The end of the connection is the end of the response.
    pub(in crate::engine) until_close: bool,
    pub(in crate::engine) record: Option<Box<Record>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(
        transport: Arc<Transport>,
        context: Arc<ShardContext>,
        client: Client,
        listener: usize,
        token: usize,
        now: Instant,
    ) -> Self {
        let stage = context.options.proxy_protocol.map_or(Stage::Idle, Stage::ProxyHeader);
        Self {
            transport,
            context,
            client,
            scheme: None,
            listener,
            token,
            stage,
            input: Vec::new(),
            progress: parse::Progress::default(),
            since: now,
            moved: now,
            sent: 0,
            released: false,
            leaving: TransferRate::new(now),
            served: false,
            unseen: false,
            inflow: Inflow::Dry,
            closing: false,
            parting: false,
            until_close: false,
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
                Stage::ProxyHeader(accepted) => self.receive_proxy_header(accepted, turn),
            };
            if turn.share == 0 {
                // A client that floods must not hold the poller.
                if let Pass::On(connection) = pass {
                    return Step::Again(connection);
                }
            }
            match pass {
                Pass::On(connection) => self = connection,
                Pass::Out(step) => return step,
            }
        }
    }

    /// Notes a change of the socket.
    pub fn note(&mut self, readable: bool, ended: bool) {
        if ended {
            self.inflow = Inflow::Ending;
        } else if readable && self.inflow == Inflow::Dry {
            self.inflow = Inflow::Flowing;
        }
    }

    // Whether everything that came was looked at.
    pub(in crate::engine) fn is_dry(&self) -> bool {
        !self.unseen && !self.has_inflow()
    }

    pub(in crate::engine) fn has_inflow(&self) -> bool {
        self.inflow != Inflow::Dry
    }

    /// Whether there is something to do that no change of the socket will announce.
    pub fn is_eager(&self) -> bool {
        let reused = match &self.stage {
            Stage::Answering(facts) => reuse::next(facts) == Next::Reuse,
            _ => false,
        };
        !reused || self.transport.output().has_failed() || !self.is_dry() || self.transport.pending() > 0
    }

    /// Whether bytes that belong to somebody else were let go since this was last asked.
    pub fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.released)
    }

    /// Whether it waits for a request of which no byte has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::ProxyHeader(_))
    }

    /// Whether a response is on its way.
    pub fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering(_)) && self.transport.pending() > 0
    }

    /// Whether a request is arriving or a response is on its way.
    pub(in crate::engine) fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Head | Stage::Body(_)) || self.is_answering()
    }

    /// Whether the response must be the connection's last.
    pub(in crate::engine) fn must_close(&self) -> bool {
        self.closing || self.context.options.keep_alive.is_zero() || self.context.is_stopping()
    }

    /// Makes the response the connection's last.
    pub(in crate::engine) fn close_after_this(&mut self) {
        self.closing = true;
    }

    /// The deadline has passed: says what is to be done about the client.
    pub fn expire(mut self: Box<Self>, turn: &mut Turn<'_>) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Serving) {
            // A client that has begun a request learns why it failed; one that has said nothing just loses the connection.
            Stage::Head => {
                let request = self.progress.received(&self.input, &self.context.options.limits);
                self.refuse(Reject::HeaderTimeout, request, turn);
            }
            Stage::Body(pending) => {
                self.refuse(Reject::BodyTimeout, Received::Head(pending.incoming.request), turn);
            }
            Stage::Answering(_) => {
                self.give_up(Cause::WriteTimeout);
                return Step::Closed;
            }
            Stage::ProxyHeader(_) => {
                self.context.report_closed(self.client, "no PROXY protocol header came within header_timeout");
                return Step::Closed;
            }
            _ => return Step::Closed,
        }
        self.advance(turn)
    }

    // Reads once. What came is in `turn.scratch`.
    pub(in crate::engine) fn fill(&mut self, turn: &mut Turn<'_>) -> Fill {
        if self.inflow == Inflow::Dry {
            // What a record layer has to send of its own; a failure is found by the next read.
            drop(self.transport.stream().flush());
            return Fill::Nothing;
        }
        match self.transport.stream().read(turn.scratch) {
            Ok(ReadOutcome { count: 0, .. }) => Fill::End,
            Ok(ReadOutcome { count, is_drained }) => {
                turn.share = turn.share.saturating_sub(count);
                // Asking again would only cost a system call.
                if self.inflow == Inflow::Flowing && is_drained {
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

    // parse::head, then framing::decide, then Origins::origin.
    fn receive_head(mut self: Box<Self>, turn: &mut Turn<'_>) -> Pass {
        if !self.unseen {
            let count = match self.fill(turn) {
                Fill::Bytes(count) => count,
                // A stop may begin just when a response has left.
                Fill::Nothing if self.is_idle() && self.served && self.context.is_stopping() => {
                    return Pass::Out(Step::Closed);
                }
                Fill::Nothing => return Pass::Out(Step::Wait(self)),
                // Nobody waits for an answer to half a head.
                Fill::End => {
                    if self.is_busy() {
                        self.context.report_closed(self.client, "the client left before its request was complete");
                    }
                    return Pass::Out(Step::Closed);
                }
            };
            if self.input.is_empty() {
                // The usual case: a whole head in one read, parsed where it was read.
                let received = &turn.scratch[..count];
                let parsed = parse::head(received, &mut self.progress, &self.context.options.limits);
                match parsed {
                    Ok(Some((head, used))) => {
                        let scratch = std::mem::take(&mut turn.scratch);
                        let pass = self.begin(head, &scratch[used..count], turn);
                        turn.scratch = scratch;
                        return pass;
                    }
                    Ok(None) => {
                        self.input.extend_from_slice(received);
                        return self.wait_for_head(turn);
                    }
                    Err(reject) => {
                        let request = self.progress.received(received, &self.context.options.limits);
                        return self.refused(reject, request, turn);
                    }
                }
            }
            self.input.extend_from_slice(&turn.scratch[..count]);
        }
        self.unseen = false;
        match parse::head(&self.input, &mut self.progress, &self.context.options.limits) {
            Ok(Some((head, used))) => {
                let input = std::mem::take(&mut self.input);
                self.begin(head, &input[used..], turn)
            }
            Ok(None) => self.wait_for_head(turn),
            Err(reject) => {
                let request = self.progress.received(&self.input, &self.context.options.limits);
                self.refused(reject, request, turn)
            }
        }
    }

    fn wait_for_head(mut self: Box<Self>, turn: &Turn<'_>) -> Pass {
        // A stray line end behind a body is no request yet (RFC 9112 §2.2).
        if matches!(self.stage, Stage::Idle) && !matches!(self.input.as_slice(), b"\r" | b"\r\n") {
            self.enter(Stage::Head, turn.now);
        }
        Pass::On(self)
    }

    // A head is complete; `rest` is what came behind it.
    fn begin(mut self: Box<Self>, request: RequestHead, rest: &[u8], turn: &mut Turn<'_>) -> Pass {
        let framing = match framing::decide(&request, &self.context.options.limits) {
            Ok(framing) => framing,
            Err(reject) => return self.refused(reject, Received::Head(request), turn),
        };
        let origin = match self.find_origin(&request, turn.now) {
            Ok(origin) => origin,
            Err(reject) => return self.refused(reject, Received::Head(request), turn),
        };
        let incoming = Incoming { request, framing, origin };
        let options = &self.context.options;
        // What a client holds back until it is asked is asked for by a worker. One that has sent some of it has not waited.
        let expected = framing.expect_continue && rest.is_empty();
        let intake = match framing.body {
            BodyLength::None | BodyLength::Length(0) => {
                let length = (framing.body != BodyLength::None).then_some(0);
                self.keep_input(rest);
                return Pass::Out(Step::Ready(self.ready(incoming, Body::Empty, length, turn.now)));
            }
            BodyLength::Length(length) if expected || options.stream_bodies && length > options.body_buffer as u64 => {
                let own = rest.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                let (own, next) = rest.split_at(own);
                let options = Arc::clone(options);
                let mut stream = BodyStream::of_length(Arc::clone(&self.transport), options, length, own.to_vec());
                if expected {
                    stream.expect_continue();
                }
                self.keep_input(next);
                let body = Body::Stream(Box::new(stream));
                return Pass::Out(Step::Ready(self.ready(incoming, body, Some(length), turn.now)));
            }
            BodyLength::Chunked if expected || options.stream_chunked => {
                let mut stream = BodyStream::chunked(Arc::clone(&self.transport), Arc::clone(options), rest);
                if expected {
                    stream.expect_continue();
                }
                let body = Body::Stream(Box::new(stream));
                return Pass::Out(Step::Ready(self.ready(incoming, body, None, turn.now)));
            }
            BodyLength::Length(length) => Intake::new(Some(length), options, &self.context.spool, turn.now),
            BodyLength::Chunked => Intake::new(None, options, &self.context.spool, turn.now),
        };
        self.enter(Stage::Body(Box::new(Pending { incoming, intake })), turn.now);
        self.take_in(rest, turn)
    }

    /// Takes the connection out of an exchange whose client holds the body back: sends `100 Continue`, to take the body whole
    /// before the exchange is ready again. A connection that broke is found at the next read; what the socket does not take
    /// leaves while the body is waited for.
    pub(in crate::engine) fn ask_for_body(exchange: Box<Exchange>, now: Instant) -> Box<Self> {
        let Exchange { mut connection, request, framing, origin, body_length, .. } = *exchange;
        let intake = Intake::new(body_length, &connection.context.options, &connection.context.spool, now);
        connection.transport.output().append(encoder::interim_continue);
        let incoming = Incoming { request, framing, origin };
        connection.enter(Stage::Body(Box::new(Pending { incoming, intake })), now);
        connection
    }

    fn receive_body(mut self: Box<Self>, turn: &mut Turn<'_>) -> Pass {
        if matches!(&self.stage, Stage::Body(pending) if pending.incoming.framing.expect_continue) {
            drop(self.transport.flush());
        }
        match self.fill(turn) {
            Fill::Bytes(count) => {
                let scratch = std::mem::take(&mut turn.scratch);
                let pass = self.take_in(&scratch[..count], turn);
                turn.scratch = scratch;
                pass
            }
            Fill::Nothing => Pass::Out(Step::Wait(self)),
            // The application never sees a body that is shorter than it was announced.
            Fill::End => {
                self.context.report_closed(self.client, Reject::BodyIncomplete.detail());
                Pass::Out(Step::Closed)
            }
        }
    }

    fn take_in(mut self: Box<Self>, received: &[u8], turn: &Turn<'_>) -> Pass {
        let Stage::Body(pending) = &mut self.stage else { return Pass::On(self) };
        match pending.intake.feed(received, &self.context.options, turn.now) {
            Ok((_, false)) => Pass::On(self),
            Ok((used, true)) => {
                self.keep_input(&received[used..]);
                let Stage::Body(pending) = std::mem::replace(&mut self.stage, Stage::Serving) else {
                    return Pass::On(self);
                };
                let Pending { incoming, intake } = *pending;
                match intake.finish() {
                    Ok((body, length)) => Pass::Out(Step::Ready(self.ready(incoming, body, Some(length), turn.now))),
                    Err(reject) => self.refused(reject, Received::Head(incoming.request), turn),
                }
            }
            Err(reject) => match std::mem::replace(&mut self.stage, Stage::Serving) {
                Stage::Body(pending) => self.refused(reject, Received::Head(pending.incoming.request), turn),
                _ => Pass::On(self),
            },
        }
    }

    pub(in crate::engine) fn keep_input(&mut self, rest: &[u8]) {
        self.unseen = !rest.is_empty();
        self.input = rest.to_vec();
    }

    fn ready(
        mut self: Box<Self>,
        incoming: Incoming,
        body: Body,
        body_length: Option<u64>,
        now: Instant,
    ) -> Box<Exchange> {
        self.stage = Stage::Serving;
        let Incoming { request, framing, origin } = incoming;
        Box::new(Exchange {
            key: crate::engine::scheduling::profile::key(request.method(), request.path()),
            connection: self,
            request,
            framing,
            origin,
            body,
            body_length,
            arrived: now,
            response: Response::new(),
            websocket: None,
        })
    }

    pub(in crate::engine) fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
        self.moved = now;
        self.leaving = TransferRate::new(now);
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "work_tests.rs"]
mod work;
