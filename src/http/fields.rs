//! The grammar of fields: each rule by its name in the RFC, with its clause.

use std::net::Ipv6Addr;

/// Bytes as a table, which costs one load for each byte that is looked up: the ASCII letters and digits, and `others`.
pub(crate) const fn letters_digits_and(mut others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    while let [other, rest @ ..] = others {
        table[*other as usize] = true;
        others = rest;
    }
    table
}

/// `tchar` (RFC 9110 §5.6.2).
const TCHAR: [bool; 256] = letters_digits_and(b"!#$%&'*+-.^_`|~");

/// `unreserved` and `sub-delims` (RFC 3986 §2.2, §2.3), which is `reg-name` without its percent-encoded bytes.
const NAME_BYTE: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=");

const fn is_in(table: &[bool; 256], byte: u8) -> bool {
    table[byte as usize]
}

/// Whether a token may contain this byte: `tchar` (RFC 9110 §5.6.2).
pub const fn is_tchar(byte: u8) -> bool {
    is_in(&TCHAR, byte)
}

/// Whether this is a `token`, 1*tchar (RFC 9110 §5.6.2): a method, a field name, a list option.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_tchar(byte))
}

/// Whether a field value may contain this byte: `field-vchar`, SP and HTAB (RFC 9110 §5.5), which is everything but the control
/// characters. Bytes from 0x80 on are `obs-text`, which applications see as latin-1. Not a table: the
/// compiler then compares many bytes at a time.
pub const fn is_field_byte(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

/// Whether this is a `field-value` (RFC 9110 §5.5), white space at its ends included. Empty is valid.
pub fn is_field_value(text: &[u8]) -> bool {
    text.iter().all(|&byte| is_field_byte(byte))
}

/// Whether this is a field's name, in any case. The usual case is compared at once.
#[inline]
pub fn is_named(found: &[u8], name: &[u8]) -> bool {
    found == name || found.eq_ignore_ascii_case(name)
}

/// Whether this is `OWS`, optional white space (RFC 9110 §5.6.3): SP or HTAB, and not what other languages treat as space.
pub const fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The text without optional white space at its ends.
pub fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text {
        if !is_ows(*first) {
            break;
        }
        text = rest;
    }
    while let [rest @ .., last] = text {
        if !is_ows(*last) {
            break;
        }
        text = rest;
    }
    text
}

/// The elements of a `#list` (RFC 9110 §5.6.1), trimmed, empty ones included. Quoted strings are not understood: the
/// lists that frame a message (Connection, Transfer-Encoding, Expect) consist of tokens, and a piece of a quoted string
/// is none.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows)
}

/// Whether a list has this element, in any case.
pub fn has_element(value: &[u8], element: &[u8]) -> bool {
    elements(value).any(|found| found.eq_ignore_ascii_case(element))
}

/// `Content-Length` (RFC 9110 §8.6): digits only. The standard integer parser would take a sign. `None` if there is
/// anything else, or nothing, or more than 64 bits.
pub fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether this is `uri-host [ ":" port ]` (RFC 9110 §7.2) with a host that is not empty.
pub fn valid_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            let (literal, after) = rest.split_at(end);
            if !valid_ip_literal(literal) {
                return false;
            }
            match after {
                [b']'] => return true,
                [b']', b':', port @ ..] => return valid_port(port),
                _ => return false,
            }
        }
        // Most have no port, and nearly all no escapes.
        _ if value.iter().all(|&byte| is_in(&NAME_BYTE, byte)) => return !value.is_empty(),
        _ => match value.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                let (host, port) = value.split_at(colon);
                (host, port.get(1..).unwrap_or_default())
            }
            None => (value, &[][..]),
        },
    };
    !host.is_empty() && valid_reg_name(host) && valid_port(port)
}

/// The port in a valid host; none if it names none.
pub fn port_of(host: &[u8]) -> Option<u16> {
    let colon = host.iter().rposition(|&byte| byte == b':')?;
    let (name, port) = host.split_at(colon);
    // A colon inside of brackets belongs to the address.
    let is_port = !name.starts_with(b"[") || name.ends_with(b"]");
    parse_content_length(port.get(1..)?).filter(|_| is_port).and_then(|port| u16::try_from(port).ok())
}

/// Whether fields of this name are dropped for all applications.
///
/// 1. Names with `_`: variables of CGI and many frameworks have `_` for `-`, so that a client could forge a field that a proxy
///    sets or takes away.
/// 2. Proxy: as the variable `HTTP_PROXY` it means something else to many programs (RFC 3875 §4.1.18 lets a server drop fields).
pub fn is_withheld(name: &[u8]) -> bool {
    name.contains(&b'_') || name.eq_ignore_ascii_case(b"Proxy")
}

/// Whether different values of this field are refused, and equal ones count as one: the media type (RFC 9110 §8.3) and the
/// credentials (§11.6.2) must not depend on whether a reader takes the first line, the last, or joins them.
pub fn is_singleton(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"Authorization")
}

/// `port` (RFC 3986 §3.2.3): digits, possibly none, and no number that TCP does not have.
fn valid_port(port: &[u8]) -> bool {
    port.is_empty() || parse_content_length(port).is_some_and(|number| u16::try_from(number).is_ok())
}

/// `reg-name` (RFC 3986 §3.2.2), of which an IPv4 address is a case.
fn valid_reg_name(name: &[u8]) -> bool {
    // Nearly all have no escapes.
    let plain = name.iter().take_while(|&&byte| is_in(&NAME_BYTE, byte)).count();
    let mut name = name.get(plain..).unwrap_or_default();
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_in(&NAME_BYTE, *byte) => rest,
            _ => return false,
        };
    }
}

/// What stands between the brackets of an `IP-literal` (RFC 3986 §3.2.2): `IPv6address` or `IPvFuture`. Zone
/// identifiers mean nothing beyond their machine and are refused.
fn valid_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let Some(dot) = future.iter().position(|&byte| byte == b'.') else { return false };
        let (version, rest) = future.split_at(dot);
        let address = rest.get(1..).unwrap_or_default();
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| byte == b':' || is_in(&NAME_BYTE, byte));
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
