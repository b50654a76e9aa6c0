//! permessage-deflate (RFC 7692): its negotiation, compression and decompression.
//!
//! Windows are as small as the client allows, and sessions share compressors, so that a session takes little memory.

use std::sync::Arc;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::WebSocketError;
use crate::http::fields::trim_ows;

/// The window that the server asks for and uses, as a power of two: 4 KiB.
const WINDOW_BITS: u8 = 12;
/// The compressor's minimum; the extension's own is 8.
const MIN_WINDOW_BITS: u8 = 9;
const MAX_WINDOW_BITS: u8 = 15;
/// Smaller messages gain nothing, and are sent uncompressed.
const MIN_DEFLATED_BYTES: usize = 128;
/// Compressors in a pool, 7 MB in all. Where more sessions than that send in turn, each message resets one, which takes about
/// 20 µs; tests have few, so that this happens.
const MAX_COMPRESSORS: usize = if cfg!(test) { 2 } else { 32 };
/// Largest piece that is expanded at a time.
const MAX_STEP_BYTES: usize = 64 * 1024;
/// What a decompressor takes, about.
const DECOMPRESSOR_BYTES: usize = 48 * 1024;
/// The end of every compressed message, which is not sent (RFC 7692 §7.2.1).
const SYNC_FLUSH_TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const DAMAGED: WebSocketError = WebSocketError::Protocol("a compressed message is damaged");

/// The negotiated parameters of the extension (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_window_bits: u8,
    client_window_bits: Option<u8>,
}

impl DeflateParameters {
    /// Accepts the first acceptable offer of a Sec-WebSocket-Extensions value.
    pub fn negotiate(value: &[u8]) -> Option<Self> {
        value.split(|&byte| byte == b',').find_map(Self::from_offer)
    }

    fn from_offer(offer: &[u8]) -> Option<Self> {
        let mut parts = offer.split(|&byte| byte == b';').map(trim_ows);
        if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
            return None;
        }
        let mut parameters = Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_window_bits: WINDOW_BITS,
            client_window_bits: None,
        };
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for part in parts {
            let (name, value) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (trim_ows(&part[..at]).to_ascii_lowercase(), Some(unquoted(trim_ows(&part[at + 1..])))),
                None => (part.to_ascii_lowercase(), None),
            };
            // Unknown parameters, wrong values and repeats decline the offer (RFC 7692 §7).
            if seen.contains(&name) {
                return None;
            }
            match (name.as_slice(), value) {
                (b"server_no_context_takeover", None) => parameters.server_no_context_takeover = true,
                (b"client_no_context_takeover", None) => parameters.client_no_context_takeover = true,
                (b"server_max_window_bits", Some(value)) => {
                    parameters.server_window_bits =
                        bits(value).filter(|&bits| bits >= MIN_WINDOW_BITS)?.min(WINDOW_BITS);
                }
                (b"client_max_window_bits", None) => parameters.client_window_bits = Some(WINDOW_BITS),
                (b"client_max_window_bits", Some(value)) => {
                    parameters.client_window_bits = Some(bits(value)?.min(WINDOW_BITS));
                }
                _ => return None,
            }
            seen.push(name);
        }
        Some(parameters)
    }

    fn client_window(self) -> u8 {
        self.client_window_bits.unwrap_or(MAX_WINDOW_BITS).clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS)
    }

    /// The Sec-WebSocket-Extensions value of the response.
    pub fn header_value(&self) -> String {
        let client = self.client_window_bits.map(|bits| format!("; client_max_window_bits={bits}")).unwrap_or_default();
        let mut value = format!("permessage-deflate; server_max_window_bits={}{client}", self.server_window_bits);
        for (is_so, name) in [
            (self.server_no_context_takeover, "server_no_context_takeover"),
            (self.client_no_context_takeover, "client_no_context_takeover"),
        ] {
            if is_so {
                value.push_str("; ");
                value.push_str(name);
            }
        }
        value
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

fn bits(value: &[u8]) -> Option<u8> {
    match value {
        b"8" => Some(8),
        b"9" => Some(9),
        [b'1', ones @ b'0'..=b'5'] => Some(10 + ones - b'0'),
        _ => None,
    }
}

/// The compressors of a thread. One takes 210 KiB however small its window is, so that sessions share a few: each message borrows
/// one, primed with the session's window.
#[derive(Default)]
pub struct CompressorPool {
    // In the order of their last use.
    idle: Vec<Compressor>,
}

struct Compressor {
    compress: Compress,
    bits: u8,
    // The session whose message it compressed last.
    owner: Arc<()>,
}

impl CompressorPool {
    // The compressor of the owner's last message, or any other; and whether it is that one.
    fn acquire(&mut self, owner: &Arc<()>, bits: u8) -> (Compressor, bool) {
        if let Some(at) = self.idle.iter().position(|compressor| Arc::ptr_eq(&compressor.owner, owner)) {
            return (self.idle.remove(at), true);
        }
        let oldest = if self.idle.len() < MAX_COMPRESSORS { None } else { Some(self.idle.remove(0)) };
        let compress = match oldest {
            Some(mut oldest) if oldest.bits == bits => {
                oldest.compress.reset();
                oldest.compress
            }
            _ => Compress::new_with_window_bits(Compression::fast(), false, bits),
        };
        (Compressor { compress, bits, owner: Arc::clone(owner) }, false)
    }
}

/// Compresses the messages of one session.
pub struct Deflater {
    parameters: DeflateParameters,
    // Identifies the session in the pool.
    owner: Arc<()>,
    // The end of what was compressed before, to which a message may refer.
    window: Vec<u8>,
}

impl Deflater {
    /// A deflater with the server's parameters.
    pub fn new(parameters: DeflateParameters) -> Self {
        Self { parameters, owner: Arc::default(), window: Vec::new() }
    }

    /// The compressed payload of a message; `None` if it is too small to gain by that.
    pub fn deflate(&mut self, payload: &[u8], pool: &mut CompressorPool) -> Option<Vec<u8>> {
        if payload.len() < MIN_DEFLATED_BYTES {
            return None;
        }
        let bits = self.parameters.server_window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        let (mut compressor, is_continued) = pool.acquire(&self.owner, bits);
        let compress = &mut compressor.compress;
        if is_continued && self.parameters.server_no_context_takeover {
            compress.reset();
        }
        // Only a wrong use of the library would fail here. Then the compressor is dropped, and the message is sent uncompressed,
        // which is always right.
        if !is_continued && !self.window.is_empty() && compress.set_dictionary(&self.window).is_err() {
            return None;
        }
        let out = deflate_payload(compress, payload)?;
        pool.idle.push(compressor);
        if !self.parameters.server_no_context_takeover {
            append_window(&mut self.window, payload, 1 << bits);
        }
        Some(out)
    }
}

// Appends to a window of `size` bytes.
fn append_window(window: &mut Vec<u8>, payload: &[u8], size: usize) {
    let new = &payload[payload.len().saturating_sub(size)..];
    let kept = window.len().min(size - new.len());
    window.drain(..window.len() - kept);
    window.reserve_exact(new.len());
    window.extend_from_slice(new);
}

fn deflate_payload(compress: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() / 2 + 64);
    let mut at = 0;
    loop {
        let before = compress.total_in();
        compress.compress_vec(&payload[at..], &mut out, FlushCompress::Sync).ok()?;
        at += usize::try_from(compress.total_in() - before).unwrap_or(0);
        // The output is complete once there is room left.
        if at == payload.len() && out.len() < out.capacity() {
            break;
        }
        out.reserve(out.len().max(256));
    }
    if out.ends_with(&SYNC_FLUSH_TAIL) {
        out.truncate(out.len() - SYNC_FLUSH_TAIL.len());
    }
    Some(out)
}

