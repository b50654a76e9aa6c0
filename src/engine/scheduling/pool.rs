//! What all shards of a server have in common: the workers that nobody needs at the moment, and the requests that are
//! theirs. A worker leads one shard at a time, and goes wherever it is called.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::exchange::Exchange;
use crate::engine::scheduling::queue::Queue;
use crate::engine::scheduling::quota::{Quota, QuotaGuard};
use crate::engine::sync::{AtomicBool, AtomicUsize, Channel, Mutex};
use crate::http::reject::Reject;
use crate::net::poller::Waker;

/// Command to a parked worker.
pub(in crate::engine) enum Command {
    /// A request that waits is in line.
    Run,
    /// Nobody sees to this shard.
    TakeOver(usize),
    /// Go home.
    Stop,
}

/// A request's place among those that are counted.
pub struct AdmissionGuard(Arc<WorkerPool>, usize);

impl Drop for AdmissionGuard {
    fn drop(&mut self) {
        let Self(pool, shard) = self;
        pool.count_out(*shard);
    }
}

/// What one shard writes all the time: on a line of the processor's cache that no other shard's processor wants.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine<T>(T);

/// How the others reach a shard.
pub(in crate::engine) struct ShardHandle {
    pub waker: Waker,
    attended: CacheLine<AtomicBool>,
}

/// The workers between two tasks.
pub struct WorkerPool {
    // Requests that are not their leader's to answer.
    pool: Queue<Box<Exchange>>,
    // Requests in line, here and with the shards, by the shard they came from.
    queued: Vec<CacheLine<AtomicUsize>>,
    // A shard has more of them than its part of the limit.
    crowded: AtomicBool,
    threads: usize,
    // Requests that may still begin before as many run as may run at the same time.
    permits: AtomicUsize,
    // One was given back since this was last looked at.
    was_released: AtomicBool,
    // For calls that read their bodies off the socket, although bodies are taken whole.
    direct_reads: Arc<Quota>,
    // For connections that are WebSockets.
    websockets: Arc<Quota>,
    shards: usize,
    wakeups: Channel<Command>,
    parked: AtomicUsize,
    running: AtomicUsize,
    handles: OnceLock<Vec<ShardHandle>>,
    troubles: Mutex<[Tally; Trouble::COUNT]>,
    stall: Mutex<Stall>,
    is_stalling: AtomicBool,
}

// Since when no request has come to its end although others wait, and whether that was reported.
#[derive(Default)]
struct Stall {
    since: Option<Instant>,
    is_reported: bool,
}

/// What is to be said of a stall.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum StallNews {
    /// It has gone on for so long, with so many requests in line.
    Begun(Duration, usize),
    /// It is over, after this was said.
    Over,
}

/// How long no request may come to its end, while others wait, before that is reported.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A trouble that may go on, and is reported once in a while only.
#[derive(Clone, Copy)]
pub(in crate::engine) enum Trouble {
    /// Nobody can be let in.
    Accept,
    /// The temporary files are at their bound.
    Spool,
    /// A response was cut for it.
    Cut,
    /// Temporary files cannot be written.
    Disk,
    /// No thread comes back from the application.
    Stall,
    /// Proxies seem to be set up in another way than this server.
    Proxies,
    /// The queue of requests is full.
    QueueFull,
    /// Requests wait in the queue for too long.
    QueueTimeout,
    /// WebSockets have as many connections as they may.
    WebSockets,
    /// Slow connections are closed in the midst of a request or a response, so that others get connections.
    Evictions,
    /// The same for threads.
    ThreadEvictions,
    /// The same for room in temporary files.
    SpoolEvictions,
}

impl Trouble {
    const ALL: [Self; 12] = [
        Self::Accept,
        Self::Spool,
        Self::Cut,
        Self::Disk,
        Self::Stall,
        Self::Proxies,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::WebSockets,
        Self::Evictions,
        Self::ThreadEvictions,
        Self::SpoolEvictions,
    ];
    const COUNT: usize = Self::ALL.len();

