//! A queue of connected sockets between processes: a pair of Unix sockets that all of them inherit. A message is a few bytes
//! with one descriptor (unix(7), `SCM_RIGHTS`). The kernel keeps messages whole, whatever becomes of the sender.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use socket2::{Socket, Type};

use super::descriptor;
use super::stream::Stream;

// Other processes share the sockets, and may change whether they block.
#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
#[cfg(not(target_os = "linux"))]
const SEND: SendFlags = SendFlags::DONTWAIT;
#[cfg(not(any(target_vendor = "apple", target_os = "aix")))]
const RECEIVE: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::CMSG_CLOEXEC);
#[cfg(any(target_vendor = "apple", target_os = "aix"))]
const RECEIVE: RecvFlags = RecvFlags::DONTWAIT;

/// Both ends of a queue.
#[derive(Debug)]
pub struct DescriptorQueue {
    sender: OwnedFd,
    receiver: OwnedFd,
}

/// What came of one attempt to receive.
#[derive(Debug)]
pub enum QueueItem {
    /// A socket, and the length of the message that came with it.
    Stream(Stream, usize),
    /// Nothing waits.
    Empty,
    /// A message that is none of ours. The descriptors that came with it are closed.
    Malformed(&'static str),
    /// The process has no descriptor left; the message stays in the queue.
    Exhausted(io::Error),
    /// The queue is of no use.
    Failed(io::Error),
}

impl DescriptorQueue {
    /// The queue whose ends are the descriptors `sender` and `receiver`, of which it keeps duplicates.
    pub fn new(sender: i32, receiver: i32) -> io::Result<Self> {
        Ok(Self { sender: descriptor::duplicate(sender)?, receiver: descriptor::duplicate(receiver)? })
    }

    /// A queue of its own, whose sender has room for `buffer` bytes, or the system's default.
    #[cfg(test)]
    pub(crate) fn pair(buffer: Option<usize>) -> Self {
        let (sender, receiver) = Socket::pair(socket2::Domain::UNIX, Type::SEQPACKET, None).unwrap();
        if let Some(buffer) = buffer {
            sender.set_send_buffer_size(buffer).unwrap();
        }
        Self { sender: sender.into(), receiver: receiver.into() }
    }

    /// The descriptor to be watched for messages.
    pub fn receiver(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Whether a message waits, as far as can be told without taking it. Never blocks.
    pub fn has_message(&self) -> bool {
        let mut wanted = [PollFd::new(&self.receiver, PollFlags::IN)];
        poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
    }

    /// Sends `message` with `descriptor`, which stays open here. Fails without blocking while the queue is full.
    pub fn send(&self, message: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::NOBUFS.into());
        }
        loop {
            match sendmsg(&self.sender, &[IoSlice::new(message)], &mut control, SEND) {
                Err(Errno::INTR) => {}
                result => return Ok(result.map(|_: usize| ())?),
            }
        }
    }

    /// Takes the next message, its bytes `into` the buffer. Never blocks.
    pub fn receive(&self, into: &mut [u8]) -> QueueItem {
        // Without a free descriptor the kernel would hand the message over and drop the socket. Another thread may take the last
        // one in between, which is why a limit leaves some to the application.
        match fcntl_dupfd_cloexec(&self.receiver, 0) {
            Ok(spare) => drop(spare),
            Err(error) => return QueueItem::Exhausted(error.into()),
        }
        // Room for one more than there may be, so that a second one is seen rather than truncated.
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.receiver, &mut [IoSliceMut::new(into)], &mut control, RECEIVE) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return QueueItem::Empty,
                Err(error) => return QueueItem::Failed(error.into()),
            }
        };
        let mut descriptors = Vec::<OwnedFd>::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if received.bytes == 0 && descriptors.is_empty() {
            return QueueItem::Failed(io::ErrorKind::UnexpectedEof.into());
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return QueueItem::Malformed("descriptors were lost on the way");
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return QueueItem::Malformed("it is too long");
        }
        let (Some(descriptor), None) = (descriptors.pop(), descriptors.pop()) else {
            return QueueItem::Malformed("it has not exactly one descriptor");
        };
        match connected(descriptor) {
            Ok(Some(stream)) => QueueItem::Stream(stream, received.bytes),
            Ok(None) | Err(_) => QueueItem::Malformed("its descriptor is no stream socket"),
        }
    }
}

// `None`: the descriptor is no stream socket.
fn connected(descriptor: OwnedFd) -> io::Result<Option<Stream>> {
    #[cfg(any(target_vendor = "apple", target_os = "aix"))]
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    let socket = Socket::from(descriptor);
    if socket.r#type()? != Type::STREAM {
        return Ok(None);
    }
    socket.set_nonblocking(true)?;
    Ok(Some(Stream::Socket(socket)))
}

#[cfg(test)]
#[path = "descriptor_queue_tests.rs"]
mod tests;
