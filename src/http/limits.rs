//! The configurable limits of a request.

/// The limits, each enforced before the bytes that break it are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its line end; one more is answered 414.
    pub request_line: usize,
    /// Field lines of one head, and of one trailer section; one more is answered 431.
    pub header_fields: usize,
    /// Bytes of the head after the request line: all field lines with their line ends and the empty line that closes
    /// them. One more is answered 431. The same limit holds for a trailer section.
    pub header_size: usize,
    /// Bytes of content, without chunk framing; one more is answered 413.
    pub body_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_line: 8190, header_fields: 100, header_size: 65_536, body_size: 1 << 30 }
    }
}
