use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::http::target::Form;

const LIMITS: Limits = Limits { request_line: 8190, header_fields: 100, header_size: 65_536, body_size: 1 << 30 };

/// What a head was read as, without the spans that it is made of.
#[derive(Debug, PartialEq)]
struct Read {
    request_line: Vec<u8>,
    method: Vec<u8>,
    target: Vec<u8>,
    path: Vec<u8>,
    query: Vec<u8>,
    authority: Option<Vec<u8>>,
    form: Form,
    version: Version,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    consumed: usize,
}

type Verdict = Result<Option<Read>, Reject>;

fn call(input: &[u8], progress: &mut HeadProgress, limits: &Limits) -> Verdict {
    let found = head(input, progress, limits)?;
    Ok(found.map(|(head, consumed)| Read {
        request_line: head.request_line().to_vec(),
        method: head.method().to_vec(),
        target: head.target().to_vec(),
        path: head.path().to_vec(),
        query: head.query().to_vec(),
        authority: head.authority().map(<[u8]>::to_vec),
        form: head.form(),
        version: head.version(),
        fields: head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        consumed,
    }))
}

fn whole(input: &[u8], limits: &Limits) -> Verdict {
    call(input, &mut HeadProgress::default(), limits)
}

/// Reads the input whole, byte by byte and split at every offset, and holds every prefix to the first law: one verdict,
/// at one byte.
fn every_way(input: &[u8], limits: &Limits) -> Verdict {
    let expected = whole(input, limits);
    let mut progress = HeadProgress::default();
    let mut found = None;
    for end in 0..=input.len() {
        let verdict = call(&input[..end], &mut progress, limits);
        assert_eq!(verdict, whole(&input[..end], limits), "prefix of {end}: {}", input.escape_ascii());
        if verdict != Ok(None) {
            found = Some(verdict);
            break;
        }
    }
    assert_eq!(found.unwrap_or(Ok(None)), expected, "by byte: {}", input.escape_ascii());
    for split in 0..=input.len() {
        let mut progress = HeadProgress::default();
        let mut verdict = call(&input[..split], &mut progress, limits);
        if verdict == Ok(None) {
            verdict = call(input, &mut progress, limits);
        }
        assert_eq!(verdict, expected, "split at {split}: {}", input.escape_ascii());
    }
    expected
}

fn read(input: &[u8]) -> Read {
    every_way(input, &LIMITS).unwrap().unwrap()
}

