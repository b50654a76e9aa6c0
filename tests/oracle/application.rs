//! An application that does whatever its choices say, right or wrong, and a model of what its client must get for it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::panic::resume_unwind;

use wsgi_core::engine::clock::Clock;
use wsgi_core::engine::exchange::{Content, Exchange, Progress};
use wsgi_core::engine::gateway::Gateway;
use wsgi_core::engine::transport::body::{Body, BodyStream};
use wsgi_core::engine::transport::output::FileSpan;
use wsgi_core::http::head::{ResponseHead, Version};
use wsgi_core::http::reject::Reject;
use wsgi_core::http1::plan::BodySize;
use wsgi_core::interface::outgoing;

use super::choices::Choices;

/// Content that a client would misread, were it taken for anything but content.
const TEXT: &[u8] = b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n5\r\n";
const STATUSES: [&[u8]; 10] = [
    b"200 OK",
    b"201 ",
    b"204 No Content",
    b"205 Reset Content",
    b"206 Partial",
    b"304 Not Modified",
    b"404 Gone",
    b"500 My own",
    b"700 ?",
    b"999 \xff",
];
const FIELDS: [(&[u8], &[u8]); 8] = [
    (b"X-A", b"1"),
    (b"Connection", b"close"),
    (b"Connection", b"keep-alive, upgrade"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Date", b"today"),
    (b"Server", b"mine"),
    (b"Content-Type", b"text/plain"),
    (b"Set-Cookie", b"\xff=\t"),
];
const SIZES: [usize; 9] = [0, 1, 2, 5, 30, 200, 5000, 17_000, 40_000];
/// Acts of one call.
const ACTS: usize = 12;

/// What a client must see of a response that the application began.
#[derive(Clone, Debug)]
pub struct Begun {
    pub status: u16,
    /// No byte of content follows, whatever the application writes.
    pub is_empty: bool,
    /// The length that the head announced or implied.
    pub length: Option<u64>,
    /// Only the end of the connection can end the content.
    pub until_close: bool,
    pub asks_close: bool,
    /// Everything that was handed over, also beyond the length.
    pub content: Vec<u8>,
}

impl Begun {
    /// The content as far as it may reach the client.
    pub fn visible(&self) -> &[u8] {
        let length = self.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
        if self.is_empty { &[] } else { &self.content[..self.content.len().min(length)] }
    }

    /// The client has what was announced.
    pub fn is_satisfied(&self) -> bool {
        self.is_empty || self.length.is_none_or(|length| self.content.len() as u64 >= length)
    }
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Answer {
    /// No byte of a response must come.
    Nothing,
    Refused(Reject),
    /// Begun, and then finished or not.
    Response {
        begun: Begun,
        finished: bool,
    },
}

/// What happened in one call of the application.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub body: Vec<u8>,
    /// The true end of the body was seen.
    pub is_over: bool,
    /// Content of the body that is still in the socket; `None`: of unknown length, or not to be had.
    pub unread: Option<u64>,
    pub hints: usize,
    /// The exchange was never given back.
    pub lost: bool,
    /// The application's gateway asked for the connection's end.
    pub closes: bool,
    pub answer: Answer,
}

/// The application.
pub struct Application<'a> {
    pub choices: Choices<'a>,
    /// The largest piece of content.
    pub largest: usize,
    pub calls: Vec<Call>,
    file: Option<File>,
}

impl<'a> Application<'a> {
    pub fn new(choices: Choices<'a>, largest: usize) -> Self {
        Self { choices, largest, calls: Vec::new(), file: None }
    }

    fn size(&mut self) -> usize {
        self.choices.pick(&SIZES).min(self.largest)
    }

    // A file that holds enough of `TEXT`. The engine reads it by offsets, so that one serves all.
    fn file(&mut self) -> Option<File> {
        if self.file.is_none() {
            let mut file = tempfile::tempfile().ok()?;
            file.write_all(&text(0, SIZES[SIZES.len() - 1] + TEXT.len())).ok()?;
            file.rewind().ok()?;
            self.file = Some(file);
        }
        self.file.as_ref()?.try_clone().ok()
    }

