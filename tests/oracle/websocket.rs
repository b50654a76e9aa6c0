//! Both directions of a WebSocket by the letter of RFC 6455, read by someone who has all of the bytes.

use wsgi_core::websocket::close::CloseStatus;

/// What a client's bytes mean.
#[derive(Debug)]
pub struct ClientEvents {
    /// Each message: whether it is text, and its content.
    pub messages: Vec<(bool, Vec<u8>)>,
    pub pings: Vec<Vec<u8>>,
    pub end: ClientEnd,
}

/// How they end.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// More may come.
    Open { is_unfinished: bool },
    /// By a close frame.
    Closed(CloseStatus),
    /// By something wrong, for which this is the code.
    Wrong(u16),
    /// A compressed message is not read here, nor what follows.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    Message { is_text: bool, is_compressed: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close { code: Option<u16>, reason: String },
}

// §5.2
#[expect(clippy::struct_excessive_bools, reason = "the bits of a header")]
struct Header {
    is_last: bool,
    // The first reserved bit says that a message is compressed (RFC 7692 §6); the others have no meaning.
    is_compressed: bool,
    has_unknown_bits: bool,
    opcode: u8,
    is_masked: bool,
    mask: [u8; 4],
    length: u64,
    is_shortest: bool,
    size: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (extended, least) = match second & 0x7f {
            126 => (2, 126),
            127 => (8, 65_536),
            _ => (0, 0),
        };
        let number = bytes.get(2..2 + extended)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let length = if extended == 0 { u64::from(second & 0x7f) } else { number };
        let is_masked = second & 0x80 != 0;
        let size = 2 + extended + if is_masked { 4 } else { 0 };
        let mut mask = [0; 4];
        if is_masked {
            mask.copy_from_slice(bytes.get(size - 4..size)?);
        }
        Some(Self {
            is_last: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            has_unknown_bits: first & 0x30 != 0,
            opcode: first & 0xf,
            is_masked,
            mask,
            length,
            is_shortest: length >= least && length >> 63 == 0,
            size,
        })
    }

    fn is_control(&self) -> bool {
        self.opcode >= 8
    }
}

const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads what a client sends.
pub fn client_events(mut bytes: &[u8], limit: usize, is_compression_agreed: bool) -> ClientEvents {
    let (mut messages, mut pings) = (Vec::new(), Vec::new());
    let mut message: Option<(bool, Vec<u8>)> = None;
    let end = loop {
        let Some(header) = Header::read(bytes) else {
            break ClientEnd::Open { is_unfinished: message.is_some() || !bytes.is_empty() };
        };
        let is_known = matches!(header.opcode, 0..=2 | 8..=10);
        let may_compress = is_compression_agreed && matches!(header.opcode, 1 | 2);
        if !is_known
            || header.has_unknown_bits
            || (header.is_compressed && !may_compress)
            || !header.is_masked
            || !header.is_shortest
            || (header.is_control() && (!header.is_last || header.length > 125))
            || (!header.is_control() && (header.opcode == 0) != message.is_some())
        {
            break ClientEnd::Wrong(1002);
        }
        let so_far = message.as_ref().map_or(0, |(_, content)| content.len());
        if !header.is_control() && header.length > (limit - so_far) as u64 {
            break ClientEnd::Wrong(1009);
        }
        if header.is_compressed {
            break ClientEnd::Unknown;
        }
        let rest = &bytes[header.size..];
        let length = usize::try_from(header.length).expect("a length within the limit");
        let masked = &rest[..length.min(rest.len())];
        let payload: Vec<u8> = masked.iter().zip(header.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let is_whole = payload.len() == length;
        if header.is_control() {
            if !is_whole {
                break ClientEnd::Open { is_unfinished: true };
            }
            match header.opcode {
                8 => break closed(&payload),
                9 => pings.push(payload),
                _ => {}
            }
        } else {
            let (is_text, content) = message.get_or_insert((header.opcode == 1, Vec::new()));
            content.extend_from_slice(&payload);
            let is_end = is_whole && header.is_last;
            let is_wrong = std::str::from_utf8(content).is_err_and(|error| is_end || error.error_len().is_some());
            if *is_text && is_wrong {
                break ClientEnd::Wrong(1007);
            }
            if !is_whole {
                break ClientEnd::Open { is_unfinished: true };
            }
            if is_end {
                messages.extend(message.take());
            }
        }
        bytes = &rest[length..];
    };
    ClientEvents { messages, pings, end }
}

// §5.5.1, §7.4
fn closed(payload: &[u8]) -> ClientEnd {
    match payload {
        [] => ClientEnd::Closed(CloseStatus::new(1005, "")),
        [high, low, reason @ ..] if is_close_code(u16::from_be_bytes([*high, *low])) => {
            match std::str::from_utf8(reason) {
                Ok(reason) => ClientEnd::Closed(CloseStatus::new(u16::from_be_bytes([*high, *low]), reason)),
                Err(_) => ClientEnd::Wrong(1007),
            }
        }
        _ => ClientEnd::Wrong(1002),
    }
}

/// Reads whole frames of a server's. Panics over anything that a client may refuse.
pub fn server_frames(mut bytes: &[u8]) -> Vec<ServerFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let header = Header::read(bytes).expect("a whole header");
        assert!(!header.is_masked && header.is_shortest && header.is_last && !header.has_unknown_bits);
        let rest = &bytes[header.size..];
        let (payload, rest) = rest.split_at(usize::try_from(header.length).expect("a short frame"));
        let (payload, is_compressed) = (payload.to_vec(), header.is_compressed);
        assert!(!header.is_control() || (payload.len() <= 125 && !is_compressed));
        frames.push(match header.opcode {
            1 | 2 => ServerFrame::Message { is_text: header.opcode == 1, is_compressed, payload },
            8 => match closed(&payload) {
                ClientEnd::Closed(status) => {
                    ServerFrame::Close { code: (status.code != 1005).then_some(status.code), reason: status.reason }
                }
                other => panic!("a close frame that is {other:?}"),
            },
            9 => ServerFrame::Ping(payload),
            10 => ServerFrame::Pong(payload),
            other => panic!("opcode {other}"),
        });
        bytes = rest;
    }
    frames
}
