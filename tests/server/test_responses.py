"""Responses: what PEP 3333 asks of the server, and what an application must not be able to break.

Every answer is compared byte by byte, and every request is followed by another on the same connection, because the
worst that a broken response can do is to shift the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.server.recording import (
    FAILED,
    FAILED_TEXT,
    GET,
    HEAD,
    LAST,
    LAST_ANSWER,
    App,
    Environ,
    Followed,
    Start,
    answer,
    chunks,
    eventually,
    everything,
    expected,
    get,
    talk,
    undated,
)
from tests.support import PATIENCE, RawClient, serve

GET10 = b"GET /e HTTP/1.0\r\n"
SECRET = "a secret of the application"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """Gives what the server has logged, warnings and errors."""
    return lambda: [
        record for record in caplog.records if record.name == "wsgi.server" and record.levelno >= logging.WARNING
    ]


def says(
    content: Any = (b"hello",),
    *headers: tuple[Any, Any],
    status: Any = "200 OK",
) -> App:
    """An application that answers with `content`, which is called where it is made anew for each request."""

    def app(environ: Environ, start_response: Start) -> Any:
        start_response(status, list(headers))
        return content() if callable(content) else content

    return app


def generated(*items: Any) -> Callable[[], Iterator[Any]]:
    """Makes a generator of `items`; an exception among them is raised there."""

    def generate() -> Iterator[Any]:
        for item in items:
            if isinstance(item, BaseException):
                raise item
            yield item

    return generate


# -- Answers -----------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """An application, the request to it, and the bytes of the answer, which leaves the connection open or closes it."""

    app: App
    expected: bytes
    request: bytes = GET
    closes: bool = False
    logged: int = 0


OK = b"200 OK"


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


CODED = b"Transfer-Encoding: chunked"


def writes(*items: bytes, then: Iterable[bytes] = (), headers: Iterable[tuple[str, str]] = ()) -> App:
    """An application that uses the `write` callable before it returns `then`."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", list(headers))
        for item in items:
            write(item)
        return then

    return app


def late(environ: Environ, start_response: Start) -> Iterator[bytes]:
    # PEP 3333, "The start_response() Callable": it must be called before the first content, which in a generator is
    # inside the first step.
    start_response("200 OK", [("X-Late", "1")])
    yield b"late"


def late_after_nothing(environ: Environ, start_response: Start) -> Iterator[bytes]:
    yield b""
    start_response("200 OK", [])
    yield b"late"


def replaced(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("X-Old", "1"), ("Content-Length", "3")])
    try:
        raise ValueError(SECRET)
    except ValueError:
        start_response("503 Sorry", [("X-New", "1")], sys.exc_info())
    return [b"sorry"]


def replaced_in_generator(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [("X-Old", "1")])
    # PEP 3333: headers leave with the first content that is not empty; until then they can be replaced.
    yield b""
    try:
        raise ValueError(SECRET)
    except ValueError:
        start_response("503 Sorry", [], sys.exc_info())
    yield b"sorry"


def second_try(environ: Environ, start_response: Start) -> Iterable[bytes]:
    # A call that was refused has set nothing, but counts as one.
    try:
        start_response("500 Bad", [("X-A", "a\r\nSet-Cookie: x=1")])
    except ValueError:
        start_response("200 OK", [("X-A", "b")], sys.exc_info())
    return [b"fine"]


def by_keyword(environ: Environ, start_response: Start) -> Iterable[bytes]:
    begin: Any = start_response
    begin(status="200 OK", headers=[("X-A", "a")], exc_info=None)
    return [b"fine"]


def replaced_by_keyword(environ: Environ, start_response: Start) -> Iterable[bytes]:
    begin: Any = start_response
    begin("200 OK", headers=[("X-A", "a")])
    try:
        raise ValueError(SECRET)
    except ValueError:
        begin(headers=[("X-A", "b")], status="503 Sorry", exc_info=sys.exc_info())(data=b"fi")
    return [b"ne"]


def calls(*arguments: Any) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response(*arguments)
        return [b"hello"]

    return app


def headers_by_generator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", (pair for pair in [("X-A", "a")]))
    return [b"hello"]


def headers_that_raise(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", generated(ValueError(SECRET))())
    return [b"never"]


class Text(str):
    __slots__ = ()


class Bytes(bytes):
    pass


class Iterated:
    """An iterable that is neither a list nor a generator."""

    def __init__(self, *items: bytes) -> None:
        self.items = items

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.items)


class Indexed:
    """An iterable of the old kind."""

    def __getitem__(self, index: int) -> bytes:
        return (b"ab", b"cd")[index]


def after_all(environ: Environ, start_response: Start) -> Iterable[bytes]:
    environ.clear()
    start_response("200 OK", [])
    return [b"cleared"]


