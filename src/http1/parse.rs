//! Reading a request head (RFC 9112 §2 to §5) out of a buffer that grows.
//!
//! Laws:
//! 1. The verdict is that of the first line that breaks a rule, and it is known at the same byte however the input was
//!    split.
//! 2. Each byte is looked at a fixed number of times. A head that came whole and breaks no rule is read in one pass, by
//!    `httparse`. Any other has its line ends found once and remembered, its lines judged once each while the rest is
//!    awaited, and is read once more when the empty line is there.
//! 3. A limit is enforced on the byte that breaks it, without waiting for the line's end.

use httparse::{EMPTY_HEADER, Header, Status, parse_headers};
use memchr::{memchr, memchr_iter, memrchr};

use crate::http::fields::{is_field_value, is_ows, is_tchar, is_token};
use crate::http::head::{PreviousHead, Received, RequestHead, RequestLine, Span, Version};
use crate::http::limits::Limits;
use crate::http::reject::Reject;
use crate::http::target;

/// Up to this number of field lines the parser's table lies on the stack; a browser sends 10 to 20.
const FEW_FIELDS: usize = 32;

/// The first byte of a TLS record that carries a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How far a head has been looked at. The first head of a connection begins with a fresh one, each other with one that knows
/// what came before ([`HeadProgress::behind`]).
#[derive(Clone, Debug, Default)]
pub struct HeadProgress {
    // Where the request line begins: 2 behind an empty line that was skipped.
    start: usize,
    // The request line, once it is complete.
    request: Option<RequestLine>,
    // Where the first field line begins.
    fields_start: usize,
    // Where the line begins whose end was not found yet.
    line_start: usize,
    // Complete field lines.
    field_lines: usize,
    // Field lines that begin before this were judged.
    judged: usize,
    // Before this there is no line end that was not seen.
    scanned: usize,
    earlier: PreviousHead,
}

impl HeadProgress {
    /// A fresh one for the head that comes behind this one.
    pub fn behind(head: RequestHead) -> Self {
        Self { earlier: head.into_earlier(), ..Self::default() }
    }

    /// What has come of the request in `input`, whose head is incomplete or was refused. A request line that is none is cut
    /// at its limit.
    pub fn received(&self, input: &[u8], limits: &Limits) -> Received {
        let input = slice(input, self.start, input.len());
        if let Some(request) = self.request {
            let line = slice(input, 0, request.line.end as usize);
            return Received::Head(RequestHead::new(line.to_vec(), request, Vec::new()));
        }
        let line = slice(input, 0, memchr(b'\n', input).unwrap_or(input.len()));
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Received::Line(slice(line, 0, line.len().min(limits.request_line)).to_vec())
    }
}

/// Looks for a head at the front of `input`, which begins with the same bytes at each call for one head.
///
/// `Ok(None)` asks for more bytes. Otherwise the head comes with the number of bytes that it took, a skipped empty line
/// included.
pub fn head(
    input: &[u8],
    progress: &mut HeadProgress,
    limits: &Limits,
) -> Result<Option<(RequestHead, usize)>, Reject> {
    let Some(request) = find_request_line(input, progress, limits)? else { return Ok(None) };
    if progress.scanned == progress.fields_start {
        if let Some((fields, end)) = whole_section(input, progress, limits) {
            return Ok(Some(complete(input, progress, request, fields, end)));
        }
    }
    match find_head_end(input, progress, limits) {
        Ok(Some(end)) => match parse_fields(input, progress, end) {
            Some(fields) => Ok(Some(complete(input, progress, request, fields, end))),
            None => Err(judge_lines(input, progress).err().unwrap_or(Reject::FieldNameMalformed)),
        },
        Ok(None) => {
            judge_lines(input, progress)?;
            progress.judged = progress.line_start;
            Ok(None)
        }
        // What an earlier line did wrong comes first.
        Err(reject) => Err(judge_lines(input, progress).err().unwrap_or(reject)),
    }
}

fn complete(
    input: &[u8],
    progress: &mut HeadProgress,
    request: RequestLine,
    fields: Vec<(Span, Span)>,
    end: usize,
) -> (RequestHead, usize) {
    let mut bytes = std::mem::take(&mut progress.earlier.bytes);
    bytes.clear();
    bytes.extend_from_slice(slice(input, progress.start, end));
    *progress = HeadProgress::default();
    (RequestHead::new(bytes, request, fields), end)
}

// The request line, judged where it ends.
fn find_request_line(
    input: &[u8],
    progress: &mut HeadProgress,
    limits: &Limits,
) -> Result<Option<RequestLine>, Reject> {
    if progress.request.is_none() {
        if !find_start(input, progress)? {
            return Ok(None);
        }
        let Some(end) = find_request_line_end(input, progress, limits)? else { return Ok(None) };
        progress.request = Some(request_line(slice(input, progress.start, end))?);
        progress.fields_start = end + 2;
        progress.line_start = end + 2;
        progress.judged = end + 2;
        progress.scanned = end + 2;
    }
    Ok(progress.request)
}

