//! How a response is given without its connection, which stays with its shard: by the transport, the response's framing, and
//! what was known of the request and the connection when the request became complete.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::context::ShardContext;
use crate::engine::exchange::encoding::{Encoding, ReplyFrame};
use crate::engine::observe::Cause;
use crate::engine::report::{Severity, Trouble};
use crate::engine::transport::output::{FileSpan, Output, Owned};
use crate::engine::transport::{DrainError, Transport};
use crate::http::head::{ResponseHead, Version};
use crate::http::origin::Client;
use crate::http::reject::Reject;
use crate::http1::encoder::Lacking;
use crate::http1::plan::{BodySize, ResponseContext};

/// Content is gathered until there is this much of it; what is gathered leaves by itself within a moment.
const GATHER_BYTES: u64 = 32 * 1024;
/// Owned content from this size on is sent from where it lies; below, copying is cheaper than one more slice.
pub const ZERO_COPY_BYTES: usize = 16 * 1024;

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
        let is_contended = || context.capacity.is_pressed();
        let drained = transport.wait_drained(context.options.write_timeout, &context.spool, is_contended);
        if drained == Err(DrainError::Contended) {
            context.reports.report_rarely(Trouble::Cut, Severity::Warning, SLOW_READER_CUT, Instant::now());
        }
        drained.map_err(|_| Disconnected)
    }
}

/// What is known of the request and its connection when the request is complete.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
pub(in crate::engine) struct ReplyFacts {
    /// The other end of the connection.
    pub client: Client,
    /// The number of the listener that it came through.
    pub listener: usize,
    /// What the request says about the form of the response.
    pub asked: ResponseContext,
    /// The client would change the protocol.
    pub wants_upgrade: bool,
    /// The connection closes behind the response, whatever that is.
    pub must_close: bool,
    /// The client has closed its sending side.
    pub has_ended: bool,
    /// The connection has input, or its socket may have, that no event will announce.
    pub has_input: bool,
}

/// How far a response has come.
pub(in crate::engine) struct ResponseState {
    pub encoding: Encoding,
    pub progress: Progress,
    pub status: u16,
    pub content_bytes: u64,
    /// Why it is the server's own, or is aborted.
    pub cause: Option<Cause>,
    /// Part of the content is a stretch of a file.
    pub has_file: bool,
}

/// The response of one exchange, and the way to its client.
pub(in crate::engine) struct Reply {
    pub transport: Arc<Transport>,
    pub context: Arc<ShardContext>,
    pub facts: ReplyFacts,
    pub response: ResponseState,
    /// Whether the connection closes behind the response, for a reason that came up after the request was complete.
    pub closes: bool,
    /// What the client sent behind a request that would change the protocol.
    pub input: Vec<u8>,
    // The monitor flushes what is queued.
    is_watched: bool,
    is_event_stream: bool,
}

impl ResponseState {
    fn open(
        &mut self,
        head: &ResponseHead,
        size: BodySize,
        asked: ResponseContext,
        must_close: bool,
        clock: &mut Clock,
        output: &mut Output,
    ) {
        let date = clock.date(Instant::now());
        output.append(|out| self.encoding.begin(out, head, size, asked, must_close, date));
        self.status = head.status().code();
        self.progress = Progress::Begun;
    }

