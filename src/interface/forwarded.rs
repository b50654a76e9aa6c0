//! The origin of a request that came through proxies (RFC 7239, and the older X-Forwarded fields).
//!
//! Any client can send these fields, so they are trusted only as far as their writer is:
//!
//! 1. They are read only if the peer is trusted.
//! 2. Only the configured fields are read: proxies pass on those that they do not write.
//! 3. Elements are read from the right, because each proxy appends its own there: the peer wrote the rightmost one, the
//!    address in it wrote the one before, if that is trusted as well, and so on, for as many elements as there are
//!    proxies. Elements further left may come from the client and are ignored.
//! 4. A malformed element of a trusted proxy is refused, because any guess could be wrong.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::fields::{
    is_ows, is_tchar, is_token, letters_digits_and, parse_content_length, port_of, trim_ows, valid_host,
};
use crate::http::head::RequestHead;
use crate::http::origin::{Client, ForwardedField, Origin, Scheme};
use crate::http::reject::Reject;
use crate::http::target::percent_decode;
use crate::http::trust::Trust;

/// Bytes of an obfuscated identifier behind its underscore (RFC 7239 §6.3).
const OBFUSCATED: [bool; 256] = letters_digits_and(b"._-");
/// Bytes of a path (RFC 3986 §3.3).
const PATH: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=:@/%");

/// The configuration of the proxies in front.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Their addresses.
    pub trust: Trust,
    /// How many of them a request passes through.
    pub hops: usize,
    /// The fields that they write. `Forwarded` excludes the others, which have the same meaning.
    pub fields: Vec<ForwardedField>,
}

impl Forwarding {
    /// The origin of a request, from its fields if the peer is trusted. `peer` is the other end of the connection, and
    /// `scheme` its scheme, if that is known.
    pub fn origin(&self, head: &RequestHead, peer: Client, scheme: Option<Scheme>) -> Result<Origin, Reject> {
        let mut origin = Origin { scheme, is_from_trusted_proxy: self.trust.covers(peer), ..Origin::of(peer) };
        if origin.is_from_trusted_proxy {
            if self.reads(ForwardedField::Forwarded) {
                self.read_forwarded(head, &mut origin)?;
            } else {
                self.read_x_forwarded(head, &mut origin)?;
            }
        }
        settle_port(head, &mut origin);
        Ok(origin)
    }

    fn reads(&self, field: ForwardedField) -> bool {
        self.fields.contains(&field)
    }

    fn read_x_forwarded(&self, head: &RequestHead, origin: &mut Origin) -> Result<(), Reject> {
        let mut reach = self.hops;
        if self.reads(ForwardedField::For) {
            let mut walked = 0;
            for element in from_right(head, ForwardedField::For).take(self.hops) {
                origin.client = node(element, true).ok_or(Reject::XForwardedForMalformed)?;
                walked += 1;
                // The element to the left was written by this address: read it only if that is trusted.
                if !self.trust.covers(origin.client) {
                    break;
                }
            }
            // As many elements of the other fields are trusted.
            reach = walked.max(1);
        }
        for &field in &self.fields {
            // One list may be shorter than another: a proxy may add to one field and replace another.
            let mut trusted: Vec<&[u8]> = from_right(head, field).take(reach).collect();
            trusted.reverse();
            let Some(&value) = trusted.first() else { continue };
            match field {
                ForwardedField::Proto => {
                    origin.scheme = Some(scheme(value).ok_or(Reject::XForwardedProtoMalformed)?);
                }
                ForwardedField::Host if is_host(value) => origin.host = Some(value.to_vec()),
                ForwardedField::Host => return Err(Reject::XForwardedHostMalformed),
                ForwardedField::Port => origin.port = Some(port(value).ok_or(Reject::XForwardedPortMalformed)?),
                ForwardedField::Prefix => {
                    origin.prefix = Some(prefix(value).ok_or(Reject::XForwardedPrefixMalformed)?);
                }
                ForwardedField::For | ForwardedField::Forwarded => {}
            }
            origin.fields.push((field, trusted.join(&b", "[..])));
        }
        Ok(())
    }

