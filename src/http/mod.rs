//! The vocabulary of HTTP, which all other modules share. It imports the standard library only.

#![forbid(unsafe_code)]

pub mod date;
pub mod fields;
pub mod head;
pub mod limits;
pub mod number;
pub mod origin;
pub mod reject;
pub mod status;
pub mod target;
pub mod trust;
