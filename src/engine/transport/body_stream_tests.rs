use super::*;
use crate::net::stream::Stream;
use crate::net::stream::double::Double;

const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    double: Double,
    stream: BodyStream,
    now: Instant,
    read: Vec<u8>,
}

impl Rig {
    fn new(made: impl FnOnce(Arc<Transport>, Arc<Options>) -> BodyStream) -> Self {
        let double = Double::default();
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let options = Options { body_timeout: 10 * SECOND, body_min_rate: 100, ..Options::default() };
        Self { double, stream: made(transport, Arc::new(options)), now: Instant::now(), read: Vec::new() }
    }

    fn of_length(length: u64, ready: &[u8]) -> Self {
        Self::new(|transport, options| BodyStream::of_length(transport, options, length, ready.to_vec()))
    }

    fn chunked(raw: &[u8]) -> Self {
        Self::new(|transport, options| BodyStream::chunked(transport, options, raw))
    }

    fn arrives(&self, piece: &[u8]) {
        self.double.0.lock().unwrap().incoming.push_back(piece.to_vec());
    }

    fn poll(&mut self) -> Result<Arrived, BodyFailure> {
        let mut block = [0; 5];
        let arrived = self.stream.poll(&mut block, self.now)?;
        if let Arrived::Bytes(count) = arrived {
            self.read.extend_from_slice(&block[..count]);
        }
        Ok(arrived)
    }

    // Everything that is there. What comes then.
    fn drain(&mut self) -> Result<Arrived, BodyFailure> {
        loop {
            match self.poll()? {
                Arrived::Bytes(_) => {}
                other => return Ok(other),
            }
        }
    }
}

#[test]
fn polled_body_of_known_length_comes_as_it_arrives_and_ends() {
    let mut rig = Rig::of_length(12, b"hello");
    assert_eq!(rig.poll(), Ok(Arrived::Bytes(5)));
    assert_eq!(rig.poll(), Ok(Arrived::Later(rig.now + 10 * SECOND)));
    rig.arrives(b" wo");
    rig.arrives(b"rld!NEXT");
    assert_eq!(rig.drain(), Ok(Arrived::End));
    assert_eq!((rig.read.as_slice(), rig.stream.is_over()), (&b"hello world!"[..], true));
    assert_eq!(rig.double.0.lock().unwrap().incoming.front().map(Vec::as_slice), Some(&b"NEXT"[..]));
}

#[test]
fn polled_chunked_body_comes_as_it_arrives_and_keeps_what_follows() {
    let mut rig = Rig::chunked(b"3\r\nabc\r\n4\r\nde");
    assert!(matches!(rig.drain(), Ok(Arrived::Later(_))));
    rig.arrives(b"fg\r");
    assert!(matches!(rig.drain(), Ok(Arrived::Later(_))));
    rig.arrives(b"\n0\r\n\r\nNEXT");
    assert_eq!(rig.drain(), Ok(Arrived::End));
    assert_eq!(rig.read, b"abcdefg");
    let remains = rig.stream.remains();
    assert_eq!((remains.leftover.as_slice(), remains.complete), (&b"NEXT"[..], true));
}

