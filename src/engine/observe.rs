//! Observers, which get a record of each response after its last byte.

use std::time::{Duration, Instant};

use crate::http::head::Received;
use crate::http::origin::Client;
use crate::http::reject::Reject;

/// The status that is recorded where the client left or was closed as too slow before its response began. It is never sent.
pub const CLIENT_CLOSED: u16 = 499;

/// What is known of a request and its response when the last byte was sent, or when no more will be.
pub struct Record {
    /// The client, as the application sees it.
    pub client: Client,
    /// The request.
    pub request: Received,
    /// The final status; the client may have seen none if it left earlier. 0: the response did not begin.
    pub status: u16,
    /// Bytes of body content that were queued for the client, without framing.
    pub body_bytes: u64,
    /// When the request was complete, or was refused.
    pub started: Instant,
    /// From then to the last byte.
    pub took: Duration,
    /// Whether the response was sent whole.
    pub complete: bool,
    /// Why the response is the server's own, or was not sent whole.
    pub cause: Option<Cause>,
}

impl Record {
    /// One line on a response that is the server's own, or was not sent whole. Of the request it has the method and the path: a
    /// query may hold secrets.
    pub fn summary(&self, cause: Cause) -> String {
        let about = self.request.head().map(|head| format!(" to {}", head.method_and_path()));
        let (about, cut) = (about.unwrap_or_default(), if self.complete { "" } else { " cut" });
        let answer = match self.status {
            0 | CLIENT_CLOSED => "no response".to_owned(),
            status => format!("response {status}"),
        };
        format!("{answer}{about} for {}{cut}: {}", self.client, cause.text())
    }
}

/// Why a response is the server's own, or was not sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server refused the request.
    Refused(Reject),
    /// The server refused a WebSocket handshake, by the rules of RFC 6455.
    Handshake(&'static str),
    /// The application did not complete its response.
    Application,
    /// The client closed or reset the connection.
    ClientClosed,
    /// The client took nothing of its response for too long.
    WriteTimeout,
    /// The client was slow, and held what others needed.
    Evicted(Scarce),
    /// A file could not be read as far as was announced.
    File,
    /// The server stopped.
    Stopped,
}

impl Cause {
    /// What the logs say: in lower case, without bytes of the request.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Refused(reject) => reject.detail(),
            Self::Handshake(text) => text,
            Self::Application => "the application did not complete its response",
            Self::ClientClosed => "the client closed the connection",
            Self::WriteTimeout => "the client took nothing within write_timeout",
            Self::Evicted(scarce) => scarce.text(),
            Self::File => "a file could not be read as far as announced",
            Self::Stopped => "the server stopped",
        }
    }
}

/// A limited resource that slow clients hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// `max_connections`.
    Connections,
    /// `threads`.
    Threads,
    /// `max_spool_size`, and the number of temporary files.
    Spool,
}

impl Scarce {
    const fn text(self) -> &'static str {
        match self {
            Self::Connections => "closed for a new client, as no connection was free",
            Self::Threads => "closed for another request, as no thread was free",
            Self::Spool => "closed for another request, as the temporary files were at their bound",
        }
    }
}

/// Gets records, such as a log.
pub trait Observer: Send + Sync {
    /// Called once for each response, on whichever thread sent its last byte. Must not block.
    fn finished(&self, record: &Record);

    /// Reopens its file, which may have been moved.
    fn reopen(&self) {}

    /// Writes what is buffered. May block for a moment.
    fn flush(&self) {}

    /// Writes what is buffered and ends the observer's threads, at the end of its run. Drops the records that come later. May block
    /// for a moment.
    fn end(&self) {}
}

#[cfg(test)]
impl Record {
    /// The record of a response of five bytes to GET `path`, from a local client.
    pub(in crate::engine) fn sample(path: &str) -> Self {
        Self {
            client: Client::Local,
            request: Received::Head(crate::http::head::RequestHead::sample(&format!("GET {path} HTTP/1.1"), &[])),
            status: 200,
            body_bytes: 5,
            started: Instant::now(),
            took: Duration::ZERO,
            complete: true,
            cause: None,
        }
    }
}
