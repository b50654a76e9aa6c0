use std::time::Duration;

use wsgi_core::engine::connection::TURN_BYTES;
use wsgi_core::engine::options::Options;
use wsgi_core::engine::testkit::rig::Rig;
use wsgi_core::http::head::Version;
use wsgi_core::http::limits::Limits;
use wsgi_core::http::reject::Reject;
use wsgi_core::http1::framing::BodyLength;
use wsgi_core::net::proxy_protocol::AcceptedVersion;
use wsgi_core::net::stream::double::Fault;

use super::TIGHT;
use crate::oracle::application::{Answer, Application, Call};
use crate::oracle::choices::Choices;
use crate::oracle::requests::{End, Replay, Request, replay};
use crate::oracle::responses::{Ending, Reading, Response, ResponseContext, read};

const PROXY_HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n";

/// A whole connection: the first byte says how many bytes behind it choose the server's options, how the client sends
/// and takes, and what the application does; all others are what the client sends.
///
/// 1. The application is called for exactly the requests that the pure rooms find in the client's bytes, in order, up to
///    the one that ends the connection, and reads exactly their bodies.
/// 2. The client gets one well-formed response for each call, with the content that the application handed over. Where
///    the application, or the socket, left it incomplete, no client takes it for whole, and nothing follows.
/// 3. What is no request is refused once, by its own rule; a client that falls silent within one is told.
/// 4. The connection goes on exactly if it may, and says so.
/// 5. The observers learn of each response once, of refusals too.
pub fn connection(bytes: &[u8]) {
    let (count, rest) = bytes.split_first().map_or((0, bytes), |(&first, rest)| (usize::from(first), rest));
    let (choices, client) = rest.split_at(count.min(rest.len()));
    let mut choices = Choices(choices);
    let setup = Setup::draw(&mut choices);
    let replay = replay([client], &setup.options.limits);
    let (application, seen) = setup.play(choices, client);
    Check { setup: &setup, replay: &replay, calls: &application.calls, seen: &seen, client }.all();
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Setup {
    options: Options,
    proxied: bool,
    stopping: bool,
    full: bool,
    sends_ahead: bool,
    appetite: Option<usize>,
    breaks_after: Option<usize>,
    block: usize,
    share: usize,
    piece: usize,
    pauses: bool,
    ended: bool,
    expires: bool,
}

/// How it looked from outside.
struct Seen {
    written: Vec<u8>,
    ending: Ending,
    // Status and completeness of each exchange, as the observers learn of them.
    records: Vec<(u16, bool)>,
}

impl Setup {
    fn draw(choices: &mut Choices<'_>) -> Self {
        let options = Options {
            limits: if choices.flag() { TIGHT } else { Limits::default() },
            body_buffer: choices.pick(&[65_536, 0, 3, 16]),
            stream_chunked: choices.flag(),
            stream_bodies: choices.flag(),
            keep_alive: choices.pick(&[Duration::from_secs(75), Duration::ZERO]),
            // What a stream waits for beyond its client's script will not come.
            body_timeout: Duration::from_micros(100),
            body_min_rate: 0,
            proxy_protocol: choices.pick(&[None, None, None, Some(AcceptedVersion::Any)]),
            ..Options::default()
        };
        Self {
            proxied: options.proxy_protocol.is_some(),
            options,
            stopping: choices.below(8) == 7,
            full: choices.below(16) == 15,
            sends_ahead: choices.flag(),
            appetite: choices.pick(&[None, Some(1), Some(50), Some(2000)]),
            breaks_after: if choices.below(8) == 7 { Some(choices.below(256)) } else { None },
            block: choices.pick(&[4096, 1, 7, 64]),
            share: choices.pick(&[TURN_BYTES, 5]),
            piece: choices.pick(&[usize::MAX, 1, 2, 13, 100]),
            pauses: choices.flag(),
            ended: choices.flag(),
            expires: choices.flag(),
        }
    }

    fn play<'a>(&self, choices: Choices<'a>, client: &[u8]) -> (Application<'a>, Seen) {
        let largest = if self.appetite.is_some_and(|appetite| appetite < 2000) { 200 } else { usize::MAX };
        let mut rig = Rig::new(self.options.clone(), Application::new(choices, largest));
        (rig.block, rig.share, rig.full, rig.sends_ahead) = (self.block, self.share, self.full, self.sends_ahead);
        {
            let mut script = rig.double.script();
            script.appetite = self.appetite;
            script.writes_until = self.breaks_after.map(|end| (end, Fault::Broken));
            script.ended = self.ended;
            let sent = if self.proxied { [PROXY_HEADER, client].concat() } else { client.to_vec() };
            for piece in sent.chunks(self.piece) {
                script.incoming.push_back(piece.to_vec());
                if self.pauses {
                    script.incoming.push_back(Vec::new());
                }
            }
        }
        if self.stopping {
            rig.context.stop();
        }
        rig.run();
        if self.expires {
            rig.expire();
            rig.run();
        }
        let script = rig.double.script();
        let ending = match (rig.is_closed(), script.reset) {
            (true, true) => Ending::Reset,
            (true, false) => Ending::Ended,
            (false, _) if script.finished => Ending::Ended,
            (false, _) => Ending::Open,
        };
        let written = script.written.clone();
        drop(script);
        let records = rig.witness.0.lock().map(|records| records.clone()).unwrap_or_default();
        let records = records.into_iter().map(|(status, _, complete)| (status, complete)).collect();
        (rig.gateway, Seen { written, ending, records })
    }

    fn is_streamed(&self, request: &Request) -> bool {
        match request.framing.body {
            BodyLength::None => false,
            BodyLength::Length(length) => self.options.stream_bodies && length > self.options.body_buffer as u64,
            BodyLength::Chunked => self.options.stream_chunked,
        }
    }
}

