//! The access log: Apache's formats, written by a thread of its own, so that neither a request nor the interpreter ever
//! waits for a disk or a pipe.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::clock::time_of_day;
use super::gateway::{Reporter, Severity};
use super::observe::{Observer, Record};
use super::server::spawn;
use crate::http::date::common_log;
use crate::http::head::Version;
use crate::http::number::Decimal;
use crate::http::origin::Client;

/// Apache's combined format, the default.
pub const COMBINED: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;

/// Lines that wait for a log that cannot be written take at most this much memory; what comes then is lost and counted.
const BUFFER: usize = 8 << 20;
/// Memory that is kept for the next lines.
const KEPT: usize = 1 << 20;
/// Lines are gathered for this long, so that a busy server writes few and large pieces.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end waits for a log that does not take its last lines.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Text(Vec<u8>),
    RemoteHost,
    RemotePort,
    Dash,
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Size { dash: bool },
    Microseconds,
    Milliseconds,
    Seconds,
    Field(Vec<u8>),
    ConnectionStatus,
}

/// A log format, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Atom>);

impl Format {
    /// Reads a format in Apache's notation; the error is the directive that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut atoms = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            if at > 0 {
                atoms.push(Atom::Text(rest.as_bytes()[..at].to_vec()));
            }
            let (atom, length) = directive(&rest[at..]).ok_or_else(|| {
                let end = rest[at..].find([' ', '"']).unwrap_or(rest.len() - at);
                rest[at..at + end].to_owned()
            })?;
            atoms.push(atom);
            rest = &rest[at + length..];
        }
        if !rest.is_empty() {
            atoms.push(Atom::Text(rest.as_bytes().to_vec()));
        }
        Ok(Self(atoms))
    }

    fn write(&self, record: &Record, stamps: &mut Stamps, out: &mut Vec<u8>) {
        for atom in &self.0 {
            write_atom(atom, record, stamps, out);
        }
        out.push(b'\n');
    }
}

// The directive that `text`, which begins with `%`, begins with, and its length.
fn directive(text: &str) -> Option<(Atom, usize)> {
    if let Some(named) = text.strip_prefix("%{") {
        let (name, after) = named.split_once('}')?;
        let length = 2 + name.len() + 1;
        return match (name, after.chars().next()?) {
            ("s", 'T') => Some((Atom::Seconds, length + 1)),
            ("ms", 'T') => Some((Atom::Milliseconds, length + 1)),
            ("us", 'T') => Some((Atom::Microseconds, length + 1)),
            ("remote", 'p') => Some((Atom::RemotePort, length + 1)),
            (_, 'i') if !name.is_empty() => Some((Atom::Field(name.as_bytes().to_ascii_lowercase()), length + 1)),
            _ => None,
        };
    }
    if text.starts_with("%>s") {
        return Some((Atom::Status, 3));
    }
    let atom = match text.chars().nth(1)? {
        '%' => Atom::Text(b"%".to_vec()),
        'h' | 'a' => Atom::RemoteHost,
        'l' | 'u' => Atom::Dash,
        't' => Atom::Time,
        'r' => Atom::RequestLine,
        'm' => Atom::Method,
        'U' => Atom::Path,
        'q' => Atom::Query,
        'H' => Atom::Protocol,
        's' => Atom::Status,
        'b' => Atom::Size { dash: true },
        'B' => Atom::Size { dash: false },
        'D' => Atom::Microseconds,
        'T' => Atom::Seconds,
        'X' => Atom::ConnectionStatus,
        _ => return None,
    };
    Some((atom, 2))
}

