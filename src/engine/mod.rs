//! Threads: the corridor that a request walks, the shard with its poller, and the workers that answer.

pub mod access_log;
pub mod body;
mod body_stream;
pub mod clock;
pub mod connection;
pub mod crew;
mod doors;
mod draining;
mod ending;
pub mod exchange;
pub mod gateway;
pub mod in_flight;
pub mod learning;
mod line;
mod log_format;
pub mod looped;
pub mod monitor;
pub mod observe;
pub mod options;
pub mod output;
pub mod pace;
pub mod patience;
mod proxied;
pub mod reactor;
pub mod server;
pub mod shard;
pub mod site;
mod slots;
pub mod spool;
mod sync;
mod timers;
pub mod wire;
pub mod workers;

#[cfg(test)]
mod conversations;
#[cfg(any(test, feature = "doubles"))]
pub mod doubles;
#[cfg(test)]
mod fault_tests;
#[cfg(models)]
#[cfg(test)]
mod order_tests;
#[cfg(any(test, feature = "doubles"))]
pub mod rig;
