//! Heads of messages. A request head owns its bytes, so that it can travel between threads; its parts are spans of them.

use super::status::Status;
use super::target::Form;

/// The supported versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// As it stands in a request line.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"HTTP/1.0",
            Self::Http11 => b"HTTP/1.1",
        }
    }
}

/// A stretch of a head's bytes. Half the size of two `usize`, so that a browser's fields fit into a few cache lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub start: u32,
    /// Where it ends; this byte is not part of it.
    pub end: u32,
}

impl Span {
    /// Where `part` lies in `whole`. `None` if it is no part of it, or lies beyond what 32 bits can count.
    pub fn of(part: &[u8], whole: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
        let end = start.checked_add(part.len()).filter(|&end| end <= whole.len())?;
        Some(Self { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
    }

    /// The bytes it stands for; none if it does not lie in `whole`.
    pub fn slice(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The parts of a valid request line, as spans of the head that it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine {
    pub line: Span,
    pub method: Span,
    pub target: Span,
    pub path: Span,
    pub query: Span,
    pub authority: Option<Span>,
    pub form: Form,
    pub version: Version,
}

/// The head that came before on the same connection. Clients mostly repeat their fields, which need not be parsed again. Its
/// allocations are reused for the next head in any case.
#[derive(Clone, Debug, Default)]
pub(crate) struct PreviousHead {
    pub bytes: Vec<u8>,
    fields: Vec<(Span, Span)>,
    // Where the field section begins.
    section: usize,
}

impl PreviousHead {
    /// The spans of a head whose field section begins at `at` with the same bytes as this one's, and the length of the section.
    /// If it does not, an empty vector to fill, and `None`.
    pub fn repeated(&mut self, section: &[u8], at: usize) -> (Vec<(Span, Span)>, Option<usize>) {
        let mut fields = std::mem::take(&mut self.fields);
        let own = self.bytes.get(self.section..).unwrap_or_default();
        // It ends with the empty line, so that a section that begins with it has the same fields.
        let repeated = (!own.is_empty() && section.starts_with(own)).then_some(own.len());
        // It has given its fields away.
        self.bytes.clear();
        if repeated.is_none() {
            fields.clear();
        } else if at != self.section {
            let (Ok(at), Ok(before), Ok(_)) =
                (u32::try_from(at), u32::try_from(self.section), u32::try_from(at + section.len()))
            else {
                return (Vec::new(), None);
            };
            for (name, value) in &mut fields {
                for span in [name, value] {
                    *span = Span { start: span.start - before + at, end: span.end - before + at };
                }
            }
        }
        (fields, repeated)
    }
}

/// Buffers of larger heads are freed instead of reused.
const PREVIOUS_HEAD_BYTES: usize = 4096;

/// The head of a request, as it came. Only the parser makes one, so its fields and its target are valid.
#[derive(Clone, Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    request: RequestLine,
    fields: Vec<(Span, Span)>,
}

impl RequestHead {
    /// Method and path for a log, which must escape what is not printable. The query may hold secrets.
    pub fn method_and_path(&self) -> String {
        format!("{} {}", String::from_utf8_lossy(self.method()), String::from_utf8_lossy(self.path()))
    }

    /// A head of parts that were found to be valid; all spans are spans of `bytes`.
    pub(crate) fn new(bytes: Vec<u8>, request: RequestLine, fields: Vec<(Span, Span)>) -> Self {
        Self { bytes, request, fields }
    }

    /// Takes the head out of what goes on without it, where an empty one is left.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(Vec::new(), self.request, Vec::new());
        std::mem::replace(self, empty)
    }

    /// Its buffers for the next head of the connection; empty ones if they are unusually large.
    pub(crate) fn into_earlier(self) -> PreviousHead {
        let Self { bytes, request, fields, .. } = self;
        if bytes.capacity() + fields.capacity() * size_of::<(Span, Span)>() > PREVIOUS_HEAD_BYTES {
            return PreviousHead::default();
        }
        PreviousHead { bytes, fields, section: request.line.end as usize + 2 }
    }

    /// The method, in the case it came.
    pub fn method(&self) -> &[u8] {
        self.request.method.slice(&self.bytes)
    }

    /// The request target as it came.
    pub fn target(&self) -> &[u8] {
        self.request.target.slice(&self.bytes)
    }

    /// The target's form.
    pub fn form(&self) -> Form {
        self.request.form
    }

    /// The request line as it came, without its line end.
    pub fn request_line(&self) -> &[u8] {
        self.request.line.slice(&self.bytes)
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.request.version
    }

    /// The path, not decoded. An absolute-form target without one means `/` (RFC 9110 §4.2.3); the asterisk has an
    /// empty one.
    pub fn path(&self) -> &[u8] {
        match self.request.path.slice(&self.bytes) {
            [] if self.request.form == Form::Absolute => b"/",
            path => path,
        }
    }

    /// The query without its question mark, not decoded; empty if there is none.
    pub fn query(&self) -> &[u8] {
        self.request.query.slice(&self.bytes)
    }

    /// The authority of an absolute-form target. It replaces the Host field (RFC 9112 §3.2.2).
    pub fn authority(&self) -> Option<&[u8]> {
        match self.request.form {
            Form::Absolute => self.request.authority.map(|span| span.slice(&self.bytes)),
            Form::Origin | Form::Authority | Form::Asterisk => None,
        }
    }

    /// Names and values of the field lines, in order. Names are as they came, values without white space at their ends.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + DoubleEndedIterator + Clone {
        self.fields.iter().map(|(name, value)| (name.slice(&self.bytes), value.slice(&self.bytes)))
    }

    /// The field lines as they came, without what is behind their values, and their names.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| {
            let line = Span { start: name.start, end: value.end.max(name.end) };
            (line.slice(&self.bytes), name.slice(&self.bytes))
        })
    }

    /// The values of one field's lines, in order. The name's case does not matter.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first line of a field.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        // The length alone rules most names out.
        let is_as_long = |span: &Span| span.end.wrapping_sub(span.start) as usize == name.len();
        let mut candidates = self.fields.iter().filter(|(found, _)| is_as_long(found));
        candidates
            .find(|(found, _)| found.slice(&self.bytes).eq_ignore_ascii_case(name))
            .map(|(_, value)| value.slice(&self.bytes))
    }

    /// Whether there is a line of this field.
    pub fn has(&self, name: &[u8]) -> bool {
        self.value(name).is_some()
    }
}