fn fixed_seed(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn complete_head_gives_its_parts() {
    let input = b"POST /a%20b?x=1 HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nx-padded: \t v \t \r\nX-Obs: \xe9\r\n\r\nbody";
    let head = read(input);
    assert_eq!(head.request_line, b"POST /a%20b?x=1 HTTP/1.1");
    assert_eq!((&*head.method, &*head.target), (&b"POST"[..], &b"/a%20b?x=1"[..]));
    assert_eq!((&*head.path, &*head.query), (&b"/a%20b"[..], &b"x=1"[..]));
    assert_eq!((head.authority, head.form, head.version), (None, Form::Origin, Version::Http11));
    let expected = [(&b"Host"[..], &b"a"[..]), (b"X-Empty", b""), (b"x-padded", b"v"), (b"X-Obs", b"\xe9")];
    assert_eq!(head.fields.len(), expected.len());
    for ((name, value), expected) in head.fields.iter().zip(expected) {
        assert_eq!((&**name, &**value), expected);
    }
    assert_eq!(head.consumed, input.len() - 4);
}

#[test]
fn lookups_ignore_case_and_keep_order() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-A-B: 3\r\n\r\n";
    let (head, _) = head(input, &mut HeadProgress::default(), &LIMITS).unwrap().unwrap();
    assert_eq!(head.values(b"X-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.value(b"x-A"), Some(&b"1"[..]));
    assert_eq!(head.value(b"x"), None);
    assert!(head.has(b"HOST") && !head.has(b"Host:"));
    assert_eq!(head.fields().len(), 4);
}

#[test]
fn complete_head_leaves_a_fresh_progress() {
    let input = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.0\r\n\r\n";
    let mut progress = HeadProgress::default();
    let first = call(input, &mut progress, &LIMITS).unwrap().unwrap();
    let second = call(&input[first.consumed..], &mut progress, &LIMITS).unwrap().unwrap();
    assert_eq!((&*first.target, &*second.target), (&b"/1"[..], &b"/2"[..]));
    assert_eq!(first.consumed + second.consumed, input.len());
}

// RFC 9112 §3.2.2: PATH "/" where the absolute form names none.
#[test]
fn target_forms_give_path_query_and_authority() {
    for (line, form, path, query, authority) in [
        ("GET / HTTP/1.1", Form::Origin, "/", "", None),
        ("GET //evil.com/x HTTP/1.1", Form::Origin, "//evil.com/x", "", None),
        ("GET /%C3%A9%2Fx?q=%20 HTTP/1.1", Form::Origin, "/%C3%A9%2Fx", "q=%20", None),
        ("GET http://b/x?y=1 HTTP/1.1", Form::Absolute, "/x", "y=1", Some("b")),
        ("GET http://a HTTP/1.1", Form::Absolute, "/", "", Some("a")),
        ("GET http://a?q HTTP/1.1", Form::Absolute, "/", "q", Some("a")),
        ("OPTIONS * HTTP/1.1", Form::Asterisk, "", "", None),
        ("CONNECT a:443 HTTP/1.1", Form::Authority, "", "", None),
    ] {
        let head = read(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!((head.form, &*head.path, &*head.query), (form, path.as_bytes(), query.as_bytes()), "{line}");
        assert_eq!(head.authority.as_deref(), authority.map(str::as_bytes), "{line}");
    }
}

#[test]
fn accepted_request_lines_keep_method_and_version() {
    for (line, method, version) in [
        ("GET /e HTTP/1.1", "GET", Version::Http11),
        ("GET /e HTTP/1.0", "GET", Version::Http10),
        ("get /e HTTP/1.1", "get", Version::Http11),
        ("M-SEARCH /e HTTP/1.1", "M-SEARCH", Version::Http11),
        ("XGET /e HTTP/1.1", "XGET", Version::Http11),
        ("!#$%&'*+-.^_`|~ /e HTTP/1.1", "!#$%&'*+-.^_`|~", Version::Http11),
    ] {
        let head = read(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!((&*head.method, head.version), (method.as_bytes(), version), "{line}");
    }
}

// RFC 9112 §2, §3
#[test]
fn bad_request_lines_are_refused_by_their_rule() {
    for (line, reject) in [
        (&b"GET /\r\n\r\n"[..], Reject::RequestLineMalformed),
        (b"GET\r\n\r\n", Reject::RequestLineMalformed),
        (b"GET HTTP/1.1\r\n", Reject::RequestLineMalformed),
        (b"INVALID!!!\r\n", Reject::RequestLineMalformed),
        (b"GET  / HTTP/1.1\r\n", Reject::RequestLineMalformed),
        (b"GET /  HTTP/1.1\r\n", Reject::RequestLineMalformed),
        (b"GET / HTTP/1.1 \r\n", Reject::RequestLineMalformed),
        (b"GET  HTTP/1.1\r\n", Reject::RequestLineMalformed),
        (b"GET / x HTTP/1.1\r\n", Reject::RequestLineMalformed),
        (b"GET\t/\tHTTP/1.1\r\n", Reject::MethodMalformed),
        (b" GET / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"\tGET / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"GE(T / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"bla:rgh / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"GET\0 / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"GET\xff / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"\xffGET / HTTP/1.1\r\n", Reject::MethodMalformed),
        (b"\0", Reject::MethodMalformed),
        (b":", Reject::MethodMalformed),
        (b"GET / http/1.1\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/1\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/1.\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/1.10\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/11.1\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/1,1\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/a.b\r\n", Reject::VersionMalformed),
        (b"GET / HTTP/1.1\t\r\n", Reject::VersionMalformed),
        (b"GET / HTTQ/1.1\r\n", Reject::VersionMalformed),
        (b"GET /\t HTTP/1.1\r\n", Reject::TargetByte),
        (b"GET / HTTP/0.9\r\n", Reject::VersionUnsupported),
        (b"GET / HTTP/1.2\r\n", Reject::VersionUnsupported),
        (b"GET / HTTP/1.9\r\n", Reject::VersionUnsupported),
        (b"GET / HTTP/2.0\r\n", Reject::VersionUnsupported),
        (b"GET / HTTP/9.9\r\n", Reject::VersionUnsupported),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reject::VersionUnsupported),
        (b"GET /\rx HTTP/1.1\r\n", Reject::BareCr),
        (b"GET / HTTP/1.1\r\r\n", Reject::BareCr),
        (b"GET / HTTP/1.1\nHost: a\n\n", Reject::BareLf),
        (b"GET /\n", Reject::BareLf),
        (b"GET foo/bar HTTP/1.1\r\n", Reject::TargetMalformed),
        (b"GET * HTTP/1.1\r\n", Reject::TargetMalformed),
        (b"GET a:443 HTTP/1.1\r\n", Reject::TargetMalformed),
        (b"GET http://u:p@a/ HTTP/1.1\r\n", Reject::TargetUserinfo),
        (b"GET http://a:99999/ HTTP/1.1\r\n", Reject::TargetAuthority),
        (b"GET gopher://a/ HTTP/1.1\r\n", Reject::TargetScheme),
        (b"GET /a#b HTTP/1.1\r\n", Reject::TargetFragment),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n", Reject::TargetByte),
        (b"GET /\xff HTTP/1.1\r\n", Reject::TargetByte),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reject::TlsRecord),
    ] {
        assert_eq!(every_way(line, &LIMITS), Err(reject), "{}", line.escape_ascii());
    }
}

// RFC 9112 §2.2
#[test]
fn one_empty_line_before_the_request_is_skipped_and_no_more() {
    let head = read(b"\r\nGET /e HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((&*head.request_line, &*head.target), (&b"GET /e HTTP/1.1"[..], &b"/e"[..]));
    assert_eq!(head.fields, [(b"Host".to_vec(), b"a".to_vec())]);
    assert_eq!(head.consumed, 30);
    for (input, verdict) in [
        (&b""[..], Ok(None)),
        (b"\r", Ok(None)),
        (b"\r\n", Ok(None)),
        (b"\r\n\r", Err(Reject::EmptyLines)),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(Reject::EmptyLines)),
        (b"\r\n\n", Err(Reject::BareLf)),
        (b"\n", Err(Reject::BareLf)),
        (b"\nGET / HTTP/1.1\r\n\r\n", Err(Reject::BareLf)),
        (b"\rG", Err(Reject::BareCr)),
        (b"\r\r\n", Err(Reject::BareCr)),
        (b"\r\n G", Err(Reject::MethodMalformed)),
        (b"\r\n\x16", Err(Reject::TlsRecord)),
    ] {
        assert_eq!(every_way(input, &LIMITS), verdict, "{}", input.escape_ascii());
    }
}

// RFC 9112 §5
#[test]
fn bad_field_lines_are_refused_by_their_rule() {
    for (line, reject) in [
        (&b"X : v\r\n"[..], Reject::SpaceBeforeColon),
        (b"X\t: v\r\n", Reject::SpaceBeforeColon),
        (b"Transfer-Encoding : chunked\r\n", Reject::SpaceBeforeColon),
        (b"X: a\r\n b\r\n", Reject::FieldFolded),
        (b"X: a\r\n\tb\r\n", Reject::FieldFolded),
        (b"X: a\r\n \r\n", Reject::FieldFolded),
        (b": v\r\n", Reject::FieldNameEmpty),
        (b":\r\n", Reject::FieldNameEmpty),
        (b"foo\r\n", Reject::FieldWithoutColon),
        (b"Fo@: v\r\n", Reject::FieldNameMalformed),
        (b"X[]: v\r\n", Reject::FieldNameMalformed),
        (b"X\0: v\r\n", Reject::FieldNameMalformed),
        (b"X\x80: v\r\n", Reject::FieldNameMalformed),
        (b"X Y: v\r\n", Reject::FieldNameMalformed),
        (b"\"X\": v\r\n", Reject::FieldNameMalformed),
        (b"Transfer\r-Encoding: chunked\r\n", Reject::BareCr),
        (b"X: a\rb\r\n", Reject::BareCr),
        (b"X: a\r\r\n", Reject::BareCr),
        (b"\r \r\n", Reject::BareCr),
        (b"X: a\nY: b\r\n", Reject::BareLf),
        (b"X: a\nTransfer-Encoding: chunked\r\n", Reject::BareLf),
        (b"\n", Reject::BareLf),
        (b"X: a\0b\r\n", Reject::FieldValueMalformed),
        (b"X: \x07\r\n", Reject::FieldValueMalformed),
        (b"X: \x0b\r\n", Reject::FieldValueMalformed),
        (b"X: \x1f\r\n", Reject::FieldValueMalformed),
        (b"X: \x7f\r\n", Reject::FieldValueMalformed),
        (b"X:\x0c\r\n", Reject::FieldValueMalformed),
    ] {
        let input = [&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], line, b"\r\n"].concat();
        assert_eq!(every_way(&input, &LIMITS), Err(reject), "{}", line.escape_ascii());
    }
}

// RFC 9112 §2.2
#[test]
fn white_space_before_the_first_field_is_refused() {
    for line in [" Host: a", "\tHost: a", " Transfer-Encoding: chunked", " "] {
        let input = format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
        assert_eq!(every_way(input.as_bytes(), &LIMITS), Err(Reject::SpaceBeforeFields), "{line:?}");
    }
}

#[test]
fn the_first_broken_line_names_the_refusal() {
    for (lines, reject) in [
        ("X\r\n Y: 1\r\nZ: a\nb", Reject::FieldWithoutColon),
        ("X: 1\r\n Y: 1\r\nZ\r\n\r\n", Reject::FieldFolded),
        (": 1\r\nX: a\n", Reject::FieldNameEmpty),
        ("X: 1\r\nX: a\n: 1\r\n\r\n", Reject::BareLf),
    ] {
        let input = format!("GET / HTTP/1.1\r\n{lines}");
        assert_eq!(every_way(input.as_bytes(), &LIMITS), Err(reject), "{lines:?}");
    }
    // A request line that is wrong is refused before anything else is there.
    assert_eq!(every_way(b"GET / HTTP/3.0\r\nX\n", &LIMITS), Err(Reject::VersionUnsupported));
    // An earlier line goes before a limit that a later one breaks.
    let limits = Limits { header_fields: 1, header_size: 20, ..LIMITS };
    assert_eq!(every_way(b"GET / HTTP/1.1\r\nX\r\nY: 1\r\n\r\n", &limits), Err(Reject::FieldWithoutColon));
    assert_eq!(every_way(b"GET / HTTP/1.1\r\nX: 1\r\nY\r\n\r\n", &limits), Err(Reject::TooManyFields));
    assert_eq!(every_way(b"GET / HTTP/1.1\r\nX\r\nYYYYYYYYYYYYYYYYYYYYYYYYY", &limits), Err(Reject::FieldWithoutColon));
}

#[test]
fn every_prefix_of_a_head_waits() {
    let input = b"GET /e HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for end in 0..input.len() {
        assert_eq!(whole(&input[..end], &LIMITS), Ok(None), "{end}");
    }
    assert!(matches!(every_way(input, &LIMITS), Ok(Some(_))));
}

