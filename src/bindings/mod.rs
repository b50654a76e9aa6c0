//! Python's view of the engine: everything that touches an interpreter, and nothing else.

mod asgi;
mod errors;
mod ffi;
mod forks;
mod names;
mod options;
mod page;
mod reporter;
mod server;
mod stuck;
mod wsgi;

/// The extension module `wsgi._core`. `wsgi.server` is its public face.
// Every class below is safe to share between threads without the interpreter lock: all state is owned by one thread at a
// time or sits behind a lock of its own.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::asgi::awaitable::{ReceiveFn, SendFn};
    #[pymodule_export]
    use super::asgi::loop_driver::LoopDriver;
    #[pymodule_export]
    use super::forks::{adopt_orphans, fork_quietly, forked};
    #[pymodule_export]
    use super::options::access_log_directives;
    #[pymodule_export]
    use super::page::Page;
    #[pymodule_export]
    use super::server::{Run, Server};
    #[pymodule_export]
    use super::wsgi::file_wrapper::FileWrapper;
    #[pymodule_export]
    use super::wsgi::input::InputStream;
}