    fn perform(&mut self, exchange: &mut Exchange, reader: &mut Reader, call: &mut Call, clock: &mut Clock) -> Leaving {
        for _ in 0..ACTS {
            let act = self.choices.below(20);
            match act {
                1 | 2 => {
                    let wanted = self.size();
                    reader.read(wanted, call);
                }
                3 => reader.read(usize::MAX, call),
                4 => {
                    let waiting = exchange.progress() == Progress::Waiting;
                    exchange.early_hints(b"Link: </a>\r\n");
                    call.hints += usize::from(waiting && exchange.request().version() == Version::Http11);
                }
                5 | 6 => self.begin(exchange, reader, call, clock),
                7..=12 => self.write(act, exchange, call),
                13 => drop(exchange.push()),
                // The monitor, in another thread.
                14 => drop(exchange.transport().flush()),
                15 => {
                    exchange.abort();
                    if !matches!(call.answer, Answer::Response { finished: true, .. } | Answer::Refused(_)) {
                        return Leaving::Silently;
                    }
                }
                16 => {
                    if exchange.progress() == Progress::Waiting {
                        call.answer = Answer::Refused(Reject::BodyTimeout);
                    }
                    exchange.refuse(Reject::BodyTimeout, clock);
                    return Leaving::Silently;
                }
                17 => {
                    exchange.close_connection();
                    call.closes = true;
                }
                18 => return self.choices.pick(&[Leaving::Silently, Leaving::Panicking, Leaving::Losing]),
                _ => break,
            }
        }
        if exchange.progress() == Progress::Waiting {
            reader.read(usize::MAX, call);
            let content = [&call.method, b" ".as_slice(), &call.target, b" ", &call.body].concat();
            let head = outgoing::status(b"200 OK").unwrap_or_else(|error| panic!("{error}"));
            begin(exchange, reader, call, &head, BodySize::Known(content.len() as u64), clock);
            write(exchange, call, &content, false);
        }
        finish(exchange, call);
        // Too late.
        write(exchange, call, b"more", false);
        exchange.abort();
        Leaving::Silently
    }

    fn begin(&mut self, exchange: &mut Exchange, reader: &mut Reader, call: &mut Call, clock: &mut Clock) {
        let mut head = outgoing::status(self.choices.pick(&STATUSES)).unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..self.choices.below(4) {
            let (name, value) = self.choices.pick(&FIELDS);
            let _ = outgoing::field(&mut head, name, value);
        }
        if self.choices.flag() {
            let _ = outgoing::field(&mut head, b"Content-Length", self.size().to_string().as_bytes());
        }
        let size = if self.choices.flag() { BodySize::Known(self.size() as u64) } else { BodySize::Unknown };
        begin(exchange, reader, call, &head, size, clock);
    }

    fn write(&mut self, act: usize, exchange: &mut Exchange, call: &mut Call) {
        let size = self.size();
        // Pieces that differ, so that a piece that is lost or sent twice is seen.
        let content = text(call_content(call), size);
        match act {
            7..=9 => write(exchange, call, &content, false),
            10 | 11 => write(exchange, call, &content, true),
            _ => {
                let Some(file) = self.file() else { return };
                let offset = (call_content(call) % TEXT.len()) as u64;
                let begun = exchange.progress() == Progress::Begun;
                exchange.write_file(FileSpan { file, offset, length: size as u64 });
                note(call, begun, &content);
            }
        }
    }
}

/// How a call is left.
#[derive(Clone, Copy)]
enum Leaving {
    Silently,
    Panicking,
    Losing,
}

