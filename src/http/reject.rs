//! Refusals. Each rule that a request can break has a variant, so that tests can name it, the log can tell it from others, and
//! the client's text can be less detailed.

use super::status::Status;

/// What caused a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client sent what it must not, too much, or too slowly.
    Client,
    /// The application failed.
    App,
    /// The server failed or is full.
    Server,
    /// The client disconnected.
    Disconnect,
}

// One row for each variant: status, blame, the text for the client, the text for the log. One table, so that no list can
// miss a variant.
macro_rules! rejects {
    ($($(#[$doc:meta])+ $name:ident: $status:literal $blame:ident, $public:literal, $detail:literal;)+) => {
        /// Why the server answers a request instead of the application.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reject {
            $($(#[$doc])+ $name,)+
        }

        impl Reject {
            /// Every variant, in the order of their rules.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The status of the response.
            pub const fn status(self) -> Status {
                Status::literal(match self { $(Self::$name => $status),+ })
            }

            /// What caused a refusal.
            pub const fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame),+ }
            }

            /// The text for the client: short, plain, without bytes of the request.
            pub const fn public(self) -> &'static str {
                match self { $(Self::$name => $public),+ }
            }

            /// The text for the log: the broken rule, in lower case, without bytes of the request.
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail),+ }
            }
        }
    };
}

