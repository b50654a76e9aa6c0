use super::*;

fn head_of(fields: &[(&str, &[u8])]) -> Result<ResponseHead, AppError> {
    let mut head = status(b"200 OK")?;
    for (name, value) in fields {
        field(&mut head, name.as_bytes(), value)?;
    }
    Ok(head)
}

fn character(character: char, at: usize) -> InvalidCharacter {
    InvalidCharacter { code: character.into(), at }
}

#[test]
fn messages_name_the_field_and_the_character_but_no_value() {
    let told = |name: &[u8], value: &[u8]| {
        let mut head = status(b"200 OK").unwrap();
        field(&mut head, b"Content-Length", b"5").unwrap();
        field(&mut head, name, value).unwrap_err().in_field(name)
    };
    let rule = "a name consists of ASCII letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 5.6.2)";
    for (name, value, text) in [
        (&b"X-Foo"[..], &b"secret\n"[..], "header 'X-Foo': the value contains a line feed at position 6".to_owned()),
        (b"X-Foo", b"\rsecret", "header 'X-Foo': the value contains a carriage return at position 0".to_owned()),
        (b"A", b"s\0", "header 'A': the value contains a NUL at position 1".to_owned()),
        (b"A", b"\x1b", "header 'A': the value contains the control character 0x1b at position 0".to_owned()),
        (b"A", b"\x7f", "header 'A': the value contains the control character 0x7f at position 0".to_owned()),
        (b"X Foo", b"", format!("the header name that begins with 'X' contains a space at position 1; {rule}")),
        (b"X: s", b"", format!("the header name that begins with 'X' contains ':' at position 1; {rule}")),
        (b"\xc4", b"", format!("a header name contains the non-ASCII character U+00C4 at position 0; {rule}")),
        (b"\tA", b"", format!("a header name contains a tab at position 0; {rule}")),
        (b"", b"", "a header name is empty".to_owned()),
        (b"Content-Length", b"6", "header 'Content-Length': it was given before, with another value".to_owned()),
        (
            b"content-length",
            b"x",
            "header 'content-length': the value must be a plain decimal number below 2**64".to_owned(),
        ),
    ] {
        assert_eq!(told(name, value), text);
    }
    let beyond = AppError::FieldValueByte(character('\u{2603}', 2)).in_field(b"A");
    assert_eq!(beyond, "header 'A': the value contains the character U+2603, which is not in latin-1, at position 2");
    // However long a name is.
    assert!(AppError::FieldValueByte(character('\n', 0)).in_field(&[b'A'; 1000]).len() < 200);
}

// PEP 3333, "The start_response() Callable"
#[test]
fn status_is_three_digits_a_space_and_a_reason() {
    for (line, code, reason) in [
        (&b"200 OK"[..], 200, &b"OK"[..]),
        (b"200 ", 200, b""),
        (b"404 Not Found", 404, b"Not Found"),
        (b"299 \xe9t\xe9", 299, b"\xe9t\xe9"),
        (b"200 a\tb", 200, b"a\tb"),
        (b"999 Odd", 999, b"Odd"),
    ] {
        let head = status(line).unwrap();
        assert_eq!((head.status().code(), head.reason()), (code, reason));
        assert_eq!((head.lines(), head.content_length, head.close), (&b""[..], None, false));
    }
}

