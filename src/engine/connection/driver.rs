//! HTTP/1.1 on one connection, without its socket: bytes and instants go in, and what they come to goes out. A refusal is an
//! outcome like a request; what is written and who learns of it is the connection's affair.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::connection::deadlines::Awaited;
use crate::engine::connection::idle::{IdleConnection, MAX_INPUT_BYTES};
use crate::engine::connection::proxy_header::{find_origin, told};
use crate::engine::options::Options;
use crate::engine::transport::body::Body;
use crate::engine::transport::client_rate::TransferRate;
use crate::engine::transport::intake::Intake;
use crate::engine::transport::spool::{Budget, MemoryReservation};
use crate::http::head::{Received, RequestHead};
use crate::http::origin::{Client, Origin, Scheme};
use crate::http::reject::Reject;
use crate::http1::framing::{self, BodyLength, Framing};
use crate::http1::parse;
use crate::http1::reuse::{self, Outcome, ReuseDecision, ReuseInput, Unread};
use crate::net::proxy_protocol::{self, AcceptedVersion, Malformed};

/// What the driver is told with each call.
pub(in crate::engine) struct Surroundings<'a> {
    pub options: &'a Options,
    /// Where large bodies go.
    pub spool: &'a Arc<Budget>,
    pub now: Instant,
    pub is_stopping: bool,
}

enum Http1Stage {
    // A proxy is to tell whose connection it is.
    ProxyHeader(AcceptedVersion),
    // No byte of a request has come.
    Idle,
    // Some of a head has.
    Head,
    Body(Box<Pending>),
    // The request is with a worker.
    Serving,
    Answering(ReuseInput),
    Draining(u64),
    Lingering,
}

// A request whose body is being taken.
struct Pending {
    incoming: Incoming,
    intake: Intake,
}

/// A request of which all is known but its body.
pub(in crate::engine) struct Incoming {
    pub request: RequestHead,
    pub framing: Framing,
    pub origin: Option<Box<Origin>>,
}

/// The body of a request that is ready for a worker.
pub(in crate::engine) enum ReadyBody {
    /// It has come whole; its length is `None` without any body.
    Whole(Body, Option<u64>),
    /// It is read as it arrives: its length, if that is known, and what has come of it.
    Streamed(Option<u64>, Vec<u8>),
    /// The same, and the client waits to be asked for it.
    Expected(Option<u64>),
}

/// What received bytes came to.
pub(in crate::engine) enum Reception {
    /// Nothing yet: more bytes are needed, or those that are kept are to be looked at.
    Incomplete,
    /// A request is ready for a worker.
    Ready(Incoming, ReadyBody),
    /// It is refused, as far as it is known. `is_proxys`: because of what a proxy says of its origin.
    Refused { reject: Reject, request: Received, is_proxys: bool },
    /// The header that a proxy sends is complete. What came behind it is in [`Http1Driver::take_input`].
    Proxied,
    /// The connection does not begin with that header.
    NotProxied(Malformed),
    /// The rest of the last request was read away, and the server stops.
    Over,
}

impl Reception {
    fn refused(reject: Reject, request: Received) -> Self {
        Self::Refused { reject, request, is_proxys: false }
    }
}

/// What a deadline that has passed means.
pub(in crate::engine) enum Expiry {
    /// The client has begun a request, and learns why it failed.
    Refused(Reject, Received),
    /// It does not take its response.
    Unread,
    /// It has said nothing. The reason, if that is worth a report.
    Silent(Option<&'static str>),
}

/// What follows a response that has left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum AfterResponse {
    /// The next request, or the rest of the last.
    GoOn,
    /// The sending side closes, and what comes is read away.
    Linger,
    /// The connection closes; `in_order`, if the response is whole.
    Close { in_order: bool },
}

