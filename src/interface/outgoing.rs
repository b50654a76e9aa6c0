//! Validates the status and the fields of an application's response: from `start_response` (PEP 3333, "The `start_response()`
//! Callable"), or from ASGI's messages. Nothing passes that could change the framing or the lines of the response.

use std::fmt;

use crate::http::fields::{has_element, is_field_byte, is_named, is_tchar, parse_content_length, trim_ows};
use crate::http::head::{ResponseHead, push_line};
use crate::http::status::Status;

/// What was done with a valid field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOutcome {
    /// It was added to the response.
    Added,
    /// It was dropped: the server sets it.
    Dropped,
}

/// A character that the grammar does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvalidCharacter {
    /// Its code point.
    pub code: u32,
    /// Its position, counted from 0.
    pub at: usize,
}

impl InvalidCharacter {
    fn find(text: &[u8], fits: impl Fn(u8) -> bool) -> Option<Self> {
        // Without an early end most texts, which fit, take half the instructions.
        if text.iter().fold(true, |all, &byte| all & fits(byte)) {
            return None;
        }
        let at = text.iter().position(|&byte| !fits(byte))?;
        text.get(at).map(|&byte| Self { code: byte.into(), at })
    }
}

impl fmt::Display for InvalidCharacter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            0x00 => formatter.write_str("a NUL")?,
            0x09 => formatter.write_str("a tab")?,
            0x0a => formatter.write_str("a line feed")?,
            0x0d => formatter.write_str("a carriage return")?,
            0x20 => formatter.write_str("a space")?,
            code @ (0x00..0x20 | 0x7f) => write!(formatter, "the control character 0x{code:02x}")?,
            code @ 0x80..=0xff => write!(formatter, "the non-ASCII character U+{code:04X}")?,
            code @ 0x100.. => write!(formatter, "the character U+{code:04X}, which is not in latin-1,")?,
            code => write!(formatter, "'{}'", char::from_u32(code).unwrap_or_default())?,
        }
        write!(formatter, " at position {}", self.at)
    }
}

/// An invalid status or field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppError {
    /// The status is not three digits, a space and a reason.
    StatusMalformed,
    /// The status is a number that no response can have.
    StatusRange,
    /// The status is that of an interim response, which does not answer a request.
    StatusInterim,
    /// The reason holds a control character.
    ReasonByte(InvalidCharacter),
    /// A field has no name.
    FieldNameEmpty,
    /// A field's name is no token.
    FieldNameByte(InvalidCharacter),
    /// A field's value holds a control character.
    FieldValueByte(InvalidCharacter),
    /// Content-Length is no plain number.
    ContentLengthMalformed,
    /// Content-Length was given twice, with different values.
    ContentLengthConflict,
}

/// Most bytes of a name that a message contains.
const MAX_SHOWN_NAME_BYTES: usize = 64;

/// The part of a field's name that a message may contain: the token that it begins with.
pub fn shown_name(name: &[u8]) -> String {
    name.iter().take_while(|&&byte| is_tchar(byte)).take(MAX_SHOWN_NAME_BYTES).copied().map(char::from).collect()
}

impl AppError {
    /// What is wrong with the field of this name. The value is never shown, nor what follows the first invalid character of
    /// a name: that may be a value as well.
    pub fn in_field(self, name: &[u8]) -> String {
        let shown = shown_name(name);
        match self {
            Self::FieldNameByte(_) if shown.is_empty() => format!("a header name {self}"),
            Self::FieldNameByte(_) => format!("the header name that begins with '{shown}' {self}"),
            Self::FieldNameEmpty => self.to_string(),
            _ => format!("header '{shown}': {self}"),
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::StatusMalformed => "three digits from 200 to 999, a space and a reason are required, as in '200 OK'",
            Self::StatusRange => "a number from 200 to 999 is required",
            Self::StatusInterim => "a final status is required, but 100 to 199 announce an interim response",
            Self::ReasonByte(character) => return write!(formatter, "the reason contains {character}"),
            Self::FieldNameEmpty => "a header name is empty",
            Self::FieldNameByte(character) => {
                return write!(
                    formatter,
                    "contains {character}; a name consists of ASCII letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 5.6.2)"
                );
            }
            Self::FieldValueByte(character) => return write!(formatter, "the value contains {character}"),
            Self::ContentLengthMalformed => "the value must be a plain decimal number below 2**64",
            Self::ContentLengthConflict => "it was given before, with another value",
        };
        formatter.write_str(text)
    }
}

