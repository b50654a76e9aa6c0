//! One open WebSocket, from the accepted handshake to its end, without I/O.
//!
//! ```text
//! bytes of the client ---> on_bytes, on_read_end ---> next_message ---> application
//! clock                -> on_time
//! application          -> send_text, send_binary, close ---> write_output ---> bytes for the client
//! ```
//!
//! After any call the owner sends what [`WebSocketSession::write_output`] has, looks at [`WebSocketSession::state`], and calls
//! [`WebSocketSession::on_time`] again at [`WebSocketSession::deadline`].
//!
//! 1. Control frames and messages leave in the order of the calls; a close frame is the last one.
//! 2. Pings are answered, and sent after a silence. A client that leaves a ping unanswered is given up.
//! 3. Reading pauses while the application has enough messages to take, or while the memory of all sessions is full. A client is
//!    not accountable for the time in which the server does not read.
//! 4. A client that begins a message completes it: in pieces that come quickly enough, or it is closed with 1008.
//! 5. A close frame is answered by one with the same code. After one of the server's own the client has [`CLOSE_TIMEOUT`].
//! 6. A server that stops closes a session once the application has answered every message that has arrived.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::close::{self, CloseStatus};
use super::decoder::{DecodedEvent, MessageDecoder, WebSocketMessage};
use super::deflate::{CompressorPool, DeflateParameters, Deflater};
use super::frame::{self, Opcode};
use super::memory::{MessageMemory, MessageReservation};
use super::ping::{PingAction, PingTimer};
use super::progress::ProgressTimer;

/// How long the client has to answer the server's close frame.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The output buffer's capacity that an idle session keeps.
const KEPT_OUTPUT_BYTES: usize = 256;

/// Limits of a session.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketConfig {
    /// The largest message from the client.
    pub max_message_bytes: usize,
    /// Reading pauses when this much waits for the application.
    pub queue_bytes: usize,
    /// The longest silence within a message.
    pub message_timeout: Duration,
    /// Bytes a second that an unfinished message must bring; 0 asks for none.
    pub message_min_bytes_per_second: u64,
    /// Below this rate within a message, the client is slow ([`WebSocketSession::slow_since`]).
    pub steady_bytes_per_second: u64,
    /// How long it may be slow before others may have its connection.
    pub slow_grace: Duration,
    /// The silence after which the client is pinged; zero for no pings.
    pub ping_interval: Duration,
    /// The longest wait for the answer to a ping.
    pub ping_timeout: Duration,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketState {
    /// Messages go both ways.
    Open,
    /// The server's close frame is written, and the client's is awaited.
    Closing,
    /// It is over; output that was written is still to be sent.
    Finished,
    /// The client has left without a close frame.
    Disconnected,
}

/// Why the server closed a session that neither side had closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedClose {
    /// A message did not come quickly enough.
    SlowMessage,
    /// The memory of all sessions was full.
    OutOfMemory,
}

impl ForcedClose {
    /// The text for the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::SlowMessage => "a WebSocket's message came too slowly",
            Self::OutOfMemory => "a WebSocket made room for others",
        }
    }

    const fn close(self) -> (u16, &'static str) {
        match self {
            Self::SlowMessage => (close::POLICY_VIOLATION, "the message came too slowly"),
            // The client did nothing wrong, and may connect again.
            Self::OutOfMemory => (close::TRY_AGAIN_LATER, "no memory for messages"),
        }
    }
}

/// How a session is closed because the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopClose {
    /// The status of the Close frame.
    pub code: u16,
    /// Its text.
    pub reason: &'static str,
    /// How long messages may be answered before.
    pub until: Instant,
}

/// Nothing can be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionClosed;

/// One open WebSocket.
pub struct WebSocketSession {
    state: WebSocketState,
    // When the wait for the client's close frame ends.
    close_deadline: Option<Instant>,
    close_status: Option<CloseStatus>,
    forced_close: Option<ForcedClose>,
    stop: Option<StopClose>,
    // The application has a message and has not asked for the next one since.
    is_answering: bool,
    decoder: MessageDecoder,
    deflater: Option<Deflater>,
    // Received and not decoded yet.
    backlog: Vec<u8>,
    // The client has nothing more to be read, here or in the socket.
    is_drained: bool,
    // Received since the last `on_read_end`.
    received_bytes: usize,
    // Messages for the application, and what they take.
    queue: VecDeque<WebSocketMessage>,
    queued_bytes: usize,
    max_queued_bytes: usize,
    // Until the application has taken all of them.
    is_queue_full: bool,
    reservation: MessageReservation,
    message_timer: ProgressTimer,
    steady_timer: ProgressTimer,
    ping_timer: PingTimer,
    output: Vec<u8>,
}

