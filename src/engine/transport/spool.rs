//! The room of bytes that wait for an application or for a slow client, in memory or in unlinked temporary files, and the bound on
//! all of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::Errno;

use crate::engine::options::Options;
use crate::engine::page::{PageSlot, WorkerCell};
use crate::engine::sync::AtomicU64;
use crate::engine::transport::client_rate::SLOW_CLIENT_GRACE;
use crate::http::reject::Reject;

/// A body may take so many times the memory that each has for certain (`body_buffer`), as long as all that do so take no more than
/// `BODY_MEMORY_TOTAL` times that: 8 MiB of 64 MiB by default. A file doubles what an upload costs: a megabyte took 0.22 ms of
/// processor time in memory and 0.53 ms in a file, 6 MB 1.6 and 3.3 ms (ext4).
pub(super) const BODY_MEMORY_MAX: u64 = 128;
const BODY_MEMORY_TOTAL: u64 = 1024;

/// What the temporary files of a server may take together, and the bodies that are kept in memory although they are large. Bytes in
/// files are counted for all worker processes together, which share their disk.
#[derive(Debug)]
pub struct Budget {
    max: [u64; 3],
    // That of the bytes is a cell of the page.
    files: AtomicU64,
    memory: AtomicU64,
    slot: PageSlot,
    // What has a part of it, by number.
    holders: Mutex<BTreeMap<u64, Arc<Holding>>>,
    // The next number.
    number: AtomicU64,
    // Parts that were revoked because their clients were slow: all of them, and those not reported.
    revoked: AtomicU64,
    unreported: AtomicU64,
    // Why the system refused a file or a write, until that is reported.
    failure: Mutex<Option<io::Error>>,
    has_failed: AtomicBool,
}

impl Budget {
    /// A budget of `max_bytes` in `max_files` files and `max_memory` bytes of memory, of which nothing is spent, in a process that is
    /// alone.
    pub fn new(max_bytes: u64, max_files: u64, max_memory: u64) -> Self {
        Self::on(PageSlot::private(1), [max_bytes, max_files, max_memory])
    }

    fn on(slot: PageSlot, max: [u64; 3]) -> Self {
        let (failure, has_failed, holders) = Default::default();
        let [files, memory, number, revoked, unreported] = Default::default();
        Self { max, files, memory, slot, holders, number, revoked, unreported, failure, has_failed }
    }

    /// The budget of a server, or of the worker process whose counters are in `slot`.
    pub fn of(options: &Options, max_files: u64, slot: PageSlot) -> Self {
        let max_memory = (options.body_buffer as u64).saturating_mul(BODY_MEMORY_TOTAL);
        Self::on(slot, [options.max_spool_size, max_files, max_memory])
    }

    /// Tries whether a file can be made and written to.
    pub fn probe(self: &Arc<Self>) {
        if self.max(Resource::Bytes) > 0 && self.max(Resource::Files) > 0 {
            // A failure is kept to be reported.
            let _ = SpoolFile::open(self, None).and_then(|mut file| file.append(b"?"));
            // Without open files to be had the folder is not at fault: the start fails next, and says so itself.
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.take_if(|error| is_out_of_files(error)).is_some() {
                self.has_failed.store(false, Ordering::Release);
            }
        }
    }

    // It is reported later, because locks may be held here that a report must not wait for.
    fn fail(&self, error: io::Error) -> SpoolFailure {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.has_failed.store(true, Ordering::Release);
        SpoolFailure::Failed
    }

