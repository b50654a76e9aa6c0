use std::fs;
use std::io::{IoSlice, Read, Write};
use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use socket2::{Domain, Type};
use tempfile::TempDir;

use super::*;
use crate::net::outcome::{Presence, ReadOutcome};

// An authority, and what it has issued.
struct Pki {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, root: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "server");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn files(&self, name: &str, names: &[&str]) -> CertificateFiles {
        let (chain, key) = self.issue(names, |_| {});
        CertificateFiles {
            chain: self.write(&format!("{name}.pem"), &chain),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    fn options(&self, certificates: Vec<CertificateFiles>) -> TlsOptions {
        TlsOptions {
            certificates,
            key_password_file: None,
            client_ca: Some(self.folder.path().join("ca.pem")),
            client_verification: ClientVerification::None,
            is_tls13_only: false,
        }
    }

    fn tls(&self) -> Tls {
        made(self.options(vec![self.files("site", &["site.test"])]))
    }

    fn client_config(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP1.to_vec()];
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs())
}

fn secret() -> TicketSecret {
    TicketSecret::random(now()).unwrap()
}

fn made(options: TlsOptions) -> Tls {
    Tls::new(options, secret(), now()).unwrap().0
}

fn failure(options: TlsOptions) -> String {
    Tls::new(options, secret(), now()).unwrap_err().to_string()
}

// A client that is driven by hand, beside the server's end.
struct Pair {
    client: ClientConnection,
    wire: Socket,
    server: Stream,
}

impl Pair {
    fn new(tls: &Tls, config: &Arc<ClientConfig>, name: &'static str) -> Self {
        let (near, wire) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        near.set_nonblocking(true).unwrap();
        wire.set_nonblocking(true).unwrap();
        let client = ClientConnection::new(Arc::clone(config), ServerName::try_from(name).unwrap()).unwrap();
        Self { client, wire, server: tls.accept(near, false).unwrap() }
    }