#[test]
fn bad_status_is_refused() {
    for (line, error) in [
        (&b""[..], AppError::StatusMalformed),
        (b"200", AppError::StatusMalformed),
        (b"200\tOK", AppError::StatusMalformed),
        (b"20X OK", AppError::StatusMalformed),
        (b"20 OK", AppError::StatusMalformed),
        (b"2000 OK", AppError::StatusMalformed),
        (b" 200 OK", AppError::StatusMalformed),
        (b"+20 OK", AppError::StatusMalformed),
        (b"099 OK", AppError::StatusMalformed),
        (b"000 ", AppError::StatusMalformed),
        (b"OK", AppError::StatusMalformed),
        (b"200\n", AppError::StatusMalformed),
        (b"HTTP/1.1 200 OK", AppError::StatusMalformed),
        (b"100 Continue", AppError::StatusInterim),
        (b"101 X", AppError::StatusInterim),
        (b"103 X", AppError::StatusInterim),
        (b"199 X\r\n", AppError::StatusInterim),
        (b"200 OK\r\nX: y", AppError::ReasonByte(character('\r', 6))),
        (b"200 OK\n", AppError::ReasonByte(character('\n', 6))),
        (b"200 \0", AppError::ReasonByte(character('\0', 4))),
        (b"200 \x7f", AppError::ReasonByte(character('\u{7f}', 4))),
    ] {
        assert_eq!(status(line).err(), Some(error), "{}", line.escape_ascii());
    }
}

#[test]
fn fields_leave_as_they_came() {
    let head = head_of(&[
        ("X-a", b"1"),
        ("set-COOKIE", b"b=2; Path=/"),
        ("set-cookie", b"c=3"),
        ("X-Empty", b""),
        ("X-Obs", b"\xe9\tx"),
    ]);
    let expected = b"X-a: 1\r\nset-COOKIE: b=2; Path=/\r\nset-cookie: c=3\r\nX-Empty: \r\nX-Obs: \xe9\tx\r\n";
    assert_eq!(head.unwrap().lines(), expected);
}

// RFC 9110 §5.1, §5.5
#[test]
fn fields_that_could_break_the_response_are_refused() {
    for (name, value, error) in [
        (&b""[..], &b"v"[..], AppError::FieldNameEmpty),
        (b"A\r\nB", b"v", AppError::FieldNameByte(character('\r', 1))),
        (b"A:", b"v", AppError::FieldNameByte(character(':', 1))),
        (b"A B", b"v", AppError::FieldNameByte(character(' ', 1))),
        (b" A", b"v", AppError::FieldNameByte(character(' ', 0))),
        (b"\xc4", b"v", AppError::FieldNameByte(character('\u{c4}', 0))),
        (b"A\0", b"v", AppError::FieldNameByte(character('\0', 1))),
        (b"Content-Length ", b"5", AppError::FieldNameByte(character(' ', 14))),
        (b"A", b"a\r\nSet-Cookie: x=1", AppError::FieldValueByte(character('\r', 1))),
        (b"A", b"a\nb", AppError::FieldValueByte(character('\n', 1))),
        (b"A", b"a\rb", AppError::FieldValueByte(character('\r', 1))),
        (b"A", b"\0", AppError::FieldValueByte(character('\0', 0))),
        (b"A", b"\x7f", AppError::FieldValueByte(character('\u{7f}', 0))),
        (b"Connection", b"close\r\n", AppError::FieldValueByte(character('\r', 5))),
    ] {
        let mut head = status(b"200 OK").unwrap();
        assert_eq!(field(&mut head, name, value), Err(error), "{}", name.escape_ascii());
        assert_eq!(head.lines(), b"");
        let mut lines = Vec::new();
        assert_eq!(hint_or_trailer_field(&mut lines, name, value), Err(error), "{}", name.escape_ascii());
        assert_eq!(lines, b"");
    }
}

// RFC 9110 §7.6.1, RFC 2616 §13.5.1
#[test]
fn fields_of_the_connection_are_stripped_in_any_case() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
    ] {
        for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            let mut head = status(b"200 OK").unwrap();
            assert_eq!(field(&mut head, name.as_bytes(), b"chunked"), Ok(FieldOutcome::Dropped), "{name}");
            assert_eq!((head.lines(), head.close), (&b""[..], false), "{name}");
        }
    }
    for name in ["X-Connection", "WWW-Authenticate", "Via", "Date", "T", "TEE", "Keep-Alive2"] {
        let mut head = status(b"200 OK").unwrap();
        assert_eq!(field(&mut head, name.as_bytes(), b"v"), Ok(FieldOutcome::Added), "{name}");
    }
}

