use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::engine::clock::Clock;
use crate::engine::observe::Observer;
use crate::engine::options::Options;
use crate::engine::server::{RunConfig, ServerRun};
use crate::engine::testkit::doubles::{Notebook, Scripted, Witness, answer, read_whole};
use crate::net::address::Bind;
use crate::net::listener::{ListenAddress, Opening};

/// A server on a port of its own with real threads and sockets, and an application that is a closure.
struct Rig {
    run: Arc<ServerRun>,
    address: SocketAddr,
    notebook: Arc<Notebook>,
    witness: Witness,
    workers: Vec<thread::JoinHandle<()>>,
}

impl Rig {
    fn new<F>(options: Options, app: F) -> Self
    where
        F: Fn(&mut Exchange, &mut Clock) + Clone + Send + 'static,
    {
        let opening = Opening { backlog: 128, reuse_port: false, socket_mode: None };
        let bind = Bind::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let listeners = Listener::open_all(&[(bind, None)], &opening, &[]).expect("loopback can be listened on");
        let ListenAddress::Ip(address) = *listeners[0].place() else { panic!("not an IP socket") };
        let notebook = Arc::<Notebook>::default();
        let witness = Witness::default();
        let observers: Arc<[Box<dyn Observer>]> = Arc::new([Box::new(witness.clone())]);
        let config = RunConfig {
            options: Arc::new(options),
            shards: 1,
            single_request: false,
            handover: None,
            external_loop: false,
            page_slot: None,
            reporter: Arc::clone(&notebook) as Arc<dyn crate::engine::report::Reporter>,
            in_flight: Arc::new(crate::engine::exchange::in_flight::Uninterruptible),
            observers,
        };
        let run = Arc::new(ServerRun::start(&listeners, &config).expect("a run starts"));
        #[expect(clippy::disallowed_methods, reason = "tests stand in for Python, whose threads the workers are")]
        let workers = (0..run.workers())
            .map(|index| {
                let (run, app) = (Arc::clone(&run), app.clone());
                thread::spawn(move || run.work(index, &mut Scripted(app)))
            })
            .collect();
        Self { run, address, notebook, witness, workers }
    }

    #[expect(clippy::disallowed_types, reason = "the test is a client")]
    fn connect(&self) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        stream
    }

    /// Sends one request that closes, and gives the whole response.
    fn fetch(&self, path: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("the server reads");
        let mut text = String::new();
        drop(stream.read_to_string(&mut text));
        text
    }

    fn stop(self) -> Arc<Notebook> {
        self.run.stop();
        for worker in self.workers {
            worker.join().expect("no worker panics");
        }
        self.run.finish();
        self.notebook
    }
}

fn hello(exchange: &mut Exchange, clock: &mut Clock) {
    let content = read_whole(exchange);
    answer(exchange, if content.is_empty() { b"hello" } else { &content }, false, clock);
}

#[test]
fn many_clients_are_answered_and_the_end_is_clean() {
    let rig = Rig::new(Options::default(), hello);
    let mut clients: Vec<_> = (0..50).map(|_| rig.connect()).collect();
    for round in 0..20 {
        for (index, client) in clients.iter_mut().enumerate() {
            let body = format!("{round}-{index}");
            write!(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let expected = format!("{round}-{index}");
            let mut seen = String::new();
            let mut block = [0; 4096];
            while !seen.ends_with(&expected) {
                let count = client.read(&mut block).expect("a response comes");
                assert!(count > 0, "the connection ended early: {seen}");
                seen.push_str(std::str::from_utf8(&block[..count]).unwrap());
            }
        }
    }
    let witness = rig.witness.clone();
    let notebook = rig.stop();
    assert_eq!(witness.0.lock().unwrap().len(), 1000);
    assert!(notebook.0.lock().unwrap().is_empty(), "{:?}", notebook.0.lock().unwrap());
}

#[test]
fn leader_with_a_slow_call_is_replaced_and_delays_no_other_request() {
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let rig = Rig::new(Options { threads: 3, ..Options::default() }, move |exchange, clock| {
        if exchange.request().path() == b"/slow" {
            let _ = gate.recv();
        }
        hello(exchange, clock);
    });
    let mut slow = rig.connect();
    write!(slow, "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    for _ in 0..50 {
        assert!(rig.fetch("/").ends_with("hello"));
    }
    release.send(()).unwrap();
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("hello"));
    drop(release);
    rig.stop();
}

