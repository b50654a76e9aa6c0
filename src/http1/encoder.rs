//! Responses as bytes (RFC 9112 §4, §7.1): heads, the framing around content, interim responses, refusals.
//!
//! Bytes are appended to a buffer that the caller sends. Content is not copied here: [`Encoder::data`] tells how much of it the
//! response takes and what stands around it, so that the caller can send it from where it lies.
//!
//! Rules, for every sequence of calls:
//! 1. The response never has more content than its Content-Length; what is beyond is not accepted ([`Encoder::has_surplus`]).
//! 2. It ends only if it has no less ([`Encoder::end`]).
//! 3. Nothing is accepted after the end.

use crate::http::head::ResponseHead;
use crate::http::number::{Decimal, Hexadecimal};
use crate::http::reject::Reject;

use super::plan::{Plan, ResponseFraming};

/// One response between its head and its end.
#[derive(Clone, Debug)]
pub struct Encoder {
    framing: ResponseFraming,
    keep_alive: bool,
    surplus: bool,
    is_over: bool,
    // What the announced length still lacks.
    left: Option<u64>,
}

/// Accepted content, and what stands around it on the wire.
#[derive(Clone, Copy, Debug)]
pub struct ContentFrame {
    length: u64,
    chunk_size: Option<Hexadecimal>,
}

/// What stands behind the content of a chunked response.
#[derive(Clone, Copy, Debug)]
pub struct LastChunk(());

/// A response that must not end yet: so many bytes are missing of the length that it announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking(pub u64);

impl ContentFrame {
    /// Bytes of the content that are accepted, counted from its beginning. Never 0.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether nothing stands around the content.
    pub fn is_bare(&self) -> bool {
        self.chunk_size.is_none()
    }

    /// Appends what stands before the content.
    pub fn open(&self, out: &mut Vec<u8>) {
        if let Some(size) = &self.chunk_size {
            line(out, size.as_bytes(), b"");
        }
    }

