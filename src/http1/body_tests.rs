use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

const LIMITS: Limits = Limits { request_line: 8190, header_fields: 100, header_size: 65_536, body_size: 1 << 30 };

/// What a body was read as: its content so far, and how it ended after how many bytes (`None`: it goes on).
#[derive(Clone, Debug, PartialEq)]
struct Read {
    content: Vec<u8>,
    end: Option<Result<usize, Reject>>,
}

fn feed(decoder: &mut ChunkedDecoder, input: &[u8], read: &mut Read, before: usize) {
    let mut at = 0;
    loop {
        match decoder.decode(&input[at..]) {
            Ok(step) => {
                at += step.consumed;
                match step.event {
                    ChunkEvent::Data(data) => {
                        assert!(!data.is_empty());
                        read.content.extend_from_slice(data);
                        assert_eq!(decoder.received(), read.content.len() as u64);
                    }
                    ChunkEvent::More => {
                        assert_eq!(at, input.len(), "everything is consumed");
                        return;
                    }
                    ChunkEvent::End => {
                        read.end = Some(Ok(before + at));
                        return;
                    }
                }
            }
            Err(reject) => {
                assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(reject), "a refused body stays refused");
                read.end = Some(Err(reject));
                return;
            }
        }
    }
}

fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Read {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut read = Read { content: Vec::new(), end: None };
    let mut before = 0;
    for piece in pieces {
        feed(&mut decoder, piece, &mut read, before);
        if read.end.is_some() {
            break;
        }
        before += piece.len();
    }
    read
}

fn every_way_within(input: &[u8], limits: &Limits) -> Read {
    let expected = in_pieces([input], limits);
    assert_eq!(in_pieces(input.chunks(1), limits), expected, "by byte: {}", input.escape_ascii());
    for split in 0..=input.len() {
        let (first, second) = input.split_at(split);
        assert_eq!(in_pieces([first, second], limits), expected, "split at {split}: {}", input.escape_ascii());
    }
    expected
}

fn every_way(input: &[u8]) -> Read {
    every_way_within(input, &LIMITS)
}

