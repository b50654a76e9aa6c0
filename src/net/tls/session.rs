//! A TLS session over a socket, by rustls: the record layer of [`Stream`](crate::net::stream::Stream)'s contract.
//!
//! What rustls has encrypted goes to the socket without a copy while that takes it. What it does not take is held here, so that
//! its length is known.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, recv, sendmsg};
use rustls::{ServerConfig, ServerConnection};
use socket2::Socket;

use crate::net::outcome::{Presence, Protocol, ReadOutcome};
use crate::net::socket::{SEND, has_ended, peek, retry};
use crate::net::tls::facts::TlsFacts;

/// The most that one write accepts.
const ACCEPTED_BYTES: usize = 64 * 1024;
/// What a client that speaks HTTP without TLS is told, which it can read.
pub const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 52\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: use https:// in the address\n";

/// The server's end of a TLS connection.
#[derive(Debug)]
pub struct TlsStream {
    socket: Socket,
    session: Mutex<TlsSession>,
    facts: OnceLock<Option<Arc<TlsFacts>>>,
    // A child that the application forks has a copy, and nothing to say to the client.
    process: u32,
}

#[derive(Debug)]
struct TlsSession {
    connection: ServerConnection,
    // What is encrypted and was not taken by the socket.
    held: Vec<u8>,
    // Bytes that are decrypted and were not read.
    decrypted: usize,
    // A proxy's header comes first, which is not encrypted.
    is_plain: bool,
    // The first byte that has come: of a client that speaks HTTP without TLS it is a letter.
    first: Option<u8>,
    // The last read of the socket took all that it had.
    is_drained: bool,
    // The client's last record has come, or the end of its socket.
    is_over: bool,
    ending: Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Open,
    // When all that is held has left.
    Due,
    Done,
}

impl TlsStream {
    /// A session in front of its handshake.
    pub fn new(socket: Socket, config: Arc<ServerConfig>, is_plain: bool) -> io::Result<Self> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        // `write` has its own limit, and what is encrypted leaves or is held here.
        connection.set_buffer_limit(None);
        let session = TlsSession {
            connection,
            held: Vec::new(),
            decrypted: 0,
            is_plain,
            first: None,
            is_drained: false,
            is_over: false,
            ending: Closing::Open,
        };
        Ok(Self { socket, session: Mutex::new(session), facts: OnceLock::new(), process: std::process::id() })
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    fn session(&self) -> MutexGuard<'_, TlsSession> {
        // A panic has cost that request already; rustls is valid between any two calls.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was agreed on with the client. To be asked for once its handshake is done, as it is when its first byte was read.
    pub fn facts(&self) -> Option<&Arc<TlsFacts>> {
        self.facts.get_or_init(|| TlsFacts::of(&self.session().connection).map(Arc::new)).as_ref()
    }

    /// The plain bytes in front of the session are over. `rest` has come behind them and is the session's.
    pub fn begin(&self, rest: &[u8]) -> io::Result<()> {
        let mut session = self.session();
        session.is_plain = false;
        session.first = rest.first().copied();
        let mut rest = rest;
        while !rest.is_empty() {
            session.connection.read_tls(&mut rest)?;
            session.process(&self.socket, false)?;
        }
        Ok(())
    }

    /// As `Stream::read`.
    pub fn read(&self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        self.session().read(&self.socket, into)
    }

    /// As `Stream::write`.
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session().write(&self.socket, slices)
    }

    /// As `Stream::flush`.
    pub fn flush(&self) -> io::Result<()> {
        self.session().flush(&self.socket)
    }

    /// As `Stream::pending`.
    pub fn pending(&self) -> u64 {
        self.session().held.len() as u64
    }

    /// As `Stream::protocol`.
    pub fn protocol(&self) -> Protocol {
        if self.session().connection.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 }
    }

    /// As `Stream::presence`.
    pub fn presence(&self) -> Presence {
        let session = self.session();
        match peek(&self.socket) {
            _ if session.decrypted > 0 => Presence::Here,
            // Bytes may be no more than the last record.
            Presence::Here if session.is_over || has_ended(&self.socket) => Presence::Ended,
            presence => presence,
        }
    }

    /// As `Stream::finish_writing`.
    pub fn finish_writing(&self) {
        let mut session = self.session();
        if session.ending == Closing::Done {
            return;
        }
        if session.ending == Closing::Open {
            session.ending = Closing::Due;
            session.connection.send_close_notify();
        }
        if session.flush(&self.socket).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            session.held.clear();
            session.end(&self.socket);
        }
    }

    /// As `Stream::reset_on_close`.
    pub fn reset_on_close(&self) {
        self.session().ending = Closing::Done;
        // Should it fail, the connection is broken already, which is what was wanted.
        drop(self.socket.set_linger(Some(Duration::ZERO)));
    }

    /// Whether a read brings something, or the end, without the socket.
    pub fn is_readable(&self) -> bool {
        let session = self.session();
        session.decrypted > 0 || session.is_over
    }
}

