//! Sockets: addresses, listeners, connected streams and readiness. No HTTP, no Python, no threads.

pub mod address;
pub mod descriptor;
pub mod descriptor_queue;
pub mod listener;
pub mod outcome;
pub mod poller;
pub mod proxy_protocol;
pub mod shared_memory;
pub mod socket;
pub mod stream;
pub mod tls;
