//! One request and its response, owned by whoever answers it.
//!
//! An exchange carries its connection along, so that the answer needs no look-up and no lock that another request could
//! hold. The gateway sees only the methods below; it begins a response, writes its content, and ends it or aborts it.

pub mod in_flight;

use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::connection::Connection;
use crate::engine::context::ShardContext;
use crate::engine::observe::Cause;
use crate::engine::options::SERVER;
use crate::engine::report::{Severity, Trouble};
use crate::engine::scheduling::quota::QuotaGuard;
use crate::engine::transport::body::{Body, BodyStream};
use crate::engine::transport::output::{FileSpan, Output, Owned};
use crate::engine::transport::{DrainError, Transport};
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::origin::{Client, Origin};
use crate::http::reject::Reject;
use crate::http1::encoder::{self, Encoder, Lacking};
use crate::http1::framing::Framing;
use crate::http1::plan::{self, BodySize, Plan, ResponseContext};
use crate::net::outcome::Presence;

/// Content is gathered until there is this much of it; what is gathered leaves by itself within a moment.
const GATHER: u64 = 32 * 1024;
/// Owned content from this size on is sent from where it lies; below, copying is cheaper than one more slice.
pub const ZERO_COPY: usize = 16 * 1024;

/// What is reported of a client that reads too slowly for a thread that others wait for.
const SLOW_READER_CUT: &str = "a response was cut because its client read too slowly: requests wait for its thread, and the \
                               temporary files are at their bound (max_spool_size, 64 MiB for each response)";

/// The client has gone or takes nothing: nothing that is written reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnected;

/// What became of the response so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was decided.
    Waiting,
    /// The head is queued, content may follow.
    Begun,
    /// All content is queued.
    Complete,
    /// It ends early, in a way that the client notices.
    Aborted,
}

/// One piece of content.
pub enum Content<'a> {
    /// Bytes that are copied.
    Borrowed(&'a [u8]),
    /// Bytes that are sent from where they lie.
    Owned(Owned),
}

impl Content<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(owner) => owner.as_ref().as_ref(),
        }
    }

    fn len(&self) -> usize {
        self.as_bytes().len()
    }
}

/// A client that is behind its application.
pub struct Backpressure {
    transport: Arc<Transport>,
    context: Arc<ShardContext>,
}

impl Backpressure {
    /// Blocks until the application can go on: call it without holding the interpreter.
    pub fn wait_drained(&self) -> Result<(), Disconnected> {
        let Self { transport, context } = self;
        let drained =
            transport.wait_drained(context.options.write_timeout, &context.spool, || context.capacity.is_pressed());
        if drained == Err(DrainError::Contended) {
            context.reports.report_rarely(Trouble::Cut, Severity::Warning, SLOW_READER_CUT, Instant::now());
        }
        drained.map_err(|_| Disconnected)
    }
}

/// One request and its response.
pub struct Exchange {
    pub(in crate::engine) connection: Box<Connection>,
    pub(in crate::engine) request: RequestHead,
    pub(in crate::engine) framing: Framing,
    pub(in crate::engine) origin: Option<Box<Origin>>,
    pub(in crate::engine) body: Body,
    pub(in crate::engine) body_length: Option<u64>,
    pub(in crate::engine) arrived: Instant,
    pub(in crate::engine) key: u64,
    pub(in crate::engine) response: Response,
    // Held by one that is to be a WebSocket, or is one.
    pub(in crate::engine) websocket: Option<QuotaGuard>,
}

/// The state of a response.
pub(in crate::engine) struct Response {
    pub progress: Progress,
    pub encoder: Option<Encoder>,
    pub status: u16,
    pub content: u64,
    // Why it is the server's own, or is aborted.
    pub cause: Option<Cause>,
    streaming: bool,
    // Part of the content is a stretch of a file.
    pub has_file: bool,
    event_stream: bool,
}

impl Response {
    pub(in crate::engine) const fn new() -> Self {
        Self {
            progress: Progress::Waiting,
            encoder: None,
            status: 0,
            content: 0,
            cause: None,
            streaming: false,
            has_file: false,
            event_stream: false,
        }
    }
}

