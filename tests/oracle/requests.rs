//! A connection without a socket: what the pure rooms make of a client's bytes.

use wsgi_core::http::head::{RequestHead, Version};
use wsgi_core::http::limits::Limits;
use wsgi_core::http::reject::Reject;
use wsgi_core::http1::body::{ChunkEvent, ChunkedDecoder};
use wsgi_core::http1::framing::{BodyLength, Framing, decide};
use wsgi_core::http1::parse::{self, HeadProgress};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub path: Vec<u8>,
    pub version: Version,
    /// Names and values in order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    /// Where its head and the whole of it end, counted from the first byte of the connection.
    pub head_end: usize,
    pub end: usize,
}

impl Request {
    fn new(head: &RequestHead, framing: Framing, head_end: usize) -> Self {
        Self {
            method: head.method().to_vec(),
            target: head.target().to_vec(),
            path: head.path().to_vec(),
            version: head.version(),
            fields: head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            framing,
            body: Vec::new(),
            head_end,
            end: head_end,
        }
    }
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two requests.
    Clean,
    /// Inside a request.
    Open,
    /// Backpressure the last request that it will take.
    Close,
    /// A request was refused.
    Refused(Reject),
}

/// What the client's bytes came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Requests that are complete.
    pub requests: Vec<Request>,
    /// A request whose head is complete and whose body is not, or was refused.
    pub begun: Option<Request>,
    pub end: End,
    /// Where the bytes begin that belong to none of them.
    pub consumed: usize,
}

enum Stage {
    Head(HeadProgress),
    Length(u64),
    Chunked(ChunkedDecoder),
    Over(End),
}

struct Connection<'a> {
    limits: &'a Limits,
    input: Vec<u8>,
    // Bytes that were taken off the front of `input`.
    consumed: usize,
    stage: Stage,
    begun: Option<Request>,
    requests: Vec<Request>,
}

impl Connection<'_> {
    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return,
                Err(reject) => self.stage = Stage::Over(End::Refused(reject)),
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.consumed += count;
        self.input.drain(..count).collect()
    }

    // Takes one step; `false` if that needs more bytes.
    fn advance(&mut self) -> Result<bool, Reject> {
        match &mut self.stage {
            Stage::Head(progress) => {
                let Some((head, consumed)) = parse::head(&self.input, progress, self.limits)? else {
                    return Ok(false);
                };
                let framing = decide(&head, self.limits)?;
                self.take(consumed);
                self.begun = Some(Request::new(&head, framing, self.consumed));
                self.stage = match framing.body {
                    BodyLength::None => Stage::Length(0),
                    BodyLength::Length(length) => Stage::Length(length),
                    BodyLength::Chunked => Stage::Chunked(ChunkedDecoder::new(self.limits)),
                };
                Ok(true)
            }
            Stage::Length(left) => {
                let share = self.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= share as u64;
                let is_whole = *left == 0;
                let content = self.take(share);
                self.extend(&content, is_whole);
                Ok(is_whole)
            }
            Stage::Chunked(decoder) => {
                let step = decoder.decode(&self.input)?;
                let (content, more, is_whole) = match step.event {
                    ChunkEvent::Data(data) => (data.to_vec(), true, false),
                    ChunkEvent::More => (Vec::new(), false, false),
                    ChunkEvent::End => (Vec::new(), true, true),
                };
                let consumed = step.consumed;
                self.take(consumed);
                self.extend(&content, is_whole);
                Ok(more)
            }
            Stage::Over(_) => Ok(false),
        }
    }

    fn extend(&mut self, content: &[u8], is_whole: bool) {
        let Some(mut request) = self.begun.take() else { return };
        request.body.extend_from_slice(content);
        request.end = self.consumed;
        if is_whole {
            let goes_on = request.framing.persistent;
            self.stage = if goes_on { Stage::Head(HeadProgress::default()) } else { Stage::Over(End::Close) };
            self.requests.push(request);
        } else {
            self.begun = Some(request);
        }
    }
}

/// Replays what a client sends, in pieces.
pub fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Replay {
    let mut connection = Connection {
        limits,
        input: Vec::new(),
        consumed: 0,
        stage: Stage::Head(HeadProgress::default()),
        begun: None,
        requests: Vec::new(),
    };
    for piece in pieces {
        connection.feed(piece);
    }
    let end = match connection.stage {
        Stage::Head(_) if connection.input.is_empty() => End::Clean,
        Stage::Head(_) | Stage::Length(_) | Stage::Chunked(_) => End::Open,
        Stage::Over(end) => end,
    };
    Replay { requests: connection.requests, begun: connection.begun, end, consumed: connection.consumed }
}
