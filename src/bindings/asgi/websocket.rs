//! One WebSocket as a session with the application: the order of ASGI's events, and the exchange. What happens between the accepted
//! handshake and the end is decided by [`WebSocketSession`]; here its bytes are read and sent.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytesMethods;

use super::http::Http;
use super::message::{content, out_of_place};
use super::receive_event::ReceiveEvent;
use super::send_event::SendEvent;
use super::session::{Io, PollOutcome, Session, WriteStall};
use super::websocket_send::WebSocketSendEvent;
use crate::bindings::errors::client_disconnected;
use crate::engine::clock::after;
use crate::engine::exchange::{Content, Exchange, Progress};
use crate::engine::options::Options;
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::transport::client_rate::{SLOW_CLIENT_GRACE, STEADY_BYTES_PER_SECOND};
use crate::http::head::ResponseHead;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;
use crate::interface::outgoing;
use crate::net::outcome::ReadOutcome;
use crate::websocket::close::{self, CloseStatus};
use crate::websocket::decoder::WebSocketMessage;
use crate::websocket::handshake::Handshake;
use crate::websocket::memory::MessageMemory;
use crate::websocket::session::{ForcedClose, StopClose, WebSocketConfig, WebSocketSession, WebSocketState};

/// What a session is made of when the handshake is accepted.
struct PendingHandshake {
    handshake: Handshake,
    config: WebSocketConfig,
    memory: Arc<MessageMemory>,
}

enum WebSocketStage {
    // The application has not answered the handshake.
    Connecting(Box<PendingHandshake>),
    Accepted(Box<WebSocketSession>),
    // The application answers with a response instead.
    Denied(Box<Http>),
    // The handshake is answered 403 or 500.
    Refused,
}

/// The session with the application.
pub struct WebSocket {
    // Absent once nothing more is to be sent or read, and while a response is given instead.
    exchange: Option<Box<Exchange>>,
    // Counts the handshake as a request that waits for its answer.
    admission: Option<AdmissionGuard>,
    stage: WebSocketStage,
    has_sent_connect: bool,
    // What part of a stop is left for answers to messages.
    answer_timeout: Duration,
    stop: Option<StopClose>,
    // The client left, or the exchange was taken away, outside of an accepted session.
    is_lost: bool,
    // Since when the client is slow with its message, as the transport knows it.
    slow_since: Option<Instant>,
    stall: WriteStall,
    // An instant that has passed.
    created: Instant,
}

/// The limits of sessions, from the operator's options.
fn config(options: &Options) -> WebSocketConfig {
    WebSocketConfig {
        max_message_bytes: options.websocket.max_message,
        queue_bytes: options.websocket.queue_size,
        message_timeout: options.body_timeout,
        message_min_bytes_per_second: options.body_min_rate,
        steady_bytes_per_second: STEADY_BYTES_PER_SECOND,
        slow_grace: SLOW_CLIENT_GRACE,
        ping_interval: options.websocket.ping_interval,
        ping_timeout: options.websocket.ping_timeout,
    }
}

impl WebSocket {
    /// The WebSocket that `exchange` asks for.
    pub fn new(
        exchange: Box<Exchange>,
        admission: AdmissionGuard,
        handshake: Handshake,
        options: &Options,
        memory: &Arc<MessageMemory>,
        now: Instant,
    ) -> Self {
        let pending = PendingHandshake { handshake, config: config(options), memory: Arc::clone(memory) };
        Self {
            exchange: Some(exchange),
            admission: Some(admission),
            stage: WebSocketStage::Connecting(Box::new(pending)),
            has_sent_connect: false,
            answer_timeout: options.graceful_timeout / 4,
            stop: None,
            is_lost: false,
            slow_since: None,
            stall: WriteStall::default(),
            created: now,
        }
    }

    fn accept(&mut self, protocol: Option<&str>, mut head: ResponseHead, io: &mut Io<'_>) -> PyResult<()> {
        let (WebSocketStage::Connecting(pending), Some(exchange)) = (&self.stage, self.exchange.as_deref_mut()) else {
            return Err(client_disconnected());
        };
        let PendingHandshake { handshake, config, memory } = &**pending;
        if !handshake.write_response(&mut head, protocol) {
            let message = "websocket.accept: \"subprotocol\" must be one that the client offers";
            return Err(PyValueError::new_err(message));
        }
        let received = exchange.upgrade(&head, io.clock);
        let mut session = WebSocketSession::new(config, handshake.deflate, memory, received, io.now);
        if let Some(stop) = self.stop {
            session.stop(stop, io.now);
        }
        self.admission = None;
        self.stage = WebSocketStage::Accepted(Box::new(session));
        self.pump(io);
        Ok(())
    }

