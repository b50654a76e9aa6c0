//! What a request's head contributes to the scope of an ASGI application (ASGI, "HTTP & WebSocket ASGI Message Format" 2.5).

use std::borrow::Cow;

use crate::http::fields::{elements, is_withheld};
use crate::http::head::{RequestHead, Version};
use crate::http::origin::Origin;
use crate::http::target::{Form, percent_decode};

/// Whether a scope can name the request's method: its `method` is in upper case, but methods are case-sensitive (RFC 9110 §9.1).
/// Made upper case, `delete` would be a DELETE that rules of a proxy for DELETE do not hold for.
pub fn can_name_method(head: &RequestHead) -> bool {
    !head.method().iter().any(u8::is_ascii_lowercase)
}

/// `raw_path`: the path as it came, without the query; `*` for a request to the server as a whole. In front of a path stands
/// the `prefix` that a proxy took away, which is part of a path in ASGI, and of `root_path` besides.
pub fn raw_path<'a>(head: &'a RequestHead, prefix: &[u8]) -> Cow<'a, [u8]> {
    if head.form() == Form::Asterisk {
        return Cow::Borrowed(b"*");
    }
    let path = head.path();
    if prefix.is_empty() {
        return Cow::Borrowed(path);
    }
    let mut whole = Vec::with_capacity(prefix.len() + path.len());
    for &byte in prefix {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            whole.push(byte);
        } else {
            // RFC 3986 §2.1
            let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half)];
            whole.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
    whole.extend_from_slice(path);
    Cow::Owned(whole)
}

/// `path`: percent-decoded once, and then as UTF-8; bytes that are none become U+FFFD. Begins with the decoded `prefix`.
pub fn path<'a>(head: &'a RequestHead, prefix: &[u8]) -> Cow<'a, str> {
    if head.form() == Form::Asterisk {
        return Cow::Borrowed("*");
    }
    let decoded = percent_decode(head.path());
    let bytes = if prefix.is_empty() { decoded } else { Cow::Owned([prefix, &*decoded].concat()) };
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

/// `headers`: each field line in order.
///
/// 1. The host that a trusted proxy forwards replaces Host, else the authority of an absolute-form target (RFC 9112 §3.2.2).
/// 2. If proxies are trusted, forwarding fields contain only what trusted ones wrote.
/// 3. Withheld fields are dropped ([`is_withheld`]).
pub fn fields<'a>(head: &'a RequestHead, origin: Option<&'a Origin>, mut emit: impl FnMut(&'a [u8], &'a [u8])) {
    let authority = origin.and_then(|origin| origin.host.as_deref()).or_else(|| head.authority());
    if let Some(authority) = authority.filter(|_| !head.has(b"Host")) {
        emit(b"Host", authority);
    }
    for (name, value) in head.fields() {
        match authority {
            Some(authority) if name.eq_ignore_ascii_case(b"Host") => emit(name, authority),
            _ if is_withheld(name) || origin.is_some_and(|origin| origin.withholds(name)) => {}
            _ => emit(name, value),
        }
    }
    for (field, value) in origin.iter().flat_map(|origin| &origin.fields) {
        emit(field.name().as_bytes(), value);
    }
}

