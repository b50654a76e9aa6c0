use std::collections::HashSet;

use super::*;

fn ip(text: &str) -> Source {
    Source::Ip(text.parse().unwrap())
}

fn v2(version_and_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [V2, &[version_and_command, family], &length, payload].concat()
}

const TCP4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0, 80];

fn tcp6() -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&address("2001:db8::1")[..], &address("2001:db8::2"), &[0xdc, 0x04, 0, 80]].concat()
}

// Headers that are whole, with what they say.
fn whole() -> Vec<(Vec<u8>, Source)> {
    let v1 = |line: &str, source| (format!("{line}\r\n").into_bytes(), source);
    let extensions = [&[0x04, 0, 0][..], &[0xee, 0, 3, 1, 2, 3]].concat();
    let longest = LONGEST_V2 - V2_FIXED - TCP4.len() - 3;
    let filler = [&[0x04][..], &u16::try_from(longest).unwrap().to_be_bytes(), &vec![7; longest]].concat();
    vec![
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 56324 80", ip("192.0.2.1:56324")),
        v1("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", ip("255.255.255.255:65535")),
        v1("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", ip("0.0.0.0:0")),
        v1("PROXY TCP6 2001:db8::1 ::1 56324 443", ip("[2001:db8::1]:56324")),
        v1("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2", ip("[::ffff:192.0.2.1]:1")),
        v1("PROXY UNKNOWN", Source::Unknown),
        v1("PROXY UNKNOWN ", Source::Unknown),
        v1("PROXY UNKNOWN what ever 9.9.9.9", Source::Unknown),
        // The longest line there can be (§2.1).
        v1(&format!("PROXY UNKNOWN {0} {0} 65535 65535", ["ffff"; 8].join(":")), Source::Unknown),
        (v2(0x21, 0x11, &TCP4), ip("192.0.2.1:56324")),
        (v2(0x21, 0x11, &[&TCP4[..], &extensions].concat()), ip("192.0.2.1:56324")),
        (v2(0x21, 0x11, &[&TCP4[..], &filler].concat()), ip("192.0.2.1:56324")),
        (v2(0x21, 0x21, &tcp6()), ip("[2001:db8::1]:56324")),
        (v2(0x21, 0x21, &[&tcp6()[..], &extensions].concat()), ip("[2001:db8::1]:56324")),
        (v2(0x21, 0x31, &[b'/'; 216]), Source::Unknown),
        (v2(0x21, 0x00, b""), Source::Unknown),
        (v2(0x21, 0x00, b"ignored"), Source::Unknown),
        (v2(0x20, 0x00, b""), Source::Proxy),
        (v2(0x20, 0x11, &TCP4), Source::Proxy),
        (v2(0x20, 0xff, b"no extension"), Source::Proxy),
    ]
}