    /// A failure of the system since this was last called, as a log line. One load if there was none.
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
        self.spent(Resource::Bytes).load(Ordering::Relaxed)
    }

    fn max(&self, resource: Resource) -> u64 {
        self.max[resource as usize]
    }

    pub(super) fn spent(&self, resource: Resource) -> &AtomicU64 {
        match resource {
            Resource::Bytes => self.slot.worker(WorkerCell::SpooledBytes),
            Resource::Files => &self.files,
            Resource::Memory => &self.memory,
        }
    }

    fn spent_by_others(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Bytes => self.slot.sum_of_others(WorkerCell::SpooledBytes),
            Resource::Files | Resource::Memory => 0,
        }
    }

    // What is left for this process to have in all.
    fn room(&self, resource: Resource) -> u64 {
        self.max(resource).saturating_sub(self.spent_by_others(resource))
    }

    // Adds to a counter what it still has room for.
    fn spend(&self, resource: Resource, amount: u64) -> bool {
        let cell = self.spent(resource);
        let mut spent = cell.load(Ordering::SeqCst);
        loop {
            let Some(sum) = spent.checked_add(amount).filter(|sum| *sum <= self.room(resource)) else { return false };
            match cell.compare_exchange(spent, sum, Ordering::SeqCst, Ordering::SeqCst) {
                // Another worker may have spent the same room meanwhile; of two that do, at most one keeps it.
                Ok(_) if sum > self.room(resource) => {
                    cell.fetch_sub(amount, Ordering::SeqCst);
                    return false;
                }
                Ok(_) => return true,
                Err(changed) => spent = changed,
            }
        }
    }

    fn holders(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Holding>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Revokes the parts of clients that have been slow for longer than the grace, the slowest first, until there is room for
    // `amount` more. `false`: clients that are slower than the one that needs it, slow `since` then, have not as much; they
    // keep theirs.
    fn make_room(&self, resource: Resource, amount: u64, since: Option<Instant>) -> bool {
        let now = Instant::now();
        let holders = self.holders();
        let mut slow: Vec<_> = holders
            .values()
            .filter_map(|holder| {
                let share = holder.lock();
                let at = share.slow_since.filter(|at| since.is_none_or(|since| *at < since))?;
                let held = share.held[resource as usize];
                (held > 0 && now.saturating_duration_since(at) >= SLOW_CLIENT_GRACE).then_some((at, held, holder))
            })
            .collect();
        slow.sort_unstable_by_key(|(at, ..)| *at);
        let mut free = self.room(resource).saturating_sub(self.spent(resource).load(Ordering::Relaxed));
        let enough = slow.iter().position(|(_, held, _)| {
            free = free.saturating_add(*held);
            free >= amount
        });
        let Some(last) = enough else { return false };
        for (_, _, holder) in &slow[..=last] {
            if holder.revoke(self) {
                self.unreported.fetch_add(1, Ordering::Relaxed);
                self.revoked.fetch_add(1, Ordering::Release);
            }
        }
        true
    }

    /// How many parts were revoked so far.
    pub fn revoked(&self) -> u64 {
        self.revoked.load(Ordering::Acquire)
    }

    /// How many of them since this was last called.
    pub fn take_unreported(&self) -> u64 {
        self.unreported.swap(0, Ordering::Relaxed)
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    Bytes,
    Files,
    Memory,
}

// What one body or response has of a budget.
#[derive(Debug, Default)]
struct Holding {
    share: Mutex<Share>,
    is_revoked: AtomicBool,
}

#[derive(Debug, Default)]
struct Share {
    held: [u64; 3],
    // Since when the client that it waits for has been slow.
    slow_since: Option<Instant>,
    // The file, which loses its bytes with the share.
    file: Option<Arc<File>>,
}

impl Holding {
    fn lock(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // `false`: its client is not slow any more, and keeps all of it.
    fn revoke(&self, budget: &Budget) -> bool {
        let mut share = self.lock();
        if share.slow_since.is_none() {
            return false;
        }
        self.is_revoked.store(true, Ordering::Release);
        if let Some(file) = share.give_back(budget) {
            // Should it fail, the bytes are there until the file is closed.
            drop(file.set_len(0));
        }
        true
    }
}

impl Share {
    // Gives back all of it. Returns the file.
    fn give_back(&mut self, budget: &Budget) -> Option<Arc<File>> {
        let Self { held, file, .. } = std::mem::take(self);
        for resource in [Resource::Bytes, Resource::Files, Resource::Memory] {
            budget.spent(resource).fetch_sub(held[resource as usize], Ordering::SeqCst);
        }
        file
    }
}

// An entry among the holders, until this is dropped.
#[derive(Debug)]
struct Claim {
    budget: Arc<Budget>,
    number: u64,
    holding: Arc<Holding>,
}

impl Claim {
    fn new(budget: &Arc<Budget>) -> Self {
        let (number, holding) = (budget.number.fetch_add(1, Ordering::Relaxed), Arc::<Holding>::default());
        budget.holders().insert(number, Arc::clone(&holding));
        Self { budget: Arc::clone(budget), number, holding }
    }

    fn is_revoked(&self) -> bool {
        self.holding.is_revoked.load(Ordering::Acquire)
    }

    // `None`: it waits for no client. A slow one may lose its part.
    fn set_slow(&self, since: Option<Instant>) {
        self.holding.lock().slow_since = since;
    }

    fn take(&self, resource: Resource, amount: u64) -> Result<(), SpoolFailure> {
        loop {
            let since = {
                let mut share = self.holding.lock();
                if self.is_revoked() {
                    return Err(SpoolFailure::Revoked);
                }
                if self.budget.spend(resource, amount) {
                    share.held[resource as usize] += amount;
                    return Ok(());
                }
                share.slow_since
            };
            if !self.budget.make_room(resource, amount, since) {
                return Err(SpoolFailure::Full);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.holders().remove(&self.number);
        self.holding.lock().give_back(&self.budget);
    }
}

/// Why bytes could not be put into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFailure {
    /// The budget is spent.
    Full,
    /// It was given to another, because the client was slow.
    Revoked,
    /// The system refused.
    Failed,
}

impl From<SpoolFailure> for Reject {
    fn from(failure: SpoolFailure) -> Self {
        match failure {
            SpoolFailure::Full => Self::SpoolFull,
            SpoolFailure::Revoked => Self::BodyTimeout,
            SpoolFailure::Failed => Self::SpoolFailed,
        }
    }
}

/// An unlinked temporary file. What it holds is given back to the budget when it is closed.
#[derive(Debug)]
pub struct SpoolFile {
    file: Arc<File>,
    length: u64,
    claim: Claim,
}

impl SpoolFile {
    /// A new, empty one, for a client that has been slow since then, if it is.
    pub fn open(budget: &Arc<Budget>, slow_since: Option<Instant>) -> Result<Self, SpoolFailure> {
        let claim = Claim::new(budget);
        claim.set_slow(slow_since);
        claim.take(Resource::Files, 1)?;
        let file = Arc::new(tempfile::tempfile().map_err(|error| budget.fail(error))?);
        claim.holding.lock().file = Some(Arc::clone(&file));
        Ok(Self { file, length: 0, claim })
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Notes since when the client that fills or empties it has been slow; `None`: it waits for no client.
    pub fn set_slow(&self, since: Option<Instant>) {
        self.claim.set_slow(since);
    }

    /// Whether it was emptied in favour of another, because its client was slow.
    pub fn is_revoked(&self) -> bool {
        self.claim.is_revoked()
    }

    /// Puts `bytes` behind those that are there. After a failure the file ends somewhere within them.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolFailure> {
        self.claim.take(Resource::Bytes, bytes.len() as u64)?;
        self.length += bytes.len() as u64;
        (&*self.file).write_all(bytes).map_err(|error| self.claim.budget.fail(error))
    }

    /// Goes back to the beginning, to be read.
    pub(super) fn rewind(&mut self) -> Result<(), SpoolFailure> {
        (&*self.file).seek(SeekFrom::Start(0)).map(drop).map_err(|error| self.claim.budget.fail(error))
    }
}

impl Read for SpoolFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self.file).read(into)
    }
}

