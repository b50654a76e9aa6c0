//! The vocabulary of HTTP: what both ends of the corridor speak of. It imports the standard library only.

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
