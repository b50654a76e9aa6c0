use proptest::prelude::*;

use super::super::deflate::{CompressorPool, Deflater};
use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

// A client's frame: first byte, payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            bytes.push(0x80 | 0x7e);
            bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 0x7f);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn events_in(decoder: &mut MessageDecoder, pieces: &[&[u8]]) -> (Vec<DecodedEvent>, Option<WebSocketError>) {
    let mut events = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match decoder.decode(rest, &mut { usize::MAX }) {
                Ok((used, event)) => {
                    assert!(used > 0);
                    assert!(event.is_some() || used == rest.len());
                    events.extend(event);
                    rest = &rest[used..];
                }
                Err(failure) => return (events, Some(failure)),
            }
        }
    }
    (events, None)
}

fn events_of(bytes: &[u8]) -> (Vec<DecodedEvent>, Option<WebSocketError>) {
    let whole = events_in(&mut MessageDecoder::new(1000, None), &[bytes]);
    for at in 0..=bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(events_in(&mut MessageDecoder::new(1000, None), &[front, back]), whole, "split at {at}");
    }
    let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(events_in(&mut MessageDecoder::new(1000, None), &bytewise), whole);
    whole
}

fn text(text: &str) -> DecodedEvent {
    DecodedEvent::Message(WebSocketMessage::Text(text.to_owned()))
}

// RFC 6455 §5.7
#[test]
fn examples_of_the_specification_are_read() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(events_of(&hello), (vec![text("Hello")], None));
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(events_of(&ping), (vec![DecodedEvent::Ping(b"Hello".to_vec())], None));
    assert_eq!(events_of(&frame(0x8a, b"Hello")), (vec![DecodedEvent::Pong], None));
    assert_eq!(
        events_of(&frame(0x82, &[7; 256])),
        (vec![DecodedEvent::Message(WebSocketMessage::Binary(vec![7; 256]))], None)
    );
}

#[test]
fn control_frames_stand_between_fragments() {
    let bytes = [
        frame(0x01, b"Hel"),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x8a, b""),
        frame(0x80, b"lo"),
        frame(0x82, b""),
        frame(0x88, b""),
    ]
    .concat();
    let close = DecodedEvent::Close(CloseStatus::new(close::NO_STATUS, ""));
    let expected = vec![
        DecodedEvent::Ping(b"p".to_vec()),
        DecodedEvent::Pong,
        text("Hello"),
        DecodedEvent::Message(WebSocketMessage::Binary(vec![])),
        close,
    ];
    assert_eq!(events_of(&bytes), (expected, None));
}