impl Response {
    fn left(&self) -> Option<u64> {
        self.encoder.as_ref().and_then(Encoder::left)
    }

    // Queues the head of a response that was decided.
    pub fn open(&mut self, head: &ResponseHead, plan: Plan, clock: &mut Clock, output: &mut Output) {
        let date = clock.date(Instant::now());
        output.append(|out| self.encoder = Some(Encoder::begin(out, head, &plan, date, SERVER)));
        self.status = head.status().code();
        self.progress = Progress::Begun;
    }

    fn queue(&mut self, content: Content<'_>, output: &mut Output) -> Result<(), Disconnected> {
        // Behind the end of a response everything would be taken for the next one.
        if self.progress != Progress::Begun {
            return Err(Disconnected);
        }
        let Some(frame) = self.encoder.as_mut().and_then(|encoder| encoder.data(content.len() as u64)) else {
            return Ok(());
        };
        self.content += frame.length();
        let length = frame.length_of(content.len());
        match content {
            Content::Owned(owner) if length == owner.as_ref().as_ref().len() => {
                if frame.is_bare() {
                    output.push_owned(owner);
                } else {
                    output.append(|out| frame.open(out));
                    output.push_owned(owner);
                    output.append(|out| frame.close(out));
                }
            }
            content => output.append(|out| {
                frame.open(out);
                out.extend_from_slice(&content.as_bytes()[..length]);
                frame.close(out);
            }),
        }
        Ok(())
    }
}

impl Exchange {
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

    /// Gives a streamed body back, read or not.
    pub fn give_back(&mut self, body: Box<BodyStream>) {
        self.body = Body::Stream(body);
    }

    /// Whether the client waits to be asked for a body that is to be taken whole.
    pub(in crate::engine) fn holds_body_back(&self) -> bool {
        let options = &self.connection.context.options;
        let streams = if self.body_length.is_some() { options.stream_bodies } else { options.stream_chunked };
        matches!(&self.body, Body::Stream(stream) if stream.is_expected()) && !streams
    }

    /// Who asks: the other end of the connection, or whom a trusted proxy says it asks for.
    pub fn client(&self) -> Client {
        self.origin.as_ref().map_or(self.connection.client, |origin| origin.client)
    }

    /// What the fields of proxies tell of the request's origin; `None` where no proxies are trusted.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// Which listener, counted in the order of the binds, the client came through.
    pub fn listener(&self) -> usize {
        self.connection.listener
    }

    /// The socket and its output. To be let go when the exchange is over, or the connection stays open.
    pub fn transport(&self) -> Arc<Transport> {
        Arc::clone(&self.connection.transport)
    }

    /// When the request was complete.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// How far the response has come.
    pub fn progress(&self) -> Progress {
        self.response.progress
    }

    /// Whether content would be of use: not without a head, not after HEAD, nor with a status that forbids it.
    pub fn wants_content(&self) -> bool {
        self.response.encoder.as_ref().is_some_and(Encoder::wants_content)
    }

    /// Whether the application has handed over more content than its Content-Length announced; the rest was dropped.
    pub fn has_surplus(&self) -> bool {
        self.response.encoder.as_ref().is_some_and(Encoder::has_surplus)
    }

    /// Bytes of content that may follow: what the announced length still lacks, or any number.
    pub fn room(&self) -> u64 {
        match self.response.progress {
            Progress::Begun => self.response.left().unwrap_or(u64::MAX),
            _ => 0,
        }
    }

    /// Bytes of content that the announced length still lacks.
    pub fn lacking(&self) -> u64 {
        match self.response.progress {
            Progress::Begun => self.response.left().unwrap_or(0),
            _ => 0,
        }
    }

    /// Sends field lines to an HTTP/1.1 client ahead of the response (103, RFC 8297).
    pub fn early_hints(&mut self, lines: &[u8]) {
        if self.response.progress == Progress::Waiting && self.request.version() == Version::Http11 {
            let mut output = self.connection.transport.output();
            output.append(|out| encoder::early_hints(out, lines));
            // A client that has gone is found when the response is written.
            drop(output.flush(self.connection.transport.stream()));
        }
    }

