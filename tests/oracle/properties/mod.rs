//! The properties, one for each pure room and one for the whole connection.

mod chunked;
mod connection;
mod encoder;
mod forwarded;
mod head;
mod outgoing;
mod proxy_protocol;
mod response;
mod target;
mod websocket;

pub use chunked::chunked;
pub use connection::connection;
pub use encoder::encoder;
pub use forwarded::forwarded;
pub use head::head;
pub use outgoing::outgoing;
pub use proxy_protocol::proxy_protocol;
pub use response::response;
pub use target::target;
pub use websocket::websocket;

use wsgi_core::http::limits::Limits;

/// Bounds that small inputs reach.
pub const TIGHT: Limits = Limits { request_line: 60, header_fields: 5, header_size: 200, body_size: 30 };

/// Two ways to cut `bytes` in pieces, which depend on them: single bytes, and uneven pieces.
fn cuts(bytes: &[u8]) -> [Vec<&[u8]>; 2] {
    let mut uneven = Vec::new();
    let mut rest = bytes;
    let mut seed = bytes.iter().fold(bytes.len(), |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + seed % 61).min(rest.len()));
        uneven.push(piece);
        rest = after;
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) >> 7;
    }
    [bytes.chunks(1).collect(), uneven]
}
