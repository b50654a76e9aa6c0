//! The properties of the oracle, on the corpus, on inputs that a fuzzer found worth keeping, and on drawn ones.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a property that does not hold must fail")]

mod oracle;

use std::fs;
use std::path::{Path, PathBuf};

use oracle::properties;
use oracle::responses::{Ending, ResponseContext, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wsgi_core::http::head::Version;

/// Corpus files above this size are about limits, which `tests/wire.rs` replays.
const LARGEST: u64 = 9000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: PathBuf, extension: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.retain(|path| path.metadata().unwrap().len() <= LARGEST);
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// What clients send in the corpus.
fn corpus() -> Vec<(String, Vec<u8>)> {
    files(root().join("tests/corpus"), "http")
}

/// Inputs that once broke a property, or are known to be awkward.
fn kept(property: &str) -> Vec<(String, Vec<u8>)> {
    files(root().join("fuzz/seeds").join(property), "bin")
}

/// Words that requests are made of: those of the fuzzers' dictionary.
fn words() -> Vec<Vec<u8>> {
    let text = fs::read_to_string(root().join("fuzz/http.dict")).unwrap();
    let word = |line: &str| {
        let quoted = line.trim().strip_prefix('"')?.strip_suffix('"')?;
        let mut bytes = Vec::new();
        let mut rest = quoted.as_bytes();
        while let [byte, after @ ..] = rest {
            let escaped = rest.strip_prefix(b"\\x").map(|digits| std::str::from_utf8(&digits[..2]).unwrap());
            bytes.push(escaped.map_or(*byte, |digits| u8::from_str_radix(digits, 16).unwrap()));
            rest = if escaped.is_some() { &rest[4..] } else { after };
        }
        Some(bytes)
    };
    text.lines().filter_map(word).collect()
}

/// Inputs with up to three bytes put in, left out or replaced.
fn edited(inputs: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n\t ;:,0x+\0".to_vec()), any::<u8>()];
    let edit = (any::<prop::sample::Index>(), 0..3_u8, byte);
    (inputs, vec(edit, 0..4)).prop_map(|(mut bytes, edits)| {
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 => drop(bytes.splice(at..(at + 1).min(bytes.len()), [byte])),
                _ => drop(bytes.splice(at..(at + 1).min(bytes.len()), [])),
            }
        }
        bytes
    })
}

