//! WSGI (PEP 3333): the environ, `start_response`, the input and the response of one call, and the gateway around them.

pub mod call;
mod call_objects;
pub mod calls;
pub mod environ;
pub mod file_wrapper;
pub mod gateway;
mod header_list;
pub mod input;
mod interruption;
mod template;
mod variables;
