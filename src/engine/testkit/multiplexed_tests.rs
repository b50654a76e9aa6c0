//! Several exchanges of one connection at the same time: nothing of an exchange, its reply or what comes back of it takes the
//! connection for its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::in_flight::Cut;
use crate::engine::exchange::ticket::Ticket;
use crate::engine::exchange::{Content, Exchange, Progress};
use crate::engine::observe::{Cause, Scarce};
use crate::engine::options::Options;
use crate::engine::testkit::doubles::{Witness, context, read_whole};
use crate::engine::testkit::framed::{FrameKind, frame, split};
use crate::engine::testkit::multiplexed::Multiplexed;
use crate::engine::transport::Transport;
use crate::engine::transport::output::FileSpan;
use crate::http::head::ResponseHead;
use crate::http::reject::Reject;
use crate::http::status::Status;
use crate::http1::plan::BodySize;
use crate::net::stream::Stream;
use crate::net::stream::double::Double;

const PLACE: Ticket = Ticket { shard: 0, slot: 3, generation: 9, stream: 0 };

struct Rig {
    double: Double,
    witness: Witness,
    transport: Arc<Transport>,
    context: Arc<crate::engine::context::ShardContext>,
    connection: Multiplexed,
    clock: Clock,
    now: Instant,
}

// What a client has of one response.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    status: Option<u16>,
    content: Vec<u8>,
    has_ended: bool,
    was_reset: bool,
}

impl Rig {
    fn new() -> Self {
        let (double, witness, now) = (Double::default(), Witness::default(), Instant::now());
        let context = context(Options::default(), &witness);
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let connection = Multiplexed::new(Arc::clone(&transport), Arc::clone(&context), PLACE);
        Self { double, witness, transport, context, connection, clock: Clock::new(now), now }
    }

    // A request for `/STREAM` on each of the streams, in frames that take turns. Its body is its stream's number.
    fn request(&mut self, streams: &[u32]) -> BTreeMap<u32, Box<Exchange>> {
        let mut bytes = Vec::new();
        for stream in streams {
            let head = format!("POST /{stream} HTTP/1.1\r\nHost: a\r\n\r\n");
            frame(&mut bytes, FrameKind::Head, *stream, head.as_bytes());
        }
        for digit in 0..2 {
            for stream in streams {
                let number = stream.to_string();
                frame(&mut bytes, FrameKind::Data, *stream, number.as_bytes().get(digit..=digit).unwrap_or_default());
            }
        }
        for stream in streams.iter().rev() {
            frame(&mut bytes, FrameKind::End, *stream, b"");
        }
        let mut ready = BTreeMap::new();
        for piece in bytes.chunks(5) {
            for mut exchange in self.connection.receive(piece, self.now).expect("a valid request") {
                let stream = exchange.ticket().stream;
                assert_eq!(exchange.request().path(), format!("/{stream}").as_bytes());
                assert_eq!(read_whole(&mut exchange), stream.to_string().as_bytes());
                ready.insert(stream, exchange);
            }
        }
        ready
    }

    fn begin(&mut self, exchange: &mut Exchange) {
        exchange.begin(&ok(), BodySize::Unknown, &mut self.clock);
    }

    // What a worker does when the application is done.
    fn finish(&mut self, exchange: Box<Exchange>) -> bool {
        let mut finished = Finished::answered(exchange, self.now);
        finished.send(&self.context);
        self.connection.take_back(finished, self.now)
    }

