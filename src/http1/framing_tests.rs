use super::*;
use crate::http1::parse::{self, HeadProgress};

const LIMITS: Limits = Limits { request_line: 8190, header_fields: 100, header_size: 65_536, body_size: 1000 };

fn decided(line: &str, fields: &[&[u8]]) -> Result<Framing, Reject> {
    let mut input = format!("{line}\r\n").into_bytes();
    for field in fields {
        input.extend_from_slice(field);
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"\r\n");
    let (head, _) = parse::head(&input, &mut HeadProgress::default(), &LIMITS).unwrap().unwrap();
    decide(&head, &LIMITS)
}

fn post(fields: &[&[u8]]) -> Result<BodyLength, Reject> {
    decided("POST /e HTTP/1.1", &[&[&b"Host: a"[..]], fields].concat()).map(|framing| framing.body)
}

fn old_post(fields: &[&[u8]]) -> Result<BodyLength, Reject> {
    decided("POST /e HTTP/1.0", fields).map(|framing| framing.body)
}

// RFC 9112 §3.2
#[test]
fn host_is_needed_once_on_http11() {
    for (fields, verdict) in [
        (&[][..], Err(Reject::HostMissing)),
        (&[&b"X: Host"[..]], Err(Reject::HostMissing)),
        (&[b"Host: a"], Ok(())),
        (&[b"hOST:a"], Ok(())),
        (&[b"Host: [::1]:8000"], Ok(())),
        (&[b"Host: a:"], Ok(())),
        (&[b"Host: a", b"Host: b"], Err(Reject::HostRepeated)),
        (&[b"Host: a", b"host: a"], Err(Reject::HostRepeated)),
        (&[b"Host:", b"Host: a"], Err(Reject::HostRepeated)),
        (&[b"Host:"], Err(Reject::HostMalformed)),
    ] {
        assert_eq!(decided("GET / HTTP/1.1", fields).map(|_| ()), verdict, "{fields:?}");
        // An absolute-form target replaces the value, but not the need for the field.
        assert_eq!(decided("GET http://b/ HTTP/1.1", fields).map(|_| ()), verdict, "{fields:?}");
    }
}

#[test]
fn host_may_be_absent_on_http10_but_not_wrong() {
    for (fields, verdict) in [
        (&[][..], Ok(())),
        (&[&b"Host: a"[..]], Ok(())),
        (&[b"Host: a", b"Host: b"], Err(Reject::HostRepeated)),
        (&[b"Host:"], Err(Reject::HostMalformed)),
        (&[b"Host: a/b"], Err(Reject::HostMalformed)),
    ] {
        assert_eq!(decided("GET / HTTP/1.0", fields).map(|_| ()), verdict, "{fields:?}");
    }
}

// RFC 9110 §8.3, §11.6.2
#[test]
fn content_type_and_authorization_have_one_value() {
    for (name, conflict) in
        [("Content-Type", Reject::ContentTypeConflict), ("Authorization", Reject::AuthorizationConflict)]
    {
        for (values, verdict) in [
            (&[""][..], Ok(())),
            (&["a/b", "a/b"], Ok(())),
            (&["a/b", "a/b", "a/b"], Ok(())),
            (&["a/b", "c/d"], Err(conflict)),
            (&["a/b", "A/b"], Err(conflict)),
            (&["a/b", ""], Err(conflict)),
            (&["", "a/b"], Err(conflict)),
            (&["a/b", "a/b", "c/d"], Err(conflict)),
            (&["a/b", "c/d", "a/b"], Err(conflict)),
        ] {
            let lines: Vec<Vec<u8>> = values
                .iter()
                .enumerate()
                .map(|(number, value)| {
                    let name = if number % 2 == 0 { name.to_owned() } else { name.to_lowercase() };
                    format!("{name}: {value}").into_bytes()
                })
                .collect();
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            assert_eq!(post(&lines).map(drop), verdict, "{name} {values:?}");
            assert_eq!(old_post(&lines).map(drop), verdict, "{name} {values:?}");
        }
    }
}

