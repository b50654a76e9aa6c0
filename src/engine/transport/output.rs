//! What is still to be sent on one connection, in order: the server's own bytes, bytes that the application owns, pieces of
//! files. Nothing that is large is copied.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use crate::engine::transport::client_rate::TransferRate;
use crate::engine::transport::spool::{Budget, SpoolFailure, SpoolFile};
use crate::net::outcome::SendFileError;
use crate::net::stream::Stream;

/// Bytes kept alive by their owner (a Python object, say) until they are sent.
pub type Owned = Box<dyn AsRef<[u8]> + Send>;

/// A stretch of a file.
#[derive(Debug)]
pub struct FileSpan {
    /// An open file of its own: the application may close its one at once.
    pub file: File,
    /// Where the stretch begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

enum Segment {
    Bytes(Vec<u8>),
    Owned { owner: Owned, at: usize },
    File(FileSpan),
    // A stretch of the output's own spill.
    Spilled { offset: u64, length: u64 },
}

/// How far one flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is with the kernel; nothing is held by a record layer.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// There is more and the socket might take it, but other connections come first.
    Yielded,
}

/// Bytes that one flush sends at most: a fast reader of a large file must not hold the poller.
const FLUSH_SHARE_BYTES: usize = 4 << 20;
/// Slices handed to one system call.
const MAX_SLICES: usize = 16;
/// The most bytes one sendfile call is asked for.
const SENDFILE_BYTES: u64 = 1 << 20;

/// Bytes that one response keeps in a temporary file at most: what is longer has to wait for its client.
const SPILL_BYTES: u64 = 64 << 20;

/// Emptied buffers that a thread keeps for its next responses, and the largest that is kept.
const FREE_BUFFERS: usize = 8;
const FREE_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    // A buffer that has just been sent is in the processor's cache: using it again is quicker than having the allocator clear
    // it away and make another. (A response of 10 KiB took a twentieth less.)
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

// A borrow that fails costs an allocation and nothing else.
fn take_free_buffer() -> Vec<u8> {
    FREE.with(|free| free.try_borrow_mut().ok().and_then(|mut free| free.pop())).unwrap_or_default()
}

fn recycle_buffer(mut buffer: Vec<u8>) {
    if (1..=FREE_BUFFER_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        FREE.with(|free| {
            if let Some(mut free) = free.try_borrow_mut().ok().filter(|free| free.len() < FREE_BUFFERS) {
                free.push(buffer);
            }
        });
    }
}

/// The queue of bytes to be sent.
#[derive(Default)]
pub struct Output {
    front: Vec<u8>,
    at: usize,
    rest: VecDeque<Segment>,
    pending: u64,
    // Where what is appended goes once the output spills, how much of it is to be sent, and why it takes no more.
    spill: Option<SpoolFile>,
    spilled: u64,
    spill_failure: Option<SpoolFailure>,
    is_revoked: bool,
    sent: u64,
    // How quickly the client reads, while the socket takes no more.
    rate: Option<TransferRate>,
    released: bool,
    failure: Option<io::ErrorKind>,
    // Why a file could not be sent whole.
    file_failure: Option<Box<str>>,
    sealed: bool,
}

impl Output {
    /// Bytes that are queued: neither with the kernel nor with a record layer.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Those of them that are in memory.
    pub fn held(&self) -> u64 {
        self.pending - self.spilled
    }

    /// Lets everything that is appended go into a temporary file, until all of it was sent.
    pub fn spill(&mut self, budget: &Arc<Budget>) -> Result<(), SpoolFailure> {
        if self.spill.is_none() && self.spill_failure.is_none() {
            match SpoolFile::open(budget, self.slow_since()) {
                Ok(file) => self.spill = Some(file),
                Err(failure) => self.spill_failure = Some(failure),
            }
        }
        self.spill_failure.map_or(Ok(()), Err)
    }