// Beginnings of connections that are refused, with the version that may still accept them.
fn refused() -> Vec<(Vec<u8>, Malformed)> {
    let v1 = |line: &str, problem| (line.as_bytes().to_vec(), problem);
    let mut old = v2(0x11, 0x11, &TCP4);
    let mut all = vec![
        v1("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Signature),
        v1("G", Malformed::Signature),
        v1("\r\n\r\nGET", Malformed::Signature),
        v1("proxy TCP4", Malformed::Signature),
        v1("PROXY\tTCP4", Malformed::Signature),
        v1(" PROXY", Malformed::Signature),
        v1("\x16\x03\x01", Malformed::Signature),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", Malformed::LineByte),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", Malformed::LineByte),
        v1("PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n", Malformed::LineByte),
        v1("PROXY TCP4 192.0.2.1\u{e9}", Malformed::LineByte),
        v1("PROXY UNKNOWN \0\r\n", Malformed::LineByte),
        v1("PROXY \r\n", Malformed::Protocol),
        v1("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Protocol),
        v1("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Protocol),
        v1("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Protocol),
        v1("PROXY UNKNOWNS\r\n", Malformed::Protocol),
        v1("PROXY TCP4\r\n", Malformed::LineParts),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Malformed::LineParts),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", Malformed::LineParts),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", Malformed::LineParts),
        v1("PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", Malformed::LineParts),
        v1("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", Malformed::Address),
        v1("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", Malformed::Address),
        v1("PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n", Malformed::Address),
        v1("PROXY TCP4 ::1 ::1 1 2\r\n", Malformed::Address),
        v1("PROXY TCP4 localhost 192.0.2.1 1 2\r\n", Malformed::Address),
        v1("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Address),
        v1("PROXY TCP6 [::1] ::1 1 2\r\n", Malformed::Address),
        v1("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Malformed::Address),
        v1("PROXY TCP4  192.0.2.2 1 2\r\n", Malformed::Address),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", Malformed::Port),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", Malformed::Port),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", Malformed::Port),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", Malformed::Port),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Malformed::Port),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", Malformed::Port),
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", Malformed::Port),
        (format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_V1 - 15)).into_bytes(), Malformed::LineTooLong),
        (format!("PROXY UNKNOWN {}", "x".repeat(LONGEST_V1)).into_bytes(), Malformed::LineTooLong),
        (v2(0x22, 0x11, &TCP4), Malformed::Command),
        (v2(0x2f, 0x11, &TCP4), Malformed::Command),
        (v2(0x31, 0x11, &TCP4), Malformed::Version),
        (v2(0x21, 0x11, &TCP4[..11]), Malformed::TooShort),
        (v2(0x21, 0x11, b""), Malformed::TooShort),
        (v2(0x21, 0x21, &tcp6()[..15]), Malformed::TooShort),
        (v2(0x21, 0x21, &tcp6()[..35]), Malformed::TooShort),
        (v2(0x21, 0x31, &[0; 215]), Malformed::TooShort),
        (v2(0x21, 0x11, &[0; LONGEST_V2 - V2_FIXED + 1]), Malformed::TooLong),
        (v2(0x20, 0x00, &[0; 65535])[..V2_FIXED].to_vec(), Malformed::TooLong),
        (v2(0x21, 0x11, &[&TCP4[..], &[4]].concat()), Malformed::Extension),
        (v2(0x21, 0x11, &[&TCP4[..], &[4, 0]].concat()), Malformed::Extension),
        (v2(0x21, 0x11, &[&TCP4[..], &[4, 0, 1]].concat()), Malformed::Extension),
        (v2(0x21, 0x11, &[&TCP4[..], &[4, 0xff, 0xff, 1]].concat()), Malformed::Extension),
        (v2(0x21, 0x21, &[&tcp6()[..], &[4, 0, 2, 1]].concat()), Malformed::Extension),
        (v2(0x21, 0x11, &[&TCP4[..], &[0x20, 0, 4, 1, 0, 0, 0]].concat()), Malformed::Extension),
        (v2(0x21, 0x11, &[&TCP4[..], &[0x20, 0, 0]].concat()), Malformed::Extension),
        (v2(0x21, 0x31, &[&[0; 216][..], &[4, 0, 1]].concat()), Malformed::Extension),
    ];
    for family in (0x01..=0xff).filter(|family| !matches!(family, 0x11 | 0x21 | 0x31)) {
        all.push((v2(0x21, family, &[0; 216]), Malformed::Family));
    }
    old[12] = 0x01;
    all.push((old, Malformed::Version));
    all
}

