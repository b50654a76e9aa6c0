//! The receiving side (RFC 6455 §5, §6.2): bytes from a client become messages and control frames. A split anywhere
//! changes nothing, and nothing is kept but the message that is coming.

use super::close;
use super::deflate::{Agreed, Inflater};
use super::frame::Opcode;

/// The longest header from a client: two bytes, eight of length, four of mask.
const HEADER: usize = 14;
/// What a frame counts for besides its bytes, where work is counted: it may become a message or an answer.
const FRAME: usize = 256;
/// The most that a control frame may carry.
const CONTROL: u64 = 125;

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A ping, to be answered by a pong of the same payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client ends the conversation.
    Close {
        /// Its code, [`close::NONE`] if it named none.
        code: u16,
        /// Its reason.
        reason: String,
    },
}

/// What the client did wrong. The conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It broke the protocol.
    Protocol(&'static str),
    /// Its text is no UTF-8.
    NotText,
    /// Its message is over the limit.
    TooBig,
}

impl Failure {
    /// The close code that says so.
    pub const fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => close::PROTOCOL_ERROR,
            Self::NotText => close::INVALID_DATA,
            Self::TooBig => close::TOO_BIG,
        }
    }

    /// The reason to go with it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol(reason) => reason,
            Self::NotText => "text must be UTF-8",
            Self::TooBig => "the message is too big",
        }
    }
}

#[derive(Clone, Copy)]
struct Frame {
    opcode: Opcode,
    is_last: bool,
    mask: [u8; 4],
    left: u64,
    // How much of the payload was unmasked, as far as the mask needs it.
    turn: usize,
}

struct Message {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
    // So much of a text is known to be UTF-8.
    valid: usize,
}

/// Takes a client's bytes apart.
pub struct Receiver {
    limit: usize,
    inflater: Option<Inflater>,
    header: [u8; HEADER],
    filled: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
    // Messages are of no interest any more.
    discards: bool,
    is_over: bool,
}

impl Receiver {
    /// A receiver of messages of up to `limit` bytes.
    pub fn new(limit: usize, agreed: Option<Agreed>) -> Self {
        Self {
            limit,
            inflater: agreed.map(Inflater::new),
            header: [0; HEADER],
            filled: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            discards: false,
            is_over: false,
        }
    }

    /// Takes bytes from the front of `input`, up to and with the next event. Returns how many, and the event if there was
    /// one; without one, all were taken or `budget` is spent, which falls by each byte that is taken or expanded. After a
    /// failure or a close frame nothing more is looked at.
    pub fn take(&mut self, input: &[u8], budget: &mut usize) -> Result<(usize, Option<Event>), Failure> {
        let mut used = 0;
        if self.is_over {
            return Ok((input.len(), None));
        }
        let taken = self.advance(input, &mut used, budget);
        self.is_over |= taken.is_err() || matches!(taken, Ok(Some(Event::Close { .. })));
        taken.map(|event| (used, event))
    }

    /// Whether what was taken already holds more: [`Receiver::take`] goes on without further bytes.
    pub fn is_expanding(&self) -> bool {
        !self.is_over && self.inflater.as_ref().is_some_and(Inflater::is_expanding)
    }

    /// Whether something has begun and its end has not come: a message, or any frame.
    pub fn is_inside(&self) -> bool {
        !self.is_over && (self.message.is_some() || self.frame.is_some() || self.filled > 0)
    }

    /// From now on messages are neither kept nor expanded; what the protocol itself says is still heard.
    pub fn discard(&mut self) {
        self.discards = true;
        if let Some(message) = &mut self.message {
            (message.bytes, message.valid) = (Vec::new(), 0);
        }
        if let Some(inflater) = &mut self.inflater {
            inflater.reset();
        }
    }

    /// Bytes of memory that the message which is coming takes, with what its buffer has in reserve.
    pub fn held(&self) -> usize {
        let state = self.inflater.as_ref().map_or(0, Inflater::held);
        self.message.as_ref().map_or(0, |message| message.bytes.capacity() + state)
    }

