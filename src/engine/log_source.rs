//! Where the access log goes. Each run of a server starts a log of its own from it, because the thread that writes the log
//! must not be older than the process that the run is in: threads do not survive a fork.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::access_log::{AccessLog, Descriptor, Excluded, Format, LogTarget};
use crate::engine::report::Reporter;

/// The configuration of an access log.
pub struct LogSource {
    // What reports call the log.
    name: String,
    // Absolute, because the program may change its directory. `None`: standard output.
    path: Option<PathBuf>,
    format: Format,
    excluded: Excluded,
    // The file as it was opened with the server, for its first run.
    opened: Mutex<Option<Box<dyn LogTarget>>>,
}

impl LogSource {
    /// A log on standard output.
    pub fn stdout(format: Format, excluded: Excluded) -> Self {
        let name = "the access log on standard output".to_owned();
        Self { name, path: None, format, excluded, opened: Mutex::new(None) }
    }

    /// A log in a file, which is opened now: a mistake in its path shows at once, and the process may lose the right to open it
    /// before the first run starts.
    pub fn file(path: &Path, format: Format, excluded: Excluded) -> io::Result<Self> {
        let (name, path) = (format!("the access log {}", path.display()), std::path::absolute(path)?);
        let opened = Mutex::new(Some(AccessLog::open(&path)?));
        Ok(Self { name, path: Some(path), format, excluded, opened })
    }

    /// Opens what the log of the next run is written to.
    pub fn open(&self) -> io::Result<Box<dyn LogTarget>> {
        let Some(path) = &self.path else { return Ok(Box::new(Descriptor::new(io::stdout()))) };
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        opened.map_or_else(|| AccessLog::open(path), Ok)
    }

    /// Starts the log of one run, with a thread that writes it to `target`. An error means that the system has no more threads.
    pub fn start(&self, target: Box<dyn LogTarget>, reporter: Arc<dyn Reporter>) -> io::Result<AccessLog> {
        let (format, excluded) = (self.format.clone(), self.excluded.clone());
        let log = AccessLog::start(target, self.name.clone(), format, excluded, reporter)?;
        Ok(match &self.path {
            Some(path) => log.at(path.clone()),
            None => log,
        })
    }

    /// What reports call the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next run opens the file anew, which may have been moved.
    pub fn reopen(&self) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::observe::{Observer, Record};
    use crate::engine::testkit::doubles::Notebook;

    #[test]
    fn each_run_has_a_log_of_its_own_in_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
        let source = LogSource::file(&path, Format::parse("%U").unwrap(), Excluded::default()).unwrap();
        let run = |request: &str| {
            let log = source.start(source.open().unwrap(), Arc::<Notebook>::default()).unwrap();
            log.finished(&Record::sample(request));
            log.end();
            // Nothing writes it any more.
            log.finished(&Record::sample("/late"));
        };
        std::fs::rename(&path, &moved).unwrap();
        run("/first");
        run("/second");
        std::fs::rename(&path, folder.path().join("other")).unwrap();
        source.reopen();
        run("/third");
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "/first\n", "the file that was opened with the server");
        assert_eq!(std::fs::read_to_string(folder.path().join("other")).unwrap(), "/second\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "/third\n");
    }

    #[test]
    fn file_that_was_moved_before_the_first_run_is_left_when_the_log_is_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let source = LogSource::file(&path, Format::parse("%U").unwrap(), Excluded::default()).unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        source.reopen();
        let log = source.start(source.open().unwrap(), Arc::<Notebook>::default()).unwrap();
        log.finished(&Record::sample("/first"));
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "/first\n");
    }
}
