//! Leader and followers. Every worker thread runs [`work`]: it runs requests that are ready, leads a shard that no other worker
//! leads, and parks otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::clock::Clock;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::{Exchange, Progress};
use crate::engine::gateway::Gateway;
use crate::engine::shard::queues::ShardQueues;
use crate::engine::shard::{Shard, WorkerAction};
use crate::http::reject::Reject;
use crate::net::outcome::Presence;

/// Requests that are run before their responses leave together: each send wakes a client on another processor.
const BATCH_REQUESTS: usize = 32;
/// How long a response waits for the others of its batch: a quarter of the time that its request was queued, so that the client
/// does not notice, within these bounds. (With Flask and 64 clients, 5 % less than with the lower bound alone.)
const BATCH_TIME: [Duration; 2] = [Duration::from_micros(300), Duration::from_millis(1)];
/// How often a batch counts progress: the monitor is to replace a leader that one call holds up, and no other.
const PROGRESS_INTERVAL: Duration = Duration::from_micros(300);
/// A request that was queued for longer than this is dropped if its client has closed its sending side: almost all of those have
/// gone. A client that half-closes and is answered in time is not affected.
const DROP_AFTER: Duration = Duration::from_secs(1);

/// The body of a worker thread, which begins at the shard number `home`. Returns when all have stopped.
pub fn work<G: Gateway>(shards: &[Arc<Shard>], home: usize, gateway: &mut G) {
    let mut worker = Worker { shards, at: home, gateway, clock: Clock::new(Instant::now()) };
    while let Some(shard) = shards.get(worker.at) {
        // After a panic there may be work as after any round.
        let reports = &shard.context.reports;
        let action = worker.gateway.detached(|| reports.catch_panic("one round of a worker", || shard.lead_or_park()));
        match action.unwrap_or(WorkerAction::RunQueued) {
            WorkerAction::RunQueued => worker.run_batch(&shard.queues),
            // A batch of one: the next request may block, too.
            WorkerAction::Run(exchange) => {
                worker.run(exchange, Instant::now());
                shard.queues.release();
            }
            WorkerAction::MoveTo(elsewhere) => worker.at = elsewhere,
            WorkerAction::Stop => return,
        }
    }
}

struct Worker<'a, G> {
    shards: &'a [Arc<Shard>],
    // The shard that this worker leads when it has nothing to run.
    at: usize,
    gateway: &'a mut G,
    clock: Clock,
}

impl<G: Gateway> Worker<'_, G> {
    fn run_batch(&mut self, queues: &ShardQueues) {
        if !queues.acquire() {
            return;
        }
        let start = Instant::now();
        let (mut now, mut counted, mut until) = (start, start, None);
        for _ in 0..BATCH_REQUESTS {
            let Some(exchange) = queues.take() else { break };
            let (is_own, arrived) = (exchange.shard() == queues.context.shard, exchange.arrived());
            now = self.run(exchange, now);
            // What follows matters only to another request. If another worker polls by now, that one runs what is queued, and does
            // not know what was answered here: `lead_or_park` sends it.
            if !is_own || !queues.has_next() || queues.is_polled() {
                break;
            }
            let until = *until.get_or_insert_with(|| start + batch_time(arrived, start));
            if now > until {
                break;
            }
            if now - counted > PROGRESS_INTERVAL {
                queues.count_progress();
                counted = now;
            }
        }
        queues.release();
    }

    // The gateway, from taking an exchange to giving it back. Returns when that was done.
    fn run(&mut self, exchange: Box<Exchange>, began: Instant) -> Instant {
        // The response is sent by the shard that the request came from.
        self.at = exchange.shard();
        let Some(shard) = self.shards.get(self.at) else { return began };
        let Self { gateway, clock, .. } = self;
        let ticket = exchange.ticket();
        let queues = &shard.queues;
        let run = || answer(queues, *gateway, exchange, began, clock);
        match queues.context.reports.catch_panic("one request", run) {
            Some(Some((finished, now))) => {
                queues.hand_back(finished);
                return now;
            }
            // A stop has ended the request meanwhile.
            Some(None) => {}
            None => queues.hand_back(Finished::lost(ticket)),
        }
        Instant::now()
    }
}

// Of a batch whose first request arrived at `arrived`.
fn batch_time(arrived: Instant, start: Instant) -> Duration {
    let [shortest, longest] = BATCH_TIME;
    (start.saturating_duration_since(arrived) / 4).clamp(shortest, longest)
}

// The finished exchange, and the instant at which that was complete.
fn answer<G: Gateway>(
    queues: &ShardQueues,
    gateway: &mut G,
    mut exchange: Box<Exchange>,
    began: Instant,
    clock: &mut Clock,
) -> Option<(Finished, Instant)> {
    if began > exchange.arrived() + DROP_AFTER && exchange.presence() != Presence::Here {
        exchange.lose_client();
        let now = Instant::now();
        return Some((Finished::answered(exchange, now), now));
    }
    let mut permission = None;
    if exchange.holds_body_back() {
        // Frameworks read nothing without a length, which a chunked body has once it is whole.
        permission = exchange.body_length().and_then(|_| queues.context.capacity.read_directly());
        if permission.is_none() {
            return Some((Finished::awaiting_body(exchange), began));
        }
    }
    let key = exchange.key;
    let before = queues.profile.is_suspect(key).then(processor_time);
    let exchange = respond(gateway, exchange, clock)?;
    drop(permission);
    let processor = before.map(|before| processor_time().saturating_sub(before));
    let now = Instant::now();
    queues.profile.note(key, now.saturating_duration_since(began), processor);
    Some((Finished::answered(exchange, now), now))
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
