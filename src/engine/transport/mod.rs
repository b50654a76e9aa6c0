//! The part of a connection that two threads may touch: its stream, and what is to be sent on it. A worker that streams a response
//! fills the output while the poller's thread empties it; all else of a connection has one owner.

pub mod body;
mod body_decoder;
mod body_stream;
pub mod client_rate;
pub mod intake;
pub mod output;
pub mod spool;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard};
use crate::engine::transport::output::{Flushed, Output};
use crate::engine::transport::spool::{Budget, SpoolFailure};
use crate::http::origin::Scheme;
use crate::net::outcome::Protocol;
use crate::net::stream::Stream;

/// An application that is this far ahead of its client has to wait.
const HIGH_WATER_BYTES: u64 = 1 << 20;

/// How often a waiting application checks whether its thread is needed for other requests.
const CONTENTION_CHECK: Duration = Duration::from_millis(50);
/// If it is, and the response cannot go to a file, the client has this long to read what is between the marks.
const CONTENDED_TIMEOUT: Duration = Duration::from_secs(5);

// What became of a connection while its exchange was with the application, as bits.
const READY: u8 = 1;
const ENDED: u8 = 2;
const TIMED_OUT: u8 = 4;

/// Why an application cannot go on writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainError {
    /// Nothing reaches the client any more.
    Disconnected,
    /// The client has read nothing for too long, or too slowly to keep its temporary file.
    TimedOut,
    /// The client reads too slowly for a thread that other requests wait for.
    Contended,
}

impl From<io::Error> for DrainError {
    fn from(error: io::Error) -> Self {
        // Also of a client that was too slow to keep its temporary file.
        if error.kind() == io::ErrorKind::TimedOut { Self::TimedOut } else { Self::Disconnected }
    }
}

/// A stream and its output.
pub struct Transport {
    stream: Stream,
    output: Mutex<Output>,
    ready_while_away: AtomicU8,
    // Since when the client has sent too slowly, while the application waits for it.
    receive_wait: Mutex<Option<Instant>>,
}

impl Transport {
    /// How much is still to be sent when an application that had to wait goes on.
    pub const LOW_WATER_BYTES: u64 = 256 * 1024;

