//! A run's watchdog: a thread that never runs the application. It measures how long each call has given nothing of its response,
//! and ends those that are over `request_timeout`. It runs only while calls do.
//!
//! Time counts in ticks. A tick that comes late counts nothing: the process was stopped, throttled or without a processor, and so
//! was the call. What its client must do first does not count either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::clock::Clock;
use crate::engine::exchange::Progress;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::in_flight::{Cut, InFlight};
use crate::engine::exchange::overdue::{CallStage, OverdueCall, OverdueOutcome, RunningCall};
use crate::engine::exchange::ticket::Ticket;
use crate::engine::options::{RequestTimeout, TimeoutAction};
use crate::engine::shard::Shard;
use crate::engine::shard::queues::Phase;
use crate::engine::shard::reactor::Reactor;
use crate::engine::sync::park_timeout;

/// Ticks in a timeout, within the bounds of a tick.
const TICKS: u32 = 8;
const SHORTEST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// A tick may be late by a quarter of its length, within these bounds.
const TOLERANCE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];
/// What a panic costs here.
const TICK: &str = "one tick of the watchdog";

/// The body of the watchdog's thread. Returns when the run is over.
pub fn watch(shards: &[Arc<Shard>], in_flight: &Arc<dyn InFlight>, timeout: RequestTimeout) {
    let Some(signal) = in_flight.start_signal() else { return };
    signal.use_this_thread();
    let is_over = || shards.iter().all(|shard| shard.queues.is_stopped());
    let length = (timeout.after / TICKS).clamp(SHORTEST_TICK, LONGEST_TICK);
    let mut watchdog = Watchdog { shards, in_flight, timeout, ages: CallAges::new(timeout.after) };
    while !is_over() {
        let began = Instant::now();
        while began.elapsed() < length && !is_over() {
            park_timeout(length.saturating_sub(began.elapsed()));
        }
        let Some(shard) = shards.first() else { return };
        let counted = counted(length, began.elapsed());
        let is_idle = shard.context.reports.catch_panic(TICK, || watchdog.tick(counted)).unwrap_or(false);
        if is_idle {
            signal.wait_unless(|| is_over() || !in_flight.running().is_empty());
        }
    }
}

// What a tick of this length counts that has taken so long.
fn counted(length: Duration, took: Duration) -> Duration {
    let [least, most] = TOLERANCE;
    let is_late = took > length + (length / 4).clamp(least, most);
    if is_late { Duration::ZERO } else { length }
}

struct Watchdog<'a> {
    shards: &'a [Arc<Shard>],
    in_flight: &'a Arc<dyn InFlight>,
    timeout: RequestTimeout,
    ages: CallAges,
}

impl Watchdog<'_> {
    // Whether no call runs.
    fn tick(&mut self, counted: Duration) -> bool {
        let running = self.in_flight.running();
        let overdue = self.ages.tick(&running, counted);
        if !overdue.is_empty() && Arc::clone(self.in_flight).report_overdue(&overdue, &|call| self.end(call)) {
            self.shards.iter().for_each(|shard| shard.queues.enter(Phase::Retiring));
        }
        running.is_empty()
    }

    // Ends a request without its application, if that was asked for.
    fn end(&self, overdue: &OverdueCall) -> OverdueOutcome {
        if overdue.call.stage == CallStage::Detached {
            return OverdueOutcome::Detached;
        }
        if self.timeout.action == TimeoutAction::Log {
            return OverdueOutcome::Kept;
        }
        let ticket = overdue.call.ticket;
        let cut = Cut::Overdue(ticket);
        let (Some(shard), Some(mut exchange)) =
            (self.shards.get(ticket.shard), self.in_flight.take(ticket.shard, cut).pop())
        else {
            return OverdueOutcome::Ended;
        };
        let outcome = match exchange.progress() {
            Progress::Waiting => OverdueOutcome::Answered,
            Progress::Begun => OverdueOutcome::Cut,
            Progress::Complete | Progress::Aborted => OverdueOutcome::Detached,
        };
        let now = Instant::now();
        exchange.cut(cut.reject(), Clock::new(now).date(now));
        let queues = &shard.queues;
        queues.hand_back(Finished::answered(exchange, now));
        // An event loop that the application blocks does not drive its shard.
        if shard.with_reactor(|reactor: &mut Reactor| reactor.collect(queues)).is_none() {
            queues.send_finished();
        }
        queues.waker().wake();
        outcome
    }
}

// How long a call has been in its stage.
struct Age {
    call: RunningCall,
    counted: Duration,
    // When it is reported next.
    due: Duration,
    reports: u32,
}

// The calls that run, with their ages.
struct CallAges {
    limit: Duration,
    ages: HashMap<Ticket, Age>,
}

