//! One request and its response, owned by the thread that answers it.
//!
//! The connection stays with its shard. An exchange has what an answer needs of it, copied when the request became complete, so
//! that several exchanges of one connection can be answered at the same time. The gateway sees only the methods below; it begins
//! a response, writes its content, and ends it or aborts it. What goes back to the shard is a
//! [`Finished`](finished::Finished).

pub(in crate::engine) mod encoding;
pub mod finished;
pub mod in_flight;
pub mod overdue;
pub(in crate::engine) mod reply;
pub mod ticket;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::exchange::overdue::CallStage;
use crate::engine::exchange::reply::Reply;
pub use crate::engine::exchange::reply::{Backpressure, Content, Disconnected, Progress, ZERO_COPY_BYTES};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::observe::Cause;
use crate::engine::options::Options;
use crate::engine::scheduling::capacity::WebSocketGuard;
use crate::engine::transport::Transport;
use crate::engine::transport::body::{Body, BodyStream};
use crate::engine::transport::output::{FileSpan, Flushed};
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::origin::{Client, Origin};
use crate::http::reject::Reject;
use crate::http1::framing::Framing;
use crate::http1::plan::BodySize;
use crate::net::outcome::{Presence, ReadOutcome};
use crate::net::tls::facts::TlsFacts;

/// One request and its response.
pub struct Exchange {
    pub(in crate::engine) ticket: Ticket,
    pub(in crate::engine) request: RequestHead,
    pub(in crate::engine) framing: Framing,
    pub(in crate::engine) origin: Option<Box<Origin>>,
    pub(in crate::engine) body: Body,
    pub(in crate::engine) body_length: Option<u64>,
    pub(in crate::engine) arrived: Instant,
    /// Its row in the profile of blocking requests.
    pub(in crate::engine) key: u64,
    pub(in crate::engine) reply: Reply,
    /// Held by one that is to be a WebSocket, or is one.
    pub(in crate::engine) websocket: Option<WebSocketGuard>,
}

impl Exchange {
    /// Where it belongs.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The number of the shard that it came from and goes back to.
    pub fn shard(&self) -> usize {
        self.ticket.shard
    }

    /// The slot of its connection in the shard's table.
    pub fn token(&self) -> usize {
        self.ticket.slot
    }

    /// The request's head.
    pub fn request(&self) -> &RequestHead {
        &self.request
    }

    /// The body's length, where it is known before the body is read: 0 for an empty one, `None` without any body.
    pub fn body_length(&self) -> Option<u64> {
        self.body_length
    }