    /// Appends what stands behind it.
    pub fn close(&self, out: &mut Vec<u8>) {
        if self.chunk_size.is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl LastChunk {
    /// Appends the last chunk with the trailer section `lines`, which come from `interface::outgoing`.
    pub fn write(self, out: &mut Vec<u8>, lines: &[u8]) {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(lines);
        out.extend_from_slice(b"\r\n");
    }
}

impl Encoder {
    /// Begins a response: appends its head as it was planned. `date` and `server` are added where the application set none.
    pub fn begin(out: &mut Vec<u8>, response: &ResponseHead, plan: &Plan, date: &[u8; 29], server: &[u8]) -> Self {
        head(out, response, plan, date, server);
        let left = match plan.framing {
            ResponseFraming::Length(length) => Some(length),
            ResponseFraming::NoBody | ResponseFraming::Chunked | ResponseFraming::UntilClose => None,
        };
        Self { framing: plan.framing, keep_alive: plan.keep_alive, surplus: false, is_over: false, left }
    }

    /// Offers `length` bytes of content. `None`: nothing of it is accepted.
    pub fn data(&mut self, mut length: u64) -> Option<ContentFrame> {
        if self.is_over || self.framing == ResponseFraming::NoBody {
            return None;
        }
        if let Some(left) = &mut self.left {
            self.surplus |= length > *left;
            length = length.min(*left);
            *left -= length;
        }
        // A chunk of no bytes would be the last.
        let chunk_size = (self.framing == ResponseFraming::Chunked).then(|| Hexadecimal::new(length));
        (length > 0).then_some(ContentFrame { length, chunk_size })
    }

    /// Ends the content. A chunked one needs the last chunk behind it.
    pub fn end(&mut self) -> Result<Option<LastChunk>, Lacking> {
        if let Some(left @ 1..) = self.left {
            return Err(Lacking(left));
        }
        let is_first = !std::mem::replace(&mut self.is_over, true);
        Ok((is_first && self.can_trail()).then_some(LastChunk(())))
    }

    /// Whether content would be of use: not after HEAD, nor with a status that forbids it.
    pub fn wants_content(&self) -> bool {
        self.framing != ResponseFraming::NoBody
    }

    /// Whether trailer fields can follow the content (RFC 9112 §7.1.2).
    pub fn can_trail(&self) -> bool {
        self.framing == ResponseFraming::Chunked
    }

    /// Whether the end of the connection is the end of the content: a response that breaks off needs a reset then.
    pub fn is_until_close(&self) -> bool {
        self.framing == ResponseFraming::UntilClose
    }

    /// Whether the connection can be used again once the response has ended.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether content was offered beyond the announced length.
    pub fn has_surplus(&self) -> bool {
        self.surplus
    }

    /// Bytes of content that the announced length still lacks; `None` if none was announced.
    pub fn left(&self) -> Option<u64> {
        self.left
    }
}

// The version is always HTTP/1.1, the highest that is spoken here, also towards HTTP/1.0 (RFC 9110 §6.2).
fn head(out: &mut Vec<u8>, head: &ResponseHead, plan: &Plan, date: &[u8; 29], server: &[u8]) {
    out.reserve(head.reason().len() + head.lines().len() + server.len() + 160);
    status_line(out, head.status().code(), head.reason());
    out.extend_from_slice(head.lines());
    if !head.has_date {
        line(out, b"Date: ", date);
    }
    if !head.has_server {
        line(out, b"Server: ", server);
    }
    if let Some(length) = plan.content_length {
        line(out, b"Content-Length: ", Decimal::new(length).as_bytes());
    }
    if plan.framing == ResponseFraming::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(option) = plan.connection {
        line(out, b"Connection: ", option.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the interim response that asks for the body (RFC 9110 §15.2.1).
pub fn interim_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends the interim response that hints at fields of the final one (RFC 8297). `lines` come from
/// `interface::outgoing`.
pub fn early_hints(out: &mut Vec<u8>, lines: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
    out.extend_from_slice(lines);
    out.extend_from_slice(b"\r\n");
}

/// Appends the whole response to a refused request, and returns the size of its content in bytes. It closes the connection,
/// because where the next request would begin is unknown. `retry_after` is in seconds (RFC 9110 §10.2.3).
pub fn refusal(
    out: &mut Vec<u8>,
    reject: &Reject,
    date: &[u8; 29],
    server: &[u8],
    head_method: bool,
    retry_after: Option<u32>,
) -> u64 {
    let (status, text) = (reject.status(), reject.public().as_bytes());
    status_line(out, status.code(), status.reason().as_bytes());
    line(out, b"Date: ", date);
    line(out, b"Server: ", server);
    line(out, b"Content-Type: ", b"text/plain; charset=utf-8");
    line(out, b"Content-Length: ", Decimal::new(text.len() as u64 + 1).as_bytes());
    if let Some(seconds) = retry_after {
        line(out, b"Retry-After: ", Decimal::new(seconds.into()).as_bytes());
    }
    line(out, b"Connection: ", b"close");
    out.extend_from_slice(b"\r\n");
    if head_method {
        return 0;
    }
    out.extend_from_slice(text);
    out.push(b'\n');
    text.len() as u64 + 1
}

// The space before the reason stays where the reason is empty (RFC 9112 §4).
fn status_line(out: &mut Vec<u8>, code: u16, reason: &[u8]) {
    let digit = |number: u16| b'0' + (number % 10).to_le_bytes()[0];
    let [hundreds, tens, ones] = [digit(code / 100), digit(code / 10), digit(code)];
    line(out, &[b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', hundreds, tens, ones, b' '], reason);
}

// Most are of a length that is known where this is called, and then take no call to be copied.
#[inline]
fn line(out: &mut Vec<u8>, before: &[u8], value: &[u8]) {
    out.extend_from_slice(before);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
