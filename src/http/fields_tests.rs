use super::*;

// RFC 9110 §5.6.2
#[test]
fn tchar_is_exactly_the_list_of_the_rfc() {
    for byte in 0..=255_u8 {
        let expected = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(is_tchar(byte), expected, "{byte:#x}");
    }
}

// RFC 9110 §5.5
#[test]
fn field_byte_is_everything_but_controls_and_allows_tab() {
    for byte in 0..=255_u8 {
        let expected = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        assert_eq!(is_field_byte(byte), expected, "{byte:#x}");
    }
}

#[test]
fn token_with_anything_else_is_refused() {
    for token in ["GET", "get", "M-SEARCH", "x!#$%&'*+-.^_`|~0"] {
        assert!(is_token(token.as_bytes()), "{token}");
    }
    for other in ["", " ", "GE T", "GE(T", "bla:rgh", "GET\0", "a\t", "\"a\"", "a/b", "a@b", "[]", "a,b", "é"] {
        assert!(!is_token(other.as_bytes()), "{other}");
    }
}

#[test]
fn field_value_with_a_control_is_refused() {
    for value in [&b""[..], b" ", b"\t", b"a b", b"\x80\xff", b"\"a\";b=c"] {
        assert!(is_field_value(value), "{value:?}");
    }
    for value in [&b"\0"[..], b"a\nb", b"a\rb", b"\x07", b"\x0b", b"\x1f", b"\x7f", b"a\r\n b"] {
        assert!(!is_field_value(value), "{value:?}");
    }
}

// RFC 9110 §5.6.3: what other languages take for space is not.
#[test]
fn trim_takes_only_spaces_and_tabs() {
    for (text, trimmed) in [
        (&b""[..], &b""[..]),
        (b" \t ", b""),
        (b" a", b"a"),
        (b"a\t", b"a"),
        (b"\t a \t b \t", b"a \t b"),
        (b"\x0ba\x0c", b"\x0ba\x0c"),
        (b"\xa0a\x85", b"\xa0a\x85"),
    ] {
        assert_eq!(trim_ows(text), trimmed);
    }
}

#[test]
fn elements_are_trimmed_and_include_empty_ones() {
    for (value, expected) in [
        ("", &[""][..]),
        ("a", &["a"]),
        ("a,b", &["a", "b"]),
        (" a ,\tb ", &["a", "b"]),
        ("a,,b", &["a", "", "b"]),
        (",", &["", ""]),
        ("\"a,b\"", &["\"a", "b\""]),
    ] {
        let expected: Vec<_> = expected.iter().map(|element| element.as_bytes()).collect();
        assert_eq!(elements(value.as_bytes()).collect::<Vec<_>>(), expected, "{value}");
    }
}

#[test]
fn element_is_found_whole_and_in_any_case() {
    for (value, found) in [
        ("close", true),
        ("Close", true),
        ("keep-alive, CLOSE", true),
        (" x ,\tclose\t, y", true),
        ("", false),
        ("closed", false),
        ("close;q=1", false),
        ("\"close\"", false),
        ("clo se", false),
    ] {
        assert_eq!(has_element(value.as_bytes(), b"close"), found, "{value}");
    }
}

// RFC 9110 §8.6
#[test]
fn content_length_is_digits_only() {
    for (value, length) in [
        (&b"0"[..], 0),
        (b"5", 5),
        (b"010", 10),
        (b"00000000000000000000000000000005", 5),
        (b"18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_content_length(value), Some(length));
    }
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
        b" 5",
        b"5 ",
        b"\"5\"",
        b"\xb2",
        b"\xd9\xa5",
        b"\x0b5",
        b"5,5",
        b"five",
        b"18446744073709551616",
        b"18446744073709551621",
        b"99999999999999999999999999999999999999",
    ] {
        assert_eq!(parse_content_length(value), None, "{value:?}");
    }
}

// RFC 9110 §7.2, RFC 3986 §3.2.2
#[test]
fn host_with_valid_name_and_port_is_accepted() {
    for host in [
        "a",
        "a:",
        "a:0",
        "a:80",
        "a:65535",
        "a:00080",
        "example.com",
        "EXAMPLE.com.",
        "a_b-c~d",
        "xn--bcher-kva.example:8080",
        "127.0.0.1",
        "127.0.0.1:8000",
        "999.1.1.1",
        "a%20b",
        "!$&'()*+,;=",
        "[::]",
        "[::1]",
        "[::1]:",
        "[::1]:8000",
        "[2001:DB8::ff00:42:8329]",
        "[1:2:3:4:5:6:7:8]",
        "[1:2:3:4:5:6:7::]",
        "[::ffff:192.0.2.1]:443",
        "[v1.a:b]",
        "[VfF.~!$]:1",
    ] {
        assert!(valid_host(host.as_bytes()), "{host}");
    }
}

#[test]
fn host_with_anything_else_is_refused() {
    for host in [
        "",
        ":",
        ":80",
        "a/b",
        "a?x=",
        "a#b",
        "u@a",
        "a b",
        " a",
        "a\t",
        "a:1x",
        "a:-1",
        "a:+1",
        "a:99999",
        "a:65536",
        "a:80:80",
        "a:18446744073709551696",
        "a%",
        "a%2",
        "a%zz",
        "a\\b",
        "a\"b",
        "<a>",
        "é",
        "a\0",
        "[",
        "[]",
        "[::1",
        "::1",
        "::1]",
        "[::1]x",
        "[::1]80",
        "[::1]:x",
        "[::1]:65536",
        "x[::1]",
        "[[::1]]",
        "[:::]",
        "[1::2::3]",
        "[12345::]",
        "[1:2:3:4:5:6:7]",
        "[1:2:3:4:5:6:7:8:9]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[127.0.0.1]",
        "[::300.1.1.1]",
        "[v.a]",
        "[v1.]",
        "[v1]",
        "[vg.a]",
        "[v1.a/b]",
        "[é]",
    ] {
        assert!(!valid_host(host.as_bytes()), "{host}");
    }
}

#[test]
fn port_of_a_host_is_what_follows_its_last_colon() {
    for (host, port) in [
        ("a:80", Some(80)),
        ("a", None),
        ("a:", None),
        ("192.0.2.1:65535", Some(65535)),
        ("[::1]", None),
        ("[::1]:8080", Some(8080)),
        ("[::1]:", None),
        ("[2001:db8::80]", None),
        ("[v1.a:80]", None),
        ("[v1.a:80]:81", Some(81)),
        ("a:65536", None),
        ("", None),
    ] {
        assert_eq!(port_of(host.as_bytes()), port, "{host}");
    }
}
