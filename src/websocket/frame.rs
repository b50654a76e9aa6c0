//! Frame headers (RFC 6455 §5.2).

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// A request for a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    /// The opcode of these four bits; `None` for the reserved ones.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// Whether it is a control frame, which may stand between the frames of a message (§5.5).
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Appends the header of an unfragmented message, or of a control frame, from a server: never masked.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, length: usize, is_compressed: bool) {
    out.push(0x80 | if is_compressed { 0x40 } else { 0 } | opcode.bits());
    if let Some(short) = u8::try_from(length).ok().filter(|&length| length < 126) {
        out.push(short);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6455 §5.2: the length is written in as few bytes as it needs.
    #[test]
    fn header_has_the_shortest_length() {
        for (length, expected) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Binary, length, false);
            assert_eq!(out, expected, "{length}");
        }
        let mut out = Vec::new();
        write_header(&mut out, Opcode::Text, 1, true);
        assert_eq!(out, b"\xc1\x01");
    }

    #[test]
    fn opcodes_are_their_bits() {
        for bits in 0..=0xf {
            if let Some(opcode) = Opcode::from_bits(bits) {
                assert_eq!((opcode.bits(), opcode.is_control()), (bits, bits >= 8));
            }
        }
        assert_eq!((0..=0xf).filter_map(Opcode::from_bits).count(), 6);
    }
}
