//! A framing of several responses on one connection, for tests: each frame is a kind, the number of its stream, a length, and
//! so many bytes.

use crate::http::head::ResponseHead;
use crate::http::reject::Reject;
use crate::http1::encoder::Lacking;

/// The bytes before a frame's content.
pub const HEADER_BYTES: usize = 9;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The head of a request or a response.
    Head = b'H',
    /// Field lines ahead of a response.
    Hints = b'I',
    /// Content.
    Data = b'D',
    /// The end of a message, with trailer lines.
    End = b'E',
    /// A message breaks off.
    Reset = b'R',
}

/// One response.
pub struct FramedEncoder {
    stream: u32,
    wants_content: bool,
    is_over: bool,
}

/// What stands before the content of a frame.
pub struct FrameHeader {
    kind: FrameKind,
    stream: u32,
    /// Bytes of content behind it.
    pub length: u64,
}

impl FrameHeader {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, kind: FrameKind, stream: u32, content: &[u8]) {
    FrameHeader { kind, stream, length: content.len() as u64 }.write(out);
    out.extend_from_slice(content);
}

/// Takes the frame at the front of `bytes` apart, and gives what follows it. `None`: it is not complete.
pub fn split(bytes: &[u8]) -> Option<(FrameKind, u32, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [kind, a, b, c, d, length @ ..] = *header;
    let kinds = [FrameKind::Head, FrameKind::Hints, FrameKind::Data, FrameKind::End, FrameKind::Reset];
    let kind = kinds.into_iter().find(|known| *known as u8 == kind)?;
    let (content, rest) = rest.split_at_checked(u32::from_be_bytes(length) as usize)?;
    Some((kind, u32::from_be_bytes([a, b, c, d]), content, rest))
}

impl FramedEncoder {
    /// The response on `stream`.
    pub fn new(stream: u32) -> Self {
        Self { stream, wants_content: false, is_over: false }
    }

    /// Appends the head.
    pub fn begin(&mut self, out: &mut Vec<u8>, head: &ResponseHead, head_method: bool) {
        let status = head.status();
        self.wants_content = !head_method && !status.forbids_body();
        let mut content = format!("{}\r\n", status.code()).into_bytes();
        content.extend_from_slice(head.lines());
        frame(out, FrameKind::Head, self.stream, &content);
    }

    /// Appends a refusal as the whole response. Returns the size of its content in bytes.
    pub fn refuse(&mut self, out: &mut Vec<u8>, reject: Reject, head_method: bool) -> u64 {
        let content = if head_method { "" } else { reject.public() };
        frame(out, FrameKind::Head, self.stream, format!("{}\r\n", reject.status().code()).as_bytes());
        frame(out, FrameKind::Data, self.stream, content.as_bytes());
        Self::write_end(out, self.stream, b"");
        self.is_over = true;
        content.len() as u64
    }

    /// Appends field lines ahead of the response.
    pub fn early_hints(&self, out: &mut Vec<u8>, lines: &[u8]) {
        frame(out, FrameKind::Hints, self.stream, lines);
    }

    /// Whether content would be of use.
    pub fn wants_content(&self) -> bool {
        self.wants_content
    }

    /// Offers `length` bytes of content.
    pub fn data(&mut self, length: u64) -> Option<FrameHeader> {
        let is_accepted = self.wants_content && !self.is_over && length > 0;
        is_accepted.then_some(FrameHeader { kind: FrameKind::Data, stream: self.stream, length })
    }

    /// Ends the content. Gives the stream, whose end is to be written.
    pub fn end(&mut self) -> Result<Option<u32>, Lacking> {
        Ok((!std::mem::replace(&mut self.is_over, true)).then_some(self.stream))
    }

    /// Appends the end of the response on `stream`.
    pub fn write_end(out: &mut Vec<u8>, stream: u32, lines: &[u8]) {
        frame(out, FrameKind::End, stream, lines);
    }

    /// Appends what breaks the response off.
    pub fn write_reset(&self, out: &mut Vec<u8>) {
        frame(out, FrameKind::Reset, self.stream, b"");
    }
}
