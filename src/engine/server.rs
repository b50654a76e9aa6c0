//! One run of a server: its shards, their monitors, and how it ends.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Resource, getpid, getrlimit};

use crate::engine::context::ShardContext;
use crate::engine::exchange::in_flight::InFlight;
use crate::engine::gateway::Gateway;
use crate::engine::monitor;
use crate::engine::observe::Observer;
use crate::engine::options::Options;
use crate::engine::page::{PageSlot, WorkerCell};
use crate::engine::report::{Reporter, Reports, Severity};
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::shard::Shard;
use crate::engine::shard::external_loop::ExternalLoop;
use crate::engine::shard::queues::Phase;
use crate::engine::shard::reactor::Reactor;
use crate::engine::shard::worker_pool::WorkerPool;
use crate::engine::thread::spawn;
use crate::engine::transport::spool::Budget;
use crate::engine::watchdog;
use crate::engine::worker;
use crate::net::descriptor_queue::DescriptorQueue;
use crate::net::listener::Listener;

/// A server between its start and its end.
pub struct ServerRun {
    shards: Vec<Arc<Shard>>,
    workers: usize,
    monitors: Mutex<Vec<JoinHandle<()>>>,
    in_flight: Arc<dyn InFlight>,
}

/// How a run is set up.
pub struct RunConfig {
    /// The operator's decisions.
    pub options: Arc<Options>,
    /// The most shards that make sense here: one where an interpreter lock lets one thread run at a time.
    pub shards: usize,
    /// Accept one connection, serve one request on it, and end.
    pub single_request: bool,
    /// An event loop drives the one shard, instead of workers.
    pub external_loop: bool,
    /// Where the run publishes its counters: a slot with at least as many shards; `None`: on a page of its own.
    pub page_slot: Option<PageSlot>,
    /// Where connections come from other processes, and go when the run retires.
    pub handover: Option<Arc<DescriptorQueue>>,
    /// Takes reports.
    pub reporter: Arc<dyn Reporter>,
    /// The requests that are inside the application.
    pub in_flight: Arc<dyn InFlight>,
    /// Get a record of each response.
    pub observers: Arc<[Box<dyn Observer>]>,
}

/// How many of the process's descriptors clients may take, so that some are left for the application.
#[derive(Debug, PartialEq, Eq)]
struct DescriptorBudget {
    connections: usize,
    files: u64,
}

impl DescriptorBudget {
    // Five eighths are for connections and a quarter for temporary files; the rest is for the application.
    fn of(descriptors: Option<u64>) -> Self {
        let all = descriptors.unwrap_or(u64::MAX);
        let connections = usize::try_from(all / 8 * 5).unwrap_or(usize::MAX);
        Self { connections: connections.max(1), files: all / 4 }
    }
}

impl ServerRun {
    /// Begins to accept from `listeners`, as soon as the workers come to [`ServerRun::work`].
    pub fn start(listeners: &[Arc<Listener>], config: &RunConfig) -> io::Result<Self> {
        let permits = (!config.external_loop).then_some(config.options.threads.max(1));
        let threads = permits.unwrap_or(1);
        let count = if config.single_request { 1 } else { config.shards.clamp(1, threads) };
        let mut shards = Vec::with_capacity(count);
        let budget = DescriptorBudget::of(getrlimit(Resource::Nofile).current);
        // Every shard takes its share of the connections.
        let options = Arc::new(Options {
            max_connections: config.options.max_connections.min(budget.connections).div_ceil(count),
            // A loop reads what comes piece by piece as its application asks.
            stream_bodies: config.options.stream_bodies || config.external_loop,
            stream_chunked: config.options.stream_chunked || config.external_loop,
            ..(*config.options).clone()
        });
        let reports = Arc::new(Reports::new(Arc::clone(&config.reporter)));
        let page_slot = config.page_slot.clone().unwrap_or_else(|| PageSlot::private(count));
        let pid = u64::try_from(getpid().as_raw_nonzero().get()).unwrap_or(0);
        page_slot.worker(WorkerCell::Pid).store(pid, Ordering::Relaxed);
        let spool = Arc::new(Budget::of(&config.options, budget.files, page_slot.clone()));
        let capacity = Arc::new(Capacity::on(page_slot, permits, count, config.options.max_connections));
        let pool = Arc::new(WorkerPool::new(Arc::clone(&capacity)));
        for index in 0..count {
            let context = ShardContext::new(
                index,
                Arc::clone(&options),
                Arc::clone(&capacity),
                Arc::clone(&spool),
                Arc::clone(&reports),
                Arc::clone(&config.observers),
            );
            let shard = Shard::new(
                Arc::new(context),
                listeners.to_vec(),
                Arc::clone(&pool),
                Arc::clone(&config.in_flight),
                config.single_request,
                config.handover.clone(),
            )?;
            shards.push(Arc::new(shard));
        }
        if !config.external_loop {
            // Reported now, and not when the first client needs a temporary file.
            spool.probe();
            if let Some(failure) = spool.take_failure() {
                reports.report(Severity::Warning, &failure);
            }
        }
        pool.register(shards.iter().map(|shard| shard.queues.waker().clone()).collect());
        let in_flight = Arc::clone(&config.in_flight);
        let run = Self { shards, workers: pool.workers(), monitors: Mutex::default(), in_flight };
        run.start_watchdog()?;
        if config.external_loop {
            // No monitor: a loop leaves nothing unsent, and one that is held up cannot be replaced.
            for shard in &run.shards {
                shard.with_reactor(Reactor::note_changes);
            }
            return Ok(run);
        }
        for (index, shard) in run.shards.iter().enumerate() {
            let shard = Arc::clone(shard);
            run.start_thread(format!("wsgi-monitor-{index}"), move || monitor::watch(&shard))?;
        }
        Ok(run)
    }

