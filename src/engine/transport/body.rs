//! Request bodies as a gateway gets them: whole, as `intake` has collected them, or read off the socket as the application asks
//! ([`BodyStream`]).

pub use crate::engine::transport::body_stream::{Arrived, BodyFailure, BodyStream};
use crate::engine::transport::spool::{MemoryReservation, SpoolFile};

/// A request body as the application's gateway gets it.
pub enum Body {
    /// No byte.
    Empty,
    /// Complete, in memory, of which some may be reserved.
    Memory(Vec<u8>, MemoryReservation),
    /// Complete, in an unlinked file whose position is its beginning.
    File(SpoolFile),
    /// Still arriving.
    Stream(Box<BodyStream>),
}
