//! A connected byte stream: a socket, or a scripted double that tests the layers above without a kernel. A record layer (TLS)
//! is a further variant, and the double can play one.
//!
//! What a stream promises:
//! 1. `read` says whether another read can bring more before the socket changes. A short read says so for a plain socket only:
//!    a record layer may hold bytes that it has decrypted while its socket stays silent. `WouldBlock` always means that the
//!    socket has nothing and nothing is held.
//! 2. What `write` accepts may still be held by a record layer, which `pending` counts and `flush` sends. It returns
//!    `WouldBlock` only when the socket takes no more, so that a change of the socket follows. A plain socket holds nothing.
//! 3. `read` may give a record layer something to send of its own. It sends what the socket takes then, and holds the rest.
//! 4. Nothing but `read` takes bytes off the socket: their arrival is announced once.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendAncillaryBuffer, recv, send, sendmsg};
use socket2::Socket;

#[cfg(any(test, feature = "doubles"))]
use self::double::Double;
use crate::net::outcome::{Presence, Protocol, ReadOutcome, SendFileError};
use crate::net::socket::{SEND, peek, retry, wait};
use crate::net::tls::facts::TlsFacts;
use crate::net::tls::session::TlsStream;

/// One connected, non-blocking stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP or Unix socket, plain bytes.
    Socket(Socket),
    /// The same with TLS.
    Tls(Box<TlsStream>),
    /// A scripted double.
    #[cfg(any(test, feature = "doubles"))]
    Double(Double),
}

/// Bytes of a file that are read at a time where the kernel cannot send it.
const COPY_BYTES: usize = 64 * 1024;

impl Stream {
    /// Reads what is there. A count of 0 is the end of the stream; `WouldBlock` means nothing yet.
    pub fn read(&self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        match self {
            Self::Socket(socket) => {
                // Not the C library's calls, which threads can be cancelled in: that costs four atomic operations a request.
                let count = retry(|| Ok(recv(socket, &mut *into, RecvFlags::empty())?.0))?;
                Ok(ReadOutcome { count, is_drained: count < into.len() })
            }
            Self::Tls(tls) => tls.read(into),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => retry(|| double.read(into)),
        }
    }

