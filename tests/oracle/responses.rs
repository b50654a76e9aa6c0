//! A strict client: takes what a server sent on one connection to pieces (RFC 9112 §4 to §7), and says for each response
//! whether it is whole. Anything that two clients could take differently is an error.

use wsgi_core::http::head::Version;

/// What the client asked, as far as it decides how the response is read.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext {
    pub is_head: bool,
    pub version: Version,
}

/// How the connection stands when the last byte was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Open,
    /// The server has ended its side in order.
    Ended,
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Statuses of the interim responses before it.
    pub interim: Vec<u16>,
    pub status: u16,
    pub reason: Vec<u8>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub content: Vec<u8>,
    /// The fields behind chunked content.
    pub trailers: Fields,
    /// The client knows that nothing is missing.
    pub is_whole: bool,
}

impl Response {
    /// The values of one field. The name is in lower case.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |(found, _): &&(Vec<u8>, Vec<u8>)| found.eq_ignore_ascii_case(name);
        self.fields.iter().filter(is_it).map(|(_, value)| value.as_slice())
    }

    /// The server will close the connection behind it.
    pub fn says_close(&self) -> bool {
        self.values(b"connection").any(|value| value == b"close")
    }
}

/// Everything a server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// All are whole but for the last, which may be torn.
    pub responses: Vec<Response>,
    /// Interim responses behind the last.
    pub interim: Vec<u16>,
    /// The bytes end inside of a head.
    pub torn: bool,
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

/// Reads the responses to `asked`. A response more than was asked for is the error answer to what is no request.
pub fn read(mut bytes: &[u8], asked: &[ResponseContext], ending: Ending) -> Result<Reading, String> {
    let mut reading = Reading { responses: Vec::new(), interim: Vec::new(), torn: false };
    while !bytes.is_empty() {
        if let Some(last) = reading.responses.last() {
            if !last.is_whole || last.says_close() {
                return Err(format!("bytes behind the last response: {}", bytes.escape_ascii()));
            }
        }
        let Some((status, reason, fields, rest)) = head(bytes)? else {
            reading.torn = true;
            break;
        };
        bytes = rest;
        if status < 200 {
            let frames = [&b"content-length"[..], b"transfer-encoding"];
            if fields.iter().any(|(name, _)| frames.iter().any(|frame| name.eq_ignore_ascii_case(frame))) {
                return Err(format!("an interim response with a length: {status}"));
            }
            reading.interim.push(status);
            continue;
        }
        let asked = asked.get(reading.responses.len());
        let asked = asked.copied().unwrap_or(ResponseContext { is_head: false, version: Version::Http11 });
        let interim = std::mem::take(&mut reading.interim);
        let mut response = Response {
            interim,
            status,
            reason: reason.to_vec(),
            fields,
            content: Vec::new(),
            trailers: Vec::new(),
            is_whole: false,
        };
        let length = length(&response, asked)?;
        bytes = content(&mut response, &length, bytes, ending)?;
        reading.responses.push(response);
    }
    Ok(reading)
}

// Status, reason and fields of the head at the front, and what follows it.
type Head<'b> = (u16, &'b [u8], Fields, &'b [u8]);

// `None`: it is not complete.
fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, String> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        // What is torn must still be the beginning of a response.
        let start = b"HTTP/1.1 ";
        let common = bytes.len().min(start.len());
        return if bytes[..common] == start[..common] { Ok(None) } else { Err("no status line".to_owned()) };
    };
    let ended = |line| <[u8]>::strip_suffix(line, b"\r\n").ok_or("a line end that is no CRLF");
    let mut lines = bytes[..end + 2].split_inclusive(|&byte| byte == b'\n').map(ended);
    let status_line = lines.next().unwrap_or(Ok(b""))?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', code @ .., b' '] =
        &status_line[..status_line.len().min(13)]
    else {
        return Err(format!("no status line: {}", status_line.escape_ascii()));
    };
    let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
    let Some(code @ 100..=999) = code else {
        return Err(format!("no status code: {}", status_line.escape_ascii()));
    };
    let reason = &status_line[13..];
    if !reason.iter().copied().all(is_text) {
        return Err(format!("a reason with control characters: {}", reason.escape_ascii()));
    }
    let mut fields = Vec::new();
    for line in lines {
        fields.push(field(line?)?);
    }
    Ok(Some((code, reason, fields, &bytes[end + 4..])))
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let wrong = || format!("no field line: {}", line.escape_ascii());
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(is_token) || !value.iter().copied().all(is_text) {
        return Err(wrong());
    }
    Ok((name.to_vec(), value.strip_prefix(b" ").ok_or_else(wrong)?.to_vec()))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

