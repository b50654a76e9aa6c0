use wsgi_core::http::head::Version;
use wsgi_core::http::limits::Limits;
use wsgi_core::http::reject::Reject;
use wsgi_core::http1::framing::BodyLength;

use super::{TIGHT, cuts};
use crate::oracle::requests::{End, Replay, Request, replay};

/// What a client sends, as the parser, the framing rules and the body decoder see it:
///
/// 1. The result is the same however the bytes are cut.
/// 2. An accepted head holds nothing but what its parts say, line by line, and written anew it is the same.
/// 3. Its framing follows from its fields by the letter of RFC 9112.
/// 4. Limits hold, and they refuse more, but never change what is accepted.
pub fn head(bytes: &[u8]) {
    let loose = in_every_way(bytes, &Limits::default());
    let tight = in_every_way(bytes, &TIGHT);
    let mut start = 0;
    for request in loose.requests.iter().chain(&loose.begun) {
        check_lines(request, &bytes[start..request.head_end]);
        check_framing(request);
        check_written_anew(request);
        start = request.end;
    }
    check_limits(&tight, &loose);
}

fn in_every_way(bytes: &[u8], limits: &Limits) -> Replay {
    let whole = replay([bytes], limits);
    for pieces in cuts(bytes) {
        let pieced = replay(pieces, limits);
        assert_eq!((&pieced.requests, pieced.end), (&whole.requests, whole.end));
        // What came of a body before it was refused depends on how it came, but its request does not.
        assert_eq!(
            pieced.begun.map(|request| (request.method, request.target, request.head_end)),
            whole.begun.as_ref().map(|request| (request.method.clone(), request.target.clone(), request.head_end))
        );
    }
    whole
}

fn check_lines(request: &Request, head: &[u8]) {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let head = head.strip_suffix(b"\r\n").expect("a head ends with an empty line");
    let whole = |line| <[u8]>::strip_suffix(line, b"\r\n").expect("each line ends with CRLF");
    let mut lines = head.split_inclusive(|&byte| byte == b'\n').map(whole);
    let request_line = [&request.method, b" ".as_slice(), &request.target, b" ", request.version.as_bytes()].concat();
    assert_eq!(lines.next(), Some(request_line.as_slice()));
    let trim = |text: &[u8]| -> Vec<u8> {
        let text: Vec<u8> = text.iter().copied().skip_while(|byte| b" \t".contains(byte)).collect();
        let end = text.iter().rposition(|byte| !b" \t".contains(byte)).map_or(0, |last| last + 1);
        text[..end].to_vec()
    };
    for (name, value) in &request.fields {
        let line = lines.next().expect("each field has a line");
        let rest = line.strip_prefix(name.as_slice()).and_then(|rest| rest.strip_prefix(b":"));
        assert_eq!(rest.map(trim).as_ref(), Some(value), "{}", line.escape_ascii());
        assert!(
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_graphic() && !b"(),/:;<=>?@[\\]{}\"".contains(byte))
        );
        assert!(value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)), "{}", value.escape_ascii());
    }
    assert_eq!(lines.next(), None, "each line is a field");
    assert!(request.target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));
}

fn check_framing(request: &Request) {
    let values = |wanted: &str| -> Vec<&[u8]> {
        let is_it = |(name, _): &&(Vec<u8>, Vec<u8>)| name.eq_ignore_ascii_case(wanted.as_bytes());
        request.fields.iter().filter(is_it).map(|(_, value)| value.as_slice()).collect()
    };
    let is_http11 = request.version == Version::Http11;
    let hosts = values("host").len();
    assert!(if is_http11 { hosts == 1 } else { hosts <= 1 });
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match request.framing.body {
        BodyLength::None => assert!(lengths.is_empty() && codings.is_empty()),
        BodyLength::Chunked => {
            assert!(is_http11 && lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        BodyLength::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1 && lengths[0].iter().all(u8::is_ascii_digit));
            assert_eq!(std::str::from_utf8(lengths[0]).ok().and_then(|digits| digits.parse().ok()), Some(length));
            assert!(request.body.len() as u64 <= length);
        }
    }
    for singleton in ["content-type", "authorization"] {
        assert!(values(singleton).windows(2).all(|pair| pair[0] == pair[1]), "two readers see another {singleton}");
    }
    let says = |wanted: &str| {
        values("connection").iter().any(|value| {
            let text = String::from_utf8_lossy(value).to_ascii_lowercase();
            text.split(',').any(|option| option.trim_matches([' ', '\t']) == wanted)
        })
    };
    assert_eq!(request.framing.persistent, !says("close") && (is_http11 || says("keep-alive")));
    assert!(is_http11 || !request.framing.expect_continue);
}

fn check_written_anew(request: &Request) {
    let mut head =
        [&request.method, b" ".as_slice(), &request.target, b" ", request.version.as_bytes(), b"\r\n"].concat();
    for (name, value) in &request.fields {
        head.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    let anew = replay([head.as_slice()], &Limits { header_size: usize::MAX, ..Limits::default() });
    let again = anew.requests.first().or(anew.begun.as_ref()).expect("it is accepted again");
    assert_eq!((&again.method, &again.target, &again.path), (&request.method, &request.target, &request.path));
    assert_eq!((&again.fields, again.framing), (&request.fields, request.framing));
}

fn check_limits(tight: &Replay, loose: &Replay) {
    assert!(tight.requests.len() <= loose.requests.len());
    assert_eq!(tight.requests, loose.requests[..tight.requests.len()]);
    for request in &tight.requests {
        let size: usize = request.fields.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
        let line = request.method.len() + request.target.len() + 10;
        assert!(line <= TIGHT.request_line && request.fields.len() <= TIGHT.header_fields);
        assert!(size + 2 <= TIGHT.header_size && request.body.len() as u64 <= TIGHT.body_size);
    }
    if tight.end != loose.end || tight.requests.len() < loose.requests.len() {
        let End::Refused(reject) = tight.end else { panic!("a limit changed what is accepted: {:?}", tight.end) };
        let limits = [
            Reject::RequestLineTooLong,
            Reject::HeaderTooLarge,
            Reject::TooManyFields,
            Reject::BodyTooLarge,
            Reject::TooManyTrailers,
            Reject::TrailersTooLarge,
        ];
        assert!(limits.contains(&reject), "{reject:?} is no limit");
    }
}