#[test]
fn request_line_limit_counts_the_line_without_its_end() {
    let limits = Limits { request_line: 20, ..LIMITS };
    for (length, verdict) in [(19, None), (20, None), (21, Some(Reject::RequestLineTooLong))] {
        let line = format!("GET /{} HTTP/1.1", "x".repeat(length - 14));
        assert_eq!(line.len(), length);
        let found = every_way(format!("{line}\r\n\r\n").as_bytes(), &limits);
        assert_eq!(found.err(), verdict, "{length}");
    }
    for (input, verdict) in [
        // Before the terminator arrives, and not a byte later.
        ("x".repeat(20), Ok(None)),
        ("x".repeat(21), Err(Reject::RequestLineTooLong)),
        ("x".repeat(20) + "\r", Ok(None)),
        ("x".repeat(20) + "\rx", Err(Reject::RequestLineTooLong)),
        ("x".repeat(20) + "\n", Err(Reject::BareLf)),
        ("x".repeat(21) + "\n", Err(Reject::RequestLineTooLong)),
        ("x".repeat(19) + "\r\r\n", Err(Reject::BareCr)),
        ("x".repeat(20) + "\r\r\n", Err(Reject::RequestLineTooLong)),
        // The empty line before it does not count.
        ("\r\n".to_owned() + &"x".repeat(20), Ok(None)),
        ("\r\n".to_owned() + &"x".repeat(21), Err(Reject::RequestLineTooLong)),
    ] {
        assert_eq!(every_way(input.as_bytes(), &limits), verdict, "{input:?}");
    }
}

