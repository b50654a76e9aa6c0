//! Threads that the engine starts itself; worker threads are Python's.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread. An error means that the system allows no more of them.
#[expect(clippy::disallowed_methods, reason = "the one place where the engine starts threads")]
pub fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(body)
}
