//! Where an exchange belongs.

/// The connection of an exchange, and the exchange's number on it. A slot of the shard's table has a new generation for each
/// connection, so that what comes back late for a closed connection is not taken for the next one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The number of the shard.
    pub shard: usize,
    /// The connection's slot in the shard's table.
    pub slot: usize,
    /// The slot's generation.
    pub generation: u32,
    /// The number of the exchange on its connection: the stream of a protocol that has several at a time, else a count.
    pub stream: u32,
}

impl Ticket {
    /// Whether both belong to the same connection.
    pub fn is_same_connection(&self, other: &Self) -> bool {
        (self.shard, self.slot, self.generation) == (other.shard, other.slot, other.generation)
    }

    /// The ticket of the next exchange on the same connection.
    pub(in crate::engine) fn next(self) -> Self {
        Self { stream: self.stream.wrapping_add(1), ..self }
    }
}