impl CallAges {
    fn new(limit: Duration) -> Self {
        Self { limit, ages: HashMap::new() }
    }

    // Counts one tick for the calls that are running. Gives those that are over the limit: once, and then whenever their age in
    // the same stage has doubled.
    fn tick(&mut self, running: &[RunningCall], counted: Duration) -> Vec<OverdueCall> {
        let mut former = std::mem::take(&mut self.ages);
        let mut overdue = Vec::new();
        for &call in running {
            let fresh = |reports| Age { call, counted: Duration::ZERO, due: self.limit, reports };
            // What is seen for the first time may have begun just now.
            let mut age = match (former.remove(&call.ticket), call.stage) {
                (None, _) => fresh(0),
                (Some(age), CallStage::AwaitsClient | CallStage::Unlimited) => age,
                (Some(age), _) if age.call != call => fresh(age.reports),
                (Some(age), _) => Age { counted: age.counted + counted, ..age },
            };
            if age.counted >= age.due {
                overdue.push(OverdueCall { call, reports: age.reports });
                age.due *= 2;
                age.reports += 1;
            }
            self.ages.insert(call.ticket, age);
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WAITING: CallStage = CallStage::Responding { progress: Progress::Waiting, sent: 0 };

    fn call(slot: usize, stage: CallStage) -> RunningCall {
        RunningCall { ticket: Ticket { slot, ..Ticket::default() }, stage, is_closing: false }
    }

    // The ticks, counted from 1, at which a call is overdue that is in these stages, one for each tick.
    fn overdue_at(limit: Duration, stages: &[CallStage]) -> Vec<usize> {
        let mut ages = CallAges::new(limit);
        let mut found = Vec::new();
        for (number, &stage) in stages.iter().enumerate() {
            if !ages.tick(&[call(0, stage)], SECOND).is_empty() {
                found.push(number);
            }
        }
        found
    }

    #[test]
    fn call_is_overdue_at_the_limit_and_whenever_its_age_has_doubled() {
        assert_eq!(overdue_at(2 * SECOND, &[WAITING; 20]), [2, 4, 8, 16]);
    }

    #[test]
    fn each_piece_of_a_response_begins_the_time_anew() {
        let piece = |sent| CallStage::Responding { progress: Progress::Begun, sent };
        assert_eq!(overdue_at(2 * SECOND, &[WAITING, WAITING, piece(0), piece(0), piece(1), piece(1), piece(1)]), [6]);
    }

    #[test]
    fn time_of_the_client_and_of_event_streams_does_not_count() {
        let stages = [[WAITING; 2], [CallStage::AwaitsClient; 2], [WAITING; 2]].concat();
        assert_eq!(overdue_at(2 * SECOND, &stages), [4]);
        assert_eq!(overdue_at(SECOND, &[CallStage::Unlimited; 9]), [0; 0]);
    }

    #[test]
    fn call_that_was_cut_is_overdue_again_after_the_limit_with_its_reports() {
        let mut ages = CallAges::new(2 * SECOND);
        let stages = [WAITING, WAITING, WAITING, CallStage::Detached, CallStage::Detached, CallStage::Detached];
        let found: Vec<_> = stages.iter().flat_map(|&stage| ages.tick(&[call(0, stage)], SECOND)).collect();
        let reports: Vec<_> = found.iter().map(|overdue| (overdue.reports, overdue.call.stage)).collect();
        assert_eq!(reports, [(0, WAITING), (1, CallStage::Detached)]);
    }

    #[test]
    fn calls_are_told_apart_and_forgotten_when_they_return() {
        let mut ages = CallAges::new(SECOND);
        assert!(ages.tick(&[call(0, WAITING)], SECOND).is_empty());
        let overdue = ages.tick(&[call(0, WAITING), call(1, WAITING)], SECOND);
        assert_eq!(overdue.iter().map(|overdue| overdue.call.ticket.slot).collect::<Vec<_>>(), [0]);
        assert!(ages.tick(&[call(2, WAITING)], SECOND).is_empty());
        assert_eq!(ages.ages.len(), 1);
    }

    #[test]
    fn late_tick_counts_nothing() {
        assert_eq!(counted(SECOND, SECOND + Duration::from_millis(40)), SECOND);
        assert_eq!(counted(SECOND, SECOND + Duration::from_millis(60)), Duration::ZERO);
        assert_eq!(counted(SHORTEST_TICK, 2 * SHORTEST_TICK), SHORTEST_TICK);
        assert_eq!(counted(SHORTEST_TICK, SECOND), Duration::ZERO);
        let mut ages = CallAges::new(SECOND);
        assert!((0..9).all(|_| ages.tick(&[call(0, WAITING)], Duration::ZERO).is_empty()));
    }
}
