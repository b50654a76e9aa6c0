use super::*;

use ForwardedField::{For, Forwarded, Host, Port, Prefix, Proto};

const PROXY: &str = "10.0.0.1";
const X_FIELDS: [ForwardedField; 5] = [For, Proto, Host, Port, Prefix];

fn ip(text: &str) -> Client {
    Client::Ip(text.parse().unwrap(), None)
}

fn with_port(text: &str, port: u16) -> Client {
    Client::Ip(text.parse().unwrap(), Some(port))
}

fn forwarding(trusted: &[&'static str], hops: usize, fields: &[ForwardedField]) -> Forwarding {
    Forwarding { trust: Trust::parse(trusted.iter().copied()).unwrap(), hops, fields: fields.to_vec() }
}

fn head(fields: &[(&str, &[u8])]) -> RequestHead {
    let all: Vec<_> = [("Host", &b"internal:8000"[..])].into_iter().chain(fields.iter().copied()).collect();
    RequestHead::sample("GET / HTTP/1.1", &all)
}

// The origin of a request from PROXY, which is trusted, as is the rest of its network.
fn origin(hops: usize, reads: &[ForwardedField], fields: &[(&str, &[u8])]) -> Result<Origin, Reject> {
    forwarding(&["10.0.0.0/8"], hops, reads).origin(&head(fields), ip(PROXY), None)
}

fn client(hops: usize, fields: &[(&str, &[u8])]) -> Result<Client, Reject> {
    origin(hops, &[For], fields).map(|origin| origin.client)
}

fn forwarded(hops: usize, value: &[u8]) -> Result<Origin, Reject> {
    origin(hops, &[Forwarded], &[("Forwarded", value)])
}

const SPOOFED: &[(&str, &[u8])] = &[
    ("X-Forwarded-For", b"6.6.6.6"),
    ("X-Forwarded-Proto", b"https"),
    ("X-Forwarded-Host", b"evil"),
    ("X-Forwarded-Port", b"443"),
    ("X-Forwarded-Prefix", b"/evil"),
    ("Forwarded", b"for=6.6.6.6;proto=https;host=evil"),
];

#[test]
fn fields_of_an_untrusted_peer_change_nothing() {
    for fields in [&X_FIELDS[..], &[Forwarded]] {
        for peer in [ip("192.0.2.1"), with_port("11.0.0.0", 9), ip("::1"), Client::Local, Client::Unknown] {
            let found = forwarding(&["10.0.0.0/8"], 1, fields).origin(&head(SPOOFED), peer, None);
            assert_eq!(found, Ok(Origin::of(peer)), "{peer:?}");
        }
    }
    // Nor are they judged.
    let malformed = head(&[("X-Forwarded-For", b"\xff,"), ("X-Forwarded-Proto", b"gopher")]);
    assert_eq!(forwarding(&[], 1, &X_FIELDS).origin(&malformed, ip(PROXY), None), Ok(Origin::of(ip(PROXY))));
}

#[test]
fn fields_that_the_proxies_do_not_write_change_nothing() {
    for reads in [&[][..], &[For], &[Proto], &[Host], &[Port], &[Prefix], &[Forwarded]] {
        let found = origin(1, reads, SPOOFED).unwrap();
        assert_eq!(found.client != ip(PROXY), reads == [For] || reads == [Forwarded], "{reads:?}");
        assert_eq!(found.scheme.is_some(), reads == [Proto] || reads == [Forwarded], "{reads:?}");
        // A host lends its port, and a port that is no usual one would go to the host.
        assert_eq!(found.host.is_some(), reads == [Host] || reads == [Forwarded], "{reads:?}");
        assert_eq!(found.prefix.is_some(), reads == [Prefix], "{reads:?}");
        let seen: Vec<_> = found.fields.iter().map(|(field, _)| *field).collect();
        assert_eq!(seen, reads, "{reads:?}");
    }
}

#[test]
fn trusted_peer_without_fields_is_the_client_itself() {
    for fields in [&[][..], &[("X-Forwarded-For", &b""[..]), ("X-Forwarded-Proto", b" , ,")]] {
        let found = origin(2, &X_FIELDS, fields).unwrap();
        assert_eq!(found, Origin { is_from_trusted_proxy: true, ..Origin::of(ip(PROXY)) });
    }
    assert_eq!(forwarded(2, b""), Ok(Origin { is_from_trusted_proxy: true, ..Origin::of(ip(PROXY)) }));
}

#[test]
fn client_is_counted_from_the_right_across_trusted_addresses() {
    for (hops, value, expected) in [
        (1, &b"192.0.2.1"[..], "192.0.2.1"),
        (1, b"6.6.6.6, 192.0.2.1", "192.0.2.1"),
        (1, b"6.6.6.6,7.7.7.7,10.0.0.2", "10.0.0.2"),
        (2, b"6.6.6.6, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (3, b"6.6.6.6, 192.0.2.1, 10.0.0.3, 10.0.0.2", "192.0.2.1"),
        // Whoever went past the outer proxy is the client, whatever it has written before.
        (2, b"6.6.6.6, 192.0.2.1", "192.0.2.1"),
        (3, b"6.6.6.6, 10.0.0.9, 192.0.2.1", "192.0.2.1"),
        (3, b"6.6.6.6, 10.0.0.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        // Fewer elements than proxies: one of these asks for itself.
        (3, b"10.0.0.2", "10.0.0.2"),
        (3, b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        // Empty elements do not count (RFC 9110 §5.6.1).
        (1, b"6.6.6.6, , 192.0.2.1,, ,", "192.0.2.1"),
        (1, b",192.0.2.1", "192.0.2.1"),
        (2, b"192.0.2.1,\t,10.0.0.2", "192.0.2.1"),
        // What stands further left is not even looked at.
        (1, b"\xff\xfe(), \"<script>, 192.0.2.1", "192.0.2.1"),
        (2, b"evil, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (2, b"evil, 192.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(client(hops, &[("X-Forwarded-For", value)]), Ok(ip(expected)), "{}", value.escape_ascii());
    }
}

#[test]
fn lines_of_one_field_are_one_list() {
    let lines: &[(&str, &[u8])] = &[
        ("X-Forwarded-For", b"6.6.6.6"),
        ("Accept", b"a"),
        ("x-forwarded-FOR", b"192.0.2.1"),
        ("X-Forwarded-For", b""),
    ];
    assert_eq!(client(1, lines), Ok(ip("192.0.2.1")));
    let lines: &[(&str, &[u8])] = &[("X-Forwarded-For", b"6.6.6.6, 192.0.2.1"), ("X-Forwarded-For", b"10.0.0.2")];
    assert_eq!(client(2, lines), Ok(ip("192.0.2.1")));
    let lines: &[(&str, &[u8])] = &[("Forwarded", b"for=6.6.6.6, for=192.0.2.1"), ("Forwarded", b"for=10.0.0.2")];
    assert_eq!(origin(2, &[Forwarded], lines).map(|origin| origin.client), Ok(ip("192.0.2.1")));
}

#[test]
fn names_with_underscores_are_other_fields() {
    let lines: &[(&str, &[u8])] = &[("X-Forwarded-For", b"192.0.2.1"), ("X_Forwarded_For", b"6.6.6.6")];
    assert_eq!(client(1, lines), Ok(ip("192.0.2.1")));
    assert_eq!(client(1, &lines[1..]), Ok(ip(PROXY)));
}

#[test]
fn ten_thousand_elements_cost_no_more_than_the_last_ones() {
    let value = [b"6.6.6.6, ".repeat(10_000), b"192.0.2.1".to_vec()].concat();
    let found = origin(1, &[For], &[("X-Forwarded-For", &value)]).unwrap();
    assert_eq!((found.client, found.fields), (ip("192.0.2.1"), vec![(For, b"192.0.2.1".to_vec())]));
    let value = [b"for=6.6.6.6, ".repeat(10_000), b"for=192.0.2.1".to_vec()].concat();
    let found = forwarded(1, &value).unwrap();
    assert_eq!((found.client, found.fields), (ip("192.0.2.1"), vec![(Forwarded, b"for=192.0.2.1".to_vec())]));
    let commas = b",".repeat(60_000);
    assert_eq!(client(1, &[("X-Forwarded-For", &commas)]), Ok(ip(PROXY)));
    assert_eq!(forwarded(1, &commas).map(|origin| origin.client), Ok(ip(PROXY)));
}

#[test]
fn everybody_trusted_means_that_only_the_count_decides() {
    let everybody = forwarding(&["*"], 2, &[For]);
    for (value, expected) in [
        (&b"6.6.6.6, 192.0.2.1, 203.0.113.9"[..], ip("192.0.2.1")),
        (b"192.0.2.1, unknown", ip("192.0.2.1")),
        (b"6.6.6.6, unknown, 203.0.113.9", Client::Unknown),
    ] {
        let head = head(&[("X-Forwarded-For", value)]);
        for peer in [ip("198.51.100.7"), Client::Local, Client::Unknown] {
            assert_eq!(everybody.origin(&head, peer, None).map(|origin| origin.client), Ok(expected));
        }
    }
}

#[test]
fn unix_sockets_peers_are_trusted_by_their_word() {
    let local = forwarding(&["unix"], 2, &[For]);
    let found = local.origin(&head(&[("X-Forwarded-For", b"6.6.6.6, 192.0.2.1")]), Client::Local, None).unwrap();
    assert_eq!(found.client, ip("192.0.2.1"));
}

#[test]
fn x_forwarded_for_takes_addresses_in_every_usual_form() {
    for (value, expected) in [
        ("192.0.2.1", ip("192.0.2.1")),
        ("192.0.2.1:4711", with_port("192.0.2.1", 4711)),
        ("192.0.2.1:0", with_port("192.0.2.1", 0)),
        ("2001:db8::1", ip("2001:db8::1")),
        ("2001:DB8:0:0::1", ip("2001:db8::1")),
        ("[2001:db8::1]", ip("2001:db8::1")),
        ("[2001:db8::1]:4711", with_port("2001:db8::1", 4711)),
        ("::ffff:192.0.2.1", ip("192.0.2.1")),
        ("[::ffff:192.0.2.1]:80", with_port("192.0.2.1", 80)),
        ("192.0.2.1:_hidden", ip("192.0.2.1")),
        ("unknown", Client::Unknown),
        ("Unknown", Client::Unknown),
        ("_hidden", Client::Unknown),
        ("\t192.0.2.1 ", ip("192.0.2.1")),
    ] {
        assert_eq!(client(2, &[("X-Forwarded-For", value.as_bytes())]), Ok(expected), "{value}");
    }
}

#[test]
fn x_forwarded_for_without_an_address_is_refused() {
    for value in [
        &b"localhost"[..],
        b"192.0.2",
        b"192.0.2.256",
        b"192.0.2.01",
        b"0x7f.1",
        b"3232235777",
        b"192.0.2.1:",
        b"192.0.2.1:x",
        b"192.0.2.1:65536",
        b"192.0.2.1:000080",
        b"192.0.2.1:+80",
        b"192.0.2.1:80:80",
        b"192.0.2.1 80",
        b"[192.0.2.1]",
        b"[::1",
        b"::1]",
        b"[::1]80",
        b"[::1]:",
        b"[]",
        b":80",
        b"fe80::1%eth0",
        b"[fe80::1%25eth0]",
        b"2001:db8:::1",
        b"\"192.0.2.1\"",
        b"for=192.0.2.1",
        b"192.0.2.1;192.0.2.2",
        b"_",
        b"_\xc3\xa9",
        b"\xff",
        b"192.0.2.1\xa0",
        b"\xc2\xa0192.0.2.1",
        b"-",
        b"<script>",
        b"null",
    ] {
        let expected = Err(Reject::XForwardedForMalformed);
        assert_eq!(client(1, &[("X-Forwarded-For", value)]), expected, "{}", value.escape_ascii());
        let behind = [b"192.0.2.1, ", value].concat();
        assert_eq!(client(1, &[("X-Forwarded-For", &behind)]), expected, "{}", value.escape_ascii());
    }
}

#[test]
fn scheme_is_known_or_refused() {
    for (value, expected) in [
        (&b"https"[..], Ok(Scheme::Https)),
        (b"HTTPS", Ok(Scheme::Https)),
        (b"wss", Ok(Scheme::Https)),
        (b"http", Ok(Scheme::Http)),
        (b"ws", Ok(Scheme::Http)),
        (b"https, http", Ok(Scheme::Http)),
        (b"http, https", Ok(Scheme::Https)),
        (b"gopher, https,", Ok(Scheme::Https)),
        (b"on", Err(Reject::XForwardedProtoMalformed)),
        (b"https, gopher", Err(Reject::XForwardedProtoMalformed)),
        (b"https;q=1", Err(Reject::XForwardedProtoMalformed)),
        (b"\"https\"", Err(Reject::XForwardedProtoMalformed)),
        (b"http s", Err(Reject::XForwardedProtoMalformed)),
        (b"https\xe9", Err(Reject::XForwardedProtoMalformed)),
    ] {
        let found = origin(1, &[Proto], &[("X-Forwarded-Proto", value)]).map(|origin| origin.scheme.unwrap());
        assert_eq!(found, expected, "{}", value.escape_ascii());
    }
}

// The value that belongs to the client's element, or the first one of a shorter list.
#[test]
fn other_fields_are_believed_as_far_as_the_addresses_reach() {
    for (hops, addresses, schemes, expected) in [
        (1, &b"6.6.6.6, 192.0.2.1"[..], &b"https, http"[..], Scheme::Http),
        (2, b"192.0.2.1, 10.0.0.2", b"https, http", Scheme::Https),
        (2, b"192.0.2.1, 10.0.0.2", b"http, https, http", Scheme::Https),
        (2, b"192.0.2.1, 10.0.0.2", b"https", Scheme::Https),
        // The outer proxy was passed by.
        (2, b"6.6.6.6, 192.0.2.1", b"https, http", Scheme::Http),
        (3, b"6.6.6.6, 192.0.2.1, 10.0.0.2", b"https, http, http", Scheme::Http),
        (2, b"", b"https, http", Scheme::Http),
    ] {
        let lines = [("X-Forwarded-For", addresses), ("X-Forwarded-Proto", schemes)];
        let found = origin(hops, &[Proto, For], &lines).unwrap();
        assert_eq!(found.scheme, Some(expected), "{}", addresses.escape_ascii());
    }
    // Without addresses only the count can tell.
    let found = origin(2, &[Proto], &[("X-Forwarded-Proto", b"https, http")]).unwrap();
    assert_eq!(found.scheme, Some(Scheme::Https));
}

#[test]
fn host_must_be_one() {
    for (value, expected) in [
        (&b"example.com"[..], Some("example.com")),
        (b"evil, example.com", Some("example.com")),
        (b"example.com:8443", Some("example.com:8443")),
        (b"[2001:db8::1]:8443", Some("[2001:db8::1]:8443")),
        (b"a/b", None),
        (b"user@a", None),
        (b"a b", None),
        (b"a:99999", None),
        (b"[::1", None),
        (b"[fe80::1%25eth0]", None),
        (b"\"a\"", None),
        (b"caf\xc3\xa9", None),
        (b"a\\b", None),
        (b"caf%C3%A9", Some("caf%C3%A9")),
        (b"a%0d%0ab", None),
        (b"a%00:80", None),
        (b"a%7f", None),
        (b":80", None),
    ] {
        let found = origin(1, &[Host], &[("X-Forwarded-Host", value)]);
        match expected {
            Some(host) => assert_eq!(found.unwrap().host.as_deref(), Some(host.as_bytes())),
            None => assert_eq!(found, Err(Reject::XForwardedHostMalformed), "{}", value.escape_ascii()),
        }
    }
}

#[test]
fn port_must_be_one() {
    for (value, expected) in [
        (&b"443"[..], Some(443)),
        (b"1", Some(1)),
        (b"80, 65535", Some(65535)),
        (b"0", None),
        (b"65536", None),
        (b"+80", None),
        (b"000080", None),
        (b"8o", None),
        (b"80 80", None),
    ] {
        let found = origin(1, &[Port], &[("X-Forwarded-Port", value)]).map(|origin| origin.port);
        assert_eq!(found, expected.map(Some).ok_or(Reject::XForwardedPortMalformed), "{}", value.escape_ascii());
    }
}

#[test]
fn prefix_must_be_a_path() {
    for (value, expected) in [
        (&b"/shop"[..], Some(&b"/shop"[..])),
        (b"/shop/", Some(b"/shop")),
        (b"/a/b%20c", Some(b"/a/b c")),
        (b"/", Some(b"")),
        (b"/x, /shop", Some(b"/shop")),
        (b"shop", None),
        (b"//evil.com", None),
        (b"/%2Fevil.com", None),
        (b"/a//b", None),
        (b"/a?b", None),
        (b"/a#b", None),
        (b"/a b", None),
        (b"/\\evil.com", None),
        (b"/%5Cevil.com", None),
        (b"/%0d%0aX", None),
        (b"/%00", None),
        (b"/a%09b", None),
        (b"/a%7F", None),
        (b"/a%1b", None),
        (b"/caf\xe9", None),
        (b"https://evil.com", None),
    ] {
        let found = origin(1, &[Prefix], &[("X-Forwarded-Prefix", value)]).map(|origin| origin.prefix.unwrap());
        let expected = expected.map(<[u8]>::to_vec).ok_or(Reject::XForwardedPrefixMalformed);
        assert_eq!(found, expected, "{}", value.escape_ascii());
    }
}

// Scheme, host and port are those of the URL that the client sees. The request itself names internal:8000.
#[test]
fn host_and_port_go_together() {
    let reads = [Proto, Host, Port];
    for (proto, host, port, expected_host, expected_port) in [
        ("", "", "", None, None),
        ("https", "", "", None, Some(8000)),
        ("https", "example.com", "", Some("example.com"), Some(443)),
        ("http", "example.com", "", Some("example.com"), Some(80)),
        ("", "example.com", "", Some("example.com"), None),
        ("", "example.com:81", "", Some("example.com:81"), Some(81)),
        ("https", "example.com:8443", "", Some("example.com:8443"), Some(8443)),
        ("https", "example.com", "443", Some("example.com"), Some(443)),
        ("http", "example.com", "443", Some("example.com:443"), Some(443)),
        ("https", "example.com", "8443", Some("example.com:8443"), Some(8443)),
        ("https", "example.com:", "8443", Some("example.com:8443"), Some(8443)),
        ("https", "[2001:db8::1]", "8443", Some("[2001:db8::1]:8443"), Some(8443)),
        ("", "example.com", "80", Some("example.com"), Some(80)),
        ("", "example.com", "443", Some("example.com"), Some(443)),
        ("", "example.com", "8443", Some("example.com:8443"), Some(8443)),
        // What the client wrote stands; the port is where it arrived.
        ("https", "example.com:8443", "443", Some("example.com:8443"), Some(443)),
        ("https", "", "443", None, Some(443)),
        // Port 0 is no port.
        ("https", "example.com:0", "", Some("example.com:0"), Some(443)),
        ("", "example.com:0", "", Some("example.com:0"), None),
    ] {
        let lines = [
            ("X-Forwarded-Proto", proto.as_bytes()),
            ("X-Forwarded-Host", host.as_bytes()),
            ("X-Forwarded-Port", port.as_bytes()),
        ];
        let found = origin(1, &reads, &lines).unwrap();
        let seen = (found.host.as_deref().map(|host| std::str::from_utf8(host).unwrap()), found.port);
        assert_eq!(seen, (expected_host, expected_port), "{proto} {host} {port}");
    }
}

#[test]
fn port_of_the_scheme_needs_no_host() {
    let old = RequestHead::sample("GET / HTTP/1.0", &[("X-Forwarded-Proto", b"https"), ("X-Forwarded-Port", b"8443")]);
    let found = forwarding(&["*"], 1, &[Proto, Port]).origin(&old, Client::Local, None).unwrap();
    assert_eq!((found.host, found.port), (None, Some(8443)));
    let found = forwarding(&["*"], 1, &[Proto]).origin(&old, Client::Local, None).unwrap();
    assert_eq!((found.host, found.port), (None, Some(443)));
}

// Backpressure the PROXY protocol.
#[test]
fn scheme_that_is_known_otherwise_stands_below_what_trusted_proxies_write() {
    let (proto, https) = (head(&[("X-Forwarded-Proto", b"http")]), Some(Scheme::Https));
    for (trusted, head, scheme, port) in [
        (&["10.0.0.0/8"][..], &proto, Some(Scheme::Http), Some(8000)),
        (&["10.0.0.0/8"], &head(&[]), https, Some(8000)),
        (&["11.0.0.0/8"], &proto, https, Some(8000)),
        (&[], &RequestHead::sample("GET / HTTP/1.1", &[("Host", b"a")]), https, Some(443)),
    ] {
        let found = forwarding(trusted, 1, &[For, Proto]).origin(head, ip(PROXY), https).unwrap();
        assert_eq!((found.client, found.scheme, found.port), (ip(PROXY), scheme, port));
    }
}

#[test]
fn application_sees_what_trusted_proxies_wrote_and_no_more() {
    let lines: &[(&str, &[u8])] = &[
        ("X-Forwarded-For", b"6.6.6.6 , 192.0.2.1"),
        ("X-Forwarded-For", b"10.0.0.2"),
        ("X-Forwarded-Proto", b"gopher,https,http"),
        ("X-Forwarded-Host", b"a"),
        ("X-Forwarded-Port", b""),
    ];
    let found = origin(2, &[For, Proto, Port], lines).unwrap();
    assert_eq!(found.fields, [(For, b"192.0.2.1, 10.0.0.2".to_vec()), (Proto, b"https, http".to_vec())]);
    let found = forwarded(1, b"for=6.6.6.6, For=192.0.2.1 ; proto=https;x=\"a,b\"").unwrap();
    assert_eq!(found.fields, [(Forwarded, b"For=192.0.2.1 ; proto=https;x=\"a,b\"".to_vec())]);
}

// RFC 7239 §4, §6
#[test]
fn forwarded_names_the_client_in_every_form() {
    for (value, expected) in [
        (&b"for=192.0.2.1"[..], ip("192.0.2.1")),
        (b"For=192.0.2.1", ip("192.0.2.1")),
        (b"for=\"192.0.2.1\"", ip("192.0.2.1")),
        (b"for=\"192.0.2.1:4711\"", with_port("192.0.2.1", 4711)),
        (b"For=\"[2001:db8:cafe::17]:4711\"", with_port("2001:db8:cafe::17", 4711)),
        (b"for=\"[2001:db8:cafe::17]\"", ip("2001:db8:cafe::17")),
        (b"for=\"[::ffff:192.0.2.1]\"", ip("192.0.2.1")),
        (b"for=\"[2001:db8::1]:_port\"", ip("2001:db8::1")),
        (b"for=\"\\192.0.2.\\1\"", ip("192.0.2.1")),
        (b"for=unknown", Client::Unknown),
        (b"for=\"UNKNOWN:80\"", Client::Unknown),
        (b"for=\"_gazonk\"", Client::Unknown),
        (b"for=_SEVKISEK", Client::Unknown),
        (b"for=6.6.6.6, for=192.0.2.1", ip("192.0.2.1")),
        (b"for=6.6.6.6,for=192.0.2.1;proto=http;by=203.0.113.43", ip("192.0.2.1")),
        (b"proto=http;for=192.0.2.1", ip("192.0.2.1")),
        (b"for=192.0.2.1;", ip("192.0.2.1")),
        (b" ; for=192.0.2.1 ; proto=http ; ,", ip("192.0.2.1")),
        (b"secret=\"a;b,for=6.6.6.6\\\"\";for=192.0.2.1", ip("192.0.2.1")),
        (b"for=192.0.2.1;ext=1;ext=2", ip("192.0.2.1")),
        (b", ,for=192.0.2.1,,", ip("192.0.2.1")),
        // No address is told.
        (b"proto=https", ip(PROXY)),
        (b"by=_x", ip(PROXY)),
    ] {
        assert_eq!(forwarded(1, value).map(|origin| origin.client), Ok(expected), "{}", value.escape_ascii());
    }
}

#[test]
fn forwarded_is_refused_where_it_breaks_its_grammar() {
    for value in [
        &b"192.0.2.1"[..],
        b"for",
        b"for=",
        b"=192.0.2.1",
        b"for =192.0.2.1",
        b"for= 192.0.2.1",
        b"for=192.0.2.1:80",
        b"for=[::1]",
        b"for=\"::1\"",
        b"for=\"2001:db8::1\"",
        b"for=\"[fe80::1%eth0]\"",
        b"for=\"192.0.2.1",
        b"for=\"192.0.2.1\\\"",
        b"for=\"192.0.2.1\\",
        b"for=\"192.0.2.1\"x",
        b"for=\"\"",
        b"for=\"192.0.2.1:\"",
        b"for=\"192.0.2.1:65536\"",
        b"for=\"192.0.2.1:123456\"",
        b"for=\"192.0.2.1 \"",
        b"for=192.0.2.1 for=192.0.2.2",
        b"for=192.0.2.1;for=192.0.2.1",
        b"For=192.0.2.1;proto=http;fOR=192.0.2.2",
        b"for=192.0.2.1;proto=http;proto=https",
        b"for=192.0.2.1;host=a;host=b",
        b"for=192.0.2.1;by=_a;by=_b",
        b"for=192.0.2.1;proto=gopher",
        b"for=192.0.2.1;proto=\"\"",
        b"for=192.0.2.1;host=\"a/b\"",
        b"for=192.0.2.1;host=\"a%0d%0ab\"",
        b"for=192.0.2.1;host=\"a\\%00\"",
        b"for=192.0.2.1;host=\"\"",
        b"for=192.0.2.1;host=a:80",
        b"for=caf\xe9",
        b"for=\"caf\xe9\"",
        b"f\xf6r=192.0.2.1",
        b"for=_",
        b"for=localhost",
        b"for:192.0.2.1",
        b"for=192.0.2.1&proto=https",
        // The client's own element is broken: nobody knows where it ends.
        b"for=\"6.6.6.6, for=192.0.2.1",
        b"for=\", for=\"192.0.2.1\"",
        b"x=\", for=192.0.2.1",
        b"<>, for=192.0.2.1",
    ] {
        assert_eq!(forwarded(1, value), Err(Reject::ForwardedMalformed), "{}", value.escape_ascii());
    }
}

#[test]
fn forwarded_line_of_the_client_cannot_swallow_the_proxys() {
    for line in [&b"for=\""[..], b"for=6.6.6.6;x=\"", b"\xff", b"for=evil", b"<>"] {
        let lines = [("Forwarded", line), ("Forwarded", &b"for=192.0.2.1;proto=https"[..])];
        let found = origin(1, &[Forwarded], &lines).unwrap();
        assert_eq!((found.client, found.scheme), (ip("192.0.2.1"), Some(Scheme::Https)));
        // Where the next line is needed, it must be well-formed.
        let lines = [("Forwarded", line), ("Forwarded", &b"for=10.0.0.2"[..])];
        assert_eq!(origin(2, &[Forwarded], &lines), Err(Reject::ForwardedMalformed));
    }
}

// The outermost trusted proxy knows best what the client sees.
#[test]
fn forwarded_elements_of_trusted_proxies_are_read_to_the_outermost() {
    for (hops, value, client, scheme, host) in [
        (1, &b"for=192.0.2.1;proto=https;host=a"[..], ip("192.0.2.1"), Some(Scheme::Https), Some("a")),
        (1, b"for=6.6.6.6;proto=https;host=evil, for=192.0.2.1", ip("192.0.2.1"), None, None),
        (
            2,
            b"for=192.0.2.1;proto=https;host=a, for=10.0.0.2;proto=http",
            ip("192.0.2.1"),
            Some(Scheme::Https),
            Some("a"),
        ),
        (2, b"for=192.0.2.1, for=10.0.0.2;proto=http;host=b", ip("192.0.2.1"), Some(Scheme::Http), Some("b")),
        (2, b"for=6.6.6.6;proto=https;host=evil, for=192.0.2.1;proto=http", ip("192.0.2.1"), Some(Scheme::Http), None),
        (2, b"for=6.6.6.6;proto=https, for=_hidden;proto=http", Client::Unknown, Some(Scheme::Http), None),
        (2, b"for=6.6.6.6;proto=https, proto=http", ip(PROXY), Some(Scheme::Http), None),
        (9, b"for=10.0.0.2;host=\"a:81\"", ip("10.0.0.2"), None, Some("a:81")),
    ] {
        let found = forwarded(hops, value).unwrap();
        let host = host.map(str::as_bytes);
        assert_eq!(
            (found.client, found.scheme, found.host.as_deref()),
            (client, scheme, host),
            "{}",
            value.escape_ascii()
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_fields_give_an_origin_or_a_refusal(
        lines in proptest::collection::vec((0..6_usize, "[\\x20-\\x7e\\u{80}-\\u{ff}]{0,40}"), 0..6),
        hops in 1..4_usize,
    ) {
        let fields: Vec<(&str, &[u8])> =
            lines.iter().map(|(index, value)| (ForwardedField::ALL[*index].name(), value.trim().as_bytes())).collect();
        for reads in [&X_FIELDS[..], &[Forwarded]] {
            if let Ok(found) = origin(hops, reads, &fields) {
                proptest::prop_assert!(found.host.is_none_or(|host| valid_host(&host)));
                proptest::prop_assert!(found.fields.iter().all(|(field, value)| reads.contains(field) && !value.is_empty()));
            }
        }
    }

    // Whatever a client sends, the proxy's own element decides.
    #[test]
    fn client_cannot_change_what_the_proxy_says(invented in "[\\x20-\\x7e]{0,60}") {
        let told = ip("192.0.2.1");
        let joined = format!("{invented}, 192.0.2.1");
        proptest::prop_assert_eq!(client(1, &[("X-Forwarded-For", joined.as_bytes())]), Ok(told));
        let lines = [("X-Forwarded-For", invented.trim().as_bytes()), ("X-Forwarded-For", b"192.0.2.1")];
        proptest::prop_assert_eq!(client(1, &lines), Ok(told));
        let joined = format!("{invented}, for=192.0.2.1");
        let found = forwarded(1, joined.as_bytes()).map(|origin| origin.client);
        proptest::prop_assert!(found == Ok(told) || found == Err(Reject::ForwardedMalformed));
    }
}
