//! Bytes that wait in unlinked temporary files, for an application or for a slow client, and the bound on all of them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::body::Body;
use crate::http::reject::Reject;

/// What all temporary files of a server may take together.
#[derive(Debug)]
pub struct Budget {
    max_bytes: u64,
    max_files: u64,
    bytes: AtomicU64,
    files: AtomicU64,
}

impl Budget {
    /// A budget of `max_bytes` in `max_files` files, of which nothing is spent.
    pub fn new(max_bytes: u64, max_files: u64) -> Self {
        Self { max_bytes, max_files, bytes: AtomicU64::new(0), files: AtomicU64::new(0) }
    }

    /// Bytes that are spent.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

// Adds to a counter what it still has room for.
fn spend(counter: &AtomicU64, amount: u64, limit: u64) -> bool {
    let room = |spent: u64| spent.checked_add(amount).filter(|sum| *sum <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
}

/// Why bytes could not be put into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFailure {
    /// The budget is spent.
    Full,
    /// The system refused.
    Failed,
}

impl From<SpoolFailure> for Reject {
    fn from(failure: SpoolFailure) -> Self {
        match failure {
            SpoolFailure::Full => Self::SpoolFull,
            SpoolFailure::Failed => Self::SpoolFailed,
        }
    }
}

impl From<io::Error> for SpoolFailure {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// An unlinked temporary file. What it holds is given back to the budget when it is closed.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    length: u64,
    budget: Arc<Budget>,
}

impl SpoolFile {
    /// A new, empty one.
    pub fn open(budget: &Arc<Budget>) -> Result<Self, SpoolFailure> {
        if !spend(&budget.files, 1, budget.max_files) {
            return Err(SpoolFailure::Full);
        }
        match tempfile::tempfile() {
            Ok(file) => Ok(Self { file, length: 0, budget: Arc::clone(budget) }),
            Err(error) => {
                budget.files.fetch_sub(1, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts `bytes` behind those that are there. After a failure the file ends somewhere within them.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolFailure> {
        if !spend(&self.budget.bytes, bytes.len() as u64, self.budget.max_bytes) {
            return Err(SpoolFailure::Full);
        }
        // Counted from here on, so that the drop gives back what was spent, whatever was written.
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)?;
        Ok(())
    }
}

impl Read for SpoolFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.length, Ordering::Relaxed);
        self.budget.files.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that are gathered before they are written to a file: a chunk may be as small as a byte, a system call is not.
const GATHER: usize = 32 * 1024;

/// A request body that is gathered: in memory first, then in a file.
pub struct Spool {
    // The whole, or what is not in the file yet.
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    threshold: usize,
    budget: Arc<Budget>,
}

impl Spool {
    /// An empty one that keeps up to `threshold` bytes in memory.
    pub fn new(threshold: usize, budget: &Arc<Budget>) -> Self {
        Self { memory: Vec::new(), file: None, threshold, budget: Arc::clone(budget) }
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, SpoolFile::length) + self.memory.len() as u64
    }

    /// Puts `bytes` behind those that are there.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolFailure> {
        if self.file.is_none() && self.memory.len() + bytes.len() > self.threshold {
            self.file = Some(SpoolFile::open(&self.budget)?);
        }
        if let Some(file) = &mut self.file {
            if self.memory.len() + bytes.len() > GATHER {
                file.append(&std::mem::take(&mut self.memory))?;
            }
            if bytes.len() > GATHER {
                return file.append(bytes);
            }
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    /// The whole, to be read from its beginning.
    pub fn finish(self) -> Result<Body, SpoolFailure> {
        match self.file {
            Some(mut file) => {
                file.append(&self.memory)?;
                file.file.seek(SeekFrom::Start(0))?;
                Ok(Body::File(file))
            }
            None if self.memory.is_empty() => Ok(Body::Empty),
            None => Ok(Body::Memory(self.memory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_share_a_budget_and_give_it_back() {
        let budget = Arc::new(Budget::new(10, 2));
        let mut first = SpoolFile::open(&budget).unwrap();
        let mut second = SpoolFile::open(&budget).unwrap();
        assert_eq!(SpoolFile::open(&budget).unwrap_err(), SpoolFailure::Full);
        first.append(b"sixsix").unwrap();
        assert_eq!(second.append(b"fiver"), Err(SpoolFailure::Full));
        second.append(b"four").unwrap();
        drop(first);
        assert_eq!(budget.bytes(), 4);
        second.append(b"sixsix").unwrap();
        drop(second);
        assert_eq!((budget.bytes(), budget.files.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn body_up_to_the_threshold_costs_no_file_and_a_larger_one_is_whole() {
        let budget = Arc::new(Budget::new(100, 1));
        let mut small = Spool::new(5, &budget);
        small.write(b"hello").unwrap();
        assert!(matches!(small.finish(), Ok(Body::Memory(bytes)) if bytes == b"hello"));
        let mut large = Spool::new(5, &budget);
        for piece in [b"hello".as_slice(), b" ", b"world"] {
            large.write(piece).unwrap();
        }
        // Small pieces do not go to the file one by one.
        assert_eq!((large.length(), budget.bytes()), (11, 0));
        let Ok(Body::File(mut file)) = large.finish() else { panic!("not in a file") };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), budget.bytes()), ("hello world", 11));
        drop(file);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn body_beyond_the_budget_is_refused_as_such() {
        let budget = Arc::new(Budget::new(3, 1));
        let mut small = Spool::new(0, &budget);
        small.write(b"four").unwrap();
        let failure = small.finish().err().unwrap();
        assert_eq!((failure, Reject::from(failure)), (SpoolFailure::Full, Reject::SpoolFull));
        assert_eq!(Spool::new(0, &budget).write(&vec![0; GATHER + 1]), Err(SpoolFailure::Full));
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn pieces_of_any_size_keep_their_order() {
        let budget = Arc::new(Budget::new(u64::MAX, 1));
        let mut spool = Spool::new(10, &budget);
        let mut expected = Vec::new();
        for (number, size) in [1, GATHER, 2, GATHER + 1, 0, 3, GATHER - 1, GATHER, 5].into_iter().enumerate() {
            let piece = vec![u8::try_from(number).unwrap(); size];
            spool.write(&piece).unwrap();
            expected.extend(piece);
            assert_eq!(spool.length(), expected.len() as u64);
        }
        let Ok(Body::File(mut file)) = spool.finish() else { panic!("not in a file") };
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == expected);
    }
}
