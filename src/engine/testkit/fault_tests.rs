//! Conversations in which something goes wrong, at every call and at every byte. What delays must change nothing; what
//! breaks may cut a conversation short, and nothing else: no request runs that would not have, no byte is sent that would not
//! have been (but a refusal, whole), every response that began is told to the observers once, and the connection ends.

use std::io::Write;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::engine::connection::{Connection, Step, TURN_BYTES, Turn};
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::ticket::Ticket;
use crate::engine::exchange::{Content, Exchange, Progress, ZERO_COPY_BYTES};
use crate::engine::options::Options;
use crate::engine::testkit::conversations::{Conversation, conversations};
use crate::engine::testkit::doubles::{Witness, context};
use crate::engine::transport::Transport;
use crate::engine::transport::body::Body;
use crate::engine::transport::output::FileSpan;
use crate::http::head::ResponseHead;
use crate::http::origin::Client;
use crate::http::reject::Reject;
use crate::http::status::Status;
use crate::http1::plan::BodySize;
use crate::net::stream::Stream;
use crate::net::stream::double::{Double, Fault, Script};

const DELAYS: [Fault; 3] = [Fault::Interrupted, Fault::WouldBlock, Fault::Short];
/// Seeds of the record layers that every conversation is had over as well.
const RECORDS: [u64; 1] = [1];
const BREAKS: [Fault; 2] = [Fault::Reset, Fault::Broken];

/// How it went.
#[derive(Debug, PartialEq, Eq)]
struct Course {
    calls: Vec<String>,
    written: Vec<u8>,
    /// For each response, refusals among them: its status, and whether it left whole.
    told: Vec<(u16, bool)>,
    /// The server has ended its side, or asked for a reset.
    finished: bool,
    reset: bool,
}

struct World {
    file: std::fs::File,
    // One for all, so that no second begins between two courses.
    clock: Clock,
    start: Instant,
    // The seed of the record layer that the conversations are had over, if they are.
    records: Option<u64>,
}

