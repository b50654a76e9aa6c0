//! A request body that its reader takes off the socket: a worker that waits for it, or an event loop that must not.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::options::Options;
use crate::engine::transport::Transport;
use crate::engine::transport::body_decoder::BodyDecoder;
use crate::engine::transport::client_rate::ReceiveRate;
use crate::engine::transport::output::Flushed;
use crate::http::reject::Reject;
use crate::http1::body::ChunkEvent;
use crate::http1::encoder;
use crate::http1::reuse::can_drain;
use crate::net::outcome::ReadOutcome;

/// Why a body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFailure {
    /// The client closed or reset the connection first.
    Incomplete,
    /// It came too slowly.
    TimedOut,
    /// It broke a rule of its framing or a limit.
    Refused(Reject),
}

impl BodyFailure {
    /// What the client is answered, if it still reads.
    pub fn reject(self) -> Reject {
        match self {
            Self::Incomplete => Reject::BodyIncomplete,
            Self::TimedOut => Reject::BodyTimeout,
            Self::Refused(reject) => reject,
        }
    }
}

/// What a poll of a body found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Its true end.
    End,
    /// Nothing yet; the client has until then.
    Later(Instant),
}

/// A body that its reader takes off the socket. `read` blocks: call it without holding the interpreter.
pub struct BodyStream {
    transport: Arc<Transport>,
    decoder: BodyDecoder,
    // Content that has arrived and was not read yet.
    ready: Vec<u8>,
    at: usize,
    // What followed a chunked body on the wire.
    leftover: Vec<u8>,
    ended: bool,
    expects: bool,
    // Paused while the reader does not wait: the time that the application takes does not count against the client.
    rate: ReceiveRate,
    received: u64,
    failure: Option<BodyFailure>,
    options: Arc<Options>,
}

/// What is left of a body that its reader has let go.
pub struct Remains {
    /// What is known of the content that was not taken off the socket.
    pub unread: Option<u64>,
    /// Whether all of it was.
    pub complete: bool,
    /// Bytes of the next request that were read with it.
    pub leftover: Vec<u8>,
    /// Why reading failed, if it did.
    pub failure: Option<BodyFailure>,
}

/// The smallest buffer of a reader that a chunked body is read into; for smaller ones this much is read ahead.
const READ_BLOCK_BYTES: usize = 16 * 1024;

impl BodyStream {
    /// A body of `length` bytes of which `ready` have come.
    pub fn of_length(transport: Arc<Transport>, options: Arc<Options>, length: u64, ready: Vec<u8>) -> Self {
        let left = length - ready.len() as u64;
        Self::new(transport, options, Some(left), ready)
    }

    /// A chunked body of which `raw` has come; what of it is content is found at the first read.
    pub fn chunked(transport: Arc<Transport>, options: Arc<Options>, raw: &[u8]) -> Self {
        let mut stream = Self::new(transport, options, None, Vec::new());
        stream.keep_content(raw.to_vec());
        stream
    }

    fn new(transport: Arc<Transport>, options: Arc<Options>, left: Option<u64>, ready: Vec<u8>) -> Self {
        Self {
            transport,
            decoder: BodyDecoder::new(left, &options.limits),
            ready,
            at: 0,
            leftover: Vec::new(),
            ended: left == Some(0),
            expects: false,
            rate: ReceiveRate::paused(Instant::now()),
            received: 0,
            failure: None,
            options,
        }
    }

    /// The client waits for `100 Continue` before it sends the body: it is sent at the first read.
    pub fn expect_continue(&mut self) {
        self.expects = true;
    }

    /// Whether the client waits for `100 Continue`.
    pub fn is_expected(&self) -> bool {
        self.expects
    }

    /// The final response begins: `100 Continue` must not be sent any more. Returns whether what is left of the body can
    /// be read away, so that the connection can be used again.
    pub fn settle(&mut self) -> bool {
        let awaited = std::mem::take(&mut self.expects);
        !awaited && self.failure.is_none() && can_drain(self.unread())
    }

