use super::*;
use crate::http::origin::{Client, ForwardedField, Scheme};

const NO_BODY: Facts<'static> = Facts { body_length: None, origin: None };

fn emitted(head: &RequestHead, facts: Facts<'_>) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    variables(head, &facts, |name, value| {
        let key = match name {
            Name::RequestMethod => "REQUEST_METHOD".to_owned(),
            Name::PathInfo => "PATH_INFO".to_owned(),
            Name::QueryString => "QUERY_STRING".to_owned(),
            Name::RequestUri => "REQUEST_URI".to_owned(),
            Name::RawUri => "RAW_URI".to_owned(),
            Name::ServerProtocol => "SERVER_PROTOCOL".to_owned(),
            Name::ContentType => "CONTENT_TYPE".to_owned(),
            Name::ContentLength => "CONTENT_LENGTH".to_owned(),
            Name::ServerPort => "SERVER_PORT".to_owned(),
            Name::ScriptName => "SCRIPT_NAME".to_owned(),
            Name::UrlScheme => "wsgi.url_scheme".to_owned(),
            Name::Field(name) => {
                let mut key = Vec::new();
                field_key(name, &mut key);
                String::from_utf8(key).unwrap()
            }
        };
        all.push((key, value.to_vec()));
    });
    for (index, (key, _)) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|(earlier, _)| earlier != key), "{key} was emitted twice");
    }
    all
}

// What the fields alone contribute, as text.
fn of_fields(fields: &[(&str, &[u8])], facts: Facts<'_>) -> Vec<String> {
    let head = RequestHead::sample("POST /e HTTP/1.1", fields);
    let all = emitted(&head, facts);
    let fixed = 6 + usize::from(facts.body_length.is_some());
    all[fixed..].iter().map(|(key, value)| format!("{key}={}", value.escape_ascii())).collect()
}

#[test]
fn request_line_gives_its_variables() {
    for (line, path, query, uri, protocol) in [
        ("GET /a?x=1 HTTP/1.1", &b"/a"[..], "x=1", "/a?x=1", "HTTP/1.1"),
        ("GET /%C3%A9%2Fx?q=%20 HTTP/1.0", b"/\xc3\xa9/x", "q=%20", "/%C3%A9%2Fx?q=%20", "HTTP/1.0"),
        ("GET /a%0d%0aX:y%00 HTTP/1.1", b"/a\r\nX:y\0", "", "/a%0d%0aX:y%00", "HTTP/1.1"),
        ("GET /%2525/%zz% HTTP/1.1", b"/%25/%zz%", "", "/%2525/%zz%", "HTTP/1.1"),
        ("GET //evil.com/x HTTP/1.1", b"//evil.com/x", "", "//evil.com/x", "HTTP/1.1"),
        ("GET /a/../b HTTP/1.1", b"/a/../b", "", "/a/../b", "HTTP/1.1"),
        ("GET http://b HTTP/1.1", b"/", "", "http://b", "HTTP/1.1"),
        ("GET http://b/x?y=1 HTTP/1.1", b"/x", "y=1", "http://b/x?y=1", "HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", b"", "", "*", "HTTP/1.1"),
    ] {
        let all = emitted(&RequestHead::sample(line, &[("Host", b"a")]), NO_BODY);
        let method = line.split(' ').next().unwrap().as_bytes();
        let expected: [(&str, &[u8]); 6] = [
            ("REQUEST_METHOD", method),
            ("PATH_INFO", path),
            ("QUERY_STRING", query.as_bytes()),
            ("REQUEST_URI", uri.as_bytes()),
            ("RAW_URI", uri.as_bytes()),
            ("SERVER_PROTOCOL", protocol.as_bytes()),
        ];
        for ((key, value), expected) in all.iter().zip(expected) {
            assert_eq!((&**key, &**value), expected, "{line}");
        }
    }
}

#[test]
fn fields_become_variables_in_order() {
    let fields: &[(&str, &[u8])] = &[("Host", b"a"), ("x-a", b"1"), ("X-Obs", b"\xe9"), ("X-Empty", b""), ("A1", b"v")];
    let expected = ["HTTP_HOST=a", "HTTP_X_A=1", "HTTP_X_OBS=\\xe9", "HTTP_X_EMPTY=", "HTTP_A1=v"];
    assert_eq!(of_fields(fields, NO_BODY), expected);
}

// Two names must not meet in one variable.
#[test]
fn names_that_could_forge_a_variable_are_dropped() {
    for name in ["X_A", "Content_Length", "_", "X.A_", "HTTP_HOST", "Transfer_Encoding"] {
        assert_eq!(of_fields(&[("X-A", b"1"), (name, b"6")], NO_BODY), ["HTTP_X_A=1"], "{name}");
        assert_eq!(of_fields(&[(name, b"6"), ("X-A", b"1"), ("x-a", b"2")], NO_BODY), ["HTTP_X_A=1,2"], "{name}");
    }
    assert_eq!(of_fields(&[("HTTP-Content-Length", b"9")], NO_BODY), ["HTTP_HTTP_CONTENT_LENGTH=9"]);
}