/// Whether the client accepts trailer fields (RFC 9110 §10.1.4).
pub fn takes_trailers(head: &RequestHead) -> bool {
    let is_trailers = |element: &[u8]| {
        let end = element.iter().position(|&byte| matches!(byte, b';' | b' ' | b'\t')).unwrap_or(element.len());
        element[..end].eq_ignore_ascii_case(b"trailers")
    };
    head.version() == Version::Http11 && head.values(b"TE").any(|value| elements(value).any(is_trailers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::{Client, ForwardedField};

    #[test]
    fn method_with_a_lower_case_letter_has_no_name() {
        for (method, expected) in
            [("GET", true), ("M-SEARCH", true), ("!#1", true), ("get", false), ("DELETe", false), ("m-SEARCH", false)]
        {
            assert_eq!(
                can_name_method(&RequestHead::sample(&format!("{method} / HTTP/1.1"), &[])),
                expected,
                "{method}"
            );
        }
    }

    #[test]
    fn withheld_fields_are_dropped_from_any_peer() {
        let lines: &[(&str, &[u8])] = &[
            ("X_Forwarded_User", b"root"),
            ("PROXY", b"evil"),
            ("_", b"1"),
            ("X-Forwarded-User", b"a"),
            ("proxy-x", b"1"),
        ];
        let head = RequestHead::sample("GET / HTTP/1.1", lines);
        let (stranger, mut proxy) = (Origin::of(Client::Local), Origin::of(Client::Local));
        proxy.is_from_trusted_proxy = true;
        for (origin, expected) in [
            (None, &["X-Forwarded-User", "proxy-x"][..]),
            (Some(stranger), &["proxy-x"]),
            (Some(proxy), &["X-Forwarded-User", "proxy-x"]),
        ] {
            let mut names = Vec::new();
            fields(&head, origin.as_ref(), |name, _| names.push(String::from_utf8_lossy(name).into_owned()));
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn path_is_decoded_and_raw_path_is_not() {
        for (target, raw, decoded) in [
            ("/", "/", "/"),
            ("/a%20b?c=%20", "/a%20b", "/a b"),
            ("/%C3%A9%2Fx", "/%C3%A9%2Fx", "/\u{e9}/x"),
            ("/%ff", "/%ff", "/\u{fffd}"),
            ("/%zz%", "/%zz%", "/%zz%"),
            ("//evil.com/x", "//evil.com/x", "//evil.com/x"),
            ("http://b/x?y", "/x", "/x"),
            ("http://b", "/", "/"),
        ] {
            let head = RequestHead::sample(&format!("GET {target} HTTP/1.1"), &[]);
            assert_eq!((&*raw_path(&head, b""), &*path(&head, b"")), (raw.as_bytes(), decoded), "{target}");
        }
        let head = RequestHead::sample("OPTIONS * HTTP/1.1", &[]);
        assert_eq!((&*raw_path(&head, b""), &*path(&head, b"")), (&b"*"[..], "*"));
    }

    #[test]
    fn prefix_that_a_proxy_took_away_is_part_of_the_path() {
        let head = RequestHead::sample("GET /a%20b HTTP/1.1", &[]);
        let prefix = "/shop \u{e9}".as_bytes();
        assert_eq!(&*raw_path(&head, prefix), b"/shop%20%C3%A9/a%20b");
        assert_eq!(&*path(&head, prefix), "/shop \u{e9}/a b");
        // That of no path, however.
        let head = RequestHead::sample("OPTIONS * HTTP/1.1", &[]);
        assert_eq!((&*raw_path(&head, prefix), &*path(&head, prefix)), (&b"*"[..], "*"));
    }

    #[test]
    fn fields_of_proxies_are_seen_as_far_as_trusted_ones_wrote_them() {
        let lines: &[(&str, &[u8])] = &[("Host", b"inner"), ("X-Forwarded-For", b"lie, 1.2.3.4"), ("X", b"1")];
        let head = RequestHead::sample("GET / HTTP/1.1", lines);
        let mut origin = Origin::of(Client::Local);
        origin.host = Some(b"outer".to_vec());
        origin.fields = vec![(ForwardedField::For, b"1.2.3.4".to_vec())];
        let mut found = Vec::new();
        fields(&head, Some(&origin), |name, value| found.push((name.to_vec(), value.to_vec())));
        let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        assert_eq!(found, [pair(b"Host", b"outer"), pair(b"X", b"1"), pair(b"X-Forwarded-For", b"1.2.3.4")]);
    }

    fn fields_of(head: &RequestHead) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        fields(head, None, |name, value| found.push((name.to_vec(), value.to_vec())));
        found
    }

    // RFC 9112 §3.2.2
    #[test]
    fn authority_of_the_target_replaces_host() {
        let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        let lines: &[(&str, &[u8])] = &[("X", b"1"), ("HOST", b"a"), ("x", b"2")];
        let plain = RequestHead::sample("GET / HTTP/1.1", lines);
        assert_eq!(fields_of(&plain), [pair(b"X", b"1"), pair(b"HOST", b"a"), pair(b"x", b"2")]);
        let absolute = RequestHead::sample("GET http://b/ HTTP/1.1", lines);
        assert_eq!(fields_of(&absolute), [pair(b"X", b"1"), pair(b"HOST", b"b"), pair(b"x", b"2")]);
        let without = RequestHead::sample("GET http://b/ HTTP/1.0", &[("X", b"1")]);
        assert_eq!(fields_of(&without), [pair(b"Host", b"b"), pair(b"X", b"1")]);
    }

    #[test]
    fn trailers_are_taken_where_te_says_so() {
        for (line, value, takes) in [
            ("GET / HTTP/1.1", &b"trailers"[..], true),
            ("GET / HTTP/1.1", b"gzip, Trailers;q=1", true),
            ("GET / HTTP/1.1", b"gzip", false),
            ("GET / HTTP/1.1", b"trailersx", false),
            ("GET / HTTP/1.0", b"trailers", false),
        ] {
            assert_eq!(takes_trailers(&RequestHead::sample(line, &[("TE", value)])), takes);
        }
        assert!(!takes_trailers(&RequestHead::sample("GET / HTTP/1.1", &[])));
    }
}