    fn queue(&mut self, content: Content<'_>, output: &mut Output) -> Result<(), Disconnected> {
        // Behind the end of a response everything would be taken for the next one.
        if self.progress != Progress::Begun {
            return Err(Disconnected);
        }
        let Some(frame) = self.encoding.data(content.len() as u64) else { return Ok(()) };
        self.content_bytes += frame.length();
        let length = usize::try_from(frame.length()).map_or(content.len(), |length| length.min(content.len()));
        match content {
            Content::Owned(owner) if length == owner.as_ref().as_ref().len() => {
                put_framed(&frame, output, |output| output.push_owned(owner));
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

// Queues content that is not copied, with what stands around it.
fn put_framed(frame: &ReplyFrame, output: &mut Output, put: impl FnOnce(&mut Output)) {
    if frame.is_bare() {
        return put(output);
    }
    output.append(|out| frame.open(out));
    put(output);
    output.append(|out| frame.close(out));
}

impl Reply {
    pub fn new(
        transport: Arc<Transport>,
        context: Arc<ShardContext>,
        facts: ReplyFacts,
        encoding: Encoding,
        input: Vec<u8>,
    ) -> Self {
        let response = ResponseState {
            encoding,
            progress: Progress::Waiting,
            status: 0,
            content_bytes: 0,
            cause: None,
            has_file: false,
        };
        Self { transport, context, facts, response, closes: false, input, is_watched: false, is_event_stream: false }
    }

    fn must_close(&self) -> bool {
        let cannot_move = || self.context.is_retiring() && self.transport.stream().is_encrypted();
        self.facts.must_close || self.closes || self.context.is_stopping() || cannot_move()
    }

    /// Queues the head, and decides how the content is framed. `size` is what is known of it.
    pub fn begin(&mut self, head: &ResponseHead, size: BodySize, clock: &mut Clock) {
        let must_close = self.must_close();
        let Self { transport, response, facts, .. } = self;
        response.open(head, size, facts.asked, must_close, clock, &mut transport.output());
        self.is_event_stream = size == BodySize::Unknown && head.is_event_stream();
    }

    /// Queues the head, if it is given, and all of the content at once, which is `total` bytes.
    pub fn write_whole<'a>(
        &mut self,
        head: Option<&ResponseHead>,
        total: u64,
        contents: impl IntoIterator<Item = Content<'a>>,
        clock: &mut Clock,
    ) -> Result<(), Disconnected> {
        let must_close = self.must_close();
        let Self { transport, response, facts, .. } = self;
        let mut output = transport.output();
        if let Some(head) = head {
            response.open(head, BodySize::Known(total), facts.asked, must_close, clock, &mut output);
        }
        contents.into_iter().try_for_each(|content| response.queue(content, &mut output))
    }

    pub fn write(&mut self, content: Content<'_>) -> Result<(), Disconnected> {
        self.response.queue(content, &mut self.transport.output())
    }

    pub fn write_file(&mut self, mut span: FileSpan) {
        if self.response.progress != Progress::Begun {
            return;
        }
        let Some(frame) = self.response.encoding.data(span.length) else { return };
        span.length = frame.length();
        self.response.content_bytes += span.length;
        self.response.has_file = true;
        put_framed(&frame, &mut self.transport.output(), |output| output.push_file(span));
    }

    pub fn push(&mut self) -> Result<(), Disconnected> {
        let mut output = self.transport.output();
        if output.pending() >= GATHER_BYTES || output.has_failed() {
            output.flush(self.transport.stream()).map_err(|_| Disconnected)?;
        }
        let pending = output.pending();
        drop(output);
        if pending > 0 {
            if !self.is_watched {
                self.is_watched = true;
                self.context.streaming.add(Arc::clone(&self.transport));
            }
            self.context.monitor_signal.wake();
        }
        Ok(())
    }

    /// What the monitor looked after is the connection's own again.
    pub fn end_streaming(&mut self) {
        if std::mem::take(&mut self.is_watched) {
            self.context.streaming.remove(&self.transport);
        }
    }

    pub fn behind(&self) -> Option<Backpressure> {
        let Self { transport, context, .. } = self;
        transport.is_ahead().then(|| Backpressure { transport: Arc::clone(transport), context: Arc::clone(context) })
    }

    pub fn finish(&mut self, trailers: &[u8]) {
        if self.response.progress != Progress::Begun {
            return;
        }
        match self.response.encoding.end() {
            Ok(end) => {
                if let Some(end) = end {
                    self.transport.output().append(|out| end.write(out, trailers));
                }
                self.response.progress = Progress::Complete;
            }
            Err(Lacking(_)) => self.abort_for(Cause::Application),
        }
    }

    pub fn lose_client(&mut self) -> &'static str {
        let has_stalled = self.transport.has_write_timed_out();
        let text = match (has_stalled, self.response.progress) {
            (true, _) => Cause::WriteTimeout.text(),
            (false, Progress::Waiting) => "the client left before its response began",
            (false, _) => "the client left before its response was complete",
        };
        self.abort_for(if has_stalled { Cause::WriteTimeout } else { Cause::ClientClosed });
        text
    }

    pub fn abort_for(&mut self, cause: Cause) {
        if self.response.progress == Progress::Complete {
            return;
        }
        let is_first = self.response.progress != Progress::Aborted;
        self.response.progress = Progress::Aborted;
        self.response.cause.get_or_insert(cause);
        if is_first {
            self.response.encoding.abort(&self.transport);
        }
    }

    /// Ends the request without the application, whose further content is dropped.
    pub fn cut(&mut self, reject: Reject, date: &[u8; 29]) {
        match self.response.progress {
            Progress::Waiting => self.answer_refusal(reject, date),
            Progress::Begun if reject == Reject::Stopping => self.abort_for(Cause::Stopped),
            Progress::Begun => self.abort_for(Cause::Refused(reject)),
            Progress::Complete | Progress::Aborted => {}
        }
        self.seal();
    }

    /// Ends the request of a slow client in favour of others.
    pub fn evict(&mut self, cause: Cause) {
        self.abort_for(cause);
        self.seal();
    }

    // A thread of the application may wait for the client to catch up. What other responses of the connection queue is theirs.
    fn seal(&self) {
        if self.response.encoding.owns_connection() {
            self.transport.output().seal();
        }
    }

    pub fn refuse(&mut self, reject: Reject, clock: &mut Clock) {
        match self.response.progress {
            Progress::Waiting => self.answer_refusal(reject, clock.date(Instant::now())),
            Progress::Begun if reject == Reject::AppFailed => self.abort_for(Cause::Application),
            Progress::Begun => self.abort_for(Cause::Refused(reject)),
            Progress::Complete | Progress::Aborted => {}
        }
    }

    /// Queues a refusal as the whole response, the connection's last.
    pub fn answer_refusal(&mut self, reject: Reject, date: &[u8; 29]) {
        self.context.reports.count_refusal(reject);
        let Self { transport, response, facts, .. } = self;
        transport.output().append(|out| {
            response.content_bytes = response.encoding.refuse(out, reject, facts.asked.head_method, date);
        });
        response.status = reject.status().code();
        response.cause = Some(Cause::Refused(reject));
        response.progress = Progress::Complete;
        self.closes = true;
    }

    pub fn early_hints(&mut self, lines: &[u8]) {
        if self.response.progress == Progress::Waiting && self.facts.asked.version == Version::Http11 {
            let mut output = self.transport.output();
            output.append(|out| self.response.encoding.early_hints(out, lines));
            // A client that has gone is found when the response is written.
            drop(output.flush(self.transport.stream()));
        }
    }

    /// Queues what asks for the body.
    pub fn interim_continue(&self) {
        self.transport.output().append(|out| self.response.encoding.interim_continue(out));
    }

    /// Changes the protocol. Gives what the client has sent already.
    pub fn upgrade(&mut self, head: &ResponseHead, clock: &mut Clock) -> Vec<u8> {
        let date = clock.date(Instant::now());
        self.transport.output().append(|out| self.response.encoding.upgrade(out, head, date));
        self.response.status = head.status().code();
        self.response.progress = Progress::Begun;
        self.closes = true;
        std::mem::take(&mut self.input)
    }

    /// Queues bytes of the other protocol: what `write` appends, then `content` from where it lies.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>), content: Option<Content<'_>>) {
        let mut output = self.transport.output();
        let before = output.pending();
        output.append(write);
        match content {
            Some(Content::Owned(owner)) => output.push_owned(owner),
            Some(Content::Borrowed(bytes)) => output.append(|out| out.extend_from_slice(bytes)),
            None => {}
        }
        self.response.content_bytes += output.pending() - before;
    }

    pub fn is_event_stream(&self) -> bool {
        self.is_event_stream
    }

    /// Bytes of content that may follow.
    pub fn room(&self) -> u64 {
        self.left_or(u64::MAX)
    }

    /// Bytes of content that the announced length still lacks.
    pub fn lacking(&self) -> u64 {
        self.left_or(0)
    }

    fn left_or(&self, unknown: u64) -> u64 {
        if self.response.progress == Progress::Begun { self.response.encoding.left().unwrap_or(unknown) } else { 0 }
    }
}
