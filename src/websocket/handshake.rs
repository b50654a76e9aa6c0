//! The opening handshake (RFC 6455 §4.2): whether a request asks for a WebSocket, and what answers it.

use sha1::{Digest, Sha1};

use super::deflate::DeflateParameters;
use crate::http::fields::{elements, has_element, is_token};
use crate::http::head::{RequestHead, ResponseHead};

/// What is appended to every key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeRequest {
    /// No WebSocket: an ordinary request.
    None,
    /// A WebSocket.
    WebSocket(Handshake),
    /// A WebSocket, in a malformed way; the text says what is wrong.
    Malformed(&'static str),
    /// A WebSocket of another version than 13.
    UnsupportedVersion,
}

/// A valid opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The value of Sec-WebSocket-Accept.
    pub accept: String,
    /// The subprotocols that the client offers, in its order of preference.
    pub protocols: Vec<String>,
    /// The negotiated compression.
    pub deflate: Option<DeflateParameters>,
}

impl Handshake {
    /// Adds the lines that accept it to a 101 response. `false`: the client did not offer that subprotocol.
    pub fn write_response(&self, head: &mut ResponseHead, protocol: Option<&str>) -> bool {
        if let Some(protocol) = protocol {
            if !self.protocols.iter().any(|offered| offered == protocol) {
                return false;
            }
            head.push(b"Sec-WebSocket-Protocol", protocol.as_bytes());
        }
        head.push(b"Upgrade", b"websocket");
        head.push(b"Sec-WebSocket-Accept", self.accept.as_bytes());
        if let Some(parameters) = self.deflate {
            head.push(b"Sec-WebSocket-Extensions", parameters.header_value().as_bytes());
        }
        true
    }
}

/// Finds out what a request asks for. `upgrade`: it asks for a change of protocol at all (`http1::framing`); `has_body`: content
/// follows; `compresses`: the server accepts compression.
///
/// 1. Without `websocket` among its upgrades a request is an ordinary one (RFC 9110 §7.8).
/// 2. GET, and no content.
/// 3. One Sec-WebSocket-Version, 13; otherwise the answer is 426 and names it (§4.4).
/// 4. One Sec-WebSocket-Key of 16 bytes in base64.
/// 5. Subprotocols are tokens.
pub fn parse_upgrade(head: &RequestHead, upgrade: bool, has_body: bool, compresses: bool) -> UpgradeRequest {
    if !upgrade || !head.values(b"Upgrade").any(|value| has_element(value, b"websocket")) {
        return UpgradeRequest::None;
    }
    if head.method() != b"GET" || has_body {
        return UpgradeRequest::Malformed("a WebSocket is asked for by GET without content");
    }
    let mut versions = head.values(b"Sec-WebSocket-Version");
    if (versions.next(), versions.next()) != (Some(b"13"), None) {
        return UpgradeRequest::UnsupportedVersion;
    }
    let mut keys = head.values(b"Sec-WebSocket-Key");
    let (Some(key), None) = (keys.next().filter(|key| is_key(key)), keys.next()) else {
        return UpgradeRequest::Malformed("Sec-WebSocket-Key must be 16 bytes in base64");
    };
    let mut protocols = Vec::new();
    for protocol in head.values(b"Sec-WebSocket-Protocol").flat_map(elements).filter(|element| !element.is_empty()) {
        match std::str::from_utf8(protocol) {
            Ok(text) if is_token(protocol) => protocols.push(text.to_owned()),
            _ => return UpgradeRequest::Malformed("Sec-WebSocket-Protocol must be a list of tokens"),
        }
    }
    let mut offers = head.values(b"Sec-WebSocket-Extensions");
    let deflate = if compresses { offers.find_map(DeflateParameters::negotiate) } else { None };
    UpgradeRequest::WebSocket(Handshake { accept: accept(key), protocols, deflate })
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(|byte| ALPHABET.contains(byte))
}

fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = String::with_capacity(28);
    for three in digest.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|index| three.get(index).copied().unwrap_or(0));
        let number = u32::from_be_bytes([0, a, b, c]);
        for place in 0..4 {
            let six = (number >> (18 - 6 * place)) & 0x3f;
            text.push(if place > three.len() { '=' } else { char::from(ALPHABET[six as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::Status;

    // RFC 6455 §1.3
    const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

    fn asked(line: &str, fields: &[(&str, &[u8])]) -> UpgradeRequest {
        parse_upgrade(&RequestHead::sample(line, fields), true, false, true)
    }

    #[test]
    fn key_of_the_specification_is_accepted_as_it_says() {
        let fields: &[(&str, &[u8])] = &[
            ("Upgrade", b"foo, WebSocket"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", b"13"),
            ("Sec-WebSocket-Protocol", b"chat, superchat"),
            ("Sec-WebSocket-Protocol", b"other"),
            ("Sec-WebSocket-Extensions", b"x, permessage-deflate"),
        ];
        let expected = Handshake {
            accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
            protocols: ["chat", "superchat", "other"].map(str::to_owned).to_vec(),
            deflate: DeflateParameters::negotiate(b"permessage-deflate"),
        };
        assert_eq!(asked("GET /chat HTTP/1.1", fields), UpgradeRequest::WebSocket(expected.clone()));
        let plain = parse_upgrade(&RequestHead::sample("GET / HTTP/1.1", fields), true, false, false);
        assert_eq!(plain, UpgradeRequest::WebSocket(Handshake { deflate: None, ..expected }));
    }

    #[test]
    fn response_names_what_was_negotiated() {
        let deflate = DeflateParameters::negotiate(b"permessage-deflate");
        let handshake = Handshake { accept: "key".to_owned(), protocols: vec!["chat".to_owned()], deflate };
        let head = || ResponseHead::new(Status::new(101).unwrap(), b"");
        let mut answered = head();
        assert!(handshake.write_response(&mut answered, Some("chat")));
        let expected = "Sec-WebSocket-Protocol: chat\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: key\r\n\
                        Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n";
        assert_eq!(answered.lines(), expected.as_bytes());
        assert!(!handshake.write_response(&mut head(), Some("other")));
        let plain = Handshake { deflate: None, ..handshake };
        let mut answered = head();
        assert!(plain.write_response(&mut answered, None));
        assert_eq!(answered.lines(), b"Upgrade: websocket\r\nSec-WebSocket-Accept: key\r\n");
    }

    #[test]
    fn request_without_an_upgrade_to_websocket_is_an_ordinary_one() {
        assert_eq!(asked("GET / HTTP/1.1", &[("Sec-WebSocket-Key", KEY)]), UpgradeRequest::None);
        assert_eq!(asked("GET / HTTP/1.1", &[("Upgrade", b"h2c")]), UpgradeRequest::None);
        let head = RequestHead::sample("GET / HTTP/1.1", &[("Upgrade", b"websocket")]);
        assert_eq!(parse_upgrade(&head, false, false, true), UpgradeRequest::None);
    }

    #[test]
    fn handshake_that_breaks_a_rule_is_malformed() {
        let good: [(&str, &[u8]); 3] =
            [("Upgrade", b"websocket"), ("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", b"13")];
        assert!(matches!(asked("GET / HTTP/1.1", &good), UpgradeRequest::WebSocket(_)));
        assert!(matches!(asked("POST / HTTP/1.1", &good), UpgradeRequest::Malformed(_)));
        let head = RequestHead::sample("GET / HTTP/1.1", &good);
        assert!(matches!(parse_upgrade(&head, true, true, true), UpgradeRequest::Malformed(_)));
        for key in [&b""[..], b"short==", b"dGhlIHNhbXBsZSBub25jZQ", b"dGhlIHNhbXBsZSBub25jZ!==", &[b'A'; 24]] {
            let fields = [good[0], ("Sec-WebSocket-Key", key), good[2]];
            assert!(matches!(asked("GET / HTTP/1.1", &fields), UpgradeRequest::Malformed(_)), "{}", key.escape_ascii());
        }
        assert!(matches!(asked("GET / HTTP/1.1", &[good[0], good[2]]), UpgradeRequest::Malformed(_)));
        assert!(matches!(asked("GET / HTTP/1.1", &[good[0], good[1], good[1], good[2]]), UpgradeRequest::Malformed(_)));
        let odd: (&str, &[u8]) = ("Sec-WebSocket-Protocol", b"a b");
        assert!(matches!(asked("GET / HTTP/1.1", &[good[0], good[1], good[2], odd]), UpgradeRequest::Malformed(_)));
    }

    #[test]
    fn other_version_is_told_from_a_malformed_handshake() {
        for versions in [&[][..], &[&b"8"[..]], &[b"13, 8"], &[b"13", b"13"], &[b"013"]] {
            let mut fields: Vec<(&str, &[u8])> = vec![("Upgrade", b"websocket"), ("Sec-WebSocket-Key", KEY)];
            fields.extend(versions.iter().map(|version| ("Sec-WebSocket-Version", *version)));
            assert_eq!(asked("GET / HTTP/1.1", &fields), UpgradeRequest::UnsupportedVersion);
        }
    }
}
