//! The receiving side (RFC 6455 §5, §6.2): a client's bytes become messages and control frames. Where the bytes are split makes
//! no difference, and nothing is buffered but the unfinished message.

use super::close::{self, CloseStatus};
use super::deflate::{DeflateParameters, Inflater};
use super::error::WebSocketError;
use super::frame::Opcode;

/// The longest header from a client: two bytes, eight of length, four of mask.
const MAX_HEADER_BYTES: usize = 14;
/// What a frame takes of the budget besides its bytes: it may become a message or an answer.
pub const FRAME_COST_BYTES: usize = 256;
/// The longest payload of a control frame.
const MAX_CONTROL_BYTES: u64 = 125;

/// What a message takes besides its content, about.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketMessage {
    /// Of text.
    Text(String),
    /// Of bytes.
    Binary(Vec<u8>),
}

impl WebSocketMessage {
    /// Bytes of memory that it takes, with what its buffer has in reserve.
    pub fn memory_bytes(&self) -> usize {
        let content = match self {
            Self::Text(text) => text.capacity(),
            Self::Binary(bytes) => bytes.capacity(),
        };
        content + MESSAGE_OVERHEAD_BYTES
    }
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodedEvent {
    /// A whole message.
    Message(WebSocketMessage),
    /// A ping, to be answered by a pong of the same payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client's close frame; its code is [`close::NO_STATUS`] if it had none.
    Close(CloseStatus),
}

#[derive(Clone, Copy)]
struct FrameState {
    opcode: Opcode,
    is_last: bool,
    mask: [u8; 4],
    remaining: u64,
    // Of the mask, for the next byte of the payload.
    mask_offset: usize,
}

struct UnfinishedMessage {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
    // So many bytes of a text are known to be UTF-8.
    valid: usize,
}

/// Decodes a client's bytes.
pub struct MessageDecoder {
    max_message_bytes: usize,
    inflater: Option<Inflater>,
    header: [u8; MAX_HEADER_BYTES],
    header_length: usize,
    frame: Option<FrameState>,
    message: Option<UnfinishedMessage>,
    control: Vec<u8>,
    discards_messages: bool,
    is_over: bool,
}

impl MessageDecoder {
    /// A decoder of messages of up to `max_message_bytes`, expanded where compression was negotiated.
    pub fn new(max_message_bytes: usize, compression: Option<DeflateParameters>) -> Self {
        Self {
            max_message_bytes,
            inflater: compression.map(Inflater::new),
            header: [0; MAX_HEADER_BYTES],
            header_length: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            discards_messages: false,
            is_over: false,
        }
    }

    /// Consumes bytes from the front of `input`, up to and with the end of the next message or control frame. Returns how many,
    /// and what was received. `None`: all were consumed, or `budget` is spent, which falls by each byte that is consumed or
    /// expanded and by [`FRAME_COST_BYTES`] for each frame. After an error or a close frame, input is skipped.
    pub fn decode(
        &mut self,
        input: &[u8],
        budget: &mut usize,
    ) -> Result<(usize, Option<DecodedEvent>), WebSocketError> {
        let mut used = 0;
        if self.is_over {
            return Ok((input.len(), None));
        }
        let decoded = self.advance(input, &mut used, budget);
        self.is_over |= decoded.is_err() || matches!(decoded, Ok(Some(DecodedEvent::Close(_))));
        decoded.map(|incoming| (used, incoming))
    }

    /// Whether input that was consumed already has more output: [`MessageDecoder::decode`] goes on without further bytes.
    pub fn is_expanding(&self) -> bool {
        !self.is_over && self.inflater.as_ref().is_some_and(Inflater::is_expanding)
    }

    /// Whether a message or a frame has begun and its end has not come.
    pub fn is_unfinished(&self) -> bool {
        !self.is_over && (self.message.is_some() || self.frame.is_some() || self.header_length > 0)
    }

