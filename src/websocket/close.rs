//! Close codes and reasons (RFC 6455 §5.5.1, §7.4).

/// The session has done what it was opened for.
pub const NORMAL: u16 = 1000;
/// The server is stopping.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Stands for a close frame without a code. Never sent.
pub const NO_STATUS: u16 = 1005;
/// Stands for a connection that ended without a close frame. Never sent.
pub const ABNORMAL: u16 = 1006;
/// A text message is not UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// The client exceeds a limit of the server's.
pub const POLICY_VIOLATION: u16 = 1008;
/// A message is larger than the limit.
pub const MESSAGE_TOO_BIG: u16 = 1009;
/// The application failed, or the client did not answer a ping.
pub const INTERNAL_ERROR: u16 = 1011;
/// Another process serves in place of this one; the client may connect again (IANA's registry of close codes).
pub const SERVICE_RESTART: u16 = 1012;
/// The server is short of memory; the client may connect again.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Longest reason: the payload of a control frame without the two bytes of the code.
pub const MAX_REASON_BYTES: usize = 123;

/// How a session ended, or is ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseStatus {
    /// The close code; [`NO_STATUS`] and [`ABNORMAL`] where no code was sent.
    pub code: u16,
    /// The reason, often empty.
    pub reason: String,
}

impl CloseStatus {
    /// A status with this reason.
    pub fn new(code: u16, reason: &str) -> Self {
        Self { code, reason: reason.to_owned() }
    }

    /// Of a connection that ended without a close frame.
    pub fn abnormal() -> Self {
        Self::new(ABNORMAL, "")
    }
}

/// Whether a close frame may carry this code: registered and not reserved, or in the ranges of libraries and applications.
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The payload of a close frame. A longer reason is truncated at a character boundary.
pub fn payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_unregistered_codes_are_not_sendable() {
        for code in [0, 999, 1004, NO_STATUS, ABNORMAL, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!is_sendable(code), "{code}");
        }
        for code in [
            NORMAL,
            GOING_AWAY,
            PROTOCOL_ERROR,
            1003,
            INVALID_DATA,
            MESSAGE_TOO_BIG,
            INTERNAL_ERROR,
            SERVICE_RESTART,
            3000,
            4999,
        ] {
            assert!(is_sendable(code), "{code}");
        }
    }

    #[test]
    fn long_reason_is_truncated_at_a_character() {
        assert_eq!(payload(1000, ""), [3, 232]);
        assert_eq!(payload(1000, "bye"), b"\x03\xe8bye");
        let truncated = payload(1000, &"\u{e9}".repeat(100));
        assert_eq!(truncated.len(), 2 + 122);
        assert!(std::str::from_utf8(&truncated[2..]).is_ok());
    }
}
