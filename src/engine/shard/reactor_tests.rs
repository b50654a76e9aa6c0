use rustix::io::Errno;

use super::*;
use crate::engine::clock::Clock;
use crate::engine::connection::deadlines::GRACE;
use crate::engine::exchange::Content;
use crate::engine::exchange::in_flight::Uninterruptible;
use crate::engine::observe::{Observer, Record};
use crate::engine::options::Options;
use crate::engine::report::Reports;
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::shard::Shard;
use crate::engine::shard::acceptor::ACCEPT_PAUSE;
use crate::engine::shard::worker_pool::WorkerPool;
use crate::engine::testkit::doubles::{Notebook, Witness, answer};
use crate::engine::transport::Transport;
use crate::engine::transport::spool::Budget;

use crate::http::head::ResponseHead;
use crate::http::status::Status;
use crate::http1::plan::BodySize;
use crate::net::address::{Bind, Peer};
use crate::net::listener::{ListenAddress, Opening};
use crate::net::stream::Stream;
use crate::net::stream::double::{Double, Fault};

/// An observer with a defect.
struct Clumsy;

impl Observer for Clumsy {
    fn finished(&self, record: &Record) {
        assert!(record.status != 503, "a panic on purpose");
    }
}

/// A shard that the test drives in place of threads.
struct Rig {
    shard: Arc<Shard>,
    listeners: Vec<Arc<Listener>>,
    notebook: Arc<Notebook>,
    witness: Witness,
    clock: Clock,
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Requests that are inside the application, which the test stands in for.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "as the seam hands them over")]
struct Held(std::sync::Mutex<Vec<Box<Exchange>>>);

impl InFlight for Held {
    fn take(&self, _: usize, cut: Cut) -> Vec<Box<Exchange>> {
        let mut held = self.0.lock().unwrap();
        let (taken, kept) = std::mem::take(&mut *held).into_iter().partition(|exchange| cut.covers(exchange));
        *held = kept;
        taken
    }

