use std::net::IpAddr;

use wsgi_core::net::proxy_protocol::{AcceptedVersion, Header, LONGEST_V1, LONGEST_V2, Malformed, Source, parse};

/// The beginning of a connection behind a proxy that speaks the PROXY protocol:
///
/// 1. A header is taken at its last byte and at no other, whatever follows, and what is refused stays refused.
/// 2. It never takes more bytes than its bound.
/// 3. Both versions together are each of them alone: no bytes begin both.
/// 4. A line of version 1 says what was read of it, letter by letter; an address of version 2 stands where it should.
pub fn proxy_protocol(bytes: &[u8]) {
    let [any, v1, v2] =
        [AcceptedVersion::Any, AcceptedVersion::V1, AcceptedVersion::V2].map(|accepted| in_pieces(bytes, accepted));
    match (v1, v2) {
        (Err(Malformed::Signature), other) | (other, Err(Malformed::Signature)) => assert_eq!(any, other),
        // Neither has seen enough to tell: only before the first byte.
        _ => assert!(bytes.is_empty() && any == Ok(None)),
    }
    let Ok(Some(header)) = any else { return };
    let taken = &bytes[..header.length];
    if taken.starts_with(b"PROXY ") {
        assert!(taken.len() <= LONGEST_V1 && taken.ends_with(b"\r\n") && !header.tls);
        let text = std::str::from_utf8(taken).expect("a line of ASCII").trim_end_matches("\r\n");
        let words: Vec<&str> = text.split(' ').collect();
        match header.source {
            Source::Ip(address) => {
                assert_eq!((words.len(), words[1] == "TCP4"), (6, address.is_ipv4()));
                assert_eq!(words[2].parse::<IpAddr>(), Ok(address.ip()));
                assert_eq!(words[4], address.port().to_string());
            }
            Source::Unknown => assert_eq!(words[1], "UNKNOWN"),
            Source::Proxy => panic!("version 1 has no such command"),
        }
    } else {
        assert!(taken.len() <= LONGEST_V2 && taken[12] >> 4 == 2);
        assert_eq!(usize::from(taken[14]) << 8 | usize::from(taken[15]), taken.len() - 16);
        match (header.source, taken[12] & 15, taken[13]) {
            (Source::Proxy, 0, _) => assert!(!header.tls),
            (Source::Unknown, 1, 0 | 0x31) => {}
            (Source::Ip(address), 1, 0x11) => {
                assert_eq!(address.ip(), IpAddr::from([taken[16], taken[17], taken[18], taken[19]]));
            }
            (Source::Ip(address), 1, 0x21) => match address.ip() {
                IpAddr::V6(ip) => assert_eq!(ip.octets(), taken[16..32]),
                IpAddr::V4(_) => panic!("an address of the other family"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn in_pieces(bytes: &[u8], accepted: AcceptedVersion) -> Result<Option<Header>, Malformed> {
    let whole = parse(bytes, accepted);
    // Longer inputs reach nothing else.
    for end in 0..=bytes.len().min(LONGEST_V2 + 1) {
        match parse(&bytes[..end], accepted) {
            Ok(None) => {}
            Ok(Some(header)) => {
                assert_eq!(header.length, end, "a header that is taken late");
                assert_eq!(whole, Ok(Some(header)));
                return whole;
            }
            Err(problem) => {
                assert_eq!(whole, Err(problem));
                return whole;
            }
        }
    }
    assert_eq!(whole, Ok(None));
    assert!(bytes.len() < LONGEST_V2);
    whole
}
