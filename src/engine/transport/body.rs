//! Request bodies: taken whole before the application runs ([`Intake`]), or read off the socket as the application asks
//! ([`BodyStream`]).

use std::sync::Arc;
use std::time::Instant;

use crate::engine::options::Options;
pub use crate::engine::transport::body_stream::{Arrived, BodyFailure, BodyStream};
use crate::engine::transport::pace::Pace;
use crate::engine::transport::spool::{Budget, MemoryReservation, Spool, SpoolFile};
use crate::http::reject::Reject;
use crate::http1::body::{ChunkedDecoder, Event};

/// A request body as the application's gateway gets it.
pub enum Body {
    /// No byte.
    Empty,
    /// Complete, in memory, which may be lent.
    Memory(Vec<u8>, MemoryReservation),
    /// Complete, in an unlinked file whose position is its beginning.
    File(SpoolFile),
    /// Still arriving.
    Stream(Box<BodyStream>),
}

pub(in crate::engine) enum Shape {
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
    pub fn feed(&mut self, input: &[u8], options: &Options, now: Instant) -> Result<(usize, bool), Reject> {
        if !input.is_empty() {
            self.pace.note(input.len(), now, options);
            self.spool.set_behind(Some(self.pace.behind_since()));
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

    /// Whether another has what it had of the budget, because its client was behind.
    pub fn is_revoked(&self) -> bool {
        self.spool.is_revoked()
    }

    /// The complete body and its length.
    pub fn finish(self) -> Result<(Body, u64), Reject> {
        let length = self.spool.length();
        Ok((self.spool.finish()?, length))
    }
}