    fn requests(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Rig {
    fn new(options: Options) -> Self {
        Self::holding(options, Arc::new(Uninterruptible))
    }

    fn holding(options: Options, in_flight: Arc<dyn InFlight>) -> Self {
        let opening = Opening { backlog: 128, reuse_port: false, socket_mode: None };
        let binds = [0, 0].map(|port| Bind::Tcp { host: "127.0.0.1".to_owned(), port });
        let listeners: Vec<_> =
            Listener::open_all(&binds, &opening).expect("loopback").into_iter().map(Arc::new).collect();
        let (notebook, witness) = (Arc::<Notebook>::default(), Witness::default());
        let observers: Arc<[Box<dyn Observer>]> = Arc::new([Box::new(Clumsy), Box::new(witness.clone())]);
        let reports = Arc::new(Reports::new(Arc::clone(&notebook) as _));
        let (capacity, spool) = (Arc::new(Capacity::new(2, 1)), Arc::new(Budget::new(0, 0, 0)));
        let pool = Arc::new(WorkerPool::new(Arc::clone(&capacity)));
        let context = Arc::new(ShardContext::new(0, Arc::new(options), capacity, spool, reports, observers));
        let shard = Shard::new(context, listeners.clone(), Arc::clone(&pool), in_flight, false).expect("a shard");
        pool.register(vec![shard.queues.waker().clone()]);
        let clock = Clock::new(Instant::now());
        Self { shard: Arc::new(shard), listeners, notebook, witness, clock }
    }

    /// One round of the poller, which finds a client behind each of `doubles`.
    fn round(&self, doubles: &[Double]) {
        let mut reactor = self.shard.reactor().lock().expect("a panic never leaves the reactor");
        let now = Instant::now();
        for double in doubles {
            let token =
                reactor.add_client(Stream::Double(double.clone()), Peer::Local, 0, now).expect("no kernel is asked");
            reactor.connections.table.connection(token).expect("it is new").note(true, false);
            reactor.move_along(&self.shard.queues, token, now, Connection::advance);
        }
        reactor.round(&self.shard.queues, false);
    }

    fn connections(&self) -> usize {
        self.shard.reactor().lock().expect("a panic never leaves the reactor").connections()
    }

    fn serve(&mut self) {
        while let Some(mut exchange) = self.shard.queues.take() {
            answer(&mut exchange, b"hello", false, &mut self.clock);
            self.shard.queues.hand_back(Finished::answered(exchange, Instant::now()));
        }
    }

    fn reports(&self) -> Vec<String> {
        self.notebook.0.lock().expect("never poisoned").clone()
    }

    #[expect(clippy::disallowed_types, reason = "the test is a client")]
    fn connect(&self, listener: usize) -> std::net::TcpStream {
        let ListenAddress::Ip(address) = *self.listeners[listener].place() else { panic!("not an IP socket") };
        std::net::TcpStream::connect(address).expect("the server listens")
    }

    fn break_accepting(&self, errors: &[Errno]) {
        self.listeners[0].faults.lock().unwrap().extend(errors);
    }

    fn calls_left(&self) -> usize {
        self.listeners[0].faults.lock().unwrap().len()
    }

    // Accepts as if the kernel had reported clients at the first listener.
    fn accept(&self, now: Instant) -> Option<Duration> {
        let mut reactor = self.shard.reactor().lock().unwrap();
        reactor.acceptor.note_listener_ready(0);
        reactor.accept(now);
        if reactor.acceptor.may_accept(&reactor.connections.table, now) { None } else { reactor.next_round(now) }
    }
}

fn client(sent: &[u8]) -> Double {
    let double = Double::default();
    double.0.lock().unwrap().incoming.push_back(sent.to_vec());
    double
}

fn written(double: &Double) -> String {
    String::from_utf8_lossy(&double.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).written).into_owned()
}

#[test]
fn panic_in_the_pipeline_costs_one_connection() {
    let mut rig = Rig::new(Options::default());
    // The calls of one request: a read and a write.
    for at in 0..2 {
        let (broken, sound) = (client(GET), client(GET));
        broken.0.lock().unwrap().faults.insert(at, Fault::Panic);
        rig.round(&[broken.clone(), sound.clone()]);
        rig.serve();
        rig.round(&[]);
        assert!(written(&sound).ends_with("hello"), "panic at call {at}");
        assert_eq!(rig.connections(), at + 1, "panic at call {at}: its place is free again");
        assert_eq!(rig.reports().len(), at + 1, "panic at call {at}: {:?}", rig.reports());
        assert_eq!(Arc::strong_count(&broken.0), 1, "its socket is closed");
    }
}

#[test]
fn panic_while_a_worker_sends_costs_one_connection() {
    let mut rig = Rig::new(Options::default());
    let (broken, sound) = (client(GET), client(GET));
    broken.0.lock().unwrap().faults.insert(1, Fault::Panic);
    rig.round(&[broken.clone(), sound.clone()]);
    rig.serve();
    {
        // Another thread has the poller: the worker sends what it answered before it parks.
        let _held = rig.shard.reactor().lock().unwrap();
        rig.shard.queues.enter(Phase::Draining);
        rig.shard.queues.send_finished();
    }
    rig.round(&[]);
    assert!(written(&sound).ends_with("hello"));
    assert_eq!(rig.reports(), ["a defect of the server itself cost one connection (panic)"]);
    assert_eq!(Arc::strong_count(&broken.0), 1, "its socket is closed");
    assert!(broken.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).reset);
}

