//! permessage-deflate (RFC 7692): what is agreed on, and the two sides of it.
//!
//! Both windows are kept small where the client lets us, and the compressor is only made with the first message that is
//! worth it: an idle conversation then costs little.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::receive::Failure;
use crate::http::fields::trim_ows;

/// The window that is asked for and used, as a power of two: 4 KiB.
const BITS: u8 = 12;
/// The smallest that the compressor can do; the extension's own smallest is 8.
const SMALLEST: u8 = 9;
const LARGEST: u8 = 15;
/// Smaller messages are sent as they are: they gain nothing.
const WORTH_IT: usize = 128;
/// What ends every compressed message and is left out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    server_forgets: bool,
    client_forgets: bool,
    server_bits: u8,
    client_bits: Option<u8>,
}

impl Agreed {
    /// The first offer in a Sec-WebSocket-Extensions value that can be met.
    pub fn on(value: &[u8]) -> Option<Self> {
        value.split(|&byte| byte == b',').find_map(Self::on_offer)
    }

    fn on_offer(offer: &[u8]) -> Option<Self> {
        let mut parts = offer.split(|&byte| byte == b';').map(trim_ows);
        if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
            return None;
        }
        let mut agreed = Self { server_forgets: false, client_forgets: false, server_bits: BITS, client_bits: None };
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
                (b"server_no_context_takeover", None) => agreed.server_forgets = true,
                (b"client_no_context_takeover", None) => agreed.client_forgets = true,
                (b"server_max_window_bits", Some(value)) => {
                    agreed.server_bits = bits(value).filter(|&bits| bits >= SMALLEST)?.min(BITS);
                }
                (b"client_max_window_bits", None) => agreed.client_bits = Some(BITS),
                (b"client_max_window_bits", Some(value)) => agreed.client_bits = Some(bits(value)?.min(BITS)),
                _ => return None,
            }
            seen.push(name);
        }
        Some(agreed)
    }

    /// The Sec-WebSocket-Extensions value that says so.
    pub fn value(&self) -> String {
        let client = self.client_bits.map(|bits| format!("; client_max_window_bits={bits}")).unwrap_or_default();
        let mut value = format!("permessage-deflate; server_max_window_bits={}{client}", self.server_bits);
        for (is_so, name) in
            [(self.server_forgets, "server_no_context_takeover"), (self.client_forgets, "client_no_context_takeover")]
        {
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

/// Compresses messages.
pub struct Deflater {
    agreed: Agreed,
    compress: Option<Compress>,
}

impl Deflater {
    /// What was agreed on for this side.
    pub fn new(agreed: Agreed) -> Self {
        Self { agreed, compress: None }
    }

    /// The compressed payload of a message, where it is worth it.
    pub fn deflate(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if payload.len() < WORTH_IT {
            return None;
        }
        let bits = self.agreed.server_bits.clamp(SMALLEST, LARGEST);
        let compress =
            self.compress.get_or_insert_with(|| Compress::new_with_window_bits(Compression::fast(), false, bits));
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        let mut at = 0;
        loop {
            let before = compress.total_in();
            let status = compress.compress_vec(&payload[at..], &mut out, FlushCompress::Sync);
            at += usize::try_from(compress.total_in() - before).unwrap_or(0);
            if status.is_err() {
                // Only a wrong use of the library leads here; what went into the window is forgotten.
                self.compress = None;
                return None;
            }
            // All is out once there is room to spare.
            if at == payload.len() && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.len().max(256));
        }
        if self.agreed.server_forgets {
            self.compress = None;
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        Some(out)
    }
}

/// Expands messages.
pub struct Inflater {
    agreed: Agreed,
    decompress: Option<Decompress>,
}

impl Inflater {
    /// What was agreed on for the other side.
    pub fn new(agreed: Agreed) -> Self {
        Self { agreed, decompress: None }
    }

    /// Appends what a piece of a compressed message holds. More than `limit` bytes in all are refused before they are
    /// made.
    pub fn inflate(&mut self, piece: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
        let bits = self.agreed.client_bits.unwrap_or(LARGEST).clamp(SMALLEST, LARGEST);
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        let mut at = 0;
        loop {
            let room = limit.saturating_add(1).saturating_sub(out.len());
            if room == 0 {
                return Err(Failure::TooBig);
            }
            out.reserve((piece.len() * 2).max(256).min(room));
            let (read, written) = (decompress.total_in(), out.len());
            let status = decompress
                .decompress_vec(&piece[at..], out, FlushDecompress::None)
                .map_err(|_| Failure::Protocol("a compressed message is damaged"))?;
            let used = usize::try_from(decompress.total_in() - read).unwrap_or(0);
            at += used;
            if out.len() > limit {
                return Err(Failure::TooBig);
            }
            if status == Status::StreamEnd {
                // A block that says it is the last: others may follow (RFC 7692 §7.2.3.5).
                decompress.reset(false);
            }
            let is_stuck = used == 0 && out.len() == written;
            if at == piece.len() && (out.len() < out.capacity() || is_stuck) {
                return Ok(());
            }
            if is_stuck && out.len() < out.capacity() {
                return Err(Failure::Protocol("a compressed message is damaged"));
            }
        }
    }

    /// Ends a message.
    pub fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
        self.inflate(&TAIL, out, limit)?;
        if self.agreed.client_forgets {
            self.decompress = None;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
