//! One thread a shard that looks after it while everybody else may be inside the application: it relieves a leader whose
//! call takes too long, and sends what streamed responses hold. It sleeps as long as nobody needs it.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::shard::Shard;
use crate::engine::sync::{AtomicBool, Thread, current, park, park_timeout};

/// How often a busy shard is looked at: a call that outlasts one to two of these is relieved.
const TICK: Duration = Duration::from_millis(1);
/// Looks without need before it goes to sleep.
const CALM: u32 = 5;
/// What a panic costs here. Without its monitor a shard would be deaf as soon as a call takes long.
const LOOK: &str = "one look of a monitor";

/// What the monitor sleeps on, and how it is woken.
#[derive(Default)]
pub struct MonitorSignal {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl MonitorSignal {
    /// Sees to it that the monitor is awake. One load if it is.
    pub fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
    }

    /// Makes the calling thread the one that is woken.
    pub(in crate::engine) fn use_this_thread(&self) {
        self.thread.get_or_init(current);
    }

    pub(in crate::engine) fn wait_unless(&self, needed: impl Fn() -> bool) {
        self.asleep.store(true, Ordering::SeqCst);
        // Whoever began to need us before the line above did not ring.
        if needed() {
            self.asleep.store(false, Ordering::SeqCst);
        }
        while self.asleep.load(Ordering::SeqCst) {
            park();
        }
    }
}

/// The body of a shard's monitor thread.
pub fn watch(shard: &Shard) {
    let monitor_signal = shard.context.monitor_signal();
    monitor_signal.use_this_thread();
    let mut seen = None;
    let mut calm = 0;
    while !shard.is_stopped() {
        let sent = flush(shard);
        let progress_count = shard.progress();
        if !shard.is_attended() && seen == Some(progress_count) {
            shard.context.guard(LOOK, || shard.take_over());
        }
        seen = Some(progress_count);
        calm = if shard.is_attended() && !sent { calm + 1 } else { 0 };
        if calm < CALM {
            park_timeout(TICK);
        } else {
            monitor_signal.wait_unless(|| !shard.is_attended() || shard.is_stopped() || flush(shard));
            calm = 0;
            seen = None;
        }
    }
}

// Whether any byte was sent, or what should be sent needs another look.
fn flush(shard: &Shard) -> bool {
    shard.context.guard(LOOK, || shard.context.streaming.flush()).unwrap_or(true)
}
