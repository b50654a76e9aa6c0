use std::time::Duration;

use super::super::doubles::{Witness, site};
use super::super::options::Options;
use super::*;
use crate::net::stream::double::Double;

const MS: Duration = Duration::from_millis(1);

struct Rig {
    slots: Slots,
    site: Arc<Site>,
    now: Instant,
}

impl Rig {
    // `count` connections that idle.
    fn new(count: usize) -> Self {
        let mut rig =
            Self { slots: Slots::default(), site: site(Options::default(), &Witness::default()), now: Instant::now() };
        for _ in 0..count {
            rig.add();
        }
        rig
    }

    fn add(&mut self) -> (usize, Double) {
        let (double, place) = (Double::default(), self.slots.next_place());
        let wire = Arc::new(Wire::new(Stream::Double(double.clone())));
        let connection = Connection::new(wire, Arc::clone(&self.site), Client::Local, 3, place, self.now);
        self.slots.open(&connection.wire);
        self.slots.keep(place, Box::new(connection));
        (place, double)
    }

    fn asleep(&self) -> usize {
        self.slots.places().filter(|place| self.slots.is_asleep(*place)).count()
    }
}

#[test]
fn few_connections_stay_awake_and_more_are_put_away() {
    let mut rig = Rig::new(AWAKE);
    assert_eq!((rig.slots.len(), rig.asleep()), (AWAKE, 0));
    for more in 1..=10 {
        rig.add();
        assert_eq!((rig.slots.len(), rig.asleep()), (AWAKE + more, more));
    }
}

#[test]
fn connection_wakes_as_what_it_was() {
    let mut rig = Rig::new(AWAKE);
    let (place, double) = rig.add();
    let deadline = rig.slots.deadline(place, &rig.site);
    assert_eq!(deadline, Some(rig.now + rig.site.options.header_timeout));
    let mut connection = rig.slots.take(place, &rig.site).unwrap();
    assert_eq!((connection.listener, connection.token, connection.served), (3, place, false));
    assert_eq!(connection.deadline(), deadline);
    // It is served, and sleeps again.
    connection.served = true;
    connection.since = rig.now + MS;
    connection.scheme = Some(Scheme::Https);
    rig.slots.keep(place, connection);
    assert!(rig.slots.is_asleep(place) && rig.slots.is_idle(place));
    assert_eq!(rig.slots.deadline(place, &rig.site), Some(rig.now + MS + rig.site.options.keep_alive));
    assert_eq!(rig.slots.spareness(place, rig.now), None);
    assert!(rig.slots.spareness(place, rig.now + 1000 * MS).is_some());
    let connection = rig.slots.take(place, &rig.site).unwrap();
    assert_eq!((connection.served, connection.since, connection.scheme), (true, rig.now + MS, Some(Scheme::Https)));
    assert!(rig.slots.take(place, &rig.site).is_none(), "it is somebody else's");
    drop(connection);
    rig.slots.remove(place);
    assert_eq!(Arc::strong_count(&double.0), 1, "its socket is closed");
}

#[test]
fn connection_of_which_there_is_more_to_keep_stays_awake() {
    let mut rig = Rig::new(AWAKE + 1);
    let place = rig.slots.places().find(|place| rig.slots.is_asleep(*place)).unwrap();
    let changes: [fn(&mut Connection); 4] = [
        |connection| connection.input = b"\r".to_vec(),
        |connection| connection.stage = Stage::Head,
        |connection| connection.note(true, false),
        |connection| connection.wire.output().append(|out| out.push(b'x')),
    ];
    for change in changes {
        let mut connection = rig.slots.take(place, &rig.site).unwrap();
        change(&mut connection);
        rig.slots.keep(place, connection);
        assert!(!rig.slots.is_asleep(place));
        rig.slots.remove(place);
        assert_eq!(rig.add().0, place, "the place is free again");
        assert!(rig.slots.is_asleep(place));
    }
    // An application has kept something of its last request, which may ask for the client.
    let connection = rig.slots.take(place, &rig.site).unwrap();
    let watched = Arc::downgrade(&connection.wire);
    rig.slots.keep(place, connection);
    assert!(!rig.slots.is_asleep(place) && watched.upgrade().is_some());
}

#[test]
fn places_are_used_again_and_counted() {
    let mut rig = Rig::new(AWAKE + 10);
    for place in 0..AWAKE + 10 {
        rig.slots.remove(place);
        rig.slots.remove(place);
    }
    assert_eq!((rig.slots.len(), rig.slots.awake), (0, 0));
    for _ in 0..AWAKE {
        rig.add();
    }
    assert_eq!((rig.slots.len(), rig.asleep(), rig.slots.places().len()), (AWAKE, 0, AWAKE + 10));
}
