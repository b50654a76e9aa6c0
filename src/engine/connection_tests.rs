use std::time::{Duration, Instant};

use super::super::clock::Clock;
use super::super::doubles::{answer, read_whole};
use super::super::gateway::{Gateway, Origins};
use super::super::options::Options;
use super::super::rig::Rig;
use super::*;

/// An application that answers `METHOD target body`.
struct Echo {
    calls: Vec<String>,
    clients: Vec<Client>,
    read: bool,
    pieces: bool,
}

impl Gateway for Echo {
    fn serve(&mut self, mut exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>> {
        self.clients.push(exchange.client());
        let head = exchange.request();
        let mut line = [head.method(), b" ", head.target()].concat();
        if self.read {
            line.push(b' ');
            line.extend(read_whole(&mut exchange));
        }
        self.calls.push(String::from_utf8_lossy(&line).into_owned());
        answer(&mut exchange, &line, self.pieces, clock);
        Some(exchange)
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }
}

fn connected(options: Options) -> Rig<Echo> {
    Rig::new(options, Echo { calls: Vec::new(), clients: Vec::new(), read: true, pieces: false })
}

fn written(rig: &Rig<Echo>) -> String {
    String::from_utf8_lossy(&rig.double.script().written).into_owned()
}

fn statuses(rig: &Rig<Echo>) -> Vec<String> {
    written(rig).split("HTTP/1.1 ").skip(1).map(|part| part[..3].to_owned()).collect()
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &[u8] =
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

#[test]
fn pipelined_requests_split_anywhere_are_answered_in_order() {
    let wire = [GET, POST, CHUNKED, GET].concat();
    let expected = ["GET /a ", "POST /p hello", "POST /c hello", "GET /a "];
    for cut in 0..=wire.len() {
        let mut rig = connected(Options::default());
        rig.send(&wire[..cut]);
        rig.run();
        rig.send(&wire[cut..]);
        rig.run();
        assert_eq!(rig.gateway.calls, expected, "cut at {cut}");
        assert_eq!(statuses(&rig), ["200"; 4], "cut at {cut}");
        assert!(!rig.is_closed());
    }
}

#[test]
fn request_byte_by_byte_to_a_socket_that_takes_a_byte_at_a_time_is_answered_whole() {
    let mut whole = connected(Options::default());
    whole.send(&[GET, POST].concat());
    whole.run();
    let mut rig = connected(Options::default());
    rig.double.script().appetite = Some(1);
    for byte in [GET, POST].concat() {
        rig.send(&[byte]);
        rig.run();
    }
    assert_eq!(rig.gateway.calls, whole.gateway.calls);
    let strip = |text: String| text.lines().filter(|line| !line.starts_with("date")).collect::<Vec<_>>().join("\n");
    assert_eq!(strip(written(&rig)).len(), strip(written(&whole)).len());
}

#[test]
fn body_larger_than_the_buffer_is_streamed_and_the_next_request_found() {
    for read in [true, false] {
        let mut rig = connected(Options { body_buffer: 2, ..Options::default() });
        rig.gateway.read = read;
        rig.send(&[POST, GET].concat());
        rig.run();
        let post = if read { "POST /p hello" } else { "POST /p" };
        assert_eq!(rig.gateway.calls.first().map(String::as_str), Some(post));
        assert_eq!(rig.gateway.calls.len(), 2, "what was not read is drained");
    }
}

#[test]
fn chunked_body_larger_than_the_buffer_is_spooled_whole() {
    let mut rig = connected(Options { body_buffer: 2, ..Options::default() });
    rig.send(&[CHUNKED, GET].concat());
    rig.run();
    assert_eq!(rig.gateway.calls, ["POST /c hello", "GET /a "]);
}

#[test]
fn chunked_body_is_streamed_where_the_option_asks_for_it() {
    let mut rig = connected(Options { stream_chunked: true, ..Options::default() });
    rig.send(&[CHUNKED, GET].concat());
    rig.run();
    assert_eq!(rig.gateway.calls, ["POST /c hello", "GET /a "]);
}

#[test]
fn refused_request_is_answered_once_and_nothing_behind_it_runs() {
    let mut rig = connected(Options::default());
    rig.send(&[b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", GET].concat());
    rig.run();
    assert_eq!(statuses(&rig), ["400"]);
    assert!(rig.gateway.calls.is_empty());
    assert!(rig.double.script().finished, "the client is told that no more comes");
}

#[test]
fn body_that_ends_early_never_reaches_the_application() {
    let mut rig = connected(Options::default());
    rig.send(&POST[..POST.len() - 1]);
    rig.double.script().ended = true;
    rig.run();
    assert!(rig.is_closed() && rig.gateway.calls.is_empty() && written(&rig).is_empty());
}

#[test]
fn expectation_is_answered_before_the_body_and_at_most_once() {
    let head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    for buffer in [64, 2] {
        let mut rig = connected(Options { body_buffer: buffer, ..Options::default() });
        rig.send(head);
        rig.send(b"hello");
        rig.run();
        assert_eq!(statuses(&rig), ["100", "200"], "buffer of {buffer}");
        let mut together = connected(Options { body_buffer: buffer, ..Options::default() });
        together.send(&[head, b"hello".as_slice()].concat());
        together.run();
        assert_eq!(statuses(&together), ["200"], "a body that came along was not waited for");
    }
}

/// An application that reads what there is, and never answers.
struct Loser;

impl Gateway for Loser {
    fn serve(&mut self, mut exchange: Box<Exchange>, _: &mut Clock) -> Option<Box<Exchange>> {
        read_whole(&mut exchange);
        None
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }
}

// Both sides would wait: the client for the rest of the invitation, the server for the body.
#[test]
fn invitation_that_the_socket_takes_byte_by_byte_leaves_before_the_body_comes() {
    const INVITATION: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut taken = connected(Options::default());
    taken.double.script().appetite = Some(1);
    taken.send(head);
    taken.run();
    assert_eq!(written(&taken), INVITATION);
    let mut streamed = Rig::new(Options { body_buffer: 2, ..Options::default() }, Loser);
    {
        let mut script = streamed.double.script();
        script.appetite = Some(1);
        script.incoming.push_back(head.to_vec());
        script.incoming.extend(vec![Vec::new(); 2 * INVITATION.len()]);
        script.ended = true;
    }
    streamed.run();
    assert_eq!(String::from_utf8_lossy(&streamed.double.script().written), INVITATION);
}

#[test]
fn expectation_is_not_answered_if_the_application_reads_nothing() {
    let mut rig = connected(Options { body_buffer: 2, ..Options::default() });
    rig.gateway.read = false;
    rig.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    rig.run();
    assert_eq!(statuses(&rig), ["200"]);
    assert!(written(&rig).contains("Connection: close"), "{}", written(&rig));
}

#[test]
fn response_in_pieces_is_chunked_and_ends_with_the_last_chunk() {
    let mut rig = connected(Options::default());
    rig.gateway.pieces = true;
    rig.send(GET);
    rig.run();
    assert!(written(&rig).ends_with("3\r\nGET\r\n3\r\n /a\r\n1\r\n \r\n0\r\n\r\n"), "{}", written(&rig));
}

#[test]
fn deadlines_follow_what_the_client_does() {
    let options = Options::default();
    let mut rig = connected(options.clone());
    let start = rig.now;
    rig.run();
    let deadline = |rig: &Rig<Echo>| rig.connection().unwrap().deadline().unwrap() - start;
    assert_eq!(deadline(&rig), options.header_timeout);
    rig.send(GET);
    rig.run();
    assert_eq!(deadline(&rig), options.keep_alive);
    rig.send(&POST[..POST.len() - 2]);
    rig.run();
    assert_eq!(deadline(&rig), options.body_timeout);
}

#[test]
fn silence_is_closed_silently_and_half_a_request_is_told() {
    let mut silent = connected(Options::default());
    silent.run();
    silent.expire();
    assert!(silent.is_closed() && written(&silent).is_empty());
    for half in [&GET[..10], &POST[..POST.len() - 1]] {
        let mut rig = connected(Options::default());
        rig.send(half);
        rig.run();
        rig.expire();
        assert_eq!(statuses(&rig), ["408"]);
    }
}

#[test]
fn slow_body_is_held_to_its_minimum_rate() {
    let options = Options { body_min_rate: 10, body_timeout: Duration::from_secs(30), ..Options::default() };
    let now = Instant::now();
    let mut intake = Intake::of_length(1000, now);
    let mut clock = now;
    for _ in 0..60 {
        clock += Duration::from_secs(1);
        intake.feed(b"x", clock).expect("a byte is no offence");
    }
    // 60 bytes at 10 a second buy 6 seconds on top of the timeout: the steady trickle did not extend it.
    assert_eq!(intake.pace.deadline(&options), now + Duration::from_secs(36));
}

#[test]
fn observers_learn_of_each_exchange_after_its_last_byte() {
    let mut rig = connected(Options::default());
    rig.double.script().appetite = Some(10);
    rig.send(GET);
    rig.run();
    assert_eq!(*rig.witness.0.lock().unwrap(), [(200, 7, true)]);
}

#[test]
fn stopping_server_answers_what_it_has_and_closes() {
    let mut rig = connected(Options::default());
    rig.site.stop();
    rig.send(GET);
    rig.run();
    assert_eq!(statuses(&rig), ["200"]);
    assert!(written(&rig).contains("Connection: close"));
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n";

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_le_bytes()[0];
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, 0, length][..], payload].concat()
}

fn behind_proxy(accepted: Accepted) -> Rig<Echo> {
    connected(Options { proxy_protocol: Some(accepted), ..Options::default() })
}

#[test]
fn proxy_header_split_anywhere_tells_the_client_of_all_requests() {
    let told = Client::Ip("192.0.2.1".parse().unwrap(), Some(4711));
    let mapped = "::ffff:192.0.2.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    for (header, client) in [
        (V1.to_vec(), told),
        (v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 0, 80]), told),
        (v2(0x21, 0x21, &[&mapped[..], &[0; 16], &[0x12, 0x67, 0, 80]].concat()), told),
        (v2(0x21, 0x31, &[0; 216]), Client::Unknown),
        (b"PROXY UNKNOWN\r\n".to_vec(), Client::Unknown),
        // The proxy itself asks.
        (v2(0x20, 0x00, b""), Client::Local),
    ] {
        let wire = [&header, GET, POST, GET].concat();
        for cut in 0..=wire.len() {
            let mut rig = behind_proxy(Accepted::Any);
            rig.send(&wire[..cut]);
            rig.run();
            rig.send(&wire[cut..]);
            rig.run();
            assert_eq!(rig.gateway.calls, ["GET /a ", "POST /p hello", "GET /a "], "cut at {cut}");
            assert_eq!(rig.gateway.clients, [client; 3], "cut at {cut}");
            assert!(!rig.is_closed());
        }
    }
}

