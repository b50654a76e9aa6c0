use std::sync::Arc;
use std::time::{Duration, Instant};

use wsgi_core::websocket::close::{self, CloseStatus};
use wsgi_core::websocket::decoder::WebSocketMessage;
use wsgi_core::websocket::deflate::{CompressorPool, DeflateParameters};
use wsgi_core::websocket::memory::MessageMemory;
use wsgi_core::websocket::session::{ForcedClose, WebSocketConfig, WebSocketSession, WebSocketState};

use crate::oracle::choices::Choices;
use crate::oracle::websocket::{ClientEnd, ClientEvents, ServerFrame, client_events, server_frames};

/// What decompression may take besides the message: its state, and the step by which a buffer grows.
const INFLATER_BYTES: usize = 192 * 1024;

/// An open WebSocket: the first byte says how many bytes behind it choose the limits, and what client, application and clock do;
/// all others are what the client sends.
///
/// 1. The application gets the client's messages, in order and unchanged, however the bytes are split and whenever it takes them.
/// 2. Each call writes what it may, in whole frames without a mask: an answer to each ping, the application's message, one ping, or
///    one close frame, which is the last frame.
/// 3. The session ends as the client's bytes ask for by the letter of RFC 6455, if nothing else has ended it before.
/// 4. It stops decoding for its budget, a pause or its end alone, and holds no more than its limits.
/// 5. A client is slow exactly while a message, or a frame, has begun and has not ended, and nothing of it is left to be read.
/// 6. What is due is done when it is due, and a silent client comes to an end.
pub fn websocket(bytes: &[u8]) {
    let (count, rest) = bytes.split_first().map_or((0, bytes), |(&first, rest)| (usize::from(first), rest));
    let (choices, client) = rest.split_at(count.min(rest.len()));
    let mut choices = Choices(choices);
    let mut play = Play::draw(&mut choices, client);
    let memory = Arc::clone(&play.memory);
    while !choices.0.is_empty() {
        play.act(&mut choices);
    }
    play.finish();
    drop(play);
    assert_eq!(memory.used(), 0);
}

struct Play<'a> {
    session: WebSocketSession,
    config: WebSocketConfig,
    memory: Arc<MessageMemory>,
    pool: CompressorPool,
    client: &'a [u8],
    events: ClientEvents,
    now: Instant,
    messages: usize,
    pongs: usize,
    last: Option<ServerFrame>,
    // What else than the client has ended it.
    is_disturbed: bool,
    // The application takes nothing any more.
    is_deaf: bool,
}

impl<'a> Play<'a> {
    fn draw(choices: &mut Choices<'_>, client: &'a [u8]) -> Self {
        let seconds = |choices: &mut Choices<'_>, all: &[u64]| Duration::from_secs(choices.pick(all));
        let config = WebSocketConfig {
            max_message_bytes: choices.pick(&[1000, 3, 100_000]),
            queue_bytes: choices.pick(&[1000, 1, 1 << 20]),
            message_timeout: seconds(choices, &[30, 1]),
            message_min_bytes_per_second: choices.pick(&[0, 500]),
            steady_bytes_per_second: 16 * 1024,
            slow_grace: Duration::from_secs(3),
            ping_interval: seconds(choices, &[20, 0, 1]),
            ping_timeout: seconds(choices, &[20, 1]),
        };
        let compression = DeflateParameters::negotiate(choices.pick(&[&b""[..], b"permessage-deflate"]));
        let memory = MessageMemory::new(choices.pick(&[1 << 24, 1]));
        let (received, client) = client.split_at(choices.below(256).min(client.len()));
        let now = Instant::now();
        let session = WebSocketSession::new(&config, compression, &memory, received.to_vec(), now);
        let events = client_events(&[received, client].concat(), config.max_message_bytes, compression.is_some());
        let pool = CompressorPool::default();
        let (messages, pongs, last, is_disturbed, is_deaf) = (0, 0, None, false, false);
        Self { session, config, memory, pool, client, events, now, messages, pongs, last, is_disturbed, is_deaf }
    }