/// Memory that a body has beyond its own `body_buffer`, until the body is dropped.
#[derive(Debug, Default)]
pub struct MemoryReservation {
    bytes: u64,
    claim: Option<Claim>,
}

impl MemoryReservation {
    /// Reserves more, so that it is `bytes` in all, for a client that has been slow since then, if it is.
    pub(super) fn grow(
        &mut self,
        bytes: u64,
        budget: &Arc<Budget>,
        slow_since: Option<Instant>,
    ) -> Result<(), SpoolFailure> {
        let more = bytes.saturating_sub(self.bytes);
        let claim = self.claim.get_or_insert_with(|| Claim::new(budget));
        claim.set_slow(slow_since);
        claim.take(Resource::Memory, more)?;
        self.bytes += more;
        Ok(())
    }

    /// As [`SpoolFile::set_slow`].
    pub(super) fn set_slow(&self, since: Option<Instant>) {
        if let Some(claim) = &self.claim {
            claim.set_slow(since);
        }
    }

    /// As [`SpoolFile::is_revoked`].
    pub(super) fn is_revoked(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::is_revoked)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_share_a_budget_and_give_it_back() {
        let budget = Arc::new(Budget::new(10, 2, 0));
        let mut first = SpoolFile::open(&budget, None).unwrap();
        let mut second = SpoolFile::open(&budget, None).unwrap();
        assert_eq!(SpoolFile::open(&budget, None).unwrap_err(), SpoolFailure::Full);
        first.append(b"sixsix").unwrap();
        assert_eq!(second.append(b"fiver"), Err(SpoolFailure::Full));
        second.append(b"four").unwrap();
        drop(first);
        assert_eq!(budget.bytes(), 4);
        second.append(b"sixsix").unwrap();
        drop(second);
        assert_eq!((budget.bytes(), budget.spent(Resource::Files).load(Ordering::Relaxed)), (0, 0));
    }

