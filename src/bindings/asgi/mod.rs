//! ASGI 3: a gateway of its own to the engine, driven by an asyncio loop on the loop's own thread.
//!
//! ```text
//! loop -> loop_driver (drives the shard) -> run (the coroutine of a task) -> awaitable (receive, send)
//!      -> call (one application call) -> http or websocket
//!                                     -> event_loop (timers, the end of the turn, giving exchanges back)
//! ```

pub mod awaitable;
pub mod call;
pub mod calls;
mod event_loop;
mod http;
pub mod loop_driver;
mod message;
mod receive_event;
mod run;
pub mod scope;
mod send_event;
mod session;
mod websocket;
mod websocket_registry;
mod websocket_send;