impl World {
    fn new() -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"0123456789").expect("it can be written");
        let start = Instant::now();
        Self { file, clock: Clock::new(start + Duration::from_secs(3600)), start, records: None }
    }

    /// Has the conversation. With `sends`, the worker sends what it answered, as it does while another has the poller.
    fn have(
        &mut self,
        conversation: &Conversation,
        sends: bool,
        set: impl FnOnce(&mut Script),
    ) -> (Course, usize, usize) {
        let double = Double::default();
        {
            let mut script = double.0.lock().expect("nobody else has it");
            script.later = conversation.pieces.iter().cloned().collect();
            if let Some(seed) = self.records {
                script.add_record_layer(seed);
            }
            set(&mut script);
        }
        let witness = Witness::default();
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let weak = Arc::downgrade(&transport);
        let context = context(conversation.options.clone(), &witness);
        let mut connection =
            Box::new(Connection::new(transport, Arc::clone(&context), Client::Local, 0, Ticket::default(), self.start));
        let mut calls = Vec::new();
        let mut now = self.start;
        let mut scratch = vec![0; 64];
        let mut expire = false;
        let mut expired = 0;
        for _ in 0..100_000 {
            let date = *self.clock.date(now);
            let mut turn = Turn { now, date: &date, scratch: &mut scratch, share: TURN_BYTES };
            let step =
                if std::mem::take(&mut expire) { connection.expire(&mut turn) } else { connection.advance(&mut turn) };
            match step {
                Step::Closed => {
                    drop(connection);
                    return self.end(&double, &witness, &weak, calls);
                }
                Step::Again => {}
                Step::Ready(exchange) if exchange.holds_body_back() => {
                    connection.take_back(Finished::awaiting_body(exchange), now);
                }
                Step::Ready(mut exchange) => {
                    self.serve(&mut exchange, &mut calls);
                    let mut finished = Finished::answered(exchange, now);
                    let is_eager = sends && finished.send(&context);
                    connection.take_back(finished, now);
                    // The shard sees to what a worker left, or a deadline does.
                    assert!(is_eager || connection.deadline().is_some());
                }
                Step::Wait => {
                    let mut script = double.0.lock().expect("nobody else has it");
                    if script.take_readiness() || script.arrive() {
                        connection.note(true, script.ended);
                    } else if conversation.closes && !script.ended {
                        script.ended = true;
                        connection.note(true, true);
                    } else {
                        expired += 1;
                        assert!(expired < 4, "{}: it outlives its deadlines", conversation.name);
                        now = connection.deadline().expect("somebody waits");
                        expire = true;
                    }
                }
            }
        }
        panic!("{}: no end", conversation.name);
    }

    fn end(
        &self,
        double: &Double,
        witness: &Witness,
        transport: &Weak<Transport>,
        calls: Vec<String>,
    ) -> (Course, usize, usize) {
        assert!(transport.upgrade().is_none(), "an owner keeps the socket open");
        let script = double.0.lock().expect("nobody else has it");
        assert!(!script.reset || !script.is_closed(), "a response that is cut off looks whole");
        let is_quiet = script.faults.is_empty() && script.full_at.is_none() && script.writes_until.is_none();
        if is_quiet && self.records.is_some() {
            assert_eq!(script.finished, script.is_closed(), "the last record comes first");
        }
        let told =
            witness.0.lock().expect("nobody else has it").iter().map(|&(status, _, whole)| (status, whole)).collect();
        let course =
            Course { calls, written: script.written.clone(), told, finished: script.finished, reset: script.reset };
        (course, script.calls, script.read)
    }

    // The application, and what a gateway does about it.
    fn serve(&mut self, exchange: &mut Exchange, calls: &mut Vec<String>) {
        let line = [exchange.request().method(), b" ", exchange.request().path()].concat();
        let mut call = String::from_utf8(line).expect("the requests are ASCII");
        let path = exchange.request().path().to_vec();
        let mut failure = None;
        if path != b"/unread" {
            match read(exchange) {
                Ok(body) if body.is_empty() => {}
                Ok(body) => call = format!("{call} {body}"),
                Err(reject) => failure = Some(reject),
            }
        }
        calls.push(call.clone());
        if let Some(reject) = failure {
            exchange.refuse(reject, &mut self.clock);
        } else {
            // Nobody is told of a client that has gone; the application goes on.
            let _ = self.answer(exchange, &path, &call);
        }
        match exchange.progress() {
            Progress::Waiting => exchange.refuse(Reject::AppFailed, &mut self.clock),
            Progress::Begun => exchange.abort(),
            Progress::Complete | Progress::Aborted => {}
        }
    }

    fn answer(
        &mut self,
        exchange: &mut Exchange,
        path: &[u8],
        call: &str,
    ) -> Result<(), crate::engine::exchange::Disconnected> {
        let head = ResponseHead::new(Status::new(200).expect("a status"), b"OK");
        let content = call.as_bytes();
        match path {
            b"/pieces" => {
                exchange.begin(&head, BodySize::Unknown, &mut self.clock);
                for piece in content.chunks(3) {
                    exchange.write(Content::Borrowed(piece))?;
                    exchange.push()?;
                }
            }
            b"/large" => {
                exchange.begin(&head, BodySize::Unknown, &mut self.clock);
                for size in [ZERO_COPY_BYTES, 10, 4 * ZERO_COPY_BYTES] {
                    exchange.write(Content::Owned(Box::new(vec![b'x'; size])))?;
                    exchange.push()?;
                }
            }
            b"/file" | b"/truncated" => {
                let length = if path == b"/file" { 7 } else { 70 };
                exchange.begin(&head, BodySize::Known(length), &mut self.clock);
                let file = self.file.try_clone().expect("a descriptor is left");
                exchange.write_file(FileSpan { file, offset: 3, length });
            }
            b"/half" => {
                exchange.begin(&head, BodySize::Known(1000), &mut self.clock);
                exchange.write(Content::Borrowed(content))?;
            }
            _ => {
                if path == b"/hinted" {
                    exchange.early_hints(b"Link: </a>\r\n");
                }
                exchange.begin(&head, BodySize::Known(content.len() as u64), &mut self.clock);
                exchange.write(Content::Borrowed(content))?;
            }
        }
        exchange.finish();
        Ok(())
    }
}

fn read(exchange: &mut Exchange) -> Result<String, Reject> {
    let mut bytes = Vec::new();
    let mut failure = None;
    match exchange.take_body() {
        Body::Empty => {}
        Body::Memory(memory, _) => bytes = memory,
        Body::File(mut file) => drop(std::io::Read::read_to_end(&mut file, &mut bytes)),
        Body::Stream(mut stream) => {
            let mut block = [0; 3];
            loop {
                match stream.read(&mut block) {
                    Ok(0) => break,
                    Ok(count) => bytes.extend_from_slice(&block[..count]),
                    Err(error) => {
                        failure = Some(error.reject());
                        break;
                    }
                }
            }
            exchange.give_back(stream);
        }
    }
    failure.map_or_else(|| Ok(String::from_utf8(bytes).expect("the bodies are ASCII")), Err)
}