    // Files with `bytes` each, whose clients have been slow for so many seconds.
    fn slow_files<const N: usize>(budget: &Arc<Budget>, bytes: usize, seconds: [u64; N]) -> [SpoolFile; N] {
        let now = Instant::now();
        seconds.map(|seconds| {
            let mut file = SpoolFile::open(budget, None).unwrap();
            file.append(&vec![b'x'; bytes]).unwrap();
            file.set_slow(now.checked_sub(Duration::from_secs(seconds)));
            file
        })
    }

    #[test]
    fn full_budget_revokes_the_parts_of_the_slowest_clients_first() {
        let budget = Arc::new(Budget::new(40, 5, 0));
        let files = slow_files(&budget, 10, [4, 100, 1, 50]);
        let revoked = || files.each_ref().map(SpoolFile::is_revoked);
        let mut newcomer = SpoolFile::open(&budget, None).unwrap();
        newcomer.append(b"12345").unwrap();
        assert_eq!((revoked(), budget.bytes()), ([false, true, false, false], 35));
        assert_eq!(files[1].file().metadata().unwrap().len(), 0, "its bytes are not on the disk any more");
        newcomer.append(&[b'x'; 15]).unwrap();
        assert_eq!((revoked(), budget.bytes()), ([false, true, false, true], 40));
        assert_eq!((budget.revoked(), budget.take_unreported(), budget.take_unreported()), (2, 2, 0));
        drop((newcomer, files));
        assert_eq!((budget.bytes(), budget.spent(Resource::Files).load(Ordering::Relaxed)), (0, 0));
        assert!(budget.holders().is_empty());
    }

    #[test]
    fn files_that_are_all_taken_go_to_a_newcomer_and_bytes_that_would_not_do_stay() {
        let budget = Arc::new(Budget::new(40, 2, 0));
        let files = slow_files(&budget, 10, [100, 50]);
        let mut newcomer = SpoolFile::open(&budget, None).unwrap();
        assert_eq!(files.each_ref().map(SpoolFile::is_revoked), [true, false]);
        // Thirty are to be had at the most.
        newcomer.set_slow(None);
        newcomer.append(&[b'x'; 20]).unwrap();
        assert_eq!(newcomer.append(&[b'x'; 21]), Err(SpoolFailure::Full));
        assert!(!files[1].is_revoked(), "nothing would be gained");
    }

    #[test]
    fn slow_newcomer_takes_from_slower_clients_only() {
        let budget = Arc::new(Budget::new(10, 2, 0));
        let [mut slow, mut slowest] = slow_files(&budget, 5, [10, 20]);
        assert_eq!(slowest.append(b"!"), Err(SpoolFailure::Full));
        slow.append(b"!").unwrap();
        assert_eq!((slowest.append(b"!"), slow.append(b"1234")), (Err(SpoolFailure::Revoked), Ok(())));
    }

    #[test]
    fn bytes_are_bounded_for_all_workers_together_and_files_for_each() {
        let page = Arc::new(crate::engine::page::CounterPage::private(2, 1));
        let [one, two] = [(); 2].map(|()| {
            let slot = PageSlot::new(Arc::clone(&page), page.take_slot(1).unwrap()).unwrap();
            Arc::new(Budget::on(slot, [10, 1, 0]))
        });
        let mut first = SpoolFile::open(&one, None).unwrap();
        let mut second = SpoolFile::open(&two, None).unwrap();
        first.append(b"sixsix").unwrap();
        assert_eq!(second.append(b"fiver"), Err(SpoolFailure::Full));
        second.append(b"four").unwrap();
        assert_eq!(page.workers().iter().map(|worker| worker.spooled_bytes).collect::<Vec<_>>(), [6, 4]);
        // The worker of the first was killed.
        page.release_slot(0);
        second.append(b"sixsix").unwrap();
        assert_eq!((second.append(b"!"), two.bytes()), (Err(SpoolFailure::Full), 10));
        drop(second);
        assert_eq!(two.bytes(), 0);
    }

    #[test]
    fn failure_of_the_system_is_reported_once_with_its_folder() {
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
}
