//! What was agreed on with a client, for the application.

use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConnection};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::pem::{LineEnding, encode_string};

/// The facts of a session, which do not change once its handshake is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The number of the version: 0x0303 for TLS 1.2, 0x0304 for TLS 1.3.
    pub version: u16,
    /// The number of the cipher suite in IANA's registry.
    pub cipher_suite: u16,
    /// The suite's name in IANA's registry.
    pub cipher: String,
    /// The name that the client asked for (RFC 6066 §3).
    pub server_name: Option<String>,
    /// The client's certificate, which was verified, and those that came with it.
    pub client_chain: Vec<ClientCertificate>,
}

/// A certificate that a client has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The text form.
    pub pem: String,
    /// Whom it names (RFC 4514); `None`: it was verified, but its form is so unusual that this cannot be told.
    pub subject: Option<String>,
}

impl TlsFacts {
    /// Those of a session. `None`: its handshake is not done.
    pub fn of(session: &ServerConnection) -> Option<Self> {
        let version = session.protocol_version()?;
        let suite = session.negotiated_cipher_suite()?.suite();
        let chain = session.peer_certificates().unwrap_or_default();
        Some(Self {
            version: version.into(),
            cipher_suite: suite.into(),
            cipher: iana_name(suite.as_str().unwrap_or_default()),
            server_name: session.server_name().map(str::to_owned),
            client_chain: chain.iter().map(client_certificate).collect(),
        })
    }

    /// The version's name, such as `TLSv1.3`.
    pub fn version_name(&self) -> &'static str {
        match ProtocolVersion::from(self.version) {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "TLSv1.3",
        }
    }
}

// rustls names the suites of TLS 1.3 by its version.
fn iana_name(name: &str) -> String {
    name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
}

// Each certificate stays at its place: the first one is the client's.
fn client_certificate(der: &CertificateDer<'_>) -> ClientCertificate {
    // It fails for sizes that no certificate of a handshake has.
    let pem = encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default();
    let parsed = Certificate::from_der(der).ok();
    ClientCertificate { pem, subject: parsed.map(|certificate| certificate.tbs_certificate.subject.to_string()) }
}
