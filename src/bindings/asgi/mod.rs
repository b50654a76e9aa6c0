//! ASGI 3: a gateway of its own to the engine, driven by an asyncio loop on the loop's own thread.
//!
//! ```text
//! loop -> attendant (looks after the shard) -> call (one application call) -> running (the coroutine of its task)
//!                                              its receive and send -> awaitable -> http or websocket
//! ```

pub mod attendant;
mod awaitable;
pub mod call;
pub mod calls;
mod conversation;
mod http;
mod message;
mod names;
mod running;
pub mod scope;
mod socket_message;
mod sockets;
mod websocket;