#[test]
fn header_size_counts_all_lines_and_the_empty_one() {
    let limits = Limits { header_size: 30, ..LIMITS };
    for (size, verdict) in [(29, None), (30, None), (31, Some(Reject::HeaderTooLarge))] {
        let section = format!("A: 1\r\nB: {}\r\n\r\n", "x".repeat(size - 13));
        assert_eq!(section.len(), size);
        // What follows the head does not count.
        let found = every_way(format!("GET / HTTP/1.1\r\n{section}body").as_bytes(), &limits);
        assert_eq!(found.err(), verdict, "{size}");
    }
    for (section, verdict) in [
        ("x".repeat(30), Ok(None)),
        ("x".repeat(31), Err(Reject::HeaderTooLarge)),
        ("x".repeat(30) + "\n", Err(Reject::HeaderTooLarge)),
        ("x".repeat(29) + "\n", Err(Reject::BareLf)),
    ] {
        let found = every_way(format!("GET / HTTP/1.1\r\n{section}").as_bytes(), &limits);
        assert_eq!(found, verdict, "{section:?}");
    }
}

#[test]
fn field_limit_counts_lines() {
    for limit in [0, 1, 5, FEW_FIELDS - 1, FEW_FIELDS, FEW_FIELDS + 1, 100] {
        let limits = Limits { header_fields: limit, ..LIMITS };
        for (count, verdict) in [(limit, None), (limit + 1, Some(Reject::TooManyFields))] {
            let input = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
            let found = every_way(input.as_bytes(), &limits);
            assert_eq!(found.as_ref().err().copied(), verdict, "{count} of {limit}");
            if let Ok(Some(head)) = found {
                assert_eq!(head.fields.len(), count);
            }
        }
    }
}

