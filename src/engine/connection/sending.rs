//! A response on its way from the transport's output to the client, and the record that the observers get of it.

use std::io;
use std::time::Instant;

use crate::engine::observe::Record;
use crate::engine::transport::Transport;
use crate::engine::transport::client_rate::TransferRate;
use crate::engine::transport::output::Flushed;

/// What is known of the response that leaves.
pub(in crate::engine) struct Sending {
    // Bytes that the transport had sent when this was last looked at.
    sent: u64,
    /// How quickly the client takes it.
    pub rate: TransferRate,
    // Bytes of the application's were let go.
    has_released: bool,
    /// The end of the connection is the end of the response.
    pub is_until_close: bool,
    /// For the observers, until they were told.
    pub record: Option<Box<Record>>,
}

impl Sending {
    pub fn new(now: Instant) -> Self {
        Self { sent: 0, rate: TransferRate::new(now), has_released: false, is_until_close: false, record: None }
    }

    /// A response is queued at `now`.
    pub fn begin(&mut self, is_until_close: bool, now: Instant) {
        self.is_until_close = is_until_close;
        self.rate = TransferRate::new(now);
    }

    /// Gives the socket what it takes. Says whether any byte was sent since this was last asked.
    pub fn flush(&mut self, transport: &Transport, now: Instant) -> (io::Result<Flushed>, bool) {
        let mut output = transport.output();
        let flushed = output.flush(transport.stream());
        self.has_released |= output.take_released();
        let moved = output.sent() != self.sent;
        if moved {
            self.rate.note(output.sent() - self.sent, now);
            self.sent = output.sent();
        }
        (flushed, moved)
    }

    /// Whether bytes of the application's were let go since this was last asked.
    pub fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.has_released)
    }
}