// The length of the content (RFC 9112 §6.3), and whether the fields of the connection agree with it.
fn length(response: &Response, asked: ResponseContext) -> Result<Length, String> {
    let only = |name: &'static [u8]| match response.values(name).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        [value] => Ok(Some(value.to_vec())),
        _ => Err(format!("more than one {}", name.escape_ascii())),
    };
    for name in [&b"date"[..], b"server"] {
        only(name)?.ok_or_else(|| format!("no {}", name.escape_ascii()))?;
    }
    let announced = match only(b"content-length")? {
        None => None,
        Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse::<u64>().ok());
            Some(number.ok_or("a length of more than 64 bits")?)
        }
        Some(other) => return Err(format!("no length: {}", other.escape_ascii())),
    };
    let is_chunked = match only(b"transfer-encoding")?.as_deref() {
        None => false,
        Some(b"chunked") if announced.is_some() => return Err("chunked, and of known length".to_owned()),
        Some(b"chunked") if asked.version == Version::Http10 => return Err("chunked towards HTTP/1.0".to_owned()),
        Some(b"chunked") => true,
        Some(other) => return Err(format!("another coding: {}", other.escape_ascii())),
    };
    let persists = match only(b"connection")?.as_deref() {
        None => asked.version == Version::Http11,
        Some(b"close") => false,
        Some(b"keep-alive") if asked.version == Version::Http10 => true,
        Some(other) => return Err(format!("another connection option: {}", other.escape_ascii())),
    };
    let length = match (response.status, announced) {
        (204, Some(_)) => return Err("204 with a length".to_owned()),
        (205, Some(1..)) => return Err("205 with content".to_owned()),
        (204 | 304, _) => Length::Known(0),
        _ if asked.is_head => Length::Known(0),
        (_, Some(length)) => Length::Known(length),
        _ if is_chunked => Length::Chunked,
        _ if persists => return Err("content without an end on a connection that persists".to_owned()),
        _ => Length::UntilClose,
    };
    if is_chunked && !matches!(length, Length::Chunked) {
        return Err("chunked, but without content".to_owned());
    }
    Ok(length)
}

// Reads the content; gives what follows it.
fn content<'b>(
    response: &mut Response,
    length: &Length,
    mut bytes: &'b [u8],
    ending: Ending,
) -> Result<&'b [u8], String> {
    let mut take = |bytes: &mut &'b [u8], count: u64| {
        let share = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        let (content, rest) = bytes.split_at(share);
        response.content.extend_from_slice(content);
        *bytes = rest;
        share as u64 == count
    };
    match length {
        Length::Known(length) => response.is_whole = take(&mut bytes, *length),
        Length::UntilClose => {
            take(&mut bytes, u64::MAX);
            response.is_whole = ending == Ending::Ended;
        }
        Length::Chunked => loop {
            let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
                // A size that is torn.
                let digits = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                return if digits.iter().all(u8::is_ascii_hexdigit) { Ok(&[]) } else { Err(no_chunk(bytes)) };
            };
            let size = &bytes[..end];
            let number = std::str::from_utf8(size).ok().filter(|size| !size.starts_with(['+', '0']) || *size == "0");
            let number = number.and_then(|size| u64::from_str_radix(size, 16).ok()).ok_or_else(|| no_chunk(size))?;
            bytes = &bytes[end + 2..];
            if number == 0 {
                // The trailer section (RFC 9112 §7.1.2).
                while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
                    let line = &bytes[..end];
                    bytes = &bytes[end + 2..];
                    if line.is_empty() {
                        response.is_whole = true;
                        return Ok(bytes);
                    }
                    response.trailers.push(field(line).map_err(|_| no_chunk(line))?);
                }
                return Ok(&[]);
            }
            if !take(&mut bytes, number) {
                break;
            }
            match bytes {
                [b'\r', b'\n', rest @ ..] => bytes = rest,
                [] | [b'\r'] => return Ok(&[]),
                _ => return Err(no_chunk(bytes)),
            }
        },
    }
    Ok(bytes)
}

fn no_chunk(bytes: &[u8]) -> String {
    format!("no chunk: {}", bytes.escape_ascii())
}
