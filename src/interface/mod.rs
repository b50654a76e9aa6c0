//! What requests and responses mean to applications (PEP 3333, ASGI 3), still as bytes: Python's objects are made elsewhere.

#![forbid(unsafe_code)]

pub mod cgi;
pub mod forwarded;
pub mod outgoing;
pub mod scope;
pub mod shape;
