//! Descriptors that somebody else owns: listening sockets left open for us (`fd://N`), files an application hands over.
//! The one place in the network room that needs `unsafe`.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};

/// A close-on-exec duplicate of descriptor `number`, owned by the caller; the original stays open, so that a server
/// can be stopped and started again on it.
#[allow(unsafe_code)]
pub fn duplicate(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(9));
    }
    // SAFETY: the borrow lives only for the two calls below, which are sound for any number: one that is not open
    // gives EBADF. It is never closed here, and -1 was refused above.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let _: FdFlags = fcntl_getfd(borrowed)?;
    Ok(fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// A duplicate of descriptor `number` and the size in bytes of what it is open on, if that is a regular file whose size can
/// be relied on. Files of `/proc` have content and no size, those of `/sys` a size beyond their content: neither has blocks,
/// as other files without blocks do not have, whose last byte is there all the same.
pub fn duplicate_file(number: i32) -> io::Result<Option<(File, u64)>> {
    let file = File::from(duplicate(number)?);
    let status = file.metadata()?;
    let size = status.len();
    let is_reliable = status.is_file() && size > 0 && (status.blocks() > 0 || file.read_at(&mut [0], size - 1)? == 1);
    Ok(is_reliable.then_some((file, size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_that_is_not_open_is_refused() {
        assert!(duplicate(-1).is_err());
        assert!(duplicate(1_000_000).is_err());
    }
}
