//! What the calls on a connected stream come to, whatever the stream is made of.

use std::io;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Bytes that were read; 0 is the end of the stream.
    pub count: usize,
    /// Another read brings nothing until the socket's next change: the kernel has no more, and neither has a record layer.
    pub is_drained: bool,
}

/// What a look at the socket tells about the client, without taking a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing says that the client has gone.
    Here,
    /// The client has closed its sending side: it went away, or it half-closed and still reads; the two look alike.
    Ended,
    /// The connection was reset.
    Gone,
}

/// Why no byte of a file was sent.
#[derive(Debug)]
pub enum SendFileError {
    /// The connection: it takes no more for now (`WouldBlock`), or never again.
    Stream(io::Error),
    /// The file: it cannot be read.
    File(io::Error),
}

/// What is spoken on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2, chosen by ALPN (RFC 7301, RFC 9113 §3.2).
    Http2,
}
