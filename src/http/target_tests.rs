use super::*;

fn taken(form: Form, authority: Option<&'static str>, path: &'static str, query: &'static str) -> Target<'static> {
    Target { form, authority: authority.map(str::as_bytes), path: path.as_bytes(), query: query.as_bytes() }
}

// RFC 9112 §3.2
#[test]
fn valid_target_is_taken_to_pieces() {
    for (method, target, expected) in [
        ("GET", "/", taken(Form::Origin, None, "/", "")),
        ("GET", "/a/b?x=1&y", taken(Form::Origin, None, "/a/b", "x=1&y")),
        ("GET", "/a?", taken(Form::Origin, None, "/a", "")),
        ("GET", "/?a?b", taken(Form::Origin, None, "/", "a?b")),
        ("GET", "//evil.com/x", taken(Form::Origin, None, "//evil.com/x", "")),
        ("GET", "/a/../b", taken(Form::Origin, None, "/a/../b", "")),
        ("GET", "/%zz%", taken(Form::Origin, None, "/%zz%", "")),
        ("GET", "/http://b/", taken(Form::Origin, None, "/http://b/", "")),
        ("GET", "/\"<>\\^`{|}", taken(Form::Origin, None, "/\"<>\\^`{|}", "")),
        ("GET", "/a@b:c", taken(Form::Origin, None, "/a@b:c", "")),
        ("GET", "http://b/x?y=1", taken(Form::Absolute, Some("b"), "/x", "y=1")),
        ("GET", "HTTPS://b:443/", taken(Form::Absolute, Some("b:443"), "/", "")),
        ("GET", "http://a", taken(Form::Absolute, Some("a"), "", "")),
        ("GET", "http://a?q", taken(Form::Absolute, Some("a"), "", "q")),
        ("GET", "http://[::1]:80/@", taken(Form::Absolute, Some("[::1]:80"), "/@", "")),
        ("OPTIONS", "*", taken(Form::Asterisk, None, "", "")),
        ("OPTIONS", "/x", taken(Form::Origin, None, "/x", "")),
        ("CONNECT", "a:443", taken(Form::Authority, Some("a:443"), "", "")),
    ] {
        assert_eq!(parse(method.as_bytes(), target.as_bytes()), Ok(expected), "{method} {target}");
    }
}

#[test]
fn invalid_target_is_refused_by_its_rule() {
    for (method, target, reject) in [
        ("GET", &b"foo/bar"[..], Reject::TargetMalformed),
        ("GET", b"", Reject::TargetMalformed),
        ("GET", b"*", Reject::TargetMalformed),
        ("OPTIONS", b"**", Reject::TargetMalformed),
        ("GET", b"a:443", Reject::TargetMalformed),
        ("GET", b"?x", Reject::TargetMalformed),
        ("GET", b"http:/a", Reject::TargetMalformed),
        ("GET", b"http:a", Reject::TargetMalformed),
        ("GET", b"://a/", Reject::TargetScheme),
        ("GET", b"ftp://a/", Reject::TargetScheme),
        ("GET", b"httpx://a/", Reject::TargetScheme),
        ("GET", b"http://", Reject::TargetAuthority),
        ("GET", b"http:///x", Reject::TargetAuthority),
        ("GET", b"http://?x", Reject::TargetAuthority),
        ("GET", b"http://a:x/", Reject::TargetAuthority),
        ("GET", b"http://a:99999/", Reject::TargetAuthority),
        ("GET", b"http://[::1/", Reject::TargetAuthority),
        ("GET", b"http://a\\b/", Reject::TargetAuthority),
        ("GET", b"http://u:p@a/", Reject::TargetUserinfo),
        ("GET", b"http://@a/", Reject::TargetUserinfo),
        ("GET", b"/a#b", Reject::TargetFragment),
        ("GET", b"#", Reject::TargetFragment),
        ("GET", b"http://a/#b", Reject::TargetFragment),
        ("GET", b"/\xc3\xa9", Reject::TargetByte),
        ("GET", b"/\xff", Reject::TargetByte),
        ("GET", b"/\0", Reject::TargetByte),
        ("GET", b"/\t", Reject::TargetByte),
        ("GET", b"/a b", Reject::TargetByte),
        ("GET", b"/a\rb", Reject::TargetByte),
        ("GET", b"/\x7f", Reject::TargetByte),
        ("CONNECT", b"/", Reject::TargetMalformed),
        ("CONNECT", b"http://a/", Reject::TargetMalformed),
        ("CONNECT", b"a:x", Reject::TargetMalformed),
    ] {
        assert_eq!(parse(method.as_bytes(), target), Err(reject), "{method} {}", target.escape_ascii());
    }
}

#[test]
fn every_graphic_byte_but_the_hash_may_stand_in_a_path() {
    for byte in 0..=255_u8 {
        let target = [b'/', byte];
        assert_eq!(parse(b"GET", &target).is_ok(), byte.is_ascii_graphic() && byte != b'#', "{byte:#x}");
    }
}

// RFC 3986 §2.1
#[test]
fn percent_decoding_happens_once_and_leaves_bad_escapes() {
    for (text, decoded) in [
        (&b""[..], &b""[..]),
        (b"/plain", b"/plain"),
        (b"/%C3%A9%2Fx", b"/\xc3\xa9/x"),
        (b"/%c3%a9", b"/\xc3\xa9"),
        (b"%2525", b"%25"),
        (b"%00%0d%0A", b"\0\r\n"),
        (b"/%zz%", b"/%zz%"),
        (b"%", b"%"),
        (b"%4", b"%4"),
        (b"%%41", b"%A"),
        (b"%4%31", b"%41"),
        (b"a+b", b"a+b"),
        (b"%ff", b"\xff"),
        (b"%+1% 1%-1", b"%+1% 1%-1"),
    ] {
        assert_eq!(percent_decode(text), decoded, "{}", text.escape_ascii());
    }
}

#[test]
fn percent_decoding_without_escapes_does_not_copy() {
    assert!(matches!(percent_decode(b"/plain?x"), Cow::Borrowed(_)));
    assert!(matches!(percent_decode(b"/%41"), Cow::Owned(_)));
}

#[test]
fn percent_decoding_gives_every_encoded_byte_back() {
    for byte in 0..=255_u8 {
        assert_eq!(*percent_decode(format!("%{byte:02x}").as_bytes()), [byte]);
        assert_eq!(*percent_decode(format!("%{byte:02X}").as_bytes()), [byte]);
        assert_eq!(hex_digit(byte), char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    }
}
