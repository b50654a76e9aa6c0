use std::io::{Read, Write};

use rustix::io::Errno;

use super::*;
use crate::engine::clock::Clock;
use crate::engine::connection::deadlines::GRACE;
use crate::engine::exchange::Content;
use crate::engine::exchange::in_flight::Uninterruptible;
use crate::engine::observe::{Observer, Record};
use crate::engine::options::Options;
use crate::engine::page::{CounterPage, Heartbeat, PageSlot, ShardCell, monotonic_ms};
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
use crate::net::descriptor_queue::DescriptorQueue;
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
        Self::between(options, in_flight, None)
    }

    fn between(options: Options, in_flight: Arc<dyn InFlight>, queue: Option<Arc<DescriptorQueue>>) -> Self {
        Self::with_capacity(options, in_flight, Capacity::new(2, 1), queue)
    }

    /// A worker beside another one, which the test stands in for.
    fn beside(max_connections: usize) -> (Self, PageSlot) {
        let page = Arc::new(CounterPage::private(2, 1));
        let [own, other] = [(); 2].map(|()| PageSlot::new(Arc::clone(&page), page.take_slot(1).unwrap()).unwrap());
        let options = Options { max_connections, ..Options::default() };
        let capacity = Capacity::on(own, Some(2), 1, max_connections);
        (Self::with_capacity(options, Arc::new(Uninterruptible), capacity, None), other)
    }

    fn with_capacity(
        options: Options,
        in_flight: Arc<dyn InFlight>,
        capacity: Capacity,
        queue: Option<Arc<DescriptorQueue>>,
    ) -> Self {
        let opening = Opening { backlog: 128, reuse_port: false, socket_mode: None };
        let binds = [0, 0].map(|port| (Bind::Tcp { host: "127.0.0.1".to_owned(), port }, None));
        let listeners = Listener::open_all(&binds, &opening, &[]).expect("loopback");
        let (notebook, witness) = (Arc::<Notebook>::default(), Witness::default());
        let observers: Arc<[Box<dyn Observer>]> = Arc::new([Box::new(Clumsy), Box::new(witness.clone())]);
        let reports = Arc::new(Reports::new(Arc::clone(&notebook) as _));
        let (capacity, spool) = (Arc::new(capacity), Arc::new(Budget::new(0, 0, 0)));
        let pool = Arc::new(WorkerPool::new(Arc::clone(&capacity)));
        let context = Arc::new(ShardContext::new(0, Arc::new(options), capacity, spool, reports, observers));
        let shard =
            Shard::new(context, listeners.clone(), Arc::clone(&pool), in_flight, false, queue).expect("a shard");
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
        self.listeners[0].faults().lock().unwrap().extend(errors);
    }

    fn calls_left(&self) -> usize {
        self.listeners[0].faults().lock().unwrap().len()
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

fn publish(other: &PageSlot, connections: u64, is_accepting: bool) {
    for (cell, value) in [
        (ShardCell::Connections, connections),
        (ShardCell::IsAccepting, u64::from(is_accepting)),
        (ShardCell::Heartbeat, Heartbeat::new(monotonic_ms(), true).bits()),
    ] {
        other.shard(0, cell).store(value, std::sync::atomic::Ordering::SeqCst);
    }
}

// A round at `now` in which the kernel reports nothing. Gives how long the poller may wait after it.
fn quiet_round(rig: &Rig, now: Instant) -> Option<Duration> {
    let mut reactor = rig.shard.reactor().lock().unwrap();
    reactor.accept(now);
    reactor.next_round(now)
}

#[test]
fn client_that_is_left_to_a_worker_which_does_not_wake_is_accepted_without_another_event() {
    let (rig, other) = Rig::beside(100);
    rig.round(&[client(b""), client(b"")]);
    publish(&other, 1, true);
    let _waiting = rig.connect(0);
    let start = Instant::now();
    rig.accept(start);
    assert_eq!(rig.connections(), 2, "the other worker has fewer");
    let mut now = start;
    let mut wait = Duration::from_millis(1);
    while rig.connections() == 2 {
        let soon = Duration::from_micros(1)..Duration::from_millis(8);
        assert!(soon.contains(&wait), "the poller does not sleep while a client waits: {wait:?}");
        now += wait;
        assert!(now < start + Duration::from_millis(40), "the client is not accepted");
        wait = quiet_round(&rig, now).expect("connections have deadlines");
    }
    assert!(now >= start + Duration::from_millis(20), "the other worker had no time to take it");
}

#[test]
fn poller_sleeps_again_once_another_worker_has_taken_the_client() {
    let (rig, other) = Rig::beside(100);
    rig.round(&[client(b""), client(b"")]);
    publish(&other, 1, true);
    let waiting = rig.connect(0);
    let start = Instant::now();
    rig.accept(start);
    assert!(matches!(rig.listeners[0].accept(false), crate::net::listener::AcceptOutcome::Client(..)));
    quiet_round(&rig, start + Duration::from_millis(2));
    {
        let reactor = rig.shard.reactor().lock().unwrap();
        assert_eq!(reactor.acceptor.next_round(&reactor.connections.table, start), None);
    }
    drop(waiting);
    assert_eq!(rig.connections(), 2);
}

#[test]
fn poller_sleeps_again_once_the_other_worker_has_gone_or_all_places_are_taken() {
    for is_killed in [true, false] {
        let (rig, other) = Rig::beside(3);
        rig.round(&[client(b""), client(b"")]);
        publish(&other, 0, true);
        let waiting = rig.connect(0);
        let start = Instant::now();
        rig.accept(start);
        assert_eq!(rig.connections(), 2, "the other worker has fewer");
        if is_killed {
            other.page().release_slot(other.number());
        } else {
            publish(&other, 1, true);
            assert!(matches!(rig.listeners[0].accept(false), crate::net::listener::AcceptOutcome::Client(..)));
        }
        quiet_round(&rig, start + Duration::from_millis(50));
        let reactor = rig.shard.reactor().lock().unwrap();
        let next = reactor.acceptor.next_round(&reactor.connections.table, start);
        assert_eq!(next, None, "{is_killed}");
        drop(waiting);
    }
}

#[test]
fn clients_are_accepted_at_once_when_the_other_worker_does_not_accept_or_has_more() {
    for (connections, is_accepting) in [(2, true), (0, false), (1_000, true)] {
        let (rig, other) = Rig::beside(10_000);
        rig.round(&[client(b""), client(b"")]);
        publish(&other, connections, is_accepting);
        let _waiting = rig.connect(0);
        rig.accept(Instant::now());
        assert_eq!(rig.connections(), 3, "{connections} {is_accepting}");
    }
}

#[test]
fn connections_of_all_workers_count_and_those_of_one_that_was_killed_are_free() {
    let (rig, other) = Rig::beside(3);
    let inside = client(GET);
    rig.round(std::slice::from_ref(&inside));
    publish(&other, 2, true);
    let _waiting = rig.connect(0);
    let start = Instant::now();
    rig.accept(start);
    assert_eq!(rig.connections(), 1, "all places are taken, and none can be given up here");
    assert!(rig.reports().is_empty(), "the other worker may have a connection that can be evicted");
    let mut now = start;
    for _ in 0..4 {
        now += quiet_round(&rig, now).expect("a client waits");
    }
    let told = "cannot accept connections: all 3 are busy";
    assert!(rig.reports().iter().any(|report| report.contains(told)), "{:?}", rig.reports());
    other.page().release_slot(other.number());
    quiet_round(&rig, now);
    assert_eq!(rig.connections(), 2);
}

#[test]
fn idle_connection_makes_room_for_a_client_when_all_workers_are_full() {
    let (mut rig, other) = Rig::beside(3);
    let idle = client(GET);
    rig.round(std::slice::from_ref(&idle));
    rig.serve();
    rig.round(&[]);
    // This worker has fewer connections; the other one has none that can be evicted.
    publish(&other, 2, true);
    let _waiting = rig.connect(0);
    rig.accept(Instant::now() + GRACE);
    assert_eq!((rig.connections(), Arc::strong_count(&idle.0)), (1, 1), "the idle one was closed");
    assert_eq!(other.page().workers().iter().map(|worker| worker.connections).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn worker_publishes_its_connections_and_whether_it_accepts() {
    let (rig, other) = Rig::beside(100);
    let seen = || {
        let worker = other.page().workers().swap_remove(0);
        (worker.connections, worker.is_accepting)
    };
    assert_eq!(seen(), (0, false), "it has not served its poller yet");
    rig.round(&[client(b""), client(b"")]);
    assert_eq!(seen(), (2, true));
    let beat = other.page().workers()[0].heartbeat_ms;
    assert!(beat > 0 && beat <= monotonic_ms());
    rig.break_accepting(&[Errno::INVAL]);
    rig.accept(Instant::now());
    rig.round(&[]);
    assert_eq!(seen(), (2, false), "accepting pauses");
    rig.shard.queues.enter(Phase::Draining);
    rig.round(&[]);
    assert_eq!(seen(), (0, false));
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

/// Workers of two generations. The former one is told to retire.
struct Generations {
    queue: Arc<DescriptorQueue>,
    former: Rig,
    latter: Rig,
}

impl Generations {
    fn new(options: &Options, queue: DescriptorQueue) -> Self {
        let queue = Arc::new(queue);
        let rig = |queue: &Arc<DescriptorQueue>| {
            Rig::between(options.clone(), Arc::new(Uninterruptible), Some(Arc::clone(queue)))
        };
        let (former, mut latter) = (rig(&queue), rig(&queue));
        // As in a reload, both have the same listeners.
        latter.listeners.clone_from(&former.listeners);
        let context = Arc::clone(&latter.shard.context);
        {
            let mut reactor = latter.shard.reactor().lock().unwrap();
            let poller = &reactor.poller;
            poller.forget(queue.receiver());
            let handover = Handover::new(context, Some(Arc::clone(&queue)), &former.listeners, poller).unwrap();
            reactor.handover = handover;
        }
        Self { queue, former, latter }
    }

    fn retire(&self) {
        self.former.shard.queues.enter(Phase::Retiring);
        self.former.round(&[]);
    }
}

impl Rig {
    fn has_stopped(&self) -> bool {
        self.shard.queues.is_stopped()
    }

    // Rounds with a worker's part, until `condition` holds.
    fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(Instant::now() < end, "the condition did not come true: {:?}", self.reports());
            self.round(&[]);
            self.serve();
            self.round(&[]);
        }
    }
}

#[expect(clippy::disallowed_types, reason = "the test is a client")]
fn ask(rig: &mut Rig, client: &std::net::TcpStream, request: &[u8]) -> String {
    let mut client = client;
    client.write_all(request).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut seen = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while !seen.ends_with(b"hello") {
        assert!(Instant::now() < end, "no response: {:?}", String::from_utf8_lossy(&seen));
        rig.round(&[]);
        rig.serve();
        rig.round(&[]);
        let mut block = [0; 4096];
        match client.read(&mut block) {
            Ok(0) => panic!("the connection was closed: {:?}", String::from_utf8_lossy(&seen)),
            Ok(count) => seen.extend(&block[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    String::from_utf8(seen).unwrap()
}

// Without its end, and longer than what is handed over of a head.
fn long_head() -> Vec<u8> {
    let field = [&b"X-A: "[..], &[b'a'; 5000], b"\r\n"].concat();
    [&GET[..GET.len() - 2], &field, &field].concat()
}

#[test]
fn idle_connections_are_handed_over_and_a_worker_without_any_is_over() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let (fresh, served) = (pair.former.connect(0), pair.former.connect(1));
    pair.former.until(|rig| rig.connections() == 2);
    ask(&mut pair.former, &served, GET);
    pair.retire();
    assert!(pair.former.has_stopped());
    pair.latter.until(|rig| rig.connections() == 2);
    for client in [&fresh, &served] {
        assert!(!ask(&mut pair.latter, client, GET).contains("Connection"));
    }
    assert_eq!([pair.former.reports(), pair.latter.reports()], [vec![""; 0], vec![]]);
}

#[test]
fn parked_connections_are_handed_over_as_well() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.extend((0..50).map(|_| pair.former.connect(0)));
        pair.former.until(|rig| rig.connections() == clients.len());
    }
    pair.retire();
    pair.latter.until(|rig| rig.connections() == clients.len());
    for client in clients.iter().step_by(50) {
        ask(&mut pair.latter, client, GET);
    }
}

#[test]
fn connection_is_handed_over_when_its_response_has_left() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let mut client = pair.former.connect(0);
    client.write_all(GET).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !pair.former.shard.queues.has_next() {
        assert!(Instant::now() < deadline);
        pair.former.round(&[]);
    }
    pair.retire();
    assert_eq!((pair.former.connections(), pair.former.has_stopped()), (1, false), "its request is running");
    pair.former.until(Rig::has_stopped);
    pair.latter.until(|rig| rig.connections() == 1);
    // What it got from the former worker comes first.
    let seen = ask(&mut pair.latter, &client, GET);
    assert!(!seen.contains("Connection"), "{seen}");
}

#[test]
fn head_that_has_begun_goes_on_elsewhere() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let mut clients = vec![pair.former.connect(0), pair.former.connect(0)];
    for client in &mut clients {
        client.write_all(&GET[..20]).unwrap();
    }
    pair.former.until(|rig| {
        let reactor = rig.shard.reactor().lock().unwrap();
        let table = &reactor.connections.table;
        table.len() == 2 && table.places().all(|place| !table.is_idle(place))
    });
    pair.retire();
    assert!(pair.former.has_stopped());
    for client in &clients {
        ask(&mut pair.latter, client, &GET[20..]);
    }
}

#[test]
fn long_head_stays_until_it_is_answered() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let mut client = pair.former.connect(0);
    client.write_all(&long_head()).unwrap();
    pair.former.until(|rig| {
        let mut reactor = rig.shard.reactor().lock().unwrap();
        reactor.connections.table.connection(0).is_some_and(|connection| connection.is_busy())
    });
    pair.retire();
    assert_eq!(pair.former.connections(), 1);
    ask(&mut pair.former, &client, b"\r\n");
    pair.former.until(Rig::has_stopped);
    ask(&mut pair.latter, &client, GET);
}

