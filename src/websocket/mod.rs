//! The WebSocket protocol (RFC 6455) with permessage-deflate (RFC 7692), on the server's side and without I/O: bytes and
//! instants in, messages, bytes to send and deadlines out. No socket, no clock, no thread.
//!
//! [`handshake`] accepts an upgrade, [`session`] is everything after it: it decodes ([`decoder`], [`deflate`]), bounds memory
//! ([`memory`]) and time ([`progress`], [`ping`]), and writes frames ([`frame`], [`close`]).

#![forbid(unsafe_code)]

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod memory;
pub mod ping;
pub mod progress;
pub mod session;
