//! Leader and followers. Every worker thread runs [`work`]: it answers what is ready, sees to the poller if nobody else
//! does, and otherwise sleeps until it is needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::clock::Clock;
use crate::engine::connection::Connection;
use crate::engine::exchange::{Exchange, Progress};
use crate::engine::gateway::Gateway;
use crate::engine::shard::{Attended, Shard};
use crate::http::reject::Reject;
use crate::net::outcome::Presence;

/// Requests answered before their responses leave together: each send wakes a client on another processor.
const BATCH: usize = 32;
/// How long a response waits for the others of its batch: a quarter of what its request has waited in line, so that it is
/// noticed by nobody, within these bounds. (With Flask and 64 clients, 5 % less than with the lower bound alone.)
const BATCH_TIME: [Duration; 2] = [Duration::from_micros(300), Duration::from_millis(1)];
/// The monitor learns this often that the batch goes on: it is to relieve a leader that one call holds up, and no other.
const SIGN_EVERY: Duration = Duration::from_micros(300);
/// A request that had to wait this long is worth a look whether its client is still there. A client that has closed its
/// sending side has almost always gone; one that half-closes and is answered in time never notices this rule.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// The body of a worker thread, which begins at the shard number `home`. Returns when all have stopped.
pub fn work<G: Gateway>(shards: &[Arc<Shard>], home: usize, gateway: &mut G) {
    let mut worker = Worker { shards, at: home, gateway, clock: Clock::new(Instant::now()) };
    while let Some(shard) = shards.get(worker.at) {
        // After a panic there may be work as after any round.
        let attended = worker.gateway.detached(|| shard.context.guard("one round of a worker", || shard.attend()));
        match attended.unwrap_or(Attended::Work) {
            Attended::Work => worker.run_batch(shard),
            // One that waits is sent off at once: the next may take long, too.
            Attended::Run(exchange) => {
                worker.run(exchange, Instant::now());
                shard.end();
            }
            Attended::Go(elsewhere) => worker.at = elsewhere,
            Attended::Stop => return,
        }
    }
}

struct Worker<'a, G> {
    shards: &'a [Arc<Shard>],
    // The shard that this worker sees to when it has nothing to answer.
    at: usize,
    gateway: &'a mut G,
    clock: Clock,
}

impl<G: Gateway> Worker<'_, G> {
    fn run_batch(&mut self, shard: &Shard) {
        if !shard.begin() {
            return;
        }
        let mut now = Instant::now();
        let (mut signed, mut until) = (now, None);
        for _ in 0..BATCH {
            let Some(exchange) = shard.next() else { break };
            let ours = exchange.shard() == shard.context.shard;
            let until = *until.get_or_insert_with(|| now + batch_time(&exchange, now));
            now = self.run(exchange, now);
            if now > until || !ours {
                break;
            }
            if now - signed > SIGN_EVERY {
                shard.count_progress();
                signed = now;
            }
        }
        shard.end();
    }

    // gateway, from taking an exchange over to giving its connection back. Returns when that was done.
    fn run(&mut self, exchange: Box<Exchange>, began: Instant) -> Instant {
        // What is answered must be sent off where it came from.
        self.at = exchange.shard();
        let Some(shard) = self.shards.get(self.at) else { return began };
        let Self { gateway, clock, .. } = self;
        let token = exchange.token();
        let answered = shard.context.guard("one request", || answer(shard, *gateway, exchange, began, clock));
        match answered {
            Some(Some((connection, now))) => {
                shard.hand_back(connection);
                return now;
            }
            // A stop has ended the request meanwhile.
            Some(None) => {}
            None => shard.lose(token),
        }
        Instant::now()
    }
}

fn batch_time(first: &Exchange, now: Instant) -> Duration {
    let [shortest, longest] = BATCH_TIME;
    (now.saturating_duration_since(first.arrived()) / 4).clamp(shortest, longest)
}

// The connection with its answer, whatever the gateway made of it, and the instant it was there.
fn answer<G: Gateway>(
    shard: &Shard,
    gateway: &mut G,
    mut exchange: Box<Exchange>,
    began: Instant,
    clock: &mut Clock,
) -> Option<(Box<Connection>, Instant)> {
    let waited = began.saturating_duration_since(exchange.arrived());
    if waited > GONE_AFTER && exchange.presence() != Presence::Here {
        exchange.lose_client();
        let now = Instant::now();
        return Some((Connection::conclude(exchange, now), now));
    }
    let mut leave = None;
    if exchange.holds_body_back() {
        // Frameworks read nothing without a length, which a chunked body has once it is whole.
        leave = exchange.body_length().and_then(|_| shard.context.pool.read_directly());
        if leave.is_none() {
            return Some((Connection::ask_for_body(exchange, began), began));
        }
    }
    let key = exchange.key;
    let before = shard.profile.is_suspect(key).then(processor_time);
    let exchange = respond(gateway, exchange, clock)?;
    drop(leave);
    let processor = before.map(|before| processor_time().saturating_sub(before));
    let now = Instant::now();
    shard.profile.note(key, now.saturating_duration_since(began), processor);
    Some((Connection::conclude(exchange, now), now))
}

/// Has a gateway answer, and ends what it leaves open: an exchange that it did not answer, and one that it did not finish.
/// `None`: a stop took the exchange away meanwhile.
pub(in crate::engine) fn respond<G: Gateway>(
    gateway: &mut G,
    exchange: Box<Exchange>,
    clock: &mut Clock,
) -> Option<Box<Exchange>> {
    let mut exchange = gateway.serve(exchange, clock)?;
    match exchange.progress() {
        Progress::Waiting => exchange.refuse(Reject::AppFailed, clock),
        Progress::Begun => exchange.abort(),
        Progress::Complete | Progress::Aborted => {}
    }
    Some(exchange)
}

// What this thread has computed so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