/// Expands the messages of one client.
pub struct Inflater {
    parameters: DeflateParameters,
    // Present inside a message only: it takes far more than the window.
    decompress: Option<Decompress>,
    // The end of what was expanded before, to which a message may refer.
    window: Vec<u8>,
    // The budget ended before the input did.
    is_expanding: bool,
}

impl Inflater {
    /// An inflater with the client's parameters.
    pub fn new(parameters: DeflateParameters) -> Self {
        Self { parameters, decompress: None, window: Vec::new(), is_expanding: false }
    }

    /// Discards the message that is being expanded, and the window.
    pub fn reset(&mut self) {
        (self.decompress, self.window, self.is_expanding) = (None, Vec::new(), false);
    }

    /// Bytes that it takes for the unfinished message.
    pub fn memory_bytes(&self) -> usize {
        if self.decompress.is_some() { DECOMPRESSOR_BYTES } else { 0 }
    }

    /// Whether input that was consumed already has more output.
    pub fn is_expanding(&self) -> bool {
        self.is_expanding
    }

    /// Expands a piece of a compressed message onto `out`, up to `budget` bytes, which falls by what is made. Returns how much of
    /// the piece was consumed. A message of more than `limit` bytes is refused before it is expanded.
    pub fn inflate(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
        budget: &mut usize,
    ) -> Result<usize, WebSocketError> {
        let decompress = match &mut self.decompress {
            Some(decompress) => decompress,
            none => {
                let mut fresh = Decompress::new_with_window_bits(false, self.parameters.client_window());
                if !self.window.is_empty() {
                    // Only a wrong use of the library would fail here.
                    fresh.set_dictionary(&self.window).map_err(|_| DAMAGED)?;
                }
                none.insert(fresh)
            }
        };
        let mut at = 0;
        loop {
            let room = limit.saturating_add(1).saturating_sub(out.len()).min(*budget);
            self.is_expanding = room == 0;
            if room == 0 {
                return Ok(at);
            }
            let (start, step) = (out.len(), (piece.len() * 2).clamp(256, MAX_STEP_BYTES).min(room));
            out.resize(start + step, 0);
            let (read, written) = (decompress.total_in(), decompress.total_out());
            let status =
                decompress.decompress(&piece[at..], &mut out[start..], FlushDecompress::None).map_err(|_| DAMAGED)?;
            let used = usize::try_from(decompress.total_in() - read).unwrap_or(0);
            let made = usize::try_from(decompress.total_out() - written).unwrap_or(0);
            out.truncate(start + made);
            *budget -= made;
            at += used;
            if out.len() > limit {
                return Err(WebSocketError::MessageTooBig);
            }
            if status == Status::StreamEnd {
                // A block that is marked as the last: others may follow (RFC 7692 §7.2.3.5).
                decompress.reset(false);
            }
            if at == piece.len() && made < step {
                return Ok(at);
            }
            if used == 0 && made == 0 {
                return Err(DAMAGED);
            }
        }
    }

    /// Completes a message.
    pub fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), WebSocketError> {
        self.inflate(&SYNC_FLUSH_TAIL, out, limit, &mut { usize::MAX })?;
        self.decompress = None;
        if !self.parameters.client_no_context_takeover {
            append_window(&mut self.window, out, 1 << self.parameters.client_window());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
