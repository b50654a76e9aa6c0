"""One WSGI application in front of all test applications, and a client that calls applications without a server.

Each request names the application it is for in `X-Test-App`, so that one server of each kind serves all test modules.
Whatever it is, it runs under `wsgiref.validate`, and what the validator has to say is kept until the tests ask for it.
"""

from __future__ import annotations

import importlib
import io
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import httpx
import pytest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

servers_only = pytest.mark.parametrize("backend", ["wsgi", "waitress", "gunicorn"], indirect=True)
"""For tests about connections: `client` is one of a server."""

COMPLAINTS = "complaints"
"""In place of an application: gives what the validator said since the last time, a line each."""

_complaints: queue.SimpleQueue[str] = queue.SimpleQueue()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serves the application that the header X-Test-App names as `MODULE:ATTRIBUTE`, or as `MODULE:ATTRIBUTE:bare`
    where the validator would hide what the test is about.
    """
    target = environ.pop("HTTP_X_TEST_APP")
    if target == COMPLAINTS:
        body = "".join(f"{line}\n" for line in _taken(_complaints)).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    module, attribute, *bare = target.split(":")
    app = getattr(importlib.import_module(module), attribute)
    return (app if bare else checked(app))(environ, start_response)


def checked(app: WSGIApplication) -> WSGIApplication:
    """`app` under the validator, whose complaints are kept as well as raised."""
    validated = validator(app)

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with_complaints = _kept(validated)
        return _Watched(with_complaints(environ, start_response))

    return outer


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: object) -> Any:
        try:
            return function(*arguments)
        except AssertionError as complaint:
            _complaints.put(f"{type(complaint).__name__}: {complaint}")
            raise

    return call


class _Watched:
    """What the validator returned, whose complaints at iteration and close are kept, too."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content = iter(content)
        self.close = _kept(content.close)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._content)
        except AssertionError as complaint:
            _complaints.put(f"{type(complaint).__name__}: {complaint}")
            raise


def _taken(lines: queue.SimpleQueue[str]) -> Iterator[str]:
    while not lines.empty():
        yield lines.get()


class Direct(httpx.BaseTransport):
    """Calls a WSGI application as a strict server would (PEP 3333), and raises what it raises.

    `httpx.WSGITransport` decodes paths as UTF-8, drops what is written, and gives content to HEAD.

    Parameters:
        app: the application.
        environ: what every environ holds besides.
        validated: whether it runs under `wsgiref.validate`.
    """

    def __init__(
        self, app: WSGIApplication, environ: Mapping[str, Any] | None = None, *, validated: bool = True
    ) -> None:
        self.app = validator(app) if validated else app
        self.environ = dict(environ or {})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answers one request; the extension `target` replaces the request target, as in httpcore."""
        status_line, headers, body = self._call(self._environ(request))
        status, _, reason = status_line.partition(" ")
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        if request.method == "HEAD" or status in ("204", "304"):
            # RFC 9110 §9.3.2, §15.3.5, §15.4.5: the application itself must not send content here.
            assert body == b"", f"content in a response to {request.method} with status {status}: {body[:80]!r}"
        elif lengths:
            assert lengths == [str(len(body))], f"Content-Length says {lengths}, the content has {len(body)} bytes"
        return httpx.Response(
            int(status),
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            stream=httpx.ByteStream(body),
            extensions={"reason_phrase": reason.encode("latin-1")},
            request=request,
        )

    def answer(self) -> tuple[str, list[tuple[str, str]], bytes]:
        """What the application answers where the environ is all there is: status, fields, content."""
        return self._call(self._environ(httpx.Request("GET", "http://testserver/")))

    def _environ(self, request: httpx.Request) -> WSGIEnvironment:
        target: bytes = request.extensions.get("target", request.url.raw_path)
        path, _, query = target.partition(b"?")
        body = request.read()
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "SERVER_NAME": request.url.host,
            "SERVER_PORT": str(request.url.port or 80),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "50000",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.url.scheme,
            "wsgi.input": Input(body) if "Content-Length" in request.headers else io.BytesIO(body),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        for name, value in request.headers.multi_items():
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            # RFC 3875 §4.1.18: several fields of one name become one, in their order.
            joint = "; " if key == "HTTP_COOKIE" else ", "
            environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
        return {**environ, **self.environ}

    def _call(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
        head: list[Any] = []
        written: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            assert not head or exc_info, "start_response was called twice without exc_info"
            if head and any(written):
                raise exc_info[1]
            head[:] = [status, list(headers)]
            return written.append

        content = self.app(environ, start_response)
        try:
            for piece in content:
                assert head, "content before start_response was called"
                written.append(piece)
        finally:
            if hasattr(content, "close"):
                content.close()
        assert head, "start_response was never called"
        return head[0], head[1], b"".join(written)


class Input:
    """A `wsgi.input` that would block where the body ends, as PEP 3333 allows: whoever asks for more fails."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)
        self._left = len(body)

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes, all of which must be there."""
        assert 0 <= size <= self._left, f"read({size}) where the body has {self._left} more bytes"
        self._left -= size
        return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        """Reads up to the next line end or up to `size` bytes, one of which must be there."""
        line = self._file.readline(size)
        ends = line.endswith(b"\n") or len(line) == size
        assert ends, f"readline({size}) where the body has {self._left} more bytes and no line end"
        self._left -= len(line)
        return line

    def readlines(self, hint: int = -1) -> list[bytes]:
        """Refuses: there is no way to stop at the end."""
        raise AssertionError("readlines() reads past the end of the body")

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("iteration reads past the end of the body")


def direct(
    app: WSGIApplication, environ: Mapping[str, Any] | None = None, *, validated: bool = True, **variables: Any
) -> httpx.Client:
    """A client of an application that no server serves.

    Parameters:
        app: the application.
        environ: what every environ holds besides, such as `{"wsgi.url_scheme": "https"}`.
        validated: whether it runs under `wsgiref.validate`.
        variables: the same as `environ`, for names that are keywords: `SCRIPT_NAME="/here"`.
    """
    transport = Direct(app, {**(environ or {}), **variables}, validated=validated)
    return httpx.Client(transport=transport, base_url="http://testserver", trust_env=False)


def main(kind: str, descriptor: int) -> None:
    """Serves on an inherited socket that listens already."""
    if kind != "waitress":
        raise SystemExit(f"unknown server {kind!r}")
    import socket

    import waitress

    # Not this module's own `application`: the one that the test modules import.
    served = importlib.import_module("tests.application.switchboard").application
    waitress.serve(served, sockets=[socket.socket(fileno=descriptor)], threads=4, _quiet=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