    // Answers the handshake with 403 (ASGI, "Close").
    fn reject(&mut self, io: &mut Io<'_>) {
        if let (Some(exchange), Ok(head)) = (self.exchange.as_deref_mut(), outgoing::status_code(403)) {
            exchange.begin(&head, BodySize::Known(0), io.clock);
            exchange.finish();
        }
        self.stage = WebSocketStage::Refused;
    }

    fn deny(&mut self, event: SendEvent<'_>, io: &mut Io<'_>) -> PyResult<()> {
        let (Some(exchange), Some(admission)) = (self.exchange.take(), self.admission.take()) else {
            return Err(client_disconnected());
        };
        let mut http = Box::new(Http::new(exchange, admission, io.now));
        if let Some(stop) = self.stop {
            http.stop(stop.code == close::SERVICE_RESTART, io);
        }
        let sent = http.send(event, io);
        self.stage = WebSocketStage::Denied(http);
        sent
    }

    fn send_accepted(&mut self, event: &WebSocketSendEvent<'_>, io: &mut Io<'_>) -> PyResult<()> {
        let WebSocketStage::Accepted(session) = &mut self.stage else { return Err(client_disconnected()) };
        // ASGI wants an error of the system's kind once it is over.
        if session.state() != WebSocketState::Open {
            return Err(client_disconnected());
        }
        let (compressed, payload) = match event {
            WebSocketSendEvent::Text(text) => {
                let text = text.to_str()?;
                (session.send_text(text, io.compressors), Content::Borrowed(text.as_bytes()))
            }
            WebSocketSendEvent::Binary(bytes) => {
                (session.send_binary(bytes.as_bytes(), io.compressors), content(bytes))
            }
            WebSocketSendEvent::Close { code, reason } => {
                session.close(*code, reason, io.now);
                self.pump(io);
                return Ok(());
            }
            event => return Err(event.out_of_order("after websocket.accept")),
        };
        let payload = match compressed.map_err(|_| client_disconnected())? {
            Some(bytes) => Content::Owned(Box::new(bytes)),
            None => payload,
        };
        if let Some(exchange) = self.exchange.as_deref_mut() {
            exchange.put(|out| session.write_output(out), Some(payload));
        }
        Ok(())
    }

    // Reads as far as the session, the budget, and the client's own reading allow.
    fn pump(&mut self, io: &mut Io<'_>) {
        if let (WebSocketStage::Accepted(session), Some(exchange)) = (&mut self.stage, self.exchange.as_deref_mut()) {
            let is_drained = read(session, exchange, io);
            session.on_read_end(is_drained, io.now);
        }
        self.update_exchange();
    }

    // Makes the exchange what the session has come to.
    fn update_exchange(&mut self) {
        let (WebSocketStage::Accepted(session), Some(exchange)) = (&mut self.stage, self.exchange.as_deref_mut())
        else {
            return;
        };
        put_output(session, exchange);
        match session.state() {
            WebSocketState::Open | WebSocketState::Closing => {}
            WebSocketState::Finished => exchange.finish(),
            WebSocketState::Disconnected => {
                exchange.lose_client();
            }
        }
        let slow_since = session.slow_since();
        if slow_since != self.slow_since {
            exchange.set_receive_wait(slow_since);
            self.slow_since = slow_since;
        }
    }

    fn next_message(&mut self, io: &mut Io<'_>) -> Option<WebSocketMessage> {
        let WebSocketStage::Accepted(session) = &mut self.stage else { return None };
        if let Some(message) = session.next_message(io.now) {
            return Some(message);
        }
        self.pump(io);
        let WebSocketStage::Accepted(session) = &mut self.stage else { return None };
        let message = session.next_message(io.now);
        if message.is_none() {
            session.on_application_waiting(io.now);
            self.update_exchange();
        }
        message
    }

    // The application has come to its end.
    fn end_accepted(&mut self, code: u16, now: Instant) {
        if let WebSocketStage::Accepted(session) = &mut self.stage {
            session.on_application_end(code, now);
        }
        self.update_exchange();
    }

    // How it ended, as far as the application is concerned.
    fn close_status(&self) -> Option<CloseStatus> {
        match &self.stage {
            WebSocketStage::Accepted(session) => session.close_status().cloned(),
            WebSocketStage::Refused => Some(CloseStatus::abnormal()),
            WebSocketStage::Connecting(_) | WebSocketStage::Denied(_) => None,
        }
        .or_else(|| self.is_lost.then(CloseStatus::abnormal))
    }
}

fn put_output(session: &mut WebSocketSession, exchange: &mut Exchange) {
    if session.has_output() {
        exchange.put(|out| session.write_output(out), None);
    }
}

