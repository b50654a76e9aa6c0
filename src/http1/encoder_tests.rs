use super::*;
use crate::http::status::Status;
use crate::http1::plan::ResponseFraming as Framing;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const PLAN: Plan = Plan { framing: Framing::Length(5), content_length: Some(5), keep_alive: true, connection: None };

fn written(response: &ResponseHead, plan: &Plan) -> String {
    let mut out = b"before".to_vec();
    head(&mut out, response, plan, DATE, b"test");
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

fn ok() -> ResponseHead {
    ResponseHead::new(Status::new(200).unwrap(), b"OK")
}

// RFC 9112 §4
#[test]
fn head_is_written_line_by_line() {
    let mut response = ok();
    response.push(b"content-TYPE", b"text/plain");
    assert_eq!(
        written(&response, &PLAN),
        "HTTP/1.1 200 OK\r\ncontent-TYPE: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: test\r\n\
         Content-Length: 5\r\n\r\n"
    );
}

#[test]
fn head_with_an_empty_reason_keeps_the_space() {
    let response = ResponseHead::new(Status::new(299).unwrap(), b"");
    assert!(written(&response, &PLAN).starts_with("HTTP/1.1 299 \r\nDate: "));
}

// RFC 9110 §6.6.1, §10.2.4
#[test]
fn date_and_server_of_the_application_stand_alone() {
    let mut response = ok();
    response.push(b"date", b"Mon, 07 Nov 1994 08:49:37 GMT");
    response.push(b"SERVER", b"mine");
    assert_eq!(
        written(&response, &PLAN),
        "HTTP/1.1 200 OK\r\ndate: Mon, 07 Nov 1994 08:49:37 GMT\r\nSERVER: mine\r\nContent-Length: 5\r\n\r\n"
    );
}

#[test]
fn framing_fields_come_from_the_plan() {
    for (framing, content_length, connection, lines) in [
        (Framing::NoBody, None, None, ""),
        (Framing::NoBody, Some(0), None, "Content-Length: 0\r\n"),
        (Framing::NoBody, Some(u64::MAX), None, "Content-Length: 18446744073709551615\r\n"),
        (Framing::Chunked, None, None, "Transfer-Encoding: chunked\r\n"),
        (Framing::Chunked, None, Some("close"), "Transfer-Encoding: chunked\r\nConnection: close\r\n"),
        (Framing::Length(7), Some(7), Some("keep-alive"), "Content-Length: 7\r\nConnection: keep-alive\r\n"),
        (Framing::UntilClose, None, Some("close"), "Connection: close\r\n"),
    ] {
        let mut response = ok();
        // What the application announced is the plan's to repeat.
        response.content_length = Some(99);
        let plan = Plan { framing, content_length, keep_alive: false, connection };
        let text = written(&response, &plan);
        assert_eq!(text.split_once("Server: test\r\n").unwrap().1, format!("{lines}\r\n"));
    }
}

#[test]
fn interim_responses_are_whole() {
    let mut out = Vec::new();
    interim_continue(&mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    out.clear();
    early_hints(&mut out, b"Link: </a>\r\nLink: </b>\r\n");
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n");
}

fn begun(framing: Framing) -> Encoder {
    let plan = Plan { framing, content_length: None, keep_alive: true, connection: None };
    Encoder::begin(&mut Vec::new(), &ok(), &plan, DATE, b"test")
}

fn around(frame: ContentFrame) -> (String, String) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    frame.open(&mut before);
    frame.close(&mut after);
    (String::from_utf8(before).unwrap(), String::from_utf8(after).unwrap())
}

// RFC 9112 §7.1
#[test]
fn chunk_size_is_hexadecimal_and_never_the_last_chunk() {
    let mut encoder = begun(Framing::Chunked);
    assert!(encoder.data(0).is_none());
    for (length, line) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xdead_beef, "deadbeef\r\n")] {
        let frame = encoder.data(length).unwrap();
        assert_eq!((frame.length(), frame.is_bare()), (length, false));
        assert_eq!(around(frame), (line.to_owned(), "\r\n".to_owned()));
    }
    assert_eq!(encoder.left(), None);
}

#[test]
fn last_chunk_comes_once_and_with_the_trailers() {
    for (lines, expected) in [(&b""[..], &b"0\r\n\r\n"[..]), (b"X: y\r\n", b"0\r\nX: y\r\n\r\n")] {
        let (mut encoder, mut out) = (begun(Framing::Chunked), Vec::new());
        encoder.end().unwrap().unwrap().write(&mut out, lines);
        assert_eq!(out, expected);
        assert!(encoder.end().unwrap().is_none() && encoder.data(1).is_none());
    }
}

#[test]
fn content_is_held_against_the_length_that_was_announced() {
    let mut encoder = begun(Framing::Length(5));
    let frame = encoder.data(3).unwrap();
    assert_eq!((frame.length(), frame.is_bare(), around(frame)), (3, true, Default::default()));
    assert_eq!((encoder.end().err(), encoder.left()), (Some(Lacking(2)), Some(2)));
    assert!(!encoder.has_surplus());
    assert_eq!(encoder.data(u64::MAX).unwrap().length(), 2);
    assert!(encoder.has_surplus() && encoder.data(1).is_none());
    assert!(encoder.end().unwrap().is_none());
}

#[test]
fn content_without_a_length_is_bare_and_ends_by_itself() {
    let mut encoder = begun(Framing::UntilClose);
    assert!(encoder.is_until_close() && encoder.data(7).unwrap().is_bare());
    assert!(encoder.end().unwrap().is_none() && encoder.data(7).is_none());
}

#[test]
fn response_without_content_accepts_none_and_ends_at_once() {
    let mut encoder = begun(Framing::NoBody);
    assert!(!encoder.wants_content() && encoder.data(7).is_none() && !encoder.has_surplus());
    assert!(encoder.end().unwrap().is_none());
}

// RFC 9110 §15.2.2
#[test]
fn upgrade_is_a_head_without_content() {
    let (mut out, head) = (Vec::new(), ResponseHead::new(Status::new(101).unwrap(), b"Switching Protocols"));
    let encoder = Encoder::begin(&mut out, &head, &Plan::upgrade(), DATE, b"test");
    assert!(out.ends_with(b"Connection: Upgrade\r\n\r\n") && !encoder.wants_content() && !encoder.keeps_alive());
}

#[test]
fn refusal_is_a_whole_response_that_closes() {
    let mut out = Vec::new();
    refusal(&mut out, &Reject::QueueFull, DATE, b"test", false, Some(7));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: test\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nRetry-After: 7\r\nConnection: close\r\n\r\n\
         The server is busy.\n"
    );
}

#[test]
fn refusal_of_every_kind_has_a_true_length_and_no_body_for_head() {
    for reject in Reject::ALL {
        let mut whole = Vec::new();
        let content = refusal(&mut whole, reject, DATE, b"test", false, None);
        let text = String::from_utf8(whole).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{reject:?}");
        assert!(head.ends_with("\r\nConnection: close") && !head.contains("Retry-After"), "{reject:?}");
        assert_eq!((body, content), (format!("{}\n", reject.public()).as_str(), body.len() as u64));
        let mut without = Vec::new();
        assert_eq!(refusal(&mut without, reject, DATE, b"test", true, None), 0);
        assert_eq!(without, format!("{head}\r\n\r\n").as_bytes(), "{reject:?}");
    }
}
