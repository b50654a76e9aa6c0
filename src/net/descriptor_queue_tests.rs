use std::io::Read;
use std::os::fd::AsRawFd;

use socket2::Domain;

use super::*;

// The end of a stream: what the other end of it tells is whether it is open anywhere.
fn stream() -> (Socket, Socket) {
    Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap()
}

fn send_all(queue: &DescriptorQueue, message: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(&queue.sender, &[IoSlice::new(message)], &mut control, SEND).unwrap();
}

fn receive(queue: &DescriptorQueue) -> QueueItem {
    queue.receive(&mut [0; 8])
}

// Reads to the end of the stream, which comes when no process has its other end.
fn assert_closed(mut end: Socket) {
    end.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    assert_eq!(end.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn socket_arrives_with_its_message_and_closes_on_exec() {
    let queue = DescriptorQueue::pair(None);
    assert!(!queue.has_message());
    assert!(matches!(receive(&queue), QueueItem::Empty));
    let (ours, theirs) = stream();
    queue.send(b"message", theirs.as_fd()).unwrap();
    drop(theirs);
    assert!(queue.has_message());
    let mut message = [0; 8];
    let QueueItem::Stream(stream, 7) = queue.receive(&mut message) else { panic!("no stream") };
    assert_eq!(&message, b"message\0");
    let descriptor = stream.descriptor().unwrap();
    assert!(rustix::io::fcntl_getfd(descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    ours.send(b"hello").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap().count, 5);
    assert!(matches!(receive(&queue), QueueItem::Empty));
}

#[test]
fn message_that_is_none_is_refused_and_its_descriptors_are_closed() {
    let cases: [(&[u8], usize, &str); 4] = [
        (b"x", 0, "it has not exactly one descriptor"),
        (b"x", 2, "it has not exactly one descriptor"),
        // More than there is room for: the kernel closes the rest.
        (b"x", 253, "descriptors were lost on the way"),
        (b"longer than the buffer", 1, "it is too long"),
    ];
    for (message, count, problem) in cases {
        let queue = DescriptorQueue::pair(None);
        let (ours, theirs) = stream();
        send_all(&queue, message, &vec![theirs.as_fd(); count]);
        drop(theirs);
        // A whole one behind it is not affected.
        let (_other, whole) = stream();
        queue.send(b"whole", whole.as_fd()).unwrap();
        assert!(matches!(receive(&queue), QueueItem::Malformed(found) if found == problem), "{count} {problem}");
        assert_closed(ours);
        assert!(matches!(receive(&queue), QueueItem::Stream(_, 5)), "{count}");
    }
}

#[test]
fn descriptor_of_another_kind_is_refused() {
    let queue = DescriptorQueue::pair(None);
    let file = tempfile::tempfile().unwrap();
    let (datagram, other) = Socket::pair(Domain::UNIX, Type::DGRAM, None).unwrap();
    for descriptor in [file.as_fd(), datagram.as_fd()] {
        queue.send(b"x", descriptor).unwrap();
        assert!(matches!(receive(&queue), QueueItem::Malformed("its descriptor is no stream socket")));
    }
    drop(datagram);
    assert_eq!(other.send(b"x").unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "it is closed everywhere");
}

#[test]
fn full_queue_refuses_without_blocking_and_loses_nothing() {
    let queue = DescriptorQueue::pair(Some(1));
    let (_ours, theirs) = stream();
    let mut sent = 0;
    let error = loop {
        match queue.send(b"x", theirs.as_fd()) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000);
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    for _ in 0..sent {
        assert!(matches!(receive(&queue), QueueItem::Stream(..)));
    }
    assert!(matches!(receive(&queue), QueueItem::Empty));
    queue.send(b"x", theirs.as_fd()).unwrap();
}

#[test]
fn sockets_in_a_queue_are_closed_with_it() {
    let queue = DescriptorQueue::pair(None);
    let (ours, theirs) = stream();
    queue.send(b"x", theirs.as_fd()).unwrap();
    drop((theirs, queue));
    assert_closed(ours);
}

#[test]
fn queue_whose_senders_are_gone_fails() {
    let DescriptorQueue { sender, receiver } = DescriptorQueue::pair(None);
    drop(sender);
    let (other, _peer) = stream();
    let queue = DescriptorQueue { sender: other.into(), receiver };
    assert!(matches!(receive(&queue), QueueItem::Failed(_)));
}

#[test]
fn queue_of_descriptors_that_are_not_open_is_refused() {
    let queue = DescriptorQueue::pair(None);
    let open = queue.sender.as_raw_fd();
    assert!(DescriptorQueue::new(open, queue.receiver.as_raw_fd()).is_ok());
    assert!(DescriptorQueue::new(open, -1).is_err());
    assert!(DescriptorQueue::new(1_000_000, open).is_err());
}