rejects! {
    // The request line.

    /// More than one empty line stands before the request line (RFC 9112 §2.2).
    EmptyLines: 400 Client, "Malformed request.", "more than one empty line before the request line";
    /// The first byte is that of a TLS record.
    TlsRecord: 400 Client, "This port speaks plain HTTP, not TLS.", "the client speaks TLS to a plain port";
    /// A line feed without a carriage return before it (RFC 9112 §2.2).
    BareLf: 400 Client, "Malformed line end.", "a line of the head ends with a bare LF";
    /// A carriage return that does not end a line (RFC 9112 §2.2).
    BareCr: 400 Client, "Malformed line end.", "a line of the head contains a bare CR";
    /// The request line is longer than its limit (RFC 9110 §15.5.15).
    RequestLineTooLong: 414 Client, "The request line is too long.", "the request line is over its limit";
    /// Not a method, a target and a version with one space between each (RFC 9112 §3).
    RequestLineMalformed: 400 Client, "Malformed request line.",
        "the request line is not 'method SP target SP version'";
    /// The method is no token (RFC 9110 §9.1).
    MethodMalformed: 400 Client, "Malformed request line.", "the method is not a token";
    /// The version is no `HTTP/` with two digits (RFC 9112 §2.3).
    VersionMalformed: 400 Client, "Malformed request line.", "the version is not 'HTTP/' DIGIT '.' DIGIT";
    /// A version other than HTTP/1.0 and HTTP/1.1 (RFC 9110 §15.6.6).
    VersionUnsupported: 505 Client, "Only HTTP/1.0 and HTTP/1.1 are supported.",
        "the version is neither HTTP/1.0 nor HTTP/1.1";
    /// The target has none of the four forms, or one that does not go with the method (RFC 9112 §3.2).
    TargetMalformed: 400 Client, "Malformed request target.", "the target has no form that goes with the method";
    /// The target holds a byte that must be percent-encoded (RFC 3986 §2).
    TargetByte: 400 Client, "Malformed request target.", "the target contains a control or non-ASCII byte";
    /// The target holds a fragment (RFC 9112 §3.2 has no place for one).
    TargetFragment: 400 Client, "Malformed request target.", "the target contains a fragment";
    /// The absolute target's scheme is neither `http` nor `https` (RFC 9112 §3.2.2).
    TargetScheme: 400 Client, "Malformed request target.",
        "the scheme of the absolute target is neither http nor https";
    /// The target's authority carries user information (RFC 9110 §4.2.4).
    TargetUserinfo: 400 Client, "Malformed request target.", "the authority of the target contains user information";
    /// The target's authority is no host with an optional port (RFC 9110 §4.2.1).
    TargetAuthority: 400 Client, "Malformed request target.",
        "the authority of the target is not a host with an optional port";

    // The fields.

    /// The header section is larger than its limit (RFC 6585 §5).
    HeaderTooLarge: 431 Client, "The header section is too large.", "the header section is over its size limit";
    /// The header section has more field lines than its limit (RFC 6585 §5).
    TooManyFields: 431 Client, "Too many header fields.", "the header section has more field lines than its limit";
    /// White space stands between the request line and the first field (RFC 9112 §2.2).
    SpaceBeforeFields: 400 Client, "Malformed header field.",
        "white space between the request line and the first field";
    /// A field goes on in a further line (RFC 9112 §5.2).
    FieldFolded: 400 Client, "Malformed header field.", "a field is folded over two lines (obs-fold)";
    /// A field line has no colon (RFC 9112 §5).
    FieldWithoutColon: 400 Client, "Malformed header field.", "a field line has no colon";
    /// A field has no name (RFC 9112 §5).
    FieldNameEmpty: 400 Client, "Malformed header field.", "a field has an empty name";
    /// White space stands between a field's name and the colon (RFC 9112 §5.1).
    SpaceBeforeColon: 400 Client, "Malformed header field.", "white space between a field's name and its colon";
    /// A field's name is no token (RFC 9110 §5.1).
    FieldNameMalformed: 400 Client, "Malformed header field.", "a field's name is not a token";
    /// A field's value holds a control character (RFC 9110 §5.5).
    FieldValueMalformed: 400 Client, "Malformed header field.", "a field's value contains a control character";

    // The fields that frame and route the message.

    /// The client requests a tunnel (RFC 9110 §9.3.6); this is an origin server.
    Connect: 501 Client, "CONNECT is not implemented.", "the method is CONNECT";
    /// The method has a lower-case letter, and the application is one of ASGI, whose scopes have methods in upper case.
    MethodLowerCase: 501 Client, "The method is not implemented.",
        "the method has a lower-case letter, which ASGI cannot pass on";
    /// An HTTP/1.1 request names no host (RFC 9112 §3.2).
    HostMissing: 400 Client, "The Host field is missing.", "an HTTP/1.1 request without Host";
    /// More than one Host line (RFC 9112 §3.2).
    HostRepeated: 400 Client, "The Host field is repeated.", "more than one Host field line";
    /// Host is no host with an optional port (RFC 9112 §3.2).
    HostMalformed: 400 Client, "Malformed Host field.", "the value of Host is not a host with an optional port";
    /// Content-Length is no plain number (RFC 9110 §8.6).
    ContentLengthMalformed: 400 Client, "Malformed Content-Length field.",
        "the value of Content-Length is not a plain decimal number";
    /// More than one Content-Length line, even if they agree (RFC 9110 §8.6 allows refusing them).
    ContentLengthRepeated: 400 Client, "The Content-Length field is repeated.",
        "more than one Content-Length field line";
    /// Transfer-Encoding came with HTTP/1.0 (RFC 9112 §6.1).
    TransferEncodingOnHttp10: 400 Client, "Transfer-Encoding needs HTTP/1.1.",
        "Transfer-Encoding on an HTTP/1.0 request";
    /// Both framings at once, the mark of request smuggling (RFC 9112 §6.3, rule 3).
    BothFramings: 400 Client, "Content-Length and Transfer-Encoding exclude each other.",
        "both Content-Length and Transfer-Encoding";
    /// More than one Transfer-Encoding line.
    TransferEncodingRepeated: 400 Client, "The Transfer-Encoding field is repeated.",
        "more than one Transfer-Encoding field line";
    /// Transfer-Encoding is no list of bare tokens (RFC 9112 §7).
    TransferEncodingMalformed: 400 Client, "Malformed Transfer-Encoding field.",
        "the value of Transfer-Encoding is not a list of codings";
    /// The last coding is not `chunked`, or an earlier one is (RFC 9112 §6.1, §6.3 rule 4).
    ChunkedMisplaced: 400 Client, "Unusable Transfer-Encoding field.",
        "chunked is not the last coding, or not only the last";
    /// A coding besides `chunked` (RFC 9112 §6.1).
    TransferCodingUnsupported: 501 Client, "The transfer coding is not implemented.",
        "a transfer coding other than chunked";
    /// The content is larger than its limit (RFC 9110 §15.5.14).
    BodyTooLarge: 413 Client, "The content is too large.", "the request content is over its limit";
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    ExpectationUnsupported: 417 Client, "The expectation cannot be met.", "an expectation other than 100-continue";

    /// Content-Type lines with different values (RFC 9110 §8.3).
    ContentTypeConflict: 400 Client, "Conflicting Content-Type fields.",
        "Content-Type field lines with different values";
    /// Authorization lines with different values (RFC 9110 §11.6.2).
    AuthorizationConflict: 400 Client, "Conflicting Authorization fields.",
        "Authorization field lines with different values";

    // Fields of trusted proxies.

    /// Forwarded is no list of elements with their parameters (RFC 7239 §4), or one of these has a value that it must
    /// not have.
    ForwardedMalformed: 400 Client, "Malformed Forwarded field.", "a trusted proxy's Forwarded field is malformed";
    /// The client in X-Forwarded-For is no address.
    XForwardedForMalformed: 400 Client, "Malformed X-Forwarded-For field.",
        "a trusted proxy's X-Forwarded-For field names no address";
    /// The scheme in X-Forwarded-Proto is unknown.
    XForwardedProtoMalformed: 400 Client, "Malformed X-Forwarded-Proto field.",
        "a trusted proxy's X-Forwarded-Proto field is neither http nor https";
    /// X-Forwarded-Host is no host with an optional port.
    XForwardedHostMalformed: 400 Client, "Malformed X-Forwarded-Host field.",
        "a trusted proxy's X-Forwarded-Host field is not a host";
    /// X-Forwarded-Port is no port.
    XForwardedPortMalformed: 400 Client, "Malformed X-Forwarded-Port field.",
        "a trusted proxy's X-Forwarded-Port field is not a port";
    /// X-Forwarded-Prefix is no path.
    XForwardedPrefixMalformed: 400 Client, "Malformed X-Forwarded-Prefix field.",
        "a trusted proxy's X-Forwarded-Prefix field is not a path";

    // The chunked body (RFC 9112 §7.1).

    /// A chunk's size is no hexadecimal number, or something else than an extension follows it.
    ChunkSizeMalformed: 400 Client, "Malformed chunk.", "a chunk size is not a plain hexadecimal number";
    /// A chunk's size cannot be counted.
    ChunkSizeOverflow: 400 Client, "Malformed chunk.",
        "a chunk size does not fit into 64 bits or has too many digits";
    /// A chunk extension is no name, or no name with a token or a quoted string as its value (RFC 9112 §7.1.1).
    ChunkExtensionMalformed: 400 Client, "Malformed chunk.",
        "a chunk extension is not ';' name, with '=' and a value or without";
    /// One chunk extension, or all of a body's together, are over their limit.
    ChunkExtensionsTooLarge: 413 Client, "The chunk extensions are too large.",
        "the chunk extensions are over their limit";
    /// A line of the chunked framing does not end with CRLF.
    ChunkLineEnd: 400 Client, "Malformed chunk.", "a chunk size line does not end with CRLF";
    /// A chunk's data is not followed by CRLF.
    ChunkDataEnd: 400 Client, "Malformed chunk.", "the data of a chunk is not followed by CRLF";
    /// A trailer line is no field line.
    TrailerMalformed: 400 Client, "Malformed trailer field.", "a trailer line is not a field line";
    /// The trailer section is larger than the header section may be.
    TrailersTooLarge: 431 Client, "The trailer section is too large.",
        "the trailer section is over the header size limit";
    /// The trailer section has more lines than the header section may have.
    TooManyTrailers: 431 Client, "Too many trailer fields.",
        "the trailer section has more lines than the header field limit";

    // Refusals of the engine.

    /// The head was not complete in time (RFC 9110 §15.5.9).
    HeaderTimeout: 408 Client, "The request did not arrive in time.", "the head was not complete before its deadline";
    /// The body stalled or was too slow.
    BodyTimeout: 408 Client, "The request did not arrive in time.", "the body stalled or came below the minimum rate";
    /// The client closed or reset the connection inside its body. The response would have no reader.
    BodyIncomplete: 400 Disconnect, "The content is incomplete.", "the client left before its body was complete";
    /// The queue of complete requests is full.
    QueueFull: 503 Server, "The server is busy.", "the request queue is full";
    /// The request waited too long for a worker.
    QueueTimeout: 503 Server, "The server is busy.", "the request waited too long for a worker";
    /// WebSockets have as many of the connections as they may.
    TooManyWebSockets: 503 Server, "The server is busy.", "WebSockets hold seven eighths of max_connections";
    /// The server stopped before the application had answered.
    Stopping: 503 Server, "The server is stopping.", "the server stopped before the application had answered";
    /// The request bodies in temporary files have reached their limit.
    SpoolFull: 503 Server, "The server is busy.", "the request bodies in temporary files are at their bound";
    /// A body could not be written to its temporary file.
    SpoolFailed: 500 Server, "Internal server error.", "the request body could not be spooled to a temporary file";
    /// The application did not begin its response within `request_timeout`.
    RequestTimeout: 504 App, "The request took too long.", "the application took longer than request_timeout";
    /// The application raised, or returned no valid response.
    AppFailed: 500 App, "Internal server error.", "the application failed before its response began";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Blame, Reject};

    #[test]
    fn all_names_each_variant_once() {
        assert_eq!(Reject::ALL.iter().collect::<HashSet<_>>().len(), Reject::ALL.len());
    }

    #[test]
    fn detail_of_each_variant_is_its_own() {
        let details: HashSet<_> = Reject::ALL.iter().map(|reject| reject.detail()).collect();
        assert_eq!(details.len(), Reject::ALL.len());
    }

    #[test]
    fn texts_are_short_printable_ascii() {
        for reject in Reject::ALL {
            for text in [reject.public(), reject.detail()] {
                assert!(!text.is_empty() && text.len() <= 80, "{reject:?}");
                assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{reject:?}");
            }
        }
    }

    #[test]
    fn status_class_follows_the_blame() {
        for reject in Reject::ALL {
            let status = reject.status();
            assert!(!status.reason().is_empty(), "{reject:?}");
            let fits = match reject.blame() {
                Blame::Client => status.code() < 500 || matches!(status.code(), 501 | 505),
                Blame::App | Blame::Server => status.code() >= 500,
                Blame::Disconnect => status.code() == 400,
            };
            assert!(fits, "{reject:?}");
        }
    }
}
