//! Request bodies that are collected before the application runs, in memory or in a file.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::options::Options;
use crate::engine::transport::body::Body;
use crate::engine::transport::body_decoder::BodyDecoder;
use crate::engine::transport::client_rate::ReceiveRate;
use crate::engine::transport::spool::{BODY_MEMORY_MAX, Budget, MemoryReservation, SpoolFailure, SpoolFile};
use crate::http::reject::Reject;
use crate::http1::body::ChunkEvent;

/// A body that is taken whole before its request is handed on.
pub struct Intake {
    decoder: BodyDecoder,
    spool: Spool,
    /// How quickly it comes.
    pub rate: ReceiveRate,
}

impl Intake {
    /// A body of `length` bytes, or a chunked one: in memory up to the options' buffer, else in a file.
    pub fn new(length: Option<u64>, options: &Options, budget: &Arc<Budget>, now: Instant) -> Self {
        let decoder = BodyDecoder::new(length, &options.limits);
        Self { decoder, spool: Spool::new(options.body_buffer, length, budget), rate: ReceiveRate::new(now) }
    }

    /// Takes what belongs to the body from the front of `input`. Returns how many bytes that was, and whether the body
    /// is complete.
    pub fn feed(&mut self, input: &[u8], options: &Options, now: Instant) -> Result<(usize, bool), Reject> {
        if !input.is_empty() {
            self.rate.note(input.len(), now, options);
            self.spool.set_slow(Some(self.rate.slow_since()));
        }
        match &mut self.decoder {
            BodyDecoder::Length(left) => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.spool.write(&input[..taken])?;
                *left -= taken as u64;
                Ok((taken, *left == 0))
            }
            BodyDecoder::Chunked(decoder) => {
                let mut taken = 0;
                loop {
                    let step = decoder.decode(&input[taken..])?;
                    taken += step.consumed;
                    match step.event {
                        ChunkEvent::Data(data) => self.spool.write(data)?,
                        ChunkEvent::More => return Ok((taken, false)),
                        ChunkEvent::End => return Ok((taken, true)),
                    }
                }
            }
        }
    }

    /// As [`Spool::is_revoked`].
    pub fn is_revoked(&self) -> bool {
        self.spool.is_revoked()
    }

    /// The complete body and its length.
    pub fn finish(self) -> Result<(Body, u64), Reject> {
        let length = self.spool.length();
        Ok((self.spool.finish()?, length))
    }
}

/// Bytes that are gathered before they are written to a file: a chunk may be as small as a byte, a system call is not.
const WRITE_BATCH_BYTES: usize = 32 * 1024;

/// Content that is collected: in memory first, then in a file.
pub struct Spool {
    // The whole, or what is not in the file yet.
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    threshold: usize,
    // What it will come to, if that is known.
    expected: Option<u64>,
    budget: Arc<Budget>,
    reserved: MemoryReservation,
    slow_since: Option<Instant>,
}

impl Spool {
    /// An empty one that keeps up to `threshold` bytes in memory, and more of them if there is room.
    pub fn new(threshold: usize, expected: Option<u64>, budget: &Arc<Budget>) -> Self {
        Self {
            memory: Vec::new(),
            file: None,
            threshold,
            expected,
            budget: Arc::clone(budget),
            reserved: MemoryReservation::default(),
            slow_since: None,
        }
    }

    // Whether memory has room for so many bytes in all.
    fn has_room(&mut self, bytes: usize) -> Result<bool, SpoolFailure> {
        let own = self.threshold as u64;
        if bytes as u64 <= own {
            return Ok(true);
        }
        // What is reserved is allocated whole: growing by and by would copy it again and again, and take twice as much.
        let Some(whole) = self.expected else { return Ok(false) };
        let has_room = self.may_take(whole)?;
        if has_room {
            self.memory.reserve(usize::try_from(whole).unwrap_or(0).saturating_sub(self.memory.len()));
        }
        Ok(has_room)
    }

