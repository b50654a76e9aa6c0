use wsgi_core::http::head::Version;
use wsgi_core::http::reject::Reject;
use wsgi_core::http1::encoder::{self, Encoder};
use wsgi_core::http1::plan::{self, BodySize, ResponseFraming};
use wsgi_core::interface::outgoing;

use crate::oracle::choices::Choices;
use crate::oracle::responses::{self, Ending, ResponseContext};

const DATE: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";

/// A response as it is planned and written, of arbitrary heads that passed the judgement:
///
/// 1. Followed by the content that its plan calls for, it is one well-formed response with that content, for the client
///    that asked.
/// 2. With a byte less, or without its last chunk, it is not whole.
/// 3. The fields are those of the application, in its order and case, with the server's behind them.
/// 4. It says that the connection ends exactly if the plan says so.
pub fn response(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let asked = plan::ResponseContext {
        head_method: choices.flag(),
        version: choices.pick(&[Version::Http11, Version::Http10]),
        persistent: !choices.flag(),
    };
    if choices.below(8) == 7 {
        return refusal(asked, &mut choices);
    }
    let code = format!("{}{}{} ", 2 + choices.below(8), choices.below(10), choices.below(10));
    let reason = choices.bytes();
    let Ok(mut head) = outgoing::status(&[code.as_bytes(), reason].concat()) else { return };
    let names = [&b"X"[..], b"content-length", b"Date", b"sERVER", b"Connection", b"Transfer-Encoding", b"X", b"ETag"];
    for _ in 0..choices.below(8) {
        let name = if choices.flag() { choices.bytes() } else { choices.pick(&names) };
        let value = choices.pick(&[&b"5"[..], b"close", b"", b"chunked", choices.0.get(..9).unwrap_or_default()]);
        // What is refused costs the whole response, in an application; here, the field.
        let _ = outgoing::field(&mut head, name, value);
    }
    let content: Vec<u8> = b"0\r\n\r\nHTTP/1.1 200 OK\r\n".iter().copied().cycle().take(choices.below(40)).collect();
    let size = if choices.flag() { BodySize::Unknown } else { BodySize::Known(content.len() as u64) };
    let plan = plan::response(&asked, &head, size, choices.flag());
    let mut wire = Vec::new();
    let mut encoder = Encoder::begin(&mut wire, &head, &plan, DATE, b"server");
    let head_end = wire.len();
    let expected: Vec<u8> = match plan.framing {
        ResponseFraming::NoBody => Vec::new(),
        ResponseFraming::Length(length) => {
            content.iter().copied().cycle().take(usize::try_from(length).map_or(0, |length| length.min(100))).collect()
        }
        ResponseFraming::Chunked | ResponseFraming::UntilClose => content,
    };
    // More than a test can send is cut short.
    let is_sent = !matches!(plan.framing, ResponseFraming::Length(length) if length != expected.len() as u64);
    for piece in expected.chunks(7) {
        let Some(frame) = encoder.data(piece.len() as u64) else { break };
        assert_eq!(frame.length(), piece.len() as u64);
        frame.open(&mut wire);
        wire.extend_from_slice(piece);
        frame.close(&mut wire);
    }
    if let Ok(Some(last)) = encoder.end() {
        last.write(&mut wire, b"");
    }
    let (read, is_whole) = read_one(&wire, asked, Ending::Ended);
    assert_eq!((read.status, read.reason.as_slice()), (head.status().code(), reason));
    assert_eq!((&read.content, is_whole), (&expected, is_sent));
    assert_eq!(read.says_close(), !plan.keep_alive);
    assert!(
        wire[..head_end].windows(head.lines().len().max(1)).any(|part| part == head.lines() || head.lines().is_empty())
    );
    assert!(asked.persistent || !plan.keep_alive);
    let torn = wire.len() - 1;
    if torn >= head_end {
        let ending = if plan.framing == ResponseFraming::UntilClose { Ending::Reset } else { Ending::Ended };
        assert!(!read_one(&wire[..torn], asked, ending).1, "a torn response looks whole");
    }
}

fn refusal(asked: plan::ResponseContext, choices: &mut Choices<'_>) {
    let reject = Reject::ALL[choices.below(Reject::ALL.len())];
    let retry_after = choices.flag().then_some(30);
    let mut wire = Vec::new();
    let content = encoder::refusal(&mut wire, &reject, DATE, b"server", asked.head_method, retry_after);
    let (read, is_whole) = read_one(&wire, asked, Ending::Open);
    assert!(is_whole && read.says_close() && read.status == reject.status().code());
    assert_eq!((read.content.is_empty(), read.content.len() as u64), (asked.head_method, content));
    assert_eq!(read.values(b"retry-after").count(), usize::from(retry_after.is_some()));
}

fn read_one(wire: &[u8], asked: plan::ResponseContext, ending: Ending) -> (responses::Response, bool) {
    let asked = ResponseContext { is_head: asked.head_method, version: asked.version };
    let reading =
        responses::read(wire, &[asked], ending).unwrap_or_else(|error| panic!("{error}: {}", wire.escape_ascii()));
    assert!(reading.responses.len() == 1 && reading.interim.is_empty() && !reading.torn);
    let response = reading.responses[0].clone();
    let is_whole = response.is_whole;
    (response, is_whole)
}
