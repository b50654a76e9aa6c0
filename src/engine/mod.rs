//! Threads: the pipeline that a request goes through, the shard with its poller, and the workers that answer.

pub mod access_log;
pub mod clock;
pub mod connection;
pub mod context;
pub mod exchange;
pub mod gateway;
mod log_format;
pub mod log_source;
pub mod monitor;
pub mod observe;
pub mod options;
pub mod origins;
pub mod page;
pub mod report;
pub mod request_limit;
pub mod scheduling;
pub mod server;
pub mod shard;
mod sync;
#[cfg(any(test, feature = "doubles"))]
pub mod testkit;
pub mod thread;
pub mod transport;
pub mod watchdog;
pub mod worker;
