//! One WebSocket as a session with the application: the handshake, messages both ways, and how it ends. What the
//! client sends is read as far as the application takes it; pings are answered and asked without the application.

mod holding;
mod reading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytesMethods;

use self::holding::size;
use super::http::Http;
use super::message::{SendEvent, content, out_of_place};
use super::session::{Io, PollOutcome, ReceiveEvent, Session, WriteStall};
use super::socket_message::SocketSendEvent;
use crate::bindings::errors::client_disconnected;
use crate::engine::exchange::{Content, Exchange, Progress};
use crate::engine::options::Options;
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::transport::client_rate::ReceiveRate;
use crate::http::head::ResponseHead;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;
use crate::interface::outgoing;
use crate::websocket::close;
use crate::websocket::deflate::Deflater;
use crate::websocket::frame::{self, Opcode};
use crate::websocket::handshake::Handshake;
use crate::websocket::memory::{Memory, Share};
use crate::websocket::pulse::Pulse;
use crate::websocket::receive::{Event, Receiver};

/// How long the client has to answer our close frame.
const CLOSING: Duration = Duration::from_secs(10);

enum Stage {
    // The application has not decided.
    Connecting,
    Open,
    // Our close frame is sent, the client's is awaited until then.
    Closing(Instant),
    // A response is given instead.
    Denied(Box<Http>),
    Over,
}

/// The session.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each decided in another place")]
pub struct WebSocket {
    // Absent once nothing more is to be sent or read, and while a response is given instead.
    exchange: Option<Box<Exchange>>,
    // Counts the handshake as a request that waits for its answer.
    place: Option<AdmissionGuard>,
    stage: Stage,
    handshake: Handshake,
    queue_size: usize,
    receiver: Receiver,
    deflater: Option<Deflater>,
    // What was read and not yet looked at, because the application is behind.
    input: Vec<u8>,
    // Messages for the application.
    queue: VecDeque<Event>,
    // What they take.
    queued: usize,
    // That is too much: nothing is read until it has taken them.
    paused: bool,
    // What all of this takes of the memory for messages.
    share: Share,
    // Of the message that is awaited.
    rate: Option<ReceiveRate>,
    connect_told: bool,
    // The server is being stopped.
    stopping: bool,
    // How it ended, for the application.
    end: Option<(u16, String)>,
    // Why the server ended it, for the log.
    cut: Option<&'static str>,
    lost: bool,
    stall: WriteStall,
    // The socket may hold more than was read.
    more: bool,
    // An instant that has passed.
    began: Instant,
    pulse: Pulse,
}

impl WebSocket {
    /// The session that `exchange` asks for.
    pub fn new(
        exchange: Box<Exchange>,
        place: AdmissionGuard,
        handshake: Handshake,
        options: &Options,
        memory: &Arc<Memory>,
        now: Instant,
    ) -> Self {
        let options = &options.websocket;
        Self {
            exchange: Some(exchange),
            place: Some(place),
            stage: Stage::Connecting,
            receiver: Receiver::new(options.max_message, handshake.deflate),
            deflater: handshake.deflate.map(Deflater::new),
            handshake,
            queue_size: options.queue_size,
            input: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            paused: false,
            share: Share::of(memory),
            rate: None,
            connect_told: false,
            stopping: false,
            end: None,
            cut: None,
            lost: false,
            stall: WriteStall::default(),
            more: false,
            began: now,
            pulse: Pulse::new(options.ping_interval, options.ping_timeout, now),
        }
    }

    fn accept(&mut self, protocol: Option<&str>, mut head: ResponseHead, io: &mut Io<'_>) -> PyResult<()> {
        if !self.handshake.answer(&mut head, protocol) {
            let message = "websocket.accept: \"subprotocol\" must be one of those that the client speaks";
            return Err(PyValueError::new_err(message));
        }
        let exchange = self.exchange.as_deref_mut().ok_or_else(client_disconnected)?;
        self.input = exchange.upgrade(&head, io.clock);
        self.place = None;
        self.stage = Stage::Open;
        self.pulse.hear(io.now);
        self.more = true;
        if self.stopping {
            self.go_away(io.now);
        }
        Ok(())
    }

