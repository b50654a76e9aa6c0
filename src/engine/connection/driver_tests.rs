use super::*;
use crate::engine::page::PageSlot;
use crate::http::limits::Limits;

const HOST: &str = "Host: a\r\n";

struct Rig {
    driver: Http1Driver,
    options: Options,
    spool: Arc<Budget>,
    now: Instant,
    is_stopping: bool,
}

impl Rig {
    fn new(options: Options) -> Self {
        let now = Instant::now();
        let spool = Arc::new(Budget::of(&options, u64::MAX, PageSlot::private(1)));
        let driver = Http1Driver::new(Client::Local, options.proxy_protocol, now);
        Self { driver, options, spool, now, is_stopping: false }
    }

    fn receive(&mut self, bytes: &[u8]) -> Reception {
        let Self { driver, options, spool, now, is_stopping } = self;
        driver.receive(bytes, &Surroundings { options, spool, now: *now, is_stopping: *is_stopping })
    }

    // What all of `bytes` come to, so many at a time, as text: requests with their bodies, and refusals. Each request is
    // answered at once.
    fn outcomes(&mut self, bytes: &[u8], at_a_time: usize) -> Vec<String> {
        let mut outcomes = Vec::new();
        for piece in bytes.chunks(at_a_time) {
            let mut reception = self.receive(piece);
            loop {
                match reception {
                    Reception::Ready(incoming, body) => {
                        outcomes.push(format!("{} {}", incoming.request.method_and_path(), text(body)));
                        self.answer(incoming);
                    }
                    Reception::Refused { reject, .. } => {
                        outcomes.push(reject.status().code().to_string());
                        self.driver.refuse(self.now);
                        return outcomes;
                    }
                    Reception::Incomplete => {}
                    Reception::Proxied | Reception::NotProxied(_) | Reception::Over => panic!("not asked for"),
                }
                if !self.driver.can_resume() {
                    break;
                }
                reception = self.receive(b"");
            }
        }
        outcomes
    }

    fn answer(&mut self, incoming: Incoming) {
        let facts = ReuseInput::new(incoming.framing.persistent, Outcome::Complete, Unread::None);
        self.driver.answer(facts, false, Vec::new(), self.now);
        assert!(self.driver.after_response(true, self.is_stopping, self.now) == AfterResponse::GoOn);
        self.driver.forget(incoming.request);
    }
}

fn text(body: ReadyBody) -> String {
    match body {
        ReadyBody::Whole(Body::Empty, length) => format!("{length:?}"),
        ReadyBody::Whole(Body::Memory(bytes, _), length) => {
            assert_eq!(length, Some(bytes.len() as u64));
            String::from_utf8(bytes).unwrap()
        }
        ReadyBody::Whole(..) => "in a file".to_owned(),
        ReadyBody::Streamed(length, ready) => format!("streamed {length:?} {}", ready.escape_ascii()),
        ReadyBody::Expected(length) => format!("expected {length:?}"),
    }
}

#[test]
fn requests_come_out_alike_however_their_bytes_come_in() {
    let bytes = format!(
        "GET /a HTTP/1.1\r\n{HOST}\r\nPOST /b HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello\r\n\
         POST /c HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         POST /d HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\nGET /e HTTP/1.1\r\n{HOST}\r\n"
    );
    let expected = ["GET /a None", "POST /b hello", "POST /c abc", "POST /d Some(0)", "GET /e None"];
    for at_a_time in [1, 2, 7, 40, bytes.len()] {
        assert_eq!(
            Rig::new(Options::default()).outcomes(bytes.as_bytes(), at_a_time),
            expected,
            "{at_a_time} at a time"
        );
    }
}

#[test]
fn refusals_are_outcomes_and_nothing_comes_behind_them() {
    let limits = Limits { request_line: 60, header_fields: 4, header_size: 100, body_size: 9 };
    let long = "x".repeat(120);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), "400"),
        (format!("GET /{long} HTTP/1.1\r\n"), "414"),
        (format!("GET / HTTP/1.1\r\n{HOST}X: {long}\r\n"), "431"),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 10\r\n\r\n"), "413"),
        (format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld"), "413"),
        (format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n"), "501"),
        ("GET / HTTP/2.5\r\nHost: a\r\n\r\n".to_owned(), "505"),
    ] {
        for at_a_time in [1, request.len()] {
            let mut rig = Rig::new(Options { limits: limits.clone(), ..Options::default() });
            assert_eq!(rig.outcomes(request.as_bytes(), at_a_time), [status], "{request}");
            assert!(matches!(rig.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Reception::Incomplete));
            assert!(rig.driver.after_response(true, false, rig.now) == AfterResponse::Linger);
        }
    }
}

#[test]
fn deadline_of_what_was_begun_is_a_refusal_and_of_silence_none() {
    let mut rig = Rig::new(Options::default());
    assert!(matches!(rig.driver.expire(&rig.options), Expiry::Silent(None)));
    for (bytes, reject) in [
        ("GET / HT".to_owned(), Reject::HeaderTimeout),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhel"), Reject::BodyTimeout),
    ] {
        let mut rig = Rig::new(Options::default());
        assert!(rig.outcomes(bytes.as_bytes(), 3).is_empty() && rig.driver.end().is_some());
        let Expiry::Refused(refused, received) = rig.driver.expire(&rig.options) else { panic!("it had begun") };
        assert_eq!((refused, received.request_line().is_empty()), (reject, false));
    }
    let mut rig = Rig::new(Options::default());
    rig.driver.refuse(rig.now);
    assert!(matches!(rig.driver.expire(&rig.options), Expiry::Unread));
}

#[test]
fn body_that_is_read_as_it_arrives_leaves_what_follows_to_its_reader() {
    let options = Options { body_buffer: 4, stream_bodies: true, stream_chunked: true, ..Options::default() };
    let head = format!("POST /s HTTP/1.1\r\n{HOST}");
    let mut rig = Rig::new(options.clone());
    let bytes = format!("{head}Content-Length: 5\r\n\r\nhelloGET /n HTTP/1.1\r\n{HOST}\r\n");
    assert_eq!(rig.outcomes(bytes.as_bytes(), bytes.len()), ["POST /s streamed Some(5) hello", "GET /n None"]);
    let mut rig = Rig::new(options.clone());
    let bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(rig.outcomes(bytes.as_bytes(), bytes.len()), [r"POST /s streamed None 3\r\nabc\r\n"]);
    let mut rig = Rig::new(options);
    let bytes = format!("{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(rig.outcomes(bytes.as_bytes(), bytes.len()), ["POST /s expected Some(5)"]);
}

#[test]
fn rest_of_a_body_is_read_away_before_the_next_request() {
    for is_stopping in [false, true] {
        let mut rig = Rig::new(Options { stream_bodies: true, body_buffer: 0, ..Options::default() });
        let head = format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\n");
        let Reception::Ready(..) = rig.receive(head.as_bytes()) else { panic!("its head is complete") };
        rig.driver.answer(ReuseInput::new(true, Outcome::Complete, Unread::Bytes(5)), false, Vec::new(), rig.now);
        assert!(rig.driver.after_response(true, false, rig.now) == AfterResponse::GoOn);
        rig.is_stopping = is_stopping;
        assert!(matches!(rig.receive(b"hel"), Reception::Incomplete));
        assert_eq!(matches!(rig.receive(b"lo"), Reception::Over), is_stopping);
        assert!(rig.driver.is_idle() && rig.driver.is_over(is_stopping) == is_stopping);
    }
}
