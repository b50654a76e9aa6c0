//! What a WebSocket holds of its client's messages, and how it ends where that is too much or takes too long.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Stage, WebSocket};
use crate::websocket::receive::Event;

/// What a message that waits takes besides its bytes, about.
const MESSAGE: usize = 256;

// What a message takes while it waits.
pub(super) fn size(event: &Event) -> usize {
    let bytes = match event {
        Event::Text(text) => text.capacity(),
        Event::Binary(bytes) => bytes.capacity(),
        _ => 0,
    };
    bytes + MESSAGE
}

impl WebSocket {
    // What was received and nobody has taken.
    pub(super) fn count(&mut self, now: Instant) {
        // Backpressure our last word the input is only looked through.
        let input = if matches!(self.stage, Stage::Open) { self.input.len() } else { 0 };
        self.share.hold(self.queued + self.receiver.held() + input, now);
    }

    // The application takes nothing any more.
    pub(super) fn clear(&mut self, now: Instant) {
        self.receiver.discard();
        (self.queue, self.queued) = (VecDeque::new(), 0);
        self.count(now);
    }

    // The client, or the lack of memory, leaves no other way.
    pub(super) fn cut(&mut self, why: &'static str, code: u16, reason: &str, now: Instant) {
        self.cut.get_or_insert(why);
        self.close(code, reason, now);
        self.conclude();
    }
}