ANSWERS = {
    # How the content is framed (RFC 9112 §6.3).
    "list-of-one": Answer(says([b"hello"]), expected(OK, framing=length(5), body=b"hello")),
    "list-of-many": Answer(says([b"he", b"", b"llo"]), expected(OK, framing=length(5), body=b"hello")),
    "list-empty": Answer(says([]), expected(OK, framing=length(0))),
    "list-of-nothing": Answer(says([b"", b""]), expected(OK, framing=length(0))),
    "tuple": Answer(says((b"a", b"b")), expected(OK, framing=length(2), body=b"ab")),
    "list-with-length": Answer(
        says([b"hello"], ("Content-Length", "5")), expected(OK, framing=length(5), body=b"hello")
    ),
    "list-with-length-of-nothing": Answer(says([], ("Content-Length", "0")), expected(OK, framing=length(0))),
    "list-of-many-large": Answer(
        says([b"x" * 40_000] * 40), expected(OK, framing=length(1_600_000), body=b"x" * 1_600_000)
    ),
    "generator": Answer(says(generated(b"abc", b"de")), expected(OK, framing=CODED, body=chunks(b"abc", b"de"))),
    "generator-with-empty-pieces": Answer(
        says(generated(b"", b"abc", b"", b"de", b"")), expected(OK, framing=CODED, body=chunks(b"abc", b"de"))
    ),
    "generator-with-length": Answer(
        says(generated(b"abc", b"de"), ("Content-Length", "5")), expected(OK, framing=length(5), body=b"abcde")
    ),
    "generator-large": Answer(
        says(generated(*[b"x" * 70_000] * 5)), expected(OK, framing=CODED, body=chunks(*[b"x" * 70_000] * 5))
    ),
    "generator-of-nothing": Answer(says(generated()), expected(OK, framing=length(0))),
    "generator-of-empty-pieces": Answer(says(generated(b"", b"")), expected(OK, framing=length(0))),
    "iterable": Answer(says(Iterated(b"ab", b"cd")), expected(OK, framing=CODED, body=chunks(b"ab", b"cd"))),
    "iterable-by-index": Answer(says(Indexed()), expected(OK, framing=CODED, body=chunks(b"ab", b"cd"))),
    "bytes-subclass": Answer(says([Bytes(b"ab")]), expected(OK, framing=length(2), body=b"ab")),
    # HTTP/1.0 knows no chunks: the end of the connection ends the content (RFC 9112 §6.3, rule 8).
    "generator-to-1.0": Answer(
        says(generated(b"abc", b"de")), expected(OK, close=True, body=b"abcde"), GET10, closes=True
    ),
    "generator-to-1.0-keep-alive": Answer(
        says(generated(b"abc", b"de")),
        expected(OK, close=True, body=b"abcde"),
        GET10 + b"Connection: keep-alive\r\n",
        closes=True,
    ),
    "list-to-1.0": Answer(says(), expected(OK, framing=length(5), close=True, body=b"hello"), GET10, closes=True),
    "list-to-1.0-keep-alive": Answer(
        says(),
        expected(OK, framing=length(5) + b"\r\nConnection: keep-alive", body=b"hello"),
        GET10 + b"Connection: keep-alive\r\n",
    ),
    "nothing-to-1.0-keep-alive": Answer(
        says(generated()),
        expected(OK, framing=length(0) + b"\r\nConnection: keep-alive"),
        GET10 + b"Connection: keep-alive\r\n",
    ),
    # HEAD (RFC 9110 §9.3.2): never a byte of content, whatever the application sends.
    "head-with-length": Answer(says([b"hello"], ("Content-Length", "5")), expected(OK, framing=length(5)), HEAD),
    "head-with-length-alone": Answer(says([], ("Content-Length", "5")), expected(OK, framing=length(5)), HEAD),
    "head-with-list": Answer(says([b"hello"]), expected(OK, framing=length(5)), HEAD),
    "head-with-generator": Answer(says(generated(b"abc", b"de")), expected(OK), HEAD),
    "head-with-generator-and-length": Answer(
        says(generated(b"abc", b"de"), ("Content-Length", "5")), expected(OK, framing=length(5)), HEAD
    ),
    "head-with-write": Answer(writes(b"abc", then=[b"de"]), expected(OK), HEAD),
    "head-with-endless-generator": Answer(says(lambda: itertools.repeat(b"x")), expected(OK), HEAD),
    # 204, 205 and 304 (RFC 9110 §8.6, §15.3.5, §15.3.6, §15.4.5).
    "204": Answer(says([], status="204 No Content"), expected(b"204 No Content")),
    "204-with-content": Answer(
        says([b"hello"], ("Content-Length", "5"), status="204 No Content"), expected(b"204 No Content")
    ),
    "204-with-generator": Answer(says(generated(b"hello"), status="204 No Content"), expected(b"204 No Content")),
    "204-with-endless-generator": Answer(
        says(lambda: itertools.repeat(b"x"), status="204 No Content"), expected(b"204 No Content")
    ),
    "205-with-content": Answer(
        says([b"hello"], ("Content-Length", "5"), status="205 Reset Content"),
        expected(b"205 Reset Content", framing=length(0)),
    ),
    "304": Answer(says([], ("ETag", '"1"'), status="304 Not Modified"), expected(b"304 Not Modified", b'ETag: "1"')),
    "304-with-content": Answer(
        says([b"hello"], ("Content-Length", "5"), status="304 Not Modified"),
        expected(b"304 Not Modified", framing=length(5)),
    ),
    "304-with-generator": Answer(says(generated(b"hello"), status="304 Not Modified"), expected(b"304 Not Modified")),
    "304-to-head": Answer(
        says([], ("Content-Length", "5"), status="304 Not Modified"),
        expected(b"304 Not Modified", framing=length(5)),
        HEAD,
    ),
    # The status line.
    "status-without-reason": Answer(says(status="200 "), expected(b"200 ", framing=length(5), body=b"hello")),
    "status-of-ones-own": Answer(
        says(status="299 Odd (but fine)"), expected(b"299 Odd (but fine)", framing=length(5), body=b"hello")
    ),
    "status-with-latin-1": Answer(says(status="200 \xc4h"), expected(b"200 \xc4h", framing=length(5), body=b"hello")),
    "status-of-str-subclass": Answer(says(status=Text("200 OK")), expected(OK, framing=length(5), body=b"hello")),
    "404": Answer(says(status="404 Not Found"), expected(b"404 Not Found", framing=length(5), body=b"hello")),
    # Fields leave in their order, in the case they were written, as many lines as there were.
    "fields": Answer(
        says([], ("Set-Cookie", "a=1"), ("x-lower", "1"), ("Set-Cookie", "b=2"), ("ETag", '"x"'), ("set-cookie", "c")),
        expected(
            OK, b"Set-Cookie: a=1", b"x-lower: 1", b"Set-Cookie: b=2", b'ETag: "x"', b"set-cookie: c", framing=length(0)
        ),
    ),
    "field-of-latin-1": Answer(
        says([], ("X-Name", "M\xfcller\xff")), expected(OK, b"X-Name: M\xfcller\xff", framing=length(0))
    ),
    "field-with-tab": Answer(says([], ("X", "a\tb")), expected(OK, b"X: a\tb", framing=length(0))),
    "field-empty": Answer(says([], ("X", "")), expected(OK, b"X: ", framing=length(0))),
    "field-with-odd-name": Answer(
        says([], ("!#$%&'*+-.^_`|~1a", "x")), expected(OK, b"!#$%&'*+-.^_`|~1a: x", framing=length(0))
    ),
    "field-of-str-subclass": Answer(says([], (Text("X"), Text("y"))), expected(OK, b"X: y", framing=length(0))),
    "field-long": Answer(says([], ("X", "y" * 100_000)), expected(OK, b"X: " + b"y" * 100_000, framing=length(0))),
    "length-twice-equal": Answer(
        says([b"hello"], ("Content-Length", "5"), ("content-length", "5")),
        expected(OK, framing=length(5), body=b"hello"),
    ),
    # PEP 3333, "The write() Callable".
    "write-then-list": Answer(writes(b"a", then=[b"b"]), expected(OK, framing=CODED, body=chunks(b"a", b"b"))),
    "write-alone": Answer(writes(b"a", b"", b"b"), expected(OK, framing=CODED, body=chunks(b"a", b"b"))),
    "write-with-length": Answer(
        writes(b"a", then=[b"b"], headers=[("Content-Length", "2")]), expected(OK, framing=length(2), body=b"ab")
    ),
    "write-to-1.0": Answer(writes(b"a", then=[b"b"]), expected(OK, close=True, body=b"ab"), GET10, closes=True),
    "write-of-nothing": Answer(writes(b"", then=[]), expected(OK, framing=CODED, body=chunks())),
    # When start_response is called.
    "start-in-first-step": Answer(late, expected(OK, b"X-Late: 1", framing=CODED, body=chunks(b"late"))),
    "start-after-empty-piece": Answer(late_after_nothing, expected(OK, framing=CODED, body=chunks(b"late"))),
    "start-again-with-exc-info": Answer(
        replaced, expected(b"503 Sorry", b"X-New: 1", framing=length(5), body=b"sorry")
    ),
    "start-again-before-content": Answer(
        replaced_in_generator, expected(b"503 Sorry", framing=CODED, body=chunks(b"sorry"))
    ),
    "start-again-after-refusal": Answer(second_try, expected(OK, b"X-A: b", framing=length(4), body=b"fine")),
    # As every other server names them.
    "keywords": Answer(by_keyword, expected(OK, b"X-A: a", framing=length(4), body=b"fine")),
    "keywords-with-exc-info": Answer(
        replaced_by_keyword, expected(b"503 Sorry", b"X-A: b", framing=CODED, body=chunks(b"fi", b"ne"))
    ),
    # Headers that are no list of tuples, which every other server takes.
    "headers-of-lists": Answer(
        calls("200 OK", [["X-A", "a"], ("X-B", "b")]),
        expected(OK, b"X-A: a", b"X-B: b", framing=length(5), body=b"hello"),
    ),
    "headers-of-iterators": Answer(
        calls("200 OK", [iter(("X-A", "a"))]), expected(OK, b"X-A: a", framing=length(5), body=b"hello")
    ),
    "headers-by-dict-items": Answer(
        calls("200 OK", {"X-A": "a"}.items()), expected(OK, b"X-A: a", framing=length(5), body=b"hello")
    ),
    "headers-by-generator": Answer(
        headers_by_generator,
        expected(OK, b"X-A: a", framing=length(5), body=b"hello"),
    ),
    "environ-cleared": Answer(after_all, expected(OK, framing=length(7), body=b"cleared")),
    # More than was announced: the rest is not sent, and the connection lives.
    "longer-list": Answer(
        says([b"hello", b" and more"], ("Content-Length", "5")),
        expected(OK, framing=length(5), body=b"hello"),
        logged=1,
    ),
    "longer-generator": Answer(
        says(generated(b"hel", b"lo and", b" more"), ("Content-Length", "5")),
        expected(OK, framing=length(5), body=b"hello"),
        logged=1,
    ),
    "longer-write": Answer(
        writes(b"hello and", b" more", headers=[("Content-Length", "5")]),
        expected(OK, framing=length(5), body=b"hello"),
        logged=1,
    ),
    "content-of-length-0": Answer(says([b"hello"], ("Content-Length", "0")), expected(OK, framing=length(0)), logged=1),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_whole_response_is_exact_and_next_one_follows(
    name: str, log: Callable[[], list[logging.LogRecord]]
) -> None:
    row = ANSWERS[name]
    app = Followed(row.app)
    with serve(app) as server:
        raw = talk(server.addresses[0], row.request + b"\r\n" + LAST)
    assert raw == row.expected + (b"" if row.closes else LAST_ANSWER)
    assert app.reached == (0 if row.closes else 1)
    assert len(log()) == row.logged


# -- Mistakes ----------------------------------------------------------------------------------------------------------


def returns(value: Any) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return value

    return app


def raises(error: BaseException, *, started: bool = False) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        if started:
            start_response("200 OK", [("X-Secret", SECRET)])
        raise error

    return app


def starts_twice(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"hello"]


def starts_twice_with_none(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", [])
    start_response("200 OK", [], None)
    return [b"hello"]


def starts_again_after_refusal(environ: Environ, start_response: Start) -> Any:
    # PEP 3333: "it is a fatal error to call start_response without the exc_info argument if start_response has already
    # been called within the current invocation of the application", be it in vain.
    with contextlib.suppress(ValueError):
        start_response("200 OK", [("X-A", "a\n")])
    start_response("200 OK", [])
    return [b"hello"]


def starts_in_vain(environ: Environ, start_response: Start) -> Any:
    with contextlib.suppress(ValueError):
        start_response("200 OK", [("X-A", "a\n")])
    return [b"hello"]


def restarts_in_vain(environ: Environ, start_response: Start) -> Any:
    # Content that was meant for the second head must not leave with the first.
    start_response("200 OK", [])
    try:
        raise ValueError(SECRET)
    except ValueError:
        with contextlib.suppress(ValueError):
            start_response("500 Oops", [("X-A", "a\n")], sys.exc_info())
    return [b"sorry"]


def never_starts(content: Any) -> App:
    return lambda environ, start_response: content() if callable(content) else content


def writes_text(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", [])("text")  # type: ignore[arg-type]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


class RaisesAtIter:
    def __iter__(self) -> Iterator[bytes]:
        raise ValueError(SECRET)


# Before the response began: each is a 500 that tells the client nothing, and one entry in the log.
MISTAKES: dict[str, App] = {
    # The status (PEP 3333: a string like "999 Message here").
    "status-interim-100": says(status="100 Continue"),
    "status-interim-101": says(status="101 Switching Protocols"),
    "status-interim-103": says(status="103 Early Hints"),
    "status-interim-199": says(status="199 X"),
    "status-000": says(status="000 X"),
    "status-099": says(status="099 X"),
    "status-without-space": says(status="200"),
    "status-with-letter": says(status="20X OK"),
    "status-of-four-digits": says(status="2000 OK"),
    "status-of-two-digits": says(status="20 OK"),
    "status-of-other-digits": says(status="٢٠٠ OK"),
    "status-signed": says(status="+20 OK"),
    "status-after-space": says(status=" 200 OK"),
    "status-empty": says(status=""),
    "status-int": says(status=200),
    "status-bytes": says(status=b"200 OK"),
    "status-none": says(status=None),
    "status-with-crlf": says(status="200 OK\r\nX: y"),
    "status-with-lf": says(status="200 OK\n"),
    "status-with-cr": says(status="200 O\rK"),
    "status-with-nul": says(status="200 O\0K"),
    "status-beyond-latin-1": says(status="200 ☃"),
    # Names (RFC 9110 §5.1).
    "name-with-crlf": says([], ("A\r\nB", "x")),
    "name-with-lf": says([], ("A\nB", "x")),
    "name-with-colon": says([], ("A:", "x")),
    "name-with-space": says([], ("A B", "x")),
    "name-ends-with-space": says([], ("A ", "x")),
    "name-empty": says([], ("", "x")),
    "name-latin-1": says([], ("Ä", "x")),
    "name-beyond-latin-1": says([], ("☃", "x")),
    "name-with-nul": says([], ("A\0", "x")),
    "name-bytes": says([], (b"A", "x")),
    "name-none": says([], (None, "x")),
    # Values (RFC 9110 §5.5).
    "value-with-crlf": says([], ("A", "a\r\nSet-Cookie: x=1")),
    "value-with-lf": says([], ("A", "a\nb")),
    "value-with-cr": says([], ("A", "a\rb")),
    "value-ends-with-crlf": says([], ("A", "a\r\n")),
    "value-folded": says([], ("A", "a\r\n b")),
    "value-with-nul": says([], ("A", "a\0b")),
    "value-with-escape": says([], ("A", "a\x1bb")),
    "value-with-del": says([], ("A", "a\x7fb")),
    "value-beyond-latin-1": says([], ("A", "☃")),
    "value-surrogate": says([], ("A", "\udc80")),
    "value-bytes": says([], ("A", b"x")),
    "value-int": says([], ("A", 5)),
    "value-none": says([], ("A", None)),
    "value-of-connection-with-crlf": says([], ("Connection", "close\r\nX: y")),
    # The list.
    "headers-none": calls("200 OK", None),
    "headers-str": calls("200 OK", "A: b"),
    "headers-dict": calls("200 OK", {"A": "b"}),
    "headers-bytes": calls("200 OK", b"A: b"),
    "headers-int": calls("200 OK", 5),
    "headers-that-raise": headers_that_raise,
    "headers-of-str": calls("200 OK", ["A: b"]),
    "headers-of-str-of-two": calls("200 OK", ["Ab"]),
    "headers-of-bytes-of-two": calls("200 OK", [b"Ab"]),
    "headers-of-int": calls("200 OK", [5]),
    "headers-of-nothing": calls("200 OK", [()]),
    "headers-of-lists-of-one": calls("200 OK", [["A"]]),
    "headers-of-lists-of-three": calls("200 OK", [["A", "b", "c"]]),
    "headers-of-endless-pairs": calls("200 OK", [itertools.count()]),
    "headers-of-one": calls("200 OK", [("A",)]),
    "headers-of-three": calls("200 OK", [("A", "b", "c")]),
    "arguments-missing": calls("200 OK"),
    "arguments-too-many": calls("200 OK", [], None, None),
    # The length.
    "length-of-letters": says([b"hello"], ("Content-Length", "abc")),
    "length-negative": says([b"hello"], ("Content-Length", "-1")),
    "length-signed": says([b"hello"], ("Content-Length", "+5")),
    "length-with-underscore": says([b"hello"], ("Content-Length", "5_0")),
    "length-empty": says([b"hello"], ("Content-Length", "")),
    "length-fraction": says([b"hello"], ("Content-Length", "5.0")),
    "length-hexadecimal": says([b"hello"], ("Content-Length", "0x5")),
    "length-of-two": says([b"hello"], ("Content-Length", "5, 5")),
    "length-beyond-64-bits": says([b"hello"], ("Content-Length", "18446744073709551621")),
    "lengths-differ": says([b"hello"], ("Content-Length", "5"), ("Content-Length", "6")),
    # When and how often start_response is called.
    "never-started": never_starts([b"hello"]),
    "never-started-and-empty": never_starts([]),
    "never-started-generator": never_starts(generated(b"hello")),
    "never-started-empty-generator": never_starts(generated()),
    "started-twice": starts_twice,
    "started-twice-with-none": starts_twice_with_none,
    "started-again-after-refusal": starts_again_after_refusal,
    "started-in-vain": starts_in_vain,
    "restarted-in-vain": restarts_in_vain,
    "called-without-arguments": lambda environ: [b"hello"],  # type: ignore[dict-item, misc]
    # What is returned.
    "returns-none": returns(None),
    "returns-int": returns(5),
    "returns-bytes": returns(b"hello"),
    "returns-str": returns("hello"),
    "yields-str": returns(["hello"]),
    "yields-int": returns([5]),
    "yields-none": returns([None]),
    "yields-bytearray": returns([bytearray(b"hello")]),
    "yields-str-after-bytes": returns([b"hello", "you"]),
    "generates-str": says(generated("hello")),
    "generates-int-after-nothing": says(generated(b"", 5)),
    "raises-at-iter": says(RaisesAtIter()),
    "writes-str": writes_text,
    # What is raised. SystemExit and KeyboardInterrupt are errors of that request, and end neither thread nor server.
    "raises": raises(ValueError(SECRET)),
    "raises-after-start": raises(ValueError(SECRET), started=True),
    "raises-in-first-step": says(generated(ValueError(SECRET))),
    "raises-after-empty-piece": says(generated(b"", ValueError(SECRET))),
    "raises-stop-iteration": raises(StopIteration(SECRET)),
    "raises-system-exit": raises(SystemExit(0)),
    "raises-system-exit-in-step": says(generated(SystemExit(1))),
    "raises-keyboard-interrupt": raises(KeyboardInterrupt()),
    "raises-generator-exit": raises(GeneratorExit()),
    "raises-memory-error": raises(MemoryError()),
    "raises-recursion-error": raises(RecursionError()),
    "raises-os-error": raises(BrokenPipeError(32, "not the client's")),
    "raises-what-cannot-be-shown": raises(Unspeakable()),
    "raises-with-crlf": raises(ValueError("a\r\nb")),
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_before_content_is_500_and_logged_once(
    name: str, method: str, log: Callable[[], list[logging.LogRecord]]
) -> None:
    app = Followed(MISTAKES[name])
    request = GET if method == "GET" else HEAD
    with serve(app) as server:
        address = server.addresses[0]
        assert talk(address, request + b"\r\n" + LAST) == FAILED + (FAILED_TEXT if method == "GET" else b"")
        assert app.reached == 0
        # The server is as it was before.
        assert talk(address, LAST) == LAST_ANSWER
    (record,) = log()
    assert record.levelno == logging.ERROR
    assert f"{method} /e" in record.getMessage()
    # The whole traceback is in the log, where the developer reads it.
    assert record.exc_info is not None
    assert record.exc_info[1] is not None


def test_mistake_status_interim_is_told_to_the_developer(log: Callable[[], list[logging.LogRecord]]) -> None:
    with serve(says(status="100 Continue")) as server:
        talk(server.addresses[0], GET + b"\r\n")
    (record,) = log()
    assert record.exc_info is not None
    assert "a final status is required" in str(record.exc_info[1])


NAME_RULE = "a name consists of ASCII letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 5.6.2)"
STATUS_RULE = "three digits from 200 to 999, a space and a reason are required, as in '200 OK'"
# A status, headers, and what the developer reads.
TOLD: list[tuple[Any, Any, str]] = [
    ("200", [], f"ValueError: start_response: status '200': {STATUS_RULE}"),
    (
        "☃",
        [],
        "ValueError: start_response: status: the reason contains the character U+2603, which is not in latin-1, at "
        "position 0",
    ),
    ("2\n", [], rf"ValueError: start_response: status '2\n': {STATUS_RULE}"),
    ("200 a\r\ns3cret", [], "ValueError: start_response: status: the reason contains a carriage return at position 5"),
    (200, [], "TypeError: start_response: the status must be a str such as '200 OK', not int"),
    (
        "200 OK",
        [("X-Foo", "s3cret\nb")],
        "ValueError: start_response: header 'X-Foo': the value contains a line feed at position 6",
    ),
    (
        "200 OK",
        [("X-Foo", "s3cret\u2603")],
        "ValueError: start_response: header 'X-Foo': the value contains the character U+2603, which is not in latin-1, "
        "at position 6",
    ),
    (
        "200 OK",
        [("X-Foo", "\udc80s3cret")],
        "ValueError: start_response: header 'X-Foo': the value contains the character U+DC80, which is not in latin-1, "
        "at position 0",
    ),
    ("200 OK", [("X-Foo", 1)], "TypeError: start_response: header 'X-Foo': the value must be str, not int"),
    ("200 OK", [("X-Foo", b"s3cret")], "TypeError: start_response: header 'X-Foo': the value must be str, not bytes"),
    ("200 OK", [(b"X-Foo", "s3cret")], "TypeError: start_response: a header name must be str, not bytes"),
    (
        "200 OK",
        [("X Foo", "s3cret")],
        f"ValueError: start_response: the header name that begins with 'X' contains a space at position 1; {NAME_RULE}",
    ),
    (
        "200 OK",
        [("X-Foo: s3cret", "")],
        f"ValueError: start_response: the header name that begins with 'X-Foo' contains ':' at position 5; {NAME_RULE}",
    ),
    (
        "200 OK",
        [("X\u2603", "s3cret")],
        "ValueError: start_response: the header name that begins with 'X' contains the character U+2603, which is not "
        f"in latin-1, at position 1; {NAME_RULE}",
    ),
    ("200 OK", [("", "s3cret")], "ValueError: start_response: a header name is empty"),
    (
        "200 OK",
        [("Content-Length", "s3cret")],
        "ValueError: start_response: header 'Content-Length': the value must be a plain decimal number below 2**64",
    ),
    ("200 OK", None, "TypeError: start_response: the headers must be a list of (name, value) tuples, not NoneType"),
    ("200 OK", {}, "TypeError: start_response: the headers must be a list of (name, value) tuples, not dict"),
    ("200 OK", ["s3cret"], "TypeError: start_response: a header must be a (name, value) tuple, not str"),
    ("200 OK", [("A",)], "TypeError: start_response: a header must be a (name, value) tuple, not tuple of one item"),
    (
        "200 OK",
        [["A", "s3cret", ""]],
        "TypeError: start_response: a header must be a (name, value) tuple, not list of more than two items",
    ),
]


def test_mistake_in_start_response_is_raised_where_it_is_made() -> None:
    told: list[str] = []

    def app(environ: Environ, start_response: Start) -> Any:
        for status, headers, _ in TOLD:
            try:
                raise RuntimeError
            except RuntimeError:
                try:
                    start_response(status, headers, sys.exc_info())
                except Exception as error:
                    told.append(f"{type(error).__name__}: {error}")
        start_response("200 OK", [], (RuntimeError, RuntimeError(), None))
        return [b"still possible"]

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == b"still possible"
    assert told == [text for *_, text in TOLD]
    # Values may be secrets, and the mistake is found without them.
    assert "s3cret" not in "".join(told)


def test_header_that_is_no_tuple_is_noted_once_at_debug() -> None:
    # In a process of its own, because it is said once in each.
    code = (
        "import logging, sys\n"
        "from tests.support import RawClient, serve\n"
        "logging.basicConfig(level=logging.DEBUG, format='%(levelname)s %(message)s', stream=sys.stdout)\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [['X-A', 'a'], ['X-B', 'b']])\n"
        "    return []\n"
        "with serve(app) as server, RawClient(server.addresses[0]) as client:\n"
        "    for _ in range(2):\n"
        "        client.send(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
        "        assert client.receive().values('X-B') == ['b']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE * 3
    )
    noted = [line for line in done.stdout.splitlines() if "tuples" in line]
    assert noted == [
        "DEBUG start_response: a header was given as list; PEP 3333 requires a list of (name, value) tuples"
    ]


async def async_app(environ: Environ, start_response: Start) -> Any:
    raise AssertionError


FIRST_PROGRAMS = {
    "str": (returns("hello"), "return an iterable of bytes, not str: return [text.encode()]"),
    "bytes": (returns(b"hello"), "return an iterable of bytes, not bytes: return [content], a list with it"),
    "nothing": (returns(None), "return an iterable of bytes, not NoneType: is a return missing?"),
    "dict": (returns({"a": 1}), "return an iterable of bytes, not dict: return [json.dumps(data).encode()]"),
    "int": (returns(5), "return an iterable of bytes, not int"),
    "async def": (async_app, "return an iterable of bytes, not coroutine: it is an async function; WSGI needs 'def', "),
    "list of str": (returns(["hello"]), "response must consist of bytes, not str: encode text, as in text.encode()"),
    "str yielded": (says(generated("hello")), "must consist of bytes, not str: encode text, as in text.encode()"),
    "no start": (
        lambda environ, start: [b"hello"],
        "did not call start_response before its first content (PEP 3333): ",
    ),
}


@pytest.mark.parametrize("name", FIRST_PROGRAMS)
def test_mistake_of_a_first_program_is_told_with_how_to_mend_it(
    name: str, log: Callable[[], list[logging.LogRecord]]
) -> None:
    app, words = FIRST_PROGRAMS[name]
    with serve(app, interface="wsgi") as server:
        talk(server.addresses[0], GET + b"\r\n")
    (record,) = log()
    assert "GET /e" in record.getMessage()
    assert record.exc_info is not None
    assert words in str(record.exc_info[1])
    assert "\n" not in str(record.exc_info[1])


def raises_deep() -> None:
    raise ValueError(SECRET)


def app_that_raises(environ: Environ, start_response: Start) -> Any:
    raises_deep()


def closing_that_raises(environ: Environ, start_response: Start) -> Any:
    class Content(list[bytes]):
        def close(self) -> None:
            raises_deep()

    start_response("200 OK", [])
    return Content()


@pytest.mark.parametrize("app", [app_that_raises, closing_that_raises], ids=["call", "close"])
def test_error_of_the_application_is_logged_with_its_frames(
    app: App, log: Callable[[], list[logging.LogRecord]]
) -> None:
    with serve(app) as server:
        talk(server.addresses[0], LAST)
    (record,) = log()
    assert record.exc_info
    assert [frame.name for frame in traceback.extract_tb(record.exc_info[2])][-1] == "raises_deep"


def test_mistake_second_start_response_is_an_assertion() -> None:
    # PEP 3333: "it is a fatal error to call start_response without the exc_info argument if start_response has
    # already been called".
    seen: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [("X-First", "1")])
        try:
            start_response("404 Not Found", [])
        except AssertionError as error:
            seen.append(error)
        return [b"first"]

    with serve(Followed(app)) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, b"X-First: 1", framing=length(5), body=b"first") + LAST_ANSWER
    assert len(seen) == 1


# -- Broken off --------------------------------------------------------------------------------------------------------


def restarts_late(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"abc"
    try:
        raise ValueError(SECRET)
    except ValueError:
        start_response("500 Oops", [("X-Late", "1")], sys.exc_info())
    yield b"never"


def restarts_after_write(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])(b"abc")
    try:
        raise ValueError(SECRET)
    except ValueError:
        start_response("500 Oops", [("X-Late", "1")], sys.exc_info())
    return [b"never"]


def write_then_raise(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])(b"abc")
    raise ValueError(SECRET)


CUT = expected(OK, framing=CODED, body=chunks(b"abc", end=False))

# After content has begun: the answer breaks off in a way that no client takes for a whole one.
BROKEN: dict[str, tuple[App, bytes]] = {
    "raises": (says(generated(b"abc", ValueError(SECRET))), CUT),
    "raises-system-exit": (says(generated(b"abc", SystemExit(0))), CUT),
    "raises-keyboard-interrupt": (says(generated(b"abc", KeyboardInterrupt())), CUT),
    "raises-memory-error": (says(generated(b"abc", MemoryError())), CUT),
    "raises-with-length": (
        says(generated(b"abc", ValueError(SECRET)), ("Content-Length", "5")),
        expected(OK, framing=length(5), body=b"abc"),
    ),
    "raises-after-whole-length": (
        says(generated(b"abc", ValueError(SECRET)), ("Content-Length", "3")),
        expected(OK, framing=length(3), body=b"abc"),
    ),
    "generates-str": (says(generated(b"abc", "def")), CUT),
    "generates-none": (says(generated(b"abc", None)), CUT),
    "raises-after-write": (write_then_raise, CUT),
    "shorter-list": (says([b"abc"], ("Content-Length", "5")), expected(OK, framing=length(5), body=b"abc")),
    "shorter-generator": (
        says(generated(b"a", b"bc"), ("Content-Length", "5")),
        expected(OK, framing=length(5), body=b"abc"),
    ),
    "shorter-by-everything": (says([], ("Content-Length", "5")), expected(OK, framing=length(5))),
    "shorter-write": (writes(b"abc", headers=[("Content-Length", "5")]), expected(OK, framing=length(5), body=b"abc")),
    "restarts-after-content": (restarts_late, CUT),
    "restarts-after-write": (restarts_after_write, CUT),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answer_ends_short_and_is_logged_once(name: str, log: Callable[[], list[logging.LogRecord]]) -> None:
    broken, content = BROKEN[name]
    app = Followed(broken)
    with serve(app) as server:
        address = server.addresses[0]
        assert talk(address, GET + b"\r\n" + LAST) == content
        assert app.reached == 0
        assert talk(address, LAST) == LAST_ANSWER
    (record,) = log()
    assert record.levelno == logging.ERROR
    assert "GET /e" in record.getMessage()


@pytest.mark.parametrize("request_line", [GET10, GET10 + b"Connection: keep-alive\r\n"])
def test_broken_answer_to_http10_is_a_reset(request_line: bytes) -> None:
    # Only the end of the connection marks the end of this content, so an orderly end would make it whole.
    with serve(says(generated(b"abc", ValueError(SECRET)))) as server, RawClient(server.addresses[0]) as client:
        client.send(request_line + b"\r\n")
        with pytest.raises(ConnectionResetError):
            everything(client)


@pytest.mark.parametrize("app", [restarts_late, restarts_after_write])
def test_exc_info_after_content_is_raised_again_itself(app: App) -> None:
    # PEP 3333: "if exc_info is provided, and the HTTP headers have already been sent, start_response must raise an
    # error, and should raise the exc_info tuple".
    caught: list[BaseException] = []

    def outer(environ: Environ, start_response: Start) -> Iterator[bytes]:
        def spy(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            try:
                return start_response(status, headers, exc_info)
            except BaseException as error:
                caught.extend([error, exc_info[1]])
                raise

        yield from app(environ, spy)

    with serve(outer) as server:
        talk(server.addresses[0], GET + b"\r\n")
    raised, given = caught
    assert raised is given


def test_write_past_the_end_of_the_response_raises_and_sends_nothing() -> None:
    kept: list[Callable[[bytes], object]] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        kept.append(start_response("200 OK", []))
        return [b"hello"]

    with serve(Followed(app)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == b"hello"
        (write,) = kept
        with pytest.raises(RuntimeError):
            write(b"late")
        client.send(LAST)
        assert everything(client) == LAST_ANSWER


def test_start_response_past_the_end_of_the_response_changes_nothing() -> None:
    kept: list[Start] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        kept.append(start_response)
        start_response("200 OK", [])
        return [b"hello"]

    with serve(Followed(app)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        client.receive()
        (start_response,) = kept
        with pytest.raises(ZeroDivisionError):
            start_response("500 Late", [], (ZeroDivisionError, ZeroDivisionError(), None))
        client.send(LAST)
        assert everything(client) == LAST_ANSWER


# -- Length reached ----------------------------------------------------------------------------------------------------


def test_length_reached_iteration_stops() -> None:
    # PEP 3333, "Handling the Content-Length Header": the server "should stop iterating over the response when enough
    # data has been sent".
    pulled = 0
    closed = 0

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        nonlocal pulled, closed
        start_response("200 OK", [("Content-Length", "5")])
        try:
            # Long enough to be told from an iteration that stops, and yet finite.
            for _ in range(100_000):
                pulled += 1
                yield b"x"
        finally:
            closed += 1

    with serve(Followed(app)) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(5), body=b"xxxxx") + LAST_ANSWER
    # One more shows that there was too much.
    assert pulled <= 6
    assert closed == 1


# -- What belongs to the server ----------------------------------------------------------------------------------------

# RFC 9110 §7.6.1, and RFC 2616 §13.5.1, the list that PEP 3333 means: never sent on an application's word.
HOP_BY_HOP = [
    ("Connection", "keep-alive"),
    ("Connection", "X-Private"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "Basic x"),
    ("TE", "trailers"),
    ("Trailer", "X-A"),
    ("Trailers", "X-A"),
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "gzip, chunked"),
    ("Transfer-Encoding", "identity"),
    ("Upgrade", "h2c"),
]


@pytest.mark.parametrize(("name", "value"), HOP_BY_HOP)
def test_hop_by_hop_field_is_stripped(name: str, value: str) -> None:
    app = Followed(says([b"hello"], ("X-A", "1"), (name, value), ("X-B", "2")))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, b"X-A: 1", b"X-B: 2", framing=length(5), body=b"hello") + LAST_ANSWER


def test_transfer_encoding_of_the_application_is_never_framing_twice() -> None:
    # The pieces are content like any other, although they look like chunks.
    pieces = b"5\r\nhello\r\n", b"0\r\n\r\n"
    app = Followed(says(generated(*pieces), ("Transfer-Encoding", "chunked")))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=CODED, body=chunks(*pieces)) + LAST_ANSWER


@pytest.mark.parametrize("value", ["close", "Close", "x, close", "close , x"])
def test_connection_close_of_the_application_is_honoured(value: str) -> None:
    app = Followed(says([b"hello"], ("Connection", value)))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(5), close=True, body=b"hello")
    assert app.reached == 0


