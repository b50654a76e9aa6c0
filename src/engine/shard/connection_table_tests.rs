use std::time::Duration;

use super::*;
use crate::engine::options::Options;
use crate::engine::testkit::doubles::{Witness, context};
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
        let (double, place) = (Double::default(), self.connections.next_place());
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let connection = Connection::new(transport, Arc::clone(&self.context), Client::Local, 3, place, self.now);
        self.connections.open(&connection.transport);
        self.connections.keep(place, Box::new(connection));
        (place, double)
    }

    fn asleep(&self) -> usize {
        self.connections.places().filter(|place| self.connections.is_parked(*place)).count()
    }
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
    let mut connection = rig.connections.take(place, &rig.context).unwrap();
    assert_eq!((connection.listener, connection.token, connection.served), (3, place, false));
    assert_eq!(connection.deadline(), deadline);
    // It is served, and sleeps again.
    connection.served = true;
    connection.since = rig.now + MS;
    connection.scheme = Some(Scheme::Https);
    rig.connections.keep(place, connection);
    assert!(rig.connections.is_parked(place) && rig.connections.is_idle(place));
    assert_eq!(rig.connections.deadline(place, &rig.context), Some(rig.now + MS + rig.context.options.keep_alive));
    assert_eq!(rig.connections.eviction_priority(place, rig.now), None);
    assert!(rig.connections.eviction_priority(place, rig.now + 1000 * MS).is_some());
    let connection = rig.connections.take(place, &rig.context).unwrap();
    assert_eq!((connection.served, connection.since, connection.scheme), (true, rig.now + MS, Some(Scheme::Https)));
    assert!(rig.connections.take(place, &rig.context).is_none(), "it is somebody else's");
    drop(connection);
    rig.connections.remove(place);
    assert_eq!(Arc::strong_count(&double.0), 1, "its socket is closed");
}

#[test]
fn connection_of_which_there_is_more_to_keep_stays_awake() {
    let mut rig = Rig::new(AWAKE + 1);
    let place = rig.connections.places().find(|place| rig.connections.is_parked(*place)).unwrap();
    let changes: [fn(&mut Connection); 4] = [
        |connection| connection.input = b"\r".to_vec(),
        |connection| connection.stage = Stage::Head,
        |connection| connection.note(true, false),
        |connection| connection.transport.output().append(|out| out.push(b'x')),
    ];
    for change in changes {
        let mut connection = rig.connections.take(place, &rig.context).unwrap();
        change(&mut connection);
        rig.connections.keep(place, connection);
        assert!(!rig.connections.is_parked(place));
        rig.connections.remove(place);
        assert_eq!(rig.add().0, place, "the place is free again");
        assert!(rig.connections.is_parked(place));
    }
    // An application has kept something of its last request, which may ask for the client.
    let connection = rig.connections.take(place, &rig.context).unwrap();
    let watched = Arc::downgrade(&connection.transport);
    rig.connections.keep(place, connection);
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