    fn read_forwarded(&self, head: &RequestHead, origin: &mut Origin) -> Result<(), Reject> {
        let malformed = Reject::ForwardedMalformed;
        let mut trusted: VecDeque<&[u8]> = VecDeque::new();
        // Each line is parsed on its own, so that an open quoted string of a client cannot include a proxy's line.
        'lines: for line in lines_from_right(head, ForwardedField::Forwarded) {
            let elements = last_elements(line, self.hops - trusted.len()).ok_or(malformed)?;
            for element in elements.iter().rev() {
                trusted.push_front(element.text);
                if let Some(value) = &element.host {
                    if !is_host(value) {
                        return Err(malformed);
                    }
                    origin.host = Some(value.to_vec());
                }
                if let Some(value) = &element.proto {
                    origin.scheme = Some(scheme(value).ok_or(malformed)?);
                }
                let next = match &element.client {
                    Some(value) => node(value, false).ok_or(malformed)?,
                    None => Client::Unknown,
                };
                if element.client.is_some() {
                    origin.client = next;
                }
                if !self.trust.covers(next) || trusted.len() == self.hops {
                    break 'lines;
                }
            }
        }
        if !trusted.is_empty() {
            let text: Vec<&[u8]> = trusted.into();
            origin.fields.push((ForwardedField::Forwarded, text.join(&b", "[..])));
        }
        Ok(())
    }
}

// The values of a field's lines, the last one first.
fn lines_from_right(head: &RequestHead, field: ForwardedField) -> impl Iterator<Item = &[u8]> {
    let name = field.name().as_bytes();
    head.fields().rev().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

// The elements of a list of plain values, the last one first, without empty ones (RFC 9110 §5.6.1).
fn from_right(head: &RequestHead, field: ForwardedField) -> impl Iterator<Item = &[u8]> {
    let elements = lines_from_right(head, field).flat_map(|line| line.rsplit(|&byte| byte == b','));
    elements.map(trim_ows).filter(|element| !element.is_empty())
}

// Sets the port that the client connected to, and the host with it, from which applications make URLs.
fn settle_port(head: &RequestHead, origin: &mut Origin) {
    let Origin { scheme, host, port, .. } = origin;
    let named = host.as_deref().or_else(|| head.authority()).or_else(|| head.value(b"Host")).unwrap_or_default();
    let of_scheme = scheme.map(Scheme::default_port);
    match (*port, port_of(named)) {
        // URLs are made of the host alone (PEP 3333), so a port that it lacks is added to it.
        (Some(forwarded), None) => {
            let is_usual = of_scheme.map_or(matches!(forwarded, 80 | 443), |usual| forwarded == usual);
            if !is_usual && valid_host(named) {
                let name = named.strip_suffix(b":").unwrap_or(named);
                *host = Some([name, b":", forwarded.to_string().as_bytes()].concat());
            }
        }
        // No client can connect to port 0.
        (None, None | Some(0)) => *port = of_scheme,
        (None, Some(in_host)) if scheme.is_some() || host.is_some() => *port = Some(in_host),
        _ => {}
    }
}

// A scheme. Some proxies forward WebSocket handshakes with `ws` and `wss`.
fn scheme(value: &[u8]) -> Option<Scheme> {
    let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
    if is(b"https") || is(b"wss") {
        Some(Scheme::Https)
    } else if is(b"http") || is(b"ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    let number = parse_content_length(digits).filter(|_| digits.len() <= 5)?;
    u16::try_from(number).ok().filter(|&port| port != 0)
}

// A host without escaped control characters, which no name has.
fn is_host(value: &[u8]) -> bool {
    valid_host(value) && !percent_decode(value).iter().any(u8::is_ascii_control)
}

// A path without a slash at its end, decoded as SCRIPT_NAME is. Applications make URLs of it, often without escaping it again:
// control characters would split header fields, and two slashes, or backslashes, which browsers treat as slashes, would lead
// to another host.
fn prefix(value: &[u8]) -> Option<Vec<u8>> {
    let path = percent_decode(value);
    let is_path = value.starts_with(b"/") && value.iter().all(|&byte| PATH[usize::from(byte)]);
    let is_sound = !path.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\');
    if !is_path || !is_sound || path.windows(2).any(|pair| pair == b"//") {
        return None;
    }
    Some(path.strip_suffix(b"/").unwrap_or(&path).to_vec())
}

// A `node` (RFC 7239 §6). In X-Forwarded-For IPv6 addresses also come without brackets.
fn node(value: &[u8], bare_ipv6: bool) -> Option<Client> {
    let text = std::str::from_utf8(value).ok()?;
    if let Some(ip) = text.parse::<Ipv6Addr>().ok().filter(|_| bare_ipv6) {
        return Some(Client::Ip(IpAddr::V6(ip).to_canonical(), None));
    }
    let (name, after) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match after.strip_prefix(':') {
        Some(hidden) if is_obfuscated(hidden) => None,
        Some(digits) => Some(node_port(digits)?),
        None if after.is_empty() => None,
        None => return None,
    };
    if text.starts_with('[') {
        let ip: Ipv6Addr = name.parse().ok()?;
        return Some(Client::Ip(IpAddr::V6(ip).to_canonical(), port));
    }
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Some(Client::Ip(ip.into(), port));
    }
    (name.eq_ignore_ascii_case("unknown") || is_obfuscated(name)).then_some(Client::Unknown)
}

// `port` (RFC 7239 §6): one to five digits.
fn node_port(digits: &str) -> Option<u16> {
    let number = parse_content_length(digits.as_bytes()).filter(|_| digits.len() <= 5)?;
    u16::try_from(number).ok()
}

// `obfnode` and `obfport` (RFC 7239 §6.3).
fn is_obfuscated(text: &str) -> bool {
    match text.as_bytes() {
        [b'_', rest @ ..] => !rest.is_empty() && rest.iter().all(|&byte| OBFUSCATED[usize::from(byte)]),
        _ => false,
    }
}

// A `forwarded-element` (RFC 7239 §4): its text, and the values of the known parameters.
#[derive(Default)]
struct Element<'a> {
    text: &'a [u8],
    client: Option<Cow<'a, [u8]>>,
    host: Option<Cow<'a, [u8]>>,
    proto: Option<Cow<'a, [u8]>>,
    by: Option<Cow<'a, [u8]>>,
}

