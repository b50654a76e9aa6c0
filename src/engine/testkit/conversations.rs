//! Conversations for the tests of this room, of every kind that a connection can have. What the application does at a path is
//! theirs to say.

use crate::engine::options::Options;

/// What a client says.
pub struct Conversation {
    /// What it is about.
    pub name: &'static str,
    /// What the operator decided.
    pub options: Options,
    /// What the client sends, each piece when the server waits.
    pub pieces: Vec<Vec<u8>>,
    /// Whether it then closes its side.
    pub closes: bool,
    /// The calls of the application in a quiet world.
    pub calls: &'static [&'static str],
}

/// One of every kind.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn conversations() -> Vec<Conversation> {
    let small = Options { body_buffer: 4, ..Options::default() };
    let said = |pieces: &[&str]| pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
    let of = |name, options: &Options, pieces: &[&str], closes, calls| Conversation {
        name,
        options: options.clone(),
        pieces: said(pieces),
        closes,
        calls,
    };
    let usual = Options::default();
    let chunked = Options { stream_chunked: true, ..Options::default() };
    vec![
        of(
            "pipelined requests, one with a body",
            &usual,
            &[
                "GET /echo HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
                "loGET /pieces HTTP/1.1\r\nHost: a\r\n\r\n",
                "HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\nGET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ],
            false,
            &["GET /echo", "POST /echo hello", "GET /pieces", "HEAD /echo", "GET /large"],
        ),
        of(
            "a client that says little by little and leaves",
            &usual,
            &["GE", "T /echo HT", "TP/1.1\r\nHost", ": a\r\n\r", "\n"],
            true,
            &["GET /echo"],
        ),
        of(
            "a chunked body, in a file",
            &small,
            &[
                "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                "4\r\ndef",
                "g\r\n0\r\n\r\nGET /hinted HTTP/1.1\r\nHost: a\r\n\r\n",
            ],
            true,
            &["POST /echo abcdefg", "GET /hinted"],
        ),
        of(
            "a chunked body, streamed",
            &chunked,
            &[
                "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                "4\r\ndefg\r\n",
                "0\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
            ],
            false,
            &["POST /echo abcdefg", "GET /echo"],
        ),
        of(
            "a body of known length, streamed",
            &small,
            &[
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nab",
                "cde",
                "fghGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
            ],
            true,
            &["POST /echo abcdefgh", "GET /echo"],
        ),
        of(
            "a body that nobody reads",
            &small,
            &[
                "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nab",
                "cdef",
                "ghGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
            ],
            false,
            &["POST /unread", "GET /echo"],
        ),
        of(
            "expectations, taken whole and streamed",
            &small,
            &[
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
                "abcPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n",
                "abcdefgh",
            ],
            true,
            &["POST /echo abc", "POST /echo abcdefgh"],
        ),
        of(
            "files, the last one shorter than it was",
            &usual,
            &[
                "GET /file HTTP/1.1\r\nHost: a\r\n\r\nHEAD /file HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /truncated HTTP/1.1\r\nHost: a\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
            ],
            false,
            &["GET /file", "HEAD /file", "GET /truncated"],
        ),
        of(
            "HTTP/1.0, until the end of the connection",
            &usual,
            &["GET /pieces HTTP/1.0\r\n\r\n"],
            false,
            &["GET /pieces"],
        ),
        of(
            "a response that breaks off",
            &usual,
            &["GET /half HTTP/1.1\r\nHost: a\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n"],
            false,
            &["GET /half"],
        ),
        of(
            "a request that is refused",
            &usual,
            &["GET /echo HTTP/1.1\r\nHost: a\r\n\r\nGET /echo HTTP/1.1\r\nHost : a\r\n\r\n", "more"],
            true,
            &["GET /echo"],
        ),
    ]
}
