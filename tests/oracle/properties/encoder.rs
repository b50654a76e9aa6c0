use wsgi_core::http::head::{ResponseHead, Version};
use wsgi_core::http::limits::Limits;
use wsgi_core::http::status::Status;
use wsgi_core::http1::body::{ChunkEvent, ChunkedDecoder};
use wsgi_core::http1::encoder::{Encoder, Lacking};
use wsgi_core::http1::plan::{self, BodySize, ResponseFraming};

use crate::oracle::choices::Choices;
use crate::oracle::responses::{self, Ending, ResponseContext};

const DATE: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";

/// A response by an arbitrary sequence of calls: content of any size, ends with and without trailers, also too early and too
/// often.
///
/// 1. A strict client reads exactly the content that was accepted, and our own decoder of chunks does.
/// 2. Accepted is what was offered, up to the announced length and no byte more; what is beyond is noted.
/// 3. The response is whole to the client exactly if its end was accepted, which it is only at its announced length.
/// 4. Nothing is accepted behind the end, and no byte is written.
pub fn encoder(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let asked = plan::ResponseContext {
        head_method: choices.below(8) == 7,
        version: choices.pick(&[Version::Http11, Version::Http10]),
        persistent: !choices.flag(),
    };
    let status = Status::new(choices.pick(&[200, 200, 200, 204, 205, 304])).expect("a status");
    let mut head = ResponseHead::new(status, b"");
    let announced = choices.flag().then(|| choices.below(60) as u64);
    head.content_length = announced;
    let plan = plan::response(&asked, &head, BodySize::Unknown, choices.flag());
    let mut wire = Vec::new();
    let mut encoder = Encoder::begin(&mut wire, &head, &plan, DATE, b"server");
    let head_end = wire.len();
    let (mut accepted, mut offered, mut is_over) = (Vec::new(), 0, false);
    let mut trailers: &[u8] = b"";
    for _ in 0..choices.below(20) {
        let before = wire.len();
        if choices.below(6) == 5 {
            let lines = choices.pick(&[&b""[..], b"X: 0\r\n", b"X: y\r\nZ: \r\n"]);
            let ended = encoder.end();
            let lacks =
                announced.filter(|_| encoder.wants_content()).map_or(0, |length| length - accepted.len() as u64);
            assert_eq!(ended.as_ref().err(), (lacks > 0).then_some(&Lacking(lacks)));
            if let Ok(Some(last)) = ended {
                last.write(&mut wire, lines);
                trailers = lines;
            }
            assert!(!is_over || wire.len() == before, "written behind the end");
            is_over |= lacks == 0;
        } else {
            let content: Vec<u8> =
                b"0\r\n\r\nHTTP/1.1 200 OK\r\n".iter().copied().cycle().take(choices.below(30)).collect();
            let frame = encoder.data(content.len() as u64);
            let room = plan_room(&plan, accepted.len()).min(content.len());
            let expected = if is_over { 0 } else { room };
            assert_eq!(frame.map_or(0, |frame| frame.length()), expected as u64);
            if !is_over {
                offered += content.len();
            }
            if let Some(frame) = frame {
                frame.open(&mut wire);
                wire.extend_from_slice(&content[..expected]);
                frame.close(&mut wire);
                accepted.extend_from_slice(&content[..expected]);
                assert!(!frame.is_bare() || wire.len() == before + expected);
            }
            assert!(expected > 0 || wire.len() == before, "written without content");
        }
    }
    let has_surplus = matches!(plan.framing, ResponseFraming::Length(length) if offered as u64 > length);
    assert_eq!(encoder.has_surplus(), has_surplus);
    // Without an announced length and without content the response is whole to the client as it stands.
    let is_whole = match plan.framing {
        ResponseFraming::NoBody => true,
        ResponseFraming::Length(length) => length == accepted.len() as u64,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => is_over,
    };
    let ending = if encoder.is_until_close() && !is_over { Ending::Reset } else { Ending::Ended };
    let context = ResponseContext { is_head: asked.head_method, version: asked.version };
    let reading =
        responses::read(&wire, &[context], ending).unwrap_or_else(|error| panic!("{error}: {}", wire.escape_ascii()));
    assert!(reading.responses.len() == 1 && !reading.torn);
    let read = &reading.responses[0];
    assert_eq!((&read.content, read.is_whole), (&accepted, is_whole), "{}", wire.escape_ascii());
    assert_eq!(read.trailers.len(), trailers.split(|byte| *byte == b'\n').count() - 1);
    if plan.framing == ResponseFraming::Chunked {
        assert_eq!(decode(&wire[head_end..]), (accepted, is_over));
    }
}

// Content that the response still takes by its plan.
fn plan_room(plan: &plan::Plan, accepted: usize) -> usize {
    match plan.framing {
        ResponseFraming::NoBody => 0,
        ResponseFraming::Length(length) => usize::try_from(length).unwrap_or(usize::MAX) - accepted,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => usize::MAX,
    }
}

// What our own decoder of request bodies makes of it: the content, and whether it is over.
fn decode(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut decoder = ChunkedDecoder::new(&Limits::default());
    let mut content = Vec::new();
    loop {
        let step = decoder.decode(body).expect("a chunked body");
        match step.event {
            ChunkEvent::Data(data) => content.extend_from_slice(data),
            ChunkEvent::More => return (content, false),
            ChunkEvent::End => {
                assert_eq!(step.consumed, body.len(), "bytes behind the end");
                return (content, true);
            }
        }
        body = &body[step.consumed..];
    }
}