    fn go_away(&mut self, now: Instant) {
        self.close(close::GOING_AWAY, "the server is stopping", now);
    }

    // 403 is how a handshake is turned down (ASGI, "Close").
    fn turn_down(&mut self, io: &mut Io<'_>) {
        if let (Some(exchange), Ok(head)) = (self.exchange.as_deref_mut(), outgoing::status_code(403)) {
            exchange.begin(&head, BodySize::Known(0), io.clock);
            exchange.finish();
        }
        self.stage = Stage::Over;
        self.end.get_or_insert((close::ABNORMAL, String::new()));
    }

    fn put(&mut self, opcode: Opcode, payload: &[u8]) {
        if let Some(exchange) = self.exchange.as_deref_mut() {
            exchange.put(|out| frame::header(out, opcode, payload.len(), false), Some(Content::Borrowed(payload)));
        }
    }

    fn message(&mut self, opcode: Opcode, payload: Content<'_>, bytes: &[u8], io: &mut Io<'_>) {
        let Some(exchange) = self.exchange.as_deref_mut() else { return };
        match self.deflater.as_mut().and_then(|deflater| deflater.deflate(bytes, io.compressors)) {
            Some(small) => {
                let length = small.len();
                exchange.put(|out| frame::header(out, opcode, length, true), Some(Content::Owned(Box::new(small))));
            }
            None => exchange.put(|out| frame::header(out, opcode, bytes.len(), false), Some(payload)),
        }
    }

    // Says the last word: the client has until then to answer.
    fn close(&mut self, code: u16, reason: &str, now: Instant) {
        if matches!(self.stage, Stage::Open) {
            self.put(Opcode::Close, &close::payload(code, reason));
            self.stage = Stage::Closing(now + CLOSING);
            self.end.get_or_insert((code, reason.to_owned()));
            self.receiver.discard();
            // The client's last word may be behind what nobody takes any more.
            self.more = true;
        }
    }

    // Nothing more is event or heard; what is queued still leaves.
    fn conclude(&mut self) {
        if let Some(exchange) = self.exchange.as_deref_mut() {
            exchange.finish();
        }
        self.stage = Stage::Over;
    }

    fn is_full(&self) -> bool {
        matches!(self.stage, Stage::Open) && (self.paused || self.share.is_full())
    }

    fn can_read(&self) -> bool {
        self.can_take() && !self.is_full()
    }

    // Memory that is full keeps this from being read for a turn at most.
    fn can_take(&self) -> bool {
        let is_full = matches!(self.stage, Stage::Open) && self.paused;
        self.is_talking() && !is_full && self.exchange.as_ref().is_some_and(|exchange| !exchange.is_ahead())
    }

    fn is_talking(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Closing(_))
    }
}

