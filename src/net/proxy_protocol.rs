//! The PROXY protocol, versions 1 and 2: a header that a proxy sends ahead of what it relays, to say whose connection
//! that is. Bytes go in and values come out; who may send such a header is decided above.
//!
//! Whether a header is there is never guessed: a connection has one, whole and well-formed, or it is of no use.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, line end included.
pub const LONGEST_V1: usize = 107;
/// The longest header of version 2 that is taken. The length field could say 64 KiB, but the addresses need 216 bytes at
/// most, and what proxies add to them a few hundred.
pub const LONGEST_V2: usize = 4096;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_FIXED: usize = V2.len() + 4;

/// The extension that tells of TLS (`PP2_TYPE_SSL`), and the flag that the client speaks it (`PP2_CLIENT_SSL`).
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Which versions are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedVersion {
    /// Text only.
    V1,
    /// Binary only.
    V2,
    /// Whichever comes; their first bytes differ.
    Any,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// That of a client with this address.
    Ip(SocketAddr),
    /// That of a client whose address is not told: it came through a Unix socket, or in a way that the protocol has no
    /// name for.
    Unknown,
    /// The proxy's own, such as a health check.
    Proxy,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose connection it is.
    pub source: Source,
    /// Whether the proxy says that its client speaks TLS to it.
    pub tls: bool,
    /// The bytes it takes; what the client sent begins behind them.
    pub length: usize,
}

/// Why a connection has no usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The first bytes are not those of a version that is taken.
    Signature,
    /// The line of version 1 does not end in time.
    LineTooLong,
    /// The line holds a byte that is no printable ASCII, or a line end that is not CRLF.
    LineByte,
    /// Not a protocol, two addresses and two ports with one space between each.
    LineParts,
    /// The protocol is none of `TCP4`, `TCP6` and `UNKNOWN`.
    Protocol,
    /// An address is none of the protocol's.
    Address,
    /// A port is no number up to 65535, or has a zero in front.
    Port,
    /// The binary header is of another version than 2.
    Version,
    /// The command is neither `LOCAL` nor `PROXY`.
    Command,
    /// The address family and transport are no combination for streams.
    Family,
    /// The binary header is over its bound.
    TooLong,
    /// The length is too small for the family's addresses.
    TooShort,
    /// An extension (TLV) reaches beyond the header, or is too short for what it tells.
    Extension,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "the connection does not begin with it",
            Self::LineTooLong => "its line is longer than 107 bytes",
            Self::LineByte => "its line holds a control or non-ASCII byte",
            Self::LineParts => "its line does not have six parts with one space between each",
            Self::Protocol => "its protocol is none of TCP4, TCP6 and UNKNOWN",
            Self::Address => "an address is malformed",
            Self::Port => "a port is not a number from 0 to 65535",
            Self::Version => "the version of its binary form is not 2",
            Self::Command => "its command is neither LOCAL nor PROXY",
            Self::Family => "its address family or transport is unknown",
            Self::TooLong => "it is longer than 4096 bytes",
            Self::TooShort => "it is too short for its addresses",
            Self::Extension => "an extension is shorter than it says, or than it must be",
        })
    }
}

/// Reads the header that `bytes`, the beginning of a connection, begins with. `None`: more bytes are needed.
///
/// Bytes that no header begins with are refused at once, without waiting for more.
pub fn parse(bytes: &[u8], accepted: AcceptedVersion) -> Result<Option<Header>, Malformed> {
    let begins = |signature: &[u8]| signature.iter().zip(bytes).all(|(wanted, byte)| wanted == byte);
    if accepted != AcceptedVersion::V2 && begins(V1) {
        return parse_v1(bytes);
    }
    if accepted != AcceptedVersion::V1 && begins(V2) {
        return parse_v2(bytes);
    }
    Err(Malformed::Signature)
}

// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 80 CRLF`.
fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let line = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = line.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if line.len() < LONGEST_V1 { Ok(None) } else { Err(Malformed::LineTooLong) };
    };
    let (line, line_end) = line.split_at(end);
    match line_end {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if bytes.len() < LONGEST_V1 => return Ok(None),
        [b'\r'] => return Err(Malformed::LineTooLong),
        _ => return Err(Malformed::LineByte),
    }
    let text = std::str::from_utf8(line).map_err(|_| Malformed::LineByte)?;
    let mut parts = text.split(' ').skip(1);
    let source = match parts.next() {
        // What follows is to be ignored (§2.1).
        Some("UNKNOWN") => Source::Unknown,
        Some("TCP4") => Source::Ip(v1_source(parts, |address| address.parse().ok().map(IpAddr::V4))?),
        Some("TCP6") => Source::Ip(v1_source(parts, |address| address.parse().ok().map(IpAddr::V6))?),
        _ => return Err(Malformed::Protocol),
    };
    Ok(Some(Header { source, tls: false, length: end + 2 }))
}

