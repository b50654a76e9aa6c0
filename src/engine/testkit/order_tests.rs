//! Models of what threads agree on without a lock, run by loom: it tries every order in which the memory model lets them see
//! each other's writes (with two changes of thread against the grain, which is where such mistakes show). A thread that sleeps
//! for ever is a deadlock to it. `make models` runs them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use loom::thread::spawn;

use crate::engine::clock::Clock;
use crate::engine::connection::{Connection, Step, TURN_BYTES, Turn};
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::in_flight::Uninterruptible;
use crate::engine::exchange::ticket::Ticket;
use crate::engine::options::Options;
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::scheduling::monitor_signal::MonitorSignal;
use crate::engine::scheduling::queue::Queue;
use crate::engine::shard::Shard;
use crate::engine::shard::queues::Phase;
use crate::engine::shard::worker_pool::{Command, WorkerPool};
use crate::engine::sync::AtomicBool;
use crate::engine::testkit::doubles::{Witness, answer, context};
use crate::engine::transport::Transport;
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
fn exchange(context: &Arc<ShardContext>) -> Box<Exchange> {
    let double = Double::default();
    double.0.lock().unwrap().incoming.push_back(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    let now = Instant::now();
    let transport = Arc::new(Transport::new(Stream::Double(double)));
    let mut connection =
        Box::new(Connection::new(transport, Arc::clone(context), Client::Local, 0, Ticket::default(), now));
    connection.note(true, false);
    let mut turn = Turn { now, date: &[b'd'; 29], scratch: &mut [0; 100], share: TURN_BYTES };
    match connection.advance(&mut turn) {
        Step::Ready(exchange) => exchange,
        _ => panic!("the request is complete"),
    }
}

fn pool(threads: usize) -> Arc<WorkerPool> {
    let pool = WorkerPool::new(Arc::new(Capacity::new(threads, 1)));
    pool.register(vec![Poller::new(1).unwrap().waker()]);
    Arc::new(pool)
}

fn surroundings() -> Arc<ShardContext> {
    context(Options::default(), &Witness::default())
}

// The loop of a follower: returns how many requests it ran.
fn follow(pool: &WorkerPool) -> usize {
    let mut answered = 0;
    loop {
        match pool.park() {
            (_, Some(_)) => answered += 1,
            (Command::Stop, None) => return answered,
            (Command::Run | Command::TakeOver(_), None) => {}
        }
    }
}

#[test]
fn request_given_to_a_worker_that_is_about_to_park_is_run() {
    model(|| {
        let (pool, context) = (pool(2), surroundings());
        assert!(pool.capacity().admit(0, 1));
        let follower = spawn({
            let pool = Arc::clone(&pool);
            move || {
                // It gets no other command: it parks until it has the request.
                while pool.park().1.is_none() {}
            }
        });
        pool.push(exchange(&context));
        follower.join().unwrap();
        assert!(pool.take().is_none());
        assert!(pool.capacity().admit(0, 1), "the queued one was counted out");
    });
}

#[test]
fn two_requests_for_two_workers_are_both_run() {
    model(|| {
        let (pool, context) = (pool(3), surroundings());
        let one = spawn({
            let pool = Arc::clone(&pool);
            move || while pool.park().1.is_none() {}
        });
        let two = spawn({
            let pool = Arc::clone(&pool);
            move || while pool.park().1.is_none() {}
        });
        for _ in 0..2 {
            assert!(pool.capacity().admit(0, 2));
            pool.push(exchange(&context));
        }
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn request_without_a_permit_is_run_when_one_is_released() {
    model(|| {
        let (pool, context) = (pool(1), surroundings());
        assert!(pool.capacity().acquire() && pool.capacity().admit(0, 1));
        let follower = spawn({
            let pool = Arc::clone(&pool);
            move || while pool.park().1.is_none() {}
        });
        let leader = spawn({
            let pool = Arc::clone(&pool);
            move || pool.push(exchange(&context))
        });
        // The thread that releases may lead next, and counts on the one that is parked.
        pool.release();
        leader.join().unwrap();
        follower.join().unwrap();
        assert!(!pool.capacity().has_permit(), "the one that is free is taken");
    });
}

#[test]
fn requests_that_run_are_never_more_than_the_permits() {
    model(|| {
        let (pool, context) = (pool(1), surroundings());
        for _ in 0..2 {
            assert!(pool.capacity().admit(0, 2));
            pool.push(exchange(&context));
        }
        let inside = Arc::new(AtomicBool::new(false));
        let run_one = |pool: &WorkerPool, inside: &AtomicBool| {
            let has_permit = pool.take_with_permit().is_some();
            if has_permit {
                assert!(!inside.swap(true, Ordering::SeqCst), "two requests run");
                inside.store(false, Ordering::SeqCst);
                pool.release();
            }
        };
        let other = spawn({
            let (pool, inside) = (Arc::clone(&pool), Arc::clone(&inside));
            move || run_one(&pool, &inside)
        });
        run_one(&pool, &inside);
        other.join().unwrap();
        assert!(pool.capacity().has_permit());
    });
}

#[test]
fn leader_that_counts_on_a_worker_for_two_requests_is_woken_for_the_second() {
    model(|| {
        let pool = WorkerPool::new(Arc::new(Capacity::new(2, 1)));
        let waker = Poller::new(1).unwrap().waker();
        pool.register(vec![waker.clone()]);
        pool.set_polled(0, true);
        let (pool, context) = (Arc::new(pool), surroundings());
        // Takes one request at most, and is inside the application then.
        let follower = spawn({
            let pool = Arc::clone(&pool);
            move || drop(pool.park())
        });
        for _ in 0..2 {
            assert!(pool.capacity().admit(0, 2));
            pool.push(exchange(&context));
        }
        while pool.has_excess() {
            drop(pool.take());
        }
        // The leader waits in the kernel from here on, unless it was woken.
        pool.shard_stopped();
        follower.join().unwrap();
        assert!(pool.take().is_none() || waker.wakes.load(Ordering::SeqCst) > 0, "a request that no thread takes");
    });
}

#[test]
fn call_to_a_shard_reaches_a_worker_that_parks() {
    model(|| {
        let pool = pool(2);
        let follower = spawn({
            let pool = Arc::clone(&pool);
            move || pool.park().0
        });
        // The monitor asks again at its next tick.
        while !pool.send_to(0) {
            loom::thread::yield_now();
        }
        assert!(matches!(follower.join().unwrap(), Command::TakeOver(0)));
    });
}

#[test]
fn end_reaches_every_worker_and_leaves_no_request_uncounted() {
    model(|| {
        let (pool, context) = (pool(2), surroundings());
        let followers = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            spawn(move || follow(&pool))
        });
        assert!(pool.capacity().admit(0, 1));
        pool.push(exchange(&context));
        pool.shard_stopped();
        assert!(pool.all_shards_stopped());
        let answered: usize = followers.into_iter().map(|follower| follower.join().unwrap()).sum();
        // One that came just before the end may be left, and is dropped with the run.
        assert!(answered <= 1);
        pool.clear();
        assert!(pool.capacity().admit(0, 1), "what is queued is counted out when it is dropped");
    });
}

#[test]
fn queue_never_exceeds_its_limit_nor_loses_a_place() {
    model(|| {
        let pool = pool(1);
        let others = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            spawn(move || usize::from(pool.capacity().admit(0, 1)))
        });
        let admitted: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(admitted, 1, "one place: one of two gets it, in any order");
        assert!(!pool.capacity().admit(0, 1));
    });
}