#[test]
fn frames_that_break_a_rule_are_refused() {
    let mut short16 = frame(0x82, &[0; 126]);
    short16[3] = 125;
    let mut short64 = vec![0x82, 0x80 | 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    short64.extend_from_slice(&MASK);
    let mut negative = vec![0x82, 0x80 | 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0];
    negative.extend_from_slice(&MASK);
    for bytes in [
        vec![0x82, 0x01, b'x'],
        frame(0x83, b""),
        frame(0x8b, b""),
        frame(0xa2, b""),
        frame(0x92, b""),
        frame(0xc2, b""),
        frame(0xc9, b""),
        frame(0x09, b""),
        frame(0x89, &[0; 126]),
        frame(0x80, b"nothing to continue"),
        [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        frame(0x88, b"\x03"),
        frame(0x88, &1005_u16.to_be_bytes()),
        frame(0x88, &999_u16.to_be_bytes()),
        short16,
        short64,
        negative,
    ] {
        let (events, failure) = events_of(&bytes);
        assert!(events.is_empty() && matches!(failure, Some(WebSocketError::Protocol(_))), "{}", bytes.escape_ascii());
        assert_eq!(failure.unwrap().close_code(), 1002);
    }
}

#[test]
fn text_is_refused_at_its_first_wrong_byte() {
    for (bytes, good) in [
        (frame(0x81, b"\xff"), false),
        (frame(0x81, "\u{20ac}".as_bytes()), true),
        (frame(0x81, &"\u{20ac}".as_bytes()[..2]), false),
        ([frame(0x01, &"\u{20ac}".as_bytes()[..2]), frame(0x80, &"\u{20ac}".as_bytes()[2..])].concat(), true),
        ([frame(0x01, &"\u{20ac}".as_bytes()[..2]), frame(0x80, b"x")].concat(), false),
        (frame(0x81, b"\xed\xa0\x80"), false),
        (frame(0x81, b"\xf4\x90\x80\x80"), false),
        (frame(0x88, b"\x03\xe8\xff"), false),
    ] {
        let (_, failure) = events_of(&bytes);
        assert_eq!(failure, (!good).then_some(WebSocketError::InvalidUtf8), "{}", bytes.escape_ascii());
    }
    // Before the rest of the frame has come.
    let mut wrong = frame(0x81, &[b'x'; 100]);
    wrong[6] ^= 0xff;
    assert_eq!(
        MessageDecoder::new(1000, None).decode(&wrong[..7], &mut { usize::MAX }),
        Err(WebSocketError::InvalidUtf8)
    );
}

#[test]
fn input_behind_a_close_frame_is_skipped() {
    let bytes = [frame(0x88, b"\x03\xe9bye"), frame(0x81, b"more"), vec![0xff; 20]].concat();
    let close = DecodedEvent::Close(CloseStatus::new(1001, "bye"));
    assert_eq!(events_of(&bytes), (vec![close], None));
}

#[test]
fn message_over_its_limit_is_refused_when_it_is_announced() {
    let announced = &frame(0x82, &[0; 1001])[..8];
    assert_eq!(
        MessageDecoder::new(1000, None).decode(announced, &mut { usize::MAX }),
        Err(WebSocketError::MessageTooBig)
    );
    assert_eq!(WebSocketError::MessageTooBig.close_code(), 1009);
    assert_eq!(events_of(&frame(0x82, &[0; 1000])).1, None);
    let fragments = [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat();
    assert_eq!(events_of(&fragments).1, Some(WebSocketError::MessageTooBig));
}

#[test]
fn compressed_message_is_expanded_where_compression_was_negotiated() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate").unwrap();
    let content = "words, ".repeat(50);
    let mut deflater = Deflater::new(parameters);
    let mut decoder = MessageDecoder::new(1000, Some(parameters));
    for _ in 0..3 {
        let small = deflater.deflate(content.as_bytes(), &mut CompressorPool::default()).unwrap();
        let (front, back) = small.split_at(small.len() / 2);
        let bytes = [frame(0x41, front), frame(0x89, b""), frame(0x80, back)].concat();
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        let (events, failure) = events_in(&mut decoder, &bytewise);
        assert_eq!((events, failure), (vec![DecodedEvent::Ping(vec![]), text(&content)], None));
    }
    let bomb = deflater.deflate(&[b'x'; 1001], &mut CompressorPool::default()).unwrap();
    assert_eq!(events_in(&mut decoder, &[&frame(0xc1, &bomb)]).1, Some(WebSocketError::MessageTooBig));
    // Only the first frame of a message is marked as compressed.
    let mut decoder = MessageDecoder::new(1000, Some(parameters));
    let bytes = [frame(0x41, b""), frame(0xc0, b"")].concat();
    assert!(matches!(events_in(&mut decoder, &[&bytes]).1, Some(WebSocketError::Protocol(_))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_decode_alike_however_they_are_split(
        bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..300, deflates: bool,
    ) {
        let parameters = DeflateParameters::negotiate(b"permessage-deflate").filter(|_| deflates);
        let whole = events_in(&mut MessageDecoder::new(100, parameters), &[&bytes]);
        let (front, back) = bytes.split_at(at.min(bytes.len()));
        prop_assert_eq!(events_in(&mut MessageDecoder::new(100, parameters), &[front, back]), whole);
    }

    #[test]
    fn messages_arrive_as_they_were_sent(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..5),
        fragment in 1_usize..200,
        piece in 1_usize..500,
    ) {
        let mut bytes = Vec::new();
        for message in &messages {
            let mut fragments = message.chunks(fragment).peekable();
            let mut first = 0x02;
            while let Some(part) = fragments.next() {
                bytes.extend(frame(if fragments.peek().is_none() { first | 0x80 } else { first }, part));
                first = 0;
            }
            if message.is_empty() {
                bytes.extend(frame(0x82, b""));
            }
        }
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        let expected: Vec<DecodedEvent> = messages.into_iter().map(WebSocketMessage::Binary).map(DecodedEvent::Message).collect();
        prop_assert_eq!(events_in(&mut MessageDecoder::new(400, None), &pieces), (expected, None));
    }
}

#[test]
fn work_stops_at_its_budget_and_goes_on_where_it_stopped() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate").unwrap();
    let content = vec![b'x'; 3_000_000];
    let small = Deflater::new(parameters).deflate(&content, &mut CompressorPool::default()).unwrap();
    let bytes = [frame(0x41, &small), frame(0x89, b"p").repeat(20), frame(0x80, b"")].concat();
    for step in [1, 1000, 4096, 100_000] {
        let mut decoder = MessageDecoder::new(3_000_000, Some(parameters));
        let (mut rest, mut events, mut looks) = (bytes.as_slice(), Vec::new(), 0);
        while (!rest.is_empty() || decoder.is_expanding()) && looks < 10_000 {
            let (before, mut budget) = (decoder.memory_bytes(), step);
            let (used, event) = decoder.decode(rest, &mut budget).unwrap();
            // A buffer that grows doubles at most.
            assert!(used <= step + MAX_HEADER_BYTES * 21 && decoder.memory_bytes() <= 2 * (before + step + 48 * 1024));
            assert!(budget == 0 || event.is_some() || used == rest.len());
            events.extend(event);
            rest = &rest[used..];
            looks += 1;
        }
        if step > 1 {
            assert!(looks >= content.len() / step, "{looks}");
            assert_eq!((events.len(), events.last()), (21, Some(&text(std::str::from_utf8(&content).unwrap()))));
        }
    }
}
