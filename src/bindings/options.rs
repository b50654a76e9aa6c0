//! Reads `wsgi.settings.Settings` into the engine's options.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::PythonError;
use crate::engine::access_log::{DIRECTIVES, Excluded, Format};
use crate::engine::clock::time_of_day;
use crate::engine::log_source::LogSource;
use crate::engine::options::{Options, RequestTimeout, TimeoutAction, WebSocketOptions};
use crate::engine::origins::Origins;
use crate::http::head::RequestHead;
use crate::http::limits::Limits;
use crate::http::origin::{Client, ForwardedField, Origin, Scheme};
use crate::http::reject::Reject;
use crate::http::trust::Trust;
use crate::interface::forwarded::Forwarding;
use crate::net::address::Bind;
use crate::net::listener::{BindFailure, Listener, Opening};
use crate::net::proxy_protocol::AcceptedVersion;
use crate::net::tls::certificate::CertificateFiles;
use crate::net::tls::tickets::TicketSecret;
use crate::net::tls::{ClientVerification, Tls, TlsOptions};

impl Origins for Forwarding {
    fn origin(&self, head: &RequestHead, peer: Client, scheme: Option<Scheme>) -> Result<Origin, Reject> {
        Forwarding::origin(self, head, peer, scheme)
    }
}

/// The directives of `access_log_format`, each with its meaning.
#[pyfunction]
pub fn access_log_directives() -> Vec<(&'static str, &'static str)> {
    DIRECTIVES.to_vec()
}