#[test]
fn poller_of_the_former_worker_hears_no_more_of_what_it_has_sent() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let (mut sent, busy) = (pair.former.connect(0), pair.former.connect(0));
    (&busy).write_all(&long_head()).unwrap();
    pair.former.until(|rig| rig.connections() == 2);
    pair.retire();
    pair.former.until(|rig| rig.connections() == 1);
    // The message holds the socket open, and nothing has taken it.
    sent.write_all(GET).unwrap();
    let mut reactor = pair.former.shard.reactor().lock().unwrap();
    let mut events = Vec::new();
    reactor.poller.wait(Some(Duration::from_millis(50)), &mut events).unwrap();
    let places: Vec<_> = events.iter().map(|event| event.token).filter(|token| *token < 2).collect();
    assert_eq!(places, [0; 0]);
}

#[test]
fn connections_that_could_not_be_sent_are_tried_again() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(Some(1)));
    let clients: Vec<_> = (0..40).map(|_| pair.former.connect(0)).collect();
    pair.former.until(|rig| rig.connections() == clients.len());
    pair.retire();
    let left = pair.former.connections();
    assert!(left > 0 && left < clients.len(), "the queue is full: {left}");
    let end = Instant::now() + Duration::from_secs(20);
    while !pair.former.has_stopped() {
        assert!(Instant::now() < end);
        pair.latter.round(&[]);
        pair.former.round(&[]);
    }
    pair.latter.until(|rig| rig.connections() == clients.len());
    for client in &clients {
        ask(&mut pair.latter, client, GET);
    }
}