    /// Decides how the response is framed and queues its head. `size` is what is known of its content.
    pub fn begin(&mut self, head: &ResponseHead, size: BodySize, clock: &mut Clock) {
        // Two threads of the application may both be the first to write: one head leaves.
        if self.response.progress == Progress::Waiting {
            let plan = self.plan(head, size);
            self.response.open(head, plan, clock, &mut self.connection.transport.output());
            self.response.event_stream = size == BodySize::Unknown && head.is_event_stream();
        }
    }

    /// Whether the response that was begun is a stream of server-sent events.
    pub fn is_event_stream(&self) -> bool {
        self.response.event_stream
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
        let head = head.filter(|_| self.response.progress == Progress::Waiting);
        let plan = head.map(|head| (head, self.plan(head, BodySize::Known(total))));
        let mut output = self.connection.transport.output();
        if let Some((head, plan)) = plan {
            self.response.open(head, plan, clock, &mut output);
        }
        contents.into_iter().try_for_each(|content| self.response.queue(content, &mut output))
    }

    fn plan(&mut self, head: &ResponseHead, size: BodySize) -> Plan {
        if let Body::Stream(stream) = &mut self.body {
            if !stream.settle() {
                self.connection.close_after_this();
            }
        }
        let asked = ResponseContext {
            head_method: self.request.method() == b"HEAD",
            version: self.request.version(),
            persistent: self.framing.persistent,
        };
        plan::response(&asked, head, size, self.connection.must_close())
    }

    /// Makes this the connection's last response, because what is left of the request cannot be read away.
    pub fn close_connection(&mut self) {
        self.connection.close_after_this();
    }

    /// Queues content. Never blocks; [`Exchange::is_ahead`] then tells whether the application should wait, with
    /// [`Backpressure::wait_drained`].
    pub fn write(&mut self, content: Content<'_>) -> Result<(), Disconnected> {
        self.response.queue(content, &mut self.connection.transport.output())
    }

    /// Queues a stretch of a file as content.
    pub fn write_file(&mut self, mut span: FileSpan) {
        if self.response.progress != Progress::Begun {
            return;
        }
        let Some(frame) = self.response.encoder.as_mut().and_then(|encoder| encoder.data(span.length)) else { return };
        span.length = frame.length();
        self.response.content += span.length;
        self.response.has_file = true;
        let mut output = self.connection.transport.output();
        if frame.is_bare() {
            output.push_file(span);
        } else {
            output.append(|out| frame.open(out));
            output.push_file(span);
            output.append(|out| frame.close(out));
        }
    }

    /// Sees to it that what is queued leaves within a moment, whatever the application does next: at once when there
    /// is enough of it, else by the shard's monitor.
    pub fn push(&mut self) -> Result<(), Disconnected> {
        let transport = &self.connection.transport;
        let mut output = transport.output();
        if output.pending() >= GATHER || output.has_failed() {
            output.flush(transport.stream()).map_err(|_| Disconnected)?;
        }
        let pending = output.pending();
        drop(output);
        if pending > 0 {
            if !self.response.streaming {
                self.response.streaming = true;
                self.connection.context.streaming.add(Arc::clone(transport));
            }
            self.connection.context.monitor_signal.wake();
        }
        Ok(())
    }

    /// What the application should wait for, if so much is queued that it should.
    pub fn behind(&self) -> Option<Backpressure> {
        let Connection { transport, context, .. } = &*self.connection;
        transport.is_ahead().then(|| Backpressure { transport: Arc::clone(transport), context: Arc::clone(context) })
    }

    /// Ends the response's content. With less of it than was announced, the response is aborted instead.
    pub fn finish(&mut self) {
        self.finish_with_trailers(b"");
    }

    /// Ends the response's content with the field `lines` behind it, where they can follow.
    pub fn finish_with_trailers(&mut self, lines: &[u8]) {
        if self.response.progress != Progress::Begun {
            return;
        }
        match self.response.encoder.as_mut().map_or(Ok(None), Encoder::end) {
            Ok(last) => {
                if let Some(last) = last {
                    self.connection.transport.output().append(|out| last.write(out, lines));
                }
                self.response.progress = Progress::Complete;
            }
            Err(Lacking(_)) => self.abort(),
        }
    }