    /// Takes what has already come; never blocks. 0 means nothing has, or the body is over.
    pub fn read_ready(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.ready.len() - self.at);
        into[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        if self.at == self.ready.len() {
            self.ready = Vec::new();
            self.at = 0;
        }
        count
    }

    /// Whether every byte has been read.
    pub fn is_over(&self) -> bool {
        self.ended && self.at == self.ready.len()
    }

    /// Reads up to `into.len()` bytes, waiting for the first of them. `Ok(0)` is the true end of the body.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, BodyFailure> {
        match self.take(into, Self::wait_and_read)? {
            Some(count) => Ok(count),
            // What waits comes back with bytes or a failure.
            None => Ok(0),
        }
    }

    /// Reads up to `into.len()` bytes of what has come by `now`, without waiting. The caller tries again when the socket
    /// has changed, or at the instant that is returned.
    pub fn poll(&mut self, into: &mut [u8], now: Instant) -> Result<Arrived, BodyFailure> {
        match self.take(into, |stream, into| stream.read_now(into, now))? {
            Some(0) => Ok(Arrived::End),
            Some(count) => Ok(Arrived::Bytes(count)),
            None => Ok(Arrived::Later(self.rate.deadline(&self.options))),
        }
    }

    /// The reader does not wait from `now` on: the time does not count against the client.
    pub fn pause(&mut self, now: Instant) {
        if !self.rate.is_paused() {
            self.rate.pause(now);
            self.transport.set_receive_wait(None);
        }
    }

    // Bytes that have come already, or else what `read` brings; `None` if that is nothing yet.
    fn take(
        &mut self,
        into: &mut [u8],
        mut read: impl FnMut(&mut Self, &mut [u8]) -> Result<Option<usize>, BodyFailure>,
    ) -> Result<Option<usize>, BodyFailure> {
        if into.is_empty() {
            return Ok(Some(0));
        }
        loop {
            let count = self.read_ready(into);
            if count > 0 || self.ended {
                return Ok(Some(count));
            }
            if let Some(failure) = self.failure {
                return Err(failure);
            }
            match self.receive(into, &mut read) {
                // What came is in `ready`, or was framing alone.
                Ok(Some(0)) => {}
                Ok(direct) => return Ok(direct),
                Err(failure) => {
                    self.failure = Some(failure);
                    self.transport.set_receive_wait(None);
                    return Err(failure);
                }
            }
        }
    }

    // Reads once from the socket, straight into the reader's buffer unless that is too small for a chunked body.
    fn receive(
        &mut self,
        into: &mut [u8],
        read: &mut impl FnMut(&mut Self, &mut [u8]) -> Result<Option<usize>, BodyFailure>,
    ) -> Result<Option<usize>, BodyFailure> {
        if std::mem::take(&mut self.expects) {
            let mut output = self.transport.output();
            output.append(encoder::interim_continue);
            output.flush(self.transport.stream()).map_err(|_| BodyFailure::Incomplete)?;
        }
        if let BodyDecoder::Length(left) = self.decoder {
            let share = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(count) = read(self, &mut into[..share])? else { return Ok(None) };
            let left = left - count as u64;
            self.decoder = BodyDecoder::Length(left);
            self.ended = left == 0;
            return Ok(Some(count));
        }
        if into.len() >= READ_BLOCK_BYTES {
            let Some(count) = read(self, into)? else { return Ok(None) };
            return Ok(Some(self.unchunk(&mut into[..count])));
        }
        let mut block = vec![0; READ_BLOCK_BYTES];
        let Some(count) = read(self, &mut block)? else { return Ok(None) };
        block.truncate(count);
        self.keep_content(block);
        Ok(Some(0))
    }

    fn wait_and_read(&mut self, into: &mut [u8]) -> Result<Option<usize>, BodyFailure> {
        loop {
            match self.transport.stream().read(into) {
                Ok(ReadOutcome { count: 0, .. }) => return Err(BodyFailure::Incomplete),
                Ok(ReadOutcome { count, .. }) => {
                    self.note(count, Instant::now());
                    return Ok(Some(count));
                }
                // Only now the socket is waited for: nothing is held that was decrypted.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    let timeout = self.begin_wait(now).saturating_duration_since(now);
                    if timeout.is_zero() || !self.wait(timeout).map_err(|_| BodyFailure::Incomplete)? {
                        return Err(BodyFailure::TimedOut);
                    }
                }
                Err(_) => return Err(BodyFailure::Incomplete),
            }
        }
    }

    // Waits for bytes. What is still to be sent leaves meanwhile: the client may wait for the rest of `100 Continue`.
    fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let stream = self.transport.stream();
        match self.transport.flush()? {
            Flushed::All => stream.wait_readable(timeout),
            Flushed::Blocked | Flushed::Yielded => stream.wait_ready(timeout),
        }
    }

    fn read_now(&mut self, into: &mut [u8], now: Instant) -> Result<Option<usize>, BodyFailure> {
        match self.transport.stream().read(into) {
            Ok(ReadOutcome { count: 0, .. }) => Err(BodyFailure::Incomplete),
            Ok(ReadOutcome { count, .. }) => {
                self.note(count, now);
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.begin_wait(now) <= now {
                    Err(BodyFailure::TimedOut)
                } else {
                    Ok(None)
                }
            }
            Err(_) => Err(BodyFailure::Incomplete),
        }
    }

    // The reader waits from now on, which the poller's thread can see. Returns until when.
    fn begin_wait(&mut self, now: Instant) -> Instant {
        self.rate.resume(now);
        self.transport.set_receive_wait(Some(self.rate.slow_since()));
        self.rate.deadline(&self.options)
    }

    // Bytes have come.
    fn note(&mut self, count: usize, now: Instant) {
        self.received += count as u64;
        self.rate.note(count, now, &self.options);
        self.pause(now);
    }

    // Keeps the content of what was read of a chunked body until it is asked for.
    fn keep_content(&mut self, mut raw: Vec<u8>) {
        let length = self.unchunk(&mut raw);
        raw.truncate(length);
        self.ready = raw;
        self.at = 0;
    }

    // Moves the content of what was read of a chunked body to the front of `raw`, and returns its length. What comes before
    // an error is still read.
    fn unchunk(&mut self, raw: &mut [u8]) -> usize {
        let BodyDecoder::Chunked(decoder) = &mut self.decoder else { return 0 };
        let (mut at, mut length) = (0, 0);
        loop {
            let step = match decoder.decode(&raw[at..]) {
                Ok(step) => step,
                Err(reject) => {
                    self.failure = Some(BodyFailure::Refused(reject));
                    return length;
                }
            };
            at += step.consumed;
            match step.event {
                ChunkEvent::Data(data) => {
                    let count = data.len();
                    raw.copy_within(at - count..at, length);
                    length += count;
                }
                ChunkEvent::More => return length,
                ChunkEvent::End => {
                    self.ended = true;
                    self.leftover = raw[at..].to_vec();
                    return length;
                }
            }
        }
    }

    /// Bytes taken off the socket so far, with the framing of chunks.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Why reading failed, if it did.
    pub fn failure(&self) -> Option<BodyFailure> {
        self.failure
    }

    /// What is known of the content still on the wire; `None`: of unknown length.
    pub fn unread(&self) -> Option<u64> {
        match (&self.decoder, self.ended) {
            (_, true) => Some(0),
            (BodyDecoder::Length(left), false) => Some(*left),
            (BodyDecoder::Chunked(_), false) => None,
        }
    }

    /// Lets the body go.
    pub fn remains(mut self) -> Remains {
        self.transport.set_receive_wait(None);
        Remains {
            unread: self.unread(),
            complete: self.ended && self.failure.is_none(),
            leftover: std::mem::take(&mut self.leftover),
            failure: self.failure,
        }
    }
}

#[cfg(test)]
#[path = "body_stream_tests.rs"]
mod tests;