@pytest.mark.parametrize("name", ["Date", "date", "DATE"])
def test_date_of_the_application_is_the_only_one(name: str) -> None:
    # RFC 9110 §6.6.1: one Date.
    app = says([], (name, "Sun, 06 Nov 1994 08:49:37 GMT"), (name, "another"))
    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().values("Date") == ["Sun, 06 Nov 1994 08:49:37 GMT"]


@pytest.mark.parametrize("name", ["Server", "server"])
def test_server_of_the_application_is_the_only_one(name: str) -> None:
    with serve(says([], (name, "mine/1.0"))) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().values("Server") == ["mine/1.0"]


# -- In time -----------------------------------------------------------------------------------------------------------


def test_pieces_leave_before_the_next_is_made() -> None:
    # PEP 3333, "Buffering and Streaming": a piece must not wait for the next one. Here the next one waits for it.
    received = threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"1"
        assert received.wait(PATIENCE)
        yield b"2"

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        first = expected(OK, framing=CODED, body=chunks(b"1", end=False))
        raw = b""
        while undated(raw) != first:
            piece = client.socket.recv(4096)
            assert piece
            raw += piece
        received.set()
        rest = chunks(b"2")
        raw = b""
        while raw != rest:
            raw += client.socket.recv(4096)


def test_first_write_sends_the_head_even_if_it_is_empty() -> None:
    # PEP 3333, "The start_response() Callable": the head waits for the first content, or for the first call of write().
    received = threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])(b"")
        assert received.wait(PATIENCE)
        return [b"data: 1\n\n"]

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive_head()["Transfer-Encoding"] == "chunked"
        received.set()
        assert client._chunks() == b"data: 1\n\n"


