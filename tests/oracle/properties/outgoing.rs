use wsgi_core::http1::encoder;
use wsgi_core::interface::outgoing::{self, AppError, FieldOutcome};

/// What an application says of its response: a status line, and names and values of fields, separated by NUL.
///
/// 1. It is accepted exactly where PEP 3333 and RFC 9110 allow it.
/// 2. Lines say what the application said, in its order; what is the server's to say is left out, and nothing is added.
/// 3. Fields without a head, of early hints and trailers, are judged in the same way.
pub fn outgoing(bytes: &[u8]) {
    let mut words = bytes.split(|&byte| byte == 0);
    let status = words.next().unwrap_or_default();
    let judged = outgoing::status(status);
    assert_eq!(judged.is_ok(), is_final_status(status), "{}", status.escape_ascii());
    let mut head = judged.unwrap_or_else(|_| outgoing::status(b"200 OK").expect("a status"));
    let (mut lines, mut hints) = (Vec::new(), Vec::new());
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let before = head.lines().len();
        let kept = outgoing::field(&mut head, name, value);
        let hinted = outgoing::hint_or_trailer_field(&mut hints, name, value);
        let valid = is_token(name) && value.iter().copied().all(is_text);
        assert_eq!(hinted.is_ok(), valid);
        match kept {
            Ok(FieldOutcome::Added) if !name.eq_ignore_ascii_case(b"content-length") => {
                assert_eq!(hinted, Ok(FieldOutcome::Added));
                lines.extend([name, b": ", value, b"\r\n"].concat());
            }
            Ok(_) => {
                assert!(valid && head.lines().len() == before);
                let lower = name.to_ascii_lowercase();
                let of_connection = [
                    &b"connection"[..],
                    b"keep-alive",
                    b"proxy-authenticate",
                    b"proxy-authorization",
                    b"proxy-connection",
                    b"te",
                    b"trailer",
                    b"trailers",
                    b"transfer-encoding",
                    b"upgrade",
                    b"content-length",
                    b"date",
                    b"server",
                ];
                assert!(of_connection.contains(&lower.as_slice()), "{} was left out", name.escape_ascii());
            }
            Err(AppError::ContentLengthMalformed | AppError::ContentLengthConflict) => {
                assert!(valid && name.eq_ignore_ascii_case(b"content-length"));
            }
            Err(_) => assert!(!valid),
        }
        assert_eq!(head.lines(), lines);
    }
    // An interim response of these lines is one head, whatever they are.
    let mut out = Vec::new();
    encoder::early_hints(&mut out, &hints);
    let end = out.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends");
    assert_eq!(end + 4, out.len());
}

fn is_final_status(line: &[u8]) -> bool {
    match line {
        [b'2'..=b'9', tens, ones, b' ', reason @ ..] => {
            tens.is_ascii_digit() && ones.is_ascii_digit() && reason.iter().copied().all(is_text)
        }
        _ => false,
    }
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && !b"(),/:;<=>?@[\\]{}\"".contains(byte))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