    /// What the log says of `count` cases, where it is the number that matters.
    pub fn message(self, count: u64) -> Option<String> {
        let reject = match self {
            Self::Spool => Reject::SpoolFull,
            Self::QueueFull => Reject::QueueFull,
            Self::QueueTimeout => Reject::QueueTimeout,
            Self::WebSockets => Reject::TooManyWebSockets,
            Self::Evictions | Self::ThreadEvictions | Self::SpoolEvictions => {
                let connections = if count == 1 { "connection" } else { "connections" };
                let why = match self {
                    Self::ThreadEvictions => "free threads for waiting requests; raise threads",
                    Self::SpoolEvictions => {
                        "free temporary files for others; raise max_spool_size, or the limit of open files"
                    }
                    _ => "make room for new ones; raise max_connections, or the limit of open files",
                };
                return Some(format!("{count} slow {connections} closed to {why}"));
            }
            Self::Accept | Self::Cut | Self::Disk | Self::Stall | Self::Proxies => return None,
        };
        let requests = if count == 1 { "request" } else { "requests" };
        Some(format!("{count} {requests} refused with 503: {}", reject.detail()))
    }
}

// How often a trouble was met since it was last reported, and when that was.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: u64,
    reported: Option<Instant>,
}

/// How often such a trouble is reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);

impl WorkerPool {
    /// The pool of `shards` shards, of which `threads` may be inside the application at the same time.
    pub fn new(threads: usize, shards: usize) -> Self {
        Self {
            pool: Queue::default(),
            queued: (0..shards).map(|_| CacheLine(AtomicUsize::new(0))).collect(),
            crowded: AtomicBool::new(false),
            threads,
            permits: AtomicUsize::new(threads),
            was_released: AtomicBool::new(false),
            direct_reads: Quota::new(),
            websockets: Quota::new(),
            shards,
            wakeups: Channel::new(),
            parked: AtomicUsize::new(0),
            running: AtomicUsize::new(shards),
            handles: OnceLock::new(),
            troubles: Mutex::default(),
            stall: Mutex::default(),
            is_stalling: AtomicBool::new(false),
        }
    }

    /// Tells the pool how to reach its shards, in their order.
    pub fn enlist(&self, wakers: Vec<Waker>) {
        let post = |waker| ShardHandle { waker, attended: CacheLine(AtomicBool::new(false)) };
        self.handles.get_or_init(|| wakers.into_iter().map(post).collect());
    }

    /// Counts one more request of a shard in line. `false`: there are `limit` already, from all shards.
    pub(in crate::engine) fn admit(&self, shard: usize, limit: usize) -> bool {
        let Some(CacheLine(queued)) = self.queued.get(shard) else { return false };
        let own = queued.fetch_add(1, Ordering::SeqCst) + 1;
        let admitted = match self.shards {
            1 => own <= limit,
            // As long as no shard has more than its part, nobody needs to look at what the others write all the time.
            _ => (self.is_part(own, limit) && !self.crowded.load(Ordering::SeqCst)) || self.has_room(limit),
        };
        if !admitted {
            self.count_out(shard);
        }
        admitted
    }

    fn is_part(&self, queued: usize, limit: usize) -> bool {
        queued.saturating_mul(self.shards) <= limit
    }

    // Told first: whoever adds from here on looks at all of them as well.
    fn has_room(&self, limit: usize) -> bool {
        self.crowded.store(true, Ordering::SeqCst);
        let has_room = self.queued_total() <= limit;
        if self.are_parts(limit) {
            self.crowded.store(false, Ordering::SeqCst);
            if !self.are_parts(limit) {
                self.crowded.store(true, Ordering::SeqCst);
            }
        }
        has_room
    }

    fn are_parts(&self, limit: usize) -> bool {
        self.queued.iter().all(|CacheLine(queued)| self.is_part(queued.load(Ordering::SeqCst), limit))
    }

    fn queued_total(&self) -> usize {
        self.queued.iter().map(|CacheLine(queued)| queued.load(Ordering::SeqCst)).sum()
    }