impl WebSocketSession {
    /// A session that opens at `now`. `received` is what the client has sent behind its handshake; `compression` what was
    /// negotiated.
    pub fn new(
        config: &WebSocketConfig,
        compression: Option<DeflateParameters>,
        memory: &Arc<MessageMemory>,
        received: Vec<u8>,
        now: Instant,
    ) -> Self {
        Self {
            state: WebSocketState::Open,
            close_deadline: None,
            close_status: None,
            forced_close: None,
            stop: None,
            is_answering: false,
            decoder: MessageDecoder::new(config.max_message_bytes, compression),
            deflater: compression.map(Deflater::new),
            backlog: received,
            is_drained: false,
            received_bytes: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            max_queued_bytes: config.queue_bytes,
            is_queue_full: false,
            reservation: MessageReservation::new(memory),
            message_timer: ProgressTimer::new(config.message_timeout, config.message_min_bytes_per_second),
            steady_timer: ProgressTimer::new(config.slow_grace, config.steady_bytes_per_second),
            ping_timer: PingTimer::new(config.ping_interval, config.ping_timeout, now),
            output: Vec::new(),
        }
    }

    /// How far it has come.
    pub fn state(&self) -> WebSocketState {
        self.state
    }

    /// How it ended or is ending; `None` while it is open.
    pub fn close_status(&self) -> Option<&CloseStatus> {
        self.close_status.as_ref()
    }

    /// Why the server closed it of its own accord.
    pub fn forced_close(&self) -> Option<ForcedClose> {
        self.forced_close
    }

    /// Decodes what was left over and then `bytes`, as far as `budget` allows, which falls by the work that is done. What is not
    /// decoded is kept for the next call, which may bring no bytes.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Instant, budget: &mut usize) {
        self.received_bytes += bytes.len();
        if self.backlog.is_empty() {
            let used = self.decode(bytes, now, budget);
            self.backlog.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.extend_from_slice(bytes);
        let used = self.decode(&backlog, now, budget);
        if used < backlog.len() {
            backlog.drain(..used);
            self.backlog = backlog;
        }
    }

    /// Reading has stopped for now. `is_drained`: the socket has no more; otherwise the server chose to stop, and the client is
    /// not accountable for the time.
    pub fn on_read_end(&mut self, is_drained: bool, now: Instant) {
        self.is_drained = is_drained && !self.has_backlog();
        self.update_memory(now);
        let received = std::mem::take(&mut self.received_bytes);
        if self.is_drained && self.state == WebSocketState::Open && self.decoder.is_unfinished() {
            self.message_timer.on_bytes(received, now);
            self.steady_timer.on_bytes(received, now);
        } else {
            self.stop_message_timers();
        }
    }

    /// The connection has ended, or nothing that is sent reaches the client.
    pub fn on_disconnect(&mut self) {
        match self.state {
            WebSocketState::Open => {
                self.state = WebSocketState::Disconnected;
                self.close_status.get_or_insert_with(CloseStatus::abnormal);
            }
            // After the server's close frame the client may leave.
            WebSocketState::Closing => self.finish(),
            WebSocketState::Finished | WebSocketState::Disconnected => {}
        }
    }

    /// Does what is due at `now`.
    pub fn on_time(&mut self, now: Instant) {
        if self.state == WebSocketState::Closing && self.close_deadline.is_some_and(|deadline| deadline <= now) {
            self.finish();
        }
        if self.state != WebSocketState::Open {
            return;
        }
        if self.message_timer.is_expired(now) {
            return self.force_close(ForcedClose::SlowMessage, now);
        }
        if self.stop.is_some_and(|stop| stop.until <= now) {
            return self.close_if_answered(now);
        }
        if self.is_paused() {
            // The client's answer may be behind messages that the application does not take.
            self.ping_timer.on_bytes(now);
        }
        match self.ping_timer.poll(now) {
            PingAction::Wait => {}
            PingAction::SendPing => self.write_control(Opcode::Ping, b""),
            PingAction::TimedOut => {
                self.close(close::INTERNAL_ERROR, "no answer to a ping", now);
                self.finish();
            }
        }
    }

