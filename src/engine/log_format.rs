//! Formats of the access log, in the notation of Apache's `LogFormat`: read once, written for every record.

use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::engine::clock::time_of_day;
use crate::engine::observe::Record;
use crate::http::date::common_log;
use crate::http::head::RequestHead;
use crate::http::number::{Decimal, push_ip};
use crate::http::origin::Client;

/// Apache's combined format, the default.
pub const COMBINED: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;

/// Every directive, and what it stands for: the documentation's table.
pub const DIRECTIVES: &[(&str, &str)] = &[
    ("%%", "a percent sign"),
    ("%h", "address of the client, behind trusted proxies the one they name; `unix` for a Unix socket, `-` if unknown"),
    ("%a", "the same"),
    ("%{remote}p", "port of the client; 0 if unknown"),
    ("%l", "always `-`"),
    ("%u", "always `-`"),
    ("%t", "time when the request was complete, as `[30/Nov/2026:14:05:06 +0000]`"),
    ("%r", "request line, as far as it came; `-` if nothing came"),
    ("%m", "method; `-` if the request line is not valid"),
    ("%U", "path as it came, without the query; `-` if the request line is not valid"),
    ("%q", "query with its question mark; empty if there is none"),
    ("%H", "protocol version; `-` if the request line is not valid"),
    (
        "%s",
        "status; 499 if the client closed the connection, or was closed as too slow, before its response began, `-` if \
         none began otherwise",
    ),
    ("%>s", "the same"),
    ("%b", "bytes of response content, without framing; `-` for none"),
    ("%B", "the same; 0 for none"),
    ("%D", "microseconds from the complete request to the last byte of the response"),
    ("%T", "the same in seconds"),
    ("%{us}T", "the same in microseconds"),
    ("%{ms}T", "the same in milliseconds"),
    ("%{s}T", "the same in seconds"),
    ("%{Name}i", "the first request field of that name; `-` if it is missing or empty"),
    ("%X", "`+` for a response that left whole, `X` for one that did not"),
    ("%{reason}x", "why the server refused the request, or why the response did not leave whole; `-` otherwise"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Text(Vec<u8>),
    RemoteHost,
    RemotePort,
    Dash,
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Size { dash: bool },
    Microseconds,
    Milliseconds,
    Seconds,
    Field(Vec<u8>),
    ConnectionStatus,
    Reason,
}

/// A log format, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Atom>);

impl Format {
    /// Reads a format; the error says which directive is not known, and which are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut atoms = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            if at > 0 {
                atoms.push(Atom::Text(rest.as_bytes()[..at].to_vec()));
            }
            rest = &rest[at..];
            let (atom, length) = directive(rest).ok_or_else(|| unknown(text, rest))?;
            atoms.push(atom);
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            atoms.push(Atom::Text(rest.as_bytes().to_vec()));
        }
        Ok(Self(atoms))
    }

    /// Writes the line of one record.
    pub fn write(&self, record: &Record, stamp: &mut Stamp, out: &mut Vec<u8>) {
        for atom in &self.0 {
            write_atom(atom, record, stamp, out);
        }
        out.push(b'\n');
    }
}

// What is wrong with a format: `rest` begins with a directive that is not known.
fn unknown(format: &str, rest: &str) -> String {
    let known: Vec<_> = DIRECTIVES.iter().map(|(directive, _)| *directive).collect();
    let known = format!("known are {}", known.join(" "));
    if let Some(end) = rest.strip_prefix("%(").and_then(|named| named.find(")s")) {
        let directive = &rest[..end + 4];
        return match of_gunicorn(format) {
            Some(ours) => format!("gunicorn's notation {directive} is not spoken here; write {ours}"),
            None => format!("{directive} has no counterpart here; {known}"),
        };
    }
    let end = rest.find([' ', '"']).unwrap_or(rest.len());
    format!("unknown directive {}; {known}", &rest[..end])
}

