"""Section `environ`: what the application is told of its request, and how its streams read."""

from __future__ import annotations

from urllib.parse import quote

from tests.conformance.catalogue import NEXT
from tests.conformance.exchanges import (
    Answer,
    Check,
    ProbeCase,
    demand,
    either,
    fact,
    get,
    gives,
    in_step,
    shown,
    status,
    told,
)

VARIABLES = "PEP 3333, environ Variables"
STREAMS = "PEP 3333, Input and Error Streams"
NAMES = "RFC 3875 §4.1.18"
CHUNKED = "Transfer-Encoding: chunked"


def case(name: str, rule: str, sentence: str, request: bytes, *checks: Check, promise: bool = False) -> ProbeCase:
    return ProbeCase(name, "environ", rule, promise, sentence, request, checks, closes=b" HTTP/1.0\r\n" in request)


def environ(name: str, rule: str, sentence: str, *checks: Check, lines: tuple[str, ...] = (), version: str = "1.1",
            query: str = "", promise: bool = False) -> ProbeCase:  # fmt: skip
    return case(name, rule, sentence, get(f"environ{query}", *lines, version=version), *checks, promise=promise)


def reading(name: str, steps: str, content: bytes, *wanted: object) -> list[ProbeCase]:
    """The steps on a body with a length, and on the same body in chunks of three bytes."""
    path = f"input?{quote(steps, safe=',;')}"
    pieces = [content[at : at + 3] for at in range(0, len(content), 3)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    requests = {
        "": ("a body of known length", get(path, method="POST", content=content)),
        "-chunked": ("a chunked body", get(path, CHUNKED, method="POST") + chunks),
    }
    return [
        case(f"input-{name}{kind}", STREAMS, f"The steps {steps} on {what}.", request, gives(list(wanted)), in_step)
        for kind, (what, request) in requests.items()
    ]


def no_framing(answer: Answer) -> None:
    """No variable says chunked where the application could take it for its own business."""
    demand("HTTP_TRANSFER_ENCODING" not in answer.json["environ"], "HTTP_TRANSFER_ENCODING is set")


def filled(*keys: str) -> Check:
    """The variables are text and not empty."""

    def check(answer: Answer) -> None:
        for key in keys:
            value = answer.json["environ"].get(key)
            demand(isinstance(value, str) and bool(value), f"{key} is {value!r}")

    return check


def port_is_a_number(answer: Answer) -> None:
    port = answer.json["environ"].get("SERVER_PORT", "")
    demand(isinstance(port, str) and port.isdigit(), f"SERVER_PORT is {port!r}")


REFUSED = [status(400, 431)]

CASES = [
    *(
        case(
            f"environ-validated-{method.lower()}-{version}",
            VARIABLES,
            f"{method} with HTTP/{version} passes wsgiref.validate.",
            get("validated", method=method, version=version, content=b"hello" if method == "POST" else b""),
            status(200),
            told(),
        )
        for method in ("GET", "POST", "HEAD")
        for version in ("1.0", "1.1")
    ),
    environ("environ-dict", VARIABLES, "The environ is a dict itself, no subclass.", fact("is dict", True)),
    environ("environ-version", VARIABLES, "wsgi.version is (1, 0).", fact("version", [1, 0])),
    environ("environ-input-methods", STREAMS, "wsgi.input has its four methods.", fact("input", True)),
    environ("environ-errors-methods", STREAMS, "wsgi.errors has its three methods.", fact("errors", True)),
    environ("environ-native-strings", "PEP 3333, Unicode Issues", "Every text is Latin-1.", fact("not latin-1", [])),
    environ("environ-fresh", VARIABLES, "An environ has nothing of the one before it.", fact("marked", False)),
    environ("environ-method", VARIABLES, "REQUEST_METHOD is the method.", shown("REQUEST_METHOD", "GET")),
    environ("environ-script-name", VARIABLES, "SCRIPT_NAME is empty.", shown("SCRIPT_NAME", "", None)),
    environ("environ-path", VARIABLES, "PATH_INFO is the path.", shown("PATH_INFO", "/app/environ")),
    environ(
        "environ-query",
        VARIABLES,
        "QUERY_STRING is not decoded.",
        shown("QUERY_STRING", "q=%20%C3%A9+1&a=?/"),
        query="?q=%20%C3%A9+1&a=?/",
    ),
    environ(
        "environ-query-empty",
        VARIABLES,
        "QUERY_STRING is empty or absent without a query.",
        shown("QUERY_STRING", "", None),
    ),
    environ("environ-scheme", VARIABLES, "wsgi.url_scheme is http.", shown("wsgi.url_scheme", "http")),
    environ(
        "environ-protocol-1.1",
        VARIABLES,
        "SERVER_PROTOCOL is that of the request.",
        shown("SERVER_PROTOCOL", "HTTP/1.1"),
    ),
    environ(
        "environ-protocol-1.0",
        VARIABLES,
        "SERVER_PROTOCOL is HTTP/1.0 for HTTP/1.0.",
        shown("SERVER_PROTOCOL", "HTTP/1.0"),
        version="1.0",
    ),
    environ(
        "environ-server",
        VARIABLES,
        "SERVER_NAME and SERVER_PORT are never empty.",
        filled("SERVER_NAME", "SERVER_PORT"),
    ),
    environ("environ-port", "RFC 3875 §4.1.15", "SERVER_PORT is a number.", port_is_a_number, promise=True),
    environ("environ-host", VARIABLES, "HTTP_HOST is the Host field.", shown("HTTP_HOST", "a")),
    case(
        "environ-host-absolute",
        "RFC 9112 §3.2.2",
        "The host of an absolute target replaces the Host field.",
        b"GET http://b/app/environ HTTP/1.1\r\nHost: a\r\n\r\n",
        shown("HTTP_HOST", "b"),
        shown("PATH_INFO", "/app/environ"),
    ),
    environ(
        "environ-no-length",
        VARIABLES,
        "CONTENT_LENGTH is empty or absent without a body.",
        shown("CONTENT_LENGTH", "", None, "0"),
    ),
    case(
        "environ-length-and-type",
        NAMES,
        "Length and type have their own names alone.",
        get("environ", "Content-Type: text/x", method="POST", content=b"hello"),
        shown("CONTENT_LENGTH", "5"),
        shown("CONTENT_TYPE", "text/x"),
        shown("HTTP_CONTENT_LENGTH", None),
        shown("HTTP_CONTENT_TYPE", None),
    ),
    case(
        "environ-chunked-length",
        VARIABLES,
        "CONTENT_LENGTH of a chunked body is absent or true.",
        get("environ", CHUNKED, method="POST") + b"5\r\nhello\r\n0\r\n\r\n",
        shown("CONTENT_LENGTH", "5", None, ""),
    ),
    case(
        "environ-chunked-coding",
        "PEP 3333, Other HTTP Features",
        "HTTP_TRANSFER_ENCODING is absent where the body is decoded.",
        get("environ", CHUNKED, method="POST") + b"5\r\nhello\r\n0\r\n\r\n",
        no_framing,
        promise=True,
    ),
    case(
        "environ-trailer",
        "RFC 9110 §6.5.1",
        "A trailer is not merged into the fields.",
        get("environ", CHUNKED, method="POST") + b"0\r\nX-T: 1\r\n\r\n",
        shown("HTTP_X_T", None),
        in_step,
    ),
    # Fields.
    environ(
        "environ-field-padded",
        "RFC 9110 §5.5",
        "White space around a value is no part of it.",
        shown("HTTP_X", "v"),
        lines=("X: \t v \t ",),
    ),
    environ(
        "environ-field-empty", "RFC 9110 §5.5", "An empty value is an empty text.", shown("HTTP_X", ""), lines=("X:",)
    ),
    environ(
        "environ-field-inner-space",
        "RFC 9110 §5.5",
        "White space inside a value is kept.",
        shown("HTTP_X", "a  b"),
        lines=("X: a  b",),
    ),
    environ(
        "environ-field-latin1",
        "PEP 3333, Unicode Issues",
        "A value is the Latin-1 view of its bytes.",
        shown("HTTP_X", "\xe9"),
        lines=("X: \xe9",),
    ),
    environ(
        "environ-field-repeated",
        "RFC 9110 §5.3",
        "Repeated fields are joined in their order.",
        shown("HTTP_X_A", "1,2", "1, 2"),
        lines=("X-A: 1", "X-A: 2"),
    ),
    environ(
        "environ-field-token-characters",
        "RFC 3875 §4.1.18",
        "A name with a dot and other token characters has a variable of its own.",
        shown("HTTP_X_AMZ_META_META.DATA", "1"),
        shown("HTTP_X!A~B", "2"),
        lines=("x-amz-meta-meta.data: 1", "X!a~b: 2"),
        promise=True,
    ),
    environ(
        "environ-field-cookies",
        "RFC 9110 §5.3",
        "Cookie fields are joined with a semicolon.",
        shown("HTTP_COOKIE", "a=1; b=2", "a=1;b=2"),
        lines=("Cookie: a=1", "Cookie: b=2"),
        promise=True,
    ),
    # Names that would collide.
    case(
        "environ-underscore-length",
        "RFC 9110 §17.10",
        "Content_Length never takes the place of Content-Length.",
        get("environ", "Content_Length: 3", method="POST", content=b"hello"),
        either([shown("CONTENT_LENGTH", "5")], REFUSED),
    ),
    environ(
        "environ-underscore-forwarded",
        "RFC 9110 §17.10",
        "X_Forwarded_For never mixes with X-Forwarded-For.",
        either([shown("HTTP_X_FORWARDED_FOR", "1.1.1.1", None)], REFUSED),
        lines=("X-Forwarded-For: 1.1.1.1", "X_Forwarded_For: 6.6.6.6"),
    ),
    environ(
        "environ-underscore-coding",
        "RFC 9110 §17.10",
        "Transfer_Encoding does not look like Transfer-Encoding.",
        either([shown("HTTP_TRANSFER_ENCODING", None)], REFUSED),
        lines=("Transfer_Encoding: chunked",),
    ),
    environ(
        "environ-name-http-content-length",
        NAMES,
        "HTTP_CONTENT_LENGTH maps onto nothing real.",
        either([shown("CONTENT_LENGTH", "", None), shown("HTTP_CONTENT_LENGTH", None)], REFUSED),
        lines=("HTTP_CONTENT_LENGTH: 9",),
    ),
    environ(
        "environ-name-script-name",
        NAMES,
        "A field SCRIPT_NAME of a peer that nobody trusts has no effect.",
        either([shown("SCRIPT_NAME", "", None)], REFUSED),
        lines=("SCRIPT_NAME: /x",),
        promise=True,
    ),
    environ(
        "environ-name-remote-user",
        NAMES,
        "A field Remote-User is no REMOTE_USER.",
        shown("REMOTE_USER", None),
        lines=("Remote-User: root",),
    ),
    environ(
        "environ-forwarded-proto",
        VARIABLES,
        "X-Forwarded-Proto of a peer that nobody trusts has no effect.",
        shown("wsgi.url_scheme", "http"),
        lines=("X-Forwarded-Proto: https",),
        promise=True,
    ),
    # Streams.
    case("environ-errors-unicode", STREAMS, "wsgi.errors takes any text.", get("errors"), gives("written"), in_step),
    *reading("read", "read", b"a\nb\n", "a\nb\n"),
    *reading("read-minus-one", "read,-1", b"a\nb\n", "a\nb\n"),
    *reading("read-zero", "read,0;read", b"a\nb\n", "", "a\nb\n"),
    *reading("read-one", "read,1;read,1;read", b"a\nb\n", "a", "\n", "b\n"),
    *reading("read-beyond", "read,100;read,100;read", b"hello", "hello", "", ""),
    *reading("readline", "readline;readline;readline", b"a\nb", "a\n", "b", ""),
    *reading("readline-size", "readline,1;readline,5;readline,5", b"ab\ncd\n", "a", "b\n", "cd\n"),
    *reading("readlines", "readlines;read", b"a\nb\nc", ["a\n", "b\n", "c"], ""),
    *reading("iterate", "iterate;read", b"a\n\nb", ["a\n", "\n", "b"], ""),
    *reading("mixed", "read,1;readline;read", b"ab\ncd\n", "a", "b\n", "cd\n"),
    case(
        "input-none",
        STREAMS,
        "A request without a body reads as empty at once.",
        get("input?read;read,5;readline", method="POST"),
        gives(["", "", ""]),
        in_step,
    ),
    case("input-none-get", STREAMS, "A GET reads as empty at once.", get("input?read"), gives([""]), in_step),
    case(
        "input-never-beyond",
        STREAMS,
        "The stream never reads into the next request.",
        get("input?read,1000;read", method="POST", content=b"hello") + NEXT,
        lambda answer: demand(answer.response.body == b'["hello", ""]', f"{answer.response.body!r}"),
    ),
]