    fn count_out(&self, shard: usize) {
        if let Some(CacheLine(queued)) = self.queued.get(shard) {
            queued.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The place of a shard's request that was taken out of a line and still counts, until the place is dropped.
    pub(in crate::engine) fn place(self: &Arc<Self>, shard: usize) -> AdmissionGuard {
        AdmissionGuard(Arc::clone(self), shard)
    }

    /// Counts one less, if a request was taken out of a line.
    pub(in crate::engine) fn taken(&self, exchange: Option<Box<Exchange>>) -> Option<Box<Exchange>> {
        exchange.inspect(|exchange| self.count_out(exchange.shard()))
    }

    /// Takes the first request that is not its leader's.
    pub(in crate::engine) fn take(&self) -> Option<Box<Exchange>> {
        self.taken(self.pool.take())
    }

    /// Takes the first of them that came from `shard`, if it is `wanted`.
    pub(in crate::engine) fn take_from(
        &self,
        shard: usize,
        wanted: impl FnOnce(&Exchange) -> bool,
    ) -> Option<Box<Exchange>> {
        self.taken(self.pool.take_own_if(|exchange| exchange.shard() == shard, |exchange| wanted(exchange)))
    }

    /// How many workers there are: one more for each shard, to see to its poller while as many requests run as may. Where
    /// nobody could take over anyway, whoever leads is inside the application as well: one thread stays one thread.
    pub(in crate::engine) fn workers(&self) -> usize {
        if self.has_followers() { self.threads + self.shards } else { self.threads }
    }

    /// Takes a seat inside the application. `false`: as many requests run as may.
    pub(in crate::engine) fn acquire(&self) -> bool {
        let mut permits = self.permits.load(Ordering::SeqCst);
        while permits > 0 {
            match self.permits.compare_exchange(permits, permits - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(changed) => permits = changed,
            }
        }
        false
    }

    /// Gives the seat back, to whoever waits for one.
    pub(in crate::engine) fn release(&self) {
        self.was_released.store(true, Ordering::Relaxed);
        self.permits.fetch_add(1, Ordering::SeqCst);
        if !self.pool.is_empty() {
            self.wake_one();
        }
    }

    /// Leave for a call to read its body off the socket. Slow clients may hold a quarter of the threads by that, and never
    /// the only one.
    pub(in crate::engine) fn read_directly(&self) -> Option<QuotaGuard> {
        self.direct_reads.take(if self.threads > 1 { (self.threads / 4).max(1) } else { 0 })
    }

    /// Leave for a connection to be a WebSocket, where each shard takes `connections`. One that answers pings and says nothing
    /// can be closed for no other client, so that WebSockets may hold seven eighths of the connections, and never the last of
    /// several.
    pub(in crate::engine) fn open_websocket(&self, connections: usize) -> Option<QuotaGuard> {
        let all = connections.saturating_mul(self.shards);
        self.websockets.take((all - all.div_ceil(8)).max(1))
    }

    /// Whether a request could begin.
    pub(in crate::engine) fn has_permit(&self) -> bool {
        self.permits.load(Ordering::SeqCst) > 0
    }

    /// Whether anybody is inside the application.
    pub(in crate::engine) fn is_any_running(&self) -> bool {
        self.permits.load(Ordering::Relaxed) < self.threads
    }

    /// Takes the first request that is not its leader's, and a seat for it.
    pub(in crate::engine) fn take_with_permit(&self) -> Option<Box<Exchange>> {
        if self.pool.is_empty() || !self.acquire() {
            return None;
        }
        let exchange = self.take();
        if exchange.is_none() {
            self.release();
        }
        exchange
    }

    // A word for each sleeper at most: whoever is awake looks at the line before it parks.
    fn wake_one(&self) {
        if self.parked.load(Ordering::SeqCst) > self.wakeups.len() {
            self.wakeups.put(Command::Run);
        }
    }

    /// Whether there are more threads than those that lead.
    pub(in crate::engine) fn has_followers(&self) -> bool {
        self.threads > self.shards
    }

    /// Whether nothing is left to do for anybody.
    pub fn all_shards_stopped(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }

    /// Whether somebody sees to this shard's poller right now.
    pub(in crate::engine) fn is_attended(&self, shard: usize) -> bool {
        self.post(shard).is_some_and(|post| post.attended.0.load(Ordering::SeqCst))
    }

    pub(in crate::engine) fn set_attended(&self, shard: usize, attended: bool) {
        if let Some(post) = self.post(shard) {
            post.attended.0.store(attended, Ordering::SeqCst);
        }
    }

    /// Whether the leader of another shard has nothing to do.
    pub(in crate::engine) fn has_idle_neighbour(&self, shard: usize) -> bool {
        (0..self.shards).any(|other| other != shard && self.is_attended(other))
    }

    fn post(&self, shard: usize) -> Option<&ShardHandle> {
        self.handles.get()?.get(shard)
    }

    /// A request for whichever parked worker wakes first.
    pub(in crate::engine) fn push(&self, exchange: Box<Exchange>) {
        self.pool.put(exchange);
        // Without a seat for it, whoever rises next rings.
        if self.has_permit() {
            self.wake_one();
        }
    }

    /// Whether more requests are in line than there are parked workers for them. As long as there are enough, what waits is
    /// theirs: a leader that took it would have to be relieved.
    pub(in crate::engine) fn has_excess(&self) -> bool {
        self.pool.len() > self.parked.load(Ordering::SeqCst)
    }

    /// Calls a parked worker to a shard. `false`: there is none.
    pub(in crate::engine) fn send_to(&self, shard: usize) -> bool {
        if self.parked.load(Ordering::SeqCst) == 0 {
            return false;
        }
        if self.wakeups.is_empty() {
            self.wakeups.put(Command::TakeOver(shard));
        }
        true
    }

    /// Wakes the leaders that have nothing to do, so that they find what is in line.
    pub(in crate::engine) fn wake_idle_leaders(&self) {
        for post in self.handles.get().into_iter().flatten() {
            if post.attended.0.load(Ordering::SeqCst) {
                post.waker.wake();
            }
        }
    }

    /// A shard has come to its end; with the last one, everybody goes home.
    pub(in crate::engine) fn shard_stopped(&self) {
        if self.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            for _ in 0..self.workers() {
                self.wakeups.put(Command::Stop);
            }
        }
    }

    /// Sleeps until there is word. Gives the request along with it, if it is one, and a seat for that.
    pub(in crate::engine) fn park(&self) -> (Command, Option<Box<Exchange>>) {
        self.parked.fetch_add(1, Ordering::SeqCst);
        // What came into line before this worker counted as parked was not announced.
        let (word, exchange) = if let Some(exchange) = self.take_with_permit() {
            (Command::Run, Some(exchange))
        } else {
            let word = self.wakeups.wait().unwrap_or(Command::Stop);
            // Taken before this worker stops counting as parked, so that nobody thinks the request is in excess.
            let exchange = if matches!(word, Command::Run) { self.take_with_permit() } else { None };
            (word, exchange)
        };
        self.parked.fetch_sub(1, Ordering::SeqCst);
        if self.has_excess() {
            // A leader counted on this worker for more than the one request it takes.
            self.wake_idle_leaders();
        }
        (word, exchange)
    }

    /// Whether a trouble that goes on is worth another report, whichever shard meets it.
    pub(in crate::engine) fn may_report(&self, trouble: Trouble, now: Instant) -> bool {
        self.count_trouble(trouble, now).is_some()
    }

    /// Counts one more case of a trouble. If a report is due: how many there were since the last.
    pub(in crate::engine) fn count_trouble(&self, trouble: Trouble, now: Instant) -> Option<u64> {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = troubles.get_mut(trouble as usize)?;
        tally.count += 1;
        let due = tally.reported.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_EVERY);
        due.then(|| {
            tally.reported = Some(now);
            std::mem::take(&mut tally.count)
        })
    }