impl Drop for TlsStream {
    // The client learns that this is the end, and no cut.
    fn drop(&mut self) {
        if self.process == std::process::id() {
            self.finish_writing();
        }
    }
}

impl TlsSession {
    fn read(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<ReadOutcome> {
        if self.is_plain {
            let count = RecordReader { socket, first: None, is_drained: false }.read(into)?;
            return Ok(ReadOutcome { count, is_drained: count < into.len() });
        }
        loop {
            if self.decrypted > 0 || self.is_over {
                // An end without the client's last record is an error: the bytes before it may not be all.
                let count = self.connection.reader().read(into)?;
                self.decrypted = self.decrypted.saturating_sub(count);
                let holds = self.decrypted > 0 || self.is_over;
                return Ok(ReadOutcome { count, is_drained: self.is_drained && !holds });
            }
            self.receive(socket)?;
        }
    }

    // Takes what has come off the socket, decrypts it, and sends what rustls answers of its own.
    fn receive(&mut self, socket: &Socket) -> io::Result<()> {
        let mut from = RecordReader { socket, first: self.first, is_drained: false };
        let count = self.connection.read_tls(&mut from)?;
        (self.first, self.is_drained) = (from.first, from.is_drained);
        self.process(socket, count == 0)
    }

    fn process(&mut self, socket: &Socket, has_ended: bool) -> io::Result<()> {
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.decrypted = state.plaintext_bytes_to_read();
                self.is_over = has_ended || state.peer_has_closed();
                // What the socket does not take, or why it fails, is found by those who write.
                drop(self.flush(socket));
                Ok(())
            }
            Err(error) => {
                let is_plain =
                    self.connection.is_handshaking() && self.first.is_some_and(|byte| byte.is_ascii_alphabetic());
                if is_plain {
                    // Without its last record the session has nothing else to say.
                    drop(RecordWriter(socket).write(PLAIN_HTTP));
                    self.ending = Closing::Due;
                    self.end(socket);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on a port that speaks HTTPS"));
                }
                // An alert that says what is wrong.
                drop(self.flush(socket));
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    fn write(&mut self, socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(socket)?;
        if self.connection.is_handshaking() || self.ending != Closing::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut count = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(ACCEPTED_BYTES - count)];
            count += self.connection.writer().write(part)?;
        }
        match self.flush(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.held.is_empty() {
            let count = RecordWriter(socket).write(&self.held).inspect_err(|error| self.give_up(error))?;
            self.held.drain(..count);
            if self.held.is_empty() {
                // An idle connection keeps no buffer.
                self.held = Vec::new();
            }
        }
        while self.connection.wants_write() {
            if let Err(error) = self.connection.write_tls(&mut RecordWriter(socket)) {
                while self.connection.wants_write() {
                    self.connection.write_tls(&mut self.held)?;
                }
                self.give_up(&error);
                return Err(error);
            }
        }
        if self.ending == Closing::Due {
            self.end(socket);
        }
        Ok(())
    }

    // No change of the socket follows an error: what is held can never leave.
    fn give_up(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::WouldBlock {
            self.held = Vec::new();
        }
    }

    fn end(&mut self, socket: &Socket) {
        if self.ending == Closing::Due {
            self.ending = Closing::Done;
            // An error means that the client has gone, which the next read tells.
            drop(socket.shutdown(Shutdown::Write));
        }
    }
}

// The socket as rustls reads it.
struct RecordReader<'a> {
    socket: &'a Socket,
    first: Option<u8>,
    is_drained: bool,
}

impl Read for RecordReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = retry(|| Ok(recv(self.socket, &mut *into, RecvFlags::empty())?.0))?;
        self.first = self.first.or(into.first().copied().filter(|_| count > 0));
        self.is_drained = count < into.len();
        Ok(count)
    }
}

// The socket as rustls writes to it.
struct RecordWriter<'a>(&'a Socket);

impl Write for RecordWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| Ok(sendmsg(self.0, slices, &mut SendAncillaryBuffer::default(), SEND)?))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
