//! What the corridor has to do for requests that are made to cost much. Each case is a request of a size; what is counted
//! outside, by an instruction counter, is how the work grows with it.

use super::tests::{CHUNKED_HEAD, GET, Rig};
use crate::engine::options::Options;
use crate::http::limits::Limits;

/// Limits far above what any case sends: the work is the subject, not the refusal.
fn boundless() -> Options {
    let limits = Limits { request_line: 1 << 24, header_fields: 1 << 20, header_size: 1 << 30, body_size: 1 << 40 };
    Options { limits, ..Options::default() }
}

/// Bytes that one read of the server's brings at most.
const PACKET: usize = 4096;

/// A request of about `size` units, and how many bytes of it come at a time.
fn request(case: &str, size: usize) -> (Vec<u8>, usize) {
    let head = &GET[..GET.len() - 2];
    match case {
        "line-by-byte" => ([b"GET /".as_slice(), &vec![b'x'; size], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(), 1),
        "value-by-byte" => ([head, b"X: ", &vec![b'x'; size], b"\r\n\r\n"].concat(), 1),
        "fields-by-byte" => ([head, &b"X: y\r\n".repeat(size / 6), b"\r\n"].concat(), 1),
        "fields-of-one-name" => ([head, &b"X: y\r\n".repeat(size), b"\r\n"].concat(), PACKET),
        "body-by-byte" => {
            let head = format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
            ([head.as_bytes(), &vec![b'x'; size]].concat(), 1)
        }
        "chunks" => ([CHUNKED_HEAD, &b"1\r\nx\r\n".repeat(size), b"0\r\n\r\n"].concat(), PACKET),
        "chunks-by-byte" => ([CHUNKED_HEAD, &b"1\r\nx\r\n".repeat(size / 6), b"0\r\n\r\n"].concat(), 1),
        "trailers" => ([CHUNKED_HEAD, b"0\r\n", &b"X: y\r\n".repeat(size), b"\r\n"].concat(), PACKET),
        "empty-lines" => (b"\r\n".repeat(size), PACKET),
        "pipelined" => (GET.repeat(size / 16), PACKET),
        _ => panic!("no case {case:?}"),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an ignored test has no other way to be told what to do")]
#[ignore = "tests/server/test_work.py runs it under an instruction counter"]
fn work() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (case, size) = (variable("WORK_CASE"), variable("WORK_SIZE").parse().expect("WORK_SIZE is a number"));
    let (bytes, packet) = request(&case, size);
    let mut rig = Rig::new(boundless());
    for piece in bytes.chunks(packet) {
        rig.send(piece);
        rig.run();
    }
    match case.as_str() {
        "empty-lines" => assert_eq!(rig.statuses(), vec!["400"; usize::from(size > 1)]),
        "pipelined" => assert_eq!(rig.calls.len(), size / 16),
        _ => assert_eq!(rig.calls.len(), 1),
    }
}