#[test]
fn host_with_a_bad_value_is_refused() {
    for host in ["a/b", "a?x=", "a#b", "u@a", "a b", "a:1x", "a:99999", "[::1", "\u{e9}", "a, b/c"] {
        let field = format!("Host: {host}");
        let verdict = decided("GET / HTTP/1.1", &[field.as_bytes()]);
        assert_eq!(verdict, Err(Reject::HostMalformed), "{host}");
    }
}

// RFC 9110 §9.3.6
#[test]
fn connect_is_not_implemented() {
    assert_eq!(decided("CONNECT a:443 HTTP/1.1", &[b"Host: a:443"]), Err(Reject::Connect));
    assert_eq!(decided("CONNECT a:443 HTTP/1.0", &[]), Err(Reject::Connect));
    assert_eq!(decided("connect / HTTP/1.0", &[]).map(|framing| framing.body), Ok(BodyLength::None));
}

// RFC 9112 §6.3
#[test]
fn message_without_framing_fields_has_no_body() {
    assert_eq!(post(&[]), Ok(BodyLength::None));
    assert_eq!(old_post(&[]), Ok(BodyLength::None));
    assert_eq!(post(&[b"Transfer_Encoding: chunked"]), Ok(BodyLength::None));
    assert_eq!(post(&[b"Content_Length: 5"]), Ok(BodyLength::None));
}

// RFC 9110 §8.6
#[test]
fn content_length_gives_the_length() {
    for (field, length) in [
        (&b"Content-Length: 0"[..], 0),
        (b"Content-Length: 5", 5),
        (b"content-length:5", 5),
        (b"Content-Length: 5 \t", 5),
        (b"Content-Length: 010", 10),
        (b"Content-Length: 1000", 1000),
    ] {
        assert_eq!(post(&[field]), Ok(BodyLength::Length(length)));
        assert_eq!(old_post(&[field]), Ok(BodyLength::Length(length)));
    }
    assert_eq!(
        post(&[b"Transfer_Encoding: chunked", b"Content-Length: 5", b"Content_Length: 3"]),
        Ok(BodyLength::Length(5))
    );
}

#[test]
fn content_length_that_is_no_plain_number_is_refused() {
    for value in [
        &b""[..],
        b"+5",
        b"-5",
        b"-0",
        b"5_0",
        b"0x5",
        b"5e0",
        b"5.0",
        b"5 5",
        b"\"5\"",
        b"\xb2",
        b"\xd9\xa5",
        b"\xa05",
        b"5, 5",
        b"5,5",
        b"5,",
        b"5;q=1",
        b"18446744073709551621x",
    ] {
        let field = [b"Content-Length: ", value].concat();
        assert_eq!(post(&[&field]), Err(Reject::ContentLengthMalformed), "{}", value.escape_ascii());
        assert_eq!(old_post(&[&field]), Err(Reject::ContentLengthMalformed), "{}", value.escape_ascii());
    }
}

#[test]
fn content_length_twice_is_refused_even_if_equal() {
    for fields in [
        [&b"Content-Length: 5"[..], b"Content-Length: 6"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"content-length: 5"],
        [b"Content-Length: x", b"Content-Length: 5"],
    ] {
        assert_eq!(post(&fields), Err(Reject::ContentLengthRepeated));
        assert_eq!(old_post(&fields), Err(Reject::ContentLengthRepeated));
    }
}

#[test]
fn content_length_over_the_limit_is_too_large() {
    for value in ["1001", "0001001", "18446744073709551615", "18446744073709551621", "99999999999999999999999999"] {
        let field = format!("Content-Length: {value}");
        assert_eq!(post(&[field.as_bytes()]), Err(Reject::BodyTooLarge), "{value}");
    }
}

