//! The core of an HTTP/1.1 server for Python's WSGI and ASGI applications. docs/architecture.md tells which module does what.

pub mod engine;
pub mod http;
pub mod http1;
pub mod interface;
pub mod net;
pub mod websocket;

#[cfg(feature = "python")]
mod bindings;
