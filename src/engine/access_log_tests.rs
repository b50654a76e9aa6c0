use std::collections::VecDeque;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::engine::observe::Cause;
use crate::engine::testkit::doubles::Notebook;
use crate::http::head::Received;
use crate::http::reject::Reject;

/// A target that does what it is told, and then takes all.
#[derive(Default)]
struct Script {
    outcomes: VecDeque<Result<usize, io::ErrorKind>>,
    always: Option<io::ErrorKind>,
    written: Vec<u8>,
    calls: usize,
}

#[derive(Clone, Default)]
struct Double(Arc<Mutex<Script>>);

impl Double {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.script().written.clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "half a line");
        text.lines().map(str::to_owned).collect()
    }
}

impl LogTarget for Double {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut script = self.script();
        script.calls += 1;
        let outcome = script.outcomes.pop_front().unwrap_or(script.always.map_or(Ok(usize::MAX), Err));
        if let Ok(count) = outcome {
            let count = count.min(bytes.len());
            script.written.extend_from_slice(&bytes[..count]);
            return Ok(count);
        }
        drop(script);
        std::thread::yield_now();
        outcome.map_err(Into::into)
    }
}

fn log(target: impl LogTarget + 'static) -> (AccessLog, Arc<Notebook>) {
    let notebook = Arc::<Notebook>::default();
    let format = Format::parse("%U").unwrap();
    let name = "the log".to_owned();
    let reporter = Arc::clone(&notebook) as _;
    (AccessLog::start(Box::new(target), name, format, Excluded::default(), reporter).unwrap(), notebook)
}

fn reports(notebook: &Notebook) -> Vec<String> {
    notebook.0.lock().unwrap().clone()
}

// What was reported as lost, in all.
fn lost(notebook: &Notebook) -> usize {
    let number = |report: &String| {
        let (before, _) = report.split_once(" line")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    };
    reports(notebook).iter().filter_map(number).sum()
}

#[test]
fn lines_stay_whole_and_in_order_whatever_the_target_takes() {
    let names: Vec<_> = (0..50).map(|number| format!("/{number}")).collect();
    for outcome in [
        Ok(1),
        Ok(0),
        Err(io::ErrorKind::WouldBlock),
        Err(io::ErrorKind::Interrupted),
        Err(io::ErrorKind::StorageFull),
        Err(io::ErrorKind::BrokenPipe),
    ] {
        let double = Double::default();
        // Short writes between, so that it meets beginnings and middles of lines.
        double.script().outcomes = (1..12).flat_map(|count| [outcome, Ok(count)]).collect();
        let (log, notebook) = log(double.clone());
        for name in &names {
            log.finished(&Record::sample(name));
        }
        log.flush_for(10 * PATIENCE);
        drop(log);
        assert_eq!(double.lines(), names, "{outcome:?}");
        let failed = !matches!(outcome, Ok(1) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted));
        let reports = reports(&notebook);
        assert_eq!(reports.len(), if failed { 2 } else { 0 }, "{outcome:?}: {reports:?}");
        if failed {
            assert!(reports[0].starts_with("the log cannot be written: "), "{reports:?}");
            assert_eq!(reports[1], "the log is written again; no line was lost");
        }
    }
}

#[test]
fn lines_beyond_the_buffer_are_lost_whole_and_counted() {
    for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::StorageFull] {
        let double = Double::default();
        double.script().outcomes.push_back(Ok(10));
        double.script().always = Some(kind);
        let (log, notebook) = log(double.clone());
        let path = format!("/{}", "x".repeat(100_000));
        let record = Record::sample(&path);
        for _ in 0..200 {
            log.finished(&record);
        }
        double.script().always = None;
        log.flush_for(PATIENCE);
        log.finished(&record);
        drop(log);
        let lines = double.lines();
        assert!(lines.iter().all(|line| *line == path), "{kind:?}");
        assert_eq!(lines.len() + lost(&notebook), 201, "{kind:?}: {:?}", reports(&notebook));
        assert!(lines.len() < 100, "{kind:?}: the memory is bounded");
    }
}