    fn start_watchdog(&self) -> io::Result<()> {
        let timeout = self.shards.first().and_then(|shard| shard.context.options.request_timeout);
        let Some(timeout) = timeout else { return Ok(()) };
        let (shards, in_flight) = (self.shards.clone(), Arc::clone(&self.in_flight));
        self.start_thread("wsgi-watchdog".to_owned(), move || watchdog::watch(&shards, &in_flight, timeout))
    }

    // A thread that ends with the run. If the system allows no more of them, the run ends now.
    fn start_thread(&self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match spawn(name, body) {
            Ok(handle) => self.monitors.lock().unwrap_or_else(PoisonError::into_inner).push(handle),
            Err(error) => {
                self.abort();
                self.finish();
                return Err(error);
            }
        }
        Ok(())
    }

    /// The shard that an event loop drives; with [`RunConfig::external_loop`] alone.
    pub fn external_loop(&self) -> Option<ExternalLoop> {
        self.shards.first().map(|shard| ExternalLoop::new(Arc::clone(shard)))
    }

    /// How many threads are to call [`ServerRun::work`].
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The body of worker thread `index`. Returns when the run is over.
    pub fn work<G: Gateway>(&self, index: usize, gateway: &mut G) {
        worker::work(&self.shards, index % self.shards.len().max(1), gateway);
    }

    /// Begins a graceful end and returns at once: no client is accepted, idle connections close, and what runs is finished within
    /// the graceful timeout.
    pub fn stop(&self) {
        self.enter(Phase::Draining);
    }

    /// Leaves the clients to other processes and returns at once: no client is accepted, and each connection is handed over when it
    /// waits for a request. The run is over when none is left, or after the graceful timeout.
    pub fn retire(&self) {
        self.enter(Phase::Retiring);
    }

    /// Drops unfinished connections. Returns at once.
    pub fn abort(&self) {
        self.enter(Phase::Aborting);
    }

    fn enter(&self, phase: Phase) {
        for shard in &self.shards {
            shard.queues.enter(phase);
        }
    }

    /// Has every poller served for a moment, so that an idle one shows by its heartbeat that it is alive.
    pub fn wake(&self) {
        for shard in &self.shards {
            shard.queues.waker().wake();
        }
    }

    /// Whether the run is over, though a worker may still be inside the application.
    pub fn is_over(&self) -> bool {
        self.shards.iter().all(|shard| shard.queues.is_stopped())
    }

    /// Connections that a stop still waits for.
    pub fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.queues.draining()).sum()
    }

    /// Ends what is left when the workers have returned or were given up. Blocks for a moment: call it detached.
    pub fn finish(&self) {
        self.enter(Phase::Stopped);
        let monitors = std::mem::take(&mut *self.monitors.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(signal) = self.in_flight.start_signal() {
            signal.wake();
        }
        for monitor in monitors {
            // It may be between two of its looks.
            monitor.thread().unpark();
            // A monitor that panicked has been reported by the panic itself.
            drop(monitor.join());
        }
        for shard in &self.shards {
            shard.clear();
        }
        if let Some(shard) = self.shards.first() {
            shard.context.reports.report_rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DescriptorBudget;

    #[test]
    fn clients_leave_descriptors_to_the_application() {
        assert_eq!(DescriptorBudget::of(Some(1024)), DescriptorBudget { connections: 640, files: 256 });
        assert_eq!(DescriptorBudget::of(Some(1)), DescriptorBudget { connections: 1, files: 0 });
        assert!(DescriptorBudget::of(None).connections > 1 << 30);
    }
}