#[test]
fn connection_that_cannot_be_sent_is_answered_and_kept() {
    let mut pair = Generations::new(&Options::default(), DescriptorQueue::pair(Some(1)));
    let clients: Vec<_> = (0..40).map(|_| pair.former.connect(0)).collect();
    pair.former.until(|rig| rig.connections() == clients.len());
    pair.retire();
    // The last ones are left.
    let seen = ask(&mut pair.former, clients.last().unwrap(), GET);
    assert!(!seen.contains("Connection"), "{seen}");
    assert!(!pair.former.has_stopped());
}

#[test]
fn connections_that_are_never_taken_are_closed_in_order() {
    let options = Options::default();
    let mut pair = Generations::new(&options, DescriptorQueue::pair(Some(1)));
    let mut clients: Vec<_> = (0..40).map(|_| pair.former.connect(0)).collect();
    pair.former.until(|rig| rig.connections() == clients.len());
    // One that is asking keeps the worker from its end.
    let busy = client_of_double(&pair.former);
    pair.retire();
    assert!(pair.former.connections() > 1);
    pair.former.shard.reactor().lock().unwrap().handover.age_failure(options.graceful_timeout / 2);
    for _ in 0..3 {
        pair.former.round(&[]);
    }
    assert_eq!(pair.former.connections(), 1);
    pair.former.until(Rig::has_stopped);
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
    let [report] = &pair.former.reports()[..] else { panic!("{:?}", pair.former.reports()) };
    assert!(report.starts_with("idle connections are closed, because no other worker takes them over: "), "{report}");
    assert!(written(&busy).contains("Connection: close\r\n"));
}

