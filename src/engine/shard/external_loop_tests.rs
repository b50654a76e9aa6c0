use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use super::*;
use crate::engine::clock::Clock;
use crate::engine::observe::Observer;
use crate::engine::report::Reporter;
use crate::engine::server::{RunConfig, ServerRun};
use crate::engine::testkit::doubles::{Notebook, Witness, answer};
use crate::net::address::Bind;
use crate::net::listener::{ListenAddress as Address, Listener, Opening};

/// A run that the test drives as a loop would.
struct Rig {
    run: ServerRun,
    external_loop: ExternalLoop,
    address: SocketAddr,
    witness: Witness,
    clock: Clock,
}

impl Rig {
    fn new(options: Options) -> Self {
        let opening = Opening { backlog: 128, reuse_port: false, socket_mode: None };
        let bind = Bind::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let listeners = Listener::open_all(&[(bind, None)], &opening, &[]).expect("loopback can be listened on");
        let Address::Ip(address) = *listeners[0].place() else { panic!("not an IP socket") };
        let witness = Witness::default();
        let observers: Arc<[Box<dyn Observer>]> = Arc::new([Box::new(witness.clone())]);
        let config = RunConfig {
            options: Arc::new(options),
            shards: 4,
            single_request: false,
            handover: None,
            external_loop: true,
            page_slot: None,
            reporter: Arc::<Notebook>::default() as Arc<dyn Reporter>,
            in_flight: Arc::new(crate::engine::exchange::in_flight::Uninterruptible),
            observers,
        };
        let run = ServerRun::start(&listeners, &config).expect("a run starts");
        let external_loop = run.external_loop().expect("a run has a shard");
        Self { run, external_loop, address, witness, clock: Clock::new(Instant::now()) }
    }

    #[expect(clippy::disallowed_types, reason = "tests are clients")]
    fn connect(&self) -> std::net::TcpStream {
        let client = std::net::TcpStream::connect(self.address).expect("the server listens");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        client
    }

    // Looks until something was found.
    fn look_until<T>(&self, mut found: impl FnMut(PolledShard) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = found(self.external_loop.poll_once(true)) {
                return found;
            }
            assert!(Instant::now() < end, "it never came about");
            std::thread::yield_now();
        }
    }

    fn next(&self) -> (Box<Exchange>, AdmissionGuard) {
        self.look_until(|mut seen| seen.ready.pop())
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn requests_are_answered_without_a_thread_of_the_engines() {
    let mut rig = Rig::new(Options::default());
    assert!(rig.external_loop.descriptor().is_some_and(|number| number >= 0));
    let mut client = rig.connect();
    for _ in 0..3 {
        client.write_all(GET).unwrap();
        let (mut exchange, _place) = rig.next();
        answer(&mut exchange, b"hello", false, &mut rig.clock);
        rig.external_loop.conclude(exchange);
        assert!(rig.external_loop.has_answers());
        rig.external_loop.poll_once(false);
        let mut seen = String::new();
        while !seen.ends_with("\r\n\r\nhello") {
            let mut block = [0; 1000];
            let count = client.read(&mut block).unwrap();
            assert!(count > 0);
            seen.push_str(std::str::from_utf8(&block[..count]).unwrap());
        }
    }
    drop(client);
    rig.run.stop();
    rig.look_until(|_| rig.external_loop.is_over().then_some(()));
    assert_eq!(rig.witness.0.lock().unwrap().len(), 3);
}

#[test]
fn departure_is_noted_while_the_application_has_the_exchange() {
    let rig = Rig::new(Options::default());
    let mut client = rig.connect();
    client.write_all(GET).unwrap();
    let (exchange, _place) = rig.next();
    assert!(!exchange.has_ended());
    client.shutdown(Shutdown::Write).unwrap();
    let changed = rig.look_until(|seen| seen.changed.first().copied());
    assert_eq!(changed, exchange.token());
    assert!(exchange.has_ended());
    rig.external_loop.conclude(exchange);
    rig.run.abort();
    rig.look_until(|_| rig.external_loop.is_over().then_some(()));
}

#[test]
fn places_are_counted_until_they_are_given_up() {
    let rig = Rig::new(Options { queue_limit: 1, ..Options::default() });
    let mut first = rig.connect();
    first.write_all(GET).unwrap();
    let (exchange, place) = rig.next();
    let mut second = rig.connect();
    second.write_all(GET).unwrap();
    let mut refusal = [0; 12];
    rig.look_until(|seen| {
        assert!(seen.ready.is_empty());
        second.set_nonblocking(true).unwrap();
        (second.peek(&mut refusal).is_ok_and(|count| count == refusal.len())).then_some(())
    });
    assert_eq!(&refusal, b"HTTP/1.1 503");
    drop(place);
    let mut third = rig.connect();
    third.write_all(GET).unwrap();
    let (other, _place) = rig.next();
    rig.external_loop.conclude(other);
    rig.external_loop.conclude(exchange);
    rig.run.abort();
    rig.look_until(|_| rig.external_loop.is_over().then_some(()));
}
