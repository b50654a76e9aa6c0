//! The WebSocket protocol (RFC 6455) with permessage-deflate (RFC 7692), as a server speaks it: bytes and values in,
//! bytes and values out. No socket, no clock, no thread.

#![forbid(unsafe_code)]

pub mod close;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod memory;
pub mod pulse;
pub mod receive;