#[test]
fn stop_ends_a_retirement_and_serves_what_is_still_in_the_queue() {
    let pair = Generations::new(&Options::default(), DescriptorQueue::pair(None));
    let (mut idle, mut asking, busy) = (pair.former.connect(0), pair.former.connect(0), pair.former.connect(0));
    let mut former = pair.former;
    (&busy).write_all(&long_head()).unwrap();
    former.until(|rig| rig.connections() == 3);
    former.until(|rig| {
        let reactor = rig.shard.reactor().lock().unwrap();
        reactor.connections.table.places().filter(|place| reactor.connections.table.is_idle(*place)).count() == 2
    });
    former.shard.queues.enter(Phase::Retiring);
    former.round(&[]);
    assert_eq!(former.connections(), 1);
    asking.write_all(GET).unwrap();
    former.shard.queues.enter(Phase::Draining);
    (&busy).write_all(b"\r\n").unwrap();
    former.until(Rig::has_stopped);
    assert!(!pair.queue.has_message());
    let mut seen = [String::new(), String::new(), String::new()];
    for (client, seen) in [&mut idle, &mut asking, &mut &busy as &mut dyn Read].into_iter().zip(&mut seen) {
        client.read_to_string(seen).unwrap();
    }
    assert_eq!(seen[0], "");
    for answered in &seen[1..] {
        assert!(answered.contains("Connection: close\r\n") && answered.ends_with("hello"), "{answered}");
    }
}

