use std::collections::HashSet;

use super::*;

fn head_of(fields: &[(&str, &[u8])]) -> Result<ResponseHead, AppError> {
    let mut head = status(b"200 OK")?;
    for (name, value) in fields {
        field(&mut head, name.as_bytes(), value)?;
    }
    Ok(head)
}

#[test]
fn messages_are_each_their_own_and_say_where() {
    let messages: HashSet<_> = AppError::ALL.iter().map(|error| error.message()).collect();
    assert_eq!(messages.len(), AppError::ALL.len());
    for error in AppError::ALL {
        let text = error.to_string();
        assert!(text.starts_with("status: ") || text.starts_with("headers: "), "{text}");
    }
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
        (b"200 OK\r\nX: y", AppError::ReasonByte),
        (b"200 OK\n", AppError::ReasonByte),
        (b"200 \0", AppError::ReasonByte),
        (b"200 \x7f", AppError::ReasonByte),
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
        (b"A\r\nB", b"v", AppError::FieldNameByte),
        (b"A:", b"v", AppError::FieldNameByte),
        (b"A B", b"v", AppError::FieldNameByte),
        (b" A", b"v", AppError::FieldNameByte),
        (b"\xc4", b"v", AppError::FieldNameByte),
        (b"A\0", b"v", AppError::FieldNameByte),
        (b"Content-Length ", b"5", AppError::FieldNameByte),
        (b"A", b"a\r\nSet-Cookie: x=1", AppError::FieldValueByte),
        (b"A", b"a\nb", AppError::FieldValueByte),
        (b"A", b"a\rb", AppError::FieldValueByte),
        (b"A", b"\0", AppError::FieldValueByte),
        (b"A", b"\x7f", AppError::FieldValueByte),
        (b"Connection", b"close\r\n", AppError::FieldValueByte),
    ] {
        let mut head = status(b"200 OK").unwrap();
        assert_eq!(field(&mut head, name, value), Err(error), "{}", name.escape_ascii());
        assert_eq!(head.lines(), b"");
        let mut lines = Vec::new();
        assert_eq!(loose_field(&mut lines, name, value), Err(error), "{}", name.escape_ascii());
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
            assert_eq!(field(&mut head, name.as_bytes(), b"chunked"), Ok(Kept::Stripped), "{name}");
            assert_eq!((head.lines(), head.close), (&b""[..], false), "{name}");
        }
    }
    for name in ["X-Connection", "WWW-Authenticate", "Via", "Date", "T", "TEE", "Keep-Alive2"] {
        let mut head = status(b"200 OK").unwrap();
        assert_eq!(field(&mut head, name.as_bytes(), b"v"), Ok(Kept::Yes), "{name}");
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
        assert_eq!(field(&mut head, name.as_bytes(), b"first"), Ok(Kept::Yes));
        assert_eq!(field(&mut head, other.as_bytes(), b"second"), Ok(Kept::Stripped));
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
    assert_eq!(loose_field(&mut lines, b"Link", b"</a>; rel=preload"), Ok(Kept::Yes));
    assert_eq!(loose_field(&mut lines, b"Content-Length", b"5"), Ok(Kept::Stripped));
    assert_eq!(loose_field(&mut lines, b"Connection", b"close"), Ok(Kept::Stripped));
    assert_eq!(loose_field(&mut lines, b"transfer-encoding", b"chunked"), Ok(Kept::Stripped));
    assert_eq!(loose_field(&mut lines, b"link", b"</b>"), Ok(Kept::Yes));
    assert_eq!(lines, b"Link: </a>; rel=preload\r\nlink: </b>\r\n");
}
