//! The access log: lines, written by a thread of its own, so that neither a request nor the interpreter ever waits for a disk
//! or a pipe.
//!
//! Lines stay in order, and whole: what a target has taken the beginning of is the first thing it gets when it takes bytes
//! again. What finds no room while it takes none is lost as whole lines, counted, and reported.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memrchr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

use crate::engine::log_format::Stamp;
pub use crate::engine::log_format::{COMBINED, DIRECTIVES, Format};
use crate::engine::observe::{Observer, Record};
use crate::engine::report::{Reporter, Severity};
use crate::engine::thread::spawn;
use crate::http::head::RequestHead;

/// Lines that wait for a log that cannot be written take at most this much memory; what comes then is lost and counted.
const BUFFER: usize = 8 << 20;
/// Memory that is kept for the next lines.
const KEPT: usize = 1 << 20;
/// Lines are gathered for this long, so that a busy server writes few and large pieces.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end waits for a log that does not take its last lines, and how much of that the writer may use.
const PATIENCE: Duration = Duration::from_secs(2);
const LAST_TRY: Duration = Duration::from_millis(1500);
/// How long one write waits for a pipe that is full.
const WRITE_WAIT: Duration = Duration::from_millis(50);
/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });
/// How often lines that a slow target costs are reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// A pipe that polls as writable takes this much without blocking, and in one piece among those of other processes (`PIPE_BUF` of
/// Linux): whole lines of no more than this stay whole there.
const PIPE_BYTES: usize = 4096;

/// Paths that are not logged: a whole path, or a beginning of one followed by `*`.
#[derive(Clone, Debug, Default)]
pub struct Excluded(pub Vec<String>);

impl Excluded {
    // A request whose line is not valid has no path.
    fn covers(&self, record: &Record) -> bool {
        let path = record.request.head().map(RequestHead::path);
        self.0.iter().any(|pattern| match (pattern.strip_suffix('*'), path) {
            (Some(prefix), path) => path.unwrap_or_default().starts_with(prefix.as_bytes()),
            (None, path) => path == Some(pattern.as_bytes()),
        })
    }
}

/// Where lines are written to.
pub trait LogTarget: Send {
    /// Writes some of `bytes`, and waits for a moment at most. `WouldBlock`: it takes none for now.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// A file, a pipe or whatever else a descriptor stands for. That of a pipe may block or not: it is shared with other
/// processes, whose decision that is.
pub struct Descriptor<D> {
    descriptor: D,
    is_file: bool,
}

impl<D: AsFd> Descriptor<D> {
    /// Writes to this one.
    pub fn new(descriptor: D) -> Self {
        let is_file = fstat(&descriptor).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Self { descriptor, is_file }
    }
}

impl<D: AsFd + Send> LogTarget for Descriptor<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_file {
            return Ok(rustix::io::write(&self.descriptor, bytes)?);
        }
        let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::OUT)];
        let wait = Timespec::try_from(WRITE_WAIT).ok();
        if poll(&mut descriptors, wait.as_ref())? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let share = &bytes[..bytes.len().min(PIPE_BYTES)];
        let lines = memrchr(b'\n', share).map_or(share.len(), |at| at + 1);
        Ok(rustix::io::write(&self.descriptor, &share[..lines])?)
    }
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    stamp: Stamp,
    // What the writer has taken and not written.
    taken: Taken,
    lost: u64,
    state: State,
    // What the next lines are written to, if that is something else than before.
    target: Option<Box<dyn LogTarget>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    bytes: usize,
    count: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    // A caller waits for what is there to be written.
    Hurried,
    Closed,
    Done,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The observer that writes the log. Its end, or else dropping it, writes what is left.
pub struct AccessLog {
    format: Format,
    excluded: Excluded,
    shared: Arc<Shared>,
    // Taken when the log ends.
    writer: Mutex<Option<JoinHandle<()>>>,
    name: String,
    // The file's path; none for a log that is no file.
    path: Option<PathBuf>,
    reporter: Arc<dyn Reporter>,
}

