use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CONFIG: WebSocketConfig = WebSocketConfig {
    max_message_bytes: 100_000,
    queue_bytes: 1000,
    message_timeout: Duration::from_secs(30),
    message_min_bytes_per_second: 500,
    steady_bytes_per_second: 16 * 1024,
    slow_grace: Duration::from_secs(3),
    ping_interval: Duration::from_secs(20),
    ping_timeout: Duration::from_secs(5),
};

// A client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u8::try_from(payload.len()).ok().filter(|&length| length < 126) {
        Some(length) => bytes.push(0x80 | length),
        None => bytes.extend([&[0x80 | 0x7e][..], &u16::try_from(payload.len()).unwrap().to_be_bytes()].concat()),
    }
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

fn text(text: &str) -> WebSocketMessage {
    WebSocketMessage::Text(text.to_owned())
}

struct Rig {
    session: WebSocketSession,
    memory: Arc<MessageMemory>,
    now: Instant,
}

impl Rig {
    fn new(config: WebSocketConfig) -> Self {
        let (memory, now) = (MessageMemory::new(1 << 24), Instant::now());
        Self { session: WebSocketSession::new(&config, None, &memory, Vec::new(), now), memory, now }
    }

    // The client sends this, and nothing more for now.
    fn sends(&mut self, bytes: &[u8]) {
        self.session.on_bytes(bytes, self.now, &mut { usize::MAX });
        self.session.on_read_end(true, self.now);
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.session.on_time(self.now);
    }

    fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.write_output(&mut out);
        out
    }

    fn next(&mut self) -> Option<WebSocketMessage> {
        self.session.next_message(self.now)
    }
}

fn status(code: u16, reason: &str) -> CloseStatus {
    CloseStatus::new(code, reason)
}

#[test]
fn bytes_behind_the_handshake_are_the_first() {
    let (memory, now) = (MessageMemory::new(1 << 20), Instant::now());
    let mut session = WebSocketSession::new(&CONFIG, None, &memory, frame(0x81, b"first"), now);
    assert!(session.has_unread());
    session.on_bytes(&frame(0x81, b"second"), now, &mut { usize::MAX });
    assert_eq!(session.next_message(now), Some(text("first")));
    assert_eq!(session.next_message(now), Some(text("second")));
}

// RFC 6455 §5.5.1
#[test]
fn clients_close_frame_is_answered_with_its_code() {
    for (payload, answer, expected) in [
        (&b""[..], &b"\x88\x00"[..], status(1005, "")),
        (b"\x03\xe9bye", b"\x88\x02\x03\xe9", status(1001, "bye")),
        (b"\x0f\xa0", b"\x88\x02\x0f\xa0", status(4000, "")),
    ] {
        let mut rig = Rig::new(CONFIG);
        rig.sends(&[frame(0x81, b"before"), frame(0x88, payload), frame(0x81, b"behind")].concat());
        assert_eq!((rig.session.state(), rig.session.close_status()), (WebSocketState::Finished, Some(&expected)));
        assert_eq!(rig.output(), answer);
        assert_eq!((rig.next(), rig.next()), (Some(text("before")), None));
        assert_eq!((rig.session.deadline(), rig.session.wants_bytes(), rig.session.has_unread()), (None, false, false));
    }
}

#[test]
fn servers_close_frame_waits_for_the_clients_until_its_deadline() {
    let mut rig = Rig::new(CONFIG);
    rig.session.close(1000, "done", rig.now);
    assert_eq!(rig.output(), b"\x88\x06\x03\xe8done");
    rig.session.close(1001, "again", rig.now);
    rig.sends(&[frame(0x81, b"late"), frame(0x89, b"ping")].concat());
    assert_eq!((rig.next(), rig.output()), (None, vec![]));
    assert_eq!(rig.session.send_text("late", &mut CompressorPool::default()), Err(SessionClosed));
    assert_eq!((rig.session.state(), rig.session.deadline()), (WebSocketState::Closing, Some(rig.now + CLOSE_TIMEOUT)));
    rig.passes(CLOSE_TIMEOUT);
    assert_eq!(
        (rig.session.state(), rig.session.close_status()),
        (WebSocketState::Finished, Some(&status(1000, "done")))
    );
    assert_eq!(rig.output(), b"");
    let mut answered = Rig::new(CONFIG);
    answered.session.close(1000, "", answered.now);
    answered.sends(&frame(0x88, b"\x03\xe8"));
    assert_eq!((answered.session.state(), answered.output()), (WebSocketState::Finished, b"\x88\x02\x03\xe8".to_vec()));
}

fn stopping(rig: &mut Rig) {
    rig.session.stop(StopClose { code: 1001, reason: "", until: rig.now + 3 * SECOND }, rig.now);
}