// One for the whole process: workers that are forked resume each other's sessions, and those of a server before a reload.
fn ticket_secret(now: SystemTime) -> Option<TicketSecret> {
    static SECRET: OnceLock<Option<TicketSecret>> = OnceLock::new();
    SECRET.get_or_init(|| TicketSecret::random(now)).clone()
}

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
        let trusted = self.trusted()?;
        let proxy_protocol = self.proxy_protocol()?;
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
            origins: self.origins(&trusted, proxy_protocol)?,
            trusted,
            proxy_protocol,
            pathsend: self.get("pathsend")?,
            root_path: self.get::<String>("root_path")?.into_bytes(),
            request_timeout: self.request_timeout()?,
            websocket: WebSocketOptions {
                max_message: self.get("websocket_max_message")?,
                queue_size: self.get("websocket_queue_size")?,
                memory: self.get("websocket_memory")?,
                ping_interval: self.seconds("websocket_ping_interval")?,
                ping_timeout: self.seconds("websocket_ping_timeout")?,
                compression: self.get("websocket_compression")?,
            },
        })
    }

    fn trusted(&self) -> PyResult<Trust> {
        let entries: Vec<String> = self.get("trusted_proxies")?;
        Trust::parse(entries.iter().map(String::as_str))
            .map_err(|entry| PyValueError::new_err(format!("option trusted_proxies: {entry} is no address or network")))
    }

    fn proxy_protocol(&self) -> PyResult<Option<AcceptedVersion>> {
        let text: String = self.get("proxy_protocol")?;
        match text.as_str() {
            "off" => Ok(None),
            "v1" => Ok(Some(AcceptedVersion::V1)),
            "v2" => Ok(Some(AcceptedVersion::V2)),
            "any" => Ok(Some(AcceptedVersion::Any)),
            _ => Err(PyValueError::new_err(format!("option proxy_protocol: {text} is no version"))),
        }
    }

    fn request_timeout(&self) -> PyResult<Option<RequestTimeout>> {
        let (after, action): (_, String) = (self.seconds("request_timeout")?, self.get("request_timeout_action")?);
        let action = match action.as_str() {
            "log" => TimeoutAction::Log,
            "interrupt" => TimeoutAction::Interrupt,
            "recycle" => TimeoutAction::Recycle,
            _ => return Err(PyValueError::new_err(format!("option request_timeout_action: {action} is no action"))),
        };
        Ok((!after.is_zero()).then_some(RequestTimeout { after, action }))
    }

    // Without trusted proxies no field is read.
    fn origins(&self, trusted: &Trust, proxy_protocol: Option<AcceptedVersion>) -> PyResult<Option<Arc<dyn Origins>>> {
        if trusted.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = self.get("forwarded_fields")?;
        let mut fields = Vec::with_capacity(names.len());
        for name in names {
            let unknown = || PyValueError::new_err(format!("option forwarded_fields: {name} is not known here"));
            let field = ForwardedField::of(name.as_bytes()).ok_or_else(unknown)?;
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        // With the PROXY protocol every peer is a proxy, which does not make every client behind it one.
        let trust = if proxy_protocol.is_some() { trusted.clone().listed() } else { trusted.clone() };
        Ok(Some(Arc::new(Forwarding { trust, hops: self.get("forwarded_hops")?, fields })))
    }

    /// TLS, if there is a certificate, and what the operator is to be warned of.
    pub fn tls(&self) -> PyResult<(Option<Arc<Tls>>, Vec<String>)> {
        let chains: Vec<PathBuf> = self.get("certfile")?;
        if chains.is_empty() {
            return Ok((None, Vec::new()));
        }
        let keys: Vec<PathBuf> = self.get("keyfile")?;
        // Without key files the chain's file holds the key, too.
        let keys = if keys.is_empty() { chains.clone() } else { keys };
        let verification: String = self.get("client_verify")?;
        let options = TlsOptions {
            certificates: chains.into_iter().zip(keys).map(|(chain, key)| CertificateFiles { chain, key }).collect(),
            key_password_file: self.get("key_password_file")?,
            client_ca: self.get("client_ca")?,
            client_verification: match verification.as_str() {
                "optional" => ClientVerification::Optional,
                "required" => ClientVerification::Required,
                _ => ClientVerification::None,
            },
            is_tls13_only: self.get::<String>("tls_min")? == "1.3",
        };
        let now = time_of_day();
        let secret = ticket_secret(now).ok_or_else(|| PyValueError::new_err("the system has no random numbers"))?;
        let (tls, warnings) =
            Tls::new(options, secret, now).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok((Some(Arc::new(tls)), warnings))
    }

    /// Opens the listening sockets, whose clients speak TLS if there is `tls` and their address does not say otherwise. Those of
    /// `open` that are wanted are kept.
    pub fn listeners(&self, tls: Option<&Arc<Tls>>, open: &[Arc<Listener>]) -> PyResult<Vec<Arc<Listener>>> {
        let opening = Opening {
            backlog: self.get("backlog")?,
            reuse_port: self.get("reuse_port")?,
            socket_mode: self.get("socket_mode")?,
        };
        let texts: Vec<String> = self.get("addresses")?;
        let mut binds = Vec::with_capacity(texts.len());
        for text in texts {
            // Without a scheme an address is for TLS if there is a certificate.
            let (address, tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
                (Some(address), _) => (address, None),
                (_, Some(address)) => (address, tls),
                (None, None) => (&*text, tls),
            };
            let bind =
                Bind::parse(address).map_err(|problem| PyValueError::new_err(format!("bind {text}: {problem}")))?;
            binds.push((bind, tls.cloned()));
        }
        let opened: Result<_, BindFailure> = Listener::open_all(&binds, &opening, open);
        Ok(opened.map_err(PythonError::from)?)
    }

    /// The access log, if one is wanted.
    pub fn access_log(&self) -> PyResult<Option<LogSource>> {
        // Checked also where no log is written, so that a mistake shows before the log is needed.
        let format: String = self.get("access_log_format")?;
        let format = Format::parse(&format)
            .map_err(|problem| PyValueError::new_err(format!("option access_log_format: {problem}")))?;
        let Some(path) = self.get::<Option<PathBuf>>("access_log")? else { return Ok(None) };
        let excluded = Excluded(self.get("access_log_exclude")?);
        if path.as_os_str() == "-" {
            return Ok(Some(LogSource::stdout(format, excluded)));
        }
        let source = LogSource::file(&path, format, excluded).map_err(|error| {
            PyValueError::new_err(format!("option access_log: cannot open {}: {error}", path.display()))
        })?;
        Ok(Some(source))
    }
}