// A format of gunicorn's (`%(h)s`) in our notation, if it has nothing that is not here.
fn of_gunicorn(format: &str) -> Option<String> {
    let mut ours = String::new();
    let mut rest = format;
    while let Some((text, behind)) = rest.split_once("%(") {
        let (name, behind) = behind.split_once(")s")?;
        let same = format!("%{name}");
        ours += text;
        ours += match name {
            "f" => "%{Referer}i",
            "a" => "%{User-Agent}i",
            "M" => "%{ms}T",
            _ => directive(&same).filter(|(_, length)| *length == same.len()).map(|_| same.as_str())?,
        };
        rest = behind;
    }
    ours += rest;
    Format::parse(&ours).ok().map(|_| ours)
}

// The directive that `text`, which begins with `%`, begins with, and its length.
fn directive(text: &str) -> Option<(Atom, usize)> {
    if let Some(named) = text.strip_prefix("%{") {
        let (name, after) = named.split_once('}')?;
        let length = 2 + name.len() + 1;
        return match (name, after.chars().next()?) {
            ("s", 'T') => Some((Atom::Seconds, length + 1)),
            ("ms", 'T') => Some((Atom::Milliseconds, length + 1)),
            ("us", 'T') => Some((Atom::Microseconds, length + 1)),
            ("reason", 'x') => Some((Atom::Reason, length + 1)),
            ("remote", 'p') => Some((Atom::RemotePort, length + 1)),
            (_, 'i') if !name.is_empty() => Some((Atom::Field(name.as_bytes().to_ascii_lowercase()), length + 1)),
            _ => None,
        };
    }
    if text.starts_with("%>s") {
        return Some((Atom::Status, 3));
    }
    let atom = match text.chars().nth(1)? {
        '%' => Atom::Text(b"%".to_vec()),
        'h' | 'a' => Atom::RemoteHost,
        'l' | 'u' => Atom::Dash,
        't' => Atom::Time,
        'r' => Atom::RequestLine,
        'm' => Atom::Method,
        'U' => Atom::Path,
        'q' => Atom::Query,
        'H' => Atom::Protocol,
        's' => Atom::Status,
        'b' => Atom::Size { dash: true },
        'B' => Atom::Size { dash: false },
        'D' => Atom::Microseconds,
        'T' => Atom::Seconds,
        'X' => Atom::ConnectionStatus,
        _ => return None,
    };
    Some((atom, 2))
}

fn write_atom(atom: &Atom, record: &Record, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let head = record.request.head();
    let mut number = |value: u64| out.extend_from_slice(Decimal::new(value).as_bytes());
    match atom {
        Atom::Text(text) => out.extend_from_slice(text),
        Atom::RemoteHost => match record.client {
            Client::Ip(ip, _) => push_ip(out, ip),
            Client::Local => out.extend_from_slice(b"unix"),
            Client::Unknown => out.push(b'-'),
        },
        Atom::RemotePort => match record.client {
            Client::Ip(_, Some(port)) => number(port.into()),
            _ => number(0),
        },
        Atom::Dash => out.push(b'-'),
        Atom::Time => {
            out.push(b'[');
            out.extend_from_slice(stamp.at(record.started));
            out.push(b']');
        }
        Atom::RequestLine => write_value(Some(record.request.request_line()), out),
        Atom::Method => write_part(head.map(RequestHead::method), out),
        Atom::Path => write_part(head.map(RequestHead::path), out),
        Atom::Query => {
            if let Some(query) = head.map(RequestHead::query).filter(|query| !query.is_empty()) {
                out.push(b'?');
                escape(query, out);
            }
        }
        Atom::Protocol => write_part(head.map(|head| head.version().as_bytes()), out),
        Atom::Status if record.status == 0 => out.push(b'-'),
        Atom::Status => number(record.status.into()),
        Atom::Size { dash: true } if record.body_bytes == 0 => out.push(b'-'),
        Atom::Size { .. } => number(record.body_bytes),
        Atom::Microseconds => number(u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX)),
        Atom::Milliseconds => number(u64::try_from(record.took.as_millis()).unwrap_or(u64::MAX)),
        Atom::Seconds => number(record.took.as_secs()),
        Atom::Field(name) => write_value(head.and_then(|head| head.value(name)), out),
        Atom::Reason => write_part(record.cause.map(|cause| cause.text().as_bytes()), out),
        Atom::ConnectionStatus => out.push(if record.complete { b'+' } else { b'X' }),
    }
}