    /// Writes as much of the slices as is accepted, in one call. Returns how many bytes that was, of which a record layer may
    /// hold some.
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => match slices {
                [only] => retry(|| Ok(send(socket, only, SEND)?)),
                _ => retry(|| Ok(sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SEND)?)),
            },
            Self::Tls(tls) => tls.write(slices),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => retry(|| double.write(slices)),
        }
    }

    /// Sends what is held; `WouldBlock`: the socket does not take all of it for now.
    pub fn flush(&self) -> io::Result<()> {
        match self {
            Self::Socket(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => retry(|| double.flush()),
        }
    }

    /// Bytes that were accepted, or are a record layer's own, and are not with the kernel.
    pub fn pending(&self) -> u64 {
        match self {
            Self::Socket(_) => 0,
            Self::Tls(tls) => tls.pending(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.pending(),
        }
    }

    /// Whether a record layer encrypts what is sent.
    pub fn is_encrypted(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Tls(_) => true,
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.is_encrypted(),
        }
    }

    /// What is spoken. A record layer knows it once the first byte was read.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Socket(_) => Protocol::Http1,
            Self::Tls(tls) => tls.protocol(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.protocol(),
        }
    }

    /// What was agreed on with the client, if a record layer encrypts what is sent.
    pub fn tls_facts(&self) -> Option<&Arc<TlsFacts>> {
        if let Self::Tls(tls) = self { tls.facts() } else { None }
    }

    /// What a proxy sends ahead of a session is over, behind which `rest` has come. Returns what is to be read next: that, or
    /// nothing, if the record layer has taken it.
    pub fn begin_tls(&self, rest: Vec<u8>) -> io::Result<Vec<u8>> {
        if let Self::Tls(tls) = self { tls.begin(&rest).map(|()| Vec::new()) } else { Ok(rest) }
    }

    /// Sends up to `count` bytes of a file from `offset`, inside the kernel where it can. `Ok(0)`: the file is shorter.
    pub fn send_file(&self, file: &File, offset: u64, count: usize) -> Result<usize, SendFileError> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Socket(socket) => {
                let mut position = offset;
                match retry(|| Ok(rustix::fs::sendfile(socket, file, Some(&mut position), count)?)) {
                    Ok(sent) => Ok(sent),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SendFileError::Stream(error)),
                    // The file system has no way of its own into a socket, or a side has failed, and this tells which.
                    Err(_) => self.copy_file(file, offset, count),
                }
            }
            // A record layer cannot send inside the kernel: what it encrypts has to be read.
            _ => self.copy_file(file, offset, count),
        }
    }

    fn copy_file(&self, file: &File, offset: u64, count: usize) -> Result<usize, SendFileError> {
        // While something is held no more is accepted: the file would be read for nothing.
        self.flush().map_err(SendFileError::Stream)?;
        let mut block = vec![0; count.min(COPY_BYTES)];
        let read = retry(|| file.read_at(&mut block, offset)).map_err(SendFileError::File)?;
        if read == 0 { Ok(0) } else { self.write(&[IoSlice::new(&block[..read])]).map_err(SendFileError::Stream) }
    }

    /// Looks whether the client is still there. Of a record layer's socket a byte tells nothing: what is encrypted may be the
    /// client's goodbye. A closed sending side is one, unless bytes were decrypted and not read yet.
    pub fn presence(&self) -> Presence {
        match self {
            Self::Socket(socket) => peek(socket),
            Self::Tls(tls) => tls.presence(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.presence(),
        }
    }

    /// Ends the sending side; the client reads to the end of what was sent. A record layer says so in a last record, and what of
    /// that the socket does not take is `pending`; the sending side ends with it.
    pub fn finish_writing(&self) {
        match self {
            // An error means that the client has gone, which the next read tells.
            Self::Socket(socket) => drop(socket.shutdown(Shutdown::Write)),
            Self::Tls(tls) => tls.finish_writing(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.finish_writing(),
        }
    }

    /// Makes the coming close a reset, so that a client cannot take what it got for a whole response. A record layer leaves its
    /// last record out, which tells the client the same.
    pub fn reset_on_close(&self) {
        match self {
            // Should it fail, the connection is broken already, which is what was wanted.
            Self::Socket(socket) => drop(socket.set_linger(Some(Duration::ZERO))),
            Self::Tls(tls) => tls.reset_on_close(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.reset_on_close(),
        }
    }

    /// Ends both sides of the socket at once, which wakes a thread that waits for this stream.
    pub fn abandon(&self) {
        match self {
            Self::Socket(socket) => drop(socket.shutdown(Shutdown::Both)),
            Self::Tls(tls) => drop(tls.socket().shutdown(Shutdown::Both)),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.abandon(),
        }
    }

    /// Blocks the calling thread until bytes (or the end) can be read, which is at once where a record layer holds some.
    /// `false`: `timeout` passed first.
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Self::Socket(socket) => wait(socket, PollFlags::IN, timeout),
            Self::Tls(tls) => Ok(tls.is_readable() || wait(tls.socket(), PollFlags::IN, timeout)?),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => Ok(double.wait_readable()),
        }
    }

    /// Blocks the calling thread until the socket takes bytes again. `false`: `timeout` passed first.
    pub fn wait_writable(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Self::Socket(socket) => wait(socket, PollFlags::OUT, timeout),
            Self::Tls(tls) => wait(tls.socket(), PollFlags::OUT, timeout),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => Ok(double.wait_writable()),
        }
    }

    /// Blocks the calling thread until the socket can be read or takes bytes again. `false`: `timeout` passed first.
    pub fn wait_ready(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Self::Socket(socket) => wait(socket, PollFlags::IN | PollFlags::OUT, timeout),
            Self::Tls(tls) => Ok(tls.is_readable() || wait(tls.socket(), PollFlags::IN | PollFlags::OUT, timeout)?),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => Ok(double.wait_readable() || double.wait_writable()),
        }
    }

    /// The descriptor to be watched for readiness, if there is one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => Some(socket.as_fd()),
            Self::Tls(tls) => Some(tls.socket().as_fd()),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(_) => None,
        }
    }
}

#[cfg(any(test, feature = "doubles"))]
pub mod double;
#[cfg(any(test, feature = "doubles"))]
pub mod record_layer;
