//! The variables that a request contributes to an application's environment (PEP 3333, RFC 3875 §4.1).
//!
//! A field becomes `HTTP_` and its name in upper case, with `_` for `-` and every other character as it is. Names
//! with `_` are dropped: two names in one variable would let a client forge a field that a proxy sets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::http::fields::{is_singleton, is_withheld};
use crate::http::head::RequestHead;
use crate::http::number::Decimal;
use crate::http::origin::Origin;
use crate::http::target::percent_decode;

/// Up to this number of field lines, repeats are found without an allocation, by comparing each with those before it.
const MAX_COMPARED_FIELDS: usize = 128;

/// Which variable a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name<'a> {
    /// `REQUEST_METHOD`: in the case it came.
    RequestMethod,
    /// `PATH_INFO`: percent-decoded once; empty for `OPTIONS *`.
    PathInfo,
    /// `QUERY_STRING`: as it came; may be empty.
    QueryString,
    /// `REQUEST_URI`: the target as it came.
    RequestUri,
    /// `RAW_URI`: the same, by its other name.
    RawUri,
    /// `SERVER_PROTOCOL`.
    ServerProtocol,
    /// `CONTENT_TYPE`.
    ContentType,
    /// `CONTENT_LENGTH`.
    ContentLength,
    /// `SERVER_PORT`, the port that the client connected to, if a proxy forwards it.
    ServerPort,
    /// `SCRIPT_NAME`, the prefix of the path that a proxy removed, if it forwards it.
    ScriptName,
    /// `wsgi.url_scheme`, if a proxy forwards it.
    UrlScheme,
    /// The variable of a field, whose name is here as it came: see [`field_key`].
    Field(&'a [u8]),
}

/// What the variables depend on besides the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The length of the body, if it is known before the application runs: announced, or counted because the body is
    /// complete. None without a body.
    pub body_length: Option<u64>,
    /// The origin, if proxies are trusted.
    pub origin: Option<&'a Origin>,
}

/// Emits each variable once, with its value.
///
/// 1. `CONTENT_LENGTH` is the known length, in whatever way the client announced it; there is no `HTTP_CONTENT_LENGTH`,
///    nor `HTTP_CONTENT_TYPE`.
/// 2. Transfer-Encoding is dropped when the length is known: the coding was taken off, and frameworks that see the field
///    ignore the length.
/// 3. The authority of an absolute-form target replaces Host (RFC 9112 §3.2.2).
/// 4. The host that a trusted proxy forwards replaces both. If proxies are trusted, forwarding fields contain only what
///    trusted ones wrote.
/// 5. Withheld fields are dropped ([`is_withheld`]).
/// 6. Lines of one name are joined at the first one's place, by `,` (RFC 9110 §5.3) or, for Cookie, by `; `
///    (RFC 6265 §5.4). Of a field that may have one value only the first line counts: the others repeat it, or the request
///    was refused.
///
/// Allocates only for a path with escapes and for fields that are repeated (or more than 128).
pub fn variables(head: &RequestHead, facts: &Facts<'_>, mut emit: impl FnMut(Name<'_>, &[u8])) {
    emit(Name::RequestMethod, head.method());
    emit(Name::PathInfo, &percent_decode(head.path()));
    emit(Name::QueryString, head.query());
    emit(Name::RequestUri, head.target());
    emit(Name::RawUri, head.target());
    emit(Name::ServerProtocol, head.version().as_bytes());
    if let Some(length) = facts.body_length {
        emit(Name::ContentLength, Decimal::new(length).as_bytes());
    }
    if has_repeats(head) {
        for variable in join(head, *facts) {
            emit(variable.name, variable.joined.as_deref().unwrap_or(variable.first));
        }
    } else {
        for (name, value) in head.fields() {
            if let Some(variable) = variable(*facts, name) {
                emit(variable, value_of(variable, head, *facts, value));
            }
        }
    }
    if let Some(authority) = authority(head, *facts).filter(|_| !head.has(b"Host")) {
        emit(Name::Field(b"Host"), authority);
    }
    if let Some(origin) = facts.origin {
        emit_origin(origin, &mut emit);
    }
}