    fn advance(&mut self, input: &[u8], used: &mut usize, budget: &mut usize) -> Result<Option<Event>, Failure> {
        while *budget > 0 {
            let rest = &input[*used..];
            let Some(mut frame) = self.frame else {
                let needed = self.header_length();
                let share = rest.len().min(needed - self.filled);
                self.header[self.filled..self.filled + share].copy_from_slice(&rest[..share]);
                self.filled += share;
                *used += share;
                if self.filled < needed {
                    return Ok(None);
                }
                if self.header_length() == needed {
                    self.frame = Some(self.begin_frame()?);
                    self.filled = 0;
                }
                continue;
            };
            let share = rest.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX)).min(*budget);
            let share = self.payload(&mut frame, &rest[..share], budget)?;
            *used += share;
            *budget = budget.saturating_sub(share);
            frame.left -= share as u64;
            if frame.left > 0 || self.is_expanding() {
                self.frame = Some(frame);
                if *used == input.len() {
                    return Ok(None);
                }
                continue;
            }
            self.frame = None;
            *budget = budget.saturating_sub(FRAME);
            if let Some(event) = self.end_frame(frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    // As long as is known so far.
    fn header_length(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn begin_frame(&mut self) -> Result<Frame, Failure> {
        let [first, second, ..] = self.header;
        let opcode = Opcode::of(first & 0xf).ok_or(Failure::Protocol("an unknown opcode"))?;
        let (is_last, is_compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        if first & 0x30 != 0 {
            return Err(Failure::Protocol("a reserved bit is set"));
        }
        if is_compressed && (self.inflater.is_none() || !matches!(opcode, Opcode::Text | Opcode::Binary)) {
            return Err(Failure::Protocol("a frame says that it is compressed, where it cannot be"));
        }
        if second & 0x80 == 0 {
            return Err(Failure::Protocol("a client's frame is not masked"));
        }
        let (left, at) = match second & 0x7f {
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
        if (at == 4 && left < 126) || (at == 10 && (u16::try_from(left).is_ok() || left >> 63 != 0)) {
            return Err(Failure::Protocol("a length is not written in its shortest form"));
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[at..at + 4]);
        if opcode.is_control() {
            if !is_last || left > CONTROL {
                return Err(Failure::Protocol("a control frame is fragmented or too long"));
            }
            self.control.clear();
        } else {
            self.begin_data(opcode, is_compressed, left)?;
        }
        Ok(Frame { opcode, is_last, mask, left, turn: 0 })
    }

    fn begin_data(&mut self, opcode: Opcode, is_compressed: bool, length: u64) -> Result<(), Failure> {
        match (opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(Failure::Protocol("a continuation of nothing")),
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Failure::Protocol("a new message inside another")),
            (opcode, None) => {
                let is_text = opcode == Opcode::Text;
                self.message = Some(Message { is_text, is_compressed, bytes: Vec::new(), valid: 0 });
            }
        }
        // What is only announced is not yet made, but it is refused.
        let so_far =
            self.message.as_ref().filter(|message| !message.is_compressed).map_or(0, |message| message.bytes.len());
        if length > self.limit.saturating_sub(so_far) as u64 {
            return Err(Failure::TooBig);
        }
        Ok(())
    }

    // Returns how much was taken.
    fn payload(&mut self, frame: &mut Frame, masked: &[u8], budget: &mut usize) -> Result<usize, Failure> {
        if masked.is_empty() && !self.is_expanding() {
            return Ok(0);
        }
        if frame.opcode.is_control() {
            unmask(&mut self.control, frame, masked);
            return Ok(masked.len());
        }
        let Some(message) = self.message.as_mut().filter(|_| !self.discards) else { return Ok(masked.len()) };
        let mut used = masked.len();
        match &mut self.inflater {
            Some(inflater) if message.is_compressed => {
                let mut plain = Vec::new();
                let turn = frame.turn;
                unmask(&mut plain, frame, masked);
                used = inflater.inflate(&plain, &mut message.bytes, self.limit, budget)?;
                frame.turn = (turn + used) % 4;
            }
            _ => unmask(&mut message.bytes, frame, masked),
        }
        message.check_text(false)?;
        Ok(used)
    }

    fn end_frame(&mut self, frame: Frame) -> Result<Option<Event>, Failure> {
        match frame.opcode {
            Opcode::Ping => Ok(Some(Event::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => Ok(Some(Event::Pong)),
            Opcode::Close => self.end().map(Some),
            _ if !frame.is_last => Ok(None),
            _ => {
                let Some(mut message) = self.message.take().filter(|_| !self.discards) else { return Ok(None) };
                if let Some(inflater) = self.inflater.as_mut().filter(|_| message.is_compressed) {
                    inflater.finish(&mut message.bytes, self.limit)?;
                }
                message.check_text(true)?;
                Ok(Some(if message.is_text {
                    Event::Text(String::from_utf8(message.bytes).map_err(|_| Failure::NotText)?)
                } else {
                    Event::Binary(message.bytes)
                }))
            }
        }
    }

    fn end(&self) -> Result<Event, Failure> {
        match self.control.as_slice() {
            [] => Ok(Event::Close { code: close::NONE, reason: String::new() }),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !close::may_be_sent(code) {
                    return Err(Failure::Protocol("a close code that must not be sent"));
                }
                let reason = std::str::from_utf8(reason).map_err(|_| Failure::NotText)?;
                Ok(Event::Close { code, reason: reason.to_owned() })
            }
            [_] => Err(Failure::Protocol("half a close code")),
        }
    }
}

impl Message {
    // A text is checked as it comes, so that a wrong one is refused at its first wrong byte.
    fn check_text(&mut self, is_whole: bool) -> Result<(), Failure> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() && !is_whole => self.valid += error.valid_up_to(),
            Err(_) => return Err(Failure::NotText),
        }
        Ok(())
    }
}

// Appends the payload without its mask (§5.3), four bytes at a time.
fn unmask(out: &mut Vec<u8>, frame: &mut Frame, masked: &[u8]) {
    let start = out.len();
    out.extend_from_slice(masked);
    let mut mask = frame.mask;
    mask.rotate_left(frame.turn);
    let number = u32::from_ne_bytes(mask);
    let mut fours = out[start..].chunks_exact_mut(4);
    for four in &mut fours {
        let plain = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]) ^ number;
        four.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, mask) in fours.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
    frame.turn = (frame.turn + masked.len()) % 4;
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