#[test]
fn default_limits_let_a_long_target_pass() {
    let input = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(7900));
    assert_eq!(whole(input.as_bytes(), &Limits::default()).unwrap().unwrap().path.len(), 7901);
    assert_eq!(whole(&b"A".repeat(65_536), &Limits::default()), Err(Reject::RequestLineTooLong));
    assert_eq!(whole(&b"\r\n".repeat(1_000_000), &Limits::default()), Err(Reject::EmptyLines));
}

// The second law: what was searched once is not searched again, and every complete line is judged once.
#[test]
fn growing_buffer_is_searched_once() {
    let input = format!("GET / HTTP/1.1\r\n{}", "X-Field: some value\r\n".repeat(90));
    let mut progress = HeadProgress::default();
    for end in 1..=input.len() {
        let bytes = &input.as_bytes()[..end];
        assert_eq!(call(bytes, &mut progress, &LIMITS), Ok(None));
        assert_eq!(progress.scanned, end);
        if end > 16 {
            let line = bytes.iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
            assert_eq!((progress.line_start, progress.judged), (line, line));
        }
    }
}

#[test]
fn input_that_shrank_is_no_panic() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n";
    for longer in 0..=input.len() {
        for shorter in 0..longer {
            let mut progress = HeadProgress::default();
            assert_eq!(call(&input[..longer], &mut progress, &LIMITS), Ok(None));
            let _ = call(&input[..shorter], &mut progress, &LIMITS);
            let _ = call(input, &mut progress, &LIMITS);
        }
    }
}

/// Bytes as they come in heads, the dangerous ones more often.
fn head_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b"\r\n"[..]),
        4 => Just(&b": "[..]),
        3 => Just(&b"Host"[..]),
        3 => Just(&b"value"[..]),
        2 => Just(&b":"[..]),
        2 => Just(&b" "[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"\t"[..]),
        1 => Just(&b"\0"[..]),
        1 => Just(&b"\x80"[..]),
        1 => Just(&b"\x7f"[..]),
        1 => Just(&b"\r\n\r\n"[..]),
        1 => Just(&b"(x)"[..]),
    ];
    let start = prop_oneof![
        8 => Just(&b"GET / HTTP/1.1\r\n"[..]),
        1 => Just(&b"\r\nGET http://a HTTP/1.0\r\n"[..]),
        1 => Just(&b""[..]),
    ];
    (start, vec(piece, 0..24)).prop_map(|(start, pieces)| [start, &pieces.concat()].concat())
}

