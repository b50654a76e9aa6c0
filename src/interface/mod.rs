//! Requests and responses as applications see them (PEP 3333, ASGI 3), as bytes: the bindings make Python objects of them.

#![forbid(unsafe_code)]

pub mod cgi;
pub mod forwarded;
pub mod outgoing;
pub mod scope;
pub mod shape;
