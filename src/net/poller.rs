//! Readiness: which of many sockets can be read or written. Edge-triggered, each socket registered once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

/// A change of readiness of one socket.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// The number the socket was registered under.
    pub token: usize,
    /// Bytes, a new connection, or the end of the stream can be read.
    pub readable: bool,
    /// The socket takes bytes again.
    pub writable: bool,
    /// The client closed its sending side or the connection broke: a short read does not mean "drained".
    pub ended: bool,
}

/// Wakes a [`Poller`] that waits in another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    waker: Arc<mio::Waker>,
    /// How often it was used.
    #[cfg(test)]
    pub wakes: Arc<std::sync::atomic::AtomicUsize>,
}

impl Waker {
    /// Makes the poller's wait return. Safe to call from any thread, at any time.
    pub fn wake(&self) {
        #[cfg(test)]
        self.wakes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // The only failures are a full counter, which is a wake already on its way, or a poller that has gone.
        drop(self.waker.wake());
    }
}

/// One readiness queue of the kernel.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    waker: Waker,
}

const WAKE: Token = Token(usize::MAX);

impl Poller {
    /// A queue that reports at most `batch` changes at a time.
    pub fn new(batch: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker {
            waker: Arc::new(mio::Waker::new(poll.registry(), WAKE)?),
            #[cfg(test)]
            wakes: Arc::default(),
        };
        Ok(Self { poll, events: Events::with_capacity(batch), waker })
    }

    /// A handle that wakes this poller.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The queue's own descriptor: readable while a change waits to be taken, so that another loop can watch it.
    pub fn descriptor(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// Watches a connected stream for reading and writing, under `token`, until it is closed.
    pub fn watch(&self, descriptor: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        self.register(descriptor, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Watches a listening socket for new connections.
    pub fn watch_listener(&self, descriptor: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        self.register(descriptor, token, Interest::READABLE)
    }

    fn register(&self, descriptor: BorrowedFd<'_>, token: usize, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&descriptor.as_raw_fd()), Token(token), interest)
    }

    /// Stops watching a socket that stays open.
    pub fn forget(&self, descriptor: BorrowedFd<'_>) {
        // It was watched until now; should the kernel know nothing of it, all is as wanted.
        drop(self.poll.registry().deregister(&mut SourceFd(&descriptor.as_raw_fd())));
    }

    /// Waits for a change, at most `timeout` (for ever without one), and puts what changed into `into`.
    pub fn wait(&mut self, timeout: Option<Duration>, into: &mut Vec<Readiness>) -> io::Result<()> {
        into.clear();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        into.extend(self.events.iter().filter(|event| event.token() != WAKE).map(|event| Readiness {
            token: event.token().0,
            readable: event.is_readable() || event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            ended: event.is_read_closed() || event.is_error(),
        }));
        Ok(())
    }
}