    /// Wraps a freshly accepted stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream, output: Mutex::default(), ready_while_away: AtomicU8::new(0), receive_wait: Mutex::default() }
    }

    /// The stream alone.
    pub(in crate::engine) fn into_stream(self) -> Stream {
        self.stream
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What is to be sent.
    pub fn output(&self) -> MutexGuard<'_, Output> {
        // A panic has cost that request already; the queue is valid between any two calls.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the client speaks to this server.
    pub fn scheme(&self) -> Scheme {
        if self.stream.is_encrypted() { Scheme::Https } else { Scheme::Http }
    }

    /// What the client speaks. With a record layer that is known once the first byte was read.
    pub fn protocol(&self) -> Protocol {
        self.stream.protocol()
    }

    /// Bytes that are still to be sent: queued, or held by a record layer.
    pub fn pending(&self) -> u64 {
        self.output().pending() + self.stream.pending()
    }

    /// Gives the socket what it takes now.
    pub fn flush(&self) -> io::Result<Flushed> {
        self.output().flush(&self.stream)
    }

    /// Notes that the socket changed while the poller's thread did not own the connection, and whether the client closed its side.
    pub fn note_ready_while_away(&self, ended: bool) {
        self.ready_while_away.fetch_or(if ended { READY | ENDED } else { READY }, Ordering::SeqCst);
    }

    /// Whether the socket changed since this was last called, and whether the client closed its side; forgets it.
    pub fn take_ready_while_away(&self) -> (bool, bool) {
        // The load keeps the common case from writing to a line that the poller's thread may hold.
        if !self.was_ready_while_away() {
            return (false, false);
        }
        let ready_while_away = self.ready_while_away.swap(0, Ordering::SeqCst);
        (ready_while_away & READY != 0, ready_while_away & ENDED != 0)
    }

    /// The first of these, without forgetting it.
    pub fn was_ready_while_away(&self) -> bool {
        self.ready_while_away.load(Ordering::SeqCst) != 0
    }

    /// The second of these, without forgetting it.
    pub fn has_ended(&self) -> bool {
        self.ready_while_away.load(Ordering::SeqCst) & ENDED != 0
    }

    /// Notes that the client has read nothing for `write_timeout` while the application waited for it.
    pub fn note_write_timeout(&self) {
        self.ready_while_away.fetch_or(TIMED_OUT, Ordering::SeqCst);
    }

    /// Whether that was noted.
    pub fn has_write_timed_out(&self) -> bool {
        self.ready_while_away.load(Ordering::SeqCst) & TIMED_OUT != 0
    }

    /// Notes that the application waits for its client to send, which has been slow since then; `None`: it does not wait.
    pub fn set_receive_wait(&self, slow_since: Option<Instant>) {
        *self.receive_wait.lock().unwrap_or_else(PoisonError::into_inner) = slow_since;
    }

    /// What was noted last.
    pub fn receive_wait(&self) -> Option<Instant> {
        *self.receive_wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the client has been slow: to send what the application waits for, or to read.
    pub fn slow_since(&self) -> Option<Instant> {
        let reading = self.output().slow_since();
        [self.receive_wait(), reading].into_iter().flatten().min()
    }

    /// Whether so much is queued that the application should wait for its client.
    pub fn is_ahead(&self) -> bool {
        let output = self.output();
        output.held() + self.stream.pending() > HIGH_WATER_BYTES && !output.is_spilling()
    }

    /// Blocks until most of what is queued has left, for up to `timeout` without a byte that leaves. While other requests wait for
    /// the thread (`is_contended`), what is queued from here on goes to a temporary file instead, so that a few slow readers do not
    /// hold all threads; if `spool` has no room, the client has to read quickly. Where the system refuses the file, the client has
    /// the whole timeout.
    pub fn wait_drained(
        &self,
        timeout: Duration,
        spool: &Arc<Budget>,
        is_contended: impl Fn() -> bool,
    ) -> Result<(), DrainError> {
        let drained = self.wait_for_reader(timeout, spool, is_contended);
        if matches!(drained, Err(DrainError::TimedOut | DrainError::Contended)) {
            self.note_write_timeout();
        }
        drained
    }

    fn wait_for_reader(
        &self,
        timeout: Duration,
        spool: &Arc<Budget>,
        is_contended: impl Fn() -> bool,
    ) -> Result<(), DrainError> {
        let mut sent = self.output().sent();
        let mut moved = Instant::now();
        let mut mark = (sent, moved);
        loop {
            let (flushed, queued, total) = {
                let mut output = self.output();
                if output.is_sealed() {
                    return Err(DrainError::Disconnected);
                }
                (output.flush(&self.stream)?, output.pending(), output.sent())
            };
            if flushed == Flushed::All || queued + self.stream.pending() <= Self::LOW_WATER_BYTES {
                return Ok(());
            }
            if total != sent {
                sent = total;
                moved = Instant::now();
            }
            if total - mark.0 >= HIGH_WATER_BYTES - Self::LOW_WATER_BYTES {
                mark = (total, Instant::now());
            }
            if is_contended() {
                let spilled = self.output().spill(spool);
                match spilled {
                    Ok(()) => return Ok(()),
                    Err(SpoolFailure::Full | SpoolFailure::Revoked) if mark.1.elapsed() >= CONTENDED_TIMEOUT => {
                        return Err(DrainError::Contended);
                    }
                    Err(_) => {}
                }
            }
            let left = timeout.checked_sub(moved.elapsed()).ok_or(DrainError::TimedOut)?;
            self.stream.wait_writable(left.min(CONTENTION_CHECK))?;
        }
    }
}

/// The transports whose responses are being streamed. The shard's monitor flushes them, so that what is queued leaves within a
/// moment even if the application falls silent.
#[derive(Default)]
pub struct Streaming {
    transports: Mutex<Vec<Arc<Transport>>>,
    count: AtomicU64,
}

impl Streaming {
    /// Adds a transport.
    pub fn add(&self, transport: Arc<Transport>) {
        let mut transports = self.lock();
        transports.push(transport);
        self.count.store(transports.len() as u64, Ordering::SeqCst);
    }

    /// Takes it out.
    pub fn remove(&self, transport: &Arc<Transport>) {
        let mut transports = self.lock();
        if let Some(index) = transports.iter().position(|other| Arc::ptr_eq(other, transport)) {
            transports.swap_remove(index);
        }
        self.count.store(transports.len() as u64, Ordering::SeqCst);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Flushes all of them; `true` if any byte was sent. One that is blocked is left to the poller.
    pub fn flush(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut busy = false;
        for transport in self.lock().iter() {
            let mut output = transport.output();
            let before = output.sent();
            // A broken connection is found by its owner, at its next write.
            drop(output.flush(&transport.stream));
            busy |= output.sent() != before;
        }
        busy
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Transport>>> {
        self.transports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
