use std::time::{Duration, Instant};

use super::*;
use crate::engine::clock::Clock;
use crate::engine::connection::deadlines::GRACE;
use crate::engine::options::Options;
use crate::engine::origins::Origins;
use crate::engine::testkit::doubles::{Scripted, Witness, answer, context, read_whole};
use crate::engine::transport::client_rate::SLOW_CLIENT_GRACE;
use crate::engine::transport::intake::Intake;
use crate::engine::transport::spool::Budget;
use crate::http::head::RequestHead;
use crate::http::origin::Origin;
use crate::net::proxy_protocol::AcceptedVersion;
use crate::net::stream::Stream;
use crate::net::stream::double::Double;

/// A connection over a scripted stream, and an application that echoes `METHOD target body`.
pub(in crate::engine) struct Rig {
    double: Double,
    witness: Witness,
    connection: Option<Box<Connection>>,
    pub(in crate::engine) calls: Vec<String>,
    clients: Vec<Client>,
    read: bool,
    pieces: bool,
    now: Instant,
    scratch: Vec<u8>,
}

impl Rig {
    pub(in crate::engine) fn new(options: Options) -> Self {
        let double = Double::default();
        let witness = Witness::default();
        let now = Instant::now();
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let connection =
            Connection::new(transport, context(options, &witness), Client::Local, 0, Ticket::default(), now);
        Self {
            double,
            witness,
            connection: Some(Box::new(connection)),
            calls: Vec::new(),
            clients: Vec::new(),
            read: true,
            pieces: false,
            now,
            scratch: vec![0; 4096],
        }
    }

    pub(in crate::engine) fn send(&mut self, bytes: &[u8]) {
        // A read of nothing would be the end of the stream.
        if !bytes.is_empty() {
            self.double.0.lock().unwrap().incoming.push_back(bytes.to_vec());
        }
    }

    /// Moves the connection along until it waits or is closed.
    pub(in crate::engine) fn run(&mut self) {
        for _ in 0..100_000 {
            let Some(connection) = &mut self.connection else { return };
            connection.note(true, false);
            let date = [b'd'; 29];
            let mut turn = Turn { now: self.now, date: &date, scratch: &mut self.scratch, share: TURN_BYTES };
            match connection.advance(&mut turn) {
                Step::Wait => {
                    let script = self.double.0.lock().unwrap();
                    let full = script.full_at.is_some_and(|full| script.written.len() >= full);
                    let blocked = connection.transport.output().pending() > 0 && !full;
                    let more = !script.incoming.is_empty() || script.ended;
                    drop(script);
                    if !blocked && !more {
                        return;
                    }
                }
                Step::Again => {}
                Step::Ready(exchange) => self.serve(exchange),
                Step::Closed => {
                    self.connection = None;
                    return;
                }
            }
        }
        panic!("the connection never comes to rest");
    }

    // What a worker does, where no call may read its body directly.
    fn serve(&mut self, exchange: Box<Exchange>) {
        let finished =
            if exchange.holds_body_back() { Finished::awaiting_body(exchange) } else { self.answer(exchange) };
        self.connection.as_mut().expect("it waits for its request").take_back(finished, self.now);
    }

