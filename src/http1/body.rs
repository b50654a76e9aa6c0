//! The chunked body (RFC 9112 §7.1) as a state machine over bytes: it keeps no line, so its memory does not depend on
//! what the client sends, and a split changes nothing.
//!
//! ```text
//! Size -> Extension … -> SizeLf -> Data -> DataCr -> DataLf -> Size …
//!                             -> TrailerStart -> TrailerName -> TrailerValue -> TrailerLf -> TrailerStart … -> EndLf -> Over
//! ```

use crate::http::fields::{is_field_byte, is_tchar};
use crate::http::limits::Limits;
use crate::http::reject::Reject;
use crate::http::target::hex_digit;

/// Digits of one chunk size. Sixteen fill 64 bits; leading zeros are legal but must have an end.
const SIZE_DIGITS: u32 = 32;
/// Bytes of one chunk extension. No known sender uses any.
const EXTENSION_LINE: u32 = 4096;
/// Bytes of all extensions of one body, which no limit on its content counts.
const EXTENSIONS: u32 = 16 * 1024;

/// What a piece of the body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkEvent<'i> {
    /// Content, never empty: the last of the bytes consumed. There may be more in the rest of the input.
    Data(&'i [u8]),
    /// Everything was consumed, and the body goes on.
    More,
    /// The body is over; what was not consumed belongs to the next request.
    End,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkStep<'i> {
    /// Bytes at the front of the input that are done with.
    pub consumed: usize,
    /// What they held.
    pub event: ChunkEvent<'i>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    // In a chunk size.
    Size,
    // White space behind a chunk size, which only an extension may follow.
    SizeSpace,
    // In the extensions of a chunk.
    Extension(Extension),
    // Backpressure the CR of a chunk size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    // At the beginning of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Over,
    Failed(Reject),
}

/// Where in `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (RFC 9112 §7.1.1) the decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    // Backpressure the semicolon.
    Start,
    Name,
    // White space behind a name.
    NameSpace,
    // Backpressure the equals sign.
    Equals,
    // In a value that is a token.
    Token,
    // In a value that is a quoted string (RFC 9110 §5.6.4), and behind a backslash in it.
    Quoted,
    Escape,
    // Backpressure the closing quote.
    QuotedEnd,
    // White space behind a value.
    ValueSpace,
}

impl Extension {
    /// What follows one more byte; none if the grammar has no place for it.
    fn next(self, byte: u8) -> Option<Self> {
        let is_space = matches!(byte, b' ' | b'\t');
        Some(match (self, byte) {
            (Self::Start | Self::Name, _) if is_tchar(byte) => Self::Name,
            (Self::Equals | Self::Token, _) if is_tchar(byte) => Self::Token,
            (Self::Equals, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::Escape,
            (Self::Quoted | Self::Escape, _) if is_field_byte(byte) => Self::Quoted,
            (Self::Start | Self::Equals | Self::NameSpace | Self::ValueSpace, _) if is_space => self,
            (Self::Name, _) if is_space => Self::NameSpace,
            (Self::Token | Self::QuotedEnd, _) if is_space => Self::ValueSpace,
            (Self::Name | Self::NameSpace, b'=') => Self::Equals,
            (Self::Name | Self::NameSpace | Self::Token | Self::QuotedEnd | Self::ValueSpace, b';') => Self::Start,
            _ => return None,
        })
    }

    /// Whether the line may end here. White space stands before a semicolon or an equals sign, never before the line's end.
    const fn is_complete(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::QuotedEnd)
    }
}

/// Takes a chunked body apart. Trailer fields are checked and dropped: nothing that a body says after the fact may
/// change what its head said (RFC 9110 §6.5.1).
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: DecoderState,
    // Content that the current chunk still lacks; while its size is read, the size so far.
    left: u64,
    digits: u32,
    extension: u32,
    extensions: u32,
    trailer_size: usize,
    trailer_fields: usize,
    received: u64,
    max_body: u64,
    max_trailer_size: usize,
    max_trailer_fields: usize,
}