// What may be empty, or absent.
fn write_part(part: Option<&[u8]>, out: &mut Vec<u8>) {
    escape(part.unwrap_or(b"-"), out);
}

// What an item that is empty, or absent, has a dash for.
fn write_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    write_part(value.filter(|value| !value.is_empty()), out);
}

/// The time of day as text, which is the same in all lines of one second.
#[derive(Default)]
pub struct Stamp(Option<Second>);

// A second of the time of day.
struct Second {
    begins: Instant,
    ends: Instant,
    text: [u8; 26],
}

impl Second {
    // The one that has this moment in it. A change of the time of day is followed within a second.
    fn of(moment: Instant) -> Self {
        let time = time_of_day().checked_sub(moment.elapsed()).unwrap_or(UNIX_EPOCH);
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let gone = Duration::from_nanos(since.subsec_nanos().into());
        let begins = moment.checked_sub(gone).unwrap_or(moment);
        Self { begins, ends: begins + Duration::from_secs(1), text: common_log(since.as_secs()) }
    }
}

impl Stamp {
    fn at(&mut self, moment: Instant) -> &[u8; 26] {
        let known = self.0.take().filter(|second| second.begins <= moment && moment < second.ends);
        &self.0.insert(known.unwrap_or_else(|| Second::of(moment))).text
    }
}

// As Apache does it: nothing that a client sends can end a quoted item, a line, or reach a terminal as a control.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Looked through to the last byte, whatever comes first, so that the compiler compares many at a time.
    let is_special = |byte: u8| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\';
    if bytes.iter().fold(0, |found, &byte| found | u8::from(is_special(byte))) == 0 {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(&digits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_that_are_listed_are_known_and_no_others() {
        let listed: Vec<_> = DIRECTIVES.iter().map(|(directive, _)| *directive).collect();
        for text in &listed {
            assert_eq!(directive(text).map(|(_, length)| length), Some(text.len()), "{text}");
        }
        let letters = || (' '..='~').filter(|letter| *letter != '{');
        let plain = letters().flat_map(|letter| [format!("%{letter}"), format!("%>{letter}")]);
        let inner = ["s", "ms", "us", "remote", "reason", "Name", "local", "c", "x"];
        let named = inner.iter().flat_map(|name| letters().map(move |letter| format!("%{{{name}}}{letter}")));
        for text in plain.chain(named) {
            let known = directive(&text).is_some_and(|(_, length)| length == text.len());
            assert_eq!(known, listed.contains(&text.as_str()) || text.ends_with("}i"), "{text}");
        }
    }

    #[test]
    fn unknown_directive_is_named_with_those_that_are_known() {
        for (text, named) in [("%h %y", "%y"), ("a%", "%"), ("\"%{X}z\"", "%{X}z"), ("%{X", "%{X"), ("%(h", "%(h")] {
            let problem = Format::parse(text).unwrap_err();
            assert!(problem.starts_with(&format!("unknown directive {named}; known are %% %h ")), "{problem}");
            assert!(problem.ends_with(" %{reason}x"), "{problem}");
        }
    }

    #[test]
    fn notation_of_gunicorn_is_refused_with_its_counterpart() {
        for (theirs, ours) in [
            ("%(h)s", "%h"),
            (
                "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"",
                "%h %l %u %t \"%r\" %s %b \"%{Referer}i\" \"%{User-Agent}i\"",
            ),
            ("%(M)s ms %({x-request-id}i)s", "%{ms}T ms %{x-request-id}i"),
        ] {
            let problem = Format::parse(theirs).unwrap_err();
            assert!(problem.ends_with(&format!(" is not spoken here; write {ours}")), "{problem}");
        }
        for text in ["%(L)s", "%(p)s", "%({x}o)s", "%(h)s %(L)s"] {
            let problem = Format::parse(text).unwrap_err();
            assert!(problem.contains(" has no counterpart here; known are %% "), "{problem}");
        }
    }
}
