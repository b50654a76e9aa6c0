//! Models of what threads agree on without a lock, run by loom: it tries every order in which the memory model lets them see
//! each other's writes (with two changes of thread against the grain, which is where such mistakes show). A thread that sleeps
//! for ever is a deadlock to it. `make models` runs them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use loom::thread::spawn;

use super::clock::Clock;
use super::connection::{Connection, SHARE, Step, Turn};
use super::crew::{Crew, Word};
use super::doubles::{Witness, answer, site};
use super::exchange::Exchange;
use super::line::Line;
use super::monitor::Alarm;
use super::options::Options;
use super::shard::{Phase, Shard};
use super::site::Site;
use super::sync::AtomicBool;
use super::wire::Wire;
use crate::http::origin::Client;
use crate::net::poller::Poller;
use crate::net::stream::Stream;
use crate::net::stream::double::Double;

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

// A complete request.
fn exchange(site: &Arc<Site>) -> Box<Exchange> {
    let double = Double::default();
    double.0.lock().unwrap().incoming.push_back(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    let now = Instant::now();
    let wire = Arc::new(Wire::new(Stream::Double(double)));
    let mut connection = Box::new(Connection::new(wire, Arc::clone(site), Client::Local, 0, 0, now));
    connection.note(true, false);
    let mut turn = Turn { now, date: &[b'd'; 29], scratch: &mut [0; 100], share: SHARE };
    match connection.advance(&mut turn) {
        Step::Ready(exchange) => exchange,
        _ => panic!("the request is complete"),
    }
}

fn crew(threads: usize) -> Arc<Crew> {
    let crew = Crew::new(threads, 1);
    crew.enlist(vec![Poller::new(1).unwrap().waker()]);
    Arc::new(crew)
}

fn surroundings() -> Arc<Site> {
    site(Options::default(), &Witness::default())
}

// A follower's life: gives how many requests it answered.
fn follow(crew: &Crew) -> usize {
    let mut answered = 0;
    loop {
        match crew.park() {
            (_, Some(_)) => answered += 1,
            (Word::Stop, None) => return answered,
            (Word::Run | Word::Relieve(_), None) => {}
        }
    }
}

#[test]
fn request_given_to_a_worker_that_is_about_to_park_is_run() {
    model(|| {
        let (crew, site) = (crew(2), surroundings());
        assert!(crew.admit(0, 1));
        let follower = spawn({
            let crew = Arc::clone(&crew);
            move || {
                // Nobody else tells it anything: it parks until it has what was given.
                while crew.park().1.is_none() {}
            }
        });
        crew.give(exchange(&site));
        follower.join().unwrap();
        assert!(crew.take().is_none());
        assert!(crew.admit(0, 1), "the one in line was counted out");
    });
}

#[test]
fn two_requests_for_two_workers_are_run_by_somebody() {
    model(|| {
        let (crew, site) = (crew(3), surroundings());
        let one = spawn({
            let crew = Arc::clone(&crew);
            move || while crew.park().1.is_none() {}
        });
        let two = spawn({
            let crew = Arc::clone(&crew);
            move || while crew.park().1.is_none() {}
        });
        for _ in 0..2 {
            assert!(crew.admit(0, 2));
            crew.give(exchange(&site));
        }
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn request_without_a_seat_is_begun_by_somebody_when_one_is_free() {
    model(|| {
        let (crew, site) = (crew(1), surroundings());
        assert!(crew.sit() && crew.admit(0, 1));
        let follower = spawn({
            let crew = Arc::clone(&crew);
            move || while crew.park().1.is_none() {}
        });
        let leader = spawn({
            let crew = Arc::clone(&crew);
            move || crew.give(exchange(&site))
        });
        // Whoever rises may be the next to lead, and counts on the one that is parked.
        crew.rise();
        leader.join().unwrap();
        follower.join().unwrap();
        assert!(!crew.has_seat(), "the one that is free is taken");
    });
}

#[test]
fn seats_are_never_more_than_there_are() {
    model(|| {
        let (crew, site) = (crew(1), surroundings());
        for _ in 0..2 {
            assert!(crew.admit(0, 2));
            crew.give(exchange(&site));
        }
        let inside = Arc::new(AtomicBool::new(false));
        let sit = |crew: &Crew, inside: &AtomicBool| {
            let seated = crew.take_seated().is_some();
            if seated {
                assert!(!inside.swap(true, Ordering::SeqCst), "two are inside");
                inside.store(false, Ordering::SeqCst);
                crew.rise();
            }
        };
        let other = spawn({
            let (crew, inside) = (Arc::clone(&crew), Arc::clone(&inside));
            move || sit(&crew, &inside)
        });
        sit(&crew, &inside);
        other.join().unwrap();
        assert!(crew.has_seat());
    });
}

#[test]
fn leader_that_counts_on_a_worker_for_two_requests_is_woken_for_the_second() {
    model(|| {
        let crew = Crew::new(2, 1);
        let waker = Poller::new(1).unwrap().waker();
        crew.enlist(vec![waker.clone()]);
        crew.set_attended(0, true);
        let (crew, site) = (Arc::new(crew), surroundings());
        // Takes one request at most, and is inside the application then.
        let follower = spawn({
            let crew = Arc::clone(&crew);
            move || drop(crew.park())
        });
        for _ in 0..2 {
            assert!(crew.admit(0, 2));
            crew.give(exchange(&site));
        }
        while crew.is_overfull() {
            drop(crew.take());
        }
        // The leader sleeps in the kernel from here on, unless it was woken.
        crew.dismiss_from_one();
        follower.join().unwrap();
        assert!(crew.take().is_none() || waker.wakes.load(Ordering::SeqCst) > 0, "a request that nobody looks for");
    });
}

#[test]
fn call_to_a_shard_reaches_a_worker_that_parks() {
    model(|| {
        let crew = crew(2);
        let follower = spawn({
            let crew = Arc::clone(&crew);
            move || crew.park().0
        });
        // The monitor asks again at its next tick.
        while !crew.call_to(0) {
            loom::thread::yield_now();
        }
        assert!(matches!(follower.join().unwrap(), Word::Relieve(0)));
    });
}

#[test]
fn end_reaches_every_worker_and_leaves_no_request_uncounted() {
    model(|| {
        let (crew, site) = (crew(2), surroundings());
        let followers = [(); 2].map(|()| {
            let crew = Arc::clone(&crew);
            spawn(move || follow(&crew))
        });
        assert!(crew.admit(0, 1));
        crew.give(exchange(&site));
        crew.dismiss_from_one();
        assert!(crew.is_dismissed());
        let answered: usize = followers.into_iter().map(|follower| follower.join().unwrap()).sum();
        // One that came just before the end may be left: whoever ends the run clears it away.
        assert!(answered <= 1);
        crew.clear();
        assert!(crew.admit(0, 1), "what is in line is counted out when it is cleared away");
    });
}

#[test]
fn line_never_has_more_than_its_limit_nor_forgets_a_place() {
    model(|| {
        let crew = crew(1);
        let others = [(); 2].map(|()| {
            let crew = Arc::clone(&crew);
            spawn(move || usize::from(crew.admit(0, 1)))
        });
        let admitted: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(admitted, 1, "one place: one of two gets it, whatever their order");
        assert!(!crew.admit(0, 1));
    });
}

#[test]
fn request_in_line_is_taken_once_and_its_length_is_told() {
    model(|| {
        let (line, site) = (Arc::<Line<Box<Exchange>>>::default(), surroundings());
        line.put(exchange(&site));
        let other = spawn({
            let line = Arc::clone(&line);
            move || usize::from(line.take().is_some())
        });
        line.put(exchange(&site));
        let ours = usize::from(line.take().is_some());
        let taken = ours + other.join().unwrap();
        assert_eq!(ours, 1, "a line is never empty to the one who has just filled it while there is enough");
        assert_eq!(line.len(), 2 - taken);
    });
}

// A shard, an answer that was given back to it, and the worker that sends what was given back.
fn sending() -> (Arc<Shard>, Arc<Wire>, loom::thread::JoinHandle<()>) {
    let crew = Arc::new(Crew::new(2, 1));
    let shard = Arc::new(Shard::new(surroundings(), Vec::new(), Arc::clone(&crew), false).unwrap());
    crew.enlist(vec![shard.waker()]);
    let mut exchange = exchange(&shard.site);
    answer(&mut exchange, b"hello", false, &mut Clock::new(Instant::now()));
    let connection = Connection::conclude(exchange, Instant::now());
    let wire = Arc::clone(&connection.wire);
    shard.hand_back(connection);
    let worker = spawn({
        let shard = Arc::clone(&shard);
        move || shard.send_answers()
    });
    (shard, wire, worker)
}

fn back(shard: &Shard) -> Option<Box<Connection>> {
    let mut answered = VecDeque::new();
    shard.take_answered(&mut answered);
    answered.pop_front()
}

#[test]
fn change_of_a_socket_is_noted_by_whoever_gets_the_connection_back() {
    model(|| {
        let (shard, wire, worker) = sending();
        // As the reactor does: it notes the change first and looks at what came back after.
        wire.touch(false);
        let noted = back(&shard).is_some_and(|connection| connection.wire.take_touched().0);
        worker.join().unwrap();
        let woken = shard.waker().wakes.load(Ordering::SeqCst) > 0;
        assert!(noted || woken, "the client's next request would lie in its socket");
    });
}

#[test]
fn answer_given_back_while_the_shard_stops_is_seen_to() {
    model(|| {
        let (shard, _, worker) = sending();
        shard.enter(Phase::Draining);
        let woken = shard.waker().wakes.load(Ordering::SeqCst);
        let taken = back(&shard).is_some();
        worker.join().unwrap();
        // The wake of the stop itself has been heard already where nothing had come back yet.
        let again = shard.waker().wakes.load(Ordering::SeqCst) > woken;
        assert!(taken || again, "a connection that nobody closes");
    });
}

#[test]
fn alarm_is_never_missed_by_a_monitor_that_falls_asleep() {
    model(|| {
        let alarm = Arc::<Alarm>::default();
        let needed = Arc::new(AtomicBool::new(false));
        let monitor = spawn({
            let (alarm, needed) = (Arc::clone(&alarm), Arc::clone(&needed));
            move || {
                alarm.belongs_to_this_thread();
                alarm.sleep_unless(|| needed.load(Ordering::SeqCst));
            }
        });
        // Two begin to need it at the same time.
        let other = spawn({
            let (alarm, needed) = (Arc::clone(&alarm), Arc::clone(&needed));
            move || {
                needed.store(true, Ordering::SeqCst);
                alarm.ring();
            }
        });
        needed.store(true, Ordering::SeqCst);
        alarm.ring();
        monitor.join().unwrap();
        other.join().unwrap();
    });
}