const START: &[u8] = b"HTTP/1.1 ";

// Where responses begin, the interim ones too.
fn starts(bytes: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, START).collect()
}

// A refusal of the server's own and nothing else: whole, and the last.
fn is_refusal(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, content)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    (head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 5"))
        && head.contains("\r\nConnection: close")
        // The answer to HEAD has no content.
        && (content.is_empty() || length == Some(&content.len().to_string()))
}

/// Holds a course that something broke against the quiet one.
fn check(what: &str, quiet: &Course, broken: &Course) {
    let calls = &broken.calls;
    assert!(calls.len() <= quiet.calls.len(), "{what}: {calls:?}");
    for (index, (call, expected)) in calls.iter().zip(&quiet.calls).enumerate() {
        // The last one may have met a body that broke off; none has met a body that is not the client's.
        let cut = index + 1 == calls.len() && expected.starts_with(&format!("{call} "));
        assert!(call == expected || cut, "{what}: {calls:?}");
    }
    let told = &broken.told;
    let refused = told.get(calls.len()).is_some_and(|&(status, _)| status >= 400);
    assert_eq!(told.len(), calls.len() + usize::from(refused), "{what}: each response is told once: {told:?}");
    assert!(final_responses(&broken.written).count() <= told.len(), "{what}: no response is left out: {told:?}");
    let common = quiet.written.iter().zip(&broken.written).take_while(|(ours, theirs)| ours == theirs).count();
    if common < broken.written.len() {
        // A refusal may share its first bytes with what would have been sent.
        let at = starts(&broken.written).into_iter().rfind(|&at| at <= common).unwrap_or(0);
        let boundary = at == quiet.written.len() || starts(&quiet.written).contains(&at);
        let text = String::from_utf8_lossy(&broken.written[at..]);
        assert!(boundary && is_refusal(&broken.written[at..]), "{what}: at {at}: {text}");
    }
    let whole = whole_responses(&quiet.written, common);
    for (index, &(_, complete)) in broken.told.iter().enumerate() {
        let refused = common < broken.written.len() && index + 1 == broken.told.len();
        assert!(!complete || refused || index < whole, "{what}: exchange {index} is not whole: {:?}", broken.told);
    }
}

// How many final responses lie within the first `length` bytes.
fn whole_responses(bytes: &[u8], length: usize) -> usize {
    final_responses(bytes).filter(|&(_, end)| end <= length).count()
}

// Where they begin and end.
fn final_responses(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let starts = starts(bytes);
    let ends: Vec<_> = starts.iter().skip(1).copied().chain([bytes.len()]).collect();
    starts.into_iter().zip(ends).filter(|&(start, _)| bytes.get(start + START.len()) != Some(&b'1'))
}

fn for_each_conversation(mut with: impl FnMut(&mut World, &Conversation, bool, &Course, usize, usize)) {
    let mut world = World::new();
    for conversation in conversations() {
        for sends in [false, true] {
            world.records = None;
            let (quiet, calls, read) = world.have(&conversation, sends, |_| {});
            assert_eq!(quiet.calls, conversation.calls, "{}", conversation.name);
            let responses = final_responses(&quiet.written).count();
            assert_eq!(quiet.told.len(), responses, "{}: {:?}", conversation.name, quiet.told);
            with(&mut world, &conversation, sends, &quiet, calls, read);
            for seed in RECORDS {
                world.records = Some(seed);
                let (course, calls, read) = world.have(&conversation, sends, |_| {});
                assert_eq!(course, quiet, "{}: over records, seed {seed}", conversation.name);
                with(&mut world, &conversation, sends, &quiet, calls, read);
            }
        }
    }
}

#[test]
fn record_layer_however_it_cuts_changes_nothing() {
    let mut world = World::new();
    for conversation in conversations() {
        for sends in [false, true] {
            world.records = None;
            let (quiet, ..) = world.have(&conversation, sends, |_| {});
            for seed in 0..300 {
                world.records = Some(seed);
                let (course, ..) = world.have(&conversation, sends, |_| {});
                assert_eq!(course, quiet, "{}: seed {seed}", conversation.name);
            }
        }
    }
}

#[test]
fn delay_at_any_call_changes_nothing() {
    for_each_conversation(|world, conversation, sends, quiet, calls, _| {
        for fault in DELAYS {
            // One further than the last: a delay makes one call more.
            for at in 0..=calls {
                let (course, ..) = world.have(conversation, sends, |script| script.faults.extend([(at, fault)]));
                assert_eq!(course, *quiet, "{}: {fault:?} at call {at}", conversation.name);
            }
        }
    });
}

