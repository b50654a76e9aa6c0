//! Writing responses (RFC 9112 §4, §7.1). Everything is appended to a buffer that the caller sends.

use crate::http::head::ResponseHead;
use crate::http::number::{Decimal, Hexadecimal};
use crate::http::reject::Reject;

use super::plan::{Plan, ResponseFraming};

/// The end of a chunked body: the last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends a response's head. The version is always HTTP/1.1, the highest that is spoken here, also towards HTTP/1.0
/// (RFC 9110 §6.2). Date and Server are added where the application set none.
pub fn head(out: &mut Vec<u8>, head: &ResponseHead, plan: &Plan, date: &[u8; 29], server: &[u8]) {
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

/// Appends the end of a chunked body whose trailer section is `lines`, which come from `interface::outgoing`.
pub fn last_chunk(out: &mut Vec<u8>, lines: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(lines);
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

/// Appends the line before a chunk of `length` bytes. Nothing is appended for 0, which would end the body.
pub fn chunk_size_line(out: &mut Vec<u8>, length: usize) {
    if length > 0 {
        line(out, Hexadecimal::new(length as u64).as_bytes(), b"");
    }
}

/// Appends the whole response to a refused request. It closes the connection, because nobody knows where the next
/// request would begin. `retry_after` is in seconds (RFC 9110 §10.2.3).
pub fn reject(
    out: &mut Vec<u8>,
    reject: &Reject,
    date: &[u8; 29],
    server: &[u8],
    head_method: bool,
    retry_after: Option<u32>,
) {
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
    if !head_method {
        out.extend_from_slice(text);
        out.push(b'\n');
    }
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
#[path = "write_tests.rs"]
mod tests;
