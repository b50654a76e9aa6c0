//! Memory that several processes share, as a row of counters in a file without a name.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The name under which `/proc/PID/fd` shows the file: `/memfd:wsgi-counters`.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
const FILE_NAME: &std::ffi::CStr = c"wsgi-counters";

/// Counters that are 0 at first. Processes that are forked from this one share them, and so does a process that opens the file.
#[derive(Debug)]
pub struct SharedCells {
    file: File,
    base: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the pointer leads to atomics, which stay mapped until the value is dropped.
#[expect(unsafe_code, reason = "the compiler cannot know what a pointer leads to")]
unsafe impl Send for SharedCells {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "the compiler cannot know what a pointer leads to")]
unsafe impl Sync for SharedCells {}

impl SharedCells {
    /// Makes `count` cells, at least one. The file is closed when a program is executed.
    pub fn new(count: usize) -> io::Result<Self> {
        let file = unnamed_file()?;
        file.set_len(size_of_cells(count)?)?;
        seal(&file)?;
        Self::map(file)
    }

    /// Maps the cells of a file that `new` has made, in this process or another one.
    ///
    /// # Errors
    /// `InvalidData`: the file is not such a file, or its length could change.
    pub fn open(file: File) -> io::Result<Self> {
        if !is_sealed(&file) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file does not hold shared counters"));
        }
        Self::map(file)
    }

    #[expect(unsafe_code, reason = "mapping memory has no safe form")]
    fn map(file: File) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let count = bytes / size_of::<AtomicU64>();
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses the address, so that no other mapping is replaced. The file is sealed (or, where files have no
        // seals, known to this process and its children only), so it does not become shorter than the mapping.
        let base = unsafe { mmap(null_mut(), count * size_of::<AtomicU64>(), flags, MapFlags::SHARED, &file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { file, base, count })
    }

    /// The cells.
    #[expect(unsafe_code, reason = "the slice is made from mapped memory")]
    pub fn cells(&self) -> &[AtomicU64] {
        // SAFETY: so many cells are mapped until this is dropped, at an address that is aligned to a page of the system; every bit
        // pattern is a number; and all processes change them as atomics only.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }

    /// The file behind them.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for SharedCells {
    #[expect(unsafe_code, reason = "unmapping memory has no safe form")]
    fn drop(&mut self) {
        let base: *mut c_void = self.base.as_ptr().cast();
        // SAFETY: `map` has mapped this address with this length, and no slice of it outlives the value.
        let _ = unsafe { munmap(base, self.count * size_of::<AtomicU64>()) };
    }
}

fn size_of_cells(count: usize) -> io::Result<u64> {
    let bytes = count.checked_mul(size_of::<AtomicU64>()).filter(|bytes| *bytes > 0);
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn unnamed_file() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create(FILE_NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into())
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn unnamed_file() -> io::Result<File> {
    tempfile::tempfile()
}

// Reading a mapping beyond the end of its file kills the process, and any process with the descriptor could shorten the file.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
const SEALS: rustix::fs::SealFlags =
    rustix::fs::SealFlags::SHRINK.union(rustix::fs::SealFlags::GROW).union(rustix::fs::SealFlags::SEAL);

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn seal(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(file, SEALS)?)
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn is_sealed(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS))
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn seal(_: impl AsFd) -> io::Result<()> {
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn is_sealed(_: impl AsFd) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn cells_are_zero_and_seen_by_every_mapping() {
        let cells = SharedCells::new(1000).unwrap();
        assert!(cells.cells().len() == 1000 && cells.cells().iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
        let again = SharedCells::open(cells.file().try_clone().unwrap()).unwrap();
        cells.cells()[999].store(7, Ordering::Relaxed);
        assert_eq!(again.cells()[999].load(Ordering::Relaxed), 7);
        drop(cells);
        assert_eq!(again.cells()[999].fetch_add(1, Ordering::Relaxed), 7);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    fn file_that_could_become_shorter_is_not_mapped_and_that_of_cells_cannot() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(SharedCells::open(file).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let cells = SharedCells::new(1000).unwrap();
        assert!(cells.file().set_len(0).is_err() && cells.file().set_len(1 << 20).is_err());
    }

    #[test]
    fn number_of_cells_that_no_memory_has_is_refused() {
        assert!(SharedCells::new(0).is_err() && SharedCells::new(usize::MAX / 8).is_err());
    }
}