#[test]
fn delay_at_every_call_changes_nothing() {
    for_each_conversation(|world, conversation, sends, quiet, calls, _| {
        for first in DELAYS {
            for second in DELAYS {
                let (course, ..) = world.have(conversation, sends, |script| {
                    script.faults.extend((0..3 * calls).map(|at| (at, if at % 3 == 0 { first } else { second })));
                    // A call that nothing delays now and then: otherwise none would ever come to an end.
                    script.faults.retain(|at, _| at % 3 != 2);
                });
                assert_eq!(course, *quiet, "{}: {first:?} and {second:?} by turns", conversation.name);
            }
        }
        for appetite in [100, 1000] {
            let (course, ..) = world.have(conversation, sends, |script| script.appetite = Some(appetite));
            assert_eq!(course, *quiet, "{}: {appetite} bytes at a time", conversation.name);
        }
    });
}

#[test]
fn break_at_any_call_cuts_short_and_no_more() {
    for_each_conversation(|world, conversation, sends, quiet, calls, _| {
        for fault in BREAKS {
            for at in 0..calls {
                let (course, ..) = world.have(conversation, sends, |script| {
                    script.faults.extend((at..at + 100).map(|at| (at, fault)));
                });
                check(&format!("{}: {fault:?} at call {at}", conversation.name), quiet, &course);
            }
        }
    });
}

#[test]
fn break_at_any_byte_read_cuts_short_and_no_more() {
    for_each_conversation(|world, conversation, sends, quiet, _, read| {
        for at in 0..read {
            let what = format!("{}: reset at byte {at} of the requests", conversation.name);
            let (course, ..) = world.have(conversation, sends, |script| script.reads_until = Some((at, Fault::Reset)));
            check(&what, quiet, &course);
            let what = format!("{}: silence from byte {at} on", conversation.name);
            let (course, ..) =
                world.have(conversation, sends, |script| script.reads_until = Some((at, Fault::WouldBlock)));
            check(&what, quiet, &course);
            let what = format!("{}: end at byte {at} of the requests", conversation.name);
            let (course, ..) = world.have(conversation, sends, |script| {
                let mut left = at;
                for piece in &mut script.later {
                    piece.truncate(left);
                    left -= piece.len();
                }
                script.later.retain(|piece| !piece.is_empty());
                script.incoming = std::mem::take(&mut script.later);
                script.ended = true;
            });
            check(&what, quiet, &course);
        }
    });
}

#[test]
fn break_at_any_byte_written_cuts_short_and_no_more() {
    for_each_conversation(|world, conversation, sends, quiet, _, _| {
        // All of the small ones; of the large one its beginning, its end, and some between.
        let length = quiet.written.len();
        for at in (0..length).filter(|at| *at < 1200 || at + 20 > length || at % 9973 == 0) {
            for fault in BREAKS {
                let (course, ..) = world.have(conversation, sends, |script| script.writes_until = Some((at, fault)));
                check(&format!("{}: {fault:?} at byte {at} of the responses", conversation.name), quiet, &course);
                assert!(course.written.len() <= at);
            }
            let (course, ..) = world.have(conversation, sends, |script| script.full_at = Some(at));
            check(&format!("{}: nothing taken from byte {at} on", conversation.name), quiet, &course);
            // One that does not take the greeting of a record layer has asked for nothing.
            let has_asked = world.records.is_none() || !course.told.is_empty();
            assert!(course.reset || !has_asked, "{}: a client that takes nothing is given up", conversation.name);
        }
    });
}

#[test]
fn what_a_record_layer_says_of_its_own_leaves_with_the_next_writable_event() {
    let (double, now) = (Double::default(), Instant::now());
    double.script().add_record_layer(1);
    double.script().full_at = Some(0);
    let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
    let context = context(Options::default(), &Witness::default());
    let mut connection = Connection::new(Arc::clone(&transport), context, Client::Local, 0, Ticket::default(), now);
    for is_readable in [true, false] {
        connection.note(is_readable, false);
        let mut scratch = [0; 64];
        let mut turn = Turn { now, date: &[b'd'; 29], scratch: &mut scratch, share: TURN_BYTES };
        assert!(matches!(connection.advance(&mut turn), Step::Wait), "it waits for its client");
        assert_eq!((transport.pending() > 0, double.script().is_greeted()), (is_readable, !is_readable));
        double.script().full_at = None;
    }
}