    /// From now on messages are neither kept nor expanded; control frames are still decoded.
    pub fn discard_messages(&mut self) {
        self.discards_messages = true;
        if let Some(message) = &mut self.message {
            (message.bytes, message.valid) = (Vec::new(), 0);
        }
        if let Some(inflater) = &mut self.inflater {
            inflater.reset();
        }
    }

    /// Bytes of memory that the unfinished message takes, with what its buffer has in reserve.
    pub fn memory_bytes(&self) -> usize {
        let inflater = self.inflater.as_ref().map_or(0, Inflater::memory_bytes);
        self.message.as_ref().map_or(0, |message| message.bytes.capacity() + inflater)
    }

    fn advance(
        &mut self,
        input: &[u8],
        used: &mut usize,
        budget: &mut usize,
    ) -> Result<Option<DecodedEvent>, WebSocketError> {
        while *budget > 0 {
            let rest = &input[*used..];
            let Some(mut frame) = self.frame else {
                let needed = self.needed_header();
                let count = rest.len().min(needed - self.header_length);
                self.header[self.header_length..self.header_length + count].copy_from_slice(&rest[..count]);
                self.header_length += count;
                *used += count;
                if self.header_length < needed {
                    return Ok(None);
                }
                if self.needed_header() == needed {
                    self.frame = Some(self.begin_frame()?);
                    self.header_length = 0;
                }
                continue;
            };
            let count = rest.len().min(usize::try_from(frame.remaining).unwrap_or(usize::MAX)).min(*budget);
            let count = self.payload(&mut frame, &rest[..count], budget)?;
            *used += count;
            *budget = budget.saturating_sub(count);
            frame.remaining -= count as u64;
            if frame.remaining > 0 || self.is_expanding() {
                self.frame = Some(frame);
                if *used == input.len() {
                    return Ok(None);
                }
                continue;
            }
            self.frame = None;
            *budget = budget.saturating_sub(FRAME_COST_BYTES);
            if let Some(incoming) = self.end_frame(frame)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    // Bytes of the header, as far as is known.
    fn needed_header(&self) -> usize {
        if self.header_length < 2 {
            return 2;
        }
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn begin_frame(&mut self) -> Result<FrameState, WebSocketError> {
        let [first, second, ..] = self.header;
        let opcode = Opcode::from_bits(first & 0xf).ok_or(WebSocketError::Protocol("an unknown opcode"))?;
        let (is_last, is_compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        if first & 0x30 != 0 {
            return Err(WebSocketError::Protocol("a reserved bit is set"));
        }
        if is_compressed && (self.inflater.is_none() || !matches!(opcode, Opcode::Text | Opcode::Binary)) {
            return Err(WebSocketError::Protocol("a frame is marked as compressed where it cannot be"));
        }
        if second & 0x80 == 0 {
            return Err(WebSocketError::Protocol("a client's frame is not masked"));
        }
        let (length, at) = match second & 0x7f {
            126 => {
                let length = u16::from_be_bytes([self.header[2], self.header[3]]);
                (u64::from(length), 4)
            }
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&self.header[2..10]);
                (u64::from_be_bytes(bytes), 10)
            }
            length => (u64::from(length), 2),
        };
        if (at == 4 && length < 126) || (at == 10 && (u16::try_from(length).is_ok() || length >> 63 != 0)) {
            return Err(WebSocketError::Protocol("a length is not written in its shortest form"));
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[at..at + 4]);
        if opcode.is_control() {
            if !is_last || length > MAX_CONTROL_BYTES {
                return Err(WebSocketError::Protocol("a control frame is fragmented or too long"));
            }
            self.control.clear();
        } else {
            self.begin_data(opcode, is_compressed, length)?;
        }
        Ok(FrameState { opcode, is_last, mask, remaining: length, mask_offset: 0 })
    }

    fn begin_data(&mut self, opcode: Opcode, is_compressed: bool, length: u64) -> Result<(), WebSocketError> {
        match (opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(WebSocketError::Protocol("a continuation of nothing")),
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(WebSocketError::Protocol("a new message inside another")),
            (opcode, None) => {
                let is_text = opcode == Opcode::Text;
                self.message = Some(UnfinishedMessage { is_text, is_compressed, bytes: Vec::new(), valid: 0 });
            }
        }
        // A message over the limit is refused when its header announces it.
        let so_far =
            self.message.as_ref().filter(|message| !message.is_compressed).map_or(0, |message| message.bytes.len());
        if length > self.max_message_bytes.saturating_sub(so_far) as u64 {
            return Err(WebSocketError::MessageTooBig);
        }
        Ok(())
    }

    // Returns how much was consumed.
    fn payload(&mut self, frame: &mut FrameState, masked: &[u8], budget: &mut usize) -> Result<usize, WebSocketError> {
        if masked.is_empty() && !self.is_expanding() {
            return Ok(0);
        }
        if frame.opcode.is_control() {
            unmask(&mut self.control, frame, masked);
            return Ok(masked.len());
        }
        let Some(message) = self.message.as_mut().filter(|_| !self.discards_messages) else {
            return Ok(masked.len());
        };
        let mut used = masked.len();
        match &mut self.inflater {
            Some(inflater) if message.is_compressed => {
                let mut plain = Vec::new();
                let mask_offset = frame.mask_offset;
                unmask(&mut plain, frame, masked);
                used = inflater.inflate(&plain, &mut message.bytes, self.max_message_bytes, budget)?;
                frame.mask_offset = (mask_offset + used) % 4;
            }
            _ => unmask(&mut message.bytes, frame, masked),
        }
        message.check_text(false)?;
        Ok(used)
    }

    fn end_frame(&mut self, frame: FrameState) -> Result<Option<DecodedEvent>, WebSocketError> {
        match frame.opcode {
            Opcode::Ping => Ok(Some(DecodedEvent::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => Ok(Some(DecodedEvent::Pong)),
            Opcode::Close => self.close_status().map(DecodedEvent::Close).map(Some),
            _ if !frame.is_last => Ok(None),
            _ => {
                let Some(mut message) = self.message.take().filter(|_| !self.discards_messages) else {
                    return Ok(None);
                };
                if let Some(inflater) = self.inflater.as_mut().filter(|_| message.is_compressed) {
                    inflater.finish(&mut message.bytes, self.max_message_bytes)?;
                }
                message.check_text(true)?;
                let message = if message.is_text {
                    let text = String::from_utf8(message.bytes).map_err(|_| WebSocketError::InvalidUtf8)?;
                    WebSocketMessage::Text(text)
                } else {
                    WebSocketMessage::Binary(message.bytes)
                };
                Ok(Some(DecodedEvent::Message(message)))
            }
        }
    }

    fn close_status(&self) -> Result<CloseStatus, WebSocketError> {
        match self.control.as_slice() {
            [] => Ok(CloseStatus::new(close::NO_STATUS, "")),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !close::is_sendable(code) {
                    return Err(WebSocketError::Protocol("a close code that must not be sent"));
                }
                let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::InvalidUtf8)?;
                Ok(CloseStatus::new(code, reason))
            }
            [_] => Err(WebSocketError::Protocol("half a close code")),
        }
    }
}

impl UnfinishedMessage {
    // Text is checked piece by piece, so that it is refused at its first invalid byte.
    fn check_text(&mut self, is_whole: bool) -> Result<(), WebSocketError> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() && !is_whole => self.valid += error.valid_up_to(),
            Err(_) => return Err(WebSocketError::InvalidUtf8),
        }
        Ok(())
    }
}

// Appends the unmasked payload (§5.3), four bytes at a time.
fn unmask(out: &mut Vec<u8>, frame: &mut FrameState, masked: &[u8]) {
    let start = out.len();
    out.extend_from_slice(masked);
    let mut mask = frame.mask;
    mask.rotate_left(frame.mask_offset);
    let number = u32::from_ne_bytes(mask);
    let mut fours = out[start..].chunks_exact_mut(4);
    for four in &mut fours {
        let plain = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]) ^ number;
        four.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, mask) in fours.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
    frame.mask_offset = (frame.mask_offset + masked.len()) % 4;
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
