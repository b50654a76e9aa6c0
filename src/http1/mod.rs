//! HTTP/1.1 as bytes: heads and bodies are read into the vocabulary of `http`, responses are written out of it.

#![forbid(unsafe_code)]

pub mod body;
pub mod encoder;
pub mod framing;
pub mod parse;
pub mod plan;
pub mod reuse;