#[test]
fn stop_closes_a_session_without_messages_at_once() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&frame(0x81, b"one"));
    assert_eq!(rig.next(), Some(text("one")));
    rig.session.on_application_waiting(rig.now);
    stopping(&mut rig);
    assert_eq!((rig.output(), rig.session.state()), (b"\x88\x02\x03\xe9".to_vec(), WebSocketState::Closing));
}

#[test]
fn stop_waits_for_the_answer_to_every_message_that_has_arrived() {
    let mut rig = Rig::new(CONFIG);
    let second = frame(0x81, b"second");
    rig.sends(&[&frame(0x81, b"first")[..], &second[..7]].concat());
    assert_eq!(rig.next(), Some(text("first")));
    stopping(&mut rig);
    // The second is incomplete.
    rig.session.on_application_waiting(rig.now);
    rig.sends(&second[7..]);
    assert_eq!((rig.output(), rig.next()), (vec![], Some(text("second"))));
    assert_eq!(rig.session.send_text("answer", &mut CompressorPool::default()), Ok(None));
    rig.passes(SECOND);
    assert_eq!(rig.session.state(), WebSocketState::Open);
    rig.session.on_application_waiting(rig.now);
    assert_eq!((rig.output(), rig.session.state()), (b"\x81\x06\x88\x02\x03\xe9".to_vec(), WebSocketState::Closing));
}

#[test]
fn stop_closes_a_session_whose_application_does_not_answer_at_its_deadline() {
    for takes in [true, false] {
        let mut rig = Rig::new(CONFIG);
        rig.sends(&frame(0x81, b"one"));
        assert!(!takes || rig.next().is_some());
        stopping(&mut rig);
        assert_eq!((rig.session.state(), rig.session.deadline()), (WebSocketState::Open, Some(rig.now + 3 * SECOND)));
        rig.passes(3 * SECOND);
        assert_eq!((rig.output(), rig.session.state()), (b"\x88\x02\x03\xe9".to_vec(), WebSocketState::Closing));
    }
}

#[test]
fn message_that_was_unfinished_at_the_servers_close_frame_takes_no_memory() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&frame(0x02, &[1; 500]));
    rig.session.close(1000, "", rig.now);
    for _ in 0..3 {
        rig.sends(&frame(0x00, &[1; 10_000]));
        assert_eq!(rig.memory.used(), 0);
    }
    rig.sends(&[frame(0x80, b""), frame(0x88, b"")].concat());
    assert_eq!((rig.session.state(), rig.next()), (WebSocketState::Finished, None));
}

#[test]
fn client_that_breaks_a_rule_is_told_which_and_nothing_waited_for() {
    for (sent, code) in [
        (frame(0x83, b""), close::PROTOCOL_ERROR),
        (frame(0x81, b"\xff"), close::INVALID_DATA),
        ([&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x86, 0xa1][..], &[0; 4]].concat(), close::MESSAGE_TOO_BIG),
    ] {
        let mut rig = Rig::new(CONFIG);
        rig.sends(&[frame(0x81, b"good"), sent].concat());
        assert_eq!(rig.next(), Some(text("good")));
        assert_eq!(rig.session.close_status().map(|status| status.code), Some(code));
        assert_eq!((rig.session.state(), &rig.output()[2..4]), (WebSocketState::Finished, &code.to_be_bytes()[..]));
        assert_eq!(rig.session.forced_close(), None);
    }
}

#[test]
fn silent_client_is_pinged_and_given_up_without_an_answer() {
    let mut rig = Rig::new(CONFIG);
    rig.passes(20 * SECOND);
    assert_eq!((rig.output(), rig.session.deadline()), (b"\x89\x00".to_vec(), Some(rig.now + 5 * SECOND)));
    rig.sends(&frame(0x8a, b""));
    assert_eq!((rig.session.deadline(), rig.output()), (Some(rig.now + 20 * SECOND), vec![]));
    rig.passes(20 * SECOND);
    rig.passes(5 * SECOND);
    assert_eq!(rig.session.close_status().map(|status| status.code), Some(close::INTERNAL_ERROR));
    assert_eq!(rig.session.state(), WebSocketState::Finished);
}

#[test]
fn pings_are_answered_in_the_order_of_what_is_sent() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&[frame(0x89, b"one"), frame(0x89, b"")].concat());
    assert_eq!(rig.session.send_text("hello", &mut CompressorPool::default()), Ok(None));
    assert_eq!(rig.output(), b"\x8a\x03one\x8a\x00\x81\x05");
    rig.sends(&frame(0x89, &[7; 125]).repeat(100));
    assert_eq!(rig.output().len(), 127 * 100);
    assert!(rig.session.output.capacity() <= KEPT_OUTPUT_BYTES);
}