impl Gateway for Application<'_> {
    fn serve(&mut self, mut exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>> {
        let mut call = Call {
            method: exchange.request().method().to_vec(),
            target: exchange.request().target().to_vec(),
            body: Vec::new(),
            is_over: false,
            unread: Some(0),
            hints: 0,
            lost: false,
            closes: false,
            answer: Answer::Nothing,
        };
        let mut reader = Reader { body: exchange.take_body() };
        let leaving = self.perform(&mut exchange, &mut reader, &mut call, clock);
        if let Body::Stream(stream) = reader.body {
            call.unread = stream.unread().filter(|_| stream.failure().is_none());
            exchange.give_back(stream);
        }
        call.lost = !matches!(leaving, Leaving::Silently);
        if matches!(call.answer, Answer::Nothing) && exchange.progress() == Progress::Waiting && !call.lost {
            call.answer = Answer::Refused(Reject::AppFailed);
        }
        self.calls.push(call);
        match leaving {
            Leaving::Silently => Some(exchange),
            Leaving::Losing => None,
            // Without the message of a panic that is none.
            Leaving::Panicking => resume_unwind(Box::new(())),
        }
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }
}

struct Reader {
    body: Body,
}

impl Reader {
    fn read(&mut self, mut wanted: usize, call: &mut Call) {
        let mut block = [0; 700];
        while wanted > 0 && !call.is_over {
            let share = wanted.min(block.len());
            let count = match &mut self.body {
                Body::Empty => 0,
                Body::Memory(bytes, _) => {
                    let count = share.min(bytes.len());
                    block[..count].copy_from_slice(&bytes[..count]);
                    bytes.drain(..count);
                    count
                }
                Body::File(file) => file.read(&mut block[..share]).unwrap_or(0),
                Body::Stream(stream) => match stream.read(&mut block[..share]) {
                    Ok(count) => count,
                    Err(_) => return,
                },
            };
            call.is_over = count == 0;
            call.body.extend_from_slice(&block[..count]);
            wanted -= count;
        }
    }

    fn settle(&mut self) -> bool {
        match &mut self.body {
            Body::Stream(stream) => BodyStream::settle(stream),
            _ => true,
        }
    }
}

// `length` bytes of the text, which repeats itself, from `start` on.
fn text(start: usize, length: usize) -> Vec<u8> {
    TEXT.iter().copied().cycle().skip(start % TEXT.len()).take(length).collect()
}

fn call_content(call: &Call) -> usize {
    match &call.answer {
        Answer::Response { begun, .. } => begun.content.len(),
        _ => 0,
    }
}

// As a gateway begins: a body that cannot be read away ends the connection.
fn begin(
    exchange: &mut Exchange,
    reader: &mut Reader,
    call: &mut Call,
    head: &ResponseHead,
    size: BodySize,
    clock: &mut Clock,
) {
    if exchange.progress() != Progress::Waiting {
        return;
    }
    if !reader.settle() {
        exchange.close_connection();
        call.closes = true;
    }
    exchange.begin(head, size, clock);
    let status = head.status().code();
    let is_empty = matches!(status, 204 | 205 | 304) || call.method == b"HEAD";
    let known = match size {
        BodySize::Known(length) => Some(length),
        BodySize::Unknown => None,
    };
    let length = head.content_length.or(known);
    let begun = Begun {
        status,
        is_empty,
        length,
        until_close: !is_empty && length.is_none() && exchange.request().version() == Version::Http10,
        asks_close: head.close,
        content: Vec::new(),
    };
    call.answer = Answer::Response { begun, finished: false };
}

fn write(exchange: &mut Exchange, call: &mut Call, content: &[u8], owned: bool) {
    let begun = exchange.progress() == Progress::Begun;
    let content_of_write = if owned { Content::Owned(Box::new(content.to_vec())) } else { Content::Borrowed(content) };
    let written = exchange.write(content_of_write);
    assert_eq!(written.is_ok(), begun, "content is taken only inside of a response");
    note(call, begun, content);
}

fn note(call: &mut Call, was_begun: bool, content: &[u8]) {
    if let (true, Answer::Response { begun, .. }) = (was_begun, &mut call.answer) {
        begun.content.extend_from_slice(content);
    }
}

fn finish(exchange: &mut Exchange, call: &mut Call) {
    let was_begun = exchange.progress() == Progress::Begun;
    exchange.finish();
    if let (true, Answer::Response { begun, finished }) = (was_begun, &mut call.answer) {
        *finished = begun.is_satisfied();
    }
}
