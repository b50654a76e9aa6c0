//! Status codes (RFC 9110 §15).

/// A status code of three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(u16);

impl Status {
    /// The code, if it has three digits: 100 to 999. Codes from 600 on have no meaning, but are valid.
    pub const fn new(code: u16) -> Option<Self> {
        if 100 <= code && code <= 999 { Some(Self(code)) } else { None }
    }

    // For the tables of this module, whose codes are literals.
    pub(super) const fn literal(code: u16) -> Self {
        Self(code)
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Whether a final response is still to come (RFC 9110 §15.2).
    pub const fn is_informational(self) -> bool {
        self.0 < 200
    }

    /// Whether no body follows, regardless of the fields (RFC 9112 §6.3, rule 1).
    pub const fn forbids_body(self) -> bool {
        self.is_informational() || matches!(self.0, 204 | 304)
    }

    /// Whether the content must be empty, with a Content-Length of 0: 205 Reset Content (RFC 9110 §15.3.6).
    pub const fn resets_content(self) -> bool {
        self.0 == 205
    }

    /// The registered phrase; empty where there is none.
    pub const fn reason(self) -> &'static str {
        match self.0 {
            100 => "Continue",
            101 => "Switching Protocols",
            102 => "Processing",
            103 => "Early Hints",
            200 => "OK",
            201 => "Created",
            202 => "Accepted",
            203 => "Non-Authoritative Information",
            204 => "No Content",
            205 => "Reset Content",
            206 => "Partial Content",
            207 => "Multi-Status",
            208 => "Already Reported",
            226 => "IM Used",
            300 => "Multiple Choices",
            301 => "Moved Permanently",
            302 => "Found",
            303 => "See Other",
            304 => "Not Modified",
            305 => "Use Proxy",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            402 => "Payment Required",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            409 => "Conflict",
            410 => "Gone",
            411 => "Length Required",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            414 => "URI Too Long",
            415 => "Unsupported Media Type",
            416 => "Range Not Satisfiable",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            422 => "Unprocessable Content",
            423 => "Locked",
            424 => "Failed Dependency",
            425 => "Too Early",
            426 => "Upgrade Required",
            428 => "Precondition Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            451 => "Unavailable For Legal Reasons",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            506 => "Variant Also Negotiates",
            507 => "Insufficient Storage",
            508 => "Loop Detected",
            510 => "Not Extended",
            511 => "Network Authentication Required",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn new_outside_three_digits_is_refused() {
        for (code, stands) in [(0, false), (99, false), (100, true), (599, true), (999, true), (1000, false)] {
            assert_eq!(Status::new(code).map(Status::code), stands.then_some(code), "{code}");
        }
    }

    #[test]
    fn forbids_body_exactly_for_interim_204_and_304() {
        for code in 100..=999 {
            let expected = code < 200 || code == 204 || code == 304;
            assert_eq!(Status::literal(code).forbids_body(), expected, "{code}");
        }
    }

    #[test]
    fn resets_content_only_for_205() {
        assert!((100..=999).all(|code| Status::literal(code).resets_content() == (code == 205)));
    }

    #[test]
    fn reason_of_every_code_can_stand_in_a_status_line() {
        for code in 100..=999 {
            let reason = Status::literal(code).reason();
            assert!(reason.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b' ' || byte == b'-'), "{code}");
        }
        assert_eq!(Status::literal(299).reason(), "");
        assert_eq!(Status::literal(413).reason(), "Content Too Large");
    }
}