// The parser judges whole heads, our own rules judge lines that came in pieces: they must agree on every input.
#[test]
fn any_input_split_anywhere_gives_the_same_verdict() {
    let tight = Limits { request_line: 24, header_fields: 3, header_size: 40, body_size: 0 };
    fixed_seed(3000)
        .run(&head_bytes(), |input| {
            let _ = every_way(&input, &LIMITS);
            let _ = every_way(&input, &tight);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_single_byte_in_a_field_is_judged_alike_in_pieces_and_whole() {
    for byte in 0..=255_u8 {
        for at in 0..8 {
            let mut input = b"GET / HTTP/1.1\r\nX: aY\r\n\r\n".to_vec();
            input.insert(16 + at.min(7), byte);
            let _ = every_way(&input, &LIMITS);
        }
    }
}

#[test]
fn any_accepted_head_can_be_written_back() {
    fixed_seed(3000)
        .run(&head_bytes(), |input| {
            if let Ok(Some(head)) = whole(&input, &LIMITS) {
                let mut again = [&head.request_line[..], b"\r\n"].concat();
                for (name, value) in &head.fields {
                    again.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
                }
                again.extend_from_slice(b"\r\n");
                let second = whole(&again, &LIMITS).unwrap().unwrap();
                prop_assert_eq!(second.consumed, again.len());
                prop_assert_eq!((second.request_line, second.fields), (head.request_line, head.fields));
            }
            Ok(())
        })
        .unwrap();
}

// What came before on the connection changes nothing about what is read, however it arrives.
fn same_behind(earlier: &[u8], input: &[u8], limits: &Limits) {
    let Ok(Some((first, _))) = head(earlier, &mut HeadProgress::default(), &LIMITS) else { return };
    let expected = whole(input, limits);
    for split in 0..=input.len() {
        let mut progress = HeadProgress::behind(first.clone());
        let begun = call(&input[..split], &mut progress, limits);
        assert_eq!(begun, whole(&input[..split], limits), "{} behind {}", input.escape_ascii(), earlier.escape_ascii());
        if begun == Ok(None) {
            assert_eq!(call(input, &mut progress, limits), expected, "split at {split}: {}", input.escape_ascii());
        }
    }
}

#[test]
fn repeated_fields_are_read_as_if_they_came_for_the_first_time() {
    let fields = "Host: a\r\nX-Name:  some value \r\nEmpty:\r\n\r\n";
    let earlier = format!("GET /a HTTP/1.1\r\n{fields}");
    for line in
        ["GET /a HTTP/1.1", "POST /other?x=1 HTTP/1.0", "\r\nGET / HTTP/1.1", "GET /a HTTP/2.0", "GET /a b HTTP/1.1"]
    {
        for behind in ["", "GET ", "\r\n"] {
            same_behind(earlier.as_bytes(), format!("{line}\r\n{fields}{behind}").as_bytes(), &LIMITS);
        }
    }
    // A byte more, less or other.
    for at in 0..earlier.len() {
        for byte in *b"\r\n :ax" {
            let (mut other, mut longer) = (earlier.clone().into_bytes(), earlier.clone().into_bytes());
            other[at] = byte;
            longer.insert(at, byte);
            same_behind(earlier.as_bytes(), &other, &LIMITS);
            same_behind(earlier.as_bytes(), &longer, &LIMITS);
        }
    }
    // What was within its limits need not be any more.
    let section = fields.len();
    for limits in [
        Limits { header_fields: 2, ..LIMITS },
        Limits { header_size: section - 1, ..LIMITS },
        Limits { header_size: section, header_fields: 3, ..LIMITS },
    ] {
        same_behind(earlier.as_bytes(), earlier.as_bytes(), &limits);
    }
}

#[test]
fn any_head_behind_any_other_is_read_as_if_it_came_first() {
    fixed_seed(600)
        .run(&(head_bytes(), head_bytes()), |(earlier, input)| {
            same_behind(&earlier, &input, &LIMITS);
            same_behind(&input, &input, &LIMITS);
            Ok(())
        })
        .unwrap();
}