    // Lets the client send and receive what it can.
    fn turn_client(&mut self) -> io::Result<()> {
        while self.client.wants_write() {
            match self.client.write_tls(&mut self.wire) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => drop(result?),
            }
        }
        loop {
            match self.client.read_tls(&mut self.wire) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {
                    self.client.process_new_packets().map_err(io::Error::other)?;
                }
            }
        }
    }

    // Reads at the server until something has come, or it fails.
    fn read(&mut self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        for _ in 0..100 {
            self.turn_client()?;
            match self.server.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn exchange(&mut self) {
        self.client.writer().write_all(b"request").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(self.read(&mut buffer).unwrap(), ReadOutcome { count: 7, is_drained: true });
        assert_eq!(self.server.write(&[IoSlice::new(b"resp"), IoSlice::new(b"onse")]).unwrap(), 8);
        self.turn_client().unwrap();
        let mut got = [0; 8];
        self.client.reader().read_exact(&mut got).unwrap();
        assert_eq!(&got, b"response");
    }
}

#[test]
fn client_of_either_version_is_answered_and_told_of_the_end() {
    let pki = Pki::new();
    let tls = pki.tls();
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(pki.client_config(&[version]));
        let mut pair = Pair::new(&tls, &config, "site.test");
        assert_eq!(pair.server.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        pair.exchange();
        assert!(pair.server.is_encrypted() && pair.server.pending() == 0);
        assert_eq!(pair.client.alpn_protocol(), Some(HTTP1));
        pair.server.finish_writing();
        pair.turn_client().unwrap();
        // The last record has come: this is no cut.
        assert_eq!(pair.client.reader().read(&mut [0; 8]).unwrap(), 0);
        pair.client.send_close_notify();
        assert_eq!(pair.read(&mut [0; 8]).unwrap().count, 0);
        assert_eq!(pair.server.presence(), Presence::Ended);
    }
}

#[test]
fn end_of_the_socket_without_a_last_record_is_an_error() {
    let pki = Pki::new();
    let mut pair = Pair::new(&pki.tls(), &Arc::new(pki.client_config(&[&TLS13])), "site.test");
    pair.exchange();
    pair.wire.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(pair.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn client_that_has_ended_its_side_is_seen_though_its_last_record_was_not_read() {
    let pki = Pki::new();
    let mut pair = Pair::new(&pki.tls(), &Arc::new(pki.client_config(&[&TLS13])), "site.test");
    pair.exchange();
    assert_eq!(pair.server.presence(), Presence::Here);
    pair.client.send_close_notify();
    pair.turn_client().unwrap();
    pair.wire.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(pair.server.presence(), Presence::Ended);
    assert_eq!(pair.read(&mut [0; 8]).unwrap().count, 0);
}

#[test]
fn large_content_passes_both_ways_in_pieces_of_any_size() {
    let pki = Pki::new();
    let mut pair = Pair::new(&pki.tls(), &Arc::new(pki.client_config(&[&TLS13])), "site.test");
    pair.exchange();
    let content: Vec<u8> =
        (0..1_000_000_u32).map(|number| number.to_le_bytes()[usize::from(number % 3 == 0)]).collect();
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..10_000 {
        match pair.server.write(&[IoSlice::new(&content[sent..])]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        if sent == content.len() && pair.server.flush().is_ok() && got.len() == content.len() {
            break;
        }
        pair.turn_client().ok();
        let mut block = vec![0; 100_000];
        while let Ok(count @ 1..) = pair.client.reader().read(&mut block) {
            got.extend_from_slice(&block[..count]);
        }
    }
    assert!(got == content && pair.server.pending() == 0);
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..10_000 {
        sent += pair.client.writer().write(&content[sent..]).unwrap();
        let mut block = vec![0; 1 + got.len() % 5000];
        let outcome = pair.read(&mut block).unwrap();
        got.extend_from_slice(&block[..outcome.count]);
        if got.len() == content.len() {
            break;
        }
    }
    assert!(got == content);
}

#[test]
fn plain_http_is_answered_in_plain_text_and_other_bytes_by_an_alert() {
    let pki = Pki::new();
    let tls = pki.tls();
    let config = Arc::new(pki.client_config(&[&TLS13]));
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"[..], &b"HTTP/1.1 400 "[..]),
        (b"\0\x01\x02\x03\x04\x05\x06\x07\x08", b"\x15\x03"),
    ] {
        let mut pair = Pair::new(&tls, &config, "site.test");
        pair.wire.write_all(bytes).unwrap();
        assert_eq!(pair.server.read(&mut [0; 99]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut answer = vec![0; 999];
        let count = pair.wire.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(expected), "{}", answer[..count].escape_ascii());
    }
    let body = String::from_utf8_lossy(super::session::PLAIN_HTTP);
    let (head, body) = body.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
}

#[test]
fn response_before_the_handshake_is_refused_and_nothing_is_held() {
    let pki = Pki::new();
    let pair = Pair::new(&pki.tls(), &Arc::new(pki.client_config(&[&TLS13])), "site.test");
    assert_eq!(pair.server.write(&[IoSlice::new(b"early")]).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(pair.server.pending(), 0);
}

#[test]
fn certificate_is_chosen_by_name_and_by_what_the_client_can_verify() {
    let pki = Pki::new();
    let files: Vec<_> =
        [("one", &["one.test", "first.test"][..]), ("two", &["*.two.test"]), ("exact", &["a.two.test"])]
            .iter()
            .map(|(name, names)| pki.files(name, names))
            .collect();
    let tls = made(pki.options(files.clone()));
    let config = Arc::new(pki.client_config(&[&TLS13]));
    for (name, index) in [("one.test", 0), ("FIRST.test", 0), ("b.two.test", 1), ("a.two.test", 2)] {
        let mut pair = Pair::new(&tls, &config, name);
        pair.exchange();
        let shown = pair.client.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, certificates(&files[index].chain, "certfile").unwrap()[0], "{name}");
    }
    // The first one is for names that none has, and the client does not take it.
    let mut pair = Pair::new(&tls, &config, "other.test");
    assert!(pair.read(&mut [0; 8]).is_err());
}

#[test]
fn session_is_resumed_by_every_server_with_the_same_secret() {
    let pki = Pki::new();
    let options = pki.options(vec![pki.files("site", &["site.test"])]);
    let secret = secret();
    let server = || Tls::new(options.clone(), secret.clone(), now()).unwrap().0;
    let (one, other) = (server(), server());
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(pki.client_config(&[version]));
        let kinds: Vec<_> = [&one, &other, &one, &pki.tls()]
            .iter()
            .map(|tls| {
                let mut pair = Pair::new(tls, &config, "site.test");
                pair.exchange();
                pair.client.handshake_kind().unwrap()
            })
            .collect();
        let [full, resumed] = [HandshakeKind::Full, HandshakeKind::Resumed];
        assert_eq!(kinds, [full, resumed, resumed, full]);
    }
}

#[test]
fn client_certificate_is_asked_for_verified_and_required() {
    use ClientVerification::{None, Optional, Required};
    let pki = Pki::new();
    let server = |verification| {
        let options = pki.options(vec![pki.files("site", &["site.test"])]);
        made(TlsOptions { client_verification: verification, ..options })
    };
    let with_certificate = |pki: &Pki, trusted: &Pki| {
        let (chain, key) = pki.issue(&["client.test"], |_| {});
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = certificates(&pki.write("client.pem", &chain), "").unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(trusted.root.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap()
    };
    let (without, with) = (pki.client_config(&[&TLS13]), with_certificate(&pki, &pki));
    let foreign = with_certificate(&Pki::new(), &pki);
    let accepts = |verification, config: &ClientConfig| {
        let mut pair = Pair::new(&server(verification), &Arc::new(config.clone()), "site.test");
        pair.client.writer().write_all(b"request").unwrap();
        pair.read(&mut [0; 99]).is_ok()
    };
    for (verification, expected) in
        [(None, [true; 3]), (Optional, [true, true, false]), (Required, [false, true, false])]
    {
        assert_eq!(
            [&without, &with, &foreign].map(|config| accepts(verification, config)),
            expected,
            "{verification:?}"
        );
    }
}

#[test]
fn client_certificate_is_verified_in_every_handshake() {
    let pki = Pki::new();
    let options = pki.options(vec![pki.files("site", &["site.test"])]);
    let verifying = TlsOptions { client_verification: ClientVerification::Optional, ..options.clone() };
    let secret = secret();
    let server = |options: &TlsOptions| Tls::new(options.clone(), secret.clone(), now()).unwrap().0;
    let (open, strict) = (server(&options), server(&verifying));
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(pki.client_config(&[version]));
        for tls in [&open, &strict, &strict] {
            let mut pair = Pair::new(tls, &config, "site.test");
            pair.exchange();
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn client_certificate_of_an_unusual_form_is_no_other_ones() {
    let pki = Pki::new();
    let options = pki.options(vec![pki.files("site", &["site.test"])]);
    let tls = made(TlsOptions { client_verification: ClientVerification::Required, ..options });
    let (leaf, key) = pki.issue(&["client.test"], |params| {
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1; 25]));
    });
    let (other, _) = pki.issue(&["admin.test"], |params| params.distinguished_name.push(DnType::CommonName, "admin"));
    let chain = certificates(&pki.write("client.pem", &(leaf.clone() + &other)), "").unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pki.root.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let mut pair = Pair::new(&tls, &Arc::new(config), "site.test");
    pair.exchange();
    let facts = pair.server.tls_facts().unwrap();
    assert_eq!(facts.client_chain.len(), 2);
    assert_eq!(facts.client_chain[0].subject, None);
    assert_eq!(facts.client_chain[0].pem.lines().collect::<String>(), leaf.lines().collect::<String>());
    assert_eq!(facts.client_chain[1].subject.as_deref(), Some("CN=admin"));
}

#[test]
fn files_that_were_of_no_use_are_tried_again_after_a_while_and_told_of_once() {
    let pki = Pki::new();
    let files = pki.files("site", &["site.test"]);
    let tls = made(pki.options(vec![files.clone()]));
    let moved = pki.folder.path().join("moved.key");
    fs::rename(&files.key, &moved).unwrap();
    let start = Instant::now();
    let look_at = |seconds| tls.look(start + Duration::from_secs(seconds), now);
    assert!(matches!(look_at(2), Some(TlsNews::Failed(_))));
    assert_eq!([look_at(4), look_at(61), look_at(63)], [None, None, None]);
    fs::rename(&moved, &files.key).unwrap();
    assert!(matches!(look_at(70), Some(TlsNews::Reloaded(_))));
}

#[test]
fn new_files_are_used_for_new_connections_and_bad_ones_are_not() {
    let pki = Pki::new();
    let files = pki.files("site", &["site.test"]);
    let tls = made(pki.options(vec![files.clone()]));
    let config = Arc::new(pki.client_config(&[&TLS13]));
    let shown = |tls: &Tls| {
        // A session that is resumed shows no certificate.
        let config = Arc::new(pki.client_config(&[&TLS13]));
        let mut pair = Pair::new(tls, &config, "site.test");
        pair.exchange();
        pair.client.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown(&tls);
    let mut later = Instant::now();
    let mut look_after = |seconds| {
        later += Duration::from_secs(seconds);
        tls.look(later, now)
    };
    assert_eq!(look_after(2), None);
    let mut open = Pair::new(&tls, &config, "site.test");
    open.exchange();
    // The key is written after the certificate: for a moment they do not fit.
    let (chain, key) = pki.issue(&["site.test"], |_| {});
    pki.write("site.pem", &chain);
    let news = look_after(2);
    assert!(
        matches!(&news, Some(TlsNews::Failed(text)) if text.contains("is not the key of the certificate")),
        "{news:?}"
    );
    assert_eq!((look_after(2), shown(&tls) == first), (None, true));
    pki.write("site.key", &key.serialize_pem());
    assert!(matches!(look_after(2), Some(TlsNews::Reloaded(_))));
    assert_ne!(shown(&tls), first);
    open.exchange();
    // Not more than once a second.
    fs::remove_file(&files.key).unwrap();
    assert_eq!(look_after(0), None);
    assert!(matches!(look_after(2), Some(TlsNews::Failed(_))));
}

#[test]
fn expiry_is_warned_of_twice_and_an_expired_certificate_is_refused() {
    let pki = Pki::new();
    let day = Duration::from_secs(86_400);
    let lasts = |days: u32| {
        let (chain, key) = pki.issue(&["site.test"], |params| {
            params.not_before = (now() - 40 * day).into();
            params.not_after = (now() + days * day + day / 2).into();
        });
        let (chain, key) = (pki.write("short.pem", &chain), pki.write("short.key", &key.serialize_pem()));
        pki.options(vec![CertificateFiles { chain, key }])
    };
    for (days, expected) in
        [(20, None), (13, Some("expires in 13 days")), (2, Some("expires in 2 days")), (0, Some("within a day"))]
    {
        let (_, warnings) = Tls::new(lasts(days), secret(), now()).unwrap();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
        assert!(expected.is_none_or(|expected| warnings[0].contains(expected)), "{warnings:?}");
    }
    let (tls, warnings) = Tls::new(lasts(20), secret(), now()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let warned: Vec<_> = (0..20).filter_map(|days| tls.expiry_warning(now() + days * day)).collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    let error = Tls::new(lasts(1), secret(), now() + 2 * day).unwrap_err().to_string();
    assert!(error.contains("the certificate expired on 20"), "{error}");
    let error = Tls::new(lasts(1), secret(), now() - 41 * day).unwrap_err().to_string();
    assert!(error.contains("valid from"), "{error}");
}

#[test]
fn key_in_every_form_is_read() {
    let pki = Pki::new();
    let ec = pki.files("ec", &["site.test"]);
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let path = |name: &str| pki.folder.path().join(name).to_str().unwrap().to_owned();
    let (source, password) = (ec.key.to_str().unwrap(), path("password"));
    pki.write("password", "secret\r\nnot this\n");
    run(&["ec", "-in", source, "-out", &path("sec1.key")]);
    for (name, method) in [("aes.key", "aes-256-cbc"), ("scrypt.key", "scrypt")] {
        let method = if method == "scrypt" { vec!["-scrypt"] } else { vec!["-v2", method] };
        let arguments = ["pkcs8", "-topk8", "-in", source, "-out", &path(name), "-passout", "pass:secret"];
        run(&[&arguments[..], &method[..]].concat());
    }
    for name in ["sec1.key", "aes.key", "scrypt.key"] {
        let files = CertificateFiles { chain: ec.chain.clone(), key: path(name).into() };
        let options = TlsOptions { key_password_file: Some(password.clone().into()), ..pki.options(vec![files]) };
        made(options.clone());
        if name != "sec1.key" {
            let without = failure(TlsOptions { key_password_file: None, ..options.clone() });
            assert!(
                without.contains("is encrypted: name the file with its password by key_password_file"),
                "{without}"
            );
            pki.write("wrong", "wrong");
            let wrong = failure(TlsOptions { key_password_file: Some(path("wrong").into()), ..options });
            assert!(wrong.contains("check the password"), "{wrong}");
        }
    }
    run(&["genrsa", "-traditional", "-out", &path("rsa.key"), "2048"]);
    run(&["req", "-x509", "-key", &path("rsa.key"), "-subj", "/CN=rsa", "-out", &path("rsa.pem"), "-days", "30"]);
    let text = fs::read_to_string(path("rsa.key")).unwrap();
    assert!(text.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    made(pki.options(vec![CertificateFiles { chain: path("rsa.pem").into(), key: path("rsa.key").into() }]));
    run(&[
        "rsa",
        "-traditional",
        "-aes128",
        "-passout",
        "pass:secret",
        "-in",
        &path("rsa.key"),
        "-out",
        &path("dek.key"),
    ]);
    let text =
        failure(pki.options(vec![CertificateFiles { chain: path("rsa.pem").into(), key: path("dek.key").into() }]));
    assert!(text.contains("convert it: openssl pkcs8 -topk8 -in "), "{text}");
}

#[test]
fn file_of_no_use_is_named_with_what_is_wrong() {
    let pki = Pki::new();
    let good = pki.files("good", &["site.test"]);
    let other = pki.files("other", &["site.test"]);
    let number = std::cell::Cell::new(0);
    let write = |content: &str| {
        number.set(number.get() + 1);
        pki.write(&format!("bad-{}.pem", number.get()), content)
    };
    let chain = |content: &str| CertificateFiles { chain: write(content), key: good.key.clone() };
    let key = |content: &str| CertificateFiles { chain: good.chain.clone(), key: write(content) };
    let text = |file: &Path| fs::read_to_string(file).unwrap();
    let der = certificates(&good.chain, "").unwrap()[0].to_vec();
    let missing = pki.folder.path().join("missing.pem");
    let cases = [
        (CertificateFiles { chain: missing.clone(), ..good.clone() }, "certfile", "cannot be read: No such file"),
        (CertificateFiles { key: missing, ..good.clone() }, "keyfile", "cannot be read: No such file"),
        (CertificateFiles { chain: pki.folder.path().to_owned(), ..good.clone() }, "certfile", "is no file"),
        (chain(""), "certfile", "holds no certificate"),
        (chain("-----BEGIN CERTIFICATE-----\nMII"), "certfile", "has no end"),
        (chain("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"), "certfile", "no base64"),
        (
            chain("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "certfile",
            "a certificate is damaged",
        ),
        (chain(&text(&good.key)), "certfile", "holds no certificate"),
        (chain(&(text(&good.chain) + &text(&other.chain))), "certfile", "put the server's certificate first"),
        (key(""), "keyfile", "holds no private key"),
        (key(&text(&good.chain)), "keyfile", "holds no private key"),
        (key(&text(&other.key)), "keyfile", "is not the key of the certificate in"),
        (key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "keyfile", "no usable private key"),
        (
            key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
            "keyfile",
            "is encrypted",
        ),
    ];
    for (files, option, expected) in cases {
        let error = failure(pki.options(vec![files]));
        assert!(error.starts_with(&format!("option {option}: ")) && error.contains(expected), "{error}");
    }
    let path = pki.folder.path().join("der.pem");
    fs::write(&path, der).unwrap();
    let error = failure(pki.options(vec![CertificateFiles { chain: path, ..good.clone() }]));
    assert!(error.contains("convert it: openssl x509 -inform DER"), "{error}");
    let with_chain = format!("{}{}", text(&good.chain), text(&pki.folder.path().join("ca.pem")));
    made(pki.options(vec![chain(&with_chain)]));
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, warnings) = Tls::new(pki.options(vec![good]), secret(), now()).unwrap();
    assert!(warnings[0].starts_with("every user of this machine can read the private key"), "{warnings:?}");
}
