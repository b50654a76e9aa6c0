//! TLS for accepted connections: certificates by name, client certificates, session tickets, and new certificates while the
//! server runs. Nothing else knows rustls.

pub mod certificate;
pub mod facts;
pub mod session;
pub mod tickets;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use socket2::Socket;

use self::certificate::{CertificateError, CertificateFiles, Identity, certificates, is_world_readable, load};
use self::session::TlsStream;
use self::tickets::{TicketSecret, Tickets};
use crate::net::stream::Stream;

/// How often the files are looked at, while clients come.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long files that are of no use are left alone while they do not change.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Before an expiry, the operator is warned.
const WARN_BEFORE: [Duration; 2] = [Duration::from_secs(14 * 86_400), Duration::from_secs(3 * 86_400)];
/// Protocols below HTTP that ALPN offers (RFC 7301).
const HTTP1: &[u8] = b"http/1.1";

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientVerification {
    /// They are not asked.
    None,
    /// They are asked, and may have none.
    Optional,
    /// A client without a valid one is refused.
    Required,
}

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Certificates, of which the first is for clients that name no other.
    pub certificates: Vec<CertificateFiles>,
    /// A file whose first line is the password of encrypted keys.
    pub key_password_file: Option<PathBuf>,
    /// Authorities of client certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_verification: ClientVerification,
    /// Refuse TLS 1.2.
    pub is_tls13_only: bool,
}

/// What the certificates of a moment are, and what rustls makes of them.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    not_after: SystemTime,
    warnings: Vec<String>,
}

/// TLS as it is now.
pub struct Tls {
    options: TlsOptions,
    tickets: Arc<Tickets>,
    current: RwLock<Arc<ServerConfig>>,
    watch: Mutex<Watch>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("options", &self.options).finish_non_exhaustive()
    }
}

struct Watch {
    looked_at: Instant,
    states: Vec<FileState>,
    // The state whose load has failed, when that was, and what was told of it: it may have been for a lack of descriptors.
    failed: Option<(Vec<FileState>, Instant)>,
    told: Option<String>,
    not_after: SystemTime,
    warned: usize,
}

/// What changes when a file does: device, inode, length, and the change times of content and inode.
type FileState = Option<(u64, u64, u64, [i64; 4])>;

/// What a look at the files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsNews {
    /// New handshakes get new certificates.
    Reloaded(String),
    /// The new files are of no use: the former certificates stay.
    Failed(String),
    /// Something the operator should know of a certificate.
    Warning(String),
}

impl Tls {
    /// Loads the certificates. Gives what the operator should be warned of, too.
    ///
    /// # Errors
    /// A file is of no use: see [`load`].
    pub fn new(
        options: TlsOptions,
        secret: TicketSecret,
        now: SystemTime,
    ) -> Result<(Self, Vec<String>), CertificateError> {
        let unusable = || CertificateError {
            option: "certfile",
            file: PathBuf::new(),
            reason: "the keys of session tickets cannot be made".to_owned(),
        };
        let tickets = Arc::new(Tickets::new(secret).ok_or_else(unusable)?);
        let states = file_states(&options);
        let loaded = load_all(&options, &tickets, now)?;
        let (looked_at, not_after) = (Instant::now(), loaded.not_after);
        let watch = Watch { looked_at, states, failed: None, told: None, not_after, warned: 0 };
        let mut warnings = loaded.warnings;
        let tls = Self { options, tickets, current: RwLock::new(loaded.config), watch: Mutex::new(watch) };
        warnings.extend(tls.expiry_warning(now));
        Ok((tls, warnings))
    }

    /// Wraps an accepted socket in a session that uses the certificates of now. With `is_proxied`, plain bytes come first, until
    /// [`Stream::begin_tls`].
    pub fn accept(&self, socket: Socket, is_proxied: bool) -> io::Result<Stream> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        Ok(Stream::Tls(Box::new(TlsStream::new(socket, config, is_proxied)?)))
    }

    /// Looks whether the files have changed, at most once a second, and uses what is in them. To be called when a client comes,
    /// so that an idle server does not wake up for it.
    /// `time_of_day` is asked if something depends on it.
    pub fn look(&self, now: Instant, time_of_day: impl Fn() -> SystemTime) -> Option<TlsNews> {
        {
            let mut watch = self.watch.try_lock().ok()?;
            if now.saturating_duration_since(watch.looked_at) < LOOK_INTERVAL {
                return None;
            }
            watch.looked_at = now;
        }
        let states = file_states(&self.options);
        {
            let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            let is_failed = |(failed, at): &(Vec<FileState>, Instant)| {
                *failed == states && now.saturating_duration_since(*at) < RETRY_INTERVAL
            };
            if watch.states == states || watch.failed.as_ref().is_some_and(is_failed) {
                drop(watch);
                return self.expiry_warning(time_of_day()).map(TlsNews::Warning);
            }
        }
        match self.reload(now, time_of_day()) {
            // The same once more is no news.
            TlsNews::Failed(text) => {
                let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
                let is_news = watch.told.as_ref() != Some(&text);
                watch.told = Some(text.clone());
                is_news.then_some(TlsNews::Failed(text))
            }
            news => Some(news),
        }
    }

    // Reads the files again. If they are of no use, what is in memory stays.
    fn reload(&self, now: Instant, time: SystemTime) -> TlsNews {
        let states = file_states(&self.options);
        let loaded = load_all(&self.options, &self.tickets, time);
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(loaded) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded.config;
                (watch.states, watch.failed, watch.told) = (states, None, None);
                (watch.not_after, watch.warned) = (loaded.not_after, 0);
                TlsNews::Reloaded("new certificates are in use for new connections".to_owned())
            }
            Err(error) => {
                watch.failed = Some((states, now));
                TlsNews::Failed(format!("the former certificates stay in use: {error}"))
            }
        }
    }

    fn expiry_warning(&self, now: SystemTime) -> Option<String> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let left = watch.not_after.duration_since(now).unwrap_or(Duration::ZERO);
        let due = WARN_BEFORE.iter().filter(|before| left <= **before).count();
        if due <= watch.warned {
            return None;
        }
        watch.warned = due;
        Some(match left.as_secs() / 86_400 {
            0 if left.is_zero() => "a certificate has expired; renew it".to_owned(),
            0 => "a certificate expires within a day; renew it".to_owned(),
            1 => "a certificate expires in 1 day; renew it".to_owned(),
            days => format!("a certificate expires in {days} days; renew it"),
        })
    }
}

