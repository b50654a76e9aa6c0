//! ASGI 3: a gateway of its own to the engine, driven by an asyncio loop on the loop's own thread.
//!
//! ```text
//! loop -> driver (looks after the shard) -> call (one application call) -> running (the coroutine of its task)
//!                                              its receive and send -> awaitable -> http or websocket
//! ```

mod awaitable;
pub mod call;
pub mod calls;
mod http;
pub mod loop_driver;
mod message;
mod names;
mod run;
pub mod scope;
mod session;
mod socket_message;
mod sockets;
mod websocket;
