"""What a request costs: for everything that a client sends, the work stays within a bound that its size does not move.

Work is counted, not timed: lines of Python that run, and calls of functions in Python and in C. A line takes about
50 ns, so that the bound is a millisecond. What one call in C goes through is bounded by the length it is given.
"""

from __future__ import annotations

import functools
import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from wsgi.application import FileResponse, Request, Response, WSGIApplication
from wsgi.application.cookies import parse_cookies
from wsgi.application.headers import (
    entity_tags,
    list_items,
    parse_options,
    preferred_coding,
    preferred_language,
    preferred_media_type,
)
from wsgi.application.middleware import (
    CORSMiddleware,
    CSRFMiddleware,
    GzipMiddleware,
    RequestIDMiddleware,
    SecurityHeadersMiddleware,
    SessionMiddleware,
    TimingMiddleware,
)

SIZE = 64 * 1024
MOST = 20_000
"""Lines and calls for a request with a field of 64 KB, or a body of that size."""

HERE = Path(__file__)


@functools.cache
def application(*, csrf: bool) -> WSGIApplication:
    """An application that reads everything there is in a request."""
    made = WSGIApplication(
        middleware=[
            RequestIDMiddleware(trust=True),
            TimingMiddleware(),
            SecurityHeadersMiddleware(),
            GzipMiddleware(),
            CORSMiddleware(["https://a.example"], headers="*"),
            SessionMiddleware("a key for the tests, of 32 bytes"),
            *([CSRFMiddleware()] if csrf else []),
        ]
    )

    @made.route("/read", methods=["GET", "POST"])
    def read(request: Request) -> list[object]:
        return [
            *map(len, (request.query, request.cookies, request.headers)),
            request.accepts("text/html", "application/json", "text/plain"),
            request.accepts_language("en", "de-AT", "fr"),
            request.accepts_encoding("br", "gzip", "identity"),
            *(request.wants_json, request.media_type, request.charset, request.is_json, request.client),
            len(request.session),
        ]

    @made.get("/url")
    def url(request: Request) -> str:
        return request.url[:10]

    @made.get("/file")
    def file(request: Request) -> Response:
        return FileResponse(HERE)

    @made.post("/form")
    def form(request: Request) -> list[int]:
        return [len(request.form), len(request.files)]

    @made.post("/json")
    def json(request: Request) -> str:
        return type(request.json()).__name__

    @made.get("/<int:a>/<b>/<path:c>")
    def deep(request: Request, a: int, b: str, c: str) -> str:
        return c[:10]

    made.get("/<a>/<b>-<c>/<d>/end")(lambda request, a, b, c, d: d)
    made.static("/static", HERE.parent)
    return made


def work(call: Callable[[], object]) -> int:
    """How many lines and calls it takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += 1
        return trace

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
    return count


def answered(app: WSGIApplication, path: str, body: bytes = b"", **variables: str) -> str:
    """The status line of the answer to a request."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "a",
        "SERVER_PORT": "80",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        **variables,
    }
    statuses: list[str] = []
    content: Any = app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    for _ in content:
        pass
    if hasattr(content, "close"):
        content.close()
    return statuses[-1]


UNITS = [
    *("a,", "a/b;q=0.1,", "*/*,", "*,", "a-a,", ";a=b", ";a", "a=b;", ";", "=", "&", "a=b&", "%41", "%", "%41&", "+"),
    *('"a",', '"', '""', 'W/"a",', 'W/"', '"\\', "\\", '"\\",', ";a=\\", ',"', "a", " ", ", ", "\t,", ",", "0-1,", "0"),
    *("1-", "-", ":", "[:", "://", "a;q=0.", ";q=", "\xc3\xa9", "\xff", "/", "/a", "..", "/.", "~", "{", "{a}", "'"),
]


def filled(unit: str, size: int = SIZE) -> str:
    """So many characters of a unit."""
    return (unit * (size // len(unit) + 1))[:size]


FIELDS = {
    "HTTP_ACCEPT": ("/read", "/nowhere"),
    "HTTP_ACCEPT_LANGUAGE": ("/read",),
    "HTTP_ACCEPT_ENCODING": ("/read",),
    "HTTP_AUTHORIZATION": ("/read",),
    "HTTP_COOKIE": ("/read", "/nowhere"),
    "HTTP_FORWARDED": ("/read",),
    "HTTP_HOST": ("/url", "/nowhere"),
    "HTTP_IF_MATCH": ("/file",),
    "HTTP_IF_MODIFIED_SINCE": ("/file",),
    "HTTP_IF_NONE_MATCH": ("/file",),
    "HTTP_IF_RANGE": ("/file",),
    "HTTP_IF_UNMODIFIED_SINCE": ("/file",),
    "HTTP_ORIGIN": ("/read", "/form"),
    "HTTP_RANGE": ("/file",),
    "HTTP_X_REQUEST_ID": ("/read",),
    "HTTP_X_CSRF_TOKEN": ("/form",),
    "CONTENT_TYPE": ("/read", "/nowhere", "/form", "/json"),
    "QUERY_STRING": ("/read", "/url", "/read/"),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in FIELDS.items() for path in paths])
def test_field_of_any_kind_is_little_work(name: str, path: str, unit: str) -> None:
    app = application(csrf=name in ("HTTP_X_CSRF_TOKEN", "HTTP_ORIGIN"))
    answered(app, path)  # puts it together
    body = b"a=b" if path in ("/form", "/json") else b""
    fields = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "HTTP_RANGE": "bytes=0-1"}
    for prefix in ("", "bytes=", "a/b;", "multipart/form-data; boundary=b; ", "Basic ", "a=b; session="):
        variables = {**fields, name: prefix + filled(unit)}
        assert work(lambda v=variables: answered(app, path, body, **v)) < MOST, prefix  # type: ignore[misc]