    fn received(&self) -> BTreeMap<u32, Received> {
        drop(self.transport.flush());
        let script = self.double.script();
        assert!(!script.reset && !script.finished, "one stream ended the connection of all");
        let (mut rest, mut responses) = (script.written.as_slice(), BTreeMap::<u32, Received>::new());
        while let Some((kind, stream, content, behind)) = split(rest) {
            rest = behind;
            let response = responses.entry(stream).or_default();
            assert!(!response.has_ended && !response.was_reset, "{stream}: a frame behind the last");
            match kind {
                FrameKind::Head => {
                    let status = String::from_utf8_lossy(&content[..3]).parse().expect("a status");
                    assert_eq!(response.status.replace(status), None, "{stream}: a second head");
                }
                FrameKind::Data => response.content.extend_from_slice(content),
                FrameKind::End => response.has_ended = true,
                FrameKind::Reset => response.was_reset = true,
                FrameKind::Hints => assert_eq!(response.status, None),
            }
        }
        assert!(rest.is_empty(), "half a frame");
        responses
    }
}

fn ok() -> ResponseHead {
    ResponseHead::new(Status::new(200).unwrap(), b"OK")
}

fn whole(content: &[u8]) -> Received {
    Received { status: Some(200), content: content.to_vec(), has_ended: true, was_reset: false }
}

#[test]
fn exchanges_of_one_connection_are_answered_side_by_side_and_out_of_order() {
    let mut rig = Rig::new();
    let mut ready = rig.request(&[1, 3, 25]);
    let mut take = |stream| ready.remove(&stream).expect("its request is complete");
    let (mut one, mut three, mut last) = (take(1), take(3), take(25));
    rig.begin(&mut last);
    last.write(Content::Borrowed(b"first ")).unwrap();
    three.early_hints(b"Link: </a>\r\n");
    rig.begin(&mut three);
    last.write(Content::Owned(Box::new(b"second ".to_vec()))).unwrap();
    one.write_whole(Some(&ok()), 3, [Content::Borrowed(b"one")], &mut rig.clock).unwrap();
    one.finish();
    let mut digits = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut digits, b"0123456789").unwrap();
    last.write_file(FileSpan { file: digits, offset: 2, length: 3 });
    assert!(rig.finish(one), "the last that came is the first that is done");
    three.write(Content::Borrowed(b"three")).unwrap();
    last.finish();
    assert!(rig.finish(last));
    three.finish_with_trailers(b"X: y\r\n");
    assert!(rig.finish(three));
    let expected = [(1, whole(b"one")), (3, whole(b"three")), (25, whole(b"first second 234"))];
    assert_eq!(rig.received(), BTreeMap::from(expected));
    assert_eq!(*rig.witness.0.lock().unwrap(), [(200, 3, true), (200, 16, true), (200, 5, true)]);
    assert_eq!(rig.connection.streams(), 0);
}

#[test]
fn reset_of_one_exchange_by_its_client_leaves_the_others_as_they_are() {
    let mut rig = Rig::new();
    let mut ready = rig.request(&[1, 3, 5]);
    for exchange in ready.values_mut() {
        rig.begin(exchange);
        exchange.write(Content::Borrowed(b"a")).unwrap();
    }
    let mut reset = Vec::new();
    frame(&mut reset, FrameKind::Reset, 3, b"");
    assert!(rig.connection.receive(&reset, rig.now).unwrap().is_empty());
    for (stream, mut exchange) in ready {
        exchange.write(Content::Borrowed(b"b")).unwrap();
        exchange.finish();
        assert_eq!(rig.finish(exchange), stream != 3, "{stream}");
    }
    let received = rig.received();
    assert_eq!((&received[&1], &received[&5]), (&whole(b"ab"), &whole(b"ab")));
    // The connection goes on.
    let mut next = rig.request(&[7]).remove(&7).unwrap();
    rig.begin(&mut next);
    next.finish();
    assert!(rig.finish(next));
    assert_eq!(rig.received()[&7], whole(b""));
}