// Skips one empty line, which some clients send behind a body (RFC 9112 §2.2), and looks at the first byte: what cannot
// begin a method will never become a request. `false` asks for more bytes.
fn find_start(input: &[u8], progress: &mut HeadProgress) -> Result<bool, Reject> {
    let (start, first) = match input {
        [] | [b'\r'] | [b'\r', b'\n'] => return Ok(false),
        [b'\n', ..] | [b'\r', b'\n', b'\n', ..] => return Err(Reject::BareLf),
        [b'\r', b'\n', b'\r', ..] => return Err(Reject::EmptyLines),
        [b'\r', b'\n', first, ..] => (2, *first),
        [b'\r', ..] => return Err(Reject::BareCr),
        [first, ..] => (0, *first),
    };
    if first == TLS_HANDSHAKE {
        return Err(Reject::TlsRecord);
    }
    if !is_tchar(first) {
        return Err(Reject::MethodMalformed);
    }
    progress.start = start;
    progress.scanned = progress.scanned.max(start);
    Ok(true)
}

// Where the CRLF of the request line begins.
fn find_request_line_end(input: &[u8], progress: &mut HeadProgress, limits: &Limits) -> Result<Option<usize>, Reject> {
    let limit = limits.request_line;
    let found = memchr(b'\n', slice(input, progress.scanned, input.len()));
    let end = found.map_or(input.len(), |offset| progress.scanned + offset);
    let line = slice(input, progress.start, end);
    let has_cr = line.last() == Some(&b'\r');
    // A CR at the end is the line's end or about to be.
    if line.len() - usize::from(has_cr) > limit {
        return Err(Reject::RequestLineTooLong);
    }
    match found {
        Some(_) if has_cr => Ok(Some(end - 1)),
        Some(_) => Err(Reject::BareLf),
        None => {
            progress.scanned = end;
            Ok(None)
        }
    }
}

// method SP request-target SP HTTP-version (RFC 9112 §3), with exactly one space between each: a more
// lenient reader sees another target.
fn request_line(line: &[u8]) -> Result<RequestLine, Reject> {
    // A line that holds a CR breaks another rule as well, which counts for less.
    words(line).map_err(|reject| if memchr(b'\r', line).is_some() { Reject::BareCr } else { reject })
}

fn words(line: &[u8]) -> Result<RequestLine, Reject> {
    let first = memchr(b' ', line).unwrap_or(line.len());
    let last = if line.ends_with(b" HTTP/1.1") { line.len() - 9 } else { memrchr(b' ', line).unwrap_or(line.len()) };
    let method = slice(line, 0, first);
    if !is_token(method) {
        return Err(Reject::MethodMalformed);
    }
    let target = slice(line, first + 1, last);
    if target.is_empty() || memchr(b' ', target).is_some() {
        return Err(Reject::RequestLineMalformed);
    }
    // The version comes before the target, so that the preface of HTTP/2 (`PRI * HTTP/2.0`) learns what is wrong.
    let version = version(slice(line, last + 1, line.len()))?;
    let parts = target::parse(method, target)?;
    // No part lies elsewhere; one behind 4 GiB, should a limit be that high, has no span.
    let span = |part: &[u8]| match part {
        [] => Ok(Span::default()),
        _ => Span::of(part, line).ok_or(Reject::RequestLineTooLong),
    };
    Ok(RequestLine {
        line: span(line)?,
        method: span(method)?,
        target: span(target)?,
        path: span(parts.path)?,
        query: span(parts.query)?,
        authority: parts.authority.map(span).transpose()?,
        form: parts.form,
        version,
    })
}

// HTTP-version is case-sensitive (RFC 9112 §2.3). A minor version above 1 would be ours to answer as 1.1, but none
// exists: a client that sends one means something else.
fn version(text: &[u8]) -> Result<Version, Reject> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Reject::VersionUnsupported),
        _ => Err(Reject::VersionMalformed),
    }
}

// The end of the whole head: behind the empty line. Counts lines and bytes, but does not judge what the lines say.
fn find_head_end(input: &[u8], progress: &mut HeadProgress, limits: &Limits) -> Result<Option<usize>, Reject> {
    for offset in memchr_iter(b'\n', slice(input, progress.scanned, input.len())) {
        let next = progress.scanned + offset + 1;
        if next - progress.fields_start > limits.header_size {
            return Err(Reject::HeaderTooLarge);
        }
        match slice(input, progress.line_start, next) {
            b"\r\n" => return Ok(Some(next)),
            [.., b'\r', b'\n'] => {}
            _ => return Err(Reject::BareLf),
        }
        if progress.field_lines >= limits.header_fields {
            return Err(Reject::TooManyFields);
        }
        progress.field_lines += 1;
        progress.line_start = next;
    }
    if input.len().saturating_sub(progress.fields_start) > limits.header_size {
        return Err(Reject::HeaderTooLarge);
    }
    progress.scanned = input.len();
    Ok(None)
}

