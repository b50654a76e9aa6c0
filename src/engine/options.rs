//! The engine's options, in one value.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::origins::Origins;
use crate::http::limits::Limits;
use crate::http::trust::Trust;
use crate::net::proxy_protocol::AcceptedVersion;

/// The operator's decisions. The defaults are those of `wsgi.settings`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest request.
    pub limits: Limits,
    /// The most requests that run at the same time.
    pub threads: usize,
    /// The most connections that are open at the same time.
    pub max_connections: usize,
    /// The most complete requests that wait for a thread; one more is answered 503.
    pub queue_limit: usize,
    /// How long a complete request may wait for a thread before it is answered 503.
    pub queue_timeout: Duration,
    /// Bytes of a body that is read before the application runs that are kept in memory; more go to a temporary file.
    pub body_buffer: usize,
    /// Bytes that all temporary files may hold together.
    pub max_spool_size: u64,
    /// Hand bodies larger than the buffer to the application as they arrive.
    pub stream_bodies: bool,
    /// Hand chunked bodies to the application as they arrive, without a length.
    pub stream_chunked: bool,
    /// From the first byte of a head (or the connection's beginning) to the head's end.
    pub header_timeout: Duration,
    /// The longest pause within a body.
    pub body_timeout: Duration,
    /// The lowest average rate of a body in bytes per second; 0 for none.
    pub body_min_rate: u64,
    /// The longest time in which a client takes nothing of its response.
    pub write_timeout: Duration,
    /// How long an idle connection is kept; zero closes after each response.
    pub keep_alive: Duration,
    /// How long a stop waits for what runs.
    pub graceful_timeout: Duration,
    /// The proxies that may name their clients.
    pub trusted: Trust,
    /// The PROXY protocol version with whose header every connection begins.
    pub proxy_protocol: Option<AcceptedVersion>,
    /// Interprets the fields in which proxies name their clients.
    pub origins: Option<Arc<dyn Origins>>,
    /// Offer ASGI applications to send files by their path.
    pub pathsend: bool,
    /// The prefix that a proxy removes from every path, in UTF-8 and not escaped; empty: none.
    pub root_path: Vec<u8>,
    /// What is done with calls of the application that take too long.
    pub request_timeout: Option<RequestTimeout>,
    /// The options of WebSockets.
    pub websocket: WebSocketOptions,
}

/// The longest time in which an application may give nothing of a response, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimeout {
    /// The time, from the call to the head of its response, and then between pieces.
    pub after: Duration,
    /// What follows.
    pub action: TimeoutAction,
}

/// What is done with a call that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutAction {
    /// It is reported.
    Log,
    /// Its client is answered 504, and an exception is raised in it.
    Interrupt,
    /// Its client is answered 504, and the process is replaced.
    Recycle,
}

/// The options of WebSockets.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// The largest message from a client, in bytes.
    pub max_message: usize,
    /// Bytes of messages that wait for the application on one connection before no more are read.
    pub queue_size: usize,
    /// Bytes of messages, whole and unfinished, that all connections may hold together.
    pub memory: usize,
    /// A client that has sent nothing for this long is pinged; zero for never.
    pub ping_interval: Duration,
    /// The longest wait for the pong.
    pub ping_timeout: Duration,
    /// Accept permessage-deflate.
    pub compression: bool,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            max_message: 16 << 20,
            queue_size: 256 * 1024,
            memory: 256 << 20,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
            compression: true,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            threads: 16,
            max_connections: 10_000,
            queue_limit: 1000,
            queue_timeout: Duration::from_secs(30),
            body_buffer: 64 * 1024,
            max_spool_size: 4 << 30,
            stream_bodies: false,
            stream_chunked: false,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_min_rate: 500,
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            graceful_timeout: Duration::from_secs(30),
            trusted: Trust::default(),
            proxy_protocol: None,
            origins: None,
            pathsend: false,
            root_path: Vec::new(),
            request_timeout: None,
            websocket: WebSocketOptions::default(),
        }
    }
}

/// The `Server` field of responses whose application sets none.
pub const SERVER: &[u8] = b"wsgi-server";