/// The protocol of one connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
pub(in crate::engine) struct Http1Driver {
    /// Who sends: the other end, or whom a proxy names ahead of the connection.
    pub client: Client,
    /// How that client speaks to the proxy, where that tells it.
    pub scheme: Option<Scheme>,
    stage: Http1Stage,
    // When the stage began, and when it last moved.
    since: Instant,
    moved: Instant,
    // Bytes of an incomplete head, or of what comes behind the current request, and whether the parser has not seen them.
    input: Vec<u8>,
    is_unseen: bool,
    parsing: parse::HeadProgress,
    // It has had a response.
    is_served: bool,
    // The response is the last: by our decision, or because the client asked for that.
    closes: bool,
    is_parting: bool,
}

impl Http1Driver {
    /// Of a connection that was just accepted from `client`.
    pub fn new(client: Client, proxy_protocol: Option<AcceptedVersion>, now: Instant) -> Self {
        Self {
            client,
            scheme: None,
            stage: proxy_protocol.map_or(Http1Stage::Idle, Http1Stage::ProxyHeader),
            since: now,
            moved: now,
            input: Vec::new(),
            is_unseen: false,
            parsing: parse::HeadProgress::default(),
            is_served: false,
            closes: false,
            is_parting: false,
        }
    }

    /// Of a connection that was made anew. A header of a proxy that is still to come is read if `proxy_protocol` wants one here.
    pub fn resumed(idle: &IdleConnection, proxy_protocol: Option<AcceptedVersion>) -> Self {
        let IdleConnection { client, scheme, is_served, since, .. } = *idle;
        let awaited = proxy_protocol.filter(|_| idle.awaits_proxy_header);
        let mut driver = Self { scheme, is_served, ..Self::new(client, awaited, since) };
        driver.keep(&idle.input);
        driver
    }

    /// What is left of it between two requests, if it came through `listener`. `None`: there is more, or bytes to look at first.
    pub fn idle(&self, listener: usize) -> Option<IdleConnection> {
        let Self { client, scheme, is_served, since, .. } = *self;
        let waits = matches!(self.stage, Http1Stage::ProxyHeader(_) | Http1Stage::Idle | Http1Stage::Head);
        (waits && !self.is_unseen && self.input.len() <= MAX_INPUT_BYTES).then(|| IdleConnection {
            client,
            scheme,
            listener,
            is_served,
            awaits_proxy_header: matches!(self.stage, Http1Stage::ProxyHeader(_)),
            since,
            input: self.input.clone(),
        })
    }