/// What was received of a request that was answered.
#[derive(Clone, Debug)]
pub enum Received {
    /// Its head. Without fields, if the request was answered before these were complete.
    Head(RequestHead),
    /// Its request line as far as it came, which is incomplete or breaks a rule.
    Line(Vec<u8>),
}

impl Received {
    /// The request line as far as it came, without its line end.
    pub fn request_line(&self) -> &[u8] {
        match self {
            Self::Head(head) => head.request_line(),
            Self::Line(line) => line,
        }
    }

    /// The head, if the request line is valid.
    pub fn head(&self) -> Option<&RequestHead> {
        match self {
            Self::Head(head) => Some(head),
            Self::Line(_) => None,
        }
    }

    /// Whether the method is HEAD, also in an invalid request line: the response has no content (RFC 9110 §9.3.2).
    pub fn asks_by_head(&self) -> bool {
        self.request_line().starts_with(b"HEAD ")
    }
}

#[cfg(test)]
impl RequestHead {
    /// A head for tests of modules that must not import the parser.
    pub(crate) fn sample(line: &str, fields: &[(&str, &[u8])]) -> Self {
        let mut bytes = format!("{line}\r\n").into_bytes();
        let mut spans = Vec::new();
        let number = |position: usize| u32::try_from(position).unwrap();
        for (name, value) in fields {
            let start = bytes.len();
            push_line(&mut bytes, name.as_bytes(), value);
            let (colon, end) = (start + name.len(), bytes.len() - 2);
            let name = Span { start: number(start), end: number(colon) };
            spans.push((name, Span { start: number(colon + 2), end: number(end) }));
        }
        bytes.extend_from_slice(b"\r\n");
        let words: Vec<&[u8]> = bytes[..line.len()].split(|&byte| byte == b' ').collect();
        let parts = super::target::parse(words[0], words[1]).unwrap();
        let span = |part: &[u8]| Span::of(part, &bytes).unwrap_or_default();
        let request = RequestLine {
            line: span(&bytes[..line.len()]),
            method: span(words[0]),
            target: span(words[1]),
            path: span(parts.path),
            query: span(parts.query),
            authority: parts.authority.map(span),
            form: parts.form,
            version: if words[2] == b"HTTP/1.0" { Version::Http10 } else { Version::Http11 },
        };
        Self::new(bytes, request, spans)
    }
}

/// The head of a response from the application: its status, and its fields as lines.
///
/// What is added is sent. Callers of [`ResponseHead::new`] and [`ResponseHead::push`] have validated the
/// bytes before (`interface::outgoing` does for applications).
#[derive(Clone, Debug)]
pub struct ResponseHead {
    status: Status,
    // The reason phrase and the field lines behind it: one allocation.
    bytes: Vec<u8>,
    reason_length: usize,
    /// The Content-Length of the application. It has no line: the framing of the response decides whether it is sent.
    pub content_length: Option<u64>,
    /// There is a Date line.
    pub has_date: bool,
    /// There is a Server line.
    pub has_server: bool,
    /// The application asked for the connection to be closed.
    pub close: bool,
}

impl ResponseHead {
    /// A head without fields.
    pub fn new(status: Status, reason: &[u8]) -> Self {
        // Room for the fields of a usual response, so that it grows once at most.
        let mut bytes = Vec::with_capacity(reason.len() + 240);
        bytes.extend_from_slice(reason);
        Self {
            status,
            bytes,
            reason_length: reason.len(),
            content_length: None,
            has_date: false,
            has_server: false,
            close: false,
        }
    }

