//! permessage-deflate (RFC 7692): what is agreed on, and the two sides of it.
//!
//! Both windows are kept small where the client lets us, and compressors are shared: a conversation then costs little.

use std::sync::Arc;

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
/// Compressors that are kept, 7 MB in all. Where more conversations than that send in turn, one is made ready for each message,
/// which takes about 20 µs; tests see to that with few.
const COMPRESSORS: usize = if cfg!(test) { 2 } else { 32 };
/// Bytes that are expanded at a time, at most.
const STEP: usize = 64 * 1024;
/// What expanding takes inside a message, about.
const STATE: usize = 48 * 1024;
/// What ends every compressed message and is left out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const DAMAGED: Failure = Failure::Protocol("a compressed message is damaged");

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

    fn client_window(self) -> u8 {
        self.client_bits.unwrap_or(LARGEST).clamp(SMALLEST, LARGEST)
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

/// The compressors of a thread. One takes 210 KiB however small its window is, so that conversations share a few: which one has
/// a message to send gets one, with the window that it remembers.
#[derive(Default)]
pub struct Compressors {
    // The one that was used last is at the end.
    ready: Vec<Compressor>,
}

struct Compressor {
    compress: Compress,
    bits: u8,
    // Whose messages it has seen last.
    owner: Arc<()>,
}

impl Compressors {
    // The compressor that has seen the owner's last message, or any other; and whether it is that one.
    fn take(&mut self, owner: &Arc<()>, bits: u8) -> (Compressor, bool) {
        if let Some(at) = self.ready.iter().position(|compressor| Arc::ptr_eq(&compressor.owner, owner)) {
            return (self.ready.remove(at), true);
        }
        let oldest = if self.ready.len() < COMPRESSORS { None } else { Some(self.ready.remove(0)) };
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

/// Compresses messages.
pub struct Deflater {
    agreed: Agreed,
    // Stands for this side of the conversation.
    owner: Arc<()>,
    // What a message may refer to: the end of what was compressed before.
    window: Vec<u8>,
}

impl Deflater {
    /// What was agreed on for this side.
    pub fn new(agreed: Agreed) -> Self {
        Self { agreed, owner: Arc::default(), window: Vec::new() }
    }

    /// The compressed payload of a message, where it is worth it.
    pub fn deflate(&mut self, payload: &[u8], compressors: &mut Compressors) -> Option<Vec<u8>> {
        if payload.len() < WORTH_IT {
            return None;
        }
        let bits = self.agreed.server_bits.clamp(SMALLEST, LARGEST);
        let (mut compressor, goes_on) = compressors.take(&self.owner, bits);
        let compress = &mut compressor.compress;
        if goes_on && self.agreed.server_forgets {
            compress.reset();
        }
        // Only a wrong use of the library would fail here; the compressor is thrown away then, and a message that refers to
        // nothing is always right.
        if !goes_on && !self.window.is_empty() && compress.set_dictionary(&self.window).is_err() {
            return None;
        }
        let out = deflated(compress, payload)?;
        compressors.ready.push(compressor);
        if !self.agreed.server_forgets {
            remember(&mut self.window, payload, 1 << bits);
        }
        Some(out)
    }
}

// Keeps the end of what was said in a window of `size` bytes.
fn remember(window: &mut Vec<u8>, payload: &[u8], size: usize) {
    let new = &payload[payload.len().saturating_sub(size)..];
    let kept = window.len().min(size - new.len());
    window.drain(..window.len() - kept);
    window.reserve_exact(new.len());
    window.extend_from_slice(new);
}

fn deflated(compress: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() / 2 + 64);
    let mut at = 0;
    loop {
        let before = compress.total_in();
        compress.compress_vec(&payload[at..], &mut out, FlushCompress::Sync).ok()?;
        at += usize::try_from(compress.total_in() - before).unwrap_or(0);
        // All is out once there is room to spare.
        if at == payload.len() && out.len() < out.capacity() {
            break;
        }
        out.reserve(out.len().max(256));
    }
    if out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
    Some(out)
}

/// Expands messages.
pub struct Inflater {
    agreed: Agreed,
    // Only inside a message: it takes far more than the window.
    decompress: Option<Decompress>,
    // What a message may refer to: the end of what was expanded before.
    window: Vec<u8>,
    // It stopped before it came to the end of what it was given.
    is_expanding: bool,
}

impl Inflater {
    /// What was agreed on for the other side.
    pub fn new(agreed: Agreed) -> Self {
        Self { agreed, decompress: None, window: Vec::new(), is_expanding: false }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        (self.decompress, self.window, self.is_expanding) = (None, Vec::new(), false);
    }

    /// Bytes that it takes for the message that is coming.
    pub fn held(&self) -> usize {
        if self.decompress.is_some() { STATE } else { 0 }
    }

    /// Whether there is more in what was taken already.
    pub fn is_expanding(&self) -> bool {
        self.is_expanding
    }

    /// Appends what a piece of a compressed message holds, as far as `budget` goes, which falls by what is made. Returns how
    /// much of the piece was taken. More than `limit` bytes in all are refused before they are made.
    pub fn inflate(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
        budget: &mut usize,
    ) -> Result<usize, Failure> {
        let decompress = match &mut self.decompress {
            Some(decompress) => decompress,
            none => {
                let mut fresh = Decompress::new_with_window_bits(false, self.agreed.client_window());
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
            let (start, step) = (out.len(), (piece.len() * 2).clamp(256, STEP).min(room));
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
                return Err(Failure::TooBig);
            }
            if status == Status::StreamEnd {
                // A block that says it is the last: others may follow (RFC 7692 §7.2.3.5).
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

    /// Ends a message.
    pub fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
        self.inflate(&TAIL, out, limit, &mut { usize::MAX })?;
        self.decompress = None;
        if !self.agreed.client_forgets {
            remember(&mut self.window, out, 1 << self.agreed.client_window());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