fn write_atom(atom: &Atom, record: &Record, stamps: &mut Stamps, out: &mut Vec<u8>) {
    let mut number = |value: u64| out.extend_from_slice(Decimal::new(value).as_bytes());
    match atom {
        Atom::Text(text) => out.extend_from_slice(text),
        Atom::RemoteHost => match record.client {
            Client::Ip(ip, _) => out.extend_from_slice(stamps.client(ip)),
            Client::Local => out.extend_from_slice(b"unix"),
            Client::Unknown => out.push(b'-'),
        },
        Atom::RemotePort => match record.client {
            Client::Ip(_, Some(port)) => number(port.into()),
            _ => number(0),
        },
        Atom::Dash => out.push(b'-'),
        Atom::Time => {
            out.push(b'[');
            out.extend_from_slice(stamps.time(record.started));
            out.push(b']');
        }
        Atom::RequestLine => escape(record.request.request_line(), out),
        Atom::Method => escape(record.request.method(), out),
        Atom::Path => escape(record.request.path(), out),
        Atom::Query => {
            if !record.request.query().is_empty() {
                out.push(b'?');
                escape(record.request.query(), out);
            }
        }
        Atom::Protocol => out.extend_from_slice(match record.request.version() {
            Version::Http10 => b"HTTP/1.0",
            Version::Http11 => b"HTTP/1.1",
        }),
        Atom::Status => number(record.status.into()),
        Atom::Size { dash: true } if record.body_bytes == 0 => out.push(b'-'),
        Atom::Size { .. } => number(record.body_bytes),
        Atom::Microseconds => number(u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX)),
        Atom::Milliseconds => number(u64::try_from(record.took.as_millis()).unwrap_or(u64::MAX)),
        Atom::Seconds => number(record.took.as_secs()),
        Atom::Field(name) => match record.request.value(name) {
            Some(value) if !value.is_empty() => escape(value, out),
            _ => out.push(b'-'),
        },
        Atom::ConnectionStatus => out.push(if record.complete { b'+' } else { b'X' }),
    }
}

// What is the same in most lines of one second, as text.
#[derive(Default)]
struct Stamps {
    second: Option<Second>,
    client: Option<(IpAddr, Vec<u8>)>,
}

// A second of the time of day.
struct Second {
    begins: Instant,
    ends: Instant,
    text: [u8; 26],
}

impl Second {
    // The one that has this moment in it. Should somebody set the time of day, that is followed within a second.
    fn of(moment: Instant) -> Self {
        let time = time_of_day().checked_sub(moment.elapsed()).unwrap_or(UNIX_EPOCH);
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let gone = Duration::from_nanos(since.subsec_nanos().into());
        let begins = moment.checked_sub(gone).unwrap_or(moment);
        Self { begins, ends: begins + Duration::from_secs(1), text: common_log(since.as_secs()) }
    }
}

impl Stamps {
    fn time(&mut self, moment: Instant) -> &[u8; 26] {
        let known = self.second.take().filter(|second| second.begins <= moment && moment < second.ends);
        &self.second.insert(known.unwrap_or_else(|| Second::of(moment))).text
    }

    fn client(&mut self, ip: IpAddr) -> &[u8] {
        let known = self.client.take().filter(|(last, _)| *last == ip);
        &self.client.insert(known.unwrap_or_else(|| (ip, ip.to_string().into_bytes()))).1
    }
}

// As Apache does it: nothing that a client sends can end a quoted item, a line, or reach a terminal as a control.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Counted to the last byte, whatever comes first, so that the compiler looks at many at a time.
    let is_special = |byte: u8| !matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    if bytes.iter().map(|&byte| usize::from(is_special(byte))).sum::<usize>() == 0 {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(&digits);
            }
        }
    }
}

/// Paths that are not logged: a whole path, or a beginning of one followed by `*`.
#[derive(Clone, Debug, Default)]
pub struct Excluded(pub Vec<String>);

impl Excluded {
    fn covers(&self, path: &[u8]) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix.as_bytes()),
            None => path == pattern.as_bytes(),
        })
    }
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    stamps: Stamps,
    lost: u64,
    writing: bool,
    state: State,
    // What the next lines are written to, if that is something else than before.
    target: Option<Box<dyn Write + Send>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    // Somebody waits for what is there to be written.
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

/// The observer that writes the log. Dropping it writes what is left.
pub struct AccessLog {
    format: Format,
    excluded: Excluded,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    // The file's path, and who learns that it cannot be opened; neither for a log that is no file.
    path: Option<PathBuf>,
    reporter: Arc<dyn Reporter>,
}

