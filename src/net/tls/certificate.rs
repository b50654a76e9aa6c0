//! Certificates and private keys in PEM files, checked before a client meets them.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The most that is read of a file: a chain of certificates has a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, and those that lead from it to its authority.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a file is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateError {
    /// The option that names the file.
    pub option: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong, and how to mend it.
    pub reason: String,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {}: {}: {}", self.option, self.file.display(), self.reason)
    }
}

/// A certificate that the server can show.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its files.
    pub files: CertificateFiles,
    /// Chain and key, for rustls.
    pub key: Arc<CertifiedKey>,
    /// The names that it is for, in lower case. The first label of one may be `*`.
    pub names: Vec<String>,
    /// When it expires.
    pub not_after: SystemTime,
}

/// Reads a chain and its key.
///
/// # Errors
/// A file cannot be read, is no PEM, is encrypted and `password` is missing or wrong; the chain is out of order or has expired;
/// the key belongs to another certificate.
pub fn load(
    files: &CertificateFiles,
    password: Option<&[u8]>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Identity, CertificateError> {
    let failed = |reason: String| CertificateError { option: "certfile", file: files.chain.clone(), reason };
    let chain = certificates(&files.chain, "certfile")?;
    let parsed = chain.iter().map(parse).collect::<Result<Vec<_>, _>>().map_err(&failed)?;
    let first = parsed.first().ok_or_else(|| failed("holds no certificate".to_owned()))?;
    check_order(&parsed).map_err(&failed)?;
    let validity = &first.tbs_certificate.validity;
    let (not_before, not_after) = (validity.not_before.to_system_time(), validity.not_after.to_system_time());
    if not_after <= now {
        return Err(failed(format!("the certificate expired on {}; renew it", date(not_after))));
    }
    if not_before > now {
        let text = format!("the certificate is valid from {} on; check the clock of this machine", date(not_before));
        return Err(failed(text));
    }
    let names = names(first).map_err(&failed)?;
    let key = private_key(&files.key, password)?;
    let failed = |reason: String| CertificateError { option: "keyfile", file: files.key.clone(), reason };
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        failed(match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("is not the key of the certificate in {}", files.chain.display())
            }
            error => format!("holds no usable private key: {error}"),
        })
    })?;
    Ok(Identity { files: files.clone(), key: Arc::new(key), names, not_after })
}

/// The certificates in a PEM file, at least one.
pub fn certificates(file: &Path, option: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let failed = |reason: String| CertificateError { option, file: file.to_owned(), reason };
    let bytes = read(file).map_err(&failed)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if bytes.first() == Some(&0x30) => {
            let command = format!("openssl x509 -inform DER -in {} -out cert.pem", file.display());
            Err(failed(format!("is DER, and PEM is needed; convert it: {command}")))
        }
        Ok(_) => Err(failed("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned())),
        Err(error) => Err(failed(format!("is damaged: {}", pem_problem(&error)))),
    }
}

/// Whether other users of the machine can read a key.
pub fn is_world_readable(key: &Path) -> bool {
    fs::metadata(key).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// The content of a file of a sensible size. The error says what is wrong with it.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let cannot_read = |error: io::Error| format!("cannot be read: {error}");
    let found = fs::metadata(file).map_err(cannot_read)?;
    if !found.is_file() {
        // A pipe would keep the server waiting when it is read again.
        return Err("is no file".to_owned());
    }
    if found.len() > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes, which no chain or key is"));
    }
    fs::read(file).map_err(cannot_read)
}

fn parse(der: &CertificateDer<'_>) -> Result<Certificate, String> {
    Certificate::from_der(der).map_err(|error| format!("a certificate is damaged: {error}"))
}

// Each certificate is issued by the next one.
fn check_order(chain: &[Certificate]) -> Result<(), String> {
    for (index, pair) in chain.windows(2).enumerate() {
        let (this, next) = (&pair[0].tbs_certificate, &pair[1].tbs_certificate);
        if this.issuer != next.subject {
            return Err(format!(
                "certificate {} of the file was issued by {:?}, and the next one is {:?}: put the server's certificate first, and \
                 each certificate's issuer behind it",
                index + 1,
                this.issuer.to_string(),
                next.subject.to_string()
            ));
        }
    }
    Ok(())
}

fn names(certificate: &Certificate) -> Result<Vec<String>, String> {
    let found = certificate
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|error| format!("its names are damaged: {error}"))?;
    let SubjectAltName(names) = found.map_or_else(|| SubjectAltName(Vec::new()), |(_, names)| names);
    let name = |name: GeneralName| {
        if let GeneralName::DnsName(name) = name { Some(name.as_str().to_ascii_lowercase()) } else { None }
    };
    Ok(names.into_iter().filter_map(name).collect())
}

fn private_key(file: &Path, password: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let failed = |reason: String| CertificateError { option: "keyfile", file: file.to_owned(), reason };
    let bytes = read(file).map_err(&failed)?;
    if bytes.windows(9).any(|window| window == b"DEK-Info:") {
        // Its cipher is weak, and its password is tried a million times a second.
        let command = format!("openssl pkcs8 -topk8 -in {} -out key.pem", file.display());
        return Err(failed(format!("is encrypted in the legacy form of PEM; convert it: {command}")));
    }
    let mut rest = bytes.as_slice();
    loop {
        match pem::from_buf(&mut rest) {
            Ok(Some((SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _))) => {
                return PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|error| failed(format!("is damaged: {}", pem_problem(&error))));
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => return Err(failed(format!("is damaged: {}", pem_problem(&error)))),
        }
    }
    // rustls knows no encrypted keys.
    match (encrypted_section(&bytes), password) {
        (Some(_), None) => Err(failed("is encrypted: name the file with its password by key_password_file".to_owned())),
        (Some(text), Some(password)) => decrypt(text, password).map_err(failed),
        (None, _) if bytes.first() == Some(&0x30) => {
            let command = format!("openssl pkey -inform DER -in {} -out key.pem", file.display());
            Err(failed(format!("is DER, and PEM is needed; convert it: {command}")))
        }
        (None, _) => Err(failed("holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned())),
    }
}

fn encrypted_section(bytes: &[u8]) -> Option<&str> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let text = std::str::from_utf8(bytes).ok()?;
    let section = &text[text.find(BEGIN)?..];
    Some(&section[..section.find(END)? + END.len()])
}

fn decrypt(text: &str, password: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
    let (_, document) = SecretDocument::from_pem(text).map_err(|error| format!("is damaged: {error}"))?;
    let key = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|error| format!("is damaged, or encrypted by a method that is not supported: {error}"))?;
    let plain =
        key.decrypt(password).map_err(|_| "cannot be decrypted: check the password in key_password_file".to_owned())?;
    Ok(PrivateKeyDer::Pkcs8(plain.as_bytes().to_vec().into()))
}

fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end (-----END ...-----)".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly".to_owned(),
        pem::Error::Base64Decode(_) => "a section is no base64".to_owned(),
        other => other.to_string(),
    }
}

// Such as 2026-11-30.
fn date(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    x509_cert::der::DateTime::from_unix_duration(since).map_or_else(
        |_| "an unknown date".to_owned(),
        |date| format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
    )
}
