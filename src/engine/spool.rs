//! Bytes that wait for an application or for a slow client, in memory or in unlinked temporary files, and the bound on all
//! of them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::body::Body;
use super::options::Options;
use crate::http::reject::Reject;

/// What the temporary files of a server may take together, and the bodies that are kept in memory although they are large.
#[derive(Debug)]
pub struct Budget {
    max_bytes: u64,
    max_files: u64,
    max_memory: u64,
    bytes: AtomicU64,
    files: AtomicU64,
    memory: AtomicU64,
    // Why the system refused a file or a write, until that is reported.
    failure: Mutex<Option<io::Error>>,
    has_failed: AtomicBool,
}

impl Budget {
    /// A budget of `max_bytes` in `max_files` files and `max_memory` bytes of memory, of which nothing is spent.
    pub fn new(max_bytes: u64, max_files: u64, max_memory: u64) -> Self {
        let [bytes, files, memory] = Default::default();
        let (failure, has_failed) = Default::default();
        Self { max_bytes, max_files, max_memory, bytes, files, memory, failure, has_failed }
    }

    /// The budget of a server.
    pub fn of(options: &Options, max_files: u64) -> Self {
        Self::new(options.max_spool_size, max_files, (options.body_buffer as u64).saturating_mul(LENT))
    }

    /// Tries whether a file can be made and written to.
    pub fn probe(self: &Arc<Self>) {
        if self.max_bytes > 0 && self.max_files > 0 {
            // What went wrong is kept to be reported.
            let _ = SpoolFile::open(self).and_then(|mut file| file.append(b"?"));
            // Without open files to be had the folder is not at fault: the start fails next, and says so itself.
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.take_if(|error| is_out_of_files(error)).is_some() {
                self.has_failed.store(false, Ordering::Release);
            }
        }
    }

    // Where the failure is met, locks may be held that whoever reports must not wait for.
    fn fail(&self, error: io::Error) -> SpoolFailure {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.has_failed.store(true, Ordering::Release);
        SpoolFailure::Failed
    }

    /// What an operator should know of a failure of the system's since this was last asked. One load if there was none.
    pub fn take_failure(&self) -> Option<String> {
        if !self.has_failed.load(Ordering::Relaxed) || !self.has_failed.swap(false, Ordering::Acquire) {
            return None;
        }
        let error = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let folder = tempfile::env::temp_dir();
        let advice = if is_out_of_files(&error) {
            "raise the limit of open files (ulimit -n)"
        } else {
            "make room there, or name another folder by TMPDIR"
        };
        Some(format!(
            "cannot write temporary files in {}: {error}; large request bodies are refused, and slow readers hold threads: \
             {advice}",
            folder.display()
        ))
    }

