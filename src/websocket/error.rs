//! What a client can do wrong, and the close frame that tells it (RFC 6455 §7.4.1).

use super::close;

/// A client's violation of the protocol or of a limit. It ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketError {
    /// A rule of RFC 6455 or RFC 7692 is broken; the text says which.
    Protocol(&'static str),
    /// A text message or a close reason is not UTF-8.
    InvalidUtf8,
    /// A message is larger than the limit.
    MessageTooBig,
}

impl WebSocketError {
    /// The close code for it.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => close::PROTOCOL_ERROR,
            Self::InvalidUtf8 => close::INVALID_DATA,
            Self::MessageTooBig => close::MESSAGE_TOO_BIG,
        }
    }

    /// The reason in the close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol(reason) => reason,
            Self::InvalidUtf8 => "text must be UTF-8",
            Self::MessageTooBig => "the message is too big",
        }
    }
}