    /// Takes the body, to be given back by [`Exchange::give_back`] when the application is done.
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(&mut self.body, Body::Empty)
    }

    /// Puts the body back where it was taken from.
    pub fn put_body(&mut self, body: Body) {
        self.body = body;
    }

    /// Gives a streamed body back, read or not.
    pub fn give_back(&mut self, body: Box<BodyStream>) {
        self.body = Body::Stream(body);
    }

    /// Whether the client waits to be asked for a body that is to be taken whole.
    pub(in crate::engine) fn holds_body_back(&self) -> bool {
        let options = &self.reply.context.options;
        let streams = if self.body_length.is_some() { options.stream_bodies } else { options.stream_chunked };
        matches!(&self.body, Body::Stream(stream) if stream.is_expected()) && !streams
    }

    /// Who asks: the other end of the connection, or whom a trusted proxy says it asks for.
    pub fn client(&self) -> Client {
        self.origin.as_ref().map_or(self.reply.facts.client, |origin| origin.client)
    }

    /// What the fields of proxies tell of the request's origin; `None` where no proxies are trusted.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// Which listener, counted in the order of the binds, the client came through.
    pub fn listener(&self) -> usize {
        self.reply.facts.listener
    }

    /// The socket and its output. To be let go when the exchange is over, or the connection stays open.
    pub fn transport(&self) -> Arc<Transport> {
        Arc::clone(&self.reply.transport)
    }

    /// What was agreed on with the client, if it speaks TLS to this server.
    pub fn tls_facts(&self) -> Option<&Arc<TlsFacts>> {
        self.reply.transport.stream().tls_facts()
    }

    /// When the request was complete.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// How far the response has come.
    pub fn progress(&self) -> Progress {
        self.reply.response.progress
    }

    /// Whether content would be of use: not without a head, not after HEAD, nor with a status that forbids it.
    pub fn wants_content(&self) -> bool {
        self.reply.response.encoding.wants_content()
    }

    /// Whether the application has handed over more content than its Content-Length announced; the rest was dropped.
    pub fn has_surplus(&self) -> bool {
        self.reply.response.encoding.has_surplus()
    }

    /// Bytes of content that may follow: what the announced length still lacks, or any number.
    pub fn room(&self) -> u64 {
        self.reply.room()
    }

    /// Bytes of content that the announced length still lacks.
    pub fn lacking(&self) -> u64 {
        self.reply.lacking()
    }

    /// Whether trailer fields can follow the content: it is chunked.
    pub fn can_trail(&self) -> bool {
        self.reply.response.encoding.can_trail()
    }

    /// Whether the response that was begun is a stream of server-sent events.
    pub fn is_event_stream(&self) -> bool {
        self.reply.is_event_stream()
    }

    /// Sends field lines to an HTTP/1.1 client ahead of the response (103, RFC 8297).
    pub fn early_hints(&mut self, lines: &[u8]) {
        self.reply.early_hints(lines);
    }

    // Whether the rest of the body can be read away decides whether the response says that the connection closes.
    fn settle_body(&mut self) {
        if let Body::Stream(stream) = &mut self.body {
            if !stream.settle() {
                self.reply.closes = true;
            }
        }
    }

    /// Decides how the response is framed and queues its head. `size` is what is known of its content.
    pub fn begin(&mut self, head: &ResponseHead, size: BodySize, clock: &mut Clock) {
        // Two threads of the application may both be the first to write: one head leaves.
        if self.progress() == Progress::Waiting {
            self.settle_body();
            self.reply.begin(head, size, clock);
        }
    }

    /// Begins with `head` as [`Exchange::begin`] does, unless that was done before, and queues all of the content at once,
    /// which is `total` bytes.
    pub fn write_whole<'a>(
        &mut self,
        head: Option<&ResponseHead>,
        total: u64,
        contents: impl IntoIterator<Item = Content<'a>>,
        clock: &mut Clock,
    ) -> Result<(), Disconnected> {
        let head = head.filter(|_| self.progress() == Progress::Waiting);
        if head.is_some() {
            self.settle_body();
        }
        self.reply.write_whole(head, total, contents, clock)
    }

    /// Makes this the connection's last response, because what is left of the request cannot be read away.
    pub fn close_connection(&mut self) {
        self.reply.closes = true;
    }

    /// Queues content. Never blocks; [`Exchange::is_ahead`] then tells whether the application should wait, with
    /// [`Backpressure::wait_drained`].
    pub fn write(&mut self, content: Content<'_>) -> Result<(), Disconnected> {
        self.reply.write(content)
    }

    /// Queues a stretch of a file as content.
    pub fn write_file(&mut self, span: FileSpan) {
        self.reply.write_file(span);
    }

    /// Sees to it that what is queued leaves within a moment, whatever the application does next: at once when there
    /// is enough of it, else by the shard's monitor.
    pub fn push(&mut self) -> Result<(), Disconnected> {
        self.reply.push()
    }

    /// Whether so much is queued that the application should wait for its client.
    pub fn is_ahead(&self) -> bool {
        self.reply.transport.is_ahead()
    }

    /// What the application should wait for, if so much is queued that it should.
    pub fn behind(&self) -> Option<Backpressure> {
        self.reply.behind()
    }

    /// Ends the response's content. With less of it than was announced, the response is aborted instead.
    pub fn finish(&mut self) {
        self.reply.finish(b"");
    }

    /// Ends the response's content with the field `lines` behind it (RFC 9112 §7.1.2), where they can follow.
    pub fn finish_with_trailers(&mut self, lines: &[u8]) {
        self.reply.finish(lines);
    }

    /// Ends a response that its application did not complete. See [`Exchange::abort_for`].
    pub fn abort(&mut self) {
        self.abort_for(Cause::Application);
    }

    /// Ends the response of a client that has gone, or takes nothing any more, and returns how a log says that. See
    /// [`Exchange::abort_for`].
    pub fn lose_client(&mut self) -> &'static str {
        self.reply.lose_client()
    }

    /// Ends the response in a way that the client cannot mistake for a whole one: without the last chunk, short of its
    /// length, or, where only the end of the connection would mark the end of the content, by a reset. The first `cause`
    /// is the one that is recorded.
    pub fn abort_for(&mut self, cause: Cause) {
        self.reply.abort_for(cause);
    }

    /// Answers with a refusal of the server's own, or aborts what was begun.
    pub fn refuse(&mut self, reject: Reject, clock: &mut Clock) {
        self.reply.refuse(reject, clock);
    }

    /// The response is the server's own, for a reason that no [`Reject`] stands for.
    pub fn refuse_handshake(&mut self, text: &'static str) {
        self.reply.response.cause = Some(Cause::Handshake(text));
    }

    /// What the application is to do next.
    pub fn stage(&self) -> CallStage {
        if self.is_event_stream() {
            CallStage::Unlimited
        } else if self.reply.transport.receive_wait().is_some() || !self.has_caught_up() {
            CallStage::AwaitsClient
        } else {
            CallStage::Responding { progress: self.progress(), sent: self.reply.response.content_bytes }
        }
    }

    /// Ends the request without the application, whose further content is dropped: with `reject`, or, if the response was
    /// begun, by aborting it.
    pub(in crate::engine) fn cut(&mut self, reject: Reject, date: &[u8; 29]) {
        self.reply.cut(reject, date);
    }

    /// Ends the request of a slow client in favour of others.
    pub(in crate::engine) fn evict(&mut self, cause: Cause) {
        self.reply.evict(cause);
    }

    /// Queues a refusal as the whole response, the connection's last.
    pub(in crate::engine) fn answer_refusal(&mut self, reject: Reject, date: &[u8; 29]) {
        self.reply.answer_refusal(reject, date);
    }

    /// Whether the end of the connection is the end of the response.
    pub(in crate::engine) fn is_until_close(&self) -> bool {
        self.reply.response.encoding.is_until_close()
    }

    /// Whether the client still seems to be there.
    pub fn presence(&self) -> Presence {
        self.reply.transport.stream().presence()
    }

    /// Whether the client has closed its sending side. It may still read.
    pub fn has_ended(&self) -> bool {
        self.reply.facts.has_ended || self.reply.transport.has_ended()
    }

    /// Whether the server is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.reply.context.is_stopping()
    }

    /// Gives the socket what it takes of what is queued.
    pub fn flush(&mut self) -> Result<(), Disconnected> {
        self.reply.transport.flush().map(|_: Flushed| ()).map_err(|_| Disconnected)
    }

    /// Whether nothing that is written reaches the client any more.
    pub fn has_failed(&self) -> bool {
        self.reply.transport.output().has_failed()
    }

    /// Notes that the application has waited for the client for as long as it may.
    pub fn note_stall(&self) {
        self.reply.transport.note_write_timeout();
    }

    /// Bytes queued and sent so far on the connection.
    pub fn traffic(&self) -> (u64, u64) {
        let transport = &self.reply.transport;
        (transport.pending(), transport.output().sent())
    }

    /// Whether so little is queued that the application can go on.
    pub fn has_caught_up(&self) -> bool {
        self.reply.transport.pending() <= Transport::LOW_WATER_BYTES
    }

    /// Whether the client would change the protocol (RFC 9110 §7.8).
    pub fn asks_for_upgrade(&self) -> bool {
        self.reply.facts.wants_upgrade
    }

    /// The operator's decisions.
    pub fn options(&self) -> &Options {
        &self.reply.context.options
    }

    /// The application waits for what its client sends, which has been behind since then; `None`: it does not wait.
    pub fn set_receive_wait(&self, slow_since: Option<Instant>) {
        self.reply.transport.set_receive_wait(slow_since);
    }

    /// Counts the connection as a WebSocket until the exchange ends. `false`: there are as many as there may be.
    pub fn count_as_websocket(&mut self) -> bool {
        let context = &self.reply.context;
        self.websocket = context.capacity.open_websocket(context.options.max_connections);
        self.websocket.is_some()
    }

    /// Changes the protocol: queues the head of the 101 response, after which the connection is the caller's to read and
    /// write. It closes in the end. Gives what the client has sent already.
    pub fn upgrade(&mut self, head: &ResponseHead, clock: &mut Clock) -> Vec<u8> {
        self.reply.upgrade(head, clock)
    }

    /// Reads what is there, after the protocol has changed.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        self.reply.transport.stream().read(into)
    }

    /// Queues bytes of the other protocol: what `write` appends, then `content` from where it lies.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>), content: Option<Content<'_>>) {
        self.reply.put(write, content);
    }
}