#[test]
fn wish_to_close_is_remembered() {
    for (name, value, close) in [
        ("Connection", "close", true),
        ("connection", "Close", true),
        ("Connection", "keep-alive, close", true),
        ("Connection", "keep-alive", false),
        ("Connection", "closed", false),
        ("Proxy-Connection", "close", false),
        ("Keep-Alive", "close", false),
    ] {
        assert_eq!(head_of(&[(name, value.as_bytes())]).unwrap().close, close, "{name}: {value}");
    }
    assert!(head_of(&[("Connection", b"close"), ("Connection", b"keep-alive")]).unwrap().close);
}

// RFC 9110 §8.6
#[test]
fn content_length_is_noted_and_has_no_line() {
    for (value, length) in [("0", 0), ("5", 5), (" 5\t", 5), ("005", 5), ("18446744073709551615", u64::MAX)] {
        let head = head_of(&[("content-length", value.as_bytes())]).unwrap();
        assert_eq!((head.content_length, head.lines()), (Some(length), &b""[..]), "{value}");
    }
    assert_eq!(head_of(&[("Content-Length", b"5"), ("content-length", b"05")]).unwrap().content_length, Some(5));
}

#[test]
fn content_length_that_is_wrong_or_ambiguous_is_refused() {
    for value in ["abc", "", "-1", "+5", "5_0", "5, 5", "5.0", "0x5", "18446744073709551616"] {
        let error = head_of(&[("Content-Length", value.as_bytes())]).err();
        assert_eq!(error, Some(AppError::ContentLengthMalformed), "{value}");
    }
    let error = head_of(&[("Content-Length", b"5"), ("X", b"y"), ("CONTENT-LENGTH", b"6")]).err();
    assert_eq!(error, Some(AppError::ContentLengthConflict));
}

// RFC 9110 §6.6.1, §10.2.4
#[test]
fn date_and_server_are_kept_once() {
    for (name, other) in [("Date", "date"), ("Server", "SERVER")] {
        let mut head = status(b"200 OK").unwrap();
        assert_eq!(field(&mut head, name.as_bytes(), b"first"), Ok(FieldOutcome::Added));
        assert_eq!(field(&mut head, other.as_bytes(), b"second"), Ok(FieldOutcome::Dropped));
        assert_eq!(head.lines(), format!("{name}: first\r\n").as_bytes());
        assert_eq!((head.has_date, head.has_server), (name == "Date", name == "Server"));
    }
}

#[test]
fn number_becomes_a_status_with_its_reason() {
    for (code, reason) in [(200, "OK"), (404, "Not Found"), (299, ""), (999, "")] {
        let head = status_code(code).unwrap();
        assert_eq!((head.status().code(), head.reason()), (code, reason.as_bytes()));
    }
    for code in [0, 99, 1000, u16::MAX] {
        assert_eq!(status_code(code).err(), Some(AppError::StatusRange), "{code}");
    }
    for code in [100, 101, 103, 199] {
        assert_eq!(status_code(code).err(), Some(AppError::StatusInterim), "{code}");
    }
}

// RFC 8297, RFC 9110 §6.5.1
#[test]
fn early_hints_carry_only_fields_of_the_message() {
    let mut lines = Vec::new();
    assert_eq!(hint_or_trailer_field(&mut lines, b"Link", b"</a>; rel=preload"), Ok(FieldOutcome::Added));
    assert_eq!(hint_or_trailer_field(&mut lines, b"Content-Length", b"5"), Ok(FieldOutcome::Dropped));
    assert_eq!(hint_or_trailer_field(&mut lines, b"Connection", b"close"), Ok(FieldOutcome::Dropped));
    assert_eq!(hint_or_trailer_field(&mut lines, b"transfer-encoding", b"chunked"), Ok(FieldOutcome::Dropped));
    assert_eq!(hint_or_trailer_field(&mut lines, b"link", b"</b>"), Ok(FieldOutcome::Added));
    assert_eq!(lines, b"Link: </a>; rel=preload\r\nlink: </b>\r\n");
}
