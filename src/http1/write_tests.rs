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

// RFC 9112 §7.1
#[test]
fn chunk_size_is_hexadecimal_and_never_the_last_chunk() {
    for (length, line) in [(0, ""), (1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xdead_beef, "deadbeef\r\n")] {
        let mut out = Vec::new();
        chunk_size_line(&mut out, length);
        assert_eq!(out, line.as_bytes());
    }
    assert_eq!(LAST_CHUNK, b"0\r\n\r\n");
}

#[test]
fn refusal_is_a_whole_response_that_closes() {
    let mut out = Vec::new();
    reject(&mut out, &Reject::QueueFull, DATE, b"test", false, Some(7));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: test\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nRetry-After: 7\r\nConnection: close\r\n\r\n\
         The server is busy.\n"
    );
}

#[test]
fn refusal_of_every_kind_has_a_true_length_and_no_body_for_head() {
    for refusal in Reject::ALL {
        let mut whole = Vec::new();
        reject(&mut whole, refusal, DATE, b"test", false, None);
        let text = String::from_utf8(whole).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{refusal:?}");
        assert!(head.ends_with("\r\nConnection: close") && !head.contains("Retry-After"), "{refusal:?}");
        assert_eq!(body, format!("{}\n", refusal.public()));
        let mut without = Vec::new();
        reject(&mut without, refusal, DATE, b"test", true, None);
        assert_eq!(without, format!("{head}\r\n\r\n").as_bytes(), "{refusal:?}");
    }
}
