//! Request targets (RFC 9112 §3.2): which of the four forms one has, and what its parts are.

use std::borrow::Cow;

use super::fields::valid_host;
use super::reject::Reject;

/// The forms of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `/path?query` (RFC 9112 §3.2.1).
    Origin,
    /// `http://authority/path?query` (RFC 9112 §3.2.2).
    Absolute,
    /// `host:port`, for CONNECT only (RFC 9112 §3.2.3).
    Authority,
    /// `*`, for OPTIONS only (RFC 9112 §3.2.4).
    Asterisk,
}

/// A valid target and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its form.
    pub form: Form,
    /// The authority of an absolute-form or authority-form target.
    pub authority: Option<&'a [u8]>,
    /// The path as it came; empty for the asterisk, the authority form, and an absolute form that names none.
    pub path: &'a [u8],
    /// The query without its question mark; empty if there is none.
    pub query: &'a [u8],
}

/// Parses a target.
///
/// Of the bytes that RFC 3986 excludes, those are refused that other servers could misread: controls,
/// white space, non-ASCII and `#`. The others (`"`, `<`, `>`, `\`, `^`, `` ` ``, `{`, `|`, `}`) are what browsers send.
pub fn parse<'a>(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, Reject> {
    if let Some(byte) = target.iter().find(|&&byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(if *byte == b'#' { Reject::TargetFragment } else { Reject::TargetByte });
    }
    match (method, target) {
        (b"CONNECT", _) if !valid_host(target) => Err(Reject::TargetMalformed),
        (b"CONNECT", _) => Ok(Target { form: Form::Authority, authority: Some(target), path: b"", query: b"" }),
        (_, [b'/', ..]) => {
            let (path, query) = split_query(target);
            Ok(Target { form: Form::Origin, authority: None, path, query })
        }
        (b"OPTIONS", b"*") => Ok(Target { form: Form::Asterisk, authority: None, path: b"", query: b"" }),
        _ => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Result<Target<'_>, Reject> {
    let colon = target.iter().position(|&byte| byte == b':').ok_or(Reject::TargetMalformed)?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(Reject::TargetMalformed)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Reject::TargetScheme);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.contains(&b'@') {
        return Err(Reject::TargetUserinfo);
    }
    if !valid_host(authority) {
        return Err(Reject::TargetAuthority);
    }
    let (path, query) = split_query(rest);
    Ok(Target { form: Form::Absolute, authority: Some(authority), path, query })
}

fn split_query(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b'?') {
        Some(mark) => {
            let (path, query) = text.split_at(mark);
            (path, query.get(1..).unwrap_or_default())
        }
        None => (text, &[]),
    }
}

/// Decodes percent-encoded bytes once (RFC 3986 §2.1). A `%` without two hexadecimal digits stays what it is.
pub fn percent_decode(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = text.iter().position(|&byte| byte == b'%') else { return Cow::Borrowed(text) };
    let (plain, mut rest) = text.split_at(first);
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    while let [byte, after @ ..] = rest {
        let (byte, after) = unescape(rest).unwrap_or((*byte, after));
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(decoded)
}

// The byte that an escape at the front stands for, and what follows it.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'%', high, low, after @ ..] => Some((hex_digit(*high)? << 4 | hex_digit(*low)?, after)),
        _ => None,
    }
}

/// The value of a hexadecimal digit in either case.
pub const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
