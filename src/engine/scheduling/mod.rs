//! What decides when and where a request runs: permits and queue places, queues, and what earlier calls tell of the next.

pub mod capacity;
pub mod monitor_signal;
pub mod profile;
pub(in crate::engine) mod queue;
pub(in crate::engine) mod quota;
pub(in crate::engine) mod stall;