// RFC 9112 §6.1, §7
#[test]
fn chunked_alone_is_the_only_coding() {
    for field in [
        &b"Transfer-Encoding: chunked"[..],
        b"Transfer-Encoding:\tchunked",
        b"transfer-encoding: Chunked",
        b"TRANSFER-ENCODING:CHUNKED \t",
    ] {
        assert_eq!(post(&[field]), Ok(BodyLength::Chunked), "{}", field.escape_ascii());
    }
    for (value, reject) in [
        (&b""[..], Reject::TransferEncodingMalformed),
        (b",", Reject::TransferEncodingMalformed),
        (b"chunked,", Reject::TransferEncodingMalformed),
        (b",chunked", Reject::TransferEncodingMalformed),
        (b"gzip,,chunked", Reject::TransferEncodingMalformed),
        (b"chunked;q=1", Reject::TransferEncodingMalformed),
        (b"\"chunked\"", Reject::TransferEncodingMalformed),
        (b"chun ked", Reject::TransferEncodingMalformed),
        (b"\xa0chunked", Reject::TransferEncodingMalformed),
        (b"chunked\xa0", Reject::TransferEncodingMalformed),
        (b"\x85chunked", Reject::TransferEncodingMalformed),
        (b"\xffchunked", Reject::TransferEncodingMalformed),
        (b"chunked\xff", Reject::TransferEncodingMalformed),
        (b"'chunked'", Reject::ChunkedMisplaced),
        (b"identity", Reject::ChunkedMisplaced),
        (b"gzip", Reject::ChunkedMisplaced),
        (b"xchunked", Reject::ChunkedMisplaced),
        (b"chunke", Reject::ChunkedMisplaced),
        (b"chunkedchunked", Reject::ChunkedMisplaced),
        (b"chunked, identity", Reject::ChunkedMisplaced),
        (b"chunked, cow", Reject::ChunkedMisplaced),
        (b"chunked, chunked", Reject::ChunkedMisplaced),
        (b"chunked, gzip, chunked", Reject::ChunkedMisplaced),
        (b"gzip, chunked", Reject::TransferCodingUnsupported),
        (b"cow,chunked", Reject::TransferCodingUnsupported),
        (b"a, b, CHUNKED", Reject::TransferCodingUnsupported),
    ] {
        let field = [b"Transfer-Encoding: ", value].concat();
        assert_eq!(post(&[&field]), Err(reject), "{}", value.escape_ascii());
        // Whatever it says, Content-Length never takes over.
        let both = [&field[..], b"Content-Length: 5"];
        assert_eq!(post(&both), Err(Reject::BothFramings), "{}", value.escape_ascii());
        assert_eq!(old_post(&[&field]), Err(Reject::TransferEncodingOnHttp10), "{}", value.escape_ascii());
    }
}

#[test]
fn transfer_encoding_with_other_framing_is_refused() {
    for (fields, reject) in [
        (&[&b"Content-Length: 5"[..], b"Transfer-Encoding: chunked"][..], Reject::BothFramings),
        (&[b"Transfer-Encoding: chunked", b"Content-Length: 5"], Reject::BothFramings),
        (&[b"Transfer-Encoding: chunked", b"Content-Length: 0"], Reject::BothFramings),
        (&[b"Transfer-Encoding:", b"Content-Length: 5"], Reject::BothFramings),
        (&[b"Transfer-Encoding: chunked", b"Content-Length: x"], Reject::ContentLengthMalformed),
        (&[b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], Reject::TransferEncodingRepeated),
        (&[b"Transfer-Encoding: gzip", b"transfer-encoding: chunked"], Reject::TransferEncodingRepeated),
    ] {
        assert_eq!(post(fields), Err(reject), "{fields:?}");
    }
    assert_eq!(old_post(&[b"Transfer-Encoding: chunked"]), Err(Reject::TransferEncodingOnHttp10));
    assert_eq!(old_post(&[b"Transfer-Encoding: chunked", b"Content-Length: 5"]), Err(Reject::TransferEncodingOnHttp10));
}