#[test]
fn worker_without_others_closes_its_idle_connections() {
    let mut rig = Rig::new(Options::default());
    let mut client = rig.connect(0);
    rig.until(|rig| rig.connections() == 1);
    rig.shard.queues.enter(Phase::Retiring);
    rig.round(&[]);
    assert!(rig.has_stopped());
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn full_worker_evicts_an_idle_connection_and_no_busy_one_for_what_is_handed_over() {
    let options = Options { max_connections: 1, ..Options::default() };
    let mut pair = Generations::new(&options, DescriptorQueue::pair(None));
    let client = pair.former.connect(0);
    pair.former.until(|rig| rig.connections() == 1);
    // The latter one has a request inside the application.
    let other = client_of_double(&pair.latter);
    pair.retire();
    pair.latter.round(&[]);
    assert!(pair.queue.has_message(), "there is no place for it");
    {
        let reactor = pair.latter.shard.reactor().lock().unwrap();
        assert!(reactor.next_round(Instant::now()).is_some_and(|delay| delay > Duration::ZERO));
    }
    pair.latter.serve();
    // It idles now, and after a grace it is given up.
    pair.latter.until(|_| !pair.queue.has_message());
    assert_eq!(pair.latter.connections(), 1);
    assert_eq!(Arc::strong_count(&other.0), 1, "its socket is closed");
    ask(&mut pair.latter, &client, GET);
}

fn client_of_double(rig: &Rig) -> Double {
    let double = client(GET);
    rig.round(std::slice::from_ref(&double));
    assert!(rig.shard.queues.has_next());
    double
}