impl ChunkedDecoder {
    /// A decoder for one body.
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: DecoderState::Size,
            left: 0,
            digits: 0,
            extension: 0,
            extensions: 0,
            trailer_size: 0,
            trailer_fields: 0,
            received: 0,
            max_body: limits.body_size,
            max_trailer_size: limits.header_size,
            max_trailer_fields: limits.header_fields,
        }
    }

    /// Content handed out so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next piece from the front of `input`. After `Data`, call again with the rest; after `More`, with what
    /// comes next. A body that was refused stays refused, one that is over stays over.
    pub fn decode<'i>(&mut self, input: &'i [u8]) -> Result<ChunkStep<'i>, Reject> {
        let mut consumed = 0;
        loop {
            match self.state {
                DecoderState::Data => {
                    let rest = input.get(consumed..).unwrap_or_default();
                    let share = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    let data = rest.get(..share).unwrap_or_default();
                    if data.is_empty() {
                        return Ok(ChunkStep { consumed, event: ChunkEvent::More });
                    }
                    self.left -= share as u64;
                    self.received += share as u64;
                    if self.left == 0 {
                        self.state = DecoderState::DataCr;
                    }
                    return Ok(ChunkStep { consumed: consumed + share, event: ChunkEvent::Data(data) });
                }
                DecoderState::Over => return Ok(ChunkStep { consumed, event: ChunkEvent::End }),
                DecoderState::Failed(reject) => return Err(reject),
                _ => {
                    let Some(&byte) = input.get(consumed) else {
                        return Ok(ChunkStep { consumed, event: ChunkEvent::More });
                    };
                    consumed += 1;
                    self.state = match self.advance(byte) {
                        Ok(state) => state,
                        Err(reject) => DecoderState::Failed(reject),
                    };
                }
            }
        }
    }

    // The state behind one byte of framing.
    fn advance(&mut self, byte: u8) -> Result<DecoderState, Reject> {
        match (self.state, byte) {
            (DecoderState::Size, b'\r') if self.digits > 0 => Ok(DecoderState::SizeLf),
            (DecoderState::Size | DecoderState::SizeSpace, b';') if self.digits > 0 => {
                self.count_extension()?;
                Ok(DecoderState::Extension(Extension::Start))
            }
            // BWS before an extension (RFC 9112 §7.1.1). It counts like one, so that it has an end.
            (DecoderState::Size | DecoderState::SizeSpace, b' ' | b'\t') if self.digits > 0 => {
                self.count_extension()?;
                Ok(DecoderState::SizeSpace)
            }
            (DecoderState::Size, b'\n') if self.digits > 0 => Err(Reject::ChunkLineEnd),
            (DecoderState::Size, _) => self.add_digit(byte),
            (DecoderState::SizeSpace, _) => Err(Reject::ChunkSizeMalformed),
            (DecoderState::Extension(extension), b'\r') if extension.is_complete() => Ok(DecoderState::SizeLf),
            (DecoderState::Extension(_), b'\n') => Err(Reject::ChunkLineEnd),
            (DecoderState::Extension(extension), _) => {
                let next = extension.next(byte).ok_or(Reject::ChunkExtensionMalformed)?;
                self.count_extension()?;
                Ok(DecoderState::Extension(next))
            }
            (DecoderState::SizeLf, b'\n') => self.begin_chunk(),
            (DecoderState::SizeLf, _) => Err(Reject::ChunkLineEnd),
            (DecoderState::DataCr, b'\r') => Ok(DecoderState::DataLf),
            (DecoderState::DataLf, b'\n') => {
                self.left = 0;
                self.digits = 0;
                Ok(DecoderState::Size)
            }
            (DecoderState::DataCr | DecoderState::DataLf, _) => Err(Reject::ChunkDataEnd),
            _ => self.advance_trailer(byte),
        }
    }

    fn add_digit(&mut self, byte: u8) -> Result<DecoderState, Reject> {
        let digit = hex_digit(byte).ok_or(Reject::ChunkSizeMalformed)?;
        self.digits += 1;
        let size = self.left.checked_mul(16).filter(|_| self.digits <= SIZE_DIGITS).ok_or(Reject::ChunkSizeOverflow)?;
        // The product's last four bits are free.
        self.left = size | u64::from(digit);
        Ok(DecoderState::Size)
    }

    // One more byte of an extension. What it says is ignored (RFC 9112 §7.1.1).
    fn count_extension(&mut self) -> Result<(), Reject> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > EXTENSION_LINE || self.extensions > EXTENSIONS {
            return Err(Reject::ChunkExtensionsTooLarge);
        }
        Ok(())
    }

    // A chunk size line is complete.
    fn begin_chunk(&mut self) -> Result<DecoderState, Reject> {
        self.extension = 0;
        if self.left == 0 {
            return Ok(DecoderState::TrailerStart);
        }
        match self.received.checked_add(self.left) {
            Some(total) if total <= self.max_body => Ok(DecoderState::Data),
            _ => Err(Reject::BodyTooLarge),
        }
    }

    // The trailer section (RFC 9112 §7.1.2), bounded as the header section is: its size counts all lines with their
    // ends, the empty one included.
    fn advance_trailer(&mut self, byte: u8) -> Result<DecoderState, Reject> {
        self.trailer_size += 1;
        if self.trailer_size > self.max_trailer_size {
            return Err(Reject::TrailersTooLarge);
        }
        match (self.state, byte) {
            (DecoderState::TrailerStart, b'\r') => Ok(DecoderState::EndLf),
            (DecoderState::TrailerStart, _) if is_tchar(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > self.max_trailer_fields {
                    return Err(Reject::TooManyTrailers);
                }
                Ok(DecoderState::TrailerName)
            }
            (DecoderState::TrailerName, b':') => Ok(DecoderState::TrailerValue),
            (DecoderState::TrailerName, _) if is_tchar(byte) => Ok(DecoderState::TrailerName),
            (DecoderState::TrailerValue, b'\r') => Ok(DecoderState::TrailerLf),
            (DecoderState::TrailerValue, _) if is_field_byte(byte) => Ok(DecoderState::TrailerValue),
            (DecoderState::TrailerLf, b'\n') => Ok(DecoderState::TrailerStart),
            (DecoderState::EndLf, b'\n') => Ok(DecoderState::Over),
            _ => Err(Reject::TrailerMalformed),
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