def test_write_leaves_before_the_application_returns() -> None:
    # PEP 3333: write() blocks or leaves the data to be sent in parallel; it never keeps it.
    received = threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2")])(b"1")
        assert received.wait(PATIENCE)
        return [b"2"]

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        first = expected(OK, framing=length(2), body=b"1")
        raw = b""
        while undated(raw) != first:
            piece = client.socket.recv(4096)
            assert piece
            raw += piece
        received.set()
        assert client.socket.recv(4096) == b"2"


def test_generator_does_not_run_far_ahead_of_its_client() -> None:
    # A client that does not read must not make the server hold a response of any size in memory.
    total, size = 2048, 32 * 1024
    made = 0

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        nonlocal made
        if environ["PATH_INFO"] == "/probe":
            start_response("200 OK", [])
            yield b"here"
            return
        start_response("200 OK", [("Content-Length", str(total * size))])
        for _ in range(total):
            made += 1
            yield b"x" * size

    with serve(app, threads=2) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        with RawClient(server.addresses[0]) as probe:
            stable, before = 0, -1
            # Exchanges on another connection are the clock: the first generator has had its chance after each.
            for _ in range(10_000):
                probe.send(get("/probe"))
                assert probe.receive().body == b"here"
                stable = stable + 1 if made == before and made else 0
                before = made
                if stable == 100:
                    break
        # What the kernel takes for a client differs between systems; 64 MiB it never is.
        assert made < total / 2
        assert len(client.receive().body) == total * size
    assert made == total


