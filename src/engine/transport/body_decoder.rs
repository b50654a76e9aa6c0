//! How a request body is framed, and how far it has come.

use crate::http::limits::Limits;
use crate::http1::body::ChunkedDecoder;

/// Finds the content of a body in what arrives.
pub(in crate::engine) enum BodyDecoder {
    /// So many bytes are still to come, all of them content.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked(ChunkedDecoder),
}

impl BodyDecoder {
    /// Of a body of `length` bytes, or of a chunked one.
    pub fn new(length: Option<u64>, limits: &Limits) -> Self {
        length.map_or_else(|| Self::Chunked(ChunkedDecoder::new(limits)), Self::Length)
    }
}