// Names and values of a field section that is all there, and its end. `None` if it is not, or breaks a rule or a limit: which one,
// a closer look says. `httparse` takes a bare LF for a line end, and we do not.
fn whole_section(input: &[u8], progress: &mut HeadProgress, limits: &Limits) -> Option<(Vec<(Span, Span)>, usize)> {
    let section = slice(input, progress.fields_start, input.len());
    let at = progress.fields_start - progress.start;
    let (mut fields, repeated) = progress.earlier.repeated(section, at);
    let keeps = |length: usize, lines: usize| length <= limits.header_size && lines <= limits.header_fields;
    if let Some(length) = repeated {
        let end = progress.fields_start + length;
        return keeps(length, fields.len()).then_some((fields, end));
    }
    let mut table = [EMPTY_HEADER; FEW_FIELDS];
    let Ok(Status::Complete((length, headers))) = parse_headers(section, &mut table) else { return None };
    if !keeps(length, headers.len()) {
        return None;
    }
    let end = progress.fields_start + length;
    let whole = slice(input, progress.start, end);
    fields.reserve_exact(headers.len());
    for header in headers {
        let name = Span::of(header.name.as_bytes(), whole)?;
        if !ends_line(whole, name.start as usize) {
            return None;
        }
        fields.push((name, Span::of(header.value, whole)?));
    }
    let is_ended = ends_line(whole, whole.len()) && ends_line(whole, whole.len() - 2);
    is_ended.then_some((fields, end))
}

fn ends_line(bytes: &[u8], end: usize) -> bool {
    bytes.get(..end).is_some_and(|line| line.ends_with(b"\r\n"))
}

// Names and values of a complete head. `None` if a line breaks a rule; which one it is, `judge_lines` says.
fn parse_fields(input: &[u8], progress: &HeadProgress, end: usize) -> Option<Vec<(Span, Span)>> {
    let whole = slice(input, progress.start, end);
    let section = slice(input, progress.fields_start, end);
    if progress.field_lines <= FEW_FIELDS {
        read_fields(section, whole, &mut [EMPTY_HEADER; FEW_FIELDS])
    } else {
        read_fields(section, whole, &mut vec![EMPTY_HEADER; progress.field_lines])
    }
}

fn read_fields<'b>(section: &'b [u8], whole: &[u8], table: &mut [Header<'b>]) -> Option<Vec<(Span, Span)>> {
    match parse_headers(section, table) {
        Ok(Status::Complete((length, headers))) if length == section.len() => {
            let mut fields = Vec::with_capacity(headers.len());
            for header in headers {
                fields.push((Span::of(header.name.as_bytes(), whole)?, Span::of(header.value, whole)?));
            }
            Some(fields)
        }
        _ => None,
    }
}

// The first rule that a complete field line breaks, of those lines that were not judged before.
fn judge_lines(input: &[u8], progress: &HeadProgress) -> Result<(), Reject> {
    let mut start = progress.judged;
    let lines = slice(input, start, progress.line_start);
    for end in memchr_iter(b'\n', lines).map(|offset| progress.judged + offset) {
        let line = slice(input, start, end.saturating_sub(1));
        judge_line(line, start == progress.fields_start)?;
        start = end + 1;
    }
    Ok(())
}

// field-line = field-name ":" OWS field-value OWS (RFC 9112 §5), without its CRLF.
fn judge_line(line: &[u8], is_first: bool) -> Result<(), Reject> {
    if memchr(b'\r', line).is_some() {
        return Err(Reject::BareCr);
    }
    if line.first().is_some_and(|&byte| is_ows(byte)) {
        return Err(if is_first { Reject::SpaceBeforeFields } else { Reject::FieldFolded });
    }
    let colon = memchr(b':', line).ok_or(Reject::FieldWithoutColon)?;
    let (name, value) = (slice(line, 0, colon), slice(line, colon + 1, line.len()));
    match name.last() {
        None => Err(Reject::FieldNameEmpty),
        Some(&last) if is_ows(last) => Err(Reject::SpaceBeforeColon),
        Some(_) if !is_token(name) => Err(Reject::FieldNameMalformed),
        Some(_) if !is_field_value(value) => Err(Reject::FieldValueMalformed),
        Some(_) => Ok(()),
    }
}

// Bounds that do not fit, which only an input that shrank could bring, give no bytes.
fn slice(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