    fn answer(&mut self, mut exchange: Box<Exchange>) -> Finished {
        self.clients.push(exchange.client());
        let head = exchange.request();
        let mut line = [head.method(), b" ", head.target()].concat();
        if self.read {
            line.push(b' ');
            line.extend(read_whole(&mut exchange));
        }
        self.calls.push(String::from_utf8_lossy(&line).into_owned());
        answer(&mut exchange, &line, self.pieces, &mut Clock::new(self.now));
        Finished::answered(exchange, self.now)
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.double.0.lock().unwrap().written).into_owned()
    }

    pub(in crate::engine) fn statuses(&self) -> Vec<String> {
        self.written().split("HTTP/1.1 ").skip(1).map(|part| part[..3].to_owned()).collect()
    }

    fn is_closed(&self) -> bool {
        self.connection.is_none()
    }

    fn expire(&mut self) {
        let connection = self.connection.as_mut().expect("the connection is open");
        self.now = connection.deadline().expect("somebody waits");
        let date = [b'd'; 29];
        let mut turn = Turn { now: self.now, date: &date, scratch: &mut self.scratch, share: TURN_BYTES };
        if !matches!(connection.expire(&mut turn), Step::Wait) {
            self.connection = None;
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
pub(in crate::engine) const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
pub(in crate::engine) const CHUNKED_HEAD: &[u8] = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED: &[u8] =
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

#[test]
fn pipelined_requests_split_anywhere_are_answered_in_order() {
    let transport = [GET, POST, CHUNKED, GET].concat();
    let expected = ["GET /a ", "POST /p hello", "POST /c hello", "GET /a "];
    for cut in 0..=transport.len() {
        let mut rig = Rig::new(Options::default());
        rig.send(&transport[..cut]);
        rig.run();
        rig.send(&transport[cut..]);
        rig.run();
        assert_eq!(rig.calls, expected, "cut at {cut}");
        assert_eq!(rig.statuses(), ["200"; 4], "cut at {cut}");
        assert!(!rig.is_closed());
    }
}

#[test]
fn request_byte_by_byte_to_a_socket_that_takes_a_byte_at_a_time_is_answered_whole() {
    let mut whole = Rig::new(Options::default());
    whole.send(&[GET, POST].concat());
    whole.run();
    let mut rig = Rig::new(Options::default());
    rig.double.0.lock().unwrap().appetite = Some(1);
    for byte in [GET, POST].concat() {
        rig.send(&[byte]);
        rig.run();
    }
    assert_eq!(rig.calls, whole.calls);
    let strip = |text: String| text.lines().filter(|line| !line.starts_with("date")).collect::<Vec<_>>().join("\n");
    assert_eq!(strip(rig.written()).len(), strip(whole.written()).len());
}

#[test]
fn body_larger_than_the_buffer_is_streamed_where_the_option_asks_for_it_and_the_next_request_found() {
    for read in [true, false] {
        let mut rig = Rig::new(Options { body_buffer: 2, stream_bodies: true, ..Options::default() });
        rig.read = read;
        rig.send(&[POST, GET].concat());
        rig.run();
        let post = if read { "POST /p hello" } else { "POST /p" };
        assert_eq!(rig.calls.first().map(String::as_str), Some(post));
        assert_eq!(rig.calls.len(), 2, "what was not read is drained");
    }
}

#[test]
fn body_larger_than_the_buffer_is_taken_whole_in_memory_or_in_a_file() {
    for buffer in [2, 0] {
        let mut rig = Rig::new(Options { body_buffer: buffer, ..Options::default() });
        rig.send(&[CHUNKED, POST, GET].concat());
        rig.run();
        assert_eq!(rig.calls, ["POST /c hello", "POST /p hello", "GET /a "]);
    }
}

#[test]
fn body_that_no_file_has_room_for_is_refused_for_now() {
    for request in [POST, CHUNKED] {
        let mut rig = Rig::new(Options { body_buffer: 0, max_spool_size: 4, ..Options::default() });
        rig.send(&[request, GET].concat());
        rig.run();
        assert_eq!(rig.statuses(), ["503"]);
        assert!(rig.written().contains("Retry-After: 1\r\n") && rig.calls.is_empty());
    }
}

#[test]
fn connections_are_spared_as_long_as_they_keep_up() {
    let moment = Duration::from_millis(10);
    let eviction_priority =
        |rig: &Rig, after: Duration| rig.connection.as_ref().unwrap().eviction_priority(rig.now + after);
    let mut rig = Rig::new(Options::default());
    rig.run();
    assert_eq!(eviction_priority(&rig, moment), None, "a newcomer");
    let silent = eviction_priority(&rig, GRACE);
    rig.send(&GET[..5]);
    rig.run();
    assert_eq!(eviction_priority(&rig, moment), None, "a head that has just begun");
    let slow = eviction_priority(&rig, GRACE * 100);
    assert!(slow.is_some() && slow < silent, "whoever holds nothing up goes before whoever has begun");
    assert!(eviction_priority(&rig, GRACE) < slow, "and the slowest before others");
    rig.send(&GET[5..]);
    rig.run();
    assert_eq!(eviction_priority(&rig, moment), None, "one that was just served may send more");
    assert!(eviction_priority(&rig, GRACE).is_some());
    rig.send(&POST[..POST.len() - 1]);
    rig.run();
    assert_eq!(eviction_priority(&rig, moment), None);
    assert!(eviction_priority(&rig, SLOW_CLIENT_GRACE + moment).is_some(), "a body that does not come");
}

#[test]
fn connection_whose_response_nobody_takes_is_spared_for_a_while() {
    let mut rig = Rig::new(Options::default());
    rig.double.0.lock().unwrap().appetite = Some(0);
    rig.send(GET);
    for _ in 0..3 {
        let Some(connection) = &mut rig.connection else { break };
        connection.note(true, false);
        let date = [b'd'; 29];
        let mut turn = Turn { now: rig.now, date: &date, scratch: &mut rig.scratch, share: TURN_BYTES };
        match connection.advance(&mut turn) {
            Step::Ready(exchange) => rig.serve(exchange),
            Step::Wait | Step::Again => {}
            Step::Closed => rig.connection = None,
        }
    }
    let connection = rig.connection.as_ref().expect("the response is on its way");
    assert!(connection.is_answering());
    assert_eq!(connection.eviction_priority(rig.now + GRACE), None);
    assert!(connection.eviction_priority(rig.now + SLOW_CLIENT_GRACE).is_some());
}

#[test]
fn chunked_body_is_streamed_where_the_option_asks_for_it() {
    let mut rig = Rig::new(Options { stream_chunked: true, ..Options::default() });
    rig.send(&[CHUNKED, GET].concat());
    rig.run();
    assert_eq!(rig.calls, ["POST /c hello", "GET /a "]);
}

#[test]
fn refused_request_is_answered_once_and_nothing_behind_it_runs() {
    let mut rig = Rig::new(Options::default());
    rig.send(&[b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", GET].concat());
    rig.run();
    assert_eq!(rig.statuses(), ["400"]);
    assert!(rig.calls.is_empty());
    assert!(rig.double.0.lock().unwrap().finished, "the client is told that no more comes");
}

#[test]
fn body_that_ends_early_never_reaches_the_application() {
    let mut rig = Rig::new(Options::default());
    rig.send(&POST[..POST.len() - 1]);
    rig.double.0.lock().unwrap().ended = true;
    rig.run();
    assert!(rig.is_closed() && rig.calls.is_empty() && rig.written().is_empty());
}

#[test]
fn expectation_is_answered_before_the_body_and_at_most_once() {
    let head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    for buffer in [64, 2] {
        let mut rig = Rig::new(Options { body_buffer: buffer, stream_bodies: true, ..Options::default() });
        rig.send(head);
        rig.send(b"hello");
        rig.run();
        assert_eq!(rig.statuses(), ["100", "200"], "buffer of {buffer}");
        let mut together = Rig::new(Options { body_buffer: buffer, stream_bodies: true, ..Options::default() });
        together.send(&[head, b"hello".as_slice()].concat());
        together.run();
        assert_eq!(together.statuses(), ["200"], "a body that came along was not waited for");
    }
}

#[test]
fn expectation_without_content_is_not_answered() {
    let mut rig = Rig::new(Options::default());
    rig.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n");
    rig.send(GET);
    rig.run();
    assert_eq!(rig.statuses(), ["200", "200"]);
}

#[test]
fn expectation_of_a_request_that_finds_no_thread_is_not_answered() {
    for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut rig = Rig::new(Options::default());
        rig.send(format!("POST /p HTTP/1.1\r\nHost: a\r\n{line}\r\nExpect: 100-continue\r\n\r\n").as_bytes());
        let mut turn = Turn { now: rig.now, date: &[b'd'; 29], scratch: &mut rig.scratch, share: TURN_BYTES };
        let mut connection = rig.connection.take().unwrap();
        connection.note(true, false);
        let Step::Ready(exchange) = connection.advance(&mut turn) else { panic!("its head does not wait in line") };
        assert!(matches!(connection.decline(exchange, Reject::QueueTimeout, &mut turn), Step::Wait));
        assert_eq!(rig.statuses(), ["503"]);
    }
}

#[test]
fn expectation_is_not_answered_if_the_application_reads_nothing() {
    let mut rig = Rig::new(Options { body_buffer: 2, stream_bodies: true, ..Options::default() });
    rig.read = false;
    rig.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    rig.run();
    assert_eq!(rig.statuses(), ["200"]);
    assert!(rig.written().contains("Connection: close"), "{}", rig.written());
}

#[test]
fn response_in_pieces_is_chunked_and_ends_with_the_last_chunk() {
    let mut rig = Rig::new(Options::default());
    rig.pieces = true;
    rig.send(GET);
    rig.run();
    assert!(rig.written().ends_with("3\r\nGET\r\n3\r\n /a\r\n1\r\n \r\n0\r\n\r\n"), "{}", rig.written());
}

#[test]
fn deadlines_follow_what_the_client_does() {
    let options = Options::default();
    let mut rig = Rig::new(options.clone());
    let start = rig.now;
    rig.run();
    let deadline = |rig: &Rig| rig.connection.as_ref().unwrap().deadline().unwrap() - start;
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
    let mut silent = Rig::new(Options::default());
    silent.run();
    silent.expire();
    assert!(silent.is_closed() && silent.written().is_empty());
    for half in [&GET[..10], &POST[..POST.len() - 1]] {
        let mut rig = Rig::new(Options::default());
        rig.send(half);
        rig.run();
        rig.expire();
        assert_eq!(rig.statuses(), ["408"]);
    }
}

#[test]
fn slow_body_is_held_to_its_minimum_rate() {
    let options = Options { body_min_rate: 10, body_timeout: Duration::from_secs(30), ..Options::default() };
    let now = Instant::now();
    let budget = Arc::new(Budget::new(0, 0, 0));
    let mut intake = Intake::new(Some(1000), &options, &budget, now);
    let mut clock = now;
    for _ in 0..60 {
        clock += Duration::from_secs(1);
        intake.feed(b"x", &options, clock).expect("a byte is no offence");
    }
    // 60 bytes at 10 a second buy 6 seconds on top of the timeout: the steady trickle did not extend it.
    assert_eq!(intake.rate.deadline(&options), now + Duration::from_secs(36));
}

#[test]
fn observers_learn_of_each_exchange_after_its_last_byte() {
    let mut rig = Rig::new(Options::default());
    rig.double.0.lock().unwrap().appetite = Some(10);
    rig.send(GET);
    rig.run();
    assert_eq!(*rig.witness.0.lock().unwrap(), [(200, 7, true)]);
}

#[test]
fn stopping_server_answers_what_it_has_and_closes() {
    let mut rig = Rig::new(Options::default());
    rig.connection.as_ref().unwrap().context.stop();
    rig.send(GET);
    rig.run();
    assert_eq!(rig.statuses(), ["200"]);
    assert!(rig.written().contains("Connection: close"));
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n";

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_le_bytes()[0];
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, 0, length][..], payload].concat()
}

fn behind_proxy(accepted: AcceptedVersion) -> Rig {
    Rig::new(Options { proxy_protocol: Some(accepted), ..Options::default() })
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
        let transport = [&header, GET, POST, GET].concat();
        for cut in 0..=transport.len() {
            let mut rig = behind_proxy(AcceptedVersion::Any);
            rig.send(&transport[..cut]);
            rig.run();
            rig.send(&transport[cut..]);
            rig.run();
            assert_eq!(rig.calls, ["GET /a ", "POST /p hello", "GET /a "], "cut at {cut}");
            assert_eq!(rig.clients, [client; 3], "cut at {cut}");
            assert!(!rig.is_closed());
        }
    }
}