impl std::error::Error for AppError {}

/// Parses a status line such as `200 OK`. The reason may be empty, but not the space before it.
pub fn status(line: &[u8]) -> Result<ResponseHead, AppError> {
    let [hundreds @ b'0'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', reason @ ..] = line else {
        return Err(AppError::StatusMalformed);
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    let status = Status::new(code).ok_or(AppError::StatusMalformed)?;
    if status.is_informational() {
        return Err(AppError::StatusInterim);
    }
    if let Some(InvalidCharacter { code, at }) = InvalidCharacter::find(reason, is_field_byte) {
        return Err(AppError::ReasonByte(InvalidCharacter { code, at: at + line.len() - reason.len() }));
    }
    Ok(ResponseHead::new(status, reason))
}

/// The head for a status code, with its registered reason.
pub fn status_code(code: u16) -> Result<ResponseHead, AppError> {
    let status = Status::new(code).ok_or(AppError::StatusRange)?;
    if status.is_informational() {
        return Err(AppError::StatusInterim);
    }
    Ok(ResponseHead::new(status, status.reason().as_bytes()))
}

/// Validates a field and adds it to the head.
///
/// 1. Hop-by-hop fields are the server's (PEP 3333 forbids them to applications). They are dropped instead of refused, because
///    applications that relay another server's response send them. `Connection: close` is honoured.
/// 2. Content-Length is stored instead of added; the same value twice counts as one.
/// 3. Of Date and Server only the first line is kept: both have one value (RFC 9110 §6.6.1, §10.2.4).
pub fn field(head: &mut ResponseHead, name: &[u8], value: &[u8]) -> Result<FieldOutcome, AppError> {
    validate(name, value)?;
    if is_hop_by_hop(name) {
        head.close |= is_named(name, b"Connection") && has_element(value, b"close");
        return Ok(FieldOutcome::Dropped);
    }
    if is_named(name, b"Content-Length") {
        let length = parse_content_length(trim_ows(value)).ok_or(AppError::ContentLengthMalformed)?;
        if head.content_length.is_some_and(|earlier| earlier != length) {
            return Err(AppError::ContentLengthConflict);
        }
        head.content_length = Some(length);
        return Ok(FieldOutcome::Added);
    }
    if (head.has_date && is_named(name, b"Date")) || (head.has_server && is_named(name, b"Server")) {
        return Ok(FieldOutcome::Dropped);
    }
    head.push(name, value);
    Ok(FieldOutcome::Added)
}

/// Validates a field of an early hint (103) or of a trailer section and appends its line. Hop-by-hop fields and
/// Content-Length, which would describe another body, are dropped (RFC 9110 §6.5.1).
pub fn hint_or_trailer_field(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<FieldOutcome, AppError> {
    validate(name, value)?;
    if is_hop_by_hop(name) || is_named(name, b"Content-Length") {
        return Ok(FieldOutcome::Dropped);
    }
    push_line(lines, name, value);
    Ok(FieldOutcome::Added)
}

fn validate(name: &[u8], value: &[u8]) -> Result<(), AppError> {
    if name.is_empty() {
        return Err(AppError::FieldNameEmpty);
    }
    if let Some(character) = InvalidCharacter::find(name, is_tchar) {
        return Err(AppError::FieldNameByte(character));
    }
    if let Some(character) = InvalidCharacter::find(value, is_field_byte) {
        return Err(AppError::FieldValueByte(character));
    }
    Ok(())
}

/// The hop-by-hop fields of RFC 9110 §7.6.1, and those that RFC 2616 §13.5.1, the list that PEP 3333 means,
/// names besides: Proxy-Authenticate, Proxy-Authorization, and Trailers, by which it calls Trailer.
fn is_hop_by_hop(name: &[u8]) -> bool {
    let is = |other: &[u8]| is_named(name, other);
    match name.len() {
        2 => is(b"TE"),
        7 => is(b"Trailer") || is(b"Upgrade"),
        8 => is(b"Trailers"),
        10 => is(b"Connection") || is(b"Keep-Alive"),
        16 => is(b"Proxy-Connection"),
        17 => is(b"Transfer-Encoding"),
        18 => is(b"Proxy-Authenticate"),
        19 => is(b"Proxy-Authorization"),
        _ => false,
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