#[test]
fn panic_of_an_observer_costs_it_one_record_and_the_others_none() {
    let mut rig = Rig::new(Options { queue_limit: 1, queue_timeout: Duration::ZERO, ..Options::default() });
    // One is served; one finds the queue full, and one waits too long: the observer panics at both.
    let clients = [client(GET), client(GET)];
    {
        let mut reactor = rig.shard.reactor().lock().unwrap();
        for double in &clients {
            let now = Instant::now();
            let token = reactor.add_client(Stream::Double(double.clone()), Peer::Local, 0, now).unwrap();
            reactor.connections.table.connection(token).unwrap().note(true, false);
            reactor.move_along(&rig.shard.queues, token, now, Connection::advance);
        }
        reactor.collect(&rig.shard.queues);
    }
    rig.serve();
    let late = client(GET);
    rig.round(std::slice::from_ref(&late));
    while written(&late).is_empty() {
        rig.round(&[]);
    }
    assert!(written(&clients[0]).ends_with("hello"));
    assert!(written(&clients[1]).starts_with("HTTP/1.1 503 "));
    assert!(written(&late).starts_with("HTTP/1.1 503 "));
    assert_eq!(rig.witness.0.lock().unwrap().iter().map(|told| told.0).collect::<Vec<_>>(), [503, 200, 503]);
    let panics = "a defect of the server itself cost one record of an observer (panic)";
    let full = "1 request refused with 503: the request queue is full";
    let late = "1 request refused with 503: the request waited too long for a worker";
    assert_eq!(rig.reports(), [full, panics, late, panics]);
}

#[test]
fn panic_in_a_check_of_the_monitor_does_not_end_it() {
    let rig = Rig::new(Options::default());
    let broken = Double::default();
    broken.0.lock().unwrap().faults.extend((0..3).map(|at| (at, Fault::Panic)));
    let transport = Arc::new(Transport::new(Stream::Double(broken.clone())));
    transport.output().append(|out| out.extend_from_slice(b"piece"));
    rig.shard.context.streaming.add(transport);
    let shard = Arc::clone(&rig.shard);
    #[expect(clippy::disallowed_methods, reason = "the test stands in for the run that owns the monitor")]
    let monitor = std::thread::spawn(move || crate::engine::monitor::watch(&shard));
    while written(&broken).is_empty() {
        std::thread::yield_now();
    }
    rig.shard.queues.enter(Phase::Stopped);
    monitor.join().expect("no panic ends the monitor");
    assert_eq!(rig.reports(), ["a defect of the server itself cost one check of a monitor (panic)"; 3]);
}

#[test]
fn stop_that_gives_up_tells_the_observers_of_what_was_answered() {
    let mut rig = Rig::new(Options::default());
    let slow = client(GET);
    rig.round(std::slice::from_ref(&slow));
    rig.serve();
    rig.shard.clear();
    assert_eq!(*rig.witness.0.lock().unwrap(), [(200, 5, false)]);
    assert!(slow.0.lock().unwrap().reset);
}

#[test]
fn client_that_vanished_before_it_was_accepted_delays_no_other() {
    let rig = Rig::new(Options::default());
    let _waiting = rig.connect(0);
    let errors = [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::NETDOWN, Errno::HOSTUNREACH];
    rig.break_accepting(&errors);
    rig.accept(Instant::now());
    assert_eq!((rig.calls_left(), rig.connections()), (0, 1));
    assert!(rig.reports().is_empty());
}

#[test]
fn accepting_pauses_while_nothing_can_be_accepted_and_asks_once_a_pause() {
    for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::INVAL] {
        let rig = Rig::new(Options::default());
        let _waiting = rig.connect(0);
        rig.break_accepting(&[error; 5]);
        let start = Instant::now();
        for pause in 0..5_u32 {
            let now = start + pause * ACCEPT_PAUSE;
            let timeout = rig.accept(now);
            assert_eq!(rig.calls_left(), 4 - pause as usize, "{error}: one call at a time");
            assert!(timeout.is_some_and(|wait| wait >= ACCEPT_PAUSE), "{error}: the poller sleeps meanwhile");
            // No call is made before the pause is over.
            for millisecond in [0, 1, 50, 99] {
                rig.accept(now + Duration::from_millis(millisecond));
            }
            assert_eq!(rig.calls_left(), 4 - pause as usize, "{error}: no call in the pause");
        }
        assert_eq!(rig.reports().len(), 1, "{error}: told once: {:?}", rig.reports());
        rig.accept(start + 5 * ACCEPT_PAUSE);
        assert_eq!(rig.connections(), 1, "{error}: accepted after the pause");
    }
}