    fn act(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..6 => {
                let (count, budget) = (choices.below(256), 1 + 40 * choices.below(256));
                self.read(count, budget);
            }
            6..9 => self.take(),
            9 | 10 => self.send(choices),
            11 | 12 => self.wait(Duration::from_millis(100 * choices.below(256) as u64)),
            13 => self.close(choices.pick(&[1000, 1001, 4999]), choices.pick(&["", "bye"])),
            14 => self.end_application(choices.pick(&[close::NORMAL, close::INTERNAL_ERROR])),
            _ => self.disconnect(),
        }
    }

    // Everything is read and taken; then the client is silent.
    fn finish(&mut self) {
        let mut left = 10_000;
        while self.is_active() && (!self.client.is_empty() || self.takes() || self.session.has_unread()) {
            self.read(4096, 1 << 16);
            while self.takes() {}
            if self.memory.is_full() && self.is_active() {
                self.evict();
            }
            left -= 1;
            assert!(left > 0, "reading does not come to an end");
        }
        while self.takes() {}
        self.check_end();
        for _ in 0..10 {
            let Some(deadline) = self.session.deadline() else { break };
            self.wait(deadline.saturating_duration_since(self.now));
        }
        let is_over = matches!(self.session.state(), WebSocketState::Finished | WebSocketState::Disconnected);
        assert!(is_over || self.config.ping_interval.is_zero(), "a silent client is kept");
    }

    fn check_end(&self) {
        if self.is_disturbed {
            return;
        }
        let status = self.session.close_status();
        match &self.events.end {
            ClientEnd::Unknown => return,
            ClientEnd::Open { is_unfinished } => {
                assert_eq!((self.session.state(), status, &self.last), (WebSocketState::Open, None, &None));
                assert_eq!(self.session.slow_since().is_some(), *is_unfinished);
            }
            ClientEnd::Closed(closed) => {
                assert_eq!((self.session.state(), status), (WebSocketState::Finished, Some(closed)));
                let code = (closed.code != close::NO_STATUS).then_some(closed.code);
                assert_eq!(self.last, Some(ServerFrame::Close { code, reason: String::new() }));
            }
            ClientEnd::Wrong(code) => {
                assert_eq!(self.session.state(), WebSocketState::Finished);
                assert_eq!(status.map(|status| status.code), Some(*code));
                assert!(matches!(&self.last, Some(ServerFrame::Close { code: sent, .. }) if *sent == Some(*code)));
            }
        }
        assert_eq!(self.pongs, self.events.pings.len());
        assert!(self.is_deaf || self.messages == self.events.messages.len());
    }

    fn is_active(&self) -> bool {
        matches!(self.session.state(), WebSocketState::Open | WebSocketState::Closing)
    }

    // As the owner of a socket does it.
    fn read(&mut self, count: usize, budget: usize) {
        let mut budget = budget;
        self.session.on_bytes(&[], self.now, &mut budget);
        let mut is_drained = false;
        if budget > 0 && self.session.wants_bytes() {
            let (piece, rest) = self.client.split_at(count.min(self.client.len()));
            self.client = rest;
            self.session.on_bytes(piece, self.now, &mut budget);
            is_drained = rest.is_empty();
        }
        let was_full = self.memory.is_full();
        self.session.on_read_end(is_drained, self.now);
        let is_paused = was_full || self.memory.is_full() || !self.session.has_unread();
        assert!(budget == 0 || is_paused || self.session.wants_bytes(), "decoding stopped for no reason");
        assert!(is_drained || self.session.slow_since().is_none(), "the client answers for what is not read");
        self.check_memory();
        for frame in self.written(None) {
            match frame {
                ServerFrame::Pong(payload) => {
                    match self.events.pings.get(self.pongs) {
                        Some(expected) => assert_eq!(payload, *expected),
                        None => assert_eq!(self.events.end, ClientEnd::Unknown),
                    }
                    self.pongs += 1;
                }
                ServerFrame::Close { .. } => {}
                other => panic!("reading writes {other:?}"),
            }
        }
    }

    fn check_memory(&self) {
        let WebSocketConfig { max_message_bytes, queue_bytes, .. } = self.config;
        // Buffers grow by doubling; one message more may come in one piece, or as many small ones as a read brings.
        let most = queue_bytes + 4 * (max_message_bytes + 4096) + 256 * 4096 + INFLATER_BYTES;
        assert!(self.memory.used() <= most, "{} bytes of {most}", self.memory.used());
    }

    fn take(&mut self) {
        self.takes();
    }

    fn takes(&mut self) -> bool {
        let Some(message) = self.session.next_message(self.now) else { return false };
        let (is_text, content) = match &message {
            WebSocketMessage::Text(text) => (true, text.as_bytes()),
            WebSocketMessage::Binary(bytes) => (false, bytes.as_slice()),
        };
        assert!(content.len() <= self.config.max_message_bytes && !self.is_deaf);
        match self.events.messages.get(self.messages) {
            Some(expected) => assert_eq!((is_text, content), (expected.0, expected.1.as_slice())),
            None => assert_eq!(self.events.end, ClientEnd::Unknown),
        }
        self.messages += 1;
        true
    }

    fn send(&mut self, choices: &mut Choices<'_>) {
        let was_open = self.session.state() == WebSocketState::Open;
        let content = vec![b'a'; choices.below(256) * choices.pick(&[1, 300])];
        let is_text = choices.flag();
        let sent = if is_text {
            self.session.send_text(std::str::from_utf8(&content).expect("letters"), &mut self.pool)
        } else {
            self.session.send_binary(&content, &mut self.pool)
        };
        assert_eq!(sent.is_ok(), was_open);
        let Ok(compressed) = sent else { return assert_eq!(self.written(None), []) };
        let is_compressed = compressed.is_some();
        let payload = compressed.unwrap_or(content);
        assert_eq!(self.written(Some(&payload)), [ServerFrame::Message { is_text, is_compressed, payload }]);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.read(0, 1 << 16);
        // A full memory is freed within a turn of the loop.
        if self.memory.is_full() && self.is_active() {
            return self.evict();
        }
        let before = self.session.state();
        self.session.on_time(self.now);
        assert!(self.session.deadline().is_none_or(|deadline| deadline > self.now), "what is due was not done");
        match self.written(None).as_slice() {
            [] | [ServerFrame::Close { code: Some(1011), .. }] => {}
            [ServerFrame::Ping(payload)] if payload.is_empty() && before == WebSocketState::Open => {}
            [ServerFrame::Close { code: Some(1008), .. }] => {
                assert_eq!(self.session.forced_close(), Some(ForcedClose::SlowMessage));
            }
            other => panic!("time writes {other:?}"),
        }
        self.is_disturbed |= before != self.session.state();
    }

    fn close(&mut self, code: u16, reason: &str) {
        let was_open = self.session.state() == WebSocketState::Open;
        self.session.close(code, reason, self.now);
        if was_open {
            assert_eq!(self.session.close_status(), Some(&CloseStatus::new(code, reason)));
            let frame = ServerFrame::Close { code: Some(code), reason: reason.to_owned() };
            assert_eq!(self.written(None), [frame]);
            self.is_disturbed = true;
        } else {
            assert_eq!(self.written(None), []);
        }
    }

    fn end_application(&mut self, code: u16) {
        let was_open = self.session.state() == WebSocketState::Open;
        self.session.on_application_end(code, self.now);
        let frame = ServerFrame::Close { code: Some(code), reason: String::new() };
        assert_eq!(self.written(None), if was_open { vec![frame] } else { vec![] });
        assert_eq!(self.memory.used(), 0);
        (self.is_disturbed, self.is_deaf) = (true, true);
    }

    fn evict(&mut self) {
        let was_open = self.session.state() == WebSocketState::Open;
        self.session.evict(self.now);
        let codes: Vec<_> = self.written(None);
        assert_eq!(codes.len(), usize::from(was_open));
        assert!(codes.iter().all(|frame| matches!(frame, ServerFrame::Close { code: Some(1013), .. })));
        assert_eq!(self.session.forced_close(), Some(ForcedClose::OutOfMemory));
        (self.is_disturbed, self.is_deaf) = (true, true);
        assert_eq!((self.memory.used(), self.session.deadline()), (0, None));
    }

    fn disconnect(&mut self) {
        self.session.on_disconnect();
        assert!(!self.is_active());
        assert_eq!(self.written(None), []);
        self.is_disturbed = true;
    }

    // The frames that a call has written, `payload` behind them. None comes after a close frame.
    fn written(&mut self, payload: Option<&[u8]>) -> Vec<ServerFrame> {
        let mut out = Vec::new();
        self.session.write_output(&mut out);
        assert!(!self.session.has_output());
        out.extend_from_slice(payload.unwrap_or_default());
        let frames = server_frames(&out);
        for frame in &frames {
            assert_eq!(self.last, None, "{frame:?} behind a close frame");
            if matches!(frame, ServerFrame::Close { .. }) {
                self.last = Some(frame.clone());
            }
        }
        frames
    }
}