// RFC 9110 §10.1.1
#[test]
fn expectation_is_100_continue_or_refused() {
    for (fields, verdict) in [
        (&[][..], Ok(false)),
        (&[&b"Expect: 100-continue"[..]], Ok(true)),
        (&[b"Expect: 100-Continue"], Ok(true)),
        (&[b"expect:100-CONTINUE"], Ok(true)),
        (&[b"Expect: 100-continue", b"Expect: 100-continue"], Ok(true)),
        (&[b"Expect:"], Ok(false)),
        (&[b"Expect: foo"], Err(Reject::ExpectationUnsupported)),
        (&[b"Expect: 100-continue, foo"], Err(Reject::ExpectationUnsupported)),
        (&[b"Expect: 100-continue", b"Expect: foo"], Err(Reject::ExpectationUnsupported)),
        (&[b"Expect: 100-continue;q=1"], Err(Reject::ExpectationUnsupported)),
        (&[b"Expect: 100"], Err(Reject::ExpectationUnsupported)),
    ] {
        let all = [&[&b"Host: a"[..]], fields].concat();
        for line in ["POST / HTTP/1.1", "GET / HTTP/1.1"] {
            assert_eq!(decided(line, &all).map(|framing| framing.expect_continue), verdict, "{fields:?}");
        }
        assert_eq!(decided("POST / HTTP/1.0", &all).map(|framing| framing.expect_continue), Ok(false), "{fields:?}");
    }
}

#[test]
fn expectation_never_goes_before_a_framing_error_or_a_limit() {
    for expect in [&b"Expect: 100-continue"[..], b"Expect: foo"] {
        assert_eq!(post(&[expect, b"Content-Length: 1001"]), Err(Reject::BodyTooLarge));
        assert_eq!(post(&[expect, b"Content-Length: 5", b"Transfer-Encoding: chunked"]), Err(Reject::BothFramings));
    }
}

// RFC 9112 §9.3
#[test]
fn persistence_follows_version_and_connection_options() {
    for (fields, on_11, on_10) in [
        (&[][..], true, false),
        (&[&b"Connection: close"[..]], false, false),
        (&[b"Connection: Close"], false, false),
        (&[b"Connection: keep-alive"], true, true),
        (&[b"connection: Keep-Alive"], true, true),
        (&[b"Connection: keep-alive, close"], false, false),
        (&[b"Connection: keep-alive", b"Connection: close"], false, false),
        (&[b"Connection: x", b"Connection: keep-alive"], true, true),
        (&[b"Connection: closed"], true, false),
        (&[b"Connection:"], true, false),
        (&[b"Connection: te,,close"], false, false),
        (&[b"Proxy-Connection: keep-alive"], true, false),
        (&[b"Keep-Alive: timeout=5"], true, false),
    ] {
        let all = [&[&b"Host: a"[..]], fields].concat();
        assert_eq!(decided("GET / HTTP/1.1", &all).map(|framing| framing.persistent), Ok(on_11), "{fields:?}");
        assert_eq!(decided("GET / HTTP/1.0", &all).map(|framing| framing.persistent), Ok(on_10), "{fields:?}");
    }
}

// RFC 9110 §7.8
#[test]
fn upgrade_needs_field_option_and_http11() {
    for (fields, expected) in [
        (&[][..], false),
        (&[&b"Upgrade: websocket"[..]], false),
        (&[b"Connection: upgrade"], false),
        (&[b"Connection: Upgrade", b"Upgrade: websocket"], true),
        (&[b"Upgrade: h2c", b"Connection: keep-alive, UPGRADE"], true),
    ] {
        let all = [&[&b"Host: a"[..]], fields].concat();
        assert_eq!(decided("GET / HTTP/1.1", &all).map(|framing| framing.upgrade), Ok(expected), "{fields:?}");
        assert_eq!(decided("GET / HTTP/1.0", &all).map(|framing| framing.upgrade), Ok(false), "{fields:?}");
    }
}
