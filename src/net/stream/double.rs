//! A stream that plays a script: what the client sends, piece by piece, how much the socket takes at a time, and what
//! goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Presence;

/// What one call meets. The first three are no failures: whoever calls must come to the same result as without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A signal came first (EINTR).
    Interrupted,
    /// Nothing now (EAGAIN); readiness follows.
    WouldBlock,
    /// One byte, whatever there is.
    Short,
    /// The client has reset the connection.
    Reset,
    /// The connection was ended on this side (EPIPE).
    Broken,
    /// A defect of our own: the call panics.
    Panic,
}

impl Fault {
    #[expect(clippy::panic, reason = "a defect on purpose, for tests")]
    fn error(self) -> Option<io::Error> {
        match self {
            Self::Interrupted => Some(io::ErrorKind::Interrupted.into()),
            Self::WouldBlock => Some(io::ErrorKind::WouldBlock.into()),
            Self::Short => None,
            Self::Reset => Some(io::ErrorKind::ConnectionReset.into()),
            Self::Broken => Some(io::ErrorKind::BrokenPipe.into()),
            Self::Panic => panic!("a panic on purpose"),
        }
    }
}

/// What both ends see.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a script is a list of independent events")]
pub struct Script {
    /// Pieces still to be read, of which an empty one is a pause: one read finds nothing yet. So does every read of an
    /// empty list, unless `ended`.
    pub incoming: VecDeque<Vec<u8>>,
    /// Pieces that arrive one by one, each when everybody waits.
    pub later: VecDeque<Vec<u8>>,
    /// The client has closed its side.
    pub ended: bool,
    /// All that was written.
    pub written: Vec<u8>,
    /// How many bytes each write takes at most; `None`: all. Every second write then would block.
    pub appetite: Option<usize>,
    /// The server has ended its side.
    pub finished: bool,
    /// The server asked for a reset.
    pub reset: bool,
    /// Calls of read and write so far.
    pub calls: usize,
    /// Bytes that were read.
    pub read: usize,
    /// What goes wrong, by the number of the call.
    pub faults: BTreeMap<usize, Fault>,
    /// Reading fails once this many bytes were read.
    pub reads_until: Option<(usize, Fault)>,
    /// Writing fails once this many bytes were written.
    pub writes_until: Option<(usize, Fault)>,
    /// The client takes nothing more once it has this many bytes.
    pub full_at: Option<usize>,
    turn: bool,
    readiness: bool,
}

impl Script {
    // What the next call meets.
    fn fault(&mut self) -> Option<Fault> {
        let fault = self.faults.get(&self.calls).copied();
        self.calls += 1;
        // An event of the kernel announces what was put off.
        self.readiness |= fault == Some(Fault::WouldBlock);
        fault
    }

    /// The next piece arrives. `false`: there is none.
    pub fn arrive(&mut self) -> bool {
        let piece = self.later.pop_front();
        let arrived = piece.is_some();
        self.incoming.extend(piece);
        arrived
    }

    /// Whether the kernel has announced that a call which would have blocked may be tried again; forgets it.
    pub fn take_readiness(&mut self) -> bool {
        std::mem::take(&mut self.readiness)
    }
}

fn limited(at: usize, until: Option<(usize, Fault)>) -> io::Result<usize> {
    match until {
        Some((limit, fault)) if at >= limit => Err(fault.error().unwrap_or_else(|| io::ErrorKind::WouldBlock.into())),
        Some((limit, _)) => Ok(limit - at),
        None => Ok(usize::MAX),
    }
}

/// The server's end of the script.
#[derive(Clone, Debug, Default)]
pub struct Double(pub Arc<Mutex<Script>>);

impl Double {
    /// The script, to be read and changed.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut script = self.script();
        let fault = script.fault();
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        let most = limited(script.read, script.reads_until)?.min(if fault.is_some() { 1 } else { usize::MAX });
        let Some(mut piece) = script.incoming.pop_front() else {
            return if script.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        };
        if piece.is_empty() {
            script.readiness = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = piece.len().min(into.len()).min(most);
        into[..taken].copy_from_slice(&piece[..taken]);
        if taken < piece.len() {
            script.incoming.push_front(piece.split_off(taken));
        }
        // The kernel gives the next piece in the same call where there is room; where a call was cut short, an edge follows.
        script.readiness |= taken < into.len() && !script.incoming.is_empty();
        script.read += taken;
        Ok(taken)
    }

    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut script = self.script();
        let fault = script.fault();
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        let mut most = limited(script.written.len(), script.writes_until)?;
        if let Some(full) = script.full_at {
            most = most.min(full.saturating_sub(script.written.len()));
        }
        if fault.is_some() {
            most = most.min(1);
        }
        if let Some(appetite) = script.appetite {
            script.turn = !script.turn;
            most = if script.turn { most.min(appetite) } else { 0 };
            script.readiness |= !script.turn;
        }
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
        script.written.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    pub(super) fn presence(&self) -> Presence {
        let script = self.script();
        match script.reads_until {
            Some((limit, Fault::Reset)) if script.read >= limit => Presence::Gone,
            _ if script.ended && script.incoming.is_empty() => Presence::Ended,
            _ => Presence::Here,
        }
    }

    // Time does not pass here: what can still come comes, otherwise the timeout has passed.
    pub(super) fn wait_readable(&self) -> bool {
        let mut script = self.script();
        match limited(script.read, script.reads_until) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => script.take_readiness() || script.ended || !script.incoming.is_empty() || script.arrive(),
        }
    }

    pub(super) fn wait_writable(&self) -> bool {
        let mut script = self.script();
        script.take_readiness() || script.full_at.is_none_or(|full| script.written.len() < full)
    }

    pub(super) fn reset_on_close(&self) {
        self.script().reset = true;
    }

    pub(super) fn finish_writing(&self) {
        self.script().finished = true;
    }
}
