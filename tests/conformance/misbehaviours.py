"""Applications below `/app/` that are wrong on purpose, or right in a way that is seldom met.

They run in the server's interpreter, so they need nothing but the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tests.conformance.behaviours import BEHAVIOURS, LARGE, Content, Environ, Start, Tell, behaviour, generated, says

SECRET = "a-secret-of-the-application"


class ClosingList(list[bytes]):
    """A list with a `close`."""

    tell: Tell

    def close(self) -> None:
        self.tell("close")


for number, value in enumerate(["a\r\nX-Injected: 1", "a\nX-Injected: 1", "a\rX-Injected: 1", "a\0b", "a\r\n\r\n<b>"]):
    says(f"value-{number}", lambda: [b"hello"], ("X-Value", value))
for number, name in enumerate(["X-A\r\nX-Injected", "X-A:", "X A", "", "X-\xc4"]):
    says(f"name-{number}", lambda: [b"hello"], (name, "1"))
for number, status in enumerate(["200 OK\r\nX-Injected: y", "20X OK", "2000 OK", "200", 200, b"200 OK", "", "OK"]):
    says(f"status-{number}", lambda: [b"hello"], status=status)
for code in (100, 101, 103):
    says(f"interim-{code}", lambda: [b"hello"], status=f"{code} Interim")
for number, lengths in enumerate([["abc"], ["-1"], ["+5"], ["5_0"], [" "], ["5", "6"]]):
    says(f"length-{number}", lambda: [b"hello"], *[("Content-Length", length) for length in lengths])
for field, value in {
    "Connection": "x-odd",
    "Keep-Alive": "timeout=99",
    "Upgrade": "x-odd",
    "TE": "trailers",
    "Trailer": "X-T",
    "Proxy-Authenticate": "Basic",
    "Proxy-Connection": "x-odd",
}.items():
    says(f"hop-{field.lower()}", lambda: [b"hello"], (field, value))
says("hop-transfer-encoding", lambda: [b"5\r\nhello\r\n0\r\n\r\n"], ("Transfer-Encoding", "chunked"))
says("hop-transfer-encoding-gzip", lambda: [b"hello"], ("Transfer-Encoding", "gzip"), ("Content-Length", "5"))
says("headers-tuple-of-three", lambda: [b"hello"], ("A", "b", "c"))  # type: ignore[arg-type]
says("header-value-int", lambda: [b"hello"], ("X-Int", 5))
says("header-value-bytes", lambda: [b"hello"], ("X-Bytes", b"v"))
says("yields-str", generated("hello"))
says("yields-int", generated(5))
says("yields-bytes-then-str", generated(b"abc", "def"))
says("returns-none", lambda: None)
says("returns-int", lambda: 5)
says("returns-str", lambda: "hello")


@behaviour("raises-before")
def raises_before(environ: Environ, start_response: Start, tell: Tell) -> Any:
    raise ValueError(SECRET)


@behaviour("raises-after-start")
def raises_after_start(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("X-Early", "1")])
    raise ValueError(SECRET)


def closing(name: str, *items: Any, headers: Iterable[tuple[str, str]] = (), status: str = "200 OK") -> None:
    """Enters a behaviour whose iterable tells of its close."""

    def answer(environ: Environ, start_response: Start, tell: Tell) -> Any:
        start_response(status, list(headers))
        return Content(tell, *items)

    behaviour(name)(answer)


closing("raises-first", ValueError(SECRET))
closing("raises-after-empty", b"", ValueError(SECRET))
closing("raises-midway", b"abc", ValueError(SECRET))
closing("raises-midway-length", b"abc", ValueError(SECRET), headers=[("Content-Length", "10")])
closing("closes", b"he", b"llo")
closing("closes-length", b"hello", b"more", headers=[("Content-Length", "5")])
closing("closes-not-modified", b"hello", status="304 Not Modified")
closing("closes-nothing")
closing("endless", *[LARGE] * 64)

for kind in (SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit):

    def raises(environ: Environ, start_response: Start, tell: Tell, kind: type[BaseException] = kind) -> Any:
        raise kind

    behaviour(f"raises-{kind.__name__.lower()}")(raises)


@behaviour("closes-list")
def closes_list(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [])
    content = ClosingList([b"hello"])
    content.tell = tell
    return content


@behaviour("close-raises")
def close_raises(environ: Environ, start_response: Start, tell: Tell) -> Any:
    class Broken(Content):
        def close(self) -> None:
            super().close()
            raise ValueError(SECRET)

    start_response("200 OK", [("Content-Length", "5")])
    return Broken(tell, b"hello")


@behaviour("no-start")
def no_start(environ: Environ, start_response: Start, tell: Tell) -> Any:
    return [b"hello"]


@behaviour("start-twice")
def start_twice(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [])
    try:
        start_response("201 Created", [])
    except BaseException:
        return [b"raised"]
    return [b"taken"]


@behaviour("start-late")
def start_late(environ: Environ, start_response: Start, tell: Tell) -> Iterator[bytes]:
    start_response("200 OK", [("X-Late", "1")])
    yield b"hello"


def error_info() -> Any:
    """The `exc_info` of a ValueError."""
    try:
        raise ValueError(SECRET)
    except ValueError:
        return sys.exc_info()


@behaviour("replaces")
def replaces(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("X-Old", "1"), ("Content-Length", "99")])
    start_response("503 Sorry", [("X-New", "1")], error_info())
    return [b"sorry"]


@behaviour("replaces-after-empty")
def replaces_after_empty(environ: Environ, start_response: Start, tell: Tell) -> Iterator[bytes]:
    start_response("200 OK", [("X-Old", "1")])
    yield b""
    start_response("503 Sorry", [("X-New", "1")], error_info())
    yield b"sorry"


@behaviour("replaces-too-late")
def replaces_too_late(environ: Environ, start_response: Start, tell: Tell) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield LARGE
    # What has left cannot be replaced: the server raises the same error again (PEP 3333).
    try:
        start_response("503 Sorry", [], error_info())
    except ValueError:
        tell("raised again")
        raise
    tell("taken")
    yield b"sorry"


@behaviour("write")
def write(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [])(b"he")
    return [b"llo"]


@behaviour("write-alone")
def write_alone(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("Content-Length", "5")])(b"hello")
    return []


@behaviour("write-str")
def write_str(environ: Environ, start_response: Start, tell: Tell) -> Any:
    send: Any = start_response("200 OK", [])
    try:
        send("text")
    except Exception:
        return [b"raised"]
    return [b"taken"]


ALL = BEHAVIOURS
"""Every behaviour, those of the other file among them."""
