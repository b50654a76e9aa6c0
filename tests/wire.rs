//! Replays the corpus through the parser, the framing rules and the body decoder: whole, byte by byte, and in pieces.
//!
//! A corpus file is what a client sends on one connection, byte for byte. The column `outcome` of `cases.tsv` lists the
//! requests that it holds and says how the connection ends: with `close`, `open` amid a request, with the status and the name
//! of a refusal, or, without an end, ready for the next request.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a corpus that cannot be read must fail the test")]

#[path = "oracle/requests.rs"]
mod requests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wsgi_core::http::limits::Limits;
use wsgi_core::http::reject::Reject;

use requests::End;

/// Files up to this size are split at every offset, larger ones near their end and at offsets that are drawn.
const SPLIT_EVERYWHERE: usize = 9000;
/// Offsets drawn for a larger file.
const DRAWN_SPLITS: usize = 500;

/// The variants that no bytes alone can bring about: they need a clock, a queue, a disk or an application.
const RAISED_BY_THE_ENGINE: [Reject; 18] = [
    Reject::MethodLowerCase,
    Reject::ForwardedMalformed,
    Reject::XForwardedForMalformed,
    Reject::XForwardedProtoMalformed,
    Reject::XForwardedHostMalformed,
    Reject::XForwardedPortMalformed,
    Reject::XForwardedPrefixMalformed,
    Reject::HeaderTimeout,
    Reject::BodyTimeout,
    Reject::BodyIncomplete,
    Reject::QueueFull,
    Reject::QueueTimeout,
    Reject::TooManyWebSockets,
    Reject::Stopping,
    Reject::SpoolFull,
    Reject::SpoolFailed,
    Reject::RequestTimeout,
    Reject::AppFailed,
];

/// A request, as the corpus tells it: method, path, length and CRC-32 of the body.
type Request = (String, String, usize, u32);

fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Request>, End) {
    let replay = requests::replay(pieces, &Limits::default());
    let told = |request: requests::Request| {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(request.method), text(request.path), request.body.len(), crc32(&request.body))
    };
    (replay.requests.into_iter().map(told).collect(), replay.end)
}

/// The CRC-32 of ISO 3309, which every scripting language has at hand.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

/// Numbers that look random and are the same in every run (a linear congruential generator).
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Name and outcome of every case.
fn expectations() -> Vec<(String, String)> {
    let text = fs::read_to_string(corpus().join("cases.tsv")).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let heading = lines.next().unwrap();
    let column = |name| heading.iter().position(|&found| found == name).unwrap();
    let (case, outcome) = (column("case"), column("outcome"));
    lines.map(|row| (row[case].to_owned(), row[outcome].to_owned())).collect()
}

fn variant(name: &str) -> Reject {
    *Reject::ALL.iter().find(|reject| format!("{reject:?}") == name).unwrap_or_else(|| panic!("no refusal {name}"))
}

/// Reads an outcome: `METHOD PATH LENGTH CRC32 > ... > END`.
fn outcome(text: &str) -> (Vec<Request>, End) {
    let (mut requests, mut end) = (Vec::new(), End::Clean);
    for part in text.split(" > ") {
        assert_eq!(end, End::Clean, "something behind the end: {text}");
        match part.split(' ').collect::<Vec<_>>()[..] {
            ["open"] => end = End::Open,
            ["close"] => end = End::Close,
            [status, name] => {
                end = End::Refused(variant(name));
                assert_eq!(variant(name).status().code().to_string(), status, "{name}");
            }
            [method, path, length, sum] => {
                let sum = u32::from_str_radix(sum, 16).unwrap();
                requests.push((method.to_owned(), path.to_owned(), length.parse().unwrap(), sum));
            }
            _ => panic!("not an outcome: {text}"),
        }
    }
    (requests, end)
}

/// Every case: its name, its bytes, its requests and its end.
fn cases() -> Vec<(String, Vec<u8>, Vec<Request>, End)> {
    let case = |(name, text): (String, String)| {
        let bytes = fs::read(corpus().join(format!("{name}.http"))).unwrap();
        let (requests, end) = outcome(&text);
        (name, bytes, requests, end)
    };
    expectations().into_iter().map(case).collect()
}

#[test]
fn every_file_has_one_row_and_the_reverse() {
    let mut listed: Vec<String> = expectations().into_iter().map(|(name, _)| name).collect();
    listed.sort();
    let mut files: Vec<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "http"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(listed, files);
}

#[test]
fn every_file_whole_is_as_expected() {
    for (name, bytes, requests, end) in cases() {
        assert_eq!(replay([bytes.as_slice()]), (requests, end), "{name}");
    }
}

#[test]
fn every_file_by_byte_is_as_expected() {
    for (name, bytes, requests, end) in cases() {
        assert_eq!(replay(bytes.chunks(1)), (requests, end), "{name}");
    }
}

#[test]
fn every_file_split_in_two_is_as_expected() {
    let mut drawn = Drawn(1);
    for (name, bytes, requests, end) in cases() {
        let splits: Vec<usize> = if bytes.len() <= SPLIT_EVERYWHERE {
            (0..=bytes.len()).collect()
        } else {
            // The bounds of a large file lie at its end.
            let end = bytes.len() - 100..=bytes.len();
            (0..DRAWN_SPLITS).map(|_| drawn.below(bytes.len() + 1)).chain(end).collect()
        };
        for split in splits {
            let (first, second) = bytes.split_at(split);
            assert_eq!(replay([first, second]), (requests.clone(), end), "{name} split at {split}");
        }
    }
}

#[test]
fn every_file_in_drawn_pieces_is_as_expected() {
    let mut drawn = Drawn(2);
    for (name, bytes, requests, end) in cases() {
        for longest in [2, 7, 40, 1500] {
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((drawn.below(longest) + 1).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(replay(pieces), (requests.clone(), end), "{name} in pieces of up to {longest}");
        }
    }
}

// A refused head or body is known as such before anything behind it is there.
#[test]
fn refused_files_never_reach_the_next_request() {
    for (name, bytes, requests, end) in cases() {
        let sentinel = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        if let (End::Refused(_), Some(before)) = (end, bytes.strip_suffix(sentinel)) {
            let (found, stand) = replay([before]);
            // A trailer section that never ends is only refused by what follows it.
            assert!(stand == end || name == "chunked-trailer-is-a-request", "{name}: {stand:?}");
            assert_eq!(found, requests, "{name}");
        }
    }
}

#[test]
fn every_refusal_is_brought_about_or_raised_by_the_engine() {
    let mut covered: BTreeSet<String> = RAISED_BY_THE_ENGINE.iter().map(|reject| format!("{reject:?}")).collect();
    for (name, _, _, end) in cases() {
        if let End::Refused(reject) = end {
            assert!(!RAISED_BY_THE_ENGINE.contains(&reject), "{name}");
            covered.insert(format!("{reject:?}"));
        }
    }
    let all: BTreeSet<String> = Reject::ALL.iter().map(|reject| format!("{reject:?}")).collect();
    assert_eq!(covered, all);
}

#[test]
fn crc32_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b""), 0);
}