#[test]
fn chunked_body_comes_in_pieces_as_large_as_the_readers_buffer() {
    let content: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut raw = Vec::new();
    for piece in content.chunks(1000) {
        raw.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        raw.extend_from_slice(piece);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\nNEXT");
    let mut rig = Rig::chunked(b"");
    rig.arrives(&raw);
    let (mut block, mut read, mut pieces) = (vec![0; 64 * 1024], Vec::new(), 0);
    while let Ok(Arrived::Bytes(count)) = rig.stream.poll(&mut block, rig.now) {
        read.extend_from_slice(&block[..count]);
        pieces += 1;
    }
    assert!(read == content && rig.stream.is_over());
    assert_eq!(pieces, raw.len().div_ceil(block.len()));
    assert_eq!(rig.stream.remains().leftover, b"NEXT");
}

#[test]
fn content_in_front_of_a_malformed_chunk_is_read_before_the_refusal() {
    let malformed = BodyFailure::Refused(Reject::ChunkSizeMalformed);
    for size in [5, 64 * 1024] {
        let mut rig = Rig::chunked(b"3\r\n");
        rig.arrives(b"abc\r\nx");
        let mut block = vec![0; size];
        assert_eq!(rig.stream.poll(&mut block, rig.now), Ok(Arrived::Bytes(3)));
        assert_eq!(&block[..3], b"abc");
        assert_eq!(rig.stream.poll(&mut block, rig.now), Err(malformed));
        assert_eq!(rig.stream.poll(&mut block, rig.now), Err(malformed));
    }
}

#[test]
fn polled_body_fails_after_a_silence_and_stays_failed() {
    let mut rig = Rig::of_length(5, b"");
    assert!(matches!(rig.poll(), Ok(Arrived::Later(_))));
    rig.now += 10 * SECOND;
    assert_eq!(rig.poll(), Err(BodyFailure::TimedOut));
    rig.arrives(b"late!");
    assert_eq!(rig.poll(), Err(BodyFailure::TimedOut));
}

#[test]
fn polled_body_fails_below_its_rate() {
    let mut rig = Rig::of_length(100_000, b"");
    for _ in 0..2 {
        assert!(matches!(rig.poll(), Ok(Arrived::Later(_))));
        rig.now += 5 * SECOND;
        rig.arrives(b"x");
        assert_eq!(rig.poll(), Ok(Arrived::Bytes(1)));
    }
    // Ten seconds are used up, and what two bytes earn is left.
    assert_eq!(rig.poll(), Ok(Arrived::Later(rig.now + SECOND / 50)));
    rig.now += SECOND / 50;
    assert_eq!(rig.poll(), Err(BodyFailure::TimedOut));
}

#[test]
fn time_between_polls_of_a_reader_that_paused_is_not_the_clients() {
    let mut rig = Rig::of_length(100_000, b"");
    assert!(matches!(rig.poll(), Ok(Arrived::Later(_))));
    rig.now += 9 * SECOND;
    rig.stream.pause(rig.now);
    rig.now += 1000 * SECOND;
    // Nine of the ten seconds are used up, and no more.
    assert_eq!(rig.poll(), Ok(Arrived::Later(rig.now + SECOND)));
    rig.arrives(b"x");
    assert_eq!(rig.poll(), Ok(Arrived::Bytes(1)));
}

#[test]
fn polled_body_of_a_client_that_left_is_incomplete() {
    for mut rig in [Rig::of_length(5, b"some"), Rig::chunked(b"5\r\nsome")] {
        rig.double.0.lock().unwrap().ended = true;
        assert_eq!(rig.drain(), Err(BodyFailure::Incomplete));
        assert_eq!(rig.read, b"some");
    }
}

// RFC 9110 §10.1.1
#[test]
fn continue_leaves_with_the_first_poll_that_has_to_wait() {
    let mut rig = Rig::of_length(5, b"");
    rig.stream.expect_continue();
    assert!(matches!(rig.poll(), Ok(Arrived::Later(_))));
    assert!(matches!(rig.poll(), Ok(Arrived::Later(_))));
    assert_eq!(rig.double.0.lock().unwrap().written, b"HTTP/1.1 100 Continue\r\n\r\n");
}

// What a client sends in these pieces is read in others, and the body is the same.
#[test]
fn body_over_a_record_layer_comes_whole_and_nothing_decrypted_is_left_behind() {
    let content: Vec<u8> = (0..5000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut raw = Vec::new();
    for piece in content.chunks(700) {
        raw.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        raw.extend_from_slice(piece);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    for seed in 0..50 {
        for (mut rig, sent) in [(Rig::of_length(5000, b""), &content), (Rig::chunked(b""), &raw)] {
            rig.double.script().add_record_layer(seed);
            for piece in sent.chunks(900) {
                rig.arrives(piece);
                rig.arrives(b"");
            }
            // Every read that finds nothing is followed by an event, as long as something is on its way.
            while rig.drain().expect("the client sends all") != Arrived::End {
                assert!(rig.double.script().take_readiness(), "seed {seed}: the body stops");
            }
            assert!(rig.read == content && rig.stream.is_over(), "seed {seed}");
        }
    }
}

#[test]
fn blocking_reader_over_a_record_layer_waits_for_the_socket_only_when_nothing_is_decrypted() {
    for seed in 0..50 {
        let mut rig = Rig::of_length(3000, b"");
        rig.double.script().add_record_layer(seed);
        rig.arrives(&[b'x'; 2000]);
        rig.double.script().later.push_back(vec![b'x'; 1000]);
        let (mut block, mut total) = ([0; 64], 0);
        loop {
            match rig.stream.read(&mut block).expect("the client sends all") {
                0 => break,
                count => total += count,
            }
        }
        assert_eq!(total, 3000, "seed {seed}");
    }
}
