//! The part of a connection that two threads may touch: its socket, and what is to be sent on it. A worker that
//! streams a response fills it while the poller's thread empties it; all else of a connection has one owner.

pub mod body;
mod body_stream;
pub mod output;
pub mod pace;
pub mod spool;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::context::ShardContext;
use crate::engine::gateway::Severity;
use crate::engine::scheduling::pool::Trouble;
use crate::engine::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard};
use crate::engine::transport::output::{Flushed, Output};
use crate::engine::transport::spool::SpoolFailure;
use crate::http::origin::Scheme;
use crate::net::outcome::Protocol;
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

const READY: u8 = 1;
const ENDED: u8 = 2;
const STALLED: u8 = 4;

/// A socket and its output.
pub struct Transport {
    stream: Stream,
    output: Mutex<Output>,
    ready_while_away: AtomicU8,
    // Since when the client is behind with what the application reads, as long as that waits.
    awaited: Mutex<Option<Instant>>,
}

impl Transport {
    /// Where an application that had to wait goes on.
    pub const LOW_WATER: u64 = 256 * 1024;

    /// Wraps a freshly accepted stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream, output: Mutex::default(), ready_while_away: AtomicU8::new(0), awaited: Mutex::default() }
    }

    /// The socket alone.
    pub(in crate::engine) fn into_stream(self) -> Stream {
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

    /// Notes that the socket changed while somebody else owned the connection, and whether the client closed its side.
    pub fn note_ready_while_away(&self, ended: bool) {
        self.ready_while_away.fetch_or(if ended { READY | ENDED } else { READY }, Ordering::SeqCst);
    }

    /// Whether the socket changed since this was last asked, and whether the client closed its side; forgets it.
    pub fn take_ready_while_away(&self) -> (bool, bool) {
        // The load keeps the common case from writing to a line that the poller's thread may hold.
        if !self.was_ready_while_away() {
            return (false, false);
        }
        let ready_while_away = self.ready_while_away.swap(0, Ordering::SeqCst);
        (ready_while_away & READY != 0, ready_while_away & ENDED != 0)
    }

    /// Whether the socket changed since it was last asked.
    pub fn was_ready_while_away(&self) -> bool {
        self.ready_while_away.load(Ordering::SeqCst) != 0
    }

    /// Whether the client closed its side while somebody else owned the connection.
    pub fn has_ended(&self) -> bool {
        self.ready_while_away.load(Ordering::SeqCst) & ENDED != 0
    }

    /// Notes that the application has waited for the client for as long as it may.
    pub fn note_stall(&self) {
        self.ready_while_away.fetch_or(STALLED, Ordering::SeqCst);
    }

    /// Whether the application has waited for the client for as long as it may.
    pub fn has_stalled(&self) -> bool {
        self.ready_while_away.load(Ordering::SeqCst) & STALLED != 0
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
        output.held() + self.stream.pending() > HIGH_WATER && !output.is_spilling()
    }

    /// Blocks until the client has caught up with most of what is queued; it has `stall` for each sign of life. While other
    /// requests need the thread, what is queued from here on goes to a temporary file instead, and if there are too many of
    /// those, the client must be quick: a few that read slowly must not hold all threads. A client does not answer for a
    /// system that refuses the file.
    pub fn wait_drained(&self, stall: Duration, context: &ShardContext) -> io::Result<()> {
        self.wait_for_client(stall, context).inspect_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                self.note_stall();
            }
        })
    }

    fn wait_for_client(&self, stall: Duration, context: &ShardContext) -> io::Result<()> {
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
            if flushed == Flushed::All || pending + self.stream.pending() <= Self::LOW_WATER {
                return Ok(());
            }
            if total != sent {
                sent = total;
                moved = Instant::now();
            }
            if total - mark.0 >= HIGH_WATER - Self::LOW_WATER {
                mark = (total, Instant::now());
            }
            if context.pool.is_pressed() {
                let spilled = self.output().spill(&context.spool);
                match spilled {
                    Ok(()) => return Ok(()),
                    Err(SpoolFailure::Full | SpoolFailure::Revoked) if mark.1.elapsed() >= PRESSED => {
                        context.report_rarely(Trouble::Cut, Severity::Warning, CUT);
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

/// The transports whose responses are being streamed. What they hold leaves within a moment even if their application
/// falls silent, because the shard's monitor looks after them.
#[derive(Default)]
pub struct Streaming {
    transports: Mutex<Vec<Arc<Transport>>>,
    count: AtomicU64,
}

impl Streaming {
    /// Begins to look after a transport.
    pub fn add(&self, transport: Arc<Transport>) {
        let mut transports = self.lock();
        transports.push(transport);
        self.count.store(transports.len() as u64, Ordering::SeqCst);
    }

    /// Ends it.
    pub fn remove(&self, transport: &Arc<Transport>) {
        let mut transports = self.lock();
        if let Some(index) = transports.iter().position(|other| Arc::ptr_eq(other, transport)) {
            transports.swap_remove(index);
        }
        self.count.store(transports.len() as u64, Ordering::SeqCst);
    }

    /// Whether any transport is looked after.
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