    // Takes what memory a body of so many bytes needs beyond its own, if there is as much.
    fn may_take(&mut self, whole: u64) -> Result<bool, SpoolFailure> {
        let own = self.threshold as u64;
        if whole > own.saturating_mul(BODY_MEMORY_MAX) {
            return Ok(false);
        }
        match self.reserved.grow(whole.saturating_sub(own), &self.budget, self.slow_since) {
            Ok(()) => Ok(true),
            Err(SpoolFailure::Revoked) => Err(SpoolFailure::Revoked),
            Err(SpoolFailure::Full | SpoolFailure::Failed) => Ok(false),
        }
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, SpoolFile::length) + self.memory.len() as u64
    }

    /// Notes since when its client has been slow; `None`: it is not.
    pub fn set_slow(&mut self, since: Option<Instant>) {
        self.slow_since = since;
        self.reserved.set_slow(since);
        if let Some(file) = &self.file {
            file.set_slow(since);
        }
    }

    /// Whether its part of the budget was given to another body, because its client was slow.
    pub fn is_revoked(&self) -> bool {
        self.reserved.is_revoked() || self.file.as_ref().is_some_and(SpoolFile::is_revoked)
    }

    /// Puts `bytes` behind those that are there.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolFailure> {
        if self.is_revoked() {
            return Err(SpoolFailure::Revoked);
        }
        let whole = self.memory.len() + bytes.len();
        if self.file.is_none() && !self.has_room(whole)? {
            match SpoolFile::open(&self.budget, self.slow_since) {
                Ok(file) => self.file = Some(file),
                // One of unknown length grows by and by, which is better than to refuse it.
                Err(failure) if !self.may_take(whole as u64)? => return Err(failure),
                Err(_) => {}
            }
        }
        if let Some(file) = &mut self.file {
            if self.memory.len() + bytes.len() > WRITE_BATCH_BYTES {
                file.append(&std::mem::take(&mut self.memory))?;
                self.reserved = MemoryReservation::default();
            }
            if bytes.len() > WRITE_BATCH_BYTES {
                return file.append(bytes);
            }
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    /// The whole, to be read from its beginning.
    pub fn finish(mut self) -> Result<Body, SpoolFailure> {
        if let Some(file) = &mut self.file {
            file.append(&std::mem::take(&mut self.memory))?;
            file.rewind()?;
        }
        // From here on it waits for no client.
        self.set_slow(None);
        if self.is_revoked() {
            return Err(SpoolFailure::Revoked);
        }
        Ok(match self.file {
            Some(file) => Body::File(file),
            None if self.memory.is_empty() => Body::Empty,
            None => Body::Memory(self.memory, self.reserved),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::engine::page::PageSlot;
    use crate::engine::transport::spool::Resource;

    #[test]
    fn body_up_to_the_threshold_costs_no_file_and_a_larger_one_is_whole() {
        let budget = Arc::new(Budget::new(100, 1, 0));
        let mut small = Spool::new(5, None, &budget);
        small.write(b"hello").unwrap();
        assert!(matches!(small.finish(), Ok(Body::Memory(bytes, _)) if bytes == b"hello"));
        let mut large = Spool::new(5, None, &budget);
        for piece in [b"hello".as_slice(), b" ", b"world"] {
            large.write(piece).unwrap();
        }
        // Small pieces do not go to the file one by one.
        assert_eq!((large.length(), budget.bytes()), (11, 0));
        let Ok(Body::File(mut file)) = large.finish() else { panic!("not in a file") };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), budget.bytes()), ("hello world", 11));
        drop(file);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn large_bodies_stay_in_memory_as_long_as_all_of_them_have_room() {
        let options = Options { body_buffer: 1, ..Options::default() };
        let budget = Arc::new(Budget::of(&options, 10, PageSlot::private(1)));
        let spooled = |size: usize| {
            let mut spool = Spool::new(1, Some(size as u64), &budget);
            for piece in vec![0; size].chunks(10) {
                spool.write(piece).unwrap();
            }
            spool.finish().unwrap()
        };
        let in_memory: Vec<_> = (0..9).map(|_| spooled(101)).collect();
        assert!(in_memory.iter().all(|body| matches!(body, Body::Memory(..))));
        assert!(matches!(spooled(129), Body::File(_)), "one body does not get all there is");
        let reserved = spooled(100);
        assert!(matches!(reserved, Body::Memory(..)));
        assert!(matches!(spooled(100), Body::File(_)), "nothing is left");
        drop(reserved);
        assert!(matches!(spooled(100), Body::Memory(..)));
        drop(in_memory);
        assert_eq!((budget.bytes(), budget.spent(Resource::Memory).load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn body_that_was_revoked_fails_and_one_that_is_complete_stays() {
        let since = Instant::now().checked_sub(Duration::from_secs(10));
        for in_memory in [false, true] {
            let budget = Arc::new(if in_memory { Budget::new(0, 0, 99) } else { Budget::new(100, 1, 0) });
            let spooled = |bytes: &[u8]| {
                let mut spool = Spool::new(1, Some(100), &budget);
                spool.set_slow(since);
                spool.write(bytes).map(|()| spool)
            };
            let mut slow = spooled(&[b'x'; 50]).unwrap();
            assert!(!slow.is_revoked());
            let mut newcomer = Spool::new(1, Some(100), &budget);
            newcomer.write(&[b'x'; 100]).unwrap();
            assert!(slow.is_revoked());
            assert_eq!(slow.write(b"x"), Err(SpoolFailure::Revoked));
            assert_eq!(slow.finish().err(), Some(SpoolFailure::Revoked));
            newcomer.set_slow(since);
            let whole = newcomer.finish().unwrap();
            assert_eq!(spooled(&[b'x'; 50]).err(), Some(SpoolFailure::Full), "no client is waited for");
            drop(whole);
            assert!(spooled(&[b'x'; 50]).is_ok());
        }
        assert_eq!(Reject::from(SpoolFailure::Revoked), Reject::BodyTimeout);
    }

    #[test]
    fn body_without_a_file_stays_in_memory_as_long_as_there_is_some() {
        let budget = Arc::new(Budget::new(0, 0, 5));
        let mut body = Spool::new(2, None, &budget);
        body.write(b"hello").unwrap();
        body.write(b"!!").unwrap();
        assert_eq!(body.write(b"?"), Err(SpoolFailure::Full));
        assert_eq!(budget.spent(Resource::Memory).load(Ordering::Relaxed), 5);
        drop(body);
        assert_eq!(budget.spent(Resource::Memory).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn body_beyond_the_budget_is_refused_as_such() {
        let budget = Arc::new(Budget::new(3, 1, 0));
        let mut small = Spool::new(0, None, &budget);
        small.write(b"four").unwrap();
        let failure = small.finish().err().unwrap();
        assert_eq!((failure, Reject::from(failure)), (SpoolFailure::Full, Reject::SpoolFull));
        assert_eq!(Spool::new(0, None, &budget).write(&vec![0; WRITE_BATCH_BYTES + 1]), Err(SpoolFailure::Full));
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn pieces_of_any_size_keep_their_order() {
        let budget = Arc::new(Budget::new(u64::MAX, 1, 0));
        let mut spool = Spool::new(10, None, &budget);
        let mut expected = Vec::new();
        for (number, size) in
            [1, WRITE_BATCH_BYTES, 2, WRITE_BATCH_BYTES + 1, 0, 3, WRITE_BATCH_BYTES - 1, WRITE_BATCH_BYTES, 5]
                .into_iter()
                .enumerate()
        {
            let piece = vec![u8::try_from(number).unwrap(); size];
            spool.write(&piece).unwrap();
            expected.extend(piece);
            assert_eq!(spool.length(), expected.len() as u64);
        }
        let Ok(Body::File(mut file)) = spool.finish() else { panic!("not in a file") };
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == expected);
    }
}