#[test]
fn full_queue_pauses_reading_until_the_application_has_taken_it() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&frame(0x82, &[1; 500]).repeat(3));
    assert!(!rig.session.wants_bytes() && !rig.session.has_unread());
    // The client answers neither for a ping nor for the rest of its message while it is not read.
    rig.passes(100 * SECOND);
    assert_eq!((rig.output(), rig.session.slow_since()), (vec![], None));
    for _ in 0..2 {
        let used = rig.memory.used();
        assert!(rig.next().is_some());
        assert!(!rig.session.wants_bytes() && rig.memory.used() <= used - 500);
    }
    // The queue is empty, and the third message was not decoded yet.
    assert_eq!(rig.next(), None);
    assert!(rig.session.has_unread());
    rig.sends(b"");
    assert_eq!(rig.next(), Some(WebSocketMessage::Binary(vec![1; 500])));
}

#[test]
fn full_memory_pauses_every_session_and_eviction_frees_it() {
    let (memory, now) = (MessageMemory::new(2000), Instant::now());
    let [mut one, other] = [(); 2].map(|()| WebSocketSession::new(&CONFIG, None, &memory, Vec::new(), now));
    for piece in frame(0x02, &[1; 3000]).chunks(1000) {
        one.on_bytes(piece, now, &mut { usize::MAX });
        one.on_read_end(false, now);
    }
    assert!(memory.is_full() && !other.wants_bytes() && other.has_unread());
    assert!(one.eviction_weight(now) > 0 && other.eviction_weight(now) == 0);
    one.evict(now);
    assert_eq!(
        (memory.used(), one.state(), one.forced_close()),
        (0, WebSocketState::Finished, Some(ForcedClose::OutOfMemory))
    );
    assert!(other.wants_bytes());
    let mut out = Vec::new();
    one.write_output(&mut out);
    assert_eq!(&out[2..4], close::TRY_AGAIN_LATER.to_be_bytes());
}

#[test]
fn client_of_an_unfinished_message_is_slow_and_an_idle_one_is_not() {
    for begun in [frame(0x01, b"half"), frame(0x81, b"half")[..8].to_vec(), frame(0x89, b"")[..1].to_vec()] {
        let mut rig = Rig::new(CONFIG);
        let start = rig.now;
        assert_eq!(rig.session.slow_since(), None);
        rig.sends(&frame(0x81, b"whole"));
        assert_eq!(rig.session.slow_since(), None);
        rig.sends(&begun);
        assert_eq!(rig.session.slow_since(), Some(start));
        // Silence goes on counting, and so does a trickle.
        rig.now += 4 * SECOND;
        rig.sends(b"");
        assert_eq!(rig.session.slow_since(), Some(start));
        if begun.len() == 10 {
            rig.sends(&frame(0x00, b"more"));
            assert!(rig.session.slow_since().unwrap() < start + SECOND);
            rig.sends(&frame(0x80, b"end"));
            assert_eq!((rig.session.slow_since(), rig.session.message_timer.deadline()), (None, None));
        }
    }
}

#[test]
fn each_message_begins_with_a_time_of_its_own() {
    let mut rig = Rig::new(WebSocketConfig { ping_interval: Duration::ZERO, ..CONFIG });
    rig.sends(&frame(0x01, b"first"));
    for _ in 0..3 {
        rig.now += 20 * SECOND;
        rig.sends(&[frame(0x80, b""), frame(0x01, b"next")].concat());
        let deadline = rig.now + CONFIG.message_timeout;
        assert_eq!((rig.session.slow_since(), rig.session.deadline()), (Some(rig.now), Some(deadline)));
    }
}

#[test]
fn client_that_keeps_the_steady_rate_is_never_slow_for_the_grace() {
    let mut rig = Rig::new(WebSocketConfig { max_message_bytes: 10_000_000, ..CONFIG });
    rig.sends(&frame(0x02, b""));
    for _ in 0..100 {
        rig.now += SECOND;
        rig.sends(&frame(0x00, &[1; 16 * 1024]));
        let since = rig.session.slow_since().unwrap();
        assert!(rig.now - since <= SECOND, "{:?}", rig.now - since);
    }
    // A fast start buys no time.
    rig.now += 3 * SECOND;
    assert!(rig.now - rig.session.slow_since().unwrap() >= 3 * SECOND);
}