    /// Bytes that are spent in files.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
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
                Err(budget.fail(error))
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
        self.file.write_all(bytes).map_err(|error| self.budget.fail(error))
    }

    /// Goes back to the beginning, to be read.
    fn rewind(&mut self) -> Result<(), SpoolFailure> {
        self.file.seek(SeekFrom::Start(0)).map(drop).map_err(|error| self.budget.fail(error))
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

/// Memory that was lent to a body, until the body is let go.
#[derive(Debug)]
pub struct Lent {
    bytes: u64,
    budget: Arc<Budget>,
}

impl Lent {
    // Lends more, so that it is `bytes` in all. `false`: there is not so much.
    fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let lent = spend(&self.budget.memory, more, self.budget.max_memory);
        if lent {
            self.bytes += more;
        }
        lent
    }

    fn give_back(&mut self) {
        self.budget.memory.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A body may take so many times the memory that each has for certain, as long as all that do so take no more than
/// `LENT` times that: 8 MiB of 64 MiB by default. A file makes a megabyte six times as costly (measured: 0.2 and 1.3 ms).
const LARGE: u64 = 128;
const LENT: u64 = 1024;

/// Bytes that are gathered before they are written to a file: a chunk may be as small as a byte, a system call is not.
const GATHER: usize = 32 * 1024;

/// A request body that is gathered: in memory first, then in a file.
pub struct Spool {
    // The whole, or what is not in the file yet.
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    threshold: usize,
    // What it will come to, if that is known.
    expected: Option<u64>,
    lent: Lent,
}

impl Spool {
    /// An empty one that keeps up to `threshold` bytes in memory, and more of them if they are lent to it.
    pub fn new(threshold: usize, expected: Option<u64>, budget: &Arc<Budget>) -> Self {
        let lent = Lent { bytes: 0, budget: Arc::clone(budget) };
        Self { memory: Vec::new(), file: None, threshold, expected, lent }
    }

    // Whether memory has room for so many bytes in all.
    fn has_room(&mut self, bytes: usize) -> bool {
        let own = self.threshold as u64;
        if bytes as u64 <= own {
            return true;
        }
        // What is lent is set aside whole: growing by and by would copy it again and again, and take twice as much.
        let Some(whole) = self.expected else { return false };
        let has_room = self.may_take(whole);
        if has_room {
            self.memory.reserve(usize::try_from(whole).unwrap_or(0).saturating_sub(self.memory.len()));
        }
        has_room
    }

    // Takes what memory a body of so many bytes needs beyond its own, if there is as much.
    fn may_take(&mut self, whole: u64) -> bool {
        let own = self.threshold as u64;
        whole <= own.saturating_mul(LARGE) && self.lent.grow(whole.saturating_sub(own))
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, SpoolFile::length) + self.memory.len() as u64
    }

    /// Puts `bytes` behind those that are there.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolFailure> {
        let whole = self.memory.len() + bytes.len();
        if self.file.is_none() && !self.has_room(whole) {
            match SpoolFile::open(&self.lent.budget) {
                Ok(file) => self.file = Some(file),
                // One of unknown length grows by and by, which is better than to refuse it.
                Err(_) if self.may_take(whole as u64) => {}
                Err(failure) => return Err(failure),
            }
        }
        if let Some(file) = &mut self.file {
            if self.memory.len() + bytes.len() > GATHER {
                file.append(&std::mem::take(&mut self.memory))?;
                self.lent.give_back();
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
                file.rewind()?;
                Ok(Body::File(file))
            }
            None if self.memory.is_empty() => Ok(Body::Empty),
            None => Ok(Body::Memory(self.memory, self.lent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_share_a_budget_and_give_it_back() {
        let budget = Arc::new(Budget::new(10, 2, 0));
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
        let budget = Arc::new(Budget::new(100, 1, 0));
        let mut small = Spool::new(5, None, &budget);
        small.write(b"hello").unwrap();
        assert!(matches!(small.finish(), Ok(Body::Memory(bytes, _)) if bytes == b"hello"));
        let mut large = Spool::new(5, None, &budget);
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
    fn large_bodies_stay_in_memory_as_long_as_all_of_them_have_room() {
        let options = Options { body_buffer: 1, ..Options::default() };
        let budget = Arc::new(Budget::of(&options, 10));
        let spooled = |size: usize| {
            let mut spool = Spool::new(1, Some(size as u64), &budget);
            for piece in vec![0; size].chunks(10) {
                spool.write(piece).unwrap();
            }
            spool.finish().unwrap()
        };
        let in_memory: Vec<_> = (0..9).map(|_| spooled(101)).collect();
        assert!(in_memory.iter().all(|body| matches!(body, Body::Memory(..))));
        assert!(matches!(spooled(129), Body::File(_)), "one body does not get all there is");
        let lent = spooled(100);
        assert!(matches!(lent, Body::Memory(..)));
        assert!(matches!(spooled(100), Body::File(_)), "nothing is left");
        drop(lent);
        assert!(matches!(spooled(100), Body::Memory(..)));
        drop(in_memory);
        assert_eq!((budget.bytes(), budget.memory.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn body_without_a_file_stays_in_memory_as_long_as_there_is_some() {
        let budget = Arc::new(Budget::new(0, 0, 5));
        let mut body = Spool::new(2, None, &budget);
        body.write(b"hello").unwrap();
        body.write(b"!!").unwrap();
        assert_eq!(body.write(b"?"), Err(SpoolFailure::Full));
        assert_eq!(budget.memory.load(Ordering::Relaxed), 5);
        drop(body);
        assert_eq!(budget.memory.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn failure_of_the_system_is_told_once_with_its_place() {
        let budget = Arc::new(Budget::new(1, 1, 0));
        assert_eq!(budget.take_failure(), None);
        assert_eq!(budget.fail(io::ErrorKind::StorageFull.into()), SpoolFailure::Failed);
        let told = budget.take_failure().unwrap();
        assert!(
            told.contains(&*tempfile::env::temp_dir().to_string_lossy()) && told.contains("no storage space"),
            "{told}"
        );
        assert_eq!(budget.take_failure(), None);
        budget.fail(Errno::MFILE.into());
        assert!(budget.take_failure().unwrap().ends_with(": raise the limit of open files (ulimit -n)"));
    }

    #[test]
    fn body_beyond_the_budget_is_refused_as_such() {
        let budget = Arc::new(Budget::new(3, 1, 0));
        let mut small = Spool::new(0, None, &budget);
        small.write(b"four").unwrap();
        let failure = small.finish().err().unwrap();
        assert_eq!((failure, Reject::from(failure)), (SpoolFailure::Full, Reject::SpoolFull));
        assert_eq!(Spool::new(0, None, &budget).write(&vec![0; GATHER + 1]), Err(SpoolFailure::Full));
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn pieces_of_any_size_keep_their_order() {
        let budget = Arc::new(Budget::new(u64::MAX, 1, 0));
        let mut spool = Spool::new(10, None, &budget);
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