#[test]
fn queued_request_is_taken_once_and_the_length_follows() {
    model(|| {
        let (queue, context) = (Arc::<Queue<Box<Exchange>>>::default(), surroundings());
        queue.put(exchange(&context));
        let other = spawn({
            let queue = Arc::clone(&queue);
            move || usize::from(queue.take().is_some())
        });
        queue.put(exchange(&context));
        let own = usize::from(queue.take().is_some());
        let taken = own + other.join().unwrap();
        assert_eq!(own, 1, "a queue is never empty to the thread that has just filled it while there are enough items");
        assert_eq!(queue.len(), 2 - taken);
    });
}

fn shard() -> Arc<Shard> {
    let (context, in_flight) = (surroundings(), Arc::new(Uninterruptible));
    let pool = Arc::new(WorkerPool::new(Arc::clone(&context.capacity)));
    let shard = Arc::new(Shard::new(context, Vec::new(), Arc::clone(&pool), in_flight, false, None).unwrap());
    pool.register(vec![shard.queues.waker().clone()]);
    shard
}

// A shard, an answer that was given back to it, and the worker that sends what was given back.
fn sending() -> (Arc<Shard>, Arc<Transport>, loom::thread::JoinHandle<()>) {
    let shard = shard();
    let mut exchange = exchange(&shard.context);
    answer(&mut exchange, b"hello", false, &mut Clock::new(Instant::now()));
    let transport = exchange.transport();
    shard.queues.hand_back(Finished::answered(exchange, Instant::now()));
    let worker = spawn({
        let shard = Arc::clone(&shard);
        move || shard.queues.send_finished()
    });
    (shard, transport, worker)
}