#[test]
fn message_that_stops_or_trickles_is_closed_with_1008() {
    for (step, count) in [(30, 0), (1, 100)] {
        let mut rig = Rig::new(WebSocketConfig { ping_interval: Duration::ZERO, ..CONFIG });
        let message = frame(0x82, &vec![1; 60_000]);
        let (begun, rest) = message.split_at(1000);
        rig.sends(begun);
        let (start, mut pieces) = (rig.now, rest.chunks(100));
        while rig.session.state() == WebSocketState::Open {
            rig.now += step * SECOND;
            rig.sends(&pieces.next().unwrap()[..count]);
            rig.session.on_time(rig.now);
        }
        assert_eq!(rig.session.forced_close(), Some(ForcedClose::SlowMessage));
        assert_eq!(rig.session.close_status().map(|status| status.code), Some(close::POLICY_VIOLATION));
        assert!((30..40).contains(&(rig.now - start).as_secs()));
    }
}

#[test]
fn client_does_not_answer_for_time_in_which_it_is_not_read() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&frame(0x01, b"half"));
    rig.session.on_bytes(b"", rig.now, &mut 0);
    rig.session.on_read_end(false, rig.now);
    assert_eq!((rig.session.slow_since(), rig.session.message_timer.deadline()), (None, None));
    assert!(rig.session.has_unread());
    rig.now += 100 * SECOND;
    rig.sends(b"");
    rig.session.on_time(rig.now);
    assert_eq!((rig.session.state(), rig.session.slow_since()), (WebSocketState::Open, Some(rig.now)));
}

#[test]
fn decoding_stops_at_its_budget_and_goes_on_without_bytes() {
    let mut rig = Rig::new(WebSocketConfig { queue_bytes: 1 << 20, ..CONFIG });
    let bytes = frame(0x82, &[1; 1000]).repeat(10);
    let mut budget = 2000;
    rig.session.on_bytes(&bytes, rig.now, &mut budget);
    rig.session.on_read_end(true, rig.now);
    assert_eq!((budget, rig.session.has_unread(), rig.session.wants_bytes()), (0, true, false));
    let mut taken = 0;
    for _ in 0..10 {
        taken += std::iter::from_fn(|| rig.next()).count();
        rig.session.on_bytes(b"", rig.now, &mut 2000);
        rig.session.on_read_end(true, rig.now);
    }
    assert_eq!((taken, rig.session.has_unread()), (10, false));
    assert_eq!((rig.memory.used(), rig.session.backlog.capacity()), (0, 0));
}

#[test]
fn client_that_leaves_is_1006_and_its_messages_are_still_taken() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&frame(0x81, b"last"));
    rig.session.on_disconnect();
    assert_eq!((rig.session.state(), rig.session.deadline()), (WebSocketState::Disconnected, None));
    assert_eq!(rig.session.close_status(), Some(&CloseStatus::abnormal()));
    assert_eq!((rig.next(), rig.next()), (Some(text("last")), None));
    rig.session.close(1000, "", rig.now);
    assert_eq!(rig.output(), b"");
    // After the server's close frame it may.
    let mut closing = Rig::new(CONFIG);
    closing.session.close(1000, "", closing.now);
    closing.session.on_disconnect();
    assert_eq!(
        (closing.session.state(), closing.session.close_status().unwrap().code),
        (WebSocketState::Finished, 1000)
    );
}

#[test]
fn application_that_ends_leaves_no_memory_behind() {
    let mut rig = Rig::new(CONFIG);
    rig.sends(&[frame(0x81, b"waits"), frame(0x01, &[b'x'; 500])].concat());
    assert!(rig.memory.used() > 500);
    rig.session.on_application_end(close::NORMAL, rig.now);
    assert_eq!((rig.memory.used(), rig.session.state(), rig.next()), (0, WebSocketState::Closing, None));
    rig.sends(&[frame(0x80, &[b'x'; 500]), frame(0x88, b"")].concat());
    assert_eq!((rig.memory.used(), rig.session.state()), (0, WebSocketState::Finished));
}

#[test]
fn compressed_messages_go_both_ways_where_that_was_negotiated() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate");
    let (memory, now, mut pool) = (MessageMemory::new(1 << 20), Instant::now(), CompressorPool::default());
    let mut session = WebSocketSession::new(&CONFIG, parameters, &memory, Vec::new(), now);
    let content = "words, ".repeat(100);
    for _ in 0..3 {
        let compressed = session.send_text(&content, &mut pool).unwrap().unwrap();
        let mut out = Vec::new();
        session.write_output(&mut out);
        assert_eq!(out[0], 0xc1);
        // A client that says the same.
        session.on_bytes(&frame(0xc1, &compressed), now, &mut { usize::MAX });
        assert_eq!((session.next_message(now), session.next_message(now)), (Some(text(&content)), None));
    }
    assert_eq!(session.send_binary(b"short", &mut pool), Ok(None));
}
