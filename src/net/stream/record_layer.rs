//! A record layer for the scripted double: what TLS does to the bytes of a connection, without its cryptography. Records are cut
//! as a seed decides, and neither the pieces that arrive, nor the reads, nor the writes respect them.
//!
//! A record is its kind, the length of its content, the content, disguised so that none of it passes for plain bytes, and a sum.

#![expect(clippy::expect_used, reason = "only tests use this, and so it fails them")]

use std::collections::VecDeque;
use std::io;

use crate::net::outcome::ReadOutcome;

/// The socket below.
pub trait Wire {
    /// Reads as a socket does.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Writes as a socket does.
    fn transmit(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Ends the sending side.
    fn end(&mut self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hello,
    Data,
    KeyUpdate,
    Close,
}

const KINDS: [Kind; 4] = [Kind::Hello, Kind::Data, Kind::KeyUpdate, Kind::Close];
const HEAD_BYTES: usize = 3;
const DISGUISE: u8 = 0xa5;
/// The most content of one record.
const RECORD_BYTES: usize = 16 * 1024;
/// The most that one write accepts.
const ACCEPTED_BYTES: usize = 64 * 1024;

/// Numbers that look random and follow from their seed (a linear congruential generator).
#[derive(Clone, Copy, Debug)]
struct Drawn(u64);

impl Drawn {
    // Between 1 and `most`, small ones as often as large ones.
    fn length(&mut self, most: usize) -> usize {
        match self.below(3) {
            0 => most,
            1 => 1 + self.below(most.min(20)),
            _ => 1 + self.below(most),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound.max(1) as u64).unwrap_or(0)
    }
}

fn put_record(out: &mut Vec<u8>, kind: Kind, content: &[u8]) {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    out.extend_from_slice(&[kind as u8, length[0], length[1]]);
    out.extend(content.iter().map(|byte| byte ^ DISGUISE));
    out.push(content.iter().fold(kind as u8, |sum, byte| sum.wrapping_add(*byte)));
}

// Content in records of any size.
fn put_content(out: &mut Vec<u8>, mut content: &[u8], drawn: &mut Drawn) {
    while !content.is_empty() {
        let (record, rest) = content.split_at(drawn.length(content.len().min(RECORD_BYTES)));
        put_record(out, Kind::Data, record);
        content = rest;
    }
}

// Takes a record off the front of what has come, if it is whole.
fn take_record(from: &mut Vec<u8>) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let [kind, high, low, rest @ ..] = from.as_slice() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (Some(content), Some(sum)) = (rest.get(..length), rest.get(length)) else { return Ok(None) };
    let content: Vec<u8> = content.iter().map(|byte| byte ^ DISGUISE).collect();
    let is_whole = content.iter().fold(*kind, |sum, byte| sum.wrapping_add(*byte)) == *sum;
    let kind = KINDS.get(usize::from(*kind)).filter(|_| is_whole).ok_or(io::ErrorKind::InvalidData)?;
    from.drain(..=HEAD_BYTES + length);
    Ok(Some((*kind, content)))
}

/// The server's end.
#[derive(Debug)]
pub struct RecordLayer {
    drawn: Drawn,
    // What has come and is not decrypted.
    received: Vec<u8>,
    // What is decrypted and was not read.
    decrypted: VecDeque<u8>,
    // What is encrypted and not with the socket.
    held: Vec<u8>,
    // The last read of the socket took all that it had.
    is_socket_drained: bool,
    // The client has ended its side.
    is_over: bool,
    // Whether this side has ended.
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    // When all that is held has left.
    Due,
    Done,
}

impl RecordLayer {
    /// A layer in front of its handshake.
    pub fn new(seed: u64) -> Self {
        Self {
            drawn: Drawn(seed),
            received: Vec::new(),
            decrypted: VecDeque::new(),
            held: Vec::new(),
            is_socket_drained: false,
            is_over: false,
            ending: Ending::Open,
        }
    }

    /// As [`super::Stream::read`].
    pub fn read(&mut self, wire: &mut impl Wire, into: &mut [u8]) -> io::Result<ReadOutcome> {
        // What the socket does not take, or why it fails, is found by those who write.
        drop(self.flush(wire));
        loop {
            if !self.decrypted.is_empty() {
                while self.drawn.below(2) == 0 && self.open_record(wire)? {}
                let count = self.drawn.length(into.len().min(self.decrypted.len()));
                into[..count].iter_mut().zip(self.decrypted.drain(..count)).for_each(|(to, byte)| *to = byte);
                let holds = !self.decrypted.is_empty() || self.is_over || self.holds_record();
                return Ok(ReadOutcome { count, is_drained: self.is_socket_drained && !holds });
            }
            if self.open_record(wire)? {
                continue;
            }
            if self.is_over {
                return Ok(ReadOutcome { count: 0, is_drained: false });
            }
            let mut block = [0; 1024];
            let block = &mut block[..self.drawn.length(1024)];
            let count = wire.receive(block)?;
            self.is_socket_drained = count < block.len();
            self.is_over = count == 0;
            self.received.extend_from_slice(&block[..count]);
        }
    }

    fn holds_record(&self) -> bool {
        take_record(&mut self.received.clone()).is_ok_and(|record| record.is_some())
    }