fn file_states(options: &TlsOptions) -> Vec<FileState> {
    let files = options.certificates.iter().flat_map(|files| [&files.chain, &files.key]);
    files.chain(&options.client_ca).chain(&options.key_password_file).map(|file| file_state(file)).collect()
}

fn file_state(file: &Path) -> FileState {
    let found = std::fs::metadata(file).ok()?;
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    Some((found.dev(), found.ino(), found.len(), times))
}

fn load_all(options: &TlsOptions, tickets: &Arc<Tickets>, now: SystemTime) -> Result<Loaded, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    let password = options.key_password_file.as_deref().map(read_password).transpose()?;
    let mut identities = Vec::new();
    let mut warnings = Vec::new();
    for files in &options.certificates {
        identities.push(load(files, password.as_deref(), &provider, now)?);
        if is_world_readable(&files.key) {
            let key = files.key.display();
            warnings.push(format!("every user of this machine can read the private key {key}: chmod 600 {key}"));
        }
    }
    let not_after = identities.iter().map(|identity| identity.not_after).min().unwrap_or(now);
    let config = server_config(options, &provider, identities, tickets)?;
    Ok(Loaded { config: Arc::new(config), not_after, warnings })
}

fn read_password(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |reason| CertificateError { option: "key_password_file", file: file.to_owned(), reason };
    let bytes = certificate::read(file).map_err(failed)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

fn server_config(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    identities: Vec<Identity>,
    tickets: &Arc<Tickets>,
) -> Result<ServerConfig, CertificateError> {
    let versions: &[&SupportedProtocolVersion] = if options.is_tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let client_ca = options.client_ca.clone().unwrap_or_default();
    let failed = |reason: String| CertificateError { option: "client_ca", file: client_ca.clone(), reason };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| failed(error.to_string()))?;
    let builder = if options.client_verification == ClientVerification::None {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&client_ca, "client_ca")? {
            roots.add(certificate).map_err(|error| failed(format!("holds a certificate of no use: {error}")))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let verifier = if options.client_verification == ClientVerification::Optional {
            verifier.allow_unauthenticated()
        } else {
            verifier
        };
        builder.with_client_cert_verifier(verifier.build().map_err(|error| failed(error.to_string()))?)
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(identities)));
    config.alpn_protocols = vec![HTTP1.to_vec()];
    if options.client_verification == ClientVerification::None {
        config.ticketer = Arc::clone(tickets) as _;
    } else {
        // A ticket carries the client's certificate, which would not be verified again: not by a server with other authorities, nor
        // once it has expired.
        config.send_tls13_tickets = 0;
    }
    // A session that a client resumes by its identifier is known to one process only.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

type Keys = Vec<Arc<CertifiedKey>>;

// Certificates by the name that a client asks for (RFC 6066 §3). Several can be for the same name, with keys of different kinds.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Keys>,
    // By what follows the first label.
    wildcards: HashMap<String, Keys>,
    default: Keys,
}

impl ByName {
    fn new(identities: Vec<Identity>) -> Self {
        let default = identities.first().map(|first| first.names.clone());
        let mut by_name = Self { exact: HashMap::new(), wildcards: HashMap::new(), default: Keys::new() };
        for identity in identities {
            if default.as_ref() == Some(&identity.names) {
                by_name.default.push(Arc::clone(&identity.key));
            }
            for name in identity.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut by_name.wildcards, rest.to_owned()),
                    None => (&mut by_name.exact, name),
                };
                map.entry(name).or_default().push(Arc::clone(&identity.key));
            }
        }
        by_name
    }

    // In the order of the options.
    fn candidates(&self, name: Option<&str>) -> &Keys {
        let name = name.map(str::to_ascii_lowercase);
        let found = name.as_deref().and_then(|name| {
            let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(by_wildcard)
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(client_hello.server_name());
        let fits =
            |candidate: &&Arc<CertifiedKey>| candidate.key.choose_scheme(client_hello.signature_schemes()).is_some();
        candidates.iter().find(fits).cloned()
    }
}

#[cfg(test)]
mod tests;