#[test]
fn exchange_that_breaks_off_is_reset_alone() {
    let mut rig = Rig::new();
    let mut ready = rig.request(&[1, 3, 5, 7]);
    for exchange in ready.values_mut() {
        rig.begin(exchange);
    }
    let mut take = |stream| ready.remove(&stream).unwrap();
    let (mut aborted, mut evicted, mut cut, mut sound) = (take(1), take(3), take(5), take(7));
    aborted.abort();
    aborted.abort();
    assert!(Cut::Connection(PLACE).covers(&evicted) && Cut::Connection(PLACE).covers(&sound));
    evicted.evict(Cause::Evicted(Scarce::Threads));
    cut.cut(Reject::Stopping, &[b'd'; 29]);
    assert_eq!([&aborted, &evicted, &cut].map(|exchange| exchange.progress()), [Progress::Aborted; 3]);
    assert!(!rig.transport.output().is_sealed(), "the output is that of the other exchange, too");
    for broken in [aborted, evicted, cut] {
        assert!(rig.finish(broken));
    }
    sound.write(Content::Borrowed(b"sound")).unwrap();
    sound.finish();
    assert!(rig.finish(sound));
    let received = rig.received();
    assert!([1, 3, 5].iter().all(|stream| received[stream].was_reset && !received[stream].has_ended));
    assert_eq!(received[&7], whole(b"sound"));
}

#[test]
fn refusal_of_one_exchange_is_its_whole_response() {
    let mut rig = Rig::new();
    let mut ready = rig.request(&[1, 3]);
    let (mut refused, mut sound) = (ready.remove(&1).unwrap(), ready.remove(&3).unwrap());
    refused.refuse(Reject::QueueFull, &mut rig.clock);
    rig.begin(&mut sound);
    assert!(rig.finish(refused));
    sound.finish();
    assert!(rig.finish(sound));
    let received = rig.received();
    assert_eq!((received[&1].status, received[&1].has_ended), (Some(503), true));
    assert_eq!(received[&3], whole(b""));
}

#[test]
fn what_comes_back_for_another_connection_of_the_slot_is_dropped() {
    let mut rig = Rig::new();
    let mut late = rig.request(&[1]).remove(&1).unwrap();
    rig.begin(&mut late);
    rig.request(&[3]);
    for ticket in [Ticket { generation: 8, ..PLACE }, Ticket { slot: 4, ..PLACE }, Ticket { stream: 2, ..PLACE }] {
        assert!(!rig.connection.take_back(Finished::lost(ticket), rig.now));
    }
    assert!(rig.connection.take_back(Finished::lost(late.ticket()), rig.now));
    late.finish();
    assert!(!rig.finish(late), "it was given up");
    assert_eq!(rig.connection.streams(), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the threads are the test's")]
fn workers_that_answer_at_the_same_time_tear_no_frame() {
    const PIECES: usize = 200;
    let mut rig = Rig::new();
    rig.double.script().appetite = Some(7);
    let ready = rig.request(&[1, 3, 5, 7]);
    let (context, now) = (Arc::clone(&rig.context), rig.now);
    let finished: Vec<Finished> = std::thread::scope(|scope| {
        let answer = |mut exchange: Box<Exchange>| {
            let context = &context;
            move || {
                let piece = vec![exchange.ticket().stream.to_string().as_bytes()[0]; 10];
                exchange.begin(&ok(), BodySize::Unknown, &mut Clock::new(now));
                for number in 0..PIECES {
                    let is_owned = number % 2 == 0;
                    let next =
                        if is_owned { Content::Owned(Box::new(piece.clone())) } else { Content::Borrowed(&piece) };
                    exchange.write(next).expect("the client is there");
                    exchange.flush().expect("the client is there");
                }
                exchange.finish();
                let mut finished = Finished::answered(exchange, now);
                finished.send(context);
                finished
            }
        };
        let workers: Vec<_> = ready.into_values().map(|exchange| scope.spawn(answer(exchange))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    for finished in finished {
        assert!(rig.connection.take_back(finished, rig.now));
    }
    rig.double.script().appetite = None;
    for (stream, received) in rig.received() {
        assert_eq!(received, whole(&stream.to_string().repeat(10 * PIECES).into_bytes()), "{stream}");
    }
}