# -- close() -----------------------------------------------------------------------------------------------------------


class Closable:
    """Content with a close() that counts. `error` is raised in place of the second piece."""

    def __init__(self, *items: Any, error: BaseException | None = None) -> None:
        self.items = items
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        for index, item in enumerate(self.items):
            if index == 1 and self.error is not None:
                raise self.error
            yield item

    def close(self) -> None:
        self.closed += 1


class ClosableList(list[Any]):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class ClosableTuple(tuple[Any, ...]):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class NotIterable:
    closed = 0

    def close(self) -> None:
        self.closed += 1


# Name, request line, content, headers, status.
CLOSED: dict[str, tuple[bytes, Callable[[], Any], list[tuple[str, str]], str | None]] = {
    "whole": (GET, lambda: Closable(b"a", b"b"), [], "200 OK"),
    "whole-with-length": (GET, lambda: Closable(b"a", b"b"), [("Content-Length", "2")], "200 OK"),
    "whole-to-1.0": (GET10, lambda: Closable(b"a", b"b"), [], "200 OK"),
    "empty": (GET, Closable, [], "200 OK"),
    "head": (HEAD, lambda: Closable(b"a", b"b"), [], "200 OK"),
    "204": (GET, lambda: Closable(b"a", b"b"), [], "204 No Content"),
    "304": (GET, lambda: Closable(b"a", b"b"), [], "304 Not Modified"),
    "length-reached": (GET, lambda: Closable(b"a", b"b", b"c"), [("Content-Length", "2")], "200 OK"),
    "length-not-reached": (GET, lambda: Closable(b"a"), [("Content-Length", "2")], "200 OK"),
    "raises-at-first": (GET, lambda: Closable(ValueError(SECRET), b"b"), [], "200 OK"),
    "raises-midway": (GET, lambda: Closable(b"a", b"b", error=ValueError(SECRET)), [], "200 OK"),
    "exits-midway": (GET, lambda: Closable(b"a", b"b", error=SystemExit()), [], "200 OK"),
    "yields-str": (GET, lambda: Closable("a"), [], "200 OK"),
    "yields-str-midway": (GET, lambda: Closable(b"a", "b"), [], "200 OK"),
    "never-started": (GET, lambda: Closable(b"a"), [], None),
    "list": (GET, lambda: ClosableList([b"a"]), [], "200 OK"),
    "list-of-str": (GET, lambda: ClosableList(["a"]), [], "200 OK"),
    "list-to-head": (HEAD, lambda: ClosableList([b"a"]), [], "200 OK"),
    "tuple": (GET, lambda: ClosableTuple([b"a"]), [], "200 OK"),
    "not-iterable": (GET, NotIterable, [], "200 OK"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_close_is_called_exactly_once(name: str) -> None:
    # PEP 3333: "the server or gateway must call that method upon completion of the current request, whether the
    # request was completed normally, or terminated early".
    request, make, headers, status = CLOSED[name]
    content = make()

    def app(environ: Environ, start_response: Start) -> Any:
        if status is not None:
            start_response(status, headers)
        return content

    with serve(app) as server:
        talk(server.addresses[0], request + b"Connection: close\r\n\r\n")
    assert content.closed == 1


def test_close_is_called_once_when_the_client_has_gone() -> None:
    gone = threading.Event()
    content = Closable()

    class Endless(Closable):
        def __iter__(self) -> Iterator[bytes]:
            yield b"begun"
            assert gone.wait(PATIENCE)
            # More than the kernel holds for a client; and finite, should nobody stop it.
            yield from itertools.repeat(b"x" * 65536, 2048)

    content = Endless()
    with serve(says(lambda: content)) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(GET + b"\r\n")
            client.socket.recv(10)
        gone.set()
        eventually(lambda: content.closed > 0, "close() after the client has gone")
        # The worker lives.
        with RawClient(server.addresses[0]) as client:
            client.send(HEAD + b"Connection: close\r\n\r\n")
            client.responses("HEAD")
    # The second request had the same content.
    assert content.closed == 2


def test_close_is_called_after_the_content_and_may_raise(log: Callable[[], list[logging.LogRecord]]) -> None:
    class Raising(Closable):
        def close(self) -> None:
            super().close()
            raise SystemExit(SECRET)

    content = Raising(b"ab", b"cd")
    with serve(Followed(says(lambda: content))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=CODED, body=chunks(b"ab", b"cd")) + LAST_ANSWER
    assert content.closed == 1
    (record,) = log()
    assert record.levelno == logging.ERROR
    assert "close()" in record.getMessage()


@pytest.mark.parametrize("cause", ["raises", "shorter"])
def test_close_that_raises_too_is_logged_besides_the_first_error(
    cause: str, log: Callable[[], list[logging.LogRecord]]
) -> None:
    class Raising(Closable):
        def close(self) -> None:
            super().close()
            raise ValueError(SECRET)

    content = Raising(b"ab", b"cd", error=ValueError("first") if cause == "raises" else None)
    with serve(says(lambda: content, ("Content-Length", "9"))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n")
    assert raw.startswith(expected(OK, framing=length(9), body=b"ab"))
    assert len(log()) == 2


def test_generator_that_is_not_exhausted_is_closed() -> None:
    # Its `finally` must run: that is how database sessions are given back.
    ended = []

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append(environ["REQUEST_METHOD"])

    with serve(app) as server:
        talk(server.addresses[0], HEAD + b"Connection: close\r\n\r\n")
    assert ended == ["HEAD"]


def test_environ_and_content_are_let_go_with_the_response() -> None:
    # What an application hangs into the environ, a database connection say, must not outlive the request.
    import gc
    import weakref

    class Resource:
        pass

    kept: list[weakref.ref[Resource]] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        resource = Resource()
        environ["test.resource"] = resource
        kept.append(weakref.ref(resource))
        return answer(start_response, b"x" * 100_000)

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        gc.disable()
        try:
            client.send(GET + b"\r\n")
            client.receive()
            eventually(lambda: kept[0]() is None, "the end of what the environ held")
        finally:
            gc.enable()


# -- Early hints -------------------------------------------------------------------------------------------------------


def test_early_hints_come_before_the_response() -> None:
    # RFC 8297.
    seen = threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        hint = environ["wsgi.early_hints"]
        hint([("Link", "</a.css>; rel=preload; as=style"), ("Link", "</b.js>; rel=preload; as=script")])
        assert seen.wait(PATIENCE)
        hint([("X-Name", "M\xfcller")])
        return answer(start_response, b"hello")

    with serve(Followed(app)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n" + LAST)
        first = (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\n"
            b"Link: </b.js>; rel=preload; as=script\r\n\r\n"
        )
        raw = b""
        while raw != first:
            piece = client.socket.recv(4096)
            assert piece
            raw += piece
        seen.set()
        rest = everything(client)
    assert rest == (
        b"HTTP/1.1 103 Early Hints\r\nX-Name: M\xfcller\r\n\r\n"
        + expected(OK, b"Content-Type: text/plain", framing=length(5), body=b"hello")
        + LAST_ANSWER
    )


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("Link", "a\r\nb")], "header 'Link': the value contains a carriage return at position 1"),
        (
            [("Li nk", "a")],
            f"the header name that begins with 'Li' contains a space at position 2; {NAME_RULE}",
        ),
        (
            [("Link", "☃")],
            "header 'Link': the value contains the character U+2603, which is not in latin-1, at position 0",
        ),
        ([("Link", 5)], "header 'Link': the value must be str, not int"),
        ("Link: a", "the headers must be a list of (name, value) tuples, not str"),
        (None, "the headers must be a list of (name, value) tuples, not NoneType"),
    ],
)
def test_early_hints_malformed_are_refused(headers: Any, error: str) -> None:
    caught: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            environ["wsgi.early_hints"](headers)
        except Exception as problem:
            caught.append(problem)
        start_response("200 OK", [])
        return [b"hello"]

    with serve(Followed(app)) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(5), body=b"hello") + LAST_ANSWER
    assert [str(problem) for problem in caught] == [f"early_hints: {error}"]