impl AccessLog {
    /// Starts the writing thread.
    pub fn start(
        target: Box<dyn Write + Send>,
        format: Format,
        excluded: Excluded,
        reporter: Arc<dyn Reporter>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (theirs, their_reporter) = (Arc::clone(&shared), Arc::clone(&reporter));
        let writer = spawn("wsgi-access-log".to_owned(), move || write_lines(&theirs, target, &*their_reporter))?;
        Ok(Self { format, excluded, shared, writer: Some(writer), path: None, reporter })
    }

    /// Where its file is, so that it can be opened anew.
    #[must_use]
    pub fn at(mut self, path: PathBuf) -> Self {
        self.path = Some(path);
        self
    }

    /// Opens a log's file, or makes it; lines are appended.
    pub fn open(path: &Path) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path)
    }
}

impl Observer for AccessLog {
    fn finished(&self, record: &Record) {
        if self.excluded.covers(record.request.path()) {
            return;
        }
        let mut lines = self.shared.lines();
        let Lines { bytes, stamps, lost, .. } = &mut *lines;
        if bytes.len() > BUFFER {
            *lost += 1;
            return;
        }
        let first = bytes.is_empty();
        self.format.write(record, stamps, bytes);
        drop(lines);
        if first {
            self.shared.changed.notify_all();
        }
    }

    fn reopen(&self) {
        let Some(path) = &self.path else { return };
        match Self::open(path) {
            Ok(file) => {
                self.shared.lines().target = Some(Box::new(file));
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
        self.ask(State::Hurried, |lines| lines.bytes.is_empty() && !lines.writing);
    }
}

impl AccessLog {
    // Asks the writer for something, and waits until that is so.
    fn ask(&self, state: State, until: impl Fn(&Lines) -> bool) -> bool {
        let mut lines = self.shared.lines();
        lines.state = state;
        self.shared.changed.notify_all();
        let waiting = |lines: &mut Lines| !until(lines);
        let (mut lines, _) =
            self.shared.changed.wait_timeout_while(lines, PATIENCE, waiting).unwrap_or_else(PoisonError::into_inner);
        if lines.state == State::Hurried {
            lines.state = State::Open;
        }
        until(&lines)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let done = self.ask(State::Closed, |lines| lines.state == State::Done);
        if let (true, Some(writer)) = (done, self.writer.take()) {
            // Its panic, should there be one, has been reported by the panic itself.
            drop(writer.join());
        }
    }
}

fn write_lines(shared: &Shared, mut target: Box<dyn Write + Send>, reporter: &dyn Reporter) {
    let mut failing = false;
    let mut bytes = Vec::new();
    loop {
        let mut lines = shared
            .changed
            .wait_while(shared.lines(), |lines| {
                lines.bytes.is_empty() && lines.target.is_none() && lines.state != State::Closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        // A moment more gathers what a busy server adds; the end does not wait for it.
        (lines, _) = shared
            .changed
            .wait_timeout_while(lines, GATHER, |lines| lines.state == State::Open)
            .unwrap_or_else(PoisonError::into_inner);
        // What was written last makes room for what is to come, unless there was unusually much.
        bytes.clear();
        bytes.shrink_to(KEPT);
        std::mem::swap(&mut lines.bytes, &mut bytes);
        let lost = std::mem::take(&mut lines.lost);
        let next = lines.target.take();
        let closed = lines.state == State::Closed;
        lines.writing = true;
        drop(lines);
        target = next.unwrap_or(target);
        let result = target.write_all(&bytes).and_then(|()| target.flush());
        if let Err(error) = &result {
            if !failing {
                reporter.report(Severity::Error, &format!("the access log cannot be written: {error}"));
            }
        }
        failing = result.is_err();
        if lost > 0 {
            reporter.report(Severity::Warning, &format!("{lost} lines of the access log were lost: it is too slow"));
        }
        let mut lines = shared.lines();
        lines.writing = false;
        let done = closed && lines.bytes.is_empty();
        if done {
            lines.state = State::Done;
        }
        drop(lines);
        shared.changed.notify_all();
        if done {
            return;
        }
    }
}
