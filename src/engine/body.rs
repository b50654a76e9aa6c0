//! Request bodies: taken whole before the application runs ([`Intake`]), or read off the socket by the worker that
//! runs it ([`BodyStream`]).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::after;
use super::ending::can_drain;
use super::options::Options;
use super::output::Flushed;
use super::spool::{Budget, Lent, Spool, SpoolFile};
use super::wire::Wire;
use crate::http::reject::Reject;
use crate::http1::body::{ChunkedDecoder, Event};
use crate::http1::write;

/// A request body as the application's gateway gets it.
pub enum Body {
    /// No byte.
    Empty,
    /// Complete, in memory, which may be lent.
    Memory(Vec<u8>, Lent),
    /// Complete, in an unlinked file whose position is its beginning.
    File(SpoolFile),
    /// Still arriving.
    Stream(Box<BodyStream>),
}

/// How long `bytes` take at `rate` bytes a second; at a rate of 0, none is too long.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    bytes.checked_div(rate).map_or(Duration::MAX, Duration::from_secs)
}

/// How quickly a body comes, and until when its next byte must.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    started: Instant,
    moved: Instant,
    received: u64,
}

impl Pace {
    /// A body that begins now.
    pub fn new(now: Instant) -> Self {
        Self { started: now, moved: now, received: 0 }
    }

    fn note(&mut self, count: usize, now: Instant) {
        self.received += count as u64;
        self.moved = now;
    }

    /// How far it is behind a body that comes at `rate` bytes a second.
    pub fn lag(&self, rate: u64, now: Instant) -> Duration {
        now.saturating_duration_since(self.started).saturating_sub(time_for(self.received, rate))
    }

    /// When patience ends: after a silence, or when the body as a whole is slower than the minimum rate.
    pub fn deadline(&self, options: &Options) -> Instant {
        let silence = after(self.moved, options.body_timeout);
        match self.received.checked_div(options.body_min_rate) {
            Some(seconds) => {
                silence.min(after(self.started, options.body_timeout.saturating_add(Duration::from_secs(seconds))))
            }
            None => silence,
        }
    }
}

enum Shape {
    Length(u64),
    Chunked(ChunkedDecoder),
}

/// A body that is taken whole before its request is handed on.
pub struct Intake {
    shape: Shape,
    spool: Spool,
    /// How quickly it comes.
    pub pace: Pace,
}

impl Intake {
    /// A body of `length` bytes, or a chunked one: in memory up to the options' buffer, else in a file.
    pub fn new(length: Option<u64>, options: &Options, budget: &Arc<Budget>, now: Instant) -> Self {
        let shape = length.map_or_else(|| Shape::Chunked(ChunkedDecoder::new(&options.limits)), Shape::Length);
        Self { shape, spool: Spool::new(options.body_buffer, length, budget), pace: Pace::new(now) }
    }

    /// Takes what belongs to the body from the front of `input`. Returns how many bytes that was, and whether the body
    /// is complete.
    pub fn feed(&mut self, input: &[u8], now: Instant) -> Result<(usize, bool), Reject> {
        if !input.is_empty() {
            self.pace.note(input.len(), now);
        }
        match &mut self.shape {
            Shape::Length(left) => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.spool.write(&input[..taken])?;
                *left -= taken as u64;
                Ok((taken, *left == 0))
            }
            Shape::Chunked(decoder) => {
                let mut taken = 0;
                loop {
                    let step = decoder.decode(&input[taken..])?;
                    taken += step.consumed;
                    match step.event {
                        Event::Data(data) => self.spool.write(data)?,
                        Event::More => return Ok((taken, false)),
                        Event::End => return Ok((taken, true)),
                    }
                }
            }
        }
    }

    /// The complete body and its length.
    pub fn finish(self) -> Result<(Body, u64), Reject> {
        let length = self.spool.length();
        Ok((self.spool.finish()?, length))
    }
}

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
    /// What the client is told, should it still listen.
    pub fn reject(self) -> Reject {
        match self {
            Self::Incomplete => Reject::BodyIncomplete,
            Self::TimedOut => Reject::BodyTimeout,
            Self::Refused(reject) => reject,
        }
    }
}

/// A body that its reader takes off the socket. Its methods block: call them without holding the interpreter.
pub struct BodyStream {
    wire: Arc<Wire>,
    shape: Shape,
    // Content that has arrived and was not read yet.
    ready: Vec<u8>,
    at: usize,
    // What followed a chunked body on the wire.
    leftover: Vec<u8>,
    ended: bool,
    expects: bool,
    // How long its reader has waited for the client in all, and what that brought: the client does not answer for the time
    // that the application takes.
    waited: Duration,
    received: u64,
    failure: Option<BodyFailure>,
    options: Arc<Options>,
}

/// What is left of a body that its reader gave up.
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

/// Bytes asked of the socket at a time where the reader's own buffer is not used.
const BLOCK: usize = 16 * 1024;

