//! What a connection that waits for a request consists of, beside its socket. From it the connection is made anew: when it was put
//! away, or in another process.

use std::time::Instant;

use crate::http::origin::{Client, Scheme};

/// Received bytes of an incomplete head that are kept. A connection with more of them is left as it is.
pub(in crate::engine) const MAX_INPUT_BYTES: usize = 8 * 1024;

/// A connection without its socket, between two requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct IdleConnection {
    /// Who sends.
    pub client: Client,
    /// How that client speaks to its proxy, where that tells it.
    pub scheme: Option<Scheme>,
    /// The number of the listener that it came through.
    pub listener: usize,
    /// It has had a response.
    pub is_served: bool,
    /// The header of a proxy is still to come.
    pub awaits_proxy_header: bool,
    /// Since when it waits.
    pub since: Instant,
    /// What has come of the next request, or of a proxy's header.
    pub input: Vec<u8>,
}
