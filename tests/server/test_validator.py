"""`wsgiref.validate` finds nothing to complain about: whatever the request, and however the application answers."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from tests.support import RawClient, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

BODY = b"first line\nsecond line\n\nlast" * 10

# Each body as it stands behind the request line and Host.
FRAMINGS = {
    "none": b"\r\n",
    "empty": b"Content-Length: 0\r\n\r\n",
    "length": b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
}


class Record:
    """What the application saw, and what went wrong in it."""

    def __init__(self) -> None:
        self.environ: dict[str, Any] = {}
        self.body = b""
        self.problem: BaseException | None = None


def recorded(app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]], record: Record) -> WSGIApplication:
    """`app` under the validator, which wants to be told the truth by both sides; a complaint is kept in `record`."""
    checked = validator(app)

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # PEP 3333, "environ Variables": a builtin dict, "not a subclass, UserDict or other dictionary emulation".
        assert type(environ) is dict
        record.environ = dict(environ)
        try:
            # Called as the PEP says, by position, with a builtin list and strings.
            return _Watched(checked(environ, start_response), record)
        except BaseException as problem:
            record.problem = problem
            raise

    return outer


class _Watched:
    """An iterable that keeps what iterating or closing it raises."""

    def __init__(self, content: Iterable[bytes], record: Record) -> None:
        self._content = content
        self._record = record

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._content
        except Exception as problem:
            self._record.problem = problem
            raise

    def close(self) -> None:
        try:
            self._content.close()  # type: ignore[attr-defined]
        except Exception as problem:
            self._record.problem = problem
            raise


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with the method and the body."""
    body = environ["REQUEST_METHOD"].encode() + b" " + environ["wsgi.input"].read(1 << 20)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def exchange(address: str, request: bytes, method: str = "GET") -> tuple[int, bytes]:
    """Sends one request on a connection of its own and gives status and content of the answer."""
    with RawClient(address) as client:
        client.send(request)
        client.end()
        (response,) = client.responses(method)
    return response.status, response.body


# RFC 9112 §6.1: an HTTP/1.0 message with Transfer-Encoding is faulty.
@pytest.mark.parametrize(
    ("version", "framing"),
    [("1.0", "none"), ("1.0", "empty"), ("1.0", "length"), *(("1.1", framing) for framing in FRAMINGS)],
)
@pytest.mark.parametrize("method", METHODS)
def test_request_of_every_kind_satisfies_the_validator(
    method: str, version: str, framing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record()
    host = b"Host: a\r\n" if version == "1.1" else b""
    request = f"{method} /a/b?c=d HTTP/{version}\r\n".encode() + host + FRAMINGS[framing]
    with serve(recorded(echo, record)) as server:
        status, content = exchange(server.addresses[0], request, method)
    assert record.problem is None
    expected = BODY if framing in ("length", "chunked") else b""
    assert (status, content) == (200, b"" if method == "HEAD" else method.encode() + b" " + expected)
    assert record.environ["SERVER_PROTOCOL"] == f"HTTP/{version}"
    # What the validator cannot raise, because nobody would catch it, it writes: an iterator that was not closed, say.
    assert capsys.readouterr().err == ""


def from_list(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"a", b"", b"b"]


def from_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (piece for piece in (b"", b"a", b"", b"b"))


def from_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"a")
    return [b"b"]


def from_file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"ab"), 1)
    return wrapped


