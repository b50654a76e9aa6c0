//! Request bodies: taken whole before the application runs ([`Intake`]), or read off the socket as the application asks
//! ([`BodyStream`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::body_stream::{Arrived, BodyFailure, BodyStream};
use super::clock::after;
use super::options::Options;
use super::spool::{Budget, Lent, Spool, SpoolFile};
use crate::http::reject::Reject;
use crate::http1::body::{ChunkedDecoder, Event};

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

pub(super) enum Shape {
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