#[test]
fn connection_without_usable_proxy_header_is_closed_without_a_word() {
    let second = [V1, V1, GET].concat();
    for (accepted, bytes) in [
        (Accepted::Any, GET),
        (Accepted::Any, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        (Accepted::Any, b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (Accepted::V2, V1),
        (Accepted::V1, &v2(0x20, 0x00, b"")),
    ] {
        let mut rig = behind_proxy(accepted);
        rig.send(bytes);
        rig.run();
        assert!(rig.is_closed(), "{}", bytes.escape_ascii());
        assert_eq!((rig.gateway.calls.len(), written(&rig).as_str()), (0, ""), "{}", bytes.escape_ascii());
    }
    // Only the first header is one; a second is a malformed request.
    let mut rig = behind_proxy(Accepted::Any);
    rig.send(&second);
    rig.run();
    assert_eq!((rig.gateway.calls.len(), statuses(&rig)), (0, vec!["400".to_owned()]));
}

#[test]
fn proxy_header_that_does_not_end_is_given_the_time_of_a_head() {
    for beginning in [&b""[..], b"P", &V1[..20], b"\r\n\r\n"] {
        let mut rig = behind_proxy(Accepted::Any);
        rig.send(beginning);
        rig.run();
        let connection = rig.connection().unwrap();
        assert!(connection.is_idle(), "nobody waits for an answer");
        assert_eq!(connection.deadline(), Some(rig.now + Options::default().header_timeout));
        rig.expire();
        assert!(rig.is_closed());
        assert_eq!(written(&rig), "");
    }
}

/// Takes the client from a field of its own; refuses the request without it.
#[derive(Debug)]
struct OwnField;

impl Origins for OwnField {
    fn origin(&self, head: &RequestHead, peer: Client, scheme: Option<Scheme>) -> Result<Origin, Reject> {
        let ip = head.value(b"Client").ok_or(Reject::ForwardedMalformed)?;
        assert_eq!((peer, scheme), (Client::Local, None));
        Ok(Origin::of(Client::Ip(std::str::from_utf8(ip).unwrap().parse().unwrap(), None)))
    }
}

#[test]
fn origin_is_asked_for_once_for_each_request_and_before_its_body() {
    let mut rig = connected(Options { origins: Some(Arc::new(OwnField)), ..Options::default() });
    for (ip, length) in [("192.0.2.1", 0), ("192.0.2.2", 5)] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nClient: {ip}\r\nContent-Length: {length}\r\n\r\n");
        rig.send(&[head.as_bytes(), &b"hello"[..length]].concat());
        rig.run();
    }
    let client = |ip: &str| Client::Ip(ip.parse().unwrap(), None);
    assert_eq!(rig.gateway.clients, [client("192.0.2.1"), client("192.0.2.2")]);
    // Neither is the client asked to go on, nor is its body waited for.
    rig.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    rig.run();
    assert_eq!((rig.gateway.calls.len(), statuses(&rig)), (2, ["200", "200", "400"].map(str::to_owned).to_vec()));
}

// RFC 9110 §9.3.2: the answer to HEAD has no content, also where the request is none.
#[test]
fn refused_head_request_is_answered_without_content() {
    let heads: [&[u8]; 5] = [
        b"HEAD / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"\r\nHEAD / HTTP/9.9\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!",
    ];
    for head in heads {
        for piece in [1, head.len()] {
            let mut rig = connected(Options::default());
            for piece in head.chunks(piece) {
                rig.send(piece);
                rig.run();
            }
            let response = written(&rig);
            assert!(response.starts_with("HTTP/1.1 ") && response.ends_with("Connection: close\r\n\r\n"), "{response}");
        }
    }
    for half in [&b"HEAD / HT"[..], b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell"] {
        let mut rig = connected(Options::default());
        rig.send(half);
        rig.run();
        rig.expire();
        assert!(written(&rig).starts_with("HTTP/1.1 408 ") && written(&rig).ends_with("close\r\n\r\n"));
    }
}
