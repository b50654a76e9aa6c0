//! What comes from a WebSocket's client: read, taken apart, answered where the application has no part in it.

use std::io;
use std::time::Instant;

use super::holding::size;
use super::{Stage, WebSocket};
use crate::bindings::asgi::session::{Io, Session};
use crate::engine::transport::client_rate::ReceiveRate;
use crate::net::outcome::ReadOutcome;
use crate::websocket::close;
use crate::websocket::frame::Opcode;
use crate::websocket::pulse::Beat;
use crate::websocket::receive::Event;

impl WebSocket {
    // Reads as far as the application takes it, the client takes what is answered, and others have their turn.
    pub(super) fn pump(&mut self, io: &mut Io<'_>) {
        let count = self.read(io);
        self.count(io.now);
        self.note_rate(count, io.now);
    }

    // Notes how quickly the client completes a message that it has begun. It answers for no time but that in which there is
    // nothing to be read.
    fn note_rate(&mut self, count: usize, now: Instant) {
        let Some(exchange) = self.exchange.as_deref() else { return };
        if self.receiver.is_inside() && !self.more {
            let rate = self.rate.get_or_insert_with(|| ReceiveRate::new(now));
            rate.note(count, now, exchange.options());
            exchange.set_receive_wait(Some(rate.slow_since()));
        } else if self.rate.take().is_some() {
            exchange.set_receive_wait(None);
        }
    }

    // By when more of a message that has begun must come.
    pub(super) fn message_due(&self) -> Option<Instant> {
        Some(self.rate?.deadline(self.exchange.as_deref()?.options()))
    }

    // Returns how many bytes have come.
    fn read(&mut self, io: &mut Io<'_>) -> usize {
        let mut total = 0;
        loop {
            let input = std::mem::take(&mut self.input);
            self.hear(&input, io.now, &mut io.budget);
            if io.budget == 0 || !self.can_read() {
                // No event will say so again.
                self.more = true;
                return total;
            }
            let Some(exchange) = self.exchange.as_deref_mut() else { return total };
            match exchange.read(io.scratch) {
                Ok(ReadOutcome { count: 0, .. }) => {
                    self.lose();
                    return total;
                }
                Ok(ReadOutcome { count, is_drained }) => {
                    total += count;
                    // At its end the socket says so itself.
                    self.more = !is_drained || exchange.has_ended();
                    self.hear(&io.scratch[..count], io.now, &mut io.budget);
                    if !self.more {
                        return total;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.more = false;
                    return total;
                }
                Err(_) => {
                    self.lose();
                    return total;
                }
            }
        }
    }

    fn hear(&mut self, mut bytes: &[u8], now: Instant, budget: &mut usize) {
        while (!bytes.is_empty() || self.receiver.is_expanding()) && self.is_talking() {
            self.pulse.hear(now);
            if *budget == 0 || self.is_full() {
                // In front of what may be there already: nothing is read while something is left.
                self.input.extend_from_slice(bytes);
                self.more = true;
                return;
            }
            match self.receiver.take(bytes, budget) {
                Ok((used, event)) => {
                    bytes = &bytes[used..];
                    if let Some(event) = event {
                        self.note(event, now);
                    }
                }
                Err(failure) => {
                    self.close(failure.code(), failure.reason(), now);
                    return self.conclude();
                }
            }
        }
    }

    fn note(&mut self, event: Event, now: Instant) {
        let is_open = matches!(self.stage, Stage::Open);
        match event {
            Event::Text(_) | Event::Binary(_) if is_open => {
                self.queued += size(&event);
                self.queue.push_back(event);
                self.paused |= self.queued >= self.queue_size;
                // The next message begins with a time of its own.
                if let Some(rate) = &mut self.rate {
                    *rate = ReceiveRate::new(now);
                }
            }
            Event::Ping(payload) if is_open => self.put(Opcode::Pong, &payload),
            Event::Close { code, reason } => {
                if is_open {
                    // The same code, or none (RFC 6455 §5.5.1).
                    let echo = if code == close::NONE { Vec::new() } else { close::payload(code, "") };
                    self.put(Opcode::Close, &echo);
                    self.end.get_or_insert((code, reason));
                }
                self.conclude();
            }
            // What comes behind our last word is of no interest.
            Event::Text(_) | Event::Binary(_) | Event::Ping(_) | Event::Pong => {}
        }
    }

    // The client is asked whether it is there, or given up if it did not answer.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        if self.is_full() {
            // Its answer may be behind what the application does not take.
            self.pulse.hear(now);
        }
        match self.pulse.beat(now) {
            Beat::Quiet => {}
            Beat::Ping => self.put(Opcode::Ping, b""),
            Beat::Dead => {
                self.close(close::INTERNAL_ERROR, "no answer to a ping", now);
                self.conclude();
            }
        }
    }
}
