//! The part of a connection that two threads may touch: its socket, and what is to be sent on it. A worker that
//! streams a response fills it while the poller's thread empties it; all else of a connection has one owner.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::crew::Trouble;
use super::gateway::Severity;
use super::output::{Flushed, Output};
use super::site::Site;
use super::spool::SpoolFailure;
use super::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard};
use crate::net::stream::Stream;

/// An application that is this far ahead of its client has to wait.
const HIGH_WATER: u64 = 1 << 20;

/// How often a waiting application looks whether its thread is needed for other requests.
const LOOK: Duration = Duration::from_millis(50);
/// If it is, and there is no room to go on without its client, the client has this long for each stretch between the marks.
const PRESSED: Duration = Duration::from_secs(5);

/// What is said then.
const CUT: &str = "a response was cut because its client read too slowly: requests wait for its thread, and the temporary files \
                   are at their bound (max_spool_size, 64 MiB for each response)";

const TOUCHED: u8 = 1;
const ENDED: u8 = 2;
const STALLED: u8 = 4;

/// A socket and its output.
pub struct Wire {
    stream: Stream,
    output: Mutex<Output>,
    touched: AtomicU8,
    // Since when the client is behind with what the application reads, as long as that waits.
    awaited: Mutex<Option<Instant>>,
}

impl Wire {
    /// Where an application that had to wait goes on.
    pub const LOW_WATER: u64 = 256 * 1024;

    /// Wraps a freshly accepted stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream, output: Mutex::default(), touched: AtomicU8::new(0), awaited: Mutex::default() }
    }

    /// The socket alone.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What is to be sent.
    pub fn output(&self) -> MutexGuard<'_, Output> {
        // A panic inside would have cost that request already; the queue itself is valid between any two calls.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the socket what it takes now.
    pub fn flush(&self) -> io::Result<Flushed> {
        self.output().flush(&self.stream)
    }

    /// Notes that the socket changed while somebody else owned the connection, and whether the client closed its side.
    pub fn touch(&self, ended: bool) {
        self.touched.fetch_or(if ended { TOUCHED | ENDED } else { TOUCHED }, Ordering::SeqCst);
    }

    /// Whether the socket changed since this was last asked, and whether the client closed its side; forgets it.
    pub fn take_touched(&self) -> (bool, bool) {
        // The load keeps the common case from writing to a line that the poller's thread may hold.
        if !self.is_touched() {
            return (false, false);
        }
        let touched = self.touched.swap(0, Ordering::SeqCst);
        (touched & TOUCHED != 0, touched & ENDED != 0)
    }

    /// Whether the socket changed since it was last asked.
    pub fn is_touched(&self) -> bool {
        self.touched.load(Ordering::SeqCst) != 0
    }

    /// Whether the client closed its side while somebody else owned the connection.
    pub fn has_ended(&self) -> bool {
        self.touched.load(Ordering::SeqCst) & ENDED != 0
    }

    /// Notes that the application has waited for the client for as long as it may.
    pub fn note_stall(&self) {
        self.touched.fetch_or(STALLED, Ordering::SeqCst);
    }

    /// Whether the application has waited for the client for as long as it may.
    pub fn has_stalled(&self) -> bool {
        self.touched.load(Ordering::SeqCst) & STALLED != 0
    }

    /// The application waits for what its client sends, which has been behind since then; `None`: it does not wait.
    pub fn await_client(&self, behind_since: Option<Instant>) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = behind_since;
    }

    /// Since when the client is behind with what the application waits to read.
    pub fn awaited_since(&self) -> Option<Instant> {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the client is behind: with what the application waits to read, or with what it is sent.
    pub fn behind_since(&self) -> Option<Instant> {
        let unread = self.output().behind_since();
        [self.awaited_since(), unread].into_iter().flatten().min()
    }

    /// Whether so much is queued that the application should wait for its client.
    pub fn is_ahead(&self) -> bool {
        let output = self.output();
        output.held() > HIGH_WATER && !output.is_spilling()
    }

    /// Blocks until the client has caught up with most of what is queued; it has `stall` for each sign of life. While other
    /// requests need the thread, what is queued from here on goes to a temporary file instead, and if there are too many of
    /// those, the client must be quick: a few that read slowly must not hold all threads. A client does not answer for a
    /// system that refuses the file.
    pub fn catch_up(&self, stall: Duration, site: &Site) -> io::Result<()> {
        self.wait_for_client(stall, site).inspect_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                self.note_stall();
            }
        })
    }

    fn wait_for_client(&self, stall: Duration, site: &Site) -> io::Result<()> {
        let mut sent = self.output().sent();
        let mut moved = Instant::now();
        let mut mark = (sent, moved);
        loop {
            let (flushed, pending, total) = {
                let mut output = self.output();
                if output.is_sealed() {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                (output.flush(&self.stream)?, output.pending(), output.sent())
            };
            if flushed == Flushed::All || pending <= Self::LOW_WATER {
                return Ok(());
            }
            if total != sent {
                sent = total;
                moved = Instant::now();
            }
            if total - mark.0 >= HIGH_WATER - Self::LOW_WATER {
                mark = (total, Instant::now());
            }
            if site.crew.is_pressed() {
                let spilled = self.output().spill(&site.spool);
                match spilled {
                    Ok(()) => return Ok(()),
                    Err(SpoolFailure::Full | SpoolFailure::Revoked) if mark.1.elapsed() >= PRESSED => {
                        site.report_rarely(Trouble::Cut, Severity::Warning, CUT);
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Err(_) => {}
                }
            }
            let left = stall.checked_sub(moved.elapsed()).ok_or(io::ErrorKind::TimedOut)?;
            self.stream.wait_writable(left.min(LOOK))?;
        }
    }
}

/// The wires whose responses are being streamed. What they hold leaves within a moment even if their application
/// falls silent, because the shard's monitor looks after them.
#[derive(Default)]
pub struct Streaming {
    wires: Mutex<Vec<Arc<Wire>>>,
    count: AtomicU64,
}

impl Streaming {
    /// Begins to look after a wire.
    pub fn add(&self, wire: Arc<Wire>) {
        let mut wires = self.lock();
        wires.push(wire);
        self.count.store(wires.len() as u64, Ordering::SeqCst);
    }

    /// Ends it.
    pub fn remove(&self, wire: &Arc<Wire>) {
        let mut wires = self.lock();
        if let Some(index) = wires.iter().position(|other| Arc::ptr_eq(other, wire)) {
            wires.swap_remove(index);
        }
        self.count.store(wires.len() as u64, Ordering::SeqCst);
    }

    /// Whether any wire is looked after.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Flushes all of them; `true` if any byte was sent. One that is blocked is left to the poller.
    pub fn flush(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut busy = false;
        for wire in self.lock().iter() {
            let mut output = wire.output();
            let before = output.sent();
            // A broken connection is found by its owner, at its next write.
            drop(output.flush(&wire.stream));
            busy |= output.sent() != before;
        }
        busy
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Wire>>> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
