//! The settings table's values as the engine's options.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::Failure;
use crate::engine::access_log::{AccessLog, Excluded, Format};
use crate::engine::gateway::Reporter;
use crate::engine::observe::Observer;
use crate::engine::options::Options;
use crate::http::limits::Limits;
use crate::net::address::Bind;
use crate::net::listener::{BindFailure, Listener, Opening};

/// Reads the attributes of a `wsgi.settings.Settings`, which has checked them.
pub struct Settings<'a, 'py>(pub &'a Bound<'py, PyAny>);

impl<'py> Settings<'_, 'py> {
    fn get<T>(&self, name: &str) -> PyResult<T>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        let value = self.0.getattr(name)?;
        let extracted: PyResult<T> = value.extract().map_err(Into::into);
        extracted.map_err(|error| PyValueError::new_err(format!("option {name}: {}", error.value(self.0.py()))))
    }

    fn seconds(&self, name: &str) -> PyResult<Duration> {
        let seconds: f64 = self.get(name)?;
        Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(format!("option {name}: {error}")))
    }

    /// The engine's options.
    pub fn options(&self) -> PyResult<Options> {
        Ok(Options {
            limits: Limits {
                request_line: self.get("max_request_line")?,
                header_fields: self.get("max_header_fields")?,
                header_size: self.get("max_header_size")?,
                body_size: self.get("max_body_size")?,
            },
            threads: self.get("threads")?,
            max_connections: self.get("max_connections")?,
            queue_limit: self.get("queue_limit")?,
            queue_timeout: self.seconds("queue_timeout")?,
            body_buffer: self.get("body_buffer")?,
            max_spool_size: self.get("max_spool_size")?,
            stream_bodies: self.get("stream_bodies")?,
            stream_chunked: self.get("stream_chunked")?,
            header_timeout: self.seconds("header_timeout")?,
            body_timeout: self.seconds("body_timeout")?,
            body_min_rate: self.get("body_min_rate")?,
            write_timeout: self.seconds("write_timeout")?,
            keep_alive: self.seconds("keep_alive")?,
            graceful_timeout: self.seconds("graceful_timeout")?,
        })
    }

    /// Opens the listening sockets.
    pub fn listeners(&self) -> PyResult<Vec<Listener>> {
        let opening = Opening {
            backlog: self.get("backlog")?,
            reuse_port: self.get("reuse_port")?,
            socket_mode: self.get("socket_mode")?,
        };
        let texts: Vec<String> = self.get("addresses")?;
        let mut binds = Vec::with_capacity(texts.len());
        for text in texts {
            let bind =
                Bind::parse(&text).map_err(|problem| PyValueError::new_err(format!("bind {text}: {problem}")))?;
            binds.push(bind);
        }
        let opened: Result<_, BindFailure> = Listener::open_all(&binds, &opening);
        Ok(opened.map_err(Failure::from)?)
    }

    /// The access log, if one is wanted.
    pub fn observers(&self, reporter: &Arc<dyn Reporter>) -> PyResult<Arc<[Box<dyn Observer>]>> {
        let Some(target) = self.get::<Option<PathBuf>>("access_log")? else { return Ok(Arc::new([])) };
        let format: String = self.get("access_log_format")?;
        let format = Format::parse(&format).map_err(|unknown| {
            PyValueError::new_err(format!("option access_log_format: {unknown} is not a directive that is known here"))
        })?;
        let excluded = Excluded(self.get("access_log_exclude")?);
        let sink: Box<dyn Write + Send> = if target.as_os_str() == "-" {
            Box::new(std::io::stdout())
        } else {
            let file: std::io::Result<File> = OpenOptions::new().create(true).append(true).open(&target);
            Box::new(file.map_err(|error| {
                PyValueError::new_err(format!("option access_log: cannot open {}: {error}", target.display()))
            })?)
        };
        let log = AccessLog::start(sink, format, excluded, Arc::clone(reporter))?;
        Ok(Arc::new([Box::new(log)]))
    }
}