    /// When [`WebSocketSession::on_time`] is to be called, if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            WebSocketState::Open => {
                let stop = self.stop.map(|stop| stop.until);
                [self.ping_timer.deadline(), self.message_timer.deadline(), stop].into_iter().flatten().min()
            }
            WebSocketState::Closing => self.close_deadline,
            WebSocketState::Finished | WebSocketState::Disconnected => None,
        }
    }

    /// Whether bytes are to be read: no message waits in their way.
    pub fn wants_bytes(&self) -> bool {
        self.is_active() && !self.is_paused() && !self.has_backlog()
    }

    /// Whether there may be something to read or to decode, and the application takes it: reading is to go on soon. Memory that
    /// is full does not count, because it is freed soon, if need be by eviction.
    pub fn has_unread(&self) -> bool {
        self.is_active() && !self.is_drained && !(self.state == WebSocketState::Open && self.is_queue_full)
    }

    /// Since when the client is slow with a message that it has begun: silent, or below the steady rate. `None` if it has not
    /// begun one, or the server does not read it.
    pub fn slow_since(&self) -> Option<Instant> {
        if self.state == WebSocketState::Open { self.steady_timer.slow_since() } else { None }
    }

    /// The next message for the application. `None`: there is none, and reading may go on.
    pub fn next_message(&mut self, now: Instant) -> Option<WebSocketMessage> {
        let Some(message) = self.queue.pop_front() else {
            self.is_queue_full = false;
            return None;
        };
        self.queued_bytes -= message.memory_bytes();
        self.update_memory(now);
        self.reservation.on_message_taken(now);
        self.is_answering = true;
        Some(message)
    }

    /// The application waits for a message, and there is none.
    pub fn on_application_waiting(&mut self, now: Instant) {
        self.is_answering = false;
        self.close_if_answered(now);
    }

    /// The server stops: closes the session once every message that has arrived is answered, which is when the application
    /// waits for the next one. An application that never does holds it up until `close.until`.
    pub fn stop(&mut self, close: StopClose, now: Instant) {
        self.stop = Some(close);
        self.close_if_answered(now);
    }

    fn close_if_answered(&mut self, now: Instant) {
        let Some(stop) = self.stop else { return };
        let is_answered =
            !(self.is_answering || self.has_backlog() || self.decoder.is_unfinished()) && self.queue.is_empty();
        if is_answered || stop.until <= now {
            self.close(stop.code, stop.reason, now);
        }
    }

    /// Writes the header of a text message. Its payload follows the output: what is returned, which is compressed, or else
    /// `text` itself.
    pub fn send_text(&mut self, text: &str, pool: &mut CompressorPool) -> Result<Option<Vec<u8>>, SessionClosed> {
        self.send(Opcode::Text, text.as_bytes(), pool)
    }

    /// The same for a binary message.
    pub fn send_binary(&mut self, bytes: &[u8], pool: &mut CompressorPool) -> Result<Option<Vec<u8>>, SessionClosed> {
        self.send(Opcode::Binary, bytes, pool)
    }

    /// Closes an open session: writes a close frame, and waits for the client's.
    pub fn close(&mut self, code: u16, reason: &str, now: Instant) {
        if self.state != WebSocketState::Open {
            return;
        }
        self.write_control(Opcode::Close, &close::payload(code, reason));
        self.state = WebSocketState::Closing;
        self.close_deadline = Some(now + CLOSE_TIMEOUT);
        self.close_status.get_or_insert_with(|| CloseStatus::new(code, reason));
        self.decoder.discard_messages();
        self.stop_message_timers();
    }

    /// The application has ended: it takes nothing any more, and the session closes.
    pub fn on_application_end(&mut self, code: u16, now: Instant) {
        self.close(code, "", now);
        self.discard_messages(now);
    }

    /// Closes it to free memory, with everything that waits for the application.
    pub fn evict(&mut self, now: Instant) {
        self.force_close(ForcedClose::OutOfMemory, now);
        self.discard_messages(now);
    }

    /// What it takes of the memory of all sessions, in bytes times milliseconds.
    pub fn eviction_weight(&self, now: Instant) -> u128 {
        self.reservation.eviction_weight(now)
    }

    /// Whether there is output.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Moves the output to `out`.
    pub fn write_output(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.output);
        self.output.clear();
        if self.output.capacity() > KEPT_OUTPUT_BYTES {
            self.output = Vec::new();
        }
    }

    fn discard_messages(&mut self, now: Instant) {
        self.decoder.discard_messages();
        (self.queue, self.queued_bytes) = (VecDeque::new(), 0);
        self.update_memory(now);
    }

    fn is_active(&self) -> bool {
        matches!(self.state, WebSocketState::Open | WebSocketState::Closing)
    }

    fn is_paused(&self) -> bool {
        self.state == WebSocketState::Open && (self.is_queue_full || self.reservation.is_memory_full())
    }

    fn has_backlog(&self) -> bool {
        !self.backlog.is_empty() || self.decoder.is_expanding()
    }

    // Returns how much is not to be kept.
    fn decode(&mut self, bytes: &[u8], now: Instant, budget: &mut usize) -> usize {
        let mut used = 0;
        while used < bytes.len() || self.decoder.is_expanding() {
            if !self.is_active() {
                return bytes.len();
            }
            self.ping_timer.on_bytes(now);
            if *budget == 0 || self.is_paused() {
                break;
            }
            match self.decoder.decode(&bytes[used..], budget) {
                Ok((count, incoming)) => {
                    used += count;
                    if let Some(incoming) = incoming {
                        self.on_incoming(incoming);
                    }
                }
                Err(error) => {
                    self.close(error.close_code(), error.reason(), now);
                    self.finish();
                }
            }
        }
        used
    }

    fn on_incoming(&mut self, incoming: DecodedEvent) {
        let is_open = self.state == WebSocketState::Open;
        match incoming {
            DecodedEvent::Message(message) if is_open => {
                self.queued_bytes += message.memory_bytes();
                self.queue.push_back(message);
                self.is_queue_full |= self.queued_bytes >= self.max_queued_bytes;
                // The next message has a time of its own.
                self.stop_message_timers();
            }
            DecodedEvent::Ping(payload) if is_open => self.write_control(Opcode::Pong, &payload),
            DecodedEvent::Close(status) => {
                if is_open {
                    // The same code, or none (RFC 6455 §5.5.1).
                    let payload =
                        if status.code == close::NO_STATUS { Vec::new() } else { close::payload(status.code, "") };
                    self.write_control(Opcode::Close, &payload);
                    self.close_status.get_or_insert(status);
                }
                self.finish();
            }
            // After the server's close frame only the client's counts.
            DecodedEvent::Message(_) | DecodedEvent::Ping(_) | DecodedEvent::Pong => {}
        }
    }

    fn send(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        pool: &mut CompressorPool,
    ) -> Result<Option<Vec<u8>>, SessionClosed> {
        if self.state != WebSocketState::Open {
            return Err(SessionClosed);
        }
        let compressed = self.deflater.as_mut().and_then(|deflater| deflater.deflate(payload, pool));
        let length = compressed.as_ref().map_or(payload.len(), Vec::len);
        frame::write_header(&mut self.output, opcode, length, compressed.is_some());
        Ok(compressed)
    }

    fn write_control(&mut self, opcode: Opcode, payload: &[u8]) {
        frame::write_header(&mut self.output, opcode, payload.len(), false);
        self.output.extend_from_slice(payload);
    }

    fn force_close(&mut self, cause: ForcedClose, now: Instant) {
        self.forced_close.get_or_insert(cause);
        let (code, reason) = cause.close();
        self.close(code, reason, now);
        self.finish();
    }

    fn finish(&mut self) {
        if self.is_active() {
            self.state = WebSocketState::Finished;
            self.stop_message_timers();
            self.backlog = Vec::new();
        }
    }

    fn stop_message_timers(&mut self) {
        self.message_timer.stop();
        self.steady_timer.stop();
    }

    // Messages that wait, the unfinished one, and what was not decoded. After a close frame the latter is only searched for the
    // client's, which the next read does.
    fn update_memory(&mut self, now: Instant) {
        let backlog = if self.state == WebSocketState::Open { self.backlog.capacity() } else { 0 };
        self.reservation.resize(self.queued_bytes + self.decoder.memory_bytes() + backlog, now);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