#[test]
fn refusals_are_answered_while_every_worker_is_inside_the_application() {
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let options = Options { threads: 1, queue_limit: 1, ..Options::default() };
    let rig = Rig::new(options, move |exchange, clock| {
        let _ = gate.recv();
        hello(exchange, clock);
    });
    let mut held: Vec<_> = (0..2).map(|_| rig.connect()).collect();
    write!(held[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    // The first is inside the application, or about to be; the second fills the queue; the next are refused.
    let mut refused = 0;
    let mut others = Vec::new();
    for _ in 0..50 {
        let mut client = rig.connect();
        write!(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut text = String::new();
        if client.read_to_string(&mut text).is_ok() {
            assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Retry-After: "), "{text}");
            refused += 1;
            break;
        }
        others.push(client);
    }
    assert_eq!(refused, 1);
    drop(release);
    rig.stop();
}

#[test]
fn panic_of_a_worker_costs_one_request() {
    let rig = Rig::new(Options { threads: 2, ..Options::default() }, |exchange, clock| {
        assert!(exchange.request().path() != b"/panic", "a panic on purpose");
        hello(exchange, clock);
    });
    assert_eq!(rig.fetch("/panic"), "");
    for _ in 0..10 {
        assert!(rig.fetch("/").ends_with("hello"));
    }
    let notebook = rig.stop();
    assert_eq!(notebook.0.lock().unwrap().len(), 1);
}

#[test]
fn unanswered_and_unfinished_exchanges_are_concluded_by_the_engine() {
    let rig = Rig::new(Options::default(), |exchange, clock| {
        if exchange.request().path() == b"/half" {
            let head = crate::http::head::ResponseHead::new(crate::http::status::Status::new(200).unwrap(), b"OK");
            exchange.begin(&head, crate::http1::plan::BodySize::Known(10), clock);
            let _ = exchange.write(crate::engine::exchange::Content::Borrowed(b"five!"));
        }
    });
    assert!(rig.fetch("/").starts_with("HTTP/1.1 500 "));
    assert!(rig.fetch("/half").ends_with("five!"));
    rig.stop();
}

#[test]
fn stop_finishes_running_requests_and_closes_idle_connections() {
    let (started, starts) = mpsc::channel();
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let rig = Rig::new(Options::default(), move |exchange, clock| {
        if exchange.request().path() == b"/slow" {
            let _ = started.send(());
            let _ = gate.recv();
        }
        hello(exchange, clock);
    });
    let mut idle = rig.connect();
    write!(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut block = [0; 4096];
    assert!(idle.read(&mut block).unwrap() > 0);
    let mut slow = rig.connect();
    write!(slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    starts.recv_timeout(Duration::from_secs(20)).expect("the slow call starts");
    rig.run.stop();
    // The idle connection closes although the slow call still runs.
    assert_eq!(idle.read(&mut block).unwrap(), 0);
    drop(release);
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    assert!(text.contains("Connection: close") && text.ends_with("hello"), "{text}");
    rig.stop();
}

#[test]
fn written_piece_is_sent_although_the_application_pauses() {
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let rig = Rig::new(Options::default(), move |exchange, clock| {
        let head = crate::http::head::ResponseHead::new(crate::http::status::Status::new(200).unwrap(), b"OK");
        exchange.begin(&head, crate::http1::plan::BodySize::Unknown, clock);
        let _ = exchange.write(crate::engine::exchange::Content::Borrowed(b"first"));
        let _ = exchange.push();
        let _ = gate.recv();
        exchange.finish();
    });
    let mut client = rig.connect();
    write!(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut seen = String::new();
    let mut block = [0; 4096];
    while !seen.ends_with("first\r\n") {
        let count = client.read(&mut block).expect("the piece comes while the application is silent");
        seen.push_str(std::str::from_utf8(&block[..count]).unwrap());
    }
    drop(release);
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.ends_with("0\r\n\r\n"));
    rig.stop();
}