def test_early_hints_carry_no_framing() -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        environ["wsgi.early_hints"](
            [("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("X-A", "1")]
        )
        start_response("200 OK", [])
        return [b"hello"]

    with serve(Followed(app)) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == (
        b"HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n" + expected(OK, framing=length(5), body=b"hello") + LAST_ANSWER
    )


def test_early_hints_after_the_head_are_not_sent() -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])(b"a")
        environ["wsgi.early_hints"]([("X-A", "1")])
        return [b"b"]

    with serve(Followed(app)) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=CODED, body=chunks(b"a", b"b")) + LAST_ANSWER


def test_early_hints_to_http10_are_absent() -> None:
    # RFC 9110 §15.2: a server must not send a 1xx response to an HTTP/1.0 client.
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"absent" if "wsgi.early_hints" not in environ else b"present"]

    with serve(app) as server:
        raw = talk(server.addresses[0], GET10 + b"\r\n")
    assert raw == expected(OK, framing=length(6), close=True, body=b"absent")


# -- What an application does to the process ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("threads", [1, 4])
def test_exit_in_the_application_costs_no_worker(error: BaseException, threads: int) -> None:
    # More often than there are threads: if each cost one, the last would hang.
    app = Followed(raises(error))
    with serve(app, threads=threads) as server:
        for _ in range(threads + 2):
            assert talk(server.addresses[0], GET + b"\r\n") == FAILED + FAILED_TEXT
        assert talk(server.addresses[0], LAST) == LAST_ANSWER
    assert server.stuck == ()
