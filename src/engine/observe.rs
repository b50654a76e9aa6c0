//! Those who look on: fed after the last byte of each exchange, never in its way.

use std::time::{Duration, Instant};

use crate::http::head::RequestHead;
use crate::http::origin::Client;

/// What is known of an exchange when its last byte has left, or when it is known that no more will.
pub struct Record {
    /// Who asked, as the application sees it.
    pub client: Client,
    /// What was asked.
    pub request: RequestHead,
    /// The final status; the client may have seen none if it left earlier.
    pub status: u16,
    /// Bytes of body content that were queued for the client, without framing.
    pub body_bytes: u64,
    /// When the request was complete.
    pub started: Instant,
    /// From then to the last byte.
    pub took: Duration,
    /// Whether the response left whole.
    pub complete: bool,
}

/// Something that looks on.
pub trait Observer: Send + Sync {
    /// Called once for each exchange, on whichever thread sent its last byte. Must not block.
    fn finished(&self, record: &Record);

    /// Opens its file anew, which may have been moved away.
    fn reopen(&self) {}

    /// Brings what was told so far to where it belongs. May block for a moment.
    fn flush(&self) {}
}