@pytest.mark.parametrize("unit", UNITS)
def test_preflight_is_little_work(unit: str) -> None:
    app = application(csrf=False)
    answered(app, "/read")
    variables = {
        "HTTP_ORIGIN": "https://a.example",
        "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "PUT",
        "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": filled(unit),
        "REQUEST_METHOD": "OPTIONS",
    }
    assert work(lambda: answered(app, "/read", b"", **variables)) < MOST


@pytest.mark.parametrize("unit", [*UNITS, "/a-b", "/1", "/\xc3\xa9", "//", "a-", "1/"])
@pytest.mark.parametrize("prefix", ["/", "/1/b/", "/a/b-c/", "/static/", "/static", "/read/"])
def test_path_of_any_kind_is_little_work(prefix: str, unit: str) -> None:
    app = application(csrf=False)
    answered(app, "/read")
    assert work(lambda: answered(app, prefix + filled(unit))) < MOST


def multipart(part: bytes, count: int) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n\r\nx\r\n" for _ in range(count)) + b"--b--"


DISPOSITION = b'Content-Disposition: form-data; name="a"'
BODIES = {
    "pairs": ("/form", "application/x-www-form-urlencoded", b"a=b&" * 999),
    "too many pairs": ("/form", "application/x-www-form-urlencoded", b"a=b&" * (SIZE // 4)),
    "escapes": ("/form", "application/x-www-form-urlencoded", b"%41" * (SIZE // 3)),
    "stray percents": ("/form", "application/x-www-form-urlencoded", b"%" * SIZE),
    "parameters": ("/form", "multipart/form-data; boundary=b", multipart(DISPOSITION + b"; a=b" * 800, 16)),
    "parameters of a type": (
        "/form",
        "multipart/form-data; boundary=b",
        multipart(DISPOSITION + b"\r\nContent-Type: text/plain" + b"; a=b" * 800, 16),
    ),
    "backslashes": ("/form", "multipart/form-data; boundary=b", multipart(DISPOSITION + b'; a="' + b"\\" * 4000, 16)),
    "lines": ("/form", "multipart/form-data; boundary=b", multipart(DISPOSITION + b"\r\n\r\n" + b"\r\n" * 32000, 1)),
    "near boundaries": (
        "/form",
        "multipart/form-data; boundary=b",
        multipart(DISPOSITION + b"\r\n\r\n\r\n--" * 7000, 1),
    ),
    "arrays": ("/json", "application/json", b"[" * SIZE),
    "objects": ("/json", "application/json", b'{"a":' * (SIZE // 5)),
    "floats": ("/json", "application/json", b"[" + b"1.5e5," * (SIZE // 6) + b"1]"),
    "digits": ("/json", "application/json", b"1" * SIZE),
    "escapes of JSON": ("/json", "application/json", b'"' + b"\\u0041" * (SIZE // 6) + b'"'),
}


@pytest.mark.parametrize("kind", BODIES)
def test_body_of_any_kind_is_little_work(kind: str) -> None:
    path, content_type, body = BODIES[kind]
    app = application(csrf=False)
    answered(app, path)
    assert work(lambda: answered(app, path, body, CONTENT_TYPE=content_type)) < MOST


def test_part_of_a_form_is_little_work_and_their_number_is_bounded() -> None:
    # The parser is written in Python; what bounds it is `Limits.fields`.
    app = application(csrf=False)
    answered(app, "/form")

    def needed(parts: int) -> int:
        body = multipart(DISPOSITION, parts)
        return work(lambda: answered(app, "/form", body, CONTENT_TYPE=BODIES["parameters"][1]))

    needed(1)  # imports the parser
    for_each = (needed(200) - needed(100)) / 100
    assert for_each < 350
    assert needed(100_000) < 1100 * for_each


# What the grammars give, which bounds what one call in C makes


def test_field_is_read_up_to_a_bound() -> None:
    assert list_items(filled("a,")) == ["a"] * 64
    assert len(list_items(filled("abcdefgh,"))) == 64
    assert list_items("a," + "b" * SIZE) == ["a"]  # a member that is cut is none
    assert len(entity_tags(filled('"",'))) < 3000
    assert len(parse_options("a/b" + filled(";a") + ";b=c")[1]) == 0
    assert len(parse_options("a/b" + "".join(f";a{at}=b" for at in range(100)))[1]) == 32
    assert len(parse_cookies("; ".join(f"a{at}=b" for at in range(5000)))) == 1000


def test_preference_that_is_read_counts_and_what_is_beyond_the_bound_does_not() -> None:
    first = "text/html;q=0.1, "
    assert preferred_media_type(first + filled("a/b,") + ",text/plain", ["text/plain", "text/html"]) == "text/html"
    assert preferred_language("de;q=0.1, " + filled("x,") + ",en", ["en", "de"]) == "de"
    assert preferred_coding("gzip;q=0.1, " + filled("x,") + ",br", ["br", "gzip"]) == "gzip"


@pytest.mark.timeout(60)
def test_grammar_of_quoted_strings_ends_whatever_it_is_given() -> None:
    # Nested repetition would take time that doubles with each character: this would never end.
    for letters in itertools.product('a"\\,;= ', repeat=4):
        text = "".join(letters)
        list_items(text * 20)
        parse_options("a;b=" + text * 20)
        parse_options('a;b="' + text * 20)