#[test]
fn broken_listener_evicts_no_idle_connection_and_leaves_the_other_listener_alone() {
    for (error, idle_left) in [(Errno::INVAL, 1), (Errno::MFILE, 0)] {
        let mut rig = Rig::new(Options::default());
        let idle = client(GET);
        rig.round(std::slice::from_ref(&idle));
        rig.serve();
        rig.round(&[]);
        assert!(written(&idle).ends_with("hello"));
        rig.break_accepting(&[error]);
        let _other = rig.connect(1);
        rig.shard.reactor().lock().unwrap().acceptor.note_listener_ready(1);
        // Late enough for the idle connection to be evicted.
        rig.accept(Instant::now() + GRACE);
        let accepted = usize::from(error == Errno::INVAL);
        assert_eq!(rig.connections(), idle_left + accepted, "{error}");
        assert_eq!(Arc::strong_count(&idle.0) - 1, idle_left, "{error}");
    }
}

#[test]
fn served_client_that_is_furthest_behind_is_evicted_and_clients_that_owe_nothing_stay() {
    let held = Arc::new(Held::default());
    let options = Options { max_connections: 4, ..Options::default() };
    let rig = Rig::holding(options, Arc::clone(&held) as Arc<dyn InFlight>);
    let clients = [client(GET), client(GET), client(GET), client(GET)];
    rig.round(&clients);
    let now = Instant::now();
    while let Some(exchange) = rig.shard.queues.take() {
        held.0.lock().unwrap().push(exchange);
    }
    // One owes nothing, one has been silent for a moment, and two for longer.
    let transports: Vec<_> = held.0.lock().unwrap().iter().map(|exchange| exchange.transport()).collect();
    let ago = |seconds| now.checked_sub(Duration::from_secs(seconds));
    transports[1].set_receive_wait(ago(1));
    transports[2].set_receive_wait(ago(10));
    transports[3].set_receive_wait(ago(20));
    drop(transports);
    let _newcomers = [rig.connect(0), rig.connect(0), rig.connect(0)];
    rig.accept(now);
    assert_eq!(rig.connections(), 4, "two were let in");
    let left: Vec<_> = held.0.lock().unwrap().iter().map(|exchange| exchange.token()).collect();
    assert_eq!(left, [0, 1]);
    assert_eq!(clients.each_ref().map(|client| client.script().reset), [false, false, true, true]);
    assert_eq!(*rig.witness.0.lock().unwrap(), [(499, 0, false), (499, 0, false)]);
    let told = "1 slow connection closed to make room for new ones; raise max_connections, or the limit of open files";
    assert!(rig.reports().iter().any(|report| report == told), "{:?}", rig.reports());
}

#[test]
fn client_that_resets_before_it_is_accepted_costs_nothing() {
    let rig = Rig::new(Options::default());
    let gone = socket2::Socket::from(rig.connect(0));
    gone.set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    let _sound = rig.connect(0);
    rig.accept(Instant::now());
    rig.round(&[]);
    assert_eq!(rig.connections(), 1);
    assert!(rig.reports().is_empty() && rig.witness.0.lock().unwrap().is_empty());
}

#[test]
fn eviction_candidates_are_not_searched_before_a_client_needs_a_place() {
    let rig = Rig::new(Options { max_connections: 1, ..Options::default() });
    let first = rig.connect(0);
    rig.accept(Instant::now());
    assert_eq!(rig.connections(), 1);
    rig.accept(Instant::now());
    let has_searched = || rig.shard.reactor().lock().unwrap().acceptor.next_search.is_some();
    assert!(!has_searched(), "no client waits");
    let second = rig.connect(0);
    rig.accept(Instant::now());
    assert!(has_searched());
    drop((first, second));
}

