//! WSGI (PEP 3333): the environ, `start_response`, the input and the response of one call, and the gateway around them.

pub mod call;
mod call_objects;
pub mod calls;
pub mod environ;
pub mod file_wrapper;
pub mod gateway;
pub mod input;
mod template;
mod variables;
