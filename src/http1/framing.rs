//! What a head says of the message it begins: how long the body is, and what becomes of the connection afterwards.
//!
//! A request whose length two readers could take differently is refused, never repaired: that difference is what
//! request smuggling lives on (RFC 9112 §11.2).

use crate::http::fields::{elements, has_element, is_named, is_token, parse_content_length, trim_ows, valid_host};
use crate::http::head::{RequestHead, Version};
use crate::http::limits::Limits;
use crate::http::reject::Reject;

/// How long a request's body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No field speaks of a body: there is none.
    None,
    /// As long as Content-Length says, which may be 0.
    Length(u64),
    /// The body says itself where it ends.
    Chunked,
}

/// What a valid head says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// How long the body is.
    pub body: BodyLength,
    /// The client wants to be asked for the body by `100 Continue` before it sends it (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The client would use the connection again (RFC 9112 §9.3).
    pub persistent: bool,
    /// The client would change the protocol (RFC 9110 §7.8): it sent both an Upgrade field and its connection option.
    pub upgrade: bool,
}

/// Decides how a request is framed, or why it must be refused. In this order:
///
/// 1. CONNECT asks for a tunnel, behind which no HTTP follows: 501.
/// 2. Host: exactly one line on HTTP/1.1, at most one on HTTP/1.0, and where there is one it is valid (RFC 9112 §3.2).
///    An absolute-form target replaces its value, not the need for it.
/// 3. Content-Length: at most one line, digits only. Two equal values are refused as well, although RFC 9110 §8.6 would
///    allow to take them for one.
/// 4. Transfer-Encoding: not with HTTP/1.0, whose intermediaries do not know it, not with Content-Length, and on one
///    line (RFC 9112 §6.1, §6.3 rule 3).
/// 5. Its value: a list of tokens, of which `chunked` is the last and no other; codings before it are not implemented
///    (RFC 9112 §6.1, §7). Empty elements and parameters are refused.
/// 6. The length is within its limit; `100 Continue` must not invite a body that is not (RFC 9110 §10.1.1).
/// 7. Expect: `100-continue` and nothing else; on HTTP/1.0 it is ignored (RFC 9110 §10.1.1).
/// 8. Content-Type and Authorization: at most one value. Lines that repeat it are harmless, and some clients send them;
///    different ones say to each reader something else (RFC 9110 §8.3).
/// 9. Connection: `close` always holds; without it HTTP/1.1 persists, HTTP/1.0 only with `keep-alive` (RFC 9112 §9.3).
///    Upgrade is ignored on HTTP/1.0 (RFC 9110 §7.8).
pub fn decide(head: &RequestHead, limits: &Limits) -> Result<Framing, Reject> {
    let seen = Seen::collect(head);
    let is_http11 = head.version() == Version::Http11;
    if head.method() == b"CONNECT" {
        return Err(Reject::Connect);
    }
    match seen.host {
        FieldLines::Absent if is_http11 => return Err(Reject::HostMissing),
        FieldLines::Absent => {}
        FieldLines::Once(host) if valid_host(host) => {}
        FieldLines::Once(_) => return Err(Reject::HostMalformed),
        FieldLines::Repeated => return Err(Reject::HostRepeated),
    }
    let length = match seen.content_length {
        FieldLines::Absent => None,
        FieldLines::Once(value) => Some(content_length(value)?),
        FieldLines::Repeated => return Err(Reject::ContentLengthRepeated),
    };
    let body = match (seen.transfer_encoding, length) {
        (FieldLines::Absent, None) => BodyLength::None,
        (FieldLines::Absent, Some(length)) => BodyLength::Length(length),
        _ if !is_http11 => return Err(Reject::TransferEncodingOnHttp10),
        (_, Some(_)) => return Err(Reject::BothFramings),
        (FieldLines::Repeated, None) => return Err(Reject::TransferEncodingRepeated),
        (FieldLines::Once(value), None) => {
            transfer_encoding(value)?;
            BodyLength::Chunked
        }
    };
    if matches!(body, BodyLength::Length(length) if length > limits.body_size) {
        return Err(Reject::BodyTooLarge);
    }
    if is_http11 && seen.expects_other {
        return Err(Reject::ExpectationUnsupported);
    }
    if matches!(seen.content_type, FieldLines::Repeated) {
        return Err(Reject::ContentTypeConflict);
    }
    if matches!(seen.authorization, FieldLines::Repeated) {
        return Err(Reject::AuthorizationConflict);
    }
    Ok(Framing {
        body,
        expect_continue: is_http11 && seen.expects_continue,
        persistent: !seen.close && (is_http11 || seen.keep_alive),
        upgrade: is_http11 && seen.upgrade && seen.upgrade_option,
    })
}

/// A field that may have one line at most.
#[derive(Clone, Copy, Default)]
enum FieldLines<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> FieldLines<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    // For a field whose lines may repeat one value.
    fn add_unless_equal(&mut self, value: &'a [u8]) {
        if !matches!(self, Self::Once(earlier) if *earlier == value) {
            self.add(value);
        }
    }
}

/// What the fields say, collected in one pass.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that a field may say, in any combination")]
struct Seen<'a> {
    host: FieldLines<'a>,
    content_length: FieldLines<'a>,
    transfer_encoding: FieldLines<'a>,
    content_type: FieldLines<'a>,
    authorization: FieldLines<'a>,
    expects_continue: bool,
    expects_other: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: bool,
}

impl<'a> Seen<'a> {
    fn collect(head: &'a RequestHead) -> Self {
        let mut seen = Self::default();
        for (name, value) in head.fields() {
            // The length alone rules most fields out.
            match name.len() {
                4 if is_named(name, b"Host") => seen.host.add(value),
                6 if is_named(name, b"Expect") => seen.add_expectations(value),
                7 if is_named(name, b"Upgrade") => seen.upgrade = true,
                10 if is_named(name, b"Connection") => seen.add_options(value),
                12 if is_named(name, b"Content-Type") => seen.content_type.add_unless_equal(value),
                13 if is_named(name, b"Authorization") => seen.authorization.add_unless_equal(value),
                14 if is_named(name, b"Content-Length") => seen.content_length.add(value),
                17 if is_named(name, b"Transfer-Encoding") => seen.transfer_encoding.add(value),
                _ => {}
            }
        }
        seen
    }

    fn add_expectations(&mut self, value: &[u8]) {
        for element in elements(value).filter(|element| !element.is_empty()) {
            if element.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expects_other = true;
            }
        }
    }

    fn add_options(&mut self, value: &[u8]) {
        self.close |= has_element(value, b"close");
        self.keep_alive |= has_element(value, b"keep-alive");
        self.upgrade_option |= has_element(value, b"upgrade");
    }
}

// A number that is well-formed but cannot be counted is too large, not malformed.
fn content_length(value: &[u8]) -> Result<u64, Reject> {
    match parse_content_length(value) {
        Some(length) => Ok(length),
        None if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => Err(Reject::BodyTooLarge),
        None => Err(Reject::ContentLengthMalformed),
    }
}

fn transfer_encoding(value: &[u8]) -> Result<(), Reject> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    if !elements(value).all(is_token) {
        return Err(Reject::TransferEncodingMalformed);
    }
    let mut before_last = value.rsplitn(2, |&byte| byte == b',').map(trim_ows);
    match (before_last.next(), before_last.next()) {
        (Some(last), Some(before)) if is_chunked(last) && !has_element(before, b"chunked") => {
            Err(Reject::TransferCodingUnsupported)
        }
        _ => Err(Reject::ChunkedMisplaced),
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
