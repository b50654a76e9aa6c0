//! What is known of the bytes in a connection's socket.

use std::io;

use crate::engine::transport::Transport;
use crate::net::outcome::ReadOutcome;

/// Whether there may be bytes in the socket that no event will announce.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Inflow {
    /// There are none until an event says otherwise.
    Dry,
    /// There may be some, in the socket or decrypted, until a read says that it took the last.
    Flowing,
    /// The client has closed its side: it must be read until it says so itself.
    Ending,
}

/// What a read came to.
pub(in crate::engine) enum Fill {
    /// So many bytes.
    Bytes(usize),
    /// None until an event says otherwise.
    Nothing,
    /// The client has closed its side.
    End,
    /// The connection is broken.
    Broken(io::Error),
}

impl Inflow {
    /// Notes a change of the socket.
    pub fn note(&mut self, readable: bool, ended: bool) {
        if ended {
            *self = Self::Ending;
        } else if readable && *self == Self::Dry {
            *self = Self::Flowing;
        }
    }

    /// Reads once, into `scratch`.
    pub fn fill(&mut self, transport: &Transport, scratch: &mut [u8]) -> Fill {
        if *self == Self::Dry {
            // What a record layer has to send of its own; a failure is found by the next read.
            drop(transport.stream().flush());
            return Fill::Nothing;
        }
        match transport.stream().read(scratch) {
            Ok(ReadOutcome { count: 0, .. }) => Fill::End,
            Ok(ReadOutcome { count, is_drained }) => {
                // Asking again would only cost a system call.
                if *self == Self::Flowing && is_drained {
                    *self = Self::Dry;
                }
                Fill::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *self = Self::Dry;
                Fill::Nothing
            }
            Err(error) => Fill::Broken(error),
        }
    }
}