/// Requests, almost: words, corpus files and stray bytes in a row.
fn clients() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(words());
    let files = prop::sample::select(corpus().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>());
    let valid = prop::sample::select(vec![
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"HEAD /b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(),
        b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        b"POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n".to_vec(),
        b"PUT /f HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n".to_vec(),
    ]);
    let piece = prop_oneof![
        6 => valid,
        4 => words,
        2 => edited(files),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Runs a property on what was kept, on `given`, and on `cases` drawn inputs, the same in every run.
fn hold(
    name: &str,
    property: fn(&[u8]),
    given: Vec<(String, Vec<u8>)>,
    cases: u32,
    drawn: impl Strategy<Value = Vec<u8>>,
) {
    for (name, bytes) in kept(name).into_iter().chain(given) {
        let holds = std::panic::catch_unwind(|| property(&bytes)).is_ok();
        assert!(holds, "the property does not hold for {name}");
    }
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&drawn, |bytes| {
        property(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn heads_are_read_alike_however_they_come() {
    hold("head", properties::head, corpus(), 3000, clients());
}

#[test]
fn chunked_bodies_are_read_alike_however_they_come() {
    let valid = prop::sample::select(vec![
        b"5\r\nhello\r\n0\r\n\r\n".to_vec(),
        b"1\r\na\r\n00\r\nX: y\r\nZ:\r\n\r\nGET /".to_vec(),
        b"3;a=b\r\nabc\r\n2 ; c\r\n\r\n\r\n0;d\r\n\r\n".to_vec(),
    ]);
    let words = vec(prop_oneof![prop::sample::select(words()), vec(any::<u8>(), 0..3)], 0..12);
    let bodies = prop_oneof![edited(valid), words.prop_map(|pieces| pieces.concat())];
    hold("chunked", properties::chunked, Vec::new(), 10_000, bodies);
}

#[test]
fn targets_lose_nothing_and_variables_forge_nothing() {
    let piece =
        prop_oneof![prop::sample::select(words()), "[ -~]{0,6}".prop_map(String::into_bytes), vec(any::<u8>(), 0..2),];
    let mut lines = words();
    lines.retain(|word| word.ends_with(b"\r\n") && word.windows(2).any(|pair| pair == b": "));
    let start = prop::sample::select(vec!["/", "", "http://a:80", "*"]);
    let target = vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    let drawn = (start, target, vec(prop::sample::select(lines), 0..6))
        .prop_map(|(start, target, lines)| [start.as_bytes(), &target, b"\n", &lines.concat()].concat());
    hold("target", properties::target, Vec::new(), 10_000, drawn);
}

#[test]
fn applications_say_nothing_that_they_may_not() {
    let piece = prop_oneof![
        prop::sample::select(vec![b"\0".to_vec(), b"200 OK\0".to_vec(), b"Content-Length\x005\0".to_vec()]),
        prop::sample::select(words()),
        vec(any::<u8>(), 0..3),
    ];
    hold("outgoing", properties::outgoing, Vec::new(), 5000, vec(piece, 0..8).prop_map(|pieces| pieces.concat()));
}

#[test]
fn planned_responses_are_well_formed() {
    hold("response", properties::response, Vec::new(), 20_000, vec(any::<u8>(), 0..60));
}

#[test]
fn encoded_responses_have_the_content_that_was_accepted() {
    hold("encoder", properties::encoder, Vec::new(), 20_000, vec(any::<u8>(), 0..80));
}

#[test]
fn proxy_headers_are_taken_whole_and_never_guessed() {
    let words = prop::sample::select(vec![
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n".to_vec(),
        b"PROXY UNKNOWN".to_vec(),
        b"PROXY TCP4 ".to_vec(),
        b"192.0.2.1 ".to_vec(),
        b"065".to_vec(),
        b"\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2c".to_vec(),
        b"\x20\0\x05\x01\0\0\0\0".to_vec(),
        vec![7; 36],
    ]);
    let piece = prop_oneof![3 => words, 1 => vec(any::<u8>(), 0..13)];
    let drawn = vec(piece, 0..5).prop_map(|pieces| pieces.concat());
    hold("proxy_protocol", properties::proxy_protocol, Vec::new(), 5000, drawn);
}

#[test]
fn forged_forwarded_fields_are_never_believed() {
    let name = prop::sample::select(vec![
        "Forwarded",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Host",
        "X-A",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-User",
    ]);
    let value = prop::sample::select(vec![
        "for=10.0.0.2",
        "for=\"[::1]:8\"",
        "proto=https",
        "host=evil",
        "by=_x",
        "for=\"",
        "10.0.0.2",
        "10.0.0.3:9",
        "[::1]:80",
        "unknown",
        "https",
        "wss",
        "evil:80",
        "443",
        "/a/b",
        "/%2f",
        "\\\"",
        ";",
        ",",
        ", ",
        " ",
        "=",
        "\"",
    ]);
    let line = (name, vec(value, 0..6)).prop_map(|(name, values)| format!("{name}: {}\r\n", values.concat()));
    let drawn = vec(line, 0..6).prop_map(|lines| lines.concat().into_bytes());
    hold("forwarded", properties::forwarded, Vec::new(), 5000, drawn);
}

#[test]
fn connections_answer_what_was_asked_and_nothing_else() {
    let default = |(name, bytes): (String, Vec<u8>)| (name, [b"\0", bytes.as_slice()].concat());
    let drawn = (vec(any::<u8>(), 0..80), clients())
        .prop_map(|(choices, client)| [&[u8::try_from(choices.len()).unwrap()], choices.as_slice(), &client].concat());
    hold("connection", properties::connection, corpus().into_iter().map(default).collect(), 6000, drawn);
}

/// A client's frame, masked.
fn client_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0xc1, 0xc2]),
        1 => prop::sample::select(vec![0x88_u8, 0x41]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => "[a-z\u{e9}\u{20ac}]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..300),
        1 => prop::sample::select(vec![b"\x03\xe8".to_vec(), b"\x03\xe9bye".to_vec(), b"\xf3\x48\xcd\xc9\xc9\x07\0".to_vec()]),
    ];
    (first, payload, any::<[u8; 4]>(), 0..12_u8).prop_map(|(first, payload, mask, edit)| {
        let mut frame = vec![first];
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length), _) if length < 126 => frame.push(0x80 | length),
            (_, Ok(length)) => frame.extend([&[0x80 | 0x7e][..], &length.to_be_bytes()].concat()),
            _ => {}
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        if edit == 0 {
            frame.truncate(frame.len() / 2);
        }
        frame
    })
}