impl AccessLog {
    /// Starts the writing thread. Reports call the target by its `name`.
    pub fn start(
        target: Box<dyn LogTarget>,
        name: String,
        format: Format,
        excluded: Excluded,
        reporter: Arc<dyn Reporter>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            target,
            name: name.clone(),
            reporter: Arc::clone(&reporter),
            bytes: Vec::new(),
            at: 0,
            lost: 0,
            failing: false,
            reported: None,
            until: None,
        };
        let writer = spawn("wsgi-access-log".to_owned(), move || writer.run())?;
        Ok(Self { format, excluded, shared, writer: Mutex::new(Some(writer)), name, path: None, reporter })
    }

    /// Where its file is, so that it can be opened anew.
    #[must_use]
    pub fn at(mut self, path: PathBuf) -> Self {
        self.path = Some(path);
        self
    }

    /// Opens a log's file, or makes it; lines are appended.
    pub fn open(path: &Path) -> io::Result<Box<dyn LogTarget>> {
        Ok(Box::new(Descriptor::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }
}

impl Observer for AccessLog {
    fn finished(&self, record: &Record) {
        if self.excluded.covers(record) {
            return;
        }
        let mut lines = self.shared.lines();
        if matches!(lines.state, State::Closed | State::Done) {
            return;
        }
        let Lines { bytes, stamp, taken, lost, .. } = &mut *lines;
        if bytes.len() + taken.bytes > BUFFER {
            *lost += 1;
            return;
        }
        let first = bytes.is_empty();
        self.format.write(record, stamp, bytes);
        drop(lines);
        if first {
            self.shared.changed.notify_all();
        }
    }

    fn reopen(&self) {
        let Some(path) = &self.path else { return };
        if self.writer().is_none() {
            return;
        }
        match Self::open(path) {
            Ok(file) => {
                self.shared.lines().target = Some(file);
                self.shared.changed.notify_all();
                self.reporter.report(Severity::Info, &format!("the access log {} was reopened", path.display()));
            }
            Err(error) => {
                let path = path.display();
                let message = format!("cannot reopen the access log {path}: {error}; it goes on in the file it has");
                self.reporter.report(Severity::Error, &message);
            }
        }
    }

    fn flush(&self) {
        self.flush_for(PATIENCE);
    }

    fn end(&self) {
        // Held until the last line is written: a second call waits for the first.
        let mut held = self.writer();
        let Some(writer) = held.take() else { return };
        if self.ask(State::Closed, PATIENCE, |lines| lines.state == State::Done) {
            // Its panic, should there be one, has been reported by the panic itself.
            drop(writer.join());
            return;
        }
        // It hangs in a write that neither ends nor fails.
        let lines = self.shared.lines();
        let lost = lines.lost + lines.taken.count + count_lines(&lines.bytes);
        drop(lines);
        report_lost(&*self.reporter, lost, &self.name, "it takes nothing any more");
    }
}

impl AccessLog {
    fn writer(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_for(&self, patience: Duration) {
        self.ask(State::Hurried, patience, |lines| lines.bytes.is_empty() && lines.taken.bytes == 0);
    }

    // Asks the writer for something, and waits until that is so.
    fn ask(&self, state: State, patience: Duration, until: impl Fn(&Lines) -> bool) -> bool {
        let mut lines = self.shared.lines();
        if matches!(lines.state, State::Closed | State::Done) {
            return until(&lines);
        }
        lines.state = state;
        self.shared.changed.notify_all();
        let waiting = |lines: &mut Lines| !until(lines);
        let (mut lines, _) =
            self.shared.changed.wait_timeout_while(lines, patience, waiting).unwrap_or_else(PoisonError::into_inner);
        if lines.state == State::Hurried {
            lines.state = State::Open;
        }
        until(&lines)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.end();
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

fn report_lost(reporter: &dyn Reporter, lost: u64, name: &str, why: &str) {
    let lines = if lost == 1 { "line" } else { "lines" };
    reporter.report(Severity::Warning, &format!("{lost} {lines} of {name} were lost: {why}"));
}

// The writing thread.
struct Writer {
    shared: Arc<Shared>,
    target: Box<dyn LogTarget>,
    name: String,
    reporter: Arc<dyn Reporter>,
    // Whole lines, the last ones taken, and how many of their bytes are written.
    bytes: Vec<u8>,
    at: usize,
    // Lines lost and not reported.
    lost: u64,
    // The last write failed, other than for a moment.
    failing: bool,
    reported: Option<Instant>,
    // When the end gives up.
    until: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        while self.take_lines() {
            if self.at == self.bytes.len() {
                // The log was reopened, and there is nothing to write.
                continue;
            }
            match self.target.write(&self.bytes[self.at..]) {
                Ok(count @ 1..) => self.advance(count),
                Ok(_) => self.fail(&io::ErrorKind::WriteZero.into()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    self.note_loss();
                }
                Err(error) => self.fail(&error),
            }
        }
        self.finish();
    }

    // Waits for lines, unless some are left. `false`: it is time to end.
    fn take_lines(&mut self) -> bool {
        let mut lines = self.shared.lines();
        if self.at == self.bytes.len() {
            lines.taken = Taken::default();
            self.shared.changed.notify_all();
            let idle =
                |lines: &mut Lines| lines.bytes.is_empty() && lines.target.is_none() && lines.state != State::Closed;
            lines = self.shared.changed.wait_while(lines, idle).unwrap_or_else(PoisonError::into_inner);
            // A moment more gathers what a busy server adds; the end does not wait for it.
            let gathering = |lines: &mut Lines| lines.state == State::Open;
            (lines, _) = self
                .shared
                .changed
                .wait_timeout_while(lines, GATHER, gathering)
                .unwrap_or_else(PoisonError::into_inner);
            // What was written last makes room for what is to come, unless there was unusually much.
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.at = 0;
            std::mem::swap(&mut lines.bytes, &mut self.bytes);
            lines.taken = Taken { bytes: self.bytes.len(), count: count_lines(&self.bytes) };
        }
        self.lost += std::mem::take(&mut lines.lost);
        // Lines that the last target takes are finished there; one that it has taken in part and takes no more of begins anew.
        if self.at == 0 || self.failing {
            if let Some(target) = lines.target.take() {
                self.target = target;
                self.at = memrchr(b'\n', &self.bytes[..self.at]).map_or(0, |end| end + 1);
            }
        }
        if lines.state != State::Closed {
            return true;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + LAST_TRY);
        !self.bytes.is_empty() && Instant::now() < until
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        if self.at < self.bytes.len() {
            return;
        }
        if std::mem::take(&mut self.failing) {
            let Self { name, lost, .. } = &*self;
            let (severity, loss) = match lost {
                0 => (Severity::Info, "no line was lost".to_owned()),
                1 => (Severity::Warning, "1 line was lost".to_owned()),
                lost => (Severity::Warning, format!("{lost} lines were lost")),
            };
            self.reporter.report(severity, &format!("{name} is written again; {loss}"));
            self.lost = 0;
        }
        self.note_loss();
    }

    // Reports now and then what was lost to a target that is slow.
    fn note_loss(&mut self) {
        let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if self.lost > 0 && due && !self.failing {
            report_lost(&*self.reporter, std::mem::take(&mut self.lost), &self.name, "it takes them too slowly");
            self.reported = Some(Instant::now());
        }
    }

    // Reports the first of a row of failures, and waits until another try makes sense.
    fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let message = format!(
                "{} cannot be written: {error}; lines are kept until it can, up to {} MiB of them",
                self.name,
                BUFFER >> 20
            );
            self.reporter.report(Severity::Error, &message);
        }
        if self.until.is_some() {
            // The end has no time for another try.
            self.until = Some(Instant::now());
            return;
        }
        let lines = self.shared.lines();
        let state = lines.state;
        let same = |lines: &mut Lines| lines.state == state && lines.target.is_none();
        drop(self.shared.changed.wait_timeout_while(lines, RETRY, same));
    }

    fn finish(mut self) {
        let mut lines = self.shared.lines();
        self.lost += lines.lost + count_lines(&self.bytes[self.at..]) + count_lines(&lines.bytes);
        *lines = Lines { state: State::Closed, ..Lines::default() };
        drop(lines);
        if self.lost > 0 {
            let why = if self.failing { "it could not be written at the end" } else { "it takes them too slowly" };
            report_lost(&*self.reporter, self.lost, &self.name, why);
        }
        self.shared.lines().state = State::Done;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
