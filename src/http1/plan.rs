//! How a response is framed (RFC 9112 §6), decided before its first byte is written.

use crate::http::head::{ResponseHead, Version};

/// What the request says about the form of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseContext {
    /// The method was HEAD.
    pub head_method: bool,
    /// The client's version.
    pub version: Version,
    /// The client would use the connection again.
    pub persistent: bool,
}

/// What is known of the content when the head is written, beside what the application announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// All of it is there: this many bytes.
    Known(u64),
    /// It comes piece by piece.
    Unknown,
}

/// How the client finds the end of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none, whatever the fields say.
    NoBody,
    /// After this many bytes.
    Length(u64),
    /// At the last chunk.
    Chunked,
    /// Where the connection ends.
    UntilClose,
}

/// A decided response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the content is framed.
    pub framing: ResponseFraming,
    /// What the Content-Length field says, if there is to be one.
    pub content_length: Option<u64>,
    /// The connection can be used again.
    pub keep_alive: bool,
    /// What the Connection field says, if there is to be one.
    pub connection: Option<&'static str>,
}

impl Plan {
    /// The head of a response that changes the protocol (RFC 9110 §15.2.2): what follows is no content, and HTTP is over.
    pub const fn upgrade() -> Self {
        Self { framing: ResponseFraming::NoBody, content_length: None, keep_alive: false, connection: Some("Upgrade") }
    }
}

/// Decides. `must_close` is the server's own reason to end the connection. Of these rules the first that fits holds:
///
/// 1. 1xx and 204: no content, no Content-Length (RFC 9110 §8.6).
/// 2. 304: no content; the application's Content-Length stays, it speaks of the representation that was not sent.
/// 3. 205: no content, which Content-Length 0 says (RFC 9110 §15.3.6).
/// 4. HEAD: no content; the Content-Length that GET would have had, so far as it is known: the application's, or that of
///    content it made nevertheless. No content at all proves nothing about GET (RFC 9110 §9.3.2).
/// 5. The application's Content-Length, also where it differs from what is there: the content is held against it later.
/// 6. The length of the content, if all of it is there.
/// 7. Chunked on HTTP/1.1.
/// 8. On HTTP/1.0 the end of the connection is the end of the content (RFC 9112 §6.3, rule 8).
///
/// The connection persists if the client, the server and the application agree and the content ends before it. That it
/// does not is said always; that it does, only to HTTP/1.0, whose default is the reverse (RFC 9112 §9.3, §9.6).
pub fn response(asked: &ResponseContext, head: &ResponseHead, size: BodySize, must_close: bool) -> Plan {
    let announced = head.content_length;
    let known = match size {
        BodySize::Known(length) => Some(length),
        BodySize::Unknown => None,
    };
    let status = head.status();
    let (framing, content_length) = if status.is_informational() || status.code() == 204 {
        (ResponseFraming::NoBody, None)
    } else if status.forbids_body() {
        (ResponseFraming::NoBody, announced)
    } else if status.resets_content() {
        (ResponseFraming::NoBody, Some(0))
    } else if asked.head_method {
        (ResponseFraming::NoBody, announced.or(known.filter(|&length| length > 0)))
    } else if let Some(length) = announced.or(known) {
        (ResponseFraming::Length(length), Some(length))
    } else if asked.version == Version::Http11 {
        (ResponseFraming::Chunked, None)
    } else {
        (ResponseFraming::UntilClose, None)
    };
    let keep_alive = asked.persistent && !must_close && !head.close && framing != ResponseFraming::UntilClose;
    let connection = match (keep_alive, asked.version) {
        (false, _) => Some("close"),
        (true, Version::Http10) => Some("keep-alive"),
        (true, Version::Http11) => None,
    };
    Plan { framing, content_length, keep_alive, connection }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