#[test]
fn lines_that_cannot_be_written_until_the_end_are_counted() {
    for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::StorageFull] {
        let double = Double::default();
        double.script().outcomes.push_back(Ok(5));
        double.script().always = Some(kind);
        let (log, notebook) = log(double.clone());
        for name in ["/one", "/two", "/three"] {
            log.finished(&Record::sample(name));
            log.flush_for(Duration::from_millis(20));
        }
        drop(log);
        // Half a line may stand at the very end: nothing follows it.
        assert!("/one\n/two\n/three\n".as_bytes().starts_with(&double.script().written));
        let whole = usize::try_from(count_lines(&double.script().written)).unwrap();
        assert_eq!(whole + lost(&notebook), 3);
        let failures = reports(&notebook).iter().filter(|report| report.contains("cannot be written")).count();
        assert_eq!(failures, usize::from(kind == io::ErrorKind::StorageFull), "{:?}", reports(&notebook));
    }
}

#[test]
fn failure_is_not_tried_again_at_once() {
    let double = Double::default();
    double.script().always = Some(io::ErrorKind::StorageFull);
    let (log, _) = log(double.clone());
    let began = Instant::now();
    for name in ["/one", "/two"] {
        log.finished(&Record::sample(name));
        log.flush_for(Duration::from_millis(50));
    }
    let tries = began.elapsed().as_millis() / RETRY.as_millis();
    let calls = double.script().calls;
    assert!(calls as u128 <= tries + 4, "{calls} calls, {tries} tries");
}

/// A target that never comes back.
struct Hanging(std::sync::mpsc::Receiver<()>);

impl LogTarget for Hanging {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn end_does_not_wait_for_a_target_that_hangs() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (log, notebook) = log(Hanging(receiver));
    log.finished(&Record::sample("/one"));
    log.flush_for(Duration::from_millis(50));
    log.finished(&Record::sample("/two"));
    let began = Instant::now();
    drop(log);
    assert!(began.elapsed() < 2 * PATIENCE);
    assert_eq!(reports(&notebook), ["2 lines of the log were lost: it takes nothing any more"]);
    drop(sender);
}

#[test]
fn descriptor_of_a_pipe_that_is_full_is_no_failure_whether_it_blocks_or_not() {
    for blocks in [false, true] {
        let flags = if blocks { SocketFlags::empty() } else { SocketFlags::NONBLOCK };
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let mut target = Descriptor::new(ours);
        let block = vec![b'x'; 100_000];
        let mut written = 0;
        let full = loop {
            match target.write(&block) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
            assert!(written < 100 << 20, "it is never full");
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(target.write(&block).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn excluded_paths_cover_whole_paths_and_beginnings() {
    let excluded = Excluded(vec!["/a".to_owned(), "/b*".to_owned()]);
    let unread = Record { request: Received::Line(b"GET /a".to_vec()), ..Record::sample("/a") };
    for (path, expected) in [("/a", true), ("/a/", false), ("/b", true), ("/bc?d", true), ("/", false)] {
        assert_eq!(excluded.covers(&Record::sample(path)), expected, "{path}");
    }
    assert!(!excluded.covers(&unread));
    assert!(Excluded(vec!["*".to_owned()]).covers(&unread));
}

#[test]
fn refused_record_says_what_is_known() {
    let refused = Record {
        request: Received::Line(b"GET /a\" \x1b".to_vec()),
        status: 400,
        cause: Some(Cause::Refused(Reject::MethodMalformed)),
        ..Record::sample("/")
    };
    let mut out = Vec::new();
    let format = Format::parse("%h \"%r\" %m %U %q %H %s %B %{Referer}i %X %{reason}x").unwrap();
    format.write(&refused, &mut Stamp::default(), &mut out);
    let expected = b"unix \"GET /a\\\" \\x1b\" - -  - 400 5 - + the method is not a token\n";
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    out.clear();
    let unread = Record { request: Received::Line(Vec::new()), status: 0, complete: false, ..Record::sample("/") };
    Format::parse("%r %s %X %{reason}x").unwrap().write(&unread, &mut Stamp::default(), &mut out);
    assert_eq!(out, b"- - X -\n");
}