def after_an_error(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("500 Oh", [("Content-Type", "text/html")])
    try:
        raise ValueError("mended at once")
    except ValueError:
        start_response("200 OK", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"ab"]


def without_content(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def complaining(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    # PEP 3333, "Input and Error Streams": all that wsgi.errors must have.
    environ["wsgi.errors"].write("line\n")
    environ["wsgi.errors"].writelines(["more\n", "☃\n"])
    environ["wsgi.errors"].flush()
    return from_list(environ, start_response)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("app", "answer"),
    [
        (from_list, (200, b"ab")),
        (from_generator, (200, b"ab")),
        (from_write, (200, b"ab")),
        (from_file, (200, b"ab")),
        (after_an_error, (200, b"ab")),
        (without_content, (204, b"")),
        (complaining, (200, b"ab")),
    ],
)
def test_response_of_every_kind_satisfies_the_validator(
    app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]],
    answer: tuple[int, bytes],
    version: str,
    method: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = Record()
    with serve(recorded(app, record)) as server:
        found = exchange(server.addresses[0], f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode(), method)
    assert record.problem is None
    assert found == (answer if method == "GET" else (answer[0], b""))
    assert capsys.readouterr().err == ("line\nmore\n☃\n" if app is complaining else "")


READERS: dict[str, Callable[[Any], bytes]] = {
    "read": lambda source: b"".join(iter(lambda: source.read(7), b"")),
    "readline": lambda source: b"".join(iter(source.readline, b"")),
    "readlines": lambda source: b"".join(source.readlines()),
    "iteration": b"".join,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_input_read_in_every_way_satisfies_the_validator(read: Callable[[Any], bytes], framing: str) -> None:
    record = Record()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        record.body = read(environ["wsgi.input"])
        return from_list(environ, start_response)

    with serve(recorded(app, record)) as server:
        found = exchange(server.addresses[0], b"POST / HTTP/1.1\r\nHost: a\r\n" + FRAMINGS[framing])
    assert record.problem is None
    assert (record.body, found) == (BODY, (200, b"ab"))


TARGETS = {
    "/": "/",
    "/a%20b/%C3%A9": "/a b/\xc3\xa9",
    "//double": "//double",
    "http://a/absolute?x=1": "/absolute",
    "http://a": "/",
}


@pytest.mark.parametrize(("target", "path"), TARGETS.items())
def test_target_of_every_form_satisfies_the_validator(target: str, path: str) -> None:
    record = Record()
    with serve(recorded(echo, record)) as server:
        status, _ = exchange(server.addresses[0], f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert record.problem is None
    assert (status, record.environ["SCRIPT_NAME"], record.environ["PATH_INFO"]) == (200, "", path)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "unix:app.sock"])
def test_listener_of_every_kind_satisfies_the_validator(
    bind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = Record()
    with serve(recorded(echo, record), bind=[bind]) as server:
        status, content = exchange(server.addresses[0], b"PUT / HTTP/1.1\r\nHost: a\r\n" + FRAMINGS["length"])
    assert record.problem is None
    assert (status, content) == (200, b"PUT " + BODY)
    # PEP 3333: never empty strings.
    assert record.environ["SERVER_NAME"]
    assert record.environ["SERVER_PORT"].isdecimal()


def test_complaint_of_the_validator_is_noticed_here() -> None:
    record = Record()

    def wrong(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"content without Content-Type"]

    with serve(recorded(wrong, record)) as server:
        status, _ = exchange(server.addresses[0], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status == 500
    assert isinstance(record.problem, AssertionError)


def test_every_request_gets_an_environ_of_its_own() -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # PEP 3333: the application may change it in any way.
        assert "mine" not in environ
        seen.append(environ)
        environ["mine"] = environ["PATH_INFO"]
        environ["wsgi.url_scheme"] = environ["SERVER_NAME"] = "changed"
        return from_list(environ, start_response)

    with serve(app) as server:
        before = dict(server.base_environ)
        with RawClient(server.addresses[0]) as client:
            for number in range(3):
                client.send(f"GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                assert client.receive().status == 200
        assert server.base_environ == before
    assert [environ["mine"] for environ in seen] == ["/0", "/1", "/2"]
    assert len({id(environ) for environ in seen}) == 3


KEPT = ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.client_disconnected", "wsgi.early_hints"]


@pytest.mark.parametrize("kept", [None, *KEPT], ids=lambda kept: kept or "environ")
def test_application_that_keeps_its_environ_lets_the_connection_go(kept: str | None) -> None:
    # Bottle does that in a thread-local, for one. RFC 9112 §9.6: the end of the connection is part of the answer.
    seen: list[Any] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.extend([environ if kept is None else environ[kept], start_response])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"content"])

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        (response,) = client.responses("GET")
        assert response.body == b"content"
        # What is kept can be asked afterwards, and does no harm.
        environ = seen[0] if kept is None else {kept: seen[0]}
        if "wsgi.input" in environ:
            assert environ["wsgi.input"].read(1) == b""
        if "wsgi.client_disconnected" in environ:
            assert environ["wsgi.client_disconnected"]() in (True, False)


@pytest.mark.parametrize("size", [1000, 100_000], ids=["buffered", "streamed"])
def test_input_kept_beyond_its_request_reads_nothing_of_the_next(size: int) -> None:
    kept: list[Any] = []
    reads: list[bytes] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if kept:
            # The rest of the body it belongs to would do as well, or an error.
            with contextlib.suppress(Exception):
                reads.append(kept[0].read(size))
        kept.append(environ["wsgi.input"])
        content = environ["wsgi.input"].read(10) if len(kept) == 1 else environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [content]

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        for body, answer in ((b"1" * size, b"1" * 10), (b"2" * size, b"2" * size)):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            assert client.receive().body == answer
    assert len(kept) == 2
    assert b"2" not in b"".join(reads)