    /// Whether it waits for a request of which no byte has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Http1Stage::Idle | Http1Stage::ProxyHeader(_))
    }

    /// Since when it idles, and whether it has had a response, if there is nothing else to be kept of it.
    pub fn can_park(&self) -> Option<(Instant, bool)> {
        let can_park = matches!(self.stage, Http1Stage::Idle) && self.input.is_empty();
        can_park.then_some((self.since, self.is_served))
    }

    /// Whether its request is with a worker.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Http1Stage::Serving)
    }

    /// Whether its response is to leave.
    pub fn is_answering(&self) -> bool {
        matches!(self.stage, Http1Stage::Answering(_))
    }

    /// Whether a request is arriving.
    pub fn is_receiving(&self) -> bool {
        matches!(self.stage, Http1Stage::Head | Http1Stage::Body(_))
    }

    /// Whether the client was asked for the body that is being taken.
    pub fn has_asked_for_body(&self) -> bool {
        matches!(&self.stage, Http1Stage::Body(pending) if pending.incoming.framing.expect_continue)
    }

    /// Whether there are bytes that the parser has not seen.
    pub fn is_unseen(&self) -> bool {
        self.is_unseen
    }

    /// Whether those are to be looked at next, before more are read.
    pub fn can_resume(&self) -> bool {
        self.is_unseen && matches!(self.stage, Http1Stage::ProxyHeader(_) | Http1Stage::Idle | Http1Stage::Head)
    }

    /// Whether the connection closes behind its next response, whatever that is.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether the body that is being taken had room in temporary files that another has now. `None`: none is being taken.
    pub fn is_body_revoked(&self) -> Option<bool> {
        match &self.stage {
            Http1Stage::Body(pending) => Some(pending.intake.is_revoked()),
            _ => None,
        }
    }

    /// What it waits for. `rate`: how quickly the client takes the response.
    pub fn awaited<'a>(&'a self, rate: &'a TransferRate, is_stopping: bool) -> Awaited<'a> {
        let Self { since, moved, .. } = *self;
        match &self.stage {
            Http1Stage::ProxyHeader(_) => Awaited::ProxyHeader { since },
            Http1Stage::Idle => Awaited::Request { since, is_first: !self.is_served },
            Http1Stage::Head => Awaited::Head { since },
            Http1Stage::Body(pending) => Awaited::Body(&pending.intake.rate),
            Http1Stage::Answering(_) => Awaited::Reader { moved, rate },
            Http1Stage::Draining(_) | Http1Stage::Lingering => Awaited::End { since, moved, is_stopping },
            Http1Stage::Serving => Awaited::Application,
        }
    }

    fn enter(&mut self, stage: Http1Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
        self.moved = now;
    }

    /// Bytes have come or left.
    pub fn note_moved(&mut self, now: Instant) {
        self.moved = now;
    }

    fn keep(&mut self, rest: &[u8]) {
        self.put_back(rest.to_vec());
    }

    /// Puts bytes back that are to be looked at next.
    pub fn put_back(&mut self, input: Vec<u8>) {
        self.is_unseen = !input.is_empty();
        self.input = input;
    }

    /// Takes the bytes that came behind the request, or behind a proxy's header, which may be of another protocol.
    pub fn take_input(&mut self) -> Vec<u8> {
        self.is_unseen = false;
        std::mem::take(&mut self.input)
    }

    /// Takes what has come; nothing, to look at what is kept.
    pub fn receive(&mut self, received: &[u8], with: &Surroundings<'_>) -> Reception {
        match self.stage {
            Http1Stage::Idle | Http1Stage::Head => self.receive_head(received, with),
            Http1Stage::Body(_) => self.receive_body(received, with),
            Http1Stage::Draining(left) => self.drain(left, received, with),
            Http1Stage::ProxyHeader(accepted) => self.receive_proxy_header(accepted, received, with),
            Http1Stage::Lingering | Http1Stage::Serving | Http1Stage::Answering(_) => Reception::Incomplete,
        }
    }

    // `proxy_protocol::parse`. What no trusted proxy sent is closed, and never read as HTTP.
    fn receive_proxy_header(
        &mut self,
        accepted: AcceptedVersion,
        received: &[u8],
        with: &Surroundings<'_>,
    ) -> Reception {
        self.is_unseen = false;
        self.input.extend_from_slice(received);
        match proxy_protocol::parse(&self.input, accepted) {
            Ok(Some(header)) => {
                (self.client, self.scheme) = told(&header, self.client);
                let input = std::mem::take(&mut self.input);
                self.keep(&input[header.length..]);
                self.enter(Http1Stage::Idle, with.now);
                Reception::Proxied
            }
            Ok(None) => Reception::Incomplete,
            Err(problem) => Reception::NotProxied(problem),
        }
    }

    // parse::head, then framing::decide, then Origins::origin.
    fn receive_head(&mut self, received: &[u8], with: &Surroundings<'_>) -> Reception {
        let limits = &with.options.limits;
        self.is_unseen = false;
        if self.input.is_empty() {
            // The usual case: a whole head in one read, parsed where it was read.
            return match parse::head(received, &mut self.parsing, limits) {
                Ok(Some((head, used))) => self.begin(head, &received[used..], with),
                Ok(None) => {
                    self.input.extend_from_slice(received);
                    self.wait_for_head(with.now)
                }
                Err(reject) => Reception::refused(reject, self.parsing.received(received, limits)),
            };
        }
        self.input.extend_from_slice(received);
        match parse::head(&self.input, &mut self.parsing, limits) {
            Ok(Some((head, used))) => {
                let input = std::mem::take(&mut self.input);
                self.begin(head, &input[used..], with)
            }
            Ok(None) => self.wait_for_head(with.now),
            Err(reject) => Reception::refused(reject, self.parsing.received(&self.input, limits)),
        }
    }

    fn wait_for_head(&mut self, now: Instant) -> Reception {
        // A stray line end behind a body is no request yet (RFC 9112 §2.2).
        if matches!(self.stage, Http1Stage::Idle) && !matches!(self.input.as_slice(), b"\r" | b"\r\n") {
            self.enter(Http1Stage::Head, now);
        }
        Reception::Incomplete
    }

    // A head is complete; `rest` is what came behind it.
    fn begin(&mut self, request: RequestHead, rest: &[u8], with: &Surroundings<'_>) -> Reception {
        let framing = match framing::decide(&request, &with.options.limits) {
            Ok(framing) => framing,
            Err(reject) => return Reception::refused(reject, Received::Head(request)),
        };
        let origin = match find_origin(with.options, &request, self.client, self.scheme) {
            Ok(origin) => origin,
            Err(reject) => {
                return Reception::Refused { reject, request: Received::Head(request), is_proxys: true };
            }
        };
        let incoming = Incoming { request, framing, origin };
        let options = with.options;
        // What a client holds back until it is asked is asked for by a worker. One that has sent some of it has not waited.
        let is_expected = framing.expect_continue && rest.is_empty();
        let length = match framing.body {
            BodyLength::None | BodyLength::Length(0) => {
                let length = (framing.body != BodyLength::None).then_some(0);
                self.keep(rest);
                return self.ready(incoming, ReadyBody::Whole(Body::Empty, length));
            }
            BodyLength::Length(length) => Some(length),
            BodyLength::Chunked => None,
        };
        if is_expected {
            return self.ready(incoming, ReadyBody::Expected(length));
        }
        match length {
            Some(length) if options.stream_bodies && length > options.body_buffer as u64 => {
                let (own, next) = rest.split_at(rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
                self.keep(next);
                self.ready(incoming, ReadyBody::Streamed(Some(length), own.to_vec()))
            }
            None if options.stream_chunked => self.ready(incoming, ReadyBody::Streamed(None, rest.to_vec())),
            // The usual case of a small body: it came with its head.
            Some(length) if length <= options.body_buffer.min(rest.len()) as u64 => {
                let (own, next) = rest.split_at(rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
                self.keep(next);
                let body = Body::Memory(own.to_vec(), MemoryReservation::default());
                self.ready(incoming, ReadyBody::Whole(body, Some(length)))
            }
            _ => {
                let intake = Intake::new(length, options, with.spool, with.now);
                self.enter(Http1Stage::Body(Box::new(Pending { incoming, intake })), with.now);
                self.receive_body(rest, with)
            }
        }
    }

    fn receive_body(&mut self, received: &[u8], with: &Surroundings<'_>) -> Reception {
        let Http1Stage::Body(pending) = &mut self.stage else { return Reception::Incomplete };
        let fed = pending.intake.feed(received, with.options, with.now);
        if matches!(fed, Ok((_, false))) {
            return Reception::Incomplete;
        }
        let Http1Stage::Body(pending) = std::mem::replace(&mut self.stage, Http1Stage::Serving) else {
            return Reception::Incomplete;
        };
        let Pending { incoming, intake } = *pending;
        let whole = fed.and_then(|(used, _)| {
            self.keep(&received[used..]);
            intake.finish()
        });
        match whole {
            Ok((body, length)) => self.ready(incoming, ReadyBody::Whole(body, Some(length))),
            Err(reject) => Reception::refused(reject, Received::Head(incoming.request)),
        }
    }

    fn ready(&mut self, incoming: Incoming, body: ReadyBody) -> Reception {
        self.stage = Http1Stage::Serving;
        self.is_parting = !incoming.framing.persistent;
        Reception::Ready(incoming, body)
    }

    fn drain(&mut self, left: u64, received: &[u8], with: &Surroundings<'_>) -> Reception {
        let own = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
        let left = left - own as u64;
        self.stage = Http1Stage::Draining(left);
        if left == 0 {
            self.keep(&received[own..]);
            self.enter(Http1Stage::Idle, with.now);
            if with.is_stopping && !self.is_unseen {
                return Reception::Over;
            }
        }
        Reception::Incomplete
    }

    /// Whether a connection of which nothing more has come can be closed, since the server stops. A stop may begin just when a
    /// response has left.
    pub fn is_over(&self, is_stopping: bool) -> bool {
        is_stopping && self.is_served && self.is_idle()
    }

    /// Why the end of the client's input is worth a report: no response is needed by a client that left.
    pub fn end(&self) -> Option<&'static str> {
        match self.stage {
            Http1Stage::Head => Some("the client left before its request was complete"),
            // The application never sees a body that is shorter than it was announced.
            Http1Stage::Body(_) => Some(Reject::BodyIncomplete.detail()),
            _ => None,
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, options: &Options) -> Expiry {
        match std::mem::replace(&mut self.stage, Http1Stage::Serving) {
            Http1Stage::Head => {
                Expiry::Refused(Reject::HeaderTimeout, self.parsing.received(&self.input, &options.limits))
            }
            Http1Stage::Body(pending) => Expiry::Refused(Reject::BodyTimeout, Received::Head(pending.incoming.request)),
            Http1Stage::Answering(_) => Expiry::Unread,
            Http1Stage::ProxyHeader(_) => Expiry::Silent(Some("no PROXY protocol header came within header_timeout")),
            _ => Expiry::Silent(None),
        }
    }

    /// The client of a request that a worker had was asked for its body, of this length.
    pub fn await_body(&mut self, incoming: Incoming, length: Option<u64>, with: &Surroundings<'_>) {
        let intake = Intake::new(length, with.options, with.spool, with.now);
        self.enter(Http1Stage::Body(Box::new(Pending { incoming, intake })), with.now);
    }

    /// The response is queued. `input` is what the worker has read behind the request; `closes`: no other response follows.
    pub fn answer(&mut self, facts: ReuseInput, closes: bool, input: Vec<u8>, now: Instant) {
        if !input.is_empty() {
            self.input.splice(0..0, input);
            self.is_unseen = true;
        }
        self.closes |= closes;
        self.is_served = true;
        self.enter(Http1Stage::Answering(facts), now);
    }

    /// A refusal is queued, behind which the connection closes.
    pub fn refuse(&mut self, now: Instant) {
        self.keep(b"");
        self.enter(Http1Stage::Answering(ReuseInput::new(false, Outcome::Complete, Unread::Unknown)), now);
    }

    /// The last request is over, and another may come.
    pub fn forget(&mut self, request: RequestHead) {
        self.parsing = parse::HeadProgress::behind(request);
    }

    /// The response has left: `reuse::next`. `is_dry`: the socket has no more bytes for now.
    pub fn after_response(&mut self, is_dry: bool, is_stopping: bool, now: Instant) -> AfterResponse {
        let Http1Stage::Answering(facts) = self.stage else { return AfterResponse::GoOn };
        // A request that was pipelined behind this one has been received, and is still answered when the server stops.
        let facts = ReuseInput { stopping: is_stopping && !self.is_unseen, ..facts };
        let is_whole = facts.response == Outcome::Complete;
        match reuse::next(&facts) {
            ReuseDecision::Reuse => self.enter(Http1Stage::Idle, now),
            ReuseDecision::Drain(left) => self.enter(Http1Stage::Draining(left), now),
            ReuseDecision::Linger => return AfterResponse::Linger,
            // Closing on bytes that were not read would be a reset, which can destroy the response before it is read. Only a
            // client that asked for the close itself sends nothing more.
            ReuseDecision::Close if is_whole && !(self.is_parting && is_dry && !self.is_unseen) => {
                return AfterResponse::Linger;
            }
            ReuseDecision::Close | ReuseDecision::Upgrade => return AfterResponse::Close { in_order: is_whole },
        }
        AfterResponse::GoOn
    }

    /// The sending side is closed, and what comes is read away.
    pub fn linger(&mut self, now: Instant) {
        self.enter(Http1Stage::Lingering, now);
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
