//! Where a request comes from, when proxies stand in front (RFC 7239, and the X-Forwarded fields that came before it).
//!
//! Anybody can send these fields, so their values are worth what their writer is worth:
//!
//! 1. They count only from a peer that is trusted.
//! 2. Only those are read that the operator says the proxies write. What they do not write, they let through.
//! 3. Elements are read from the right, because each proxy adds its own there: the rightmost one was written by the
//!    peer, the one before it by whoever the peer names, if that one is trusted as well, and so on, for as many elements
//!    as there are proxies. What stands further left is the client's invention, and is not even looked at.
//! 4. What a trusted proxy wrote must make sense: it is refused otherwise, because every guess could be a wrong one.

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

/// What the operator says of the proxies in front.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Who they are.
    pub trust: Trust,
    /// How many of them a request passes.
    pub hops: usize,
    /// The fields that they write. `Forwarded` excludes the others, which tell the same.
    pub fields: Vec<ForwardedField>,
}

impl Forwarding {
    /// What a request's fields tell of its origin, if they may. `peer` is the other end of the connection, and `scheme`
    /// how that one speaks, where it is known otherwise.
    pub fn origin(&self, head: &RequestHead, peer: Client, scheme: Option<Scheme>) -> Result<Origin, Reject> {
        let mut origin = Origin { scheme, is_vouched: self.trust.covers(peer), ..Origin::of(peer) };
        if origin.is_vouched {
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
                // Only a trusted proxy's word says what stands to the left of its own address.
                if !self.trust.covers(origin.client) {
                    break;
                }
            }
            // The other fields are believed as far as the addresses reach.
            reach = walked.max(1);
        }
        for &field in &self.fields {
            // One list may be shorter than another: a proxy may add to one field and replace another.
            let mut vouched: Vec<&[u8]> = from_right(head, field).take(reach).collect();
            vouched.reverse();
            let Some(&value) = vouched.first() else { continue };
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
            origin.fields.push((field, vouched.join(&b", "[..])));
        }
        Ok(())
    }

    fn read_forwarded(&self, head: &RequestHead, origin: &mut Origin) -> Result<(), Reject> {
        let malformed = Reject::ForwardedMalformed;
        let mut vouched: VecDeque<&[u8]> = VecDeque::new();
        // A quoted string ends in its own line, so that what a client leaves open cannot swallow a proxy's line.
        'lines: for line in lines_from_right(head, ForwardedField::Forwarded) {
            let elements = last_elements(line, self.hops - vouched.len()).ok_or(malformed)?;
            for element in elements.iter().rev() {
                vouched.push_front(element.text);
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
                if !self.trust.covers(next) || vouched.len() == self.hops {
                    break 'lines;
                }
            }
        }
        if !vouched.is_empty() {
            let text: Vec<&[u8]> = vouched.into();
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

// The port that the client spoke to, and the host with it: what the application makes URLs of.
fn settle_port(head: &RequestHead, origin: &mut Origin) {
    let Origin { scheme, host, port, .. } = origin;
    let named = host.as_deref().or_else(|| head.authority()).or_else(|| head.value(b"Host")).unwrap_or_default();
    let of_scheme = scheme.map(Scheme::default_port);
    match (*port, port_of(named)) {
        // URLs are made of the host alone (PEP 3333), so a port that it lacks is added to it.
        (Some(told), None) => {
            let is_usual = of_scheme.map_or(matches!(told, 80 | 443), |usual| told == usual);
            if !is_usual && valid_host(named) {
                let name = named.strip_suffix(b":").unwrap_or(named);
                *host = Some([name, b":", told.to_string().as_bytes()].concat());
            }
        }
        // Nobody can be spoken to at port 0, whatever the client said.
        (None, None | Some(0)) => *port = of_scheme,
        (None, Some(in_host)) if scheme.is_some() || host.is_some() => *port = Some(in_host),
        _ => {}
    }
}

// A scheme. Some proxies tell WebSocket handshakes by schemes of their own.
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
// control characters would split the fields that these stand in, and two slashes, or what browsers take for slashes, would be
// another host.
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

// A `forwarded-element` (RFC 7239 §4): its text, and the values of the parameters that mean something here.
#[derive(Default)]
struct Element<'a> {
    text: &'a [u8],
    client: Option<Cow<'a, [u8]>>,
    host: Option<Cow<'a, [u8]>>,
    proto: Option<Cow<'a, [u8]>>,
    by: Option<Cow<'a, [u8]>>,
}

// The last `count` elements of one line. The whole line must be well-formed, because only its beginning tells which
// commas are inside quotes.
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
    let place = match name.len() {
        3 if is(b"for") => &mut element.client,
        2 if is(b"by") => &mut element.by,
        4 if is(b"host") => &mut element.host,
        5 if is(b"proto") => &mut element.proto,
        // Extensions have no meaning here (§5.5).
        _ => return Some(rest),
    };
    place.replace(value).is_none().then_some(rest)
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
