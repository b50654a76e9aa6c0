use std::net::IpAddr;

use wsgi_core::http::fields::valid_host;
use wsgi_core::http::head::RequestHead;
use wsgi_core::http::limits::Limits;
use wsgi_core::http::origin::{Client, ForwardedField, Origin, Scheme};
use wsgi_core::http::trust::Trust;
use wsgi_core::http1::parse::{self, HeadProgress};
use wsgi_core::interface::cgi::{self, Facts, Name};
use wsgi_core::interface::forwarded::Forwarding;

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "198.51.100.1";
const TOLD: &str = "192.0.2.7";
const X_FIELDS: [ForwardedField; 5] =
    [ForwardedField::For, ForwardedField::Proto, ForwardedField::Host, ForwardedField::Port, ForwardedField::Prefix];

/// The field lines of a request, which a client may have made up to be taken for somebody else:
///
/// 1. From a peer that nobody trusts they change nothing, and the application sees none of them.
/// 2. Backpressure one proxy that adds a line of its own, its word counts, whatever stands before it.
/// 3. Backpressure one that adds to the client's line, the request is refused or its word counts.
/// 4. What is believed of trusted proxies is well-formed, comes of fields that are read, and of no more elements than
///    there are proxies. Each variable is emitted once.
pub fn forwarded(lines: &[u8]) {
    let Some(head) = request(lines, "") else { return };
    for (fields, hops) in [
        (&X_FIELDS[..], 1),
        (&X_FIELDS[..], 3),
        (&[ForwardedField::Forwarded][..], 1),
        (&[ForwardedField::Forwarded][..], 3),
    ] {
        let forwarding =
            Forwarding { trust: Trust::parse(["10.0.0.0/8"]).expect("a network"), hops, fields: fields.to_vec() };
        let stranger = forwarding.origin(&head, client(STRANGER), None).expect("nothing is read");
        assert!(stranger.client == client(STRANGER) && !stranger.is_from_trusted_proxy && stranger.fields.is_empty());
        assert!(stranger.scheme.is_none() && stranger.host.is_none() && stranger.prefix.is_none());
        check_variables(&head, &stranger);
        if let Ok(origin) = forwarding.origin(&head, client(PROXY), None) {
            check_believed(&origin, &forwarding);
            check_variables(&head, &origin);
        }
    }
    check_own_lines(lines);
    check_own_elements(lines);
}

fn client(ip: &str) -> Client {
    Client::Ip(ip.parse::<IpAddr>().expect("an address"), None)
}

fn request(lines: &[u8], more: &str) -> Option<RequestHead> {
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\n".as_slice(), lines, more.as_bytes(), b"\r\n"].concat();
    match parse::head(&head, &mut HeadProgress::default(), &Limits::default()) {
        Ok(Some((request, length))) if length == head.len() => Some(request),
        _ => None,
    }
}

fn behind_one(fields: &[ForwardedField]) -> Forwarding {
    Forwarding { trust: Trust::parse([PROXY]).expect("an address"), hops: 1, fields: fields.to_vec() }
}

fn check_own_lines(lines: &[u8]) {
    let own = format!(
        "X-Forwarded-For: {TOLD}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 8443\r\n\
         X-Forwarded-Prefix: /p\r\n"
    );
    if let Some(head) = request(lines, &own) {
        let origin = behind_one(&X_FIELDS).origin(&head, client(PROXY), None).expect("the proxy's word makes sense");
        assert_eq!((origin.client, origin.scheme), (client(TOLD), Some(Scheme::Https)));
        assert_eq!((origin.host.as_deref(), origin.port), (Some(&b"b:8443"[..]), Some(8443)));
        assert_eq!(origin.prefix.as_deref(), Some(&b"/p"[..]));
    }
    if let Some(head) = request(lines, &format!("Forwarded: for={TOLD};proto=https;host=b\r\n")) {
        let forwarding = behind_one(&[ForwardedField::Forwarded]);
        let origin = forwarding.origin(&head, client(PROXY), None).expect("the proxy's word makes sense");
        assert_eq!((origin.client, origin.scheme), (client(TOLD), Some(Scheme::Https)));
        assert_eq!(origin.host.as_deref(), Some(&b"b"[..]));
    }
}

// A proxy that adds to the last line, as many do.
fn check_own_elements(lines: &[u8]) {
    let Some(lines) = lines.strip_suffix(b"\r\n") else { return };
    for (fields, element) in [
        (&X_FIELDS[..], format!(", {TOLD}\r\n")),
        (&[ForwardedField::Forwarded][..], format!(", for={TOLD};proto=https\r\n")),
    ] {
        let Some(head) = request(lines, &element) else { continue };
        let last = head.fields().last().map(|(name, _)| name.to_vec()).unwrap_or_default();
        let is_added = last.eq_ignore_ascii_case(fields[0].name().as_bytes());
        if let (true, Ok(origin)) = (is_added, behind_one(fields).origin(&head, client(PROXY), None)) {
            assert_eq!(origin.client, client(TOLD));
        }
    }
}

fn check_believed(origin: &Origin, forwarding: &Forwarding) {
    assert!(origin.is_from_trusted_proxy);
    assert!(origin.host.as_deref().is_none_or(valid_host) && origin.port != Some(0));
    if let Some(prefix) = &origin.prefix {
        assert!(prefix.is_empty() || prefix.starts_with(b"/") && !prefix.ends_with(b"/") || prefix.contains(&b'%'));
        assert!(!prefix.windows(2).any(|pair| pair == b"//"));
    }
    for (field, value) in &origin.fields {
        assert!(forwarding.fields.contains(field));
        if *field != ForwardedField::Forwarded {
            assert!(value.split(|&byte| byte == b',').count() <= forwarding.hops, "{}", value.escape_ascii());
        }
    }
}

fn check_variables(head: &RequestHead, origin: &Origin) {
    let mut seen = Vec::new();
    cgi::variables(head, &Facts { body_length: None, origin: Some(origin) }, |name, value| {
        let key = match name {
            Name::Field(field) => {
                let mut key = Vec::new();
                cgi::field_key(field, &mut key);
                let believed =
                    |(known, told): &(ForwardedField, Vec<u8>)| known.name().as_bytes() == field && told == value;
                if ForwardedField::of(field).is_some() {
                    assert!(origin.fields.iter().any(believed), "a field that nobody vouches for");
                }
                assert!(origin.is_from_trusted_proxy || !key.starts_with(b"HTTP_X_FORWARDED_"));
                key
            }
            other => format!("{other:?}").into_bytes(),
        };
        assert!(!seen.contains(&key), "{name:?} is emitted twice");
        seen.push(key);
    });
}
