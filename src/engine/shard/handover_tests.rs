use std::io::{Read, Write};
use std::os::fd::AsFd;
#[expect(clippy::disallowed_types, reason = "the test is a client")]
use std::os::unix::net::UnixStream;

use super::*;
use crate::engine::options::Options;
use crate::engine::report::Reports;
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::testkit::doubles::Notebook;
use crate::engine::transport::spool::Budget;
use crate::http::origin::{Client, Scheme};
use crate::net::address::Bind;
use crate::net::listener::Opening;

struct Rig {
    queue: Arc<DescriptorQueue>,
    notebook: Arc<Notebook>,
    poller: Poller,
}

impl Rig {
    fn new() -> Self {
        let queue = Arc::new(DescriptorQueue::pair(None));
        Self { queue, notebook: Arc::default(), poller: Poller::new(8).unwrap() }
    }

    /// A worker that listens on these ports of the loopback address.
    fn worker(&self, ports: &[u16]) -> Handover {
        let reports = Arc::new(Reports::new(Arc::clone(&self.notebook) as _));
        let (capacity, spool) = (Arc::new(Capacity::new(1, 1)), Arc::new(Budget::new(0, 0, 0)));
        let context = ShardContext::new(0, Arc::new(Options::default()), capacity, spool, reports, Arc::new([]));
        let addresses = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let queue = Some(Arc::clone(&self.queue));
        let mut made = Handover::new(Arc::new(context), queue, &[], &self.poller).unwrap();
        // Two workers of one process: the poller has room for one.
        self.poller.forget(self.queue.receiver());
        made.addresses = addresses;
        made
    }

    fn reports(&self) -> Vec<String> {
        self.notebook.0.lock().unwrap().clone()
    }
}

#[expect(clippy::disallowed_types, reason = "the test is a client")]
fn connected() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn idle(listener: usize, now: Instant) -> IdleConnection {
    IdleConnection {
        client: Client::Ip("192.0.2.1".parse().unwrap(), Some(4711)),
        scheme: Some(Scheme::Https),
        listener,
        is_served: true,
        awaits_proxy_header: false,
        since: now.checked_sub(Duration::from_secs(3)).unwrap(),
        input: b"GET".to_vec(),
    }
}

#[test]
fn connection_arrives_as_it_was() {
    let (rig, now) = (Rig::new(), Instant::now());
    let (mut sender, mut receiver) = (rig.worker(&[1, 2]), rig.worker(&[1, 2]));
    assert!(sender.begin_sending(&rig.poller, now));
    let (mut client, server) = connected();
    assert!(sender.send(server.as_fd(), &idle(1, now), now));
    drop(server);
    client.write_all(b"hello").unwrap();
    let (stream, found) = receiver.receive(now).unwrap();
    assert_eq!(found, idle(1, now));
    let mut block = [0; 8];
    assert_eq!(stream.read(&mut block).unwrap().count, 5);
    assert_eq!(rig.reports(), [""; 0]);
}

#[test]
fn connection_keeps_its_listener_when_the_list_has_changed() {
    let (rig, now) = (Rig::new(), Instant::now());
    let mut sender = rig.worker(&[1, 2]);
    let (_client, server) = connected();
    for (ports, expected) in [(&[2, 1][..], 0), (&[3, 2], 1), (&[2], 0), (&[3, 1, 2], 2), (&[2, 2], 1)] {
        assert!(sender.send(server.as_fd(), &idle(1, now), now));
        let (_, found) = rig.worker(ports).receive(now).unwrap();
        assert_eq!(found.listener, expected, "{ports:?}");
    }
    assert_eq!(rig.reports(), [""; 0]);
}

#[test]
fn connection_whose_listener_is_gone_is_closed_with_a_report() {
    let (rig, now) = (Rig::new(), Instant::now());
    let (mut client, server) = connected();
    assert!(rig.worker(&[1]).send(server.as_fd(), &idle(0, now), now));
    drop(server);
    assert!(rig.worker(&[2, 3]).receive(now).is_none());
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    let expected =
        "a connection that another worker handed over was closed: this worker does not listen on http://127.0.0.1:1";
    assert_eq!(rig.reports(), [expected]);
}

#[test]
fn message_that_is_none_is_reported_and_the_next_one_is_taken() {
    let (rig, now) = (Rig::new(), Instant::now());
    let (mut client, server) = connected();
    rig.queue.send(b"\x02 of a later version", server.as_fd()).unwrap();
    drop(server);
    let (_client, other) = connected();
    assert!(rig.worker(&[1]).send(other.as_fd(), &idle(0, now), now));
    let mut receiver = rig.worker(&[1]);
    assert!(receiver.receive(now).is_none());
    assert!(receiver.may_receive(now));
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "it is closed");
    assert!(receiver.receive(now).is_some());
    let expected = "a connection that another worker handed over was closed: its message has an unknown version";
    assert_eq!(rig.reports(), [expected]);
}

#[test]
fn idle_time_longer_than_the_clock_is_old_is_no_fault() {
    let (rig, now) = (Rig::new(), Instant::now());
    let mut worker = rig.worker(&[1]);
    let message = HandoverMessage {
        listener: 0,
        address: "http://127.0.0.1:1".to_owned(),
        client: Client::Local,
        scheme: None,
        is_served: false,
        awaits_proxy_header: false,
        idle_for: Duration::from_millis(u64::MAX),
        input: Vec::new(),
    };
    let (_client, server) = connected();
    rig.queue.send(&message.encode().unwrap(), server.as_fd()).unwrap();
    assert!(worker.receive(now).unwrap().1.since <= now);
}

#[test]
fn worker_that_sends_takes_none() {
    let (rig, now) = (Rig::new(), Instant::now());
    let mut worker = rig.worker(&[1]);
    assert!(worker.may_receive(now));
    worker.begin_sending(&rig.poller, now);
    worker.note_ready(TOKEN);
    assert!(!worker.may_receive(now));
}

#[test]
fn failure_lasts_until_a_connection_is_sent() {
    let (rig, now) = (Rig::new(), Instant::now());
    let mut worker = rig.worker(&[1]);
    let (_client, server) = connected();
    let later = |seconds| now + Duration::from_secs(seconds);
    // No listener has this number.
    assert!(!worker.send(server.as_fd(), &idle(7, now), now));
    assert!(!worker.send(server.as_fd(), &idle(7, now), later(1)));
    assert!(worker.failed_for(Duration::from_secs(2), later(1)).is_none());
    assert!(worker.failed_for(Duration::from_secs(2), later(2)).is_some());
    assert!(worker.send(server.as_fd(), &idle(0, now), later(3)));
    assert!(worker.failed_for(Duration::ZERO, later(9)).is_none());
}

#[test]
fn listeners_are_told_apart_by_where_they_listen() {
    let rig = Rig::new();
    let opening = Opening { backlog: 1, reuse_port: false, socket_mode: None };
    let binds = [0, 0].map(|port| (Bind::Tcp { host: "127.0.0.1".to_owned(), port }, None));
    let listeners = Listener::open_all(&binds, &opening, &[]).unwrap();
    let context = Arc::clone(&rig.worker(&[]).context);
    let handover = Handover::new(context, None, &listeners, &rig.poller).unwrap();
    assert_eq!(handover.addresses, [0, 1].map(|number| listeners[number].place().to_string()));
    assert_ne!(handover.addresses[0], handover.addresses[1]);
}
