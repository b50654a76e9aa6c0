//! Replays the corpus through a whole connection, over a plain stream and over a record layer: however that cuts, holds and
//! merges what goes through it, clients and applications must see the same.

#![expect(clippy::unwrap_used, reason = "a corpus that cannot be read must fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

use wsgi_core::engine::clock::Clock;
use wsgi_core::engine::exchange::Exchange;
use wsgi_core::engine::options::Options;
use wsgi_core::engine::testkit::doubles::{Scripted, answer, read_whole};
use wsgi_core::engine::testkit::rig::Rig;

/// Files up to this size are split at every offset, larger ones at offsets that are spread over them.
const SPLIT_EVERYWHERE_BYTES: usize = 400;
/// Splits of a larger file.
const SPLITS: usize = 20;
/// Files up to this size are sent byte by byte.
const BYTE_BY_BYTE_BYTES: usize = 20_000;
/// More than any request of the corpus asks for.
const LARGE_BYTES: usize = 300_000;

/// What can be seen of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Method, target and body of each call.
    calls: Vec<String>,
    /// What the client got, without the dates, and without `100 Continue`: a client whose body arrives with its head is not asked
    /// for it, and what arrives together depends on the transport.
    written: String,
    /// Status, size and completeness of each response.
    records: Vec<(u16, u64, bool)>,
    is_closed: bool,
    finished: bool,
    reset: bool,
}

/// How the applications answer.
#[derive(Clone, Copy)]
enum Content {
    /// The call, of known length.
    Echo,
    /// The call, in chunks.
    Pieces,
    /// More than a record, a write or a flush takes at a time.
    Large,
}

/// Has a client send `pieces`, each when the server waits or all at once, and then close its side.
fn play(pieces: &[&[u8]], options: &Options, content: Content, seed: Option<u64>, waits: bool) -> [Outcome; 2] {
    let mut calls = Vec::new();
    let gateway = Scripted(|exchange: &mut Exchange, clock: &mut Clock| {
        let line = [exchange.request().method(), b" ", exchange.request().target(), b" "].concat();
        let call = [line, read_whole(exchange)].concat();
        match content {
            Content::Echo => answer(exchange, &call, false, clock),
            Content::Pieces => answer(exchange, &call, true, clock),
            Content::Large => answer(exchange, &vec![b'x'; LARGE_BYTES], false, clock),
        }
        calls.push(call.escape_ascii().to_string());
    });
    let mut rig = Rig::new(options.clone(), gateway);
    if let Some(seed) = seed {
        rig.double.script().add_record_layer(seed);
    }
    for piece in pieces {
        rig.send(piece);
        if waits {
            rig.run();
        }
    }
    rig.run();
    let mut outcomes: [Outcome; 2] = Default::default();
    for outcome in &mut outcomes {
        let is_closed = rig.is_closed();
        let script = rig.double.script();
        let written = String::from_utf8_lossy(&script.written).replace("HTTP/1.1 100 Continue\r\n\r\n", "");
        *outcome = Outcome {
            calls: Vec::new(),
            written: written.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect(),
            records: rig.witness.0.lock().unwrap().clone(),
            is_closed,
            finished: script.finished,
            reset: script.reset,
        };
        drop(script);
        rig.double.script().ended = true;
        rig.run();
    }
    drop(rig);
    outcomes[1].calls = calls;
    outcomes
}

/// The corpus: the name of every file, and its bytes.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "http"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is no corpus");
    paths
        .into_iter()
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into(), fs::read(path).unwrap()))
        .collect()
}

/// Bodies that are taken whole, and bodies that the application reads as they arrive.
fn ways() -> [(Options, bool); 2] {
    let streams = Options { body_buffer: 3, stream_bodies: true, stream_chunked: true, ..Options::default() };
    [(Options::default(), true), (streams, false)]
}

#[test]
fn every_file_whole_and_by_byte_comes_to_the_same_over_records() {
    for (options, waits) in ways() {
        for (seed, (name, bytes)) in (0..).zip(corpus()) {
            for content in [Content::Echo, Content::Pieces] {
                let plain = play(&[&bytes], &options, content, None, waits);
                for seed in [seed, !seed] {
                    assert_eq!(play(&[&bytes], &options, content, Some(seed), waits), plain, "{name}: seed {seed}");
                }
                if bytes.len() <= BYTE_BY_BYTE_BYTES {
                    let pieces: Vec<_> = bytes.chunks(1).collect();
                    let found = play(&pieces, &options, content, Some(seed), waits);
                    assert_eq!(found, plain, "{name} by byte: seed {seed}");
                }
            }
        }
    }
}

#[test]
fn every_file_split_in_two_comes_to_the_same_over_records() {
    for (options, waits) in ways() {
        for (name, bytes) in corpus() {
            let plain = play(&[&bytes], &options, Content::Echo, None, waits);
            let step = if bytes.len() <= SPLIT_EVERYWHERE_BYTES { 1 } else { bytes.len() / SPLITS };
            for (seed, split) in (0..).zip((0..=bytes.len()).step_by(step)) {
                let (first, second) = bytes.split_at(split);
                let found = play(&[first, second], &options, Content::Echo, Some(seed), waits);
                assert_eq!(found, plain, "{name} split at {split}: seed {seed}");
            }
        }
    }
}

#[test]
fn large_response_over_records_is_the_same_whatever_the_socket_takes() {
    let request: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    let plain = play(&[request], &Options::default(), Content::Large, None, true);
    assert_eq!(plain[0].records.len(), 2);
    for seed in 0..20 {
        assert_eq!(play(&[request], &Options::default(), Content::Large, Some(seed), true), plain, "seed {seed}");
    }
}
