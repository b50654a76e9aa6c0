//! Which thread runs a request: the queues, the permits, and what earlier calls tell of the next.

pub mod pool;
pub mod profile;
pub(in crate::engine) mod queue;
pub(in crate::engine) mod quota;