#[test]
fn whole_header_tells_its_source_and_its_length() {
    for (bytes, source) in whole() {
        let behind = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        let expected = Ok(Some(Header { source, tls: false, length: bytes.len() }));
        assert_eq!(parse(&bytes, AcceptedVersion::Any), expected, "{}", bytes.escape_ascii());
        assert_eq!(parse(&behind, AcceptedVersion::Any), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn tls_is_told_by_its_extension_alone() {
    for (extensions, tls) in [
        (&[0x20, 0, 5, 1, 0, 0, 0, 0][..], true),
        (&[0x20, 0, 5, 7, 0, 0, 0, 1], true),
        (&[0x04, 0, 1, 9, 0x20, 0, 10, 1, 0, 0, 0, 0, 0x21, 0, 2, b'1', b'3'], true),
        (&[0x20, 0, 5, 0, 0, 0, 0, 0], false),
        (&[0x20, 0, 5, 6, 0, 0, 0, 0], false),
        (&[0x21, 0, 5, 1, 0, 0, 0, 0], false),
        (&[0x04, 0, 8, 0x20, 0, 5, 1, 0, 0, 0, 0], false),
        (&[], false),
    ] {
        for (family, addresses) in [(0x11, TCP4.to_vec()), (0x21, tcp6()), (0x31, vec![0; 216])] {
            let header = parse(&v2(0x21, family, &[&addresses[..], extensions].concat()), AcceptedVersion::Any);
            assert_eq!(header.map(|header| header.unwrap().tls), Ok(tls), "{extensions:?}");
        }
        // What does not count does not count here either.
        for header in [v2(0x20, 0x11, &[&TCP4[..], extensions].concat()), v2(0x21, 0x00, extensions)] {
            assert_eq!(parse(&header, AcceptedVersion::Any).map(|header| header.unwrap().tls), Ok(false));
        }
    }
}

#[test]
fn header_cut_anywhere_needs_more() {
    for (bytes, _) in whole() {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end], AcceptedVersion::Any), Ok(None), "{} at {end}", bytes.escape_ascii());
        }
    }
}

#[test]
fn malformed_header_is_refused_for_its_reason() {
    for (bytes, problem) in refused() {
        assert_eq!(parse(&bytes, AcceptedVersion::Any), Err(problem), "{}", bytes.escape_ascii());
    }
}

// What comes later never turns a refusal into a header, nor the other way round.
#[test]
fn malformed_header_is_refused_however_it_is_cut() {
    for (bytes, problem) in refused() {
        let verdicts: Vec<_> = (0..=bytes.len()).map(|end| parse(&bytes[..end], AcceptedVersion::Any)).collect();
        let first = verdicts.iter().position(Result::is_err).unwrap();
        assert!(verdicts[..first].iter().all(|verdict| *verdict == Ok(None)), "{}", bytes.escape_ascii());
        assert!(verdicts[first..].iter().all(|verdict| *verdict == Err(problem)), "{}", bytes.escape_ascii());
    }
}

#[test]
fn each_problem_has_a_case_and_a_text_of_its_own() {
    let problems: HashSet<_> = refused().into_iter().map(|(_, problem)| problem).collect();
    let texts: HashSet<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!((problems.len(), texts.len()), (13, 13));
}

#[test]
fn version_that_is_not_taken_is_refused_by_its_first_byte() {
    let (v1, v2) = (&whole()[0].0, &v2(0x21, 0x11, &TCP4));
    assert!(parse(v1, AcceptedVersion::V1).is_ok_and(|header| header.is_some()));
    assert!(parse(v2, AcceptedVersion::V2).is_ok_and(|header| header.is_some()));
    for end in 1..v1.len() {
        assert_eq!(parse(&v1[..end], AcceptedVersion::V2), Err(Malformed::Signature));
    }
    for end in 1..v2.len() {
        assert_eq!(parse(&v2[..end], AcceptedVersion::V1), Err(Malformed::Signature));
    }
}

// A sender that lies about lengths gets no further than the bound.
#[test]
fn endless_header_is_refused_at_its_bound() {
    let line = [b"PROXY UNKNOWN "[..].to_vec(), vec![b' '; LONGEST_V1]].concat();
    assert_eq!(parse(&line[..LONGEST_V1 - 1], AcceptedVersion::Any), Ok(None));
    assert_eq!(parse(&line[..LONGEST_V1], AcceptedVersion::Any), Err(Malformed::LineTooLong));
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_a_verdict(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), signed in 0..3_usize) {
        let bytes = [[&b""[..], V1, V2][signed], &bytes].concat();
        for accepted in [AcceptedVersion::V1, AcceptedVersion::V2, AcceptedVersion::Any] {
            if let Ok(Some(header)) = parse(&bytes, accepted) {
                proptest::prop_assert!(header.length <= bytes.len());
                // The verdict depends on nothing behind the header.
                proptest::prop_assert_eq!(parse(&bytes[..header.length], accepted), Ok(Some(header)));
            }
        }
    }
}
