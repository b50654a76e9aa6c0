//! A connection that has several exchanges at a time, as HTTP/2 has: a double in place of
//! [`Connection`](crate::engine::connection::Connection), which frames what it reads and writes as `framed` says. A request's head
//! is that of HTTP/1.1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::encoding::Encoding;
use crate::engine::exchange::finished::{ExchangeResult, Finished, tell};
use crate::engine::exchange::reply::{Reply, ReplyFacts};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::observe::Cause;
use crate::engine::scheduling::profile;
use crate::engine::testkit::framed::{FrameKind, FramedEncoder, split};
use crate::engine::transport::Transport;
use crate::engine::transport::intake::Intake;
use crate::http::head::RequestHead;
use crate::http::origin::Client;
use crate::http::reject::Reject;
use crate::http1::framing::{self, Framing};
use crate::http1::parse;
use crate::http1::plan::ResponseContext;

// A stream between its first frame and its response.
enum StreamState {
    Arriving(RequestHead, Vec<u8>),
    Serving,
}

/// One connection with its streams.
pub struct Multiplexed {
    transport: Arc<Transport>,
    context: Arc<ShardContext>,
    ticket: Ticket,
    input: Vec<u8>,
    streams: BTreeMap<u32, StreamState>,
}

impl Multiplexed {
    /// A connection that was just accepted, with this place in its shard.
    pub fn new(transport: Arc<Transport>, context: Arc<ShardContext>, ticket: Ticket) -> Self {
        Self { transport, context, ticket, input: Vec::new(), streams: BTreeMap::new() }
    }

    /// Streams that have no response yet.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes bytes from the client. Gives the requests that are complete by them.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<Vec<Box<Exchange>>, Reject> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let (mut rest, mut ready) = (input.as_slice(), Vec::new());
        while let Some((kind, stream, content, behind)) = split(rest) {
            rest = behind;
            match kind {
                FrameKind::Head => {
                    let limits = &self.context.options.limits;
                    let parsed = parse::head(content, &mut parse::HeadProgress::default(), limits)?;
                    let (head, _) = parsed.ok_or(Reject::BodyIncomplete)?;
                    self.streams.insert(stream, StreamState::Arriving(head, Vec::new()));
                }
                FrameKind::Data => {
                    if let Some(StreamState::Arriving(_, body)) = self.streams.get_mut(&stream) {
                        body.extend_from_slice(content);
                    }
                }
                FrameKind::End => {
                    if let Some(StreamState::Arriving(head, body)) = self.streams.insert(stream, StreamState::Serving) {
                        ready.push(self.ready(stream, head, &body, now)?);
                    }
                }
                // A response that comes nevertheless is dropped when its worker is done.
                FrameKind::Reset => drop(self.streams.remove(&stream)),
                FrameKind::Hints => {}
            }
        }
        self.input = rest.to_vec();
        Ok(ready)
    }

    fn ready(&self, stream: u32, request: RequestHead, body: &[u8], now: Instant) -> Result<Box<Exchange>, Reject> {
        let options = &self.context.options;
        let framing: Framing = framing::decide(&request, &options.limits)?;
        let mut intake = Intake::new(Some(body.len() as u64), options, &self.context.spool, now);
        intake.feed(body, options, now)?;
        let (body, length) = intake.finish()?;
        let facts = ReplyFacts {
            client: Client::Local,
            listener: 0,
            asked: ResponseContext {
                head_method: request.method() == b"HEAD",
                version: request.version(),
                persistent: true,
            },
            wants_upgrade: false,
            must_close: false,
            has_ended: false,
            has_input: false,
        };
        let encoding = Encoding::Framed(FramedEncoder::new(stream));
        let (transport, context) = (Arc::clone(&self.transport), Arc::clone(&self.context));
        Ok(Box::new(Exchange {
            ticket: Ticket { stream, ..self.ticket },
            key: profile::key(request.method(), request.path()),
            request,
            framing,
            origin: None,
            body,
            body_length: Some(length),
            arrived: now,
            reply: Reply::new(transport, context, facts, encoding, Vec::new()),
            websocket: None,
        }))
    }

    /// Takes an exchange back that its worker is done with. `false`: it has no place here any more.
    pub fn take_back(&mut self, finished: Finished, now: Instant) -> bool {
        let ticket = finished.ticket();
        let is_ours = ticket.is_same_connection(&self.ticket) && self.streams.remove(&ticket.stream).is_some();
        if !is_ours {
            finished.give_up(&self.context, Cause::ClientClosed);
        } else if let ExchangeResult::Answered(answer) = finished.result {
            tell(answer.record, None, &self.transport, &self.context, now);
        }
        is_ours
    }
}