// The source in `SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT`; the destination must be right all the same.
fn v1_source<'a>(
    mut parts: impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Result<SocketAddr, Malformed> {
    let mut part = || parts.next().ok_or(Malformed::LineParts);
    let (source, destination, source_port, destination_port) = (part()?, part()?, part()?, part()?);
    if parts.next().is_some() {
        return Err(Malformed::LineParts);
    }
    let source = address(source).ok_or(Malformed::Address)?;
    address(destination).ok_or(Malformed::Address)?;
    let source_port = v1_port(source_port).ok_or(Malformed::Port)?;
    v1_port(destination_port).ok_or(Malformed::Port)?;
    Ok(SocketAddr::new(source, source_port))
}

// The standard parser takes a sign and zeros in front; this protocol has neither (§2.1).
fn v1_port(text: &str) -> Option<u16> {
    let canonical = text == "0" || text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if canonical { text.parse().ok() } else { None }
}

// Version 2: signature, version and command, family and transport, length, addresses, extensions.
fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let rest = bytes.get(V2.len()..).unwrap_or_default();
    let &[version_and_command, family, high, low, ref payload @ ..] = rest else { return Ok(None) };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = V2_FIXED + announced;
    if version_and_command >> 4 != 2 {
        return Err(Malformed::Version);
    }
    if length > LONGEST_V2 {
        return Err(Malformed::TooLong);
    }
    let Some(payload) = payload.get(..announced) else { return Ok(None) };
    let (source, tls) = match version_and_command & 0x0f {
        // Nothing but the length counts (§2.2).
        0 => (Source::Proxy, false),
        1 => v2_source(family, payload)?,
        _ => return Err(Malformed::Command),
    };
    Ok(Some(Header { source, tls, length }))
}

// The source, and whether it speaks TLS.
fn v2_source(family: u8, payload: &[u8]) -> Result<(Source, bool), Malformed> {
    let (source, extensions) = match family {
        // Whatever follows is to be ignored (§2.2).
        0x00 => return Ok((Source::Unknown, false)),
        0x11 => {
            let (addresses, extensions) = payload.split_first_chunk::<12>().ok_or(Malformed::TooShort)?;
            let &[a, b, c, d, _, _, _, _, high, low, _, _] = addresses;
            let port = u16::from_be_bytes([high, low]);
            (Source::Ip(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port)), extensions)
        }
        0x21 => {
            let (ip, rest) = payload.split_first_chunk::<16>().ok_or(Malformed::TooShort)?;
            let (others, extensions) = rest.split_first_chunk::<20>().ok_or(Malformed::TooShort)?;
            let &[.., high, low, _, _] = others;
            let port = u16::from_be_bytes([high, low]);
            (Source::Ip(SocketAddr::new(Ipv6Addr::from(*ip).into(), port)), extensions)
        }
        0x31 => (Source::Unknown, payload.get(2 * 108..).ok_or(Malformed::TooShort)?),
        // Datagrams carry no HTTP/1.1; other values are not assigned, and such connections must be dropped (§2.2).
        _ => return Err(Malformed::Family),
    };
    Ok((source, tells_tls(extensions)?))
}

// Type, length in two bytes, value (§2.2.1). One of them is read, but the lengths of all must add up: where they do not,
// the sender and we disagree about where its client's bytes begin.
fn tells_tls(mut extensions: &[u8]) -> Result<bool, Malformed> {
    let mut tls = false;
    while !extensions.is_empty() {
        let &[kind, high, low, ref rest @ ..] = extensions else { return Err(Malformed::Extension) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = rest.split_at_checked(length).ok_or(Malformed::Extension)?;
        if kind == TYPE_SSL {
            // Flags, what became of the client's certificate in four bytes, and extensions of their own (§2.2.6).
            let &[flags, _, _, _, _, ..] = value else { return Err(Malformed::Extension) };
            tls = flags & CLIENT_SSL != 0;
        }
        extensions = after;
    }
    Ok(tls)
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
