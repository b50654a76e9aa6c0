use std::collections::HashSet;

use wsgi_core::http::limits::Limits;
use wsgi_core::http::target::{self, Form, percent_decode};
use wsgi_core::http1::parse::{self, HeadProgress};
use wsgi_core::interface::cgi::{self, Facts, Name};

/// A request target, the bytes up to the first line end; what follows are field lines of the same request:
///
/// 1. Path and query are pieces of an accepted target, and nothing of it but the punctuation between them is lost.
/// 2. Decoding takes off one layer of percent-encoding and is undone by putting it on.
/// 3. Each variable is emitted once; no field forges one of the request line's, and none is made of an ambiguous name.
pub fn target(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (text, lines) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    check_decoding(text);
    for method in [&b"GET"[..], b"OPTIONS", b"CONNECT"] {
        let Ok(parts) = target::parse(method, text) else { continue };
        assert!(text.iter().all(u8::is_ascii_graphic));
        let authority = parts.authority.unwrap_or_default();
        let (before, mark) = match parts.form {
            Form::Absolute => (text.iter().position(|&byte| byte == b'/').map_or(0, |slash| slash + 2), true),
            Form::Origin => (0, true),
            Form::Authority => (0, false),
            Form::Asterisk => (1, false),
        };
        let mark = usize::from(mark && text[before + authority.len()..].contains(&b'?'));
        assert_eq!(text.len(), before + authority.len() + parts.path.len() + mark + parts.query.len());
        assert!(text.ends_with(parts.query) && !parts.path.contains(&b'?'));
    }
    let mut head = b"GET ".to_vec();
    head.extend_from_slice(text);
    head.extend_from_slice(b" HTTP/1.1\r\n");
    head.extend_from_slice(lines);
    head.extend_from_slice(b"\r\n\r\n");
    if let Ok(Some((head, _))) = parse::head(&head, &mut HeadProgress::default(), &Limits::default()) {
        for body_length in [None, Some(0), Some(u64::MAX)] {
            check_variables(&head, body_length);
        }
    }
}

fn check_decoding(text: &[u8]) {
    let decoded = percent_decode(text);
    let mut expected = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let pair = text.get(at + 1..at + 3).filter(|pair| text[at] == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let byte = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        expected.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    assert_eq!(decoded.as_ref(), expected);
    let digit = |value: u8| b"0123456789aBcDeF"[usize::from(value)];
    let encoded: Vec<u8> = text.iter().flat_map(|byte| [b'%', digit(byte >> 4), digit(byte & 15)]).collect();
    assert_eq!(percent_decode(&encoded).as_ref(), text);
}

fn check_variables(head: &wsgi_core::http::head::RequestHead, body_length: Option<u64>) {
    let mut keys = HashSet::new();
    let mut of_fields = 0;
    cgi::variables(head, &Facts { body_length, origin: None }, |name, value| {
        let key = match name {
            Name::Field(field) => {
                assert!(!field.contains(&b'_'));
                of_fields += 1;
                let mut key = Vec::new();
                cgi::field_key(field, &mut key);
                assert!(key.starts_with(b"HTTP_") && !key.contains(&b'-'));
                for never in [&b"HTTP_PROXY"[..], b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE"] {
                    assert_ne!(key, never);
                }
                assert!(body_length.is_none() || key != b"HTTP_TRANSFER_ENCODING");
                if key == b"HTTP_HOST" {
                    if let Some(authority) = head.authority() {
                        assert!(value.starts_with(authority));
                    }
                }
                String::from_utf8_lossy(&key).into_owned()
            }
            other => format!("{other:?}"),
        };
        assert!(keys.insert(key), "{name:?} is emitted twice");
    });
    // No field is lost but those that have no variable.
    let mut names: HashSet<Vec<u8>> = head.fields().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.retain(|name| {
        let is_known = name == b"content-length" || (name == b"transfer-encoding" && body_length.is_some());
        !(is_known || name.contains(&b'_') || name == b"proxy" || name == b"content-type")
    });
    if head.authority().is_some() {
        names.insert(b"host".to_vec());
    }
    assert_eq!(of_fields, names.len());
}