#[test]
fn request_whose_permit_was_taken_is_left_to_the_next_worker_that_releases_one() {
    let mut rig = Rig::new(Options::default());
    let double = client(GET);
    rig.round(std::slice::from_ref(&double));
    assert!(!rig.shard.queues.is_empty(), "it is queued for the leader");
    // Others take the permits before the leader begins: it polls, and must not keep the request meanwhile.
    assert!(rig.shard.queues.acquire() && rig.shard.queues.acquire());
    rig.round(&[]);
    assert!(rig.shard.queues.is_empty(), "it is queued for all workers");
    rig.shard.queues.release();
    rig.serve();
    rig.round(&[]);
    assert!(written(&double).ends_with("hello"));
}

#[test]
fn stop_cuts_event_streams_first_then_what_is_unfinished_then_all() {
    let inside = Arc::<Held>::default();
    let mut rig = Rig::holding(Options::default(), Arc::clone(&inside) as _);
    let (events, endless, slow) = (client(GET), client(GET), client(GET));
    rig.round(&[events.clone(), endless.clone(), slow.clone()]);
    for kind in ["text/event-stream", "text/plain", ""] {
        let mut exchange = rig.shard.queues.take().expect("a request is ready");
        if !kind.is_empty() {
            let mut head = ResponseHead::new(Status::new(200).unwrap(), b"OK");
            head.push(b"Content-Type", kind.as_bytes());
            exchange.begin(&head, BodySize::Unknown, &mut rig.clock);
            exchange.write(Content::Borrowed(b"piece")).expect("the client is there");
        }
        inside.0.lock().unwrap().push(exchange);
    }
    let cut_so_far = |rig: &Rig| {
        rig.round(&[]);
        [&events, &endless, &slow].map(|double| written(double).contains("HTTP/1.1"))
    };
    assert_eq!(cut_so_far(&rig), [false, false, false]);
    rig.shard.queues.enter(Phase::Draining);
    assert_eq!(cut_so_far(&rig), [true, false, false]);
    let begun = Instant::now().checked_sub(Duration::from_secs(20)).expect("the clock has run for longer");
    rig.shard.reactor().lock().unwrap().drain = Some(Drain::new(begun, Duration::from_secs(30)));
    assert_eq!(cut_so_far(&rig), [true, true, false]);
    rig.shard.queues.enter(Phase::Aborting);
    assert_eq!(cut_so_far(&rig), [true, true, true]);
    for double in [&events, &endless] {
        let written = written(double);
        assert!(written.starts_with("HTTP/1.1 200 OK\r\n") && written.ends_with("5\r\npiece\r\n"), "{written}");
    }
    assert!(written(&slow).starts_with("HTTP/1.1 503 "));
    let records = rig.witness.0.lock().unwrap().clone();
    assert_eq!(records, [(200, 5, false), (200, 5, false), (503, 24, true)]);
    let reports = rig.reports();
    assert_eq!(reports[0], "stopping: ended 1 event stream: GET /");
    assert_eq!(reports[1], "stopping: cut 1 response, unfinished after half of graceful_timeout: GET /");
    assert!(rig.shard.queues.is_stopped() && inside.0.lock().unwrap().is_empty());
}

#[test]
fn queued_request_gets_503_when_there_is_no_more_time() {
    let rig = Rig::new(Options::default());
    let waiting = client(GET);
    rig.round(std::slice::from_ref(&waiting));
    rig.shard.queues.enter(Phase::Aborting);
    rig.round(&[]);
    assert!(written(&waiting).starts_with("HTTP/1.1 503 "), "{}", written(&waiting));
    assert_eq!(*rig.witness.0.lock().unwrap(), [(503, 24, true)]);
    assert!(rig.shard.queues.is_stopped());
}
