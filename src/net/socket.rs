//! System calls on a connected socket that several kinds of streams share.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use socket2::Socket;

use crate::net::outcome::Presence;

/// A write to a connection that the client has reset must be an error value, never a SIGPIPE, whatever the application did to
/// that signal.
#[cfg(target_os = "linux")]
pub const SEND: SendFlags = SendFlags::NOSIGNAL;
/// There is no such flag here: the option of the socket does the same.
#[cfg(not(target_os = "linux"))]
pub const SEND: SendFlags = SendFlags::empty();

/// What a byte that is left where it is tells of the client.
pub fn peek(socket: &Socket) -> Presence {
    let mut byte = [MaybeUninit::uninit()];
    match retry(|| socket.peek(&mut byte)) {
        Ok(0) => Presence::Ended,
        Ok(_) => Presence::Here,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Presence::Here,
        Err(_) => Presence::Gone,
    }
}

/// Whether the client has closed its sending side, be there bytes before its end or not. Where the system does not tell, it has not.
pub fn has_ended(socket: &Socket) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let flags = PollFlags::RDHUP;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let flags = PollFlags::empty();
    let mut wanted = [PollFd::new(socket, flags)];
    let ready = poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    ready.is_ok_and(|count| count > 0) && wanted[0].revents().intersects(flags)
}

/// Blocks the calling thread until one of `what` is so. `false`: `timeout` passed first.
pub fn wait(socket: &Socket, what: PollFlags, timeout: Duration) -> io::Result<bool> {
    // poll(2) counts in whole milliseconds: rounding down would spin through the last one.
    let timeout =
        Timespec { tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: timeout.subsec_nanos().into() };
    let mut wanted = [PollFd::new(socket, what)];
    retry(|| Ok(poll(&mut wanted, Some(&timeout))? > 0))
}

/// A signal is no reason to give up a call.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
