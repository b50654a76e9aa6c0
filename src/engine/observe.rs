//! Those who look on: fed after the last byte of each exchange, never in its way.

use std::time::{Duration, Instant};

use crate::http::head::RequestHead;
use crate::http::origin::Client;

/// The status in the record of a request whose client left before its response began: no status of HTTP, but nginx's word
/// for it, which log readers know.
pub const CLIENT_LEFT: u16 = 499;

/// What is known of an exchange when its last byte has left, or when it is known that no more will.
pub struct Record {
    /// Who asked, as the application sees it.
    pub client: Client,
    /// What was asked.
    pub request: RequestHead,
    /// The final status, or [`CLIENT_LEFT`].
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

    /// Brings what was told so far to where it belongs. May block for a moment.
    fn flush(&self) {}
}