struct Check<'a> {
    setup: &'a Setup,
    replay: &'a Replay,
    calls: &'a [Call],
    seen: &'a Seen,
    client: &'a [u8],
}

impl Drop for Check<'_> {
    // What led to a property that does not hold.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}\n{:#?}\n{:?}", self.setup, self.calls, self.replay);
            eprintln!("the client: {}", self.client.escape_ascii());
            eprintln!("the server: {} ({:?})", self.seen.written.escape_ascii(), self.seen.ending);
        }
    }
}

impl Check<'_> {
    fn all(&self) {
        // Requests that find their way to a worker: of some, the head is enough.
        let begun = self.replay.begun.iter().filter(|request| self.is_handed_on(request));
        let requests: Vec<&Request> = self.replay.requests.iter().chain(begun).collect();
        assert!(self.calls.len() <= requests.len(), "a call for no request");
        for (call, request) in self.calls.iter().zip(&requests) {
            self.check_call(call, request);
        }
        let last = self.calls.len().wrapping_sub(1);
        let ends = self.calls.iter().zip(&requests).position(|(call, request)| self.must_end(call, request));
        assert!(ends.is_none_or(|end| end == last), "a call behind the connection's end");

        let mut asked: Vec<ResponseContext> =
            self.calls.iter().zip(&requests).map(|(_, request)| asked(request)).collect();
        let mut tail = None;
        if ends.is_none() {
            if self.setup.full && !requests.is_empty() {
                assert!(self.calls.is_empty());
                asked.push(self::asked(requests[0]));
                tail = Some(Reject::QueueFull);
            } else {
                assert!(self.is_broken() || self.calls.len() == requests.len(), "a request without a call");
                tail = if self.last_is_unread() { None } else { self.refusal() };
                asked.push(ResponseContext { is_head: self.refused_is_head(), version: Version::Http11 });
            }
        }
        // A call that said nothing has no response.
        let silent = |call: &Call| matches!(call.answer, Answer::Nothing);
        asked.truncate(asked.len() - self.calls.iter().filter(|call| silent(call)).count());
        let reading = read(&self.seen.written, &asked, self.seen.ending)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.seen.written.escape_ascii()));
        self.check_responses(&reading, &requests, tail, &asked);
        self.check_end(&reading, ends.is_some() || tail.is_some());
        self.check_records(tail);
    }

    fn check_call(&self, call: &Call, request: &Request) {
        assert_eq!((&call.method, &call.target), (&request.method, &request.target));
        assert!(request.body.starts_with(&call.body), "bytes that are not of the body");
        if call.is_over {
            assert_eq!(call.body, request.body);
            assert!(self.replay.requests.contains(request), "the end of a body that is not over");
        }
    }

    // Whether a worker gets a request of whose body something is missing: one that is streamed, and one whose client holds the
    // body back. If some of the body came, it depends on the reads whether that came with the head: then the outcome tells.
    fn is_handed_on(&self, request: &Request) -> bool {
        if self.setup.is_streamed(request) {
            return true;
        }
        let by_itself = self.setup.options.stream_bodies && matches!(request.framing.body, BodyLength::Length(1..));
        if !request.framing.expect_continue || !(self.setup.full || by_itself) {
            return false;
        }
        let outcome = if self.setup.full {
            self.seen.written.starts_with(b"HTTP/1.1 503 ")
        } else {
            self.calls.len() > self.replay.requests.len()
        };
        self.client.ends_with(b"\r\n\r\n") && request.body.is_empty() || outcome
    }

    // Whether this call's response must be the connection's last.
    fn must_end(&self, call: &Call, request: &Request) -> bool {
        let by_answer = match &call.answer {
            Answer::Nothing | Answer::Refused(_) => true,
            Answer::Response { begun, finished } => !finished || begun.until_close || begun.asks_close,
        };
        by_answer
            || call.lost
            || call.closes
            || call.unread.is_none()
            || !request.framing.persistent
            || self.setup.stopping
            || self.setup.options.keep_alive.is_zero()
    }

    fn is_broken(&self) -> bool {
        self.setup.breaks_after.is_some_and(|end| self.seen.written.len() >= end)
    }

    // The rest of a body that nobody reads has not come.
    fn last_is_unread(&self) -> bool {
        self.calls.len() > self.replay.requests.len()
    }

    // What the server must say of itself behind the last answer.
    fn refusal(&self) -> Option<Reject> {
        match self.replay.end {
            End::Clean | End::Close => None,
            End::Refused(reject) => Some(reject),
            End::Open if self.setup.ended || !self.setup.expires => None,
            End::Open if self.replay.begun.is_some() => Some(Reject::BodyTimeout),
            // An empty line behind a request is none yet.
            End::Open if matches!(&self.client[self.replay.consumed..], b"\r" | b"\r\n") => None,
            End::Open => Some(Reject::HeaderTimeout),
        }
    }

    fn refused_is_head(&self) -> bool {
        let rest = &self.client[self.replay.consumed..];
        let rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        self.replay.begun.as_ref().map_or(rest.starts_with(b"HEAD "), |request| request.method == b"HEAD")
    }

    fn check_responses(
        &self,
        reading: &Reading,
        requests: &[&Request],
        tail: Option<Reject>,
        asked: &[ResponseContext],
    ) {
        let mut responses = reading.responses.iter();
        for (call, request) in self.calls.iter().zip(requests) {
            if matches!(call.answer, Answer::Nothing) {
                continue;
            }
            let Some(response) = responses.next() else {
                assert!(call.lost || self.is_broken(), "no response to {}", call.target.escape_ascii());
                return;
            };
            self.check_response(response, call, request);
        }
        // An invitation to a body whose client has left.
        let uninvited = self.setup.ended && self.replay.begun.is_some();
        let lost = self.calls.last().is_some_and(|call| call.lost);
        assert!(!reading.torn || self.is_broken() || uninvited || lost, "a torn head");
        let Some(reject) = tail else {
            assert_eq!(responses.next(), None, "a response too many");
            return;
        };
        let Some(response) = responses.next() else {
            assert!(self.is_broken(), "no refusal: {reject:?}");
            return;
        };
        self.check_refusal(response, reject, asked.last().is_some_and(|asked| asked.is_head));
        assert_eq!(responses.next(), None, "a response too many");
    }

    fn check_response(&self, response: &Response, call: &Call, request: &Request) {
        let torn = call.lost || self.is_broken();
        let count = |status| response.interim.iter().filter(|&&interim| interim == status).count();
        assert!(count(100) <= usize::from(request.framing.expect_continue), "an invitation that was not asked for");
        assert!(count(100) + count(103) == response.interim.len() && count(103) == call.hints);
        let (begun, finished) = match &call.answer {
            Answer::Nothing => return,
            Answer::Refused(reject) => return self.check_refusal(response, *reject, request.method == b"HEAD"),
            Answer::Response { begun, finished } => (begun, *finished),
        };
        assert_eq!(response.status, begun.status);
        assert!(begun.visible().starts_with(&response.content), "content that the application did not write");
        if finished && !torn {
            assert!(response.is_whole);
        }
        if response.is_whole {
            assert_eq!(response.content, begun.visible());
            assert!(begun.is_satisfied());
            assert!(finished || begun.is_empty || begun.length.is_some(), "a response that was cut looks whole");
        }
        if !self.must_end(call, request) {
            assert!(!response.says_close(), "a connection that goes on");
        }
    }

    fn check_refusal(&self, response: &Response, reject: Reject, is_head: bool) {
        let text = format!("{}\n", reject.public());
        assert_eq!((response.status, response.says_close()), (reject.status().code(), true), "{reject:?}");
        assert!(response.is_whole || self.is_broken());
        if response.is_whole {
            assert_eq!(response.content, if is_head { b"" } else { text.as_bytes() });
        }
    }

    fn check_end(&self, reading: &Reading, must_end: bool) {
        let is_open = self.seen.ending == Ending::Open;
        if must_end {
            assert!(!is_open || self.is_broken(), "a connection that should have ended");
        } else if !self.setup.ended && !self.setup.expires && !self.setup.stopping && !self.is_broken() {
            assert!(is_open, "a connection that was ended without a reason");
        }
        // A connection that broke under an invitation is found to be so at its next read.
        if is_open && !self.is_broken() {
            assert!(reading.responses.iter().all(|response| response.is_whole), "a response that never ends");
            assert!(!reading.torn);
        }
        if self.calls.last().is_some_and(|call| call.lost) {
            assert_eq!(self.seen.ending, Ending::Reset);
        }
    }

    fn check_records(&self, tail: Option<Reject>) {
        let mut expected: Vec<(u16, bool)> = Vec::new();
        for call in self.calls.iter().filter(|call| !call.lost) {
            expected.push(match &call.answer {
                Answer::Nothing => (0, false),
                Answer::Refused(reject) => (reject.status().code(), true),
                Answer::Response { begun, finished } => (begun.status, *finished),
            });
        }
        let answered = expected.len();
        expected.extend(tail.map(|reject| (reject.status().code(), true)));
        let statuses = |records: &[(u16, bool)]| records.iter().map(|record| record.0).collect::<Vec<_>>();
        if self.is_broken() {
            // One that broke before need not come to its refusal.
            let seen = statuses(&self.seen.records);
            assert!(seen == statuses(&expected) || seen == statuses(&expected[..answered]), "{seen:?}");
        } else {
            assert_eq!(self.seen.records, expected);
        }
    }
}

fn asked(request: &Request) -> ResponseContext {
    ResponseContext { is_head: request.method == b"HEAD", version: request.version }
}
