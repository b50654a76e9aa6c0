//! Descriptors that another owner opened: listening sockets left open for us (`fd://N`), files an application hands over.
//! The one place in the network room that needs `unsafe`.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::net::{SendFlags, send};

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

/// Sends a whole message by a socket, if that is possible without waiting.
pub fn send_now(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let sent = send(socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A duplicate of descriptor `number` and the size in bytes of what it is open on, if it has a [`known_size`].
pub fn duplicate_file(number: i32) -> io::Result<Option<(File, u64)>> {
    let file = File::from(duplicate(number)?);
    let size = known_size(&file)?;
    Ok(size.map(|size| (file, size)))
}

/// The size in bytes of a regular file, if that is the size of its content. Files of `/proc` have content and no size, those
/// of `/sys` a size beyond their content. Neither has blocks; of the other files without blocks (empty, sparse, or within
/// their inode) the content ends where they say.
pub fn known_size(file: &File) -> io::Result<Option<u64>> {
    let status = file.metadata()?;
    let size = status.len();
    let is_true = || {
        Ok::<_, io::Error>(match size.checked_sub(1) {
            Some(last) => file.read_at(&mut [0], last)? == 1,
            None => file.read_at(&mut [0], 0)? == 0,
        })
    };
    Ok((status.is_file() && (status.blocks() > 0 || is_true()?)).then_some(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_that_is_not_open_is_refused() {
        assert!(duplicate(-1).is_err());
        assert!(duplicate(1_000_000).is_err());
    }

    #[test]
    fn size_is_known_where_the_content_has_it() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(known_size(&file).unwrap(), Some(0));
        // Sparse.
        file.set_len(100_000).unwrap();
        assert_eq!(known_size(&file).unwrap(), Some(100_000));
        file.write_all_at(b"content", 0).unwrap();
        assert_eq!(known_size(&file).unwrap(), Some(100_000));
        assert_eq!(known_size(&File::open("/dev/null").unwrap()).unwrap(), None);
        #[cfg(target_os = "linux")]
        for lying in ["/proc/self/cmdline", "/sys/devices/system/cpu/online"] {
            // A container may hide /sys.
            if let Ok(file) = File::open(lying) {
                assert_eq!(known_size(&file).unwrap(), None, "{lying}");
            }
        }
    }
}