// RFC 9110 §5.6.2: a name is a token.
#[test]
fn every_token_character_but_the_underscore_stands_in_a_variable() {
    let name = "x-aZ09!#$%&'*+.^`|~";
    assert_eq!(of_fields(&[(name, b"1"), ("X.A", b"2")], NO_BODY), ["HTTP_X_AZ09!#$%&'*+.^`|~=1", "HTTP_X.A=2"]);
}

#[test]
fn no_two_names_of_token_characters_meet_in_one_variable() {
    let tokens = (0..=u8::MAX).filter(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    let names: Vec<String> = tokens.map(|byte| format!("X{}A", char::from(byte))).collect();
    let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    // `emitted` asserts that each variable comes once; the two cases of a letter are one name.
    let variables = of_fields(&fields, NO_BODY);
    assert_eq!(variables.len(), names.len() - 1 - 26);
}

// RFC 3875 §4.1.18
#[test]
fn proxy_is_dropped_but_its_relatives_are_not() {
    assert_eq!(of_fields(&[("Proxy", b"evil:1"), ("PROXY", b"x")], NO_BODY), [""; 0]);
    assert_eq!(of_fields(&[("Proxy-Authorization", b"x")], NO_BODY), ["HTTP_PROXY_AUTHORIZATION=x"]);
}

#[test]
fn content_fields_have_variables_without_prefix() {
    let fields: &[(&str, &[u8])] = &[("content-type", b"text/plain"), ("Content-Length", b"005")];
    let head = RequestHead::sample("POST / HTTP/1.1", fields);
    let all = emitted(&head, Facts { body_length: Some(5), ..NO_BODY });
    assert!(all.contains(&("CONTENT_LENGTH".to_owned(), b"5".to_vec())));
    assert!(all.contains(&("CONTENT_TYPE".to_owned(), b"text/plain".to_vec())));
    assert_eq!(all.len(), 8);
}

#[test]
fn content_length_is_the_known_length_and_nothing_else() {
    for (fields, body_length, expected) in [
        (&[][..], None, None),
        (&[("Content-Length", &b"0"[..])], Some(0), Some("0")),
        (&[("Transfer-Encoding", b"chunked")], Some(12), Some("12")),
        (&[("Transfer-Encoding", b"chunked")], None, None),
        (&[("Content-Length", b"7")], None, None),
        (&[], Some(u64::MAX), Some("18446744073709551615")),
    ] {
        let head = RequestHead::sample("POST / HTTP/1.1", fields);
        let all = emitted(&head, Facts { body_length, ..NO_BODY });
        let found = all.iter().find(|(key, _)| key == "CONTENT_LENGTH").map(|(_, value)| value.as_slice());
        assert_eq!(found, expected.map(str::as_bytes), "{fields:?}");
    }
}

#[test]
fn transfer_encoding_is_visible_only_while_the_body_streams() {
    let fields: &[(&str, &[u8])] = &[("Transfer-Encoding", b"chunked"), ("TE", b"x")];
    assert_eq!(of_fields(fields, NO_BODY), ["HTTP_TRANSFER_ENCODING=chunked", "HTTP_TE=x"]);
    assert_eq!(of_fields(fields, Facts { body_length: Some(3), ..NO_BODY }), ["HTTP_TE=x"]);
}

// RFC 9112 §3.2.2
#[test]
fn authority_of_the_target_stands_for_host() {
    for (fields, expected) in [
        (&[("Host", &b"a"[..]), ("X", b"1")][..], &["HTTP_HOST=b:8", "HTTP_X=1"][..]),
        (&[("X", b"1"), ("hOST", b"a")], &["HTTP_X=1", "HTTP_HOST=b:8"]),
        (&[("X", b"1"), ("X", b"2"), ("Host", b"a")], &["HTTP_X=1,2", "HTTP_HOST=b:8"]),
        (&[("X", b"1")], &["HTTP_X=1", "HTTP_HOST=b:8"]),
    ] {
        let head = RequestHead::sample("GET http://b:8/ HTTP/1.0", fields);
        let all = emitted(&head, NO_BODY);
        let text: Vec<_> = all[6..].iter().map(|(key, value)| format!("{key}={}", value.escape_ascii())).collect();
        assert_eq!(text, expected);
    }
}

// RFC 9110 §5.3, RFC 6265 §5.4
#[test]
fn repeated_fields_are_joined_at_the_first_ones_place() {
    for (fields, expected) in [
        (&[("X-A", &b"1"[..]), ("X-A", b"2")][..], &["HTTP_X_A=1,2"][..]),
        (&[("X-A", b"1"), ("B", b"3"), ("x-a", b"2"), ("X-a", b"")], &["HTTP_X_A=1,2,", "HTTP_B=3"]),
        (&[("X-A", b""), ("X-A", b"")], &["HTTP_X_A=,"]),
        (&[("Cookie", b"a=1"), ("Cookie", b"b=2")], &["HTTP_COOKIE=a=1; b=2"]),
        (&[("cookie", b"a=1"), ("COOKIE", b"b=2"), ("Cookie", b"c")], &["HTTP_COOKIE=a=1; b=2; c"]),
        // The framing refuses those that differ.
        (&[("Content-Type", b"a"), ("content-type", b"a"), ("X", b"")], &["CONTENT_TYPE=a", "HTTP_X="]),
        (&[("Authorization", b"a"), ("X", b""), ("authorization", b"a")], &["HTTP_AUTHORIZATION=a", "HTTP_X="]),
        (&[("X", b"1"), ("Y", b"1"), ("X", b"2"), ("Y", b"2")], &["HTTP_X=1,2", "HTTP_Y=1,2"]),
        (&[("Proxy", b"1"), ("X", b"1"), ("Proxy", b"2")], &["HTTP_X=1"]),
        // Alike at a glance, but different.
        (&[("aXbYc", b"1"), ("aZbQc", b"2")], &["HTTP_AXBYC=1", "HTTP_AZBQC=2"]),
    ] {
        assert_eq!(of_fields(fields, NO_BODY), expected, "{fields:?}");
    }
}

#[test]
fn many_fields_give_the_same_variables_as_few() {
    for count in [1, 2, MAX_COMPARED_FIELDS - 1, MAX_COMPARED_FIELDS, MAX_COMPARED_FIELDS + 1, 1000] {
        let names: Vec<String> = (0..count).map(|index| format!("X-{index}")).collect();
        let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
        let expected: Vec<String> = (0..count).map(|index| format!("HTTP_X_{index}=X-{index}")).collect();
        assert_eq!(of_fields(&fields, NO_BODY), expected);
        let repeated: Vec<(&str, &[u8])> = (0..count).map(|_| ("X-Same", &b"v"[..])).collect();
        let joined = vec!["v"; count].join(",");
        assert_eq!(of_fields(&repeated, NO_BODY), [format!("HTTP_X_SAME={joined}")]);
    }
}

#[test]
fn repeats_are_found_in_any_case_only_where_there_are_any() {
    let repeats = |fields: &[(&str, &[u8])]| has_repeats(&RequestHead::sample("GET / HTTP/1.1", fields));
    assert!(!repeats(&[]));
    assert!(!repeats(&[("Accept", b""), ("Accept-Encoding", b""), ("Accept-Language", b""), ("Sec-Fetch-Mode", b"")]));
    assert!(!repeats(&[("aXbYc", b""), ("aZbQc", b"")]));
    assert!(repeats(&[("Accept", b""), ("X", b""), ("aCCEPT", b"")]));
}

#[test]
fn what_trusted_proxies_tell_stands_above_what_the_request_says() {
    let origin = Origin {
        scheme: Some(Scheme::Https),
        host: Some(b"example.com".to_vec()),
        port: Some(443),
        prefix: Some(b"/shop".to_vec()),
        fields: vec![(ForwardedField::For, b"192.0.2.1".to_vec())],
        is_from_trusted_proxy: true,
        ..Origin::of(Client::Unknown)
    };
    let facts = Facts { origin: Some(&origin), ..NO_BODY };
    let told = ["wsgi.url_scheme=https", "SERVER_PORT=443", "SCRIPT_NAME=/shop", "HTTP_X_FORWARDED_FOR=192.0.2.1"];
    let spoofed: &[(&str, &[u8])] = &[
        ("x-forwarded-for", b"6.6.6.6, 192.0.2.1"),
        ("X-Forwarded-For", b"6.6.6.6"),
        ("X_Forwarded_For", b"6.6.6.6"),
        ("X-Forwarded-Proto", b"http"),
        ("Forwarded", b"for=6.6.6.6"),
        ("X-Forwarded-User", b"ann"),
        ("X-A", b"1"),
    ];
    let host: &[(&str, &[u8])] = &[("Host", b"internal")];
    let seen = of_fields(&[host, spoofed].concat(), facts);
    assert_eq!(seen, [&["HTTP_HOST=example.com", "HTTP_X_FORWARDED_USER=ann", "HTTP_X_A=1"][..], &told].concat());
    let seen = of_fields(spoofed, facts);
    assert_eq!(seen, [&["HTTP_X_FORWARDED_USER=ann", "HTTP_X_A=1", "HTTP_HOST=example.com"][..], &told].concat());
}

#[test]
fn fields_of_proxies_are_plain_fields_only_where_no_proxy_is_trusted() {
    let fields: &[(&str, &[u8])] = &[
        ("X-Forwarded-For", b"1.1.1.1"),
        ("X_Forwarded_For", b"6.6.6.6"),
        ("X-Forwarded-User", b"ann"),
        ("Forwarded", b"for=1.1.1.1"),
        ("X-A", b"1"),
    ];
    let plain =
        ["HTTP_X_FORWARDED_FOR=1.1.1.1", "HTTP_X_FORWARDED_USER=ann", "HTTP_FORWARDED=for=1.1.1.1", "HTTP_X_A=1"];
    assert_eq!(of_fields(fields, NO_BODY), plain);
    let stranger = Origin::of(Client::Unknown);
    assert_eq!(of_fields(fields, Facts { origin: Some(&stranger), ..NO_BODY }), ["HTTP_X_A=1"]);
}
