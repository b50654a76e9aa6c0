//! Tells when a run has answered a number of requests.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::observe::{Observer, Record};

/// Counts responses, and writes a byte to a descriptor when the count reaches its limit.
pub struct RequestLimit {
    left: AtomicU64,
    signal: OwnedFd,
}

impl RequestLimit {
    /// After `limit` responses, at least one, a byte is written to `signal`, which must not block.
    pub fn new(limit: u64, signal: OwnedFd) -> Self {
        Self { left: AtomicU64::new(limit.max(1)), signal }
    }
}

impl Observer for RequestLimit {
    fn finished(&self, _: &Record) {
        // Only the last of `limit` sees 1; it takes longer than any process lives to come around to it again.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A reader that has gone wants no signal.
            let _ = rustix::io::write(&self.signal, &[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn limit_signals_once_when_it_is_reached() {
        let (reader, writer) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap();
        let limit = RequestLimit::new(3, writer);
        let record = Record::sample("/");
        for _ in 0..10 {
            limit.finished(&record);
        }
        drop(limit);
        let mut signals = [9; 4];
        assert_eq!(rustix::io::read(&reader, &mut signals).unwrap(), 1);
        assert_eq!(signals[0], 0);
    }
}