    /// What was counted and not reported; forgets it.
    pub(in crate::engine) fn take_unreported(&self) -> Vec<(Trouble, u64)> {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = Trouble::ALL.into_iter().zip(troubles.iter_mut().map(|tally| std::mem::take(&mut tally.count)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Whether requests are in line and as many run already as may.
    pub(in crate::engine) fn is_pressed(&self) -> bool {
        !self.has_permit() && self.queued_total() > 0
    }

    /// Whether no thread may have come back for a while.
    pub(in crate::engine) fn is_stalling(&self) -> bool {
        self.is_stalling.load(Ordering::Relaxed)
    }

    /// Looks whether threads come back while requests wait for them. A refusal of what waits for too long changes nothing.
    pub(in crate::engine) fn look_for_stall(&self, now: Instant) -> Option<StallNews> {
        let is_pressed = self.is_pressed();
        if !is_pressed && !self.is_stalling() {
            return None;
        }
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = None;
        if self.was_released.swap(false, Ordering::Relaxed) {
            news = std::mem::take(&mut *stall).is_reported.then_some(StallNews::Over);
        }
        if is_pressed {
            let age = now.saturating_duration_since(*stall.since.get_or_insert(now));
            if age >= STALLED_AFTER && self.may_report(Trouble::Stall, now) {
                stall.is_reported = true;
                news = Some(StallNews::Begun(age, self.queued_total()));
            }
        }
        self.is_stalling.store(stall.since.is_some(), Ordering::Relaxed);
        news
    }

    /// How many requests may run at the same time.
    pub(in crate::engine) fn threads(&self) -> usize {
        self.threads
    }

    /// Forgets what nobody took.
    pub(in crate::engine) fn clear(&self) {
        while self.take().is_some() {}
    }
}

#[cfg(all(test, not(models)))]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_reported_once_a_minute_with_all_that_came_since() {
        let pool = WorkerPool::new(1, 1);
        let start = Instant::now();
        let counts = [0, 1, 59, 60, 61, 119].map(|seconds| {
            assert_eq!(pool.count_trouble(Trouble::Spool, start), (seconds == 0).then_some(1));
            pool.count_trouble(Trouble::QueueFull, start + Duration::from_secs(seconds))
        });
        assert_eq!(counts, [Some(1), None, None, Some(3), None, None]);
        let rest: Vec<_> = pool.take_unreported().into_iter().map(|(trouble, count)| trouble.message(count)).collect();
        let spool = "5 requests refused with 503: the request bodies in temporary files are at their bound";
        let queue = "2 requests refused with 503: the request queue is full";
        assert_eq!(rest, [Some(spool.to_owned()), Some(queue.to_owned())]);
        assert!(pool.take_unreported().is_empty());
    }

    #[test]
    fn direct_reads_leave_most_threads_to_others() {
        for (threads, most) in [(1, 0), (2, 1), (7, 1), (16, 4)] {
            let pool = WorkerPool::new(threads, 1);
            let guards: Vec<_> = std::iter::from_fn(|| pool.read_directly()).collect();
            assert_eq!(guards.len(), most, "of {threads}");
        }
    }

    #[test]
    fn websockets_leave_an_eighth_of_the_connections_of_all_shards_to_others() {
        for (shards, connections, most) in
            [(1, 1, 1), (1, 2, 1), (1, 3, 2), (1, 8, 7), (1, 9, 7), (4, 1, 3), (4, 50, 175)]
        {
            let pool = WorkerPool::new(shards, shards);
            let guards: Vec<_> = std::iter::from_fn(|| pool.open_websocket(connections)).collect();
            assert_eq!(guards.len(), most, "of {shards} times {connections}");
        }
    }

    #[test]
    fn stall_is_told_once_a_minute_and_its_end_once() {
        let (pool, start) = (WorkerPool::new(1, 1), Instant::now());
        let look = |seconds| pool.look_for_stall(start + Duration::from_secs(seconds));
        assert!(pool.acquire());
        assert_eq!((look(0), pool.is_stalling()), (None, false), "nobody waits");
        assert!(pool.admit(0, 10) && pool.admit(0, 10));
        assert_eq!((look(1), pool.is_stalling()), (None, true));
        assert_eq!(look(5), None);
        assert_eq!(look(6), Some(StallNews::Begun(Duration::from_secs(5), 2)));
        assert_eq!(look(65), None);
        assert_eq!(look(66), Some(StallNews::Begun(Duration::from_secs(65), 2)));
        // Whoever is refused meanwhile makes no thread free.
        pool.count_out(0);
        pool.count_out(0);
        assert_eq!((look(200), pool.is_stalling()), (None, true));
        pool.release();
        assert_eq!((look(201), pool.is_stalling()), (Some(StallNews::Over), false));
        assert_eq!(look(202), None);
    }

    #[test]
    fn threads_that_come_back_late_are_no_stall() {
        let (pool, start) = (WorkerPool::new(1, 1), Instant::now());
        assert!(pool.acquire() && pool.admit(0, 10));
        for second in 0..100 {
            assert_eq!(pool.look_for_stall(start + Duration::from_secs(second)), None);
            if second % 4 == 0 {
                pool.release();
                assert!(pool.acquire());
            }
        }
    }

    #[test]
    fn limit_holds_for_all_shards_together_whoever_has_how_many() {
        let pool = WorkerPool::new(4, 4);
        assert!((0..10).all(|_| pool.admit(1, 10)), "one shard may have all places");
        assert!((0..4).all(|shard| !pool.admit(shard, 10)));
        for _ in 0..9 {
            pool.count_out(1);
        }
        assert!((0..9).all(|number| pool.admit(number % 4, 10)));
        assert!((0..4).all(|shard| !pool.admit(shard, 10)));
        assert_eq!(pool.queued_total(), 10);
        assert!(!WorkerPool::new(1, 1).admit(0, 0));
    }
}