impl Session for WebSocket {
    fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.stage {
            Stage::Denied(http) => http.exchange(),
            _ => self.exchange.as_deref_mut(),
        }
    }

    fn take_concluded(&mut self) -> Option<Box<Exchange>> {
        if let Stage::Denied(http) = &mut self.stage {
            return http.take_concluded();
        }
        let is_over = matches!(self.stage, Stage::Over)
            || self.exchange.as_ref().is_some_and(|exchange| exchange.progress() == Progress::Complete);
        if is_over || self.lost {
            self.place = None;
            self.exchange.take()
        } else {
            None
        }
    }

    fn release(&mut self) -> Option<Box<Exchange>> {
        (self.lost, self.place) = (true, None);
        self.end.get_or_insert((close::ABNORMAL, String::new()));
        let Stage::Denied(http) = &mut self.stage else { return self.exchange.take() };
        http.release()
    }

    fn was_interrupted(&self) -> bool {
        let is_denial_lost = matches!(&self.stage, Stage::Denied(http) if http.was_interrupted());
        self.end.is_some() || is_denial_lost
    }

    fn cut_short(&self) -> Option<&'static str> {
        match &self.stage {
            Stage::Denied(http) => http.cut_short(),
            Stage::Connecting if self.lost => Some("the client left before its WebSocket was accepted"),
            _ => self.cut,
        }
    }

    fn receive(&mut self, _: Python<'_>, io: &mut Io<'_>) -> PyResult<PollOutcome<ReceiveEvent>> {
        if !std::mem::replace(&mut self.connect_told, true) {
            return Ok(PollOutcome::Ready(ReceiveEvent::Connect));
        }
        if matches!(self.stage, Stage::Connecting) {
            // An end that came with the handshake is announced by no further event.
            self.advance(io);
        }
        if self.queue.is_empty() {
            self.paused = false;
            self.pump(io);
        }
        if let Some(event) = self.queue.pop_front() {
            self.queued -= size(&event);
            self.count(io.now);
            self.share.progress(io.now);
            io.spend(size(&event));
            return Ok(PollOutcome::Ready(ReceiveEvent::Received(event)));
        }
        if let Stage::Denied(http) = &self.stage {
            self.lost |= http.was_interrupted();
        }
        Ok(match &self.end {
            Some((code, reason)) => PollOutcome::Ready(ReceiveEvent::Closed(*code, reason.clone())),
            None if self.lost || self.exchange.is_none() => {
                PollOutcome::Ready(ReceiveEvent::Closed(close::ABNORMAL, String::new()))
            }
            None => PollOutcome::Pending(None),
        })
    }

    fn pause(&mut self, _: Instant) {}

    fn send(&mut self, event: SendEvent<'_>, io: &mut Io<'_>) -> PyResult<()> {
        let SendEvent::WebSocket(event) = event else {
            return Err(out_of_place("a response's message", "a WebSocket"));
        };
        match (&mut self.stage, event) {
            (Stage::Denied(http), SocketSendEvent::Denial(event)) => http.send(SendEvent::Http(event), io),
            (Stage::Denied(_), event) => Err(event.out_of_order("where a response was begun instead")),
            _ if self.lost => Err(client_disconnected()),
            (Stage::Connecting, SocketSendEvent::Accept { protocol, head }) => {
                self.accept(protocol.as_deref(), head, io)?;
                self.pump(io);
                Ok(())
            }
            (Stage::Connecting, SocketSendEvent::Close { .. }) => {
                self.turn_down(io);
                Ok(())
            }
            (Stage::Connecting, SocketSendEvent::Denial(event)) => {
                let (Some(exchange), Some(place)) = (self.exchange.take(), self.place.take()) else {
                    return Err(client_disconnected());
                };
                let mut http = Box::new(Http::new(exchange, place, io.now));
                if self.stopping {
                    http.stop(io);
                }
                let sent = http.send(SendEvent::Http(event), io);
                self.stage = Stage::Denied(http);
                sent
            }
            (Stage::Connecting, event) => Err(event.out_of_order("before websocket.accept")),
            (Stage::Open, SocketSendEvent::Text(text)) => {
                let bytes = text.to_str()?.as_bytes();
                self.message(Opcode::Text, Content::Borrowed(bytes), bytes, io);
                Ok(())
            }
            (Stage::Open, SocketSendEvent::Binary(bytes)) => {
                self.message(Opcode::Binary, content(&bytes), bytes.as_bytes(), io);
                Ok(())
            }
            (Stage::Open, SocketSendEvent::Close { code, reason }) => {
                self.close(code, &reason, io.now);
                self.pump(io);
                Ok(())
            }
            (Stage::Open, event) => Err(event.out_of_order("after websocket.accept")),
            // The specification wants an error of the system's kind once it is over.
            (Stage::Closing(_) | Stage::Over, _) => Err(client_disconnected()),
        }
    }

    fn drain(&mut self, io: &mut Io<'_>) -> PyResult<PollOutcome<()>> {
        if let Stage::Denied(http) = &mut self.stage {
            return http.drain(io);
        }
        let Some(exchange) = self.exchange.as_deref_mut() else { return Ok(PollOutcome::Ready(())) };
        self.stall.check(exchange, io).map_err(|()| {
            self.lose();
            client_disconnected()
        })
    }

    fn advance(&mut self, io: &mut Io<'_>) {
        match &mut self.stage {
            Stage::Denied(http) => return http.advance(io),
            Stage::Connecting => {
                // Nobody half-closes a WebSocket that is not open yet.
                if self.exchange.as_ref().is_some_and(|exchange| exchange.has_ended()) {
                    self.lose();
                }
                return;
            }
            Stage::Closing(end) if *end <= io.now => return self.conclude(),
            Stage::Open | Stage::Closing(_) | Stage::Over => {}
        }
        if self.exchange.as_ref().is_some_and(|exchange| exchange.has_failed()) {
            return self.lose();
        }
        self.pump(io);
        if matches!(self.stage, Stage::Open) && self.message_due().is_some_and(|due| due <= io.now) {
            let why = "a WebSocket's message came too slowly";
            self.cut(why, close::POLICY_VIOLATION, "the message came too slowly", io.now);
        }
        self.keep_alive(io.now);
    }

    fn due(&self) -> Option<Instant> {
        match self.stage {
            // More is to be read, and somebody to take it: at once.
            Stage::Open | Stage::Closing(_) if self.more && self.can_take() => Some(self.began),
            Stage::Closing(end) => Some(end),
            Stage::Open => [self.pulse.due(), self.message_due()].into_iter().flatten().min(),
            Stage::Connecting | Stage::Denied(_) | Stage::Over => None,
        }
    }

    fn head_due(&self) -> Option<Instant> {
        if let Stage::Denied(http) = &self.stage { http.head_due() } else { None }
    }

    fn stop(&mut self, io: &mut Io<'_>) {
        self.stopping = true;
        if let Stage::Denied(http) = &mut self.stage {
            http.stop(io);
        }
        self.go_away(io.now);
    }

    fn lose(&mut self) {
        if let Stage::Denied(http) = &mut self.stage {
            http.lose();
        }
        if let Some(exchange) = self.exchange.as_deref_mut() {
            // After a close frame of ours the client may just have gone.
            if matches!(self.stage, Stage::Closing(_)) {
                exchange.finish();
            } else {
                exchange.lose_client();
            }
        }
        self.lost = true;
        self.end.get_or_insert((close::ABNORMAL, String::new()));
    }

    fn returned(&mut self, io: &mut Io<'_>) -> Option<&'static str> {
        self.clear(io.now);
        match &mut self.stage {
            Stage::Denied(http) => http.returned(io),
            Stage::Connecting if !self.lost => {
                self.raised(io);
                Some("returned without accepting or closing the WebSocket")
            }
            _ => {
                self.close(close::NORMAL, "", io.now);
                None
            }
        }
    }

    fn raised(&mut self, io: &mut Io<'_>) {
        self.clear(io.now);
        match &mut self.stage {
            Stage::Denied(http) => http.raised(io),
            Stage::Connecting => {
                if let Some(exchange) = self.exchange.as_deref_mut() {
                    exchange.refuse(Reject::AppFailed, io.clock);
                }
                self.stage = Stage::Over;
            }
            _ => self.close(close::INTERNAL_ERROR, "", io.now),
        }
    }

    fn weight(&self, now: Instant) -> u128 {
        self.share.weight(now)
    }

    // What was not taken yet goes with it: a client that comes back sends it again.
    fn evict(&mut self, io: &mut Io<'_>) {
        self.cut("a WebSocket made room for others", close::TRY_AGAIN_LATER, "no memory for messages", io.now);
        self.clear(io.now);
    }
}
