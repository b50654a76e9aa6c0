//! A connected byte stream. TLS and other transports become further variants of [`Stream`]; a scripted double
//! already is one, so that the corridor is tested without a kernel.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::Socket;

/// What a look at the socket tells about the client, without taking a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing says that the client has gone.
    Here,
    /// The client has closed its sending side: it went away, or it half-closed and still reads (nobody can tell).
    Ended,
    /// The connection was reset.
    Gone,
}

/// Why no byte of a file was sent.
#[derive(Debug)]
pub enum Unsent {
    /// The connection: it takes no more for now (`WouldBlock`), or never again.
    Stream(io::Error),
    /// The file: it cannot be read.
    File(io::Error),
}

/// One connected, non-blocking stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP or Unix socket, plain bytes.
    Socket(Socket),
    /// A scripted double for tests of the rooms above.
    #[cfg(any(test, feature = "doubles"))]
    Double(double::Double),
}

// A write to a connection that the client has reset must be an error value, never a SIGPIPE, whatever the
// application did to that signal.
#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SEND: SendFlags = SendFlags::empty();

impl Stream {
    /// Reads what is there. `Ok(0)` is the end of the stream; `WouldBlock` means nothing yet.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            // Not the C library's calls, which threads can be cancelled in: that costs four atomic operations a request.
            Self::Socket(socket) => retry(|| Ok(recv(socket, &mut *into, RecvFlags::empty())?.0)),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => retry(|| double.read(into)),
        }
    }

    /// Writes as much of the slices as the socket takes, in one call.
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => match slices {
                [only] => retry(|| Ok(send(socket, only, SEND)?)),
                _ => retry(|| Ok(sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SEND)?)),
            },
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => retry(|| double.write(slices)),
        }
    }

    /// Sends up to `count` bytes of a file from `offset`, inside the kernel where it can. `Ok(0)`: the file is shorter.
    pub fn send_file(&self, file: &File, offset: u64, count: usize) -> Result<usize, Unsent> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Socket(socket) => {
                let mut position = offset;
                match retry(|| Ok(rustix::fs::sendfile(socket, file, Some(&mut position), count)?)) {
                    Ok(sent) => Ok(sent),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Unsent::Stream(error)),
                    // The file system has no way of its own into a socket, or a side has failed, and this tells which.
                    Err(_) => self.copy_file(file, offset, count),
                }
            }
            #[cfg(any(test, feature = "doubles", not(target_os = "linux")))]
            _ => self.copy_file(file, offset, count),
        }
    }

    fn copy_file(&self, file: &File, offset: u64, count: usize) -> Result<usize, Unsent> {
        let mut block = vec![0; count.min(1 << 16)];
        let read = retry(|| file.read_at(&mut block, offset)).map_err(Unsent::File)?;
        if read == 0 { Ok(0) } else { self.write(&[IoSlice::new(&block[..read])]).map_err(Unsent::Stream) }
    }

    /// Looks whether the client is still there.
    pub fn presence(&self) -> Presence {
        match self {
            Self::Socket(socket) => {
                let mut byte = [MaybeUninit::uninit()];
                match retry(|| socket.peek(&mut byte)) {
                    Ok(0) => Presence::Ended,
                    Ok(_) => Presence::Here,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Presence::Here,
                    Err(_) => Presence::Gone,
                }
            }
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.presence(),
        }
    }

    /// Ends the sending side; the client reads to the end of what was sent.
    pub fn finish_writing(&self) {
        match self {
            // An error means that the client has gone, which the next read tells.
            Self::Socket(socket) => drop(socket.shutdown(Shutdown::Write)),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.finish_writing(),
        }
    }

    /// Makes the coming close a reset, so that a client cannot take what it got for a whole response.
    pub fn reset_on_close(&self) {
        match self {
            // Should it fail, the connection is broken already, which is what was wanted.
            Self::Socket(socket) => drop(socket.set_linger(Some(Duration::ZERO))),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.reset_on_close(),
        }
    }

    /// Ends both sides at once, so that whoever waits for this stream in another thread wakes.
    pub fn abandon(&self) {
        match self {
            Self::Socket(socket) => drop(socket.shutdown(Shutdown::Both)),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => double.finish_writing(),
        }
    }

    /// Blocks the calling thread until bytes (or the end) can be read. `false`: `timeout` passed first.
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Self::Socket(socket) => wait(socket, PollFlags::IN, timeout),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => Ok(double.wait_readable()),
        }
    }

    /// Blocks the calling thread until the socket takes bytes again. `false`: `timeout` passed first.
    pub fn wait_writable(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Self::Socket(socket) => wait(socket, PollFlags::OUT, timeout),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => Ok(double.wait_writable()),
        }
    }

    /// Blocks the calling thread until the socket can be read or takes bytes again. `false`: `timeout` passed first.
    pub fn wait_ready(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Self::Socket(socket) => wait(socket, PollFlags::IN | PollFlags::OUT, timeout),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(double) => Ok(double.wait_readable() || double.wait_writable()),
        }
    }

    /// The descriptor to be watched for readiness, if there is one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => Some(socket.as_fd()),
            #[cfg(any(test, feature = "doubles"))]
            Self::Double(_) => None,
        }
    }
}

fn wait(socket: &Socket, what: PollFlags, timeout: Duration) -> io::Result<bool> {
    // poll(2) counts in whole milliseconds: rounding down would spin through the last one.
    let timeout =
        Timespec { tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: timeout.subsec_nanos().into() };
    let mut wanted = [PollFd::new(socket, what)];
    retry(|| Ok(poll(&mut wanted, Some(&timeout))? > 0))
}

/// A signal is no reason to give up a call.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(any(test, feature = "doubles"))]
pub mod double;
