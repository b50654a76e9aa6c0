//! A shard's monitor: a thread that never runs the application. It replaces a leader that one call holds up, and sends what
//! streamed responses hold. It waits while neither can be needed.

use std::time::Duration;

use crate::engine::shard::Shard;
use crate::engine::sync::park_timeout;

/// How often a busy shard is checked: a leader whose call takes longer than one to two of these is replaced.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);
/// Checks in a row that find nothing to do before the monitor waits for a signal.
const IDLE_CHECKS: u32 = 5;
/// What a panic costs here. Without its monitor, a shard would stop polling as soon as a call takes long.
const CHECK: &str = "one check of a monitor";

/// The body of a shard's monitor thread.
pub fn watch(shard: &Shard) {
    let (queues, signal) = (&shard.queues, &shard.context.monitor_signal);
    signal.use_this_thread();
    let mut seen_count = None;
    let mut idle_checks = 0;
    while !queues.is_stopped() {
        let has_sent = flush(shard);
        let progress_count = queues.progress_count();
        if !queues.is_polled() && seen_count == Some(progress_count) {
            shard.context.reports.catch_panic(CHECK, || shard.take_over());
        }
        seen_count = Some(progress_count);
        idle_checks = if queues.is_polled() && !has_sent { idle_checks + 1 } else { 0 };
        if idle_checks < IDLE_CHECKS {
            park_timeout(CHECK_INTERVAL);
        } else {
            signal.wait_unless(|| !queues.is_polled() || queues.is_stopped() || flush(shard));
            idle_checks = 0;
            seen_count = None;
        }
    }
}

// Whether any byte was sent, or what should be sent needs another check.
fn flush(shard: &Shard) -> bool {
    shard.context.reports.catch_panic(CHECK, || shard.context.streaming.flush()).unwrap_or(true)
}
