//! The seam to the header fields in which proxies name the client.

use std::fmt::Debug;

use crate::http::head::RequestHead;
use crate::http::origin::{Client, Origin, Scheme};
use crate::http::reject::Reject;

/// Interprets the fields that proxies add to a request.
pub trait Origins: Debug + Send + Sync {
    /// Where a request comes from. `peer` is the other end of its connection, and `scheme` the scheme that was used there; a
    /// PROXY protocol header may have told both.
    fn origin(&self, head: &RequestHead, peer: Client, scheme: Option<Scheme>) -> Result<Origin, Reject>;
}
