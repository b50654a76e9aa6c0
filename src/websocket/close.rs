//! How a conversation ends: close codes and reasons (RFC 6455 §5.5.1, §7.4).

/// What it was for is done.
pub const NORMAL: u16 = 1000;
/// The server stops.
pub const GOING_AWAY: u16 = 1001;
/// The other side broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// A close frame named no code. Never on the wire.
pub const NONE: u16 = 1005;
/// The connection broke. Never on the wire.
pub const ABNORMAL: u16 = 1006;
/// Text that is no UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// A client that does what a limit forbids.
pub const POLICY_VIOLATION: u16 = 1008;
/// A message over its limit.
pub const TOO_BIG: u16 = 1009;
/// The application failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server has no room for the moment: the client did nothing wrong, and may come back.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Bytes of a reason at most: a control frame has 125, the code takes two.
pub const LONGEST_REASON: usize = 123;

/// Whether a close frame may carry this code: registered and not reserved, or one of the libraries' and applications'.
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The payload of a close frame. A reason that is too long is cut at a character.
pub fn payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(LONGEST_REASON);
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
    fn codes_that_speak_of_the_connection_are_never_sent() {
        for code in [0, 999, 1004, NONE, ABNORMAL, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!may_be_sent(code), "{code}");
        }
        for code in [NORMAL, GOING_AWAY, PROTOCOL_ERROR, 1003, INVALID_DATA, TOO_BIG, INTERNAL_ERROR, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }

    #[test]
    fn reason_is_cut_at_a_character() {
        assert_eq!(payload(1000, ""), [3, 232]);
        assert_eq!(payload(1000, "bye"), b"\x03\xe8bye");
        let cut = payload(1000, &"\u{e9}".repeat(100));
        assert_eq!(cut.len(), 2 + 122);
        assert!(std::str::from_utf8(&cut[2..]).is_ok());
    }
}