fn back(shard: &Shard) -> Option<Finished> {
    let mut finished = VecDeque::new();
    shard.queues.take_finished(&mut finished);
    finished.pop_front()
}

#[test]
fn answer_that_waits_for_the_next_leader_is_sent_by_its_worker_if_that_came_too_early() {
    model(|| {
        let shard = shard();
        let mut exchange = exchange(&shard.context);
        answer(&mut exchange, b"hello", false, &mut Clock::new(Instant::now()));
        // Another worker begins to poll: it takes what is there, and waits in the kernel.
        let leader = spawn({
            let shard = Arc::clone(&shard);
            move || {
                shard.queues.set_polled(true);
                let mut taken = VecDeque::new();
                shard.queues.take_finished(&mut taken);
                taken.len()
            }
        });
        shard.queues.hand_back(Finished::answered(exchange, Instant::now()));
        // The reactor is that worker's.
        shard.queues.send_finished();
        let taken = leader.join().unwrap();
        let left = back(&shard);
        assert_eq!(taken + usize::from(left.is_some()), 1);
        assert!(left.is_none_or(|finished| finished.is_sent()), "a response that no thread sends");
    });
}

#[test]
fn change_of_a_socket_is_noted_when_the_connection_comes_back() {
    model(|| {
        let (shard, transport, worker) = sending();
        // As the reactor does: it notes the change first and looks at what came back after.
        transport.note_ready_while_away(false);
        let noted = back(&shard).is_some() && transport.take_ready_while_away().0;
        worker.join().unwrap();
        let woken = shard.queues.waker().wakes.load(Ordering::SeqCst) > 0;
        assert!(noted || woken, "the client's next request would lie in its socket");
    });
}

#[test]
fn answer_given_back_while_the_shard_stops_is_taken_or_wakes_the_reactor() {
    model(|| {
        let (shard, _, worker) = sending();
        shard.queues.enter(Phase::Draining);
        let woken = shard.queues.waker().wakes.load(Ordering::SeqCst);
        let taken = back(&shard).is_some();
        worker.join().unwrap();
        // The wake of the stop itself may have been used before the answer came back.
        let again = shard.queues.waker().wakes.load(Ordering::SeqCst) > woken;
        assert!(taken || again, "a connection that stays open");
    });
}

#[test]
fn signal_is_never_missed_by_a_monitor_that_begins_to_wait() {
    model(|| {
        let monitor_signal = Arc::<MonitorSignal>::default();
        let needed = Arc::new(AtomicBool::new(false));
        let monitor = spawn({
            let (monitor_signal, needed) = (Arc::clone(&monitor_signal), Arc::clone(&needed));
            move || {
                monitor_signal.use_this_thread();
                monitor_signal.wait_unless(|| needed.load(Ordering::SeqCst));
            }
        });
        // Two begin to need it at the same time.
        let other = spawn({
            let (monitor_signal, needed) = (Arc::clone(&monitor_signal), Arc::clone(&needed));
            move || {
                needed.store(true, Ordering::SeqCst);
                monitor_signal.wake();
            }
        });
        needed.store(true, Ordering::SeqCst);
        monitor_signal.wake();
        monitor.join().unwrap();
        other.join().unwrap();
    });
}
