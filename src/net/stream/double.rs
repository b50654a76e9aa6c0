//! A stream that plays a script: what the client sends, piece by piece, how much the socket takes at a time, and what
//! goes wrong. With a record layer the script is the same, and what goes over the socket is ciphertext: other pieces of other
//! lengths.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::net::outcome::{Presence, Protocol, ReadOutcome};
use crate::net::stream::record_layer::{Peer, RecordLayer, Wire};

/// What one call meets. The first three are no failures: the caller must come to the same result as without them.
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
    /// All that has reached the client, decrypted.
    pub written: Vec<u8>,
    /// Bytes that the socket has taken: those, or ciphertext.
    pub taken: usize,
    /// How many bytes each write takes at most; `None`: all. Every second write then would block.
    pub appetite: Option<usize>,
    /// The server has ended its side.
    pub finished: bool,
    /// The server asked for a reset.
    pub reset: bool,
    /// Calls of read and write so far.
    pub calls: usize,
    /// Bytes that were read off the socket.
    pub read: usize,
    /// What goes wrong, by the number of the call.
    pub faults: BTreeMap<usize, Fault>,
    /// Reading fails once this many bytes were read off the socket.
    pub reads_until: Option<(usize, Fault)>,
    /// Writing fails once the socket has taken this many bytes.
    pub writes_until: Option<(usize, Fault)>,
    /// The client takes nothing more once it has this many bytes.
    pub full_at: Option<usize>,
    turn: bool,
    readiness: bool,
    layer: Option<Box<RecordLayer>>,
    peer: Option<Peer>,
    /// What ALPN chose.
    pub protocol: Option<Protocol>,
}

impl Script {
    /// Puts a record layer between the server and the socket, whose records are cut as `seed` decides.
    pub fn add_record_layer(&mut self, seed: u64) {
        self.layer = Some(Box::new(RecordLayer::new(seed)));
        self.peer = Some(Peer::new(seed));
    }

    /// Whether the client has the answer to its greeting of a record layer.
    pub fn is_greeted(&self) -> bool {
        self.peer.as_ref().is_some_and(Peer::is_greeted)
    }

    /// Whether the client knows by a last record that it has everything.
    pub fn is_closed(&self) -> bool {
        self.peer.as_ref().is_some_and(Peer::is_closed)
    }

    // Has the record layer do something, if there is one.
    fn with_layer<T>(&mut self, act: impl FnOnce(&mut RecordLayer, &mut Self) -> T) -> Option<T> {
        let mut layer = self.layer.take()?;
        let done = act(&mut layer, self);
        self.layer = Some(layer);
        Some(done)
    }

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

// The socket, without a record layer.
impl Wire for Script {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let fault = self.fault();
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        let most = limited(self.read, self.reads_until)?.min(if fault.is_some() { 1 } else { usize::MAX });
        let may_arrive = self.peer.as_mut().is_none_or(|peer| peer.encrypt(&mut self.incoming, self.ended));
        let next = if may_arrive { self.incoming.pop_front() } else { None };
        let Some(mut piece) = next else {
            return if self.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        };
        let taken = piece.len().min(into.len()).min(most);
        into[..taken].copy_from_slice(&piece[..taken]);
        let is_pause = piece.is_empty();
        if taken < piece.len() {
            self.incoming.push_front(piece.split_off(taken));
        } else if let Some(peer) = &mut self.peer {
            peer.note_taken();
        }
        if is_pause {
            self.readiness = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // The kernel gives the next piece in the same call where there is room; where a call was cut short, an edge follows.
        self.readiness |= taken < into.len() && !self.incoming.is_empty();
        self.read += taken;
        Ok(taken)
    }

    fn transmit(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fault = self.fault();
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        let mut most = limited(self.taken, self.writes_until)?.min(bytes.len());
        if let Some(full) = self.full_at {
            most = most.min(full.saturating_sub(self.taken));
        }
        if fault.is_some() {
            most = most.min(1);
        }
        if let Some(appetite) = self.appetite {
            self.turn = !self.turn;
            most = if self.turn { most.min(appetite) } else { 0 };
            self.readiness |= !self.turn;
        }
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.taken += most;
        match &mut self.peer {
            // What was put off until the greeting comes now.
            Some(peer) => self.readiness |= peer.decrypt(&bytes[..most], &mut self.written),
            None => self.written.extend_from_slice(&bytes[..most]),
        }
        Ok(most)
    }

    fn end(&mut self) {
        self.finished = true;
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

    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        let mut script = self.script();
        if let Some(outcome) = script.with_layer(|layer, socket| layer.read(socket, into)) {
            return outcome;
        }
        let count = script.receive(into)?;
        Ok(ReadOutcome { count, is_drained: count < into.len() })
    }

    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| &**slice).collect::<Vec<_>>().concat();
        let mut script = self.script();
        match script.with_layer(|layer, socket| layer.write(socket, &bytes)) {
            Some(accepted) => accepted,
            None => script.transmit(&bytes),
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.script().with_layer(RecordLayer::flush).unwrap_or(Ok(()))
    }

    pub(super) fn pending(&self) -> u64 {
        self.script().layer.as_deref().map_or(0, RecordLayer::pending)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.script().layer.is_some()
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.script().protocol.unwrap_or(Protocol::Http1)
    }

    pub(super) fn presence(&self) -> Presence {
        let script = self.script();
        match (script.reads_until, &script.layer) {
            (Some((limit, Fault::Reset)), _) if script.read >= limit => Presence::Gone,
            (_, Some(layer)) if layer.has_ended() || script.ended && !layer.is_readable() => Presence::Ended,
            (_, None) if script.ended && script.incoming.is_empty() => Presence::Ended,
            _ => Presence::Here,
        }
    }

    // Time does not pass here: what can still come comes, otherwise the timeout has passed.
    pub(super) fn wait_readable(&self) -> bool {
        let mut script = self.script();
        if script.layer.as_deref().is_some_and(RecordLayer::is_readable) {
            return true;
        }
        match limited(script.read, script.reads_until) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => script.take_readiness() || script.ended || !script.incoming.is_empty() || script.arrive(),
        }
    }

    pub(super) fn wait_writable(&self) -> bool {
        let mut script = self.script();
        script.take_readiness() || script.full_at.is_none_or(|full| script.taken < full)
    }

    pub(super) fn reset_on_close(&self) {
        self.script().reset = true;
    }

    pub(super) fn finish_writing(&self) {
        let mut script = self.script();
        if script.with_layer(RecordLayer::finish_writing).is_none() {
            script.end();
        }
    }

    pub(super) fn abandon(&self) {
        self.script().end();
    }
}