fn fixed_seed(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

// RFC 9112 §7.1
#[test]
fn valid_body_gives_its_content_and_leaves_the_rest() {
    for (body, content) in [
        (&b"0\r\n\r\n"[..], &b""[..]),
        (b"000\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"0005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (b"7\r\n0\r\n\r\nab\r\n0\r\n\r\n", b"0\r\n\r\nab"),
        (b"5;a=b;c=\"d e\"\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;a\r\nhello\r\n0;z=\"\xff\"\r\n\r\n", b"hello"),
        (b"5 ;a\r\nhello\r\n0\t; a = b\r\n\r\n", b"hello"),
        (b"0\r\nX-T: 1\r\n\r\n", b""),
        (b"0\r\nX-T:\r\nY: \t\xe9 \r\n\r\n", b""),
        (b"0\r\nX:POST / HTTP/1.1\r\n\r\n", b""),
        (b"1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n", b"x"),
    ] {
        let input = [body, b"GET /next HTTP/1.1\r\n"].concat();
        let expected = Read { content: content.to_vec(), end: Some(Ok(body.len())) };
        assert_eq!(every_way(&input), expected, "{}", body.escape_ascii());
    }
}

#[test]
fn every_prefix_of_a_body_waits() {
    let body = b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..body.len() {
        assert_eq!(every_way(&body[..end]).end, None, "{end}");
    }
}

#[test]
fn malformed_body_is_refused_by_its_rule() {
    for (body, reject) in [
        (&b"10000000000000005\r\nhello\r\n0\r\n\r\n"[..], Reject::ChunkSizeOverflow),
        (b"fffffffffffffffff\r\n", Reject::ChunkSizeOverflow),
        (b"000000000000000000000000000000005\r\n", Reject::ChunkSizeOverflow),
        (b"-5\r\n", Reject::ChunkSizeMalformed),
        (b"+5\r\n", Reject::ChunkSizeMalformed),
        (b"0x5\r\n", Reject::ChunkSizeMalformed),
        (b"5_0\r\n", Reject::ChunkSizeMalformed),
        (b"5h\r\n", Reject::ChunkSizeMalformed),
        (b"0_2e\r\n", Reject::ChunkSizeMalformed),
        (b"g\r\n", Reject::ChunkSizeMalformed),
        (b" 5\r\n", Reject::ChunkSizeMalformed),
        (b"\t5\r\n", Reject::ChunkSizeMalformed),
        (b"5 \r\nhello\r\n0\r\n\r\n", Reject::ChunkSizeMalformed),
        (b"5 5\r\n", Reject::ChunkSizeMalformed),
        (b"5 \n", Reject::ChunkSizeMalformed),
        (b";a\r\n", Reject::ChunkSizeMalformed),
        (b" ;a\r\n", Reject::ChunkSizeMalformed),
        (b"\r\nhello\r\n0\r\n\r\n", Reject::ChunkSizeMalformed),
        (b"\nhello", Reject::ChunkSizeMalformed),
        (b"\xb2\r\n", Reject::ChunkSizeMalformed),
        (b"INVALID!!!\r\n", Reject::ChunkSizeMalformed),
        (b"5\nhello\r\n0\r\n\r\n", Reject::ChunkLineEnd),
        (b"5\rhello", Reject::ChunkLineEnd),
        (b"5\r\rhello", Reject::ChunkLineEnd),
        (b"5;a\nb\r\nhello\r\n0\r\n\r\n", Reject::ChunkLineEnd),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", Reject::ChunkLineEnd),
        (b"5;a=\"\r\"\r\n", Reject::ChunkExtensionMalformed),
        (b"5;a\0b\r\n", Reject::ChunkExtensionMalformed),
        (b"5;\x7f\r\n", Reject::ChunkExtensionMalformed),
        (b"5;\nhello\r\n0\r\n\r\n", Reject::ChunkLineEnd),
        (b"5\r\nhello\n0\r\n\r\n", Reject::ChunkDataEnd),
        (b"5\r\nhello0\r\n\r\n", Reject::ChunkDataEnd),
        (b"5\r\nhello__0\r\n\r\n", Reject::ChunkDataEnd),
        (b"5\r\nhelloXX\r\n0\r\n\r\n", Reject::ChunkDataEnd),
        (b"5\r\nhello\r0\r\n\r\n", Reject::ChunkDataEnd),
        (b"4\r\nhello\r\n0\r\n\r\n", Reject::ChunkDataEnd),
        (b"6\r\nhello\r\n0\r\n\r\n", Reject::ChunkDataEnd),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", Reject::ChunkSizeMalformed),
        (b"0\n\n", Reject::ChunkLineEnd),
        (b"0\r\n\n", Reject::TrailerMalformed),
        (b"0\r\n\rX", Reject::TrailerMalformed),
        (b"0\r\nX\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\n: v\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nX : v\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\n X: v\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nX: v\r\n w\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nX: v\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nX: v\rw\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nX: \0\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nX\x80: v\r\n\r\n", Reject::TrailerMalformed),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", Reject::TrailerMalformed),
    ] {
        assert_eq!(every_way(body).end, Some(Err(reject)), "{}", body.escape_ascii());
    }
}

// RFC 9112 §7.1.1, RFC 9110 §5.6.4
#[test]
fn extensions_have_names_and_perhaps_values() {
    for extension in [
        ";a",
        ";a;b",
        " ;\ta",
        ";a = b",
        ";a=b;c",
        ";a\t;b",
        ";a=\"\"",
        ";a=\"b c;\t=\"",
        ";a=\"\\\"\\\\\";b",
        ";a=\"b\" ;c",
        ";a=\"\u{e9}\"",
        ";!#$%&'*+-.^_`|~=!#$%&'*+-.^_`|~",
    ] {
        let body = format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n");
        let expected = Read { content: b"hello".to_vec(), end: Some(Ok(body.len())) };
        assert_eq!(every_way(body.as_bytes()), expected, "{extension}");
    }
    for extension in [
        ";",
        "; ",
        ";;",
        ";a;",
        ";;a",
        "; ;a",
        ";=",
        ";=x",
        ";a=",
        ";a= ",
        ";a=;b",
        ";a==b",
        ";a=b=c",
        ";a b",
        ";a=b c",
        ";a=b ",
        ";a ",
        ";a=\"b\" ",
        ";a=\"b\"c",
        ";a=\"b",
        ";a=\"b\\\"",
        ";a=b\"c\"",
        ";\"a\"",
        ";a(b)",
        ";a,b",
        ";a=\"\0\"",
        ";a=\"\\\u{7f}\"",
        ";\u{e9}",
        ";a=\u{e9}",
    ] {
        let body = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        let reject = Reject::ChunkExtensionMalformed;
        assert_eq!(every_way(body.as_bytes()).end, Some(Err(reject)), "{extension}");
    }
}

#[test]
fn body_over_its_limit_is_refused_before_its_data() {
    let limits = Limits { body_size: 10, ..LIMITS };
    for (body, end) in [
        (&b"a\r\n0123456789\r\n0\r\n\r\n"[..], Ok(20)),
        (b"b\r\n", Err(Reject::BodyTooLarge)),
        (b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", Ok(25)),
        (b"5\r\nhello\r\n6\r\n", Err(Reject::BodyTooLarge)),
        (b"5\r\nhello\r\nffffffffffffffff\r\n", Err(Reject::BodyTooLarge)),
        (b"ffffffffffffffff\r\n", Err(Reject::BodyTooLarge)),
    ] {
        assert_eq!(every_way_within(body, &limits).end, Some(end), "{}", body.escape_ascii());
    }
    let unlimited = Limits { body_size: u64::MAX, ..LIMITS };
    assert_eq!(every_way_within(b"ffffffffffffffff\r\nx", &unlimited).end, None);
    assert_eq!(every_way_within(b"1\r\nx\r\nffffffffffffffff\r\nx", &unlimited).end, Some(Err(Reject::BodyTooLarge)));
}

#[test]
fn extensions_are_bounded_each_and_together() {
    let line = EXTENSION_LINE as usize;
    for (length, end) in [(line - 1, None), (line, None), (line + 1, Some(Err(Reject::ChunkExtensionsTooLarge)))] {
        // The semicolon counts.
        let input = format!("1;{}\r\nx", "e".repeat(length - 1));
        assert_eq!(in_pieces([input.as_bytes()], &LIMITS).end, end, "{length}");
        assert_eq!(in_pieces(input.as_bytes().chunks(1), &LIMITS).end, end, "{length}");
        let spaces = format!("1{};e\r\nx", " ".repeat(length - 2));
        assert_eq!(in_pieces([spaces.as_bytes()], &LIMITS).end, end, "{length}");
    }
    // Half a bound each: the total has room for `fit` chunks.
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(line / 2 - 1));
    let fit = (EXTENSIONS / (EXTENSION_LINE / 2)) as usize;
    let last = "0\r\n\r\n";
    let enough = chunk.repeat(fit) + last;
    assert_eq!(in_pieces([enough.as_bytes()], &LIMITS).end, Some(Ok(enough.len())));
    let too_much = chunk.repeat(fit) + "1;e" + last;
    assert_eq!(in_pieces([too_much.as_bytes()], &LIMITS).end, Some(Err(Reject::ChunkExtensionsTooLarge)));
    // Unbounded input without a line end is refused at the bound.
    let mut decoder = ChunkedDecoder::new(&LIMITS);
    assert!(decoder.decode(&[&b"5;"[..], &vec![b'x'; line - 1]].concat()).is_ok());
    assert_eq!(decoder.decode(b"x"), Err(Reject::ChunkExtensionsTooLarge));
}

#[test]
fn trailers_are_bounded_as_the_header_is() {
    let limits = Limits { header_size: 20, header_fields: 3, ..LIMITS };
    for (trailers, end) in [
        ("A: 1\r\nB: 1\r\nC: 1\r\n\r\n".to_owned(), Ok(())),
        ("A: 1\r\nB: 1\r\nC: 12\r\n\r\n".to_owned(), Err(Reject::TrailersTooLarge)),
        ("A:\r\nB:\r\nC:\r\nD:\r\n\r\n".to_owned(), Err(Reject::TooManyTrailers)),
        ("x".repeat(21), Err(Reject::TrailersTooLarge)),
    ] {
        let input = format!("0\r\n{trailers}");
        let expected = end.map(|()| input.len());
        assert_eq!(every_way_within(input.as_bytes(), &limits).end, Some(expected), "{trailers:?}");
    }
    let flood = format!("0\r\n{}", "X: y\r\n".repeat(10_000));
    assert_eq!(in_pieces([flood.as_bytes()], &LIMITS).end, Some(Err(Reject::TooManyTrailers)));
    let wide = format!("0\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    assert_eq!(in_pieces([wide.as_bytes()], &LIMITS).end, Some(Err(Reject::TrailersTooLarge)));
}

#[test]
fn many_small_chunks_add_up() {
    let input = b"1\r\nx\r\n".repeat(100_000);
    let read = in_pieces(input.chunks(4096), &LIMITS);
    assert_eq!((read.content.len(), read.end), (100_000, None));
}

#[test]
fn body_that_is_over_stays_over() {
    let mut decoder = ChunkedDecoder::new(&LIMITS);
    assert_eq!(decoder.decode(b"0\r\n\r\nX"), Ok(ChunkStep { consumed: 5, event: ChunkEvent::End }));
    assert_eq!(decoder.decode(b"X"), Ok(ChunkStep { consumed: 0, event: ChunkEvent::End }));
    assert_eq!(decoder.decode(b""), Ok(ChunkStep { consumed: 0, event: ChunkEvent::End }));
}

#[test]
fn data_is_a_slice_of_the_input() {
    let mut decoder = ChunkedDecoder::new(&LIMITS);
    assert_eq!(decoder.decode(b"5\r\nhel"), Ok(ChunkStep { consumed: 6, event: ChunkEvent::Data(b"hel") }));
    assert_eq!(decoder.decode(b""), Ok(ChunkStep { consumed: 0, event: ChunkEvent::More }));
    assert_eq!(decoder.decode(b"lo\r\n0\r\n"), Ok(ChunkStep { consumed: 2, event: ChunkEvent::Data(b"lo") }));
    assert_eq!(decoder.decode(b"\r\n0\r\n"), Ok(ChunkStep { consumed: 5, event: ChunkEvent::More }));
    assert_eq!(decoder.decode(b"\r\n"), Ok(ChunkStep { consumed: 2, event: ChunkEvent::End }));
    assert_eq!(decoder.received(), 5);
}

#[test]
fn any_content_in_any_chunks_comes_out_again() {
    let chunks = vec(vec(any::<u8>(), 1..40), 0..12);
    fixed_seed(500)
        .run(&chunks, |chunks| {
            let mut input = Vec::new();
            for (index, chunk) in chunks.iter().enumerate() {
                let extension = if index % 3 == 0 { ";x=y" } else { "" };
                input.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\nT: 1\r\n\r\n");
            let expected = Read { content: chunks.concat(), end: Some(Ok(input.len())) };
            prop_assert_eq!(every_way(&input), expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_input_split_anywhere_gives_the_same_events() {
    let piece = prop_oneof![
        4 => Just(&b"\r\n"[..]),
        3 => Just(&b"0"[..]),
        3 => Just(&b"5\r\nhello"[..]),
        2 => Just(&b"a"[..]),
        1 => Just(&b";"[..]),
        1 => Just(&b" "[..]),
        1 => Just(&b"X: y"[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\0"[..]),
    ];
    let tight = Limits { header_size: 8, header_fields: 1, body_size: 12, ..LIMITS };
    fixed_seed(3000)
        .run(&vec(piece, 0..16), |pieces| {
            let input = pieces.concat();
            every_way(&input);
            every_way_within(&input, &tight);
            Ok(())
        })
        .unwrap();
}