impl BodyStream {
    /// A body of `length` bytes of which `ready` have come.
    pub fn of_length(wire: Arc<Wire>, options: Arc<Options>, length: u64, ready: Vec<u8>) -> Self {
        let left = length - ready.len() as u64;
        Self::new(wire, options, Shape::Length(left), ready, left == 0)
    }

    /// A chunked body of which `raw` has come; what of it is content is found at the first read.
    pub fn chunked(wire: Arc<Wire>, options: Arc<Options>, raw: &[u8]) -> Self {
        let decoder = ChunkedDecoder::new(&options.limits);
        let mut stream = Self::new(wire, options, Shape::Chunked(decoder), Vec::new(), false);
        if let Err(failure) = stream.decode(raw) {
            stream.failure = Some(failure);
        }
        stream
    }

    fn new(wire: Arc<Wire>, options: Arc<Options>, shape: Shape, ready: Vec<u8>, ended: bool) -> Self {
        Self {
            wire,
            shape,
            ready,
            at: 0,
            leftover: Vec::new(),
            ended,
            expects: false,
            waited: Duration::ZERO,
            received: 0,
            failure: None,
            options,
        }
    }

    /// The client waits for `100 Continue` before it sends the body: it is sent at the first read.
    pub fn expect_continue(&mut self) {
        self.expects = true;
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
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let count = self.read_ready(into);
            if count > 0 || self.ended {
                return Ok(count);
            }
            if let Some(failure) = self.failure {
                return Err(failure);
            }
            match self.receive(into) {
                // What came went into `ready`.
                Ok(0) => {}
                Ok(direct) => return Ok(direct),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Err(failure);
                }
            }
        }
    }

    // Reads once from the socket, waiting for it. Content of known length goes straight to the reader.
    fn receive(&mut self, into: &mut [u8]) -> Result<usize, BodyFailure> {
        if std::mem::take(&mut self.expects) {
            let mut output = self.wire.output();
            output.append(write::interim_continue);
            output.flush(self.wire.stream()).map_err(|_| BodyFailure::Incomplete)?;
        }
        if let Shape::Length(left) = self.shape {
            let share = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = self.wait_and_read(&mut into[..share])?;
            let left = left - count as u64;
            self.shape = Shape::Length(left);
            self.ended = left == 0;
            return Ok(count);
        }
        let mut block = vec![0; BLOCK];
        let count = self.wait_and_read(&mut block)?;
        self.decode(&block[..count])?;
        Ok(0)
    }

    fn wait_and_read(&mut self, into: &mut [u8]) -> Result<usize, BodyFailure> {
        let mut silent = Duration::ZERO;
        loop {
            match self.wire.stream().read(into) {
                Ok(0) => return Err(BodyFailure::Incomplete),
                Ok(count) => {
                    self.received += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patience = self.patience().min(self.options.body_timeout.saturating_sub(silent));
                    if patience.is_zero() {
                        return Err(BodyFailure::TimedOut);
                    }
                    let began = Instant::now();
                    let readable = self.wait(patience).map_err(|_| BodyFailure::Incomplete)?;
                    if !readable {
                        return Err(BodyFailure::TimedOut);
                    }
                    let waited = began.elapsed();
                    silent += waited;
                    self.waited += waited;
                }
                Err(_) => return Err(BodyFailure::Incomplete),
            }
        }
    }

    // Waits for bytes. What is still to be sent leaves meanwhile: the client may be waiting for the rest of an invitation.
    fn wait(&self, patience: Duration) -> io::Result<bool> {
        let stream = self.wire.stream();
        match self.wire.flush()? {
            Flushed::All => stream.wait_readable(patience),
            Flushed::Blocked | Flushed::Yielded => stream.wait_ready(patience),
        }
    }

    // What the minimum rate leaves of the client's time.
    fn patience(&self) -> Duration {
        let earned = time_for(self.received, self.options.body_min_rate);
        self.options.body_timeout.saturating_add(earned).saturating_sub(self.waited)
    }

    fn decode(&mut self, mut raw: &[u8]) -> Result<(), BodyFailure> {
        let Shape::Chunked(decoder) = &mut self.shape else { return Ok(()) };
        loop {
            let step = decoder.decode(raw).map_err(BodyFailure::Refused)?;
            raw = &raw[step.consumed..];
            match step.event {
                Event::Data(data) => self.ready.extend_from_slice(data),
                Event::More => return Ok(()),
                Event::End => {
                    self.ended = true;
                    self.leftover = raw.to_vec();
                    return Ok(());
                }
            }
        }
    }

    /// Why reading failed, if it did.
    pub fn failure(&self) -> Option<BodyFailure> {
        self.failure
    }

    /// What is known of the content still on the wire; `None`: of unknown length.
    pub fn unread(&self) -> Option<u64> {
        match (&self.shape, self.ended) {
            (_, true) => Some(0),
            (Shape::Length(left), false) => Some(*left),
            (Shape::Chunked(_), false) => None,
        }
    }

    /// Gives the body up.
    pub fn remains(mut self) -> Remains {
        Remains {
            unread: self.unread(),
            complete: self.ended && self.failure.is_none(),
            leftover: std::mem::take(&mut self.leftover),
            failure: self.failure,
        }
    }
}