    // `false`: no whole record has come.
    fn open_record(&mut self, wire: &mut impl Wire) -> io::Result<bool> {
        let Some((kind, content)) = take_record(&mut self.received)? else { return Ok(false) };
        match kind {
            // Content may be empty, and a read must not take that for the end.
            Kind::Data => self.decrypted.extend(content),
            Kind::Close => self.is_over = true,
            Kind::Hello | Kind::KeyUpdate => {
                if self.ending == Ending::Open {
                    put_record(&mut self.held, kind, b"");
                }
                drop(self.flush(wire));
            }
        }
        Ok(true)
    }

    /// As [`super::Stream::write`].
    pub fn write(&mut self, wire: &mut impl Wire, content: &[u8]) -> io::Result<usize> {
        self.flush(wire)?;
        let count = self.drawn.length(content.len().min(ACCEPTED_BYTES));
        put_content(&mut self.held, &content[..count], &mut self.drawn);
        match self.flush(wire) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// As [`super::Stream::flush`].
    pub fn flush(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        while !self.held.is_empty() {
            let share = self.drawn.length(self.held.len());
            match wire.transmit(&self.held[..share]) {
                Ok(count) => drop(self.held.drain(..count)),
                // No change of the socket would follow.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ending == Ending::Due {
            self.ending = Ending::Done;
            wire.end();
        }
        Ok(())
    }

    /// As [`super::Stream::finish_writing`].
    pub fn finish_writing(&mut self, wire: &mut impl Wire) {
        if self.ending == Ending::Open {
            self.ending = Ending::Due;
            put_record(&mut self.held, Kind::Close, b"");
        }
        if self.flush(wire).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.held.clear();
            drop(self.flush(wire));
        }
    }

    /// As [`super::Stream::pending`].
    pub fn pending(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether a read brings something, or the end, without the socket.
    pub fn is_readable(&self) -> bool {
        !self.decrypted.is_empty() || self.is_over
    }

    /// Whether the client has ended its side, and every byte of it was read.
    pub fn has_ended(&self) -> bool {
        self.decrypted.is_empty() && self.is_over
    }
}

/// The client's end.
#[derive(Debug)]
pub struct Peer {
    drawn: Drawn,
    // Pieces on their way that are encrypted, of all that are.
    encrypted: usize,
    handshake: Handshake,
    has_closed: bool,
    // What has come from the server and is not decrypted.
    received: Vec<u8>,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    Due,
    Begun,
    Done,
}

impl Peer {
    /// A client that has just connected.
    pub fn new(seed: u64) -> Self {
        Self {
            drawn: Drawn(!seed),
            encrypted: 0,
            handshake: Handshake::Due,
            has_closed: false,
            received: Vec::new(),
            is_closed: false,
        }
    }

    /// Encrypts what is on its way, and what is to be said in front of it and behind it. The pieces of ciphertext are others than
    /// those of content were. `false`: nothing can arrive before the server has answered the greeting.
    pub fn encrypt(&mut self, pieces: &mut VecDeque<Vec<u8>>, is_last: bool) -> bool {
        if self.handshake != Handshake::Done {
            if self.handshake == Handshake::Due {
                self.handshake = Handshake::Begun;
                let mut greeting = Vec::new();
                put_record(&mut greeting, Kind::Hello, b"");
                let arriving = self.cut(greeting);
                self.encrypted = arriving.len();
                arriving.into_iter().rev().for_each(|piece| pieces.push_front(piece));
            }
            return self.encrypted > 0;
        }
        let mut carried = Vec::new();
        let mut arriving = Vec::new();
        for piece in pieces.drain(self.encrypted..) {
            match self.drawn.below(8) {
                0 => put_record(&mut carried, Kind::KeyUpdate, b""),
                1 => put_record(&mut carried, Kind::Data, b""),
                _ => {}
            }
            put_content(&mut carried, &piece, &mut self.drawn);
            if piece.is_empty() {
                // A pause.
                arriving.push(piece);
            } else if self.drawn.below(4) > 0 {
                arriving.extend(self.cut(std::mem::take(&mut carried)));
            } else {
                // What is left comes with the next piece.
                let length = self.drawn.length(carried.len());
                arriving.push(carried.drain(..length).collect());
            }
        }
        if is_last && !self.has_closed {
            self.has_closed = true;
            put_record(&mut carried, Kind::Close, b"");
        }
        arriving.extend(self.cut(carried));
        pieces.extend(arriving);
        self.encrypted = pieces.len();
        true
    }

    fn cut(&mut self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let rest = bytes.split_off(self.drawn.length(bytes.len()));
            pieces.push(std::mem::replace(&mut bytes, rest));
        }
        pieces
    }

    /// The server has taken the first piece whole.
    pub fn note_taken(&mut self) {
        self.encrypted = self.encrypted.saturating_sub(1);
    }

    /// Decrypts what the server has sent. Returns whether it was the greeting, after which everything else can arrive.
    ///
    /// # Panics
    /// If it is no sequence of records, or goes on behind the last one.
    pub fn decrypt(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> bool {
        self.received.extend_from_slice(bytes);
        let mut is_greeting = false;
        while let Some((kind, mut found)) = take_record(&mut self.received).expect("whole records") {
            assert!(!self.is_closed, "{kind:?} behind the last record");
            match kind {
                Kind::Hello => (is_greeting, self.handshake) = (true, Handshake::Done),
                Kind::Data => content.append(&mut found),
                Kind::KeyUpdate => {}
                Kind::Close => self.is_closed = true,
            }
        }
        is_greeting
    }

    /// Whether the server has answered the greeting.
    pub fn is_greeted(&self) -> bool {
        self.handshake == Handshake::Done
    }

    /// Whether the server has said that nothing follows.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}
