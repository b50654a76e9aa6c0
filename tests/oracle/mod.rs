//! What must hold of the server, as functions of arbitrary bytes that panic where it does not. The property tests, the
//! corpus and the fuzz targets all call the same ones.

pub mod application;
pub mod choices;
pub mod properties;
pub mod requests;
pub mod responses;
pub mod websocket;
