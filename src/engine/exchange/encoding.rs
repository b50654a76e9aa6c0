//! How a reply becomes bytes, by the protocol of its connection.

use crate::engine::options::SERVER;
#[cfg(any(test, feature = "doubles"))]
use crate::engine::testkit::framed::{FrameHeader, FramedEncoder};
use crate::engine::transport::Transport;
use crate::http::head::ResponseHead;
use crate::http::reject::Reject;
use crate::http1::encoder::{self, Encoder, Lacking, LastChunk};
use crate::http1::plan::{self, BodySize, Plan, ResponseContext};

/// Seconds that the client of a `503` is asked to wait.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The framing of one response.
pub(in crate::engine) enum Encoding {
    /// HTTP/1.1: the response has the connection to itself. `None` before its head.
    Http1(Option<Encoder>),
    /// A double: the responses on a connection are told apart by numbers.
    #[cfg(any(test, feature = "doubles"))]
    Framed(FramedEncoder),
}

/// Accepted content, and what stands around it.
pub(in crate::engine) enum ReplyFrame {
    Http1(encoder::ContentFrame),
    #[cfg(any(test, feature = "doubles"))]
    Framed(FrameHeader),
}

impl ReplyFrame {
    /// Bytes of the content that are accepted, counted from its beginning.
    pub fn length(&self) -> u64 {
        match self {
            Self::Http1(frame) => frame.length(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(header) => header.length,
        }
    }

    /// Whether nothing stands around the content.
    pub fn is_bare(&self) -> bool {
        match self {
            Self::Http1(frame) => frame.is_bare(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(_) => false,
        }
    }

    /// Appends what stands before the content.
    pub fn open(&self, out: &mut Vec<u8>) {
        match self {
            Self::Http1(frame) => frame.open(out),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(header) => header.write(out),
        }
    }

    /// Appends what stands behind it.
    pub fn close(&self, out: &mut Vec<u8>) {
        match self {
            Self::Http1(frame) => frame.close(out),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(_) => {}
        }
    }
}

/// What stands behind the content.
pub(in crate::engine) enum ContentEnd {
    LastChunk(LastChunk),
    #[cfg(any(test, feature = "doubles"))]
    Framed(u32),
}

impl ContentEnd {
    /// Appends it, with the trailer section `lines`.
    pub fn write(self, out: &mut Vec<u8>, lines: &[u8]) {
        match self {
            Self::LastChunk(last) => last.write(out, lines),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(stream) => FramedEncoder::write_end(out, stream, lines),
        }
    }
}

impl Encoding {
    /// Decides how the response is framed, and appends its head.
    pub fn begin(
        &mut self,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        size: BodySize,
        asked: ResponseContext,
        must_close: bool,
        date: &[u8; 29],
    ) {
        match self {
            Self::Http1(encoder) => {
                let plan = plan::response(&asked, head, size, must_close);
                *encoder = Some(Encoder::begin(out, head, &plan, date, SERVER));
            }
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => encoder.begin(out, head, asked.head_method),
        }
    }

    /// Appends the head that changes the protocol, where there is such a thing.
    pub fn upgrade(&mut self, out: &mut Vec<u8>, head: &ResponseHead, date: &[u8; 29]) {
        match self {
            Self::Http1(encoder) => *encoder = Some(Encoder::begin(out, head, &Plan::upgrade(), date, SERVER)),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(_) => {}
        }
    }

    /// Appends a refusal as the whole response. Returns the size of its content in bytes.
    pub fn refuse(&mut self, out: &mut Vec<u8>, reject: Reject, head_method: bool, date: &[u8; 29]) -> u64 {
        match self {
            Self::Http1(_) => refuse_http1(out, reject, head_method, date),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => encoder.refuse(out, reject, head_method),
        }
    }

    /// Appends field lines ahead of the response.
    pub fn early_hints(&self, out: &mut Vec<u8>, lines: &[u8]) {
        match self {
            Self::Http1(_) => encoder::early_hints(out, lines),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => encoder.early_hints(out, lines),
        }
    }

    /// Appends what asks for the body.
    pub fn interim_continue(&self, out: &mut Vec<u8>) {
        match self {
            Self::Http1(_) => encoder::interim_continue(out),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(_) => {}
        }
    }

    /// Offers `length` bytes of content. `None`: nothing of it is accepted.
    pub fn data(&mut self, length: u64) -> Option<ReplyFrame> {
        match self {
            Self::Http1(encoder) => encoder.as_mut()?.data(length).map(ReplyFrame::Http1),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => encoder.data(length).map(ReplyFrame::Framed),
        }
    }

    /// Ends the content.
    pub fn end(&mut self) -> Result<Option<ContentEnd>, Lacking> {
        match self {
            Self::Http1(encoder) => Ok(encoder.as_mut().map_or(Ok(None), Encoder::end)?.map(ContentEnd::LastChunk)),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => Ok(encoder.end()?.map(ContentEnd::Framed)),
        }
    }

    /// Breaks the response off, so that its client cannot mistake it for a whole one. Without a framing that shows it, the
    /// connection is reset.
    pub fn abort(&self, transport: &Transport) {
        match self {
            Self::Http1(_) if self.is_until_close() => transport.stream().reset_on_close(),
            Self::Http1(_) => {}
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => transport.output().append(|out| encoder.write_reset(out)),
        }
    }

    /// Whether the connection is the response's alone.
    pub fn owns_connection(&self) -> bool {
        matches!(self, Self::Http1(_))
    }

    fn http1(&self) -> Option<&Encoder> {
        match self {
            Self::Http1(encoder) => encoder.as_ref(),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(_) => None,
        }
    }

    /// Whether content would be of use: not without a head, not after HEAD, nor with a status that forbids it.
    pub fn wants_content(&self) -> bool {
        match self {
            Self::Http1(encoder) => encoder.as_ref().is_some_and(Encoder::wants_content),
            #[cfg(any(test, feature = "doubles"))]
            Self::Framed(encoder) => encoder.wants_content(),
        }
    }

    /// Whether trailer fields can follow the content.
    pub fn can_trail(&self) -> bool {
        self.http1().is_none_or(Encoder::can_trail) && self.wants_content()
    }

    /// Whether the end of the connection is the end of the content.
    pub fn is_until_close(&self) -> bool {
        self.http1().is_some_and(Encoder::is_until_close)
    }

    /// Whether the connection can be used again once the response has ended.
    pub fn keeps_alive(&self) -> bool {
        self.http1().map_or_else(|| !self.owns_connection(), Encoder::keeps_alive)
    }

    /// Whether content was offered beyond the announced length.
    pub fn has_surplus(&self) -> bool {
        self.http1().is_some_and(Encoder::has_surplus)
    }

    /// Bytes of content that the announced length still lacks; `None` if none was announced.
    pub fn left(&self) -> Option<u64> {
        self.http1().and_then(Encoder::left)
    }
}

/// Appends a refusal of HTTP/1.1, also for a request that never became an exchange. Returns the size of its content in bytes.
pub(in crate::engine) fn refuse_http1(out: &mut Vec<u8>, reject: Reject, head_method: bool, date: &[u8; 29]) -> u64 {
    let retry_after = (reject.status().code() == 503).then_some(RETRY_AFTER_SECONDS);
    encoder::refusal(out, &reject, date, SERVER, head_method, retry_after)
}