#[test]
fn websockets_speak_by_the_letter_whatever_the_client_sends() {
    let drawn = (vec(any::<u8>(), 0..80), vec(client_frame(), 0..8)).prop_map(|(choices, frames)| {
        [&[u8::try_from(choices.len()).unwrap()], choices.as_slice(), &frames.concat()].concat()
    });
    hold("websocket", properties::websocket, Vec::new(), 5000, drawn);
}

// The oracle itself: a client that forgave any of these would find nothing.
#[test]
fn strict_client_takes_nothing_that_could_be_read_in_two_ways() {
    let head = "HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\n";
    let asked = |is_head, version| ResponseContext { is_head, version };
    let get = asked(false, Version::Http11);
    let cases = [
        (get, format!("{head}Content-Length: 1\r\n\r\nab"), "no status line"),
        (get, format!("{head}Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), "more than one"),
        (get, format!("{head}Content-Length: +1\r\n\r\na"), "no length"),
        (get, format!("{head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), "chunked, and of known length"),
        (get, format!("{head}Transfer-Encoding: gzip\r\n\r\n"), "another coding"),
        (get, format!("{head}Transfer-Encoding: chunked\r\n\r\n01\r\na\r\n0\r\n\r\n"), "no chunk"),
        (get, format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"), "no chunk"),
        (get, format!("{head}\r\nx"), "without an end"),
        (get, format!("{head}Connection: close\r\nContent-Length: 0\r\n\r\n{head}"), "behind the last"),
        (get, format!("{head}X: a\nY: b\r\nContent-Length: 0\r\n\r\n"), "no CRLF"),
        (get, format!("{head}X : a\r\nContent-Length: 0\r\n\r\n"), "no field line"),
        (get, "HTTP/1.1 200\r\nDate: x\r\nServer: y\r\n\r\n".to_owned(), "no status line"),
        (get, "HTTP/1.1 200 OK\r\nServer: y\r\nContent-Length: 0\r\n\r\n".to_owned(), "no date"),
        (get, format!("HTTP/1.1 103 Hints\r\nContent-Length: 0\r\n\r\n{head}"), "interim"),
        (get, head.replace("200", "204") + "Content-Length: 0\r\n\r\n", "204 with a length"),
        (asked(true, Version::Http11), format!("{head}Content-Length: 1\r\n\r\na"), "no status line"),
        (asked(false, Version::Http10), format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "towards HTTP/1.0"),
    ];
    for (asked, bytes, expected) in cases {
        let error = read(bytes.as_bytes(), &[asked, asked], Ending::Open).expect_err(&bytes);
        assert!(error.contains(expected), "{bytes}: {error}");
    }
    let torn = [
        (format!("{head}Content-Length: 2\r\n\r\na"), Ending::Ended),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r"), Ending::Ended),
        (format!("{head}Connection: close\r\n\r\na"), Ending::Reset),
    ];
    for (bytes, ending) in torn {
        let reading = read(bytes.as_bytes(), &[get], ending).expect(&bytes);
        assert!(!reading.responses[0].is_whole, "{bytes}");
    }
}