// What proxies forward, besides the client's address and the host. A cold function, so that other requests do not pay for it.
#[cold]
fn emit_origin(origin: &Origin, emit: &mut dyn FnMut(Name<'_>, &[u8])) {
    if let Some(scheme) = origin.scheme {
        emit(Name::UrlScheme, scheme.as_str().as_bytes());
    }
    if let Some(port) = origin.port {
        emit(Name::ServerPort, Decimal::new(port.into()).as_bytes());
    }
    if let Some(prefix) = &origin.prefix {
        emit(Name::ScriptName, prefix);
    }
    for (field, value) in &origin.fields {
        emit(Name::Field(field.name().as_bytes()), value);
    }
}

// What replaces Host.
fn authority<'a>(head: &'a RequestHead, facts: Facts<'a>) -> Option<&'a [u8]> {
    facts.origin.and_then(|origin| origin.host.as_deref()).or_else(|| head.authority())
}

/// Appends the key of a field's variable: `HTTP_X_FORWARDED_FOR` for `X-Forwarded-For`.
pub fn field_key(name: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + 5);
    out.extend_from_slice(b"HTTP_");
    out.extend(name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
}

/// The variable that one field line belongs to; none if it is dropped.
pub(super) fn variable<'a>(facts: Facts<'_>, name: &'a [u8]) -> Option<Name<'a>> {
    if is_withheld(name) {
        return None;
    }
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        12 if is(b"Content-Type") => Some(Name::ContentType),
        14 if is(b"Content-Length") => None,
        17 if facts.body_length.is_some() && is(b"Transfer-Encoding") => None,
        _ if facts.origin.is_some_and(|origin| origin.withholds(name)) => None,
        _ => Some(Name::Field(name)),
    }
}

// The value of a field line, or what replaces it.
fn value_of<'a>(variable: Name<'_>, head: &'a RequestHead, facts: Facts<'a>, value: &'a [u8]) -> &'a [u8] {
    match variable {
        Name::Field(name) if name.eq_ignore_ascii_case(b"Host") => authority(head, facts).unwrap_or(value),
        _ => value,
    }
}

/// Whether the lines must be joined. True as well for more lines than can be compared cheaply.
pub(super) fn has_repeats(head: &RequestHead) -> bool {
    let mut seen = [0_u32; MAX_COMPARED_FIELDS];
    for (index, (name, _)) in head.fields().enumerate() {
        let key = digest(name);
        let (Some(earlier), true) = (seen.get(..index), index < MAX_COMPARED_FIELDS) else { return true };
        if earlier.contains(&key) && head.fields().take(index).any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return true;
        }
        if let Some(slot) = seen.get_mut(index) {
            *slot = key;
        }
    }
    false
}

// Equal for equal names in any case, and different for most others: length, first, middle and last byte.
fn digest(name: &[u8]) -> u32 {
    let byte = |index: usize| name.get(index).copied().unwrap_or_default().to_ascii_lowercase();
    let length = name.len().to_le_bytes()[0];
    u32::from_le_bytes([length, byte(0), byte(name.len() / 2), byte(name.len().saturating_sub(1))])
}

struct Variable<'a> {
    name: Name<'a>,
    first: &'a [u8],
    // All values, if there is more than one.
    joined: Option<Vec<u8>>,
}

// The variables of all fields, in order of their first lines. Linear also for thousands of lines of one name; the map's
// random keys keep it so for names that are chosen to collide.
fn join<'a>(head: &'a RequestHead, facts: Facts<'a>) -> Vec<Variable<'a>> {
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut variables: Vec<Variable<'_>> = Vec::new();
    for (name, value) in head.fields() {
        let Some(variable) = variable(facts, name) else { continue };
        let value = value_of(variable, head, facts, value);
        match places.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(place) => {
                place.insert(variables.len());
                variables.push(Variable { name: variable, first: value, joined: None });
            }
            Entry::Occupied(place) => {
                if is_singleton(name) {
                    continue;
                }
                if let Some(Variable { first, joined, .. }) = variables.get_mut(*place.get()) {
                    let all = joined.get_or_insert_with(|| first.to_vec());
                    let is_cookie = name.eq_ignore_ascii_case(b"Cookie");
                    all.extend_from_slice(if is_cookie { b"; " } else { b"," });
                    all.extend_from_slice(value);
                }
            }
        }
    }
    variables
}

#[cfg(test)]
#[path = "cgi_tests.rs"]
mod tests;