    /// Ends a response that its application did not complete. See [`Exchange::abort_for`].
    pub fn abort(&mut self) {
        self.abort_for(Cause::Application);
    }

    /// Ends the response of a client that has gone, or takes nothing any more, and returns how a log says that. See
    /// [`Exchange::abort_for`].
    pub fn lose_client(&mut self) -> &'static str {
        let stalled = self.connection.transport.has_write_timed_out();
        let text = match (stalled, self.response.progress) {
            (true, _) => Cause::WriteTimeout.text(),
            (false, Progress::Waiting) => "the client left before its response began",
            (false, _) => "the client left before its response was complete",
        };
        self.abort_for(if stalled { Cause::WriteTimeout } else { Cause::ClientClosed });
        text
    }

    /// Ends the response in a way that the client cannot mistake for a whole one: without the last chunk, short of its
    /// length, or, where only the end of the connection would mark the end of the content, by a reset. The first `cause`
    /// is the one that is recorded.
    pub fn abort_for(&mut self, cause: Cause) {
        if self.response.progress == Progress::Complete {
            return;
        }
        self.response.progress = Progress::Aborted;
        self.response.cause.get_or_insert(cause);
        if self.is_until_close() {
            self.connection.transport.stream().reset_on_close();
        }
    }

    /// Ends the request without the application, whose further content is dropped: with 503, or, if the response was begun,
    /// by aborting it.
    pub(in crate::engine) fn cut(&mut self, date: &[u8; 29]) {
        match self.response.progress {
            Progress::Waiting => self.answer_refusal(Reject::Stopping, date),
            Progress::Begun => self.abort_for(Cause::Stopped),
            Progress::Complete | Progress::Aborted => {}
        }
        // A thread of the application may wait for the client to catch up.
        self.connection.transport.output().seal();
    }

    /// Ends the request of a slow client in favour of others.
    pub(in crate::engine) fn evict(&mut self, cause: Cause) {
        self.abort_for(cause);
        // A thread of the application may wait for the client to catch up.
        self.connection.transport.output().seal();
    }

    pub(in crate::engine) fn is_until_close(&self) -> bool {
        self.response.encoder.as_ref().is_some_and(Encoder::is_until_close)
    }

    /// Answers with a refusal of the server's own, or aborts what was begun.
    pub fn refuse(&mut self, reject: Reject, clock: &mut Clock) {
        match self.response.progress {
            Progress::Waiting => {
                self.answer_refusal(reject, clock.date(Instant::now()));
            }
            Progress::Begun if reject == Reject::AppFailed => self.abort(),
            Progress::Begun => self.abort_for(Cause::Refused(reject)),
            Progress::Complete | Progress::Aborted => {}
        }
    }

    /// The response is the server's own, for a reason that no [`Reject`] stands for.
    pub fn refuse_handshake(&mut self, text: &'static str) {
        self.response.cause = Some(Cause::Handshake(text));
    }

    /// Queues a refusal as the whole response, the connection's last.
    pub(in crate::engine) fn answer_refusal(&mut self, reject: Reject, date: &[u8; 29]) {
        let head_method = self.request.method() == b"HEAD";
        self.response.content = self.connection.queue_refusal(reject, head_method, date);
        self.response.status = reject.status().code();
        self.response.cause = Some(Cause::Refused(reject));
        self.response.progress = Progress::Complete;
        self.connection.close_after_this();
    }

    /// Whether the client still seems to be there.
    pub fn presence(&self) -> Presence {
        self.connection.transport.stream().presence()
    }

    /// The number of the shard that it came from and goes back to.
    pub fn shard(&self) -> usize {
        self.connection.context.shard
    }

    /// The place of its connection among the shard's.
    pub fn token(&self) -> usize {
        self.connection.token
    }

    /// What the monitor looked after is the connection's own again.
    pub(in crate::engine) fn end_streaming(&mut self) {
        if std::mem::take(&mut self.response.streaming) {
            self.connection.context.streaming.remove(&self.connection.transport);
        }
    }
}