    /// Whether its temporary file was emptied in favour of another, because the client was slow: the rest cannot be sent.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked || self.spill.as_ref().is_some_and(SpoolFile::is_revoked)
    }

    /// Whether what is appended goes into a temporary file.
    pub fn is_spilling(&self) -> bool {
        self.spill.is_some() && self.spill_failure.is_none()
    }

    /// Bytes that the kernel has taken since this value was made.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether an owner of bytes was dropped since this was last called.
    pub fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.released)
    }

    /// Whether a flush has failed: nothing reaches the client any more. The thread that flushes need not be the one that writes.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Why a file could not be sent to the end of its stretch, which fails the flush as a broken connection does.
    pub fn take_file_failure(&mut self) -> Option<Box<str>> {
        self.file_failure.take()
    }

    /// The response was ended without the application, which is not to wait for its client any more.
    pub fn seal(&mut self) {
        self.sealed = true;
    }

    /// Whether the response was ended without the application.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Lets `write` append bytes behind everything that is queued.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_spilling() {
            let mut bytes = Vec::new();
            write(&mut bytes);
            if !self.spill_bytes(&bytes) {
                self.append_here(|out| out.extend_from_slice(&bytes));
            }
        } else {
            self.append_here(write);
        }
    }

    fn append_here(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let last = match self.rest.back_mut() {
            None => {
                if self.front.capacity() == 0 {
                    self.front = take_free_buffer();
                }
                &mut self.front
            }
            Some(Segment::Bytes(bytes)) => bytes,
            Some(_) => {
                self.rest.push_back(Segment::Bytes(Vec::new()));
                match self.rest.back_mut() {
                    Some(Segment::Bytes(bytes)) => bytes,
                    _ => return,
                }
            }
        };
        let before = last.len();
        write(last);
        self.pending += (last.len() - before) as u64;
    }

    /// Queues bytes that stay where they are.
    pub fn push_owned(&mut self, owner: Owned) {
        if self.spill_bytes(owner.as_ref().as_ref()) {
            // Dropped at once, by the thread that has just handed it over.
            return;
        }
        self.pending += owner.as_ref().as_ref().len() as u64;
        self.rest.push_back(Segment::Owned { owner, at: 0 });
    }

    /// Queues a stretch of a file.
    pub fn push_file(&mut self, span: FileSpan) {
        if span.length > 0 {
            self.pending += span.length;
            self.rest.push_back(Segment::File(span));
        }
    }

    fn spill_bytes(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = self.spill.as_mut().filter(|_| self.spill_failure.is_none()) else { return false };
        let (offset, length) = (file.length(), bytes.len() as u64);
        let appended = if offset + length > SPILL_BYTES { Err(SpoolFailure::Full) } else { file.append(bytes) };
        if let Err(failure) = appended {
            self.spill_failure = Some(failure);
            return false;
        }
        match self.rest.back_mut() {
            Some(Segment::Spilled { offset: at, length: before }) if *at + *before == offset => *before += length,
            _ => self.rest.push_back(Segment::Spilled { offset, length }),
        }
        self.spilled += length;
        self.pending += length;
        true
    }

    /// Gives the socket what it takes.
    ///
    /// An error means that the connection is of no use any more, and comes again with every further flush; `UnexpectedEof`
    /// means that a file has become shorter.
    pub fn flush(&mut self, stream: &Stream) -> io::Result<Flushed> {
        if let Some(kind) = self.failure {
            return Err(kind.into());
        }
        if self.is_revoked() {
            return Err(self.lose_spill());
        }
        let (mut share, before) = (FLUSH_SHARE_BYTES, self.sent);
        while self.pending > 0 {
            if share == 0 {
                self.note_progress();
                return Ok(Flushed::Yielded);
            }
            match self.send_some(stream) {
                Ok(count) => share = share.saturating_sub(count),
                Err(error) => return self.stop_at(error, self.sent - before),
            }
        }
        let held = stream.pending();
        let flushed = stream.flush();
        self.sent += held.saturating_sub(stream.pending());
        if let Err(error) = flushed {
            return self.stop_at(error, self.sent - before);
        }
        self.clear();
        Ok(Flushed::All)
    }

    // A flush that sent so much comes to its end at an error.
    fn stop_at(&mut self, error: io::Error, sent: u64) -> io::Result<Flushed> {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.note_blocked(sent);
            return Ok(Flushed::Blocked);
        }
        if self.is_revoked() {
            return Err(self.lose_spill());
        }
        self.failure = Some(error.kind());
        self.discard();
        Err(error)
    }

    fn lose_spill(&mut self) -> io::Error {
        (self.is_revoked, self.file_failure) = (true, None);
        self.failure = Some(io::ErrorKind::TimedOut);
        self.discard();
        io::ErrorKind::TimedOut.into()
    }

    fn note_progress(&mut self) {
        self.rate = None;
        if let Some(spill) = &self.spill {
            spill.set_slow(None);
        }
    }

    fn note_blocked(&mut self, sent: u64) {
        let now = Instant::now();
        let rate = self.rate.get_or_insert_with(|| TransferRate::new(now));
        rate.note(sent, now);
        if let Some(spill) = &self.spill {
            spill.set_slow(Some(rate.slow_since()));
        }
    }

    /// Since when the client has read too slowly, if the socket takes no more.
    pub fn slow_since(&self) -> Option<Instant> {
        self.rate.as_ref().map(TransferRate::slow_since)
    }

    /// Drops what was not sent.
    pub fn discard(&mut self) {
        self.released |= self.rest.iter().any(|segment| matches!(segment, Segment::Owned { .. }));
        self.clear();
    }

    // Idle connections keep no buffer and no file.
    fn clear(&mut self) {
        recycle_buffer(std::mem::take(&mut self.front));
        self.at = 0;
        self.rest = VecDeque::new();
        self.pending = 0;
        self.rate = None;
        self.spill = None;
        self.spilled = 0;
        self.spill_failure = None;
    }

    fn send_some(&mut self, stream: &Stream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        if self.at < self.front.len() {
            slices[0] = IoSlice::new(&self.front[self.at..]);
            count = 1;
        }
        for segment in &self.rest {
            let bytes = match segment {
                Segment::Bytes(bytes) => bytes.as_slice(),
                Segment::Owned { owner, at } => &owner.as_ref().as_ref()[*at..],
                Segment::File(_) | Segment::Spilled { .. } => break,
            };
            if count == MAX_SLICES {
                break;
            }
            if !bytes.is_empty() {
                slices[count] = IoSlice::new(bytes);
                count += 1;
            }
        }
        let held = stream.pending();
        if count > 0 {
            let accepted = stream.write(&slices[..count])?;
            self.account(accepted, held, stream);
            self.advance(accepted);
            return Ok(accepted);
        }
        self.send_from_file(stream, held)
    }

    fn send_from_file(&mut self, stream: &Stream, held: u64) -> io::Result<usize> {
        let (file, offset, length) = match (self.rest.front(), &self.spill) {
            (Some(Segment::File(FileSpan { file, offset, length })), _) => (file, *offset, *length),
            (Some(Segment::Spilled { offset, length }), Some(spill)) => (spill.file(), *offset, *length),
            _ => {
                // Segments without a byte are all that can stand here.
                self.rest.pop_front();
                return Ok(0);
            }
        };
        let wanted = usize::try_from(length.min(SENDFILE_BYTES)).unwrap_or(usize::MAX);
        let failure = match stream.send_file(file, offset, wanted) {
            Ok(0) => SendFileError::File(io::ErrorKind::UnexpectedEof.into()),
            Ok(accepted) => {
                self.account(accepted, held, stream);
                self.advance_file(accepted);
                return Ok(accepted);
            }
            Err(failure) => failure,
        };
        match failure {
            SendFileError::Stream(error) => Err(error),
            SendFileError::File(error) => {
                let is_spilled = matches!(self.rest.front(), Some(Segment::Spilled { .. }));
                let file = if is_spilled { "its temporary file" } else { "its file" };
                self.file_failure = Some(match error.kind() {
                    io::ErrorKind::UnexpectedEof => format!("{file} ended {length} bytes early").into(),
                    _ => format!("{file} could not be read: {error}").into(),
                });
                Err(error)
            }
        }
    }

    // The first segment is of a file, of which so much was sent.
    fn advance_file(&mut self, sent: usize) {
        let (offset, length) = match self.rest.front_mut() {
            Some(Segment::File(FileSpan { offset, length, .. })) => (offset, length),
            Some(Segment::Spilled { offset, length }) => {
                self.spilled -= sent as u64;
                (offset, length)
            }
            _ => return,
        };
        *offset += sent as u64;
        *length -= sent as u64;
        if *length == 0 {
            self.rest.pop_front();
        }
    }

    // So much was accepted by a stream that held so much before. What it holds now is not sent yet; a record layer adds to what
    // it holds, so that this is a little less than was sent.
    fn account(&mut self, accepted: usize, held: u64, stream: &Stream) {
        self.sent += (held + accepted as u64).saturating_sub(stream.pending());
        self.pending -= accepted as u64;
    }

    fn advance(&mut self, mut sent: usize) {
        let of_front = sent.min(self.front.len() - self.at);
        self.at += of_front;
        sent -= of_front;
        if self.at == self.front.len() {
            recycle_buffer(std::mem::take(&mut self.front));
            self.at = 0;
        }
        while let Some(segment) = self.rest.front_mut() {
            match segment {
                Segment::Bytes(bytes) if bytes.len() <= sent => {
                    sent -= bytes.len();
                    self.rest.pop_front();
                }
                Segment::Bytes(bytes) => {
                    // The rest of our own bytes becomes the front, so that `at` serves them too.
                    self.front = std::mem::take(bytes);
                    self.at = sent;
                    self.rest.pop_front();
                    return;
                }
                Segment::Owned { owner, at } => {
                    let left = owner.as_ref().as_ref().len() - *at;
                    if left > sent {
                        *at += sent;
                        return;
                    }
                    sent -= left;
                    self.released = true;
                    self.rest.pop_front();
                }
                Segment::File(_) | Segment::Spilled { .. } => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::net::stream::double::Double;

    // Puts a record layer, past its handshake, in front of the socket.
    fn greet(double: &Double, seed: u64) {
        double.script().add_record_layer(seed);
        let stream = Stream::Double(double.clone());
        for _ in 0..1000 {
            drop(stream.read(&mut [0; 64]));
            if stream.flush().is_ok() && double.script().is_greeted() {
                return;
            }
        }
        panic!("no handshake");
    }

    fn pump(output: &mut Output, stream: &Stream) -> io::Result<()> {
        for _ in 0..100_000 {
            if output.flush(stream)? == Flushed::All {
                return Ok(());
            }
        }
        panic!("the output never drained");
    }

    #[test]
    fn mixed_segments_leave_in_order_whatever_the_socket_takes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let appetites = [None, Some(1), Some(2), Some(7), Some(1000)];
        for (appetite, seed) in appetites.into_iter().flat_map(|appetite| (0..20).map(move |seed| (appetite, seed))) {
            let double = Double::default();
            double.0.lock().unwrap().appetite = appetite;
            if seed > 0 {
                greet(&double, seed);
            }
            let stream = Stream::Double(double.clone());
            let mut output = Output::default();
            output.append(|out| out.extend_from_slice(b"head "));
            output.push_owned(Box::new(b"owned ".to_vec()));
            output.append(|out| out.extend_from_slice(b"own "));
            output.append(|out| out.extend_from_slice(b"bytes "));
            output.push_file(FileSpan { file: file.try_clone().unwrap(), offset: 2, length: 5 });
            output.append(|out| out.extend_from_slice(b" tail"));
            assert_eq!(output.pending(), 5 + 6 + 10 + 5 + 5);
            pump(&mut output, &stream).unwrap();
            assert_eq!(double.0.lock().unwrap().written, b"head owned own bytes 23456 tail");
            assert_eq!((output.pending(), stream.pending()), (0, 0));
            // Over a record layer this is about as much.
            assert!(if seed == 0 { output.sent() == 31 } else { output.sent() > 0 });
            assert!(output.take_released());
        }
    }

    #[test]
    fn output_is_all_sent_only_when_a_record_layer_holds_nothing() {
        for seed in 0..50 {
            let double = Double::default();
            greet(&double, seed);
            let (stream, taken) = (Stream::Double(double.clone()), double.script().taken);
            double.script().full_at = Some(taken + 5);
            let mut output = Output::default();
            output.append(|out| out.extend_from_slice(b"content"));
            assert_eq!(output.flush(&stream).unwrap(), Flushed::Blocked, "seed {seed}");
            assert!(output.slow_since().is_some() && stream.pending() > 0);
            let before = output.sent();
            double.script().full_at = None;
            pump(&mut output, &stream).unwrap();
            assert!(output.sent() > before && output.slow_since().is_none() && stream.pending() == 0);
            assert_eq!(double.script().written, b"content");
        }
    }

    #[test]
    fn spilled_output_keeps_its_order_and_gives_its_file_back() {
        let budget = Arc::new(Budget::new(100, 1, 0));
        let double = Double::default();
        double.0.lock().unwrap().appetite = Some(3);
        let mut output = Output::default();
        output.append(|out| out.extend_from_slice(b"head "));
        output.spill(&budget).unwrap();
        for piece in [b"one ".as_slice(), b"two "] {
            output.append(|out| out.extend_from_slice(piece));
        }
        output.push_owned(Box::new(b"three ".to_vec()));
        assert_eq!((output.pending(), output.held(), budget.bytes()), (19, 5, 14));
        // What the budget has no room for stays in memory, behind the rest.
        output.append(|out| out.extend_from_slice(&[b'.'; 90]));
        output.append(|out| out.extend_from_slice(b" end"));
        assert_eq!((output.is_spilling(), output.spill(&budget)), (false, Err(SpoolFailure::Full)));
        assert_eq!((output.pending(), output.held()), (113, 99));
        pump(&mut output, &Stream::Double(double.clone())).unwrap();
        let expected = ["head one two three ", &".".repeat(90), " end"].concat();
        assert_eq!(String::from_utf8_lossy(&double.0.lock().unwrap().written), expected);
        assert_eq!((output.pending(), output.held(), budget.bytes()), (0, 0, 0));
        output.spill(&budget).expect("the next response may spill again");
        output.discard();
        assert!(!output.is_spilling());
    }

    #[test]
    fn file_that_became_shorter_is_an_error() {
        let mut output = Output::default();
        output.push_file(FileSpan { file: tempfile::tempfile().unwrap(), offset: 0, length: 5 });
        let stream = Stream::Double(Double::default());
        assert_eq!(pump(&mut output, &stream).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(output.take_file_failure().as_deref(), Some("its file ended 5 bytes early"));
        assert_eq!(output.take_file_failure(), None);
    }

    #[test]
    fn file_that_cannot_be_read_is_an_error_that_says_so() {
        let mut output = Output::default();
        // A folder can be opened, and not read.
        output.push_file(FileSpan { file: File::open("/").unwrap(), offset: 0, length: 5 });
        assert!(pump(&mut output, &Stream::Double(Double::default())).is_err());
        assert!(output.take_file_failure().unwrap().starts_with("its file could not be read: Is a directory"));
    }

    // The kernel has no way from some file systems into a socket: EINVAL.
    #[cfg(target_os = "linux")]
    #[test]
    fn file_that_the_kernel_cannot_send_is_read() {
        let (near, far) = socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let mut output = Output::default();
        let content = std::fs::read("/proc/self/cmdline").unwrap();
        let length = content.len() as u64;
        output.push_file(FileSpan { file: File::open("/proc/self/cmdline").unwrap(), offset: 1, length: length - 1 });
        pump(&mut output, &Stream::Socket(near)).unwrap();
        let mut sent = Vec::new();
        drop(output);
        std::io::Read::read_to_end(&mut &far, &mut sent).unwrap();
        assert_eq!(sent, content[1..]);
    }

    #[test]
    fn broken_connection_is_no_failure_of_a_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"01234").unwrap();
        let (near, far) = socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        drop(far);
        let mut output = Output::default();
        output.push_file(FileSpan { file, offset: 0, length: 5 });
        assert_eq!(pump(&mut output, &Stream::Socket(near)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(output.take_file_failure(), None);
    }

    #[test]
    fn discarded_output_is_never_sent() {
        let double = Double::default();
        let mut output = Output::default();
        output.append(|out| out.extend_from_slice(b"secret"));
        output.push_owned(Box::new(b"more".to_vec()));
        output.discard();
        pump(&mut output, &Stream::Double(double.clone())).unwrap();
        assert!(double.0.lock().unwrap().written.is_empty());
    }
}