// The last `count` elements of one line. The whole line must be well-formed, because the quotes before a comma
// decide whether it separates elements.
fn last_elements(line: &[u8], count: usize) -> Option<VecDeque<Element<'_>>> {
    let mut elements = VecDeque::new();
    let mut rest = line;
    loop {
        let (element, after) = element(rest)?;
        if !element.text.is_empty() {
            if elements.len() == count {
                elements.pop_front();
            }
            elements.push_back(element);
        }
        match after {
            [_, after @ ..] => rest = after,
            [] => return Some(elements),
        }
    }
}

// The element in front, and what follows from its comma on.
fn element(text: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let mut element = Element::default();
    let mut rest = text;
    loop {
        rest = skip_ows(rest);
        if !matches!(rest, [] | [b',' | b';', ..]) {
            rest = skip_ows(pair(rest, &mut element)?);
        }
        match rest {
            [b';', after @ ..] => rest = after,
            [] | [b',', ..] => break,
            _ => return None,
        }
    }
    element.text = trim_ows(text.get(..text.len() - rest.len())?);
    Some((element, rest))
}

// The `forwarded-pair` in front goes into the element; what follows is returned. No parameter may come twice.
fn pair<'a>(text: &'a [u8], element: &mut Element<'a>) -> Option<&'a [u8]> {
    let equals = text.iter().position(|&byte| byte == b'=')?;
    let (name, rest) = text.split_at(equals);
    let (value, rest) = value(rest.get(1..)?)?;
    if !is_token(name) {
        return None;
    }
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let slot = match name.len() {
        3 if is(b"for") => &mut element.client,
        2 if is(b"by") => &mut element.by,
        4 if is(b"host") => &mut element.host,
        5 if is(b"proto") => &mut element.proto,
        // Extensions have no meaning here (§5.5).
        _ => return Some(rest),
    };
    slot.replace(value).is_none().then_some(rest)
}

// `value = token / quoted-string` (RFC 7239 §4, RFC 9110 §5.6.4), and what follows.
fn value(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|&byte| !is_tchar(byte)).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        return (!token.is_empty()).then_some((Cow::Borrowed(token), rest));
    };
    let mut end = 0;
    loop {
        match quoted.get(end)? {
            b'"' => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    let (inside, rest) = (quoted.get(..end)?, quoted.get(end + 1..)?);
    if !inside.contains(&b'\\') {
        return Some((Cow::Borrowed(inside), rest));
    }
    let mut plain = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { *bytes.next()? } else { byte });
    }
    Some((Cow::Owned(plain), rest))
}

fn skip_ows(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text {
        if !is_ows(*first) {
            break;
        }
        text = rest;
    }
    text
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