#[test]
fn connection_without_usable_proxy_header_is_closed_without_a_word() {
    let second = [V1, V1, GET].concat();
    for (accepted, bytes) in [
        (AcceptedVersion::Any, GET),
        (AcceptedVersion::Any, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        (AcceptedVersion::Any, b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (AcceptedVersion::V2, V1),
        (AcceptedVersion::V1, &v2(0x20, 0x00, b"")),
    ] {
        let mut rig = behind_proxy(accepted);
        rig.send(bytes);
        rig.run();
        assert!(rig.is_closed(), "{}", bytes.escape_ascii());
        assert_eq!((rig.calls.len(), rig.written().as_str()), (0, ""), "{}", bytes.escape_ascii());
    }
    // Only the first header is one; a second is a malformed request.
    let mut rig = behind_proxy(AcceptedVersion::Any);
    rig.send(&second);
    rig.run();
    assert_eq!((rig.calls.len(), rig.statuses()), (0, vec!["400".to_owned()]));
}

#[test]
fn proxy_header_that_does_not_end_is_given_the_time_of_a_head() {
    for beginning in [&b""[..], b"P", &V1[..20], b"\r\n\r\n"] {
        let mut rig = behind_proxy(AcceptedVersion::Any);
        rig.send(beginning);
        rig.run();
        let connection = rig.connection.as_ref().unwrap();
        assert!(connection.is_idle(), "nobody waits for an answer");
        assert_eq!(connection.deadline(), Some(rig.now + Options::default().header_timeout));
        rig.expire();
        assert!(rig.is_closed());
        assert_eq!(rig.written(), "");
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
    let mut rig = Rig::new(Options { origins: Some(Arc::new(OwnField)), ..Options::default() });
    for (ip, length) in [("192.0.2.1", 0), ("192.0.2.2", 5)] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nClient: {ip}\r\nContent-Length: {length}\r\n\r\n");
        rig.send(&[head.as_bytes(), &b"hello"[..length]].concat());
        rig.run();
    }
    let client = |ip: &str| Client::Ip(ip.parse().unwrap(), None);
    assert_eq!(rig.clients, [client("192.0.2.1"), client("192.0.2.2")]);
    // Neither is the client asked to go on, nor is its body waited for.
    rig.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    rig.run();
    assert_eq!((rig.calls.len(), rig.statuses()), (2, ["200", "200", "400"].map(str::to_owned).to_vec()));
}

#[test]
fn deadlines_of_options_without_end_never_come() {
    let endless = Options {
        keep_alive: Duration::MAX,
        header_timeout: Duration::MAX,
        body_timeout: Duration::MAX,
        write_timeout: Duration::MAX,
        graceful_timeout: Duration::MAX,
        queue_timeout: Duration::MAX,
        ..Options::default()
    };
    let mut rig = Rig::new(endless);
    let century = |rig: &Rig| rig.connection.as_ref().unwrap().deadline().unwrap() - rig.now > 90 * 365 * 24 * HOUR;
    rig.run();
    assert!(century(&rig), "before the first request");
    rig.send(GET);
    rig.run();
    assert!(century(&rig), "between two requests");
    rig.send(&POST[..POST.len() - 1]);
    rig.run();
    assert!(century(&rig), "inside a body");
    rig.send(&POST[POST.len() - 1..]);
    rig.double.0.lock().unwrap().full_at = Some(rig.written().len() + 1);
    rig.run();
    assert!(century(&rig), "inside a response");
}

#[test]
fn instant_that_jumps_far_or_stands_still_ends_patience_and_nothing_else() {
    let mut rig = Rig::new(Options::default());
    // Everything at one and the same instant.
    rig.send(&[GET, POST, CHUNKED].concat());
    rig.run();
    assert_eq!(rig.calls.len(), 3);
    // A machine that slept for a year: what came meanwhile is answered before anybody looks at deadlines.
    rig.now += 365 * 24 * HOUR;
    rig.send(GET);
    rig.run();
    assert_eq!(rig.calls.len(), 4);
    assert!(!rig.is_closed());
    rig.send(&POST[..POST.len() - 1]);
    rig.run();
    rig.now += 365 * 24 * HOUR;
    rig.expire();
    assert_eq!(rig.statuses().last().map(String::as_str), Some("408"));
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
            let mut rig = Rig::new(Options::default());
            for piece in head.chunks(piece) {
                rig.send(piece);
                rig.run();
            }
            let response = rig.written();
            assert!(response.starts_with("HTTP/1.1 ") && response.ends_with("Connection: close\r\n\r\n"), "{response}");
        }
    }
    for half in [&b"HEAD / HT"[..], b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell"] {
        let mut rig = Rig::new(Options::default());
        rig.send(half);
        rig.run();
        rig.expire();
        assert!(rig.written().starts_with("HTTP/1.1 408 ") && rig.written().ends_with("close\r\n\r\n"));
    }
}

// Both sides would wait: the client for the rest of the invitation, the server for the body.
#[test]
fn invitation_that_the_socket_takes_byte_by_byte_leaves_before_the_body_comes() {
    const INVITATION: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut taken = Rig::new(Options::default());
    taken.double.script().appetite = Some(1);
    taken.send(head);
    taken.run();
    assert_eq!(taken.written(), INVITATION);
    // An application that reads what there is, and never answers.
    let lost = Scripted(|exchange: &mut Exchange, _: &mut Clock| {
        read_whole(exchange);
        std::panic::resume_unwind(Box::new(()));
    });
    let options = Options { body_buffer: 2, stream_bodies: true, ..Options::default() };
    let mut streamed = crate::engine::testkit::rig::Rig::new(options, lost);
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