    /// Adds a field line, and notes Date and Server.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.has_date |= name.eq_ignore_ascii_case(b"Date");
        self.has_server |= name.eq_ignore_ascii_case(b"Server");
        push_line(&mut self.bytes, name, value);
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The reason phrase; may be empty.
    pub fn reason(&self) -> &[u8] {
        self.bytes.get(..self.reason_length).unwrap_or_default()
    }

    /// The field lines, each with its line end.
    pub fn lines(&self) -> &[u8] {
        self.bytes.get(self.reason_length..).unwrap_or_default()
    }

    /// Whether the content is a stream of server-sent events, which has no end of its own.
    pub fn is_event_stream(&self) -> bool {
        const LINE: &[u8] = b"Content-Type: text/event-stream";
        self.lines().split(|byte| *byte == b'\n').any(|line| {
            line.split_at_checked(LINE.len()).is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(LINE) && matches!(rest.first(), Some(b';' | b' ' | b'\r'))
            })
        })
    }
}

/// Appends one field line.
pub fn push_line(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    lines.reserve(name.len() + value.len() + 4);
    lines.extend_from_slice(name);
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{PreviousHead, RequestHead, ResponseHead, Span};
    use crate::http::status::Status;

    #[test]
    fn event_stream_is_told_by_its_content_type_alone() {
        let head = |name: &[u8], value: &[u8]| {
            let mut head = ResponseHead::new(Status::literal(200), b"OK");
            head.push(b"X-First", b"1");
            head.push(name, value);
            head.is_event_stream()
        };
        assert!(head(b"Content-Type", b"text/event-stream"));
        assert!(head(b"content-type", b"Text/Event-Stream; charset=utf-8"));
        assert!(!head(b"Content-Type", b"text/event-streams"));
        assert!(!head(b"Content-Type", b"text/plain"));
        assert!(!head(b"X-Content-Type", b"text/event-stream"));
    }

    #[test]
    fn span_of_a_part_gives_the_part_back() {
        let whole = b"GET / HTTP/1.1";
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let span = Span::of(&whole[start..end], whole);
                assert_eq!(span.map(|span| span.slice(whole)), Some(&whole[start..end]));
            }
        }
    }

    #[test]
    fn span_of_foreign_bytes_is_none() {
        let bytes = b"abcdef";
        assert_eq!(Span::of(&bytes[..3], &bytes[1..]), None);
        assert_eq!(Span::of(&bytes[2..], &bytes[1..4]), None);
        assert_eq!(Span { start: 2, end: 9 }.slice(bytes), b"");
        assert_eq!(Span { start: 4, end: 2 }.slice(bytes), b"");
    }

    #[test]
    fn repeated_section_is_found_wherever_the_line_before_it_ends() {
        let fields: &[(&str, &[u8])] = &[("Host", b"a"), ("X-A", b"")];
        for line in ["GET / HTTP/1.1", "GET /longer?than=that HTTP/1.1", "GET /b HTTP/1.0"] {
            let mut earlier = RequestHead::sample("GET /a HTTP/1.1", fields).into_earlier();
            let next = RequestHead::sample(line, fields);
            let section = &next.bytes[line.len() + 2..];
            let with_more = [section, b"GET "].concat();
            let (spans, length) = earlier.repeated(&with_more, line.len() + 2);
            assert_eq!((spans, length), (next.fields.clone(), Some(section.len())), "{line}");
        }
    }

    #[test]
    fn other_section_is_not_taken_for_a_repeated_one() {
        let earlier = RequestHead::sample("GET / HTTP/1.1", &[("Host", b"a")]).into_earlier();
        for section in [&b""[..], b"Host: a\r\n", b"Host: a\r\n\r", b"Host: b\r\n\r\n", b"Host: a\r\nX: y\r\n\r\n"] {
            assert_eq!(earlier.clone().repeated(section, 16), (Vec::new(), None));
        }
        assert_eq!(PreviousHead::default().repeated(b"\r\n", 16), (Vec::new(), None));
        let large = RequestHead::sample("GET / HTTP/1.1", &[("Host", &[b'a'; 5000])]);
        assert!(large.into_earlier().bytes.is_empty());
    }

    #[test]
    fn response_head_keeps_lines_in_order_and_case() {
        let mut head = ResponseHead::new(Status::literal(404), b"Gone fishing");
        head.push(b"X-a", b"1");
        head.push(b"set-cookie", b"b=2");
        head.push(b"SET-COOKIE", b"");
        assert_eq!((head.status().code(), head.reason()), (404, &b"Gone fishing"[..]));
        assert_eq!(head.lines(), b"X-a: 1\r\nset-cookie: b=2\r\nSET-COOKIE: \r\n");
        assert!(!head.has_date && !head.has_server && !head.close && head.content_length.is_none());
    }

    #[test]
    fn response_head_notes_date_and_server_in_any_case() {
        let mut head = ResponseHead::new(Status::literal(200), b"");
        head.push(b"dATE", b"x");
        assert!(head.has_date && !head.has_server);
        head.push(b"SERVER", b"y");
        assert!(head.has_server);
        assert_eq!(head.reason(), b"");
    }
}
