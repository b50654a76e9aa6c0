use std::time::Duration;

use super::*;
use crate::engine::clock::Clock;
use crate::engine::connection::{Step, TURN_BYTES, Turn};
use crate::engine::exchange::finished::Finished;
use crate::engine::options::Options;
use crate::engine::testkit::doubles::{Witness, answer, context};
use crate::net::stream::double::Double;

const MS: Duration = Duration::from_millis(1);

struct Rig {
    connections: ConnectionTable,
    context: Arc<ShardContext>,
    now: Instant,
}

impl Rig {
    // `count` connections that idle.
    fn new(count: usize) -> Self {
        let mut rig = Self {
            connections: ConnectionTable::default(),
            context: context(Options::default(), &Witness::default()),
            now: Instant::now(),
        };
        for _ in 0..count {
            rig.add();
        }
        rig
    }

    fn add(&mut self) -> (usize, Double) {
        let (double, ticket) = (Double::default(), self.connections.next_ticket(0));
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let idle = IdleConnection {
            client: Client::Local,
            scheme: Some(Scheme::Https),
            listener: 3,
            is_served: false,
            awaits_proxy_header: false,
            since: self.now,
            input: Vec::new(),
        };
        let connection = Connection::resumed(transport, Arc::clone(&self.context), ticket, &idle);
        self.connections.insert(Box::new(connection));
        self.settle(ticket.slot);
        (ticket.slot, double)
    }

    fn settle(&mut self, place: usize) {
        self.connections.settle(place, &mut Timers::new(self.now));
    }

    fn asleep(&self) -> usize {
        self.connections.places().filter(|place| self.connections.is_parked(*place)).count()
    }
}

fn advance(connection: &mut Connection, now: Instant) -> Step {
    connection.note(true, false);
    connection.advance(&mut Turn { now, date: &[b'd'; 29], scratch: &mut [0; 100], share: TURN_BYTES })
}

fn receive(connection: &mut Connection, bytes: &[u8]) {
    let Stream::Double(double) = connection.transport.stream() else { panic!("no double") };
    double.0.lock().unwrap().incoming.push_back(bytes.to_vec());
    assert!(matches!(advance(connection, Instant::now()), Step::Wait));
}

// Its client asks, and is answered at `now`.
fn serve(connection: &mut Connection, now: Instant) {
    let Stream::Double(double) = connection.transport.stream() else { panic!("no double") };
    double.0.lock().unwrap().incoming.push_back(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    let Step::Ready(mut exchange) = advance(connection, now) else { panic!("the request is complete") };
    answer(&mut exchange, b"hello", false, &mut Clock::new(now));
    connection.take_back(Finished::answered(exchange, now), now);
    assert!(matches!(advance(connection, now), Step::Wait));
}

#[test]
fn answer_for_a_slot_that_another_connection_has_finds_none() {
    let mut rig = Rig::new(1);
    let ticket = rig.connections.connection(0).unwrap().ticket();
    assert!(rig.connections.of(&ticket).is_some());
    assert!(rig.connections.of(&Ticket { stream: 7, ..ticket }).is_some(), "another exchange of the same connection");
    rig.connections.remove(0);
    assert!(rig.connections.of(&ticket).is_none());
    assert_eq!(rig.add().0, 0, "the slot is used again");
    assert!(rig.connections.of(&ticket).is_none());
    let next = rig.connections.connection(0).unwrap().ticket();
    assert!(rig.connections.of(&next).is_some() && next.generation == 1);
}

#[test]
fn few_connections_stay_awake_and_more_are_put_away() {
    let mut rig = Rig::new(AWAKE);
    assert_eq!((rig.connections.len(), rig.asleep()), (AWAKE, 0));
    for more in 1..=10 {
        rig.add();
        assert_eq!((rig.connections.len(), rig.asleep()), (AWAKE + more, more));
    }
}

#[test]
fn connection_wakes_as_what_it_was() {
    let mut rig = Rig::new(AWAKE);
    let (place, double) = rig.add();
    let deadline = rig.connections.deadline(place, &rig.context);
    assert_eq!(deadline, Some(rig.now + rig.context.options.header_timeout));
    let generation = rig.connections.slot(place).unwrap().generation;
    let connection = rig.connections.wake(place, &rig.context).unwrap();
    let ticket = Ticket { shard: 0, slot: place, generation, stream: 0 };
    assert_eq!((connection.listener, connection.ticket()), (3, ticket));
    assert_eq!(connection.can_park(), Some((rig.now, false)));
    assert_eq!(connection.deadline(), deadline);
    // It is served, and sleeps again.
    serve(connection, rig.now + MS);
    assert_eq!(connection.can_park(), Some((rig.now + MS, true)));
    rig.settle(place);
    assert!(rig.connections.is_parked(place) && rig.connections.is_idle(place));
    assert_eq!(rig.connections.deadline(place, &rig.context), Some(rig.now + MS + rig.context.options.keep_alive));
    assert_eq!(rig.connections.eviction_priority(place, rig.now), None);
    assert!(rig.connections.eviction_priority(place, rig.now + 1000 * MS).is_some());
    let connection = rig.connections.wake(place, &rig.context).unwrap();
    assert_eq!((connection.can_park(), connection.scheme()), (Some((rig.now + MS, true)), Some(Scheme::Https)));
    assert_eq!(connection.ticket(), ticket, "its exchanges are counted anew");
    rig.connections.remove(place);
    assert_eq!(Arc::strong_count(&double.0), 1, "its socket is closed");
}

#[test]
fn connection_of_which_there_is_more_to_keep_stays_awake() {
    let mut rig = Rig::new(AWAKE + 1);
    let place = rig.connections.places().find(|place| rig.connections.is_parked(*place)).unwrap();
    let changes: [fn(&mut Connection); 4] = [
        |connection| receive(connection, b"\r"),
        |connection| receive(connection, b"G"),
        |connection| connection.note(true, false),
        |connection| connection.transport.output().append(|out| out.push(b'x')),
    ];
    for change in changes {
        change(rig.connections.wake(place, &rig.context).unwrap());
        rig.settle(place);
        assert!(!rig.connections.is_parked(place));
        rig.connections.remove(place);
        assert_eq!(rig.add().0, place, "the place is free again");
        assert!(rig.connections.is_parked(place));
    }
    // An application has kept something of its last request, which may ask for the client.
    let watched = Arc::downgrade(&rig.connections.wake(place, &rig.context).unwrap().transport);
    rig.settle(place);
    assert!(!rig.connections.is_parked(place) && watched.upgrade().is_some());
}

#[test]
fn places_are_used_again_and_counted() {
    let mut rig = Rig::new(AWAKE + 10);
    for place in 0..AWAKE + 10 {
        rig.connections.remove(place);
        rig.connections.remove(place);
    }
    assert_eq!((rig.connections.len(), rig.connections.awake), (0, 0));
    for _ in 0..AWAKE {
        rig.add();
    }
    assert_eq!((rig.connections.len(), rig.asleep(), rig.connections.places().len()), (AWAKE, 0, AWAKE + 10));
}