// Returns whether the socket has no more for now.
fn read(session: &mut WebSocketSession, exchange: &mut Exchange, io: &mut Io<'_>) -> bool {
    session.on_bytes(&[], io.now, &mut io.budget);
    // Answers to pings count, too: a client that does not read them is not read.
    put_output(session, exchange);
    while io.budget > 0 && session.wants_bytes() && !exchange.is_ahead() {
        match exchange.read(io.scratch) {
            Ok(ReadOutcome { count: 0, .. }) => session.on_disconnect(),
            Ok(ReadOutcome { count, is_drained }) => {
                session.on_bytes(&io.scratch[..count], io.now, &mut io.budget);
                put_output(session, exchange);
                // At its end the socket says so itself.
                if is_drained && !exchange.has_ended() {
                    return true;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(_) => session.on_disconnect(),
        }
    }
    false
}

impl Session for WebSocket {
    fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.stage {
            WebSocketStage::Denied(http) => http.exchange(),
            _ => self.exchange.as_deref_mut(),
        }
    }

    fn take_concluded(&mut self) -> Option<Box<Exchange>> {
        let is_over = match &mut self.stage {
            WebSocketStage::Denied(http) => return http.take_concluded(),
            WebSocketStage::Connecting(_) => false,
            WebSocketStage::Accepted(session) => {
                matches!(session.state(), WebSocketState::Finished | WebSocketState::Disconnected)
            }
            WebSocketStage::Refused => true,
        };
        let is_complete = self.exchange.as_ref().is_some_and(|exchange| exchange.progress() == Progress::Complete);
        if is_over || is_complete || self.is_lost {
            self.admission = None;
            self.exchange.take()
        } else {
            None
        }
    }

    fn release(&mut self) -> Option<Box<Exchange>> {
        (self.is_lost, self.admission) = (true, None);
        match &mut self.stage {
            WebSocketStage::Denied(http) => return http.release(),
            WebSocketStage::Accepted(session) => session.on_disconnect(),
            WebSocketStage::Connecting(_) | WebSocketStage::Refused => {}
        }
        self.exchange.take()
    }

    fn was_interrupted(&self) -> bool {
        let is_denial_lost = matches!(&self.stage, WebSocketStage::Denied(http) if http.was_interrupted());
        is_denial_lost || self.close_status().is_some()
    }

    fn cut_short(&self) -> Option<&'static str> {
        match &self.stage {
            WebSocketStage::Denied(http) => http.cut_short(),
            WebSocketStage::Connecting(_) if self.is_lost => Some("the client left before its WebSocket was accepted"),
            WebSocketStage::Accepted(session) => session.forced_close().map(ForcedClose::text),
            WebSocketStage::Connecting(_) | WebSocketStage::Refused => None,
        }
    }

    fn receive(&mut self, _: Python<'_>, io: &mut Io<'_>) -> PyResult<PollOutcome<ReceiveEvent>> {
        if !std::mem::replace(&mut self.has_sent_connect, true) {
            return Ok(PollOutcome::Ready(ReceiveEvent::Connect));
        }
        if matches!(self.stage, WebSocketStage::Connecting(_)) {
            // An end that came with the handshake is announced by no further event.
            self.advance(io);
        }
        if let Some(message) = self.next_message(io) {
            io.spend(message.memory_bytes());
            return Ok(PollOutcome::Ready(ReceiveEvent::Received(message)));
        }
        if let WebSocketStage::Denied(http) = &self.stage {
            self.is_lost |= http.was_interrupted();
        }
        Ok(match self.close_status() {
            Some(status) => PollOutcome::Ready(ReceiveEvent::Closed(status)),
            None if self.exchange.is_none() => PollOutcome::Ready(ReceiveEvent::Closed(CloseStatus::abnormal())),
            None => PollOutcome::Pending(None),
        })
    }

    fn pause(&mut self, _: Instant) {}

    fn send(&mut self, event: SendEvent<'_>, io: &mut Io<'_>) -> PyResult<()> {
        let SendEvent::WebSocket(event) = event else {
            return Err(out_of_place("a response's message", "a WebSocket"));
        };
        match (&mut self.stage, event) {
            (WebSocketStage::Denied(http), WebSocketSendEvent::Denial(event)) => http.send(SendEvent::Http(event), io),
            (WebSocketStage::Denied(_), event) => Err(event.out_of_order("where a response was begun instead")),
            (WebSocketStage::Accepted(_), event) => self.send_accepted(&event, io),
            _ if self.is_lost => Err(client_disconnected()),
            (WebSocketStage::Refused, _) => Err(client_disconnected()),
            (WebSocketStage::Connecting(_), WebSocketSendEvent::Accept { protocol, head }) => {
                self.accept(protocol.as_deref(), head, io)
            }
            (WebSocketStage::Connecting(_), WebSocketSendEvent::Close { .. }) => {
                self.reject(io);
                Ok(())
            }
            (WebSocketStage::Connecting(_), WebSocketSendEvent::Denial(event)) => self.deny(SendEvent::Http(event), io),
            (WebSocketStage::Connecting(_), event) => Err(event.out_of_order("before websocket.accept")),
        }
    }

    fn drain(&mut self, io: &mut Io<'_>) -> PyResult<PollOutcome<()>> {
        if let WebSocketStage::Denied(http) = &mut self.stage {
            return http.drain(io);
        }
        let Some(exchange) = self.exchange.as_deref_mut() else { return Ok(PollOutcome::Ready(())) };
        self.stall.check(exchange, io).map_err(|()| {
            self.lose();
            client_disconnected()
        })
    }

    fn advance(&mut self, io: &mut Io<'_>) {
        let exchange = self.exchange.as_deref();
        match &mut self.stage {
            WebSocketStage::Denied(http) => http.advance(io),
            // No client half-closes a WebSocket that is not open yet.
            WebSocketStage::Connecting(_) if exchange.is_some_and(Exchange::has_ended) => self.lose(),
            WebSocketStage::Accepted(_) if exchange.is_some_and(Exchange::has_failed) => self.lose(),
            WebSocketStage::Accepted(_) => {
                self.pump(io);
                if let WebSocketStage::Accepted(session) = &mut self.stage {
                    session.on_time(io.now);
                }
                self.update_exchange();
            }
            WebSocketStage::Connecting(_) | WebSocketStage::Refused => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        let WebSocketStage::Accepted(session) = &self.stage else { return None };
        let can_read = session.has_unread() && self.exchange.as_ref().is_some_and(|exchange| !exchange.is_ahead());
        if can_read { Some(self.created) } else { session.deadline() }
    }

    fn head_due(&self) -> Option<Instant> {
        if let WebSocketStage::Denied(http) = &self.stage { http.head_due() } else { None }
    }

    fn stop(&mut self, is_restart: bool, io: &mut Io<'_>) {
        let (code, reason) = if is_restart {
            (close::SERVICE_RESTART, "the server is restarting")
        } else {
            (close::GOING_AWAY, "the server is stopping")
        };
        let stop = StopClose { code, reason, until: after(io.now, self.answer_timeout) };
        self.stop = Some(stop);
        // What the client has sent before it hears of the stop is answered.
        self.pump(io);
        match &mut self.stage {
            WebSocketStage::Denied(http) => http.stop(is_restart, io),
            WebSocketStage::Accepted(session) => session.stop(stop, io.now),
            WebSocketStage::Connecting(_) | WebSocketStage::Refused => {}
        }
        self.update_exchange();
    }

    fn lose(&mut self) {
        match &mut self.stage {
            WebSocketStage::Denied(http) => http.lose(),
            WebSocketStage::Accepted(session) => session.on_disconnect(),
            WebSocketStage::Connecting(_) | WebSocketStage::Refused => {
                if let Some(exchange) = self.exchange.as_deref_mut() {
                    exchange.lose_client();
                }
            }
        }
        self.is_lost = true;
        self.update_exchange();
    }

    fn returned(&mut self, io: &mut Io<'_>) -> Option<&'static str> {
        match &mut self.stage {
            WebSocketStage::Denied(http) => http.returned(io),
            WebSocketStage::Connecting(_) if !self.is_lost => {
                self.raised(io);
                Some("returned without accepting or closing the WebSocket")
            }
            WebSocketStage::Accepted(_) => {
                self.end_accepted(close::NORMAL, io.now);
                None
            }
            WebSocketStage::Connecting(_) | WebSocketStage::Refused => None,
        }
    }

    fn raised(&mut self, io: &mut Io<'_>) {
        match &mut self.stage {
            WebSocketStage::Denied(http) => http.raised(io),
            WebSocketStage::Connecting(_) => {
                if let Some(exchange) = self.exchange.as_deref_mut() {
                    exchange.refuse(Reject::AppFailed, io.clock);
                }
                self.stage = WebSocketStage::Refused;
            }
            WebSocketStage::Accepted(_) => self.end_accepted(close::INTERNAL_ERROR, io.now),
            WebSocketStage::Refused => {}
        }
    }

    fn eviction_weight(&self, now: Instant) -> u128 {
        if let WebSocketStage::Accepted(session) = &self.stage { session.eviction_weight(now) } else { 0 }
    }

    fn evict(&mut self, io: &mut Io<'_>) {
        if let WebSocketStage::Accepted(session) = &mut self.stage {
            session.evict(io.now);
        }
        self.update_exchange();
    }
}
