"""What the wire tests share: requests as bytes, applications that log their calls, answers compared byte by byte."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import tls
from tests.support import PATIENCE, Command, RawClient, serve

if TYPE_CHECKING:
    from wsgi.server import WSGIServer

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, Start], Any]

# Requests. An application that sees the one that follows when it must not has seen broken framing.
GET = b"GET /e HTTP/1.1\r\nHost: a\r\n"
HEAD = b"HEAD /e HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /e HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

STREAMING: dict[str, Any] = {"body_buffer": 0, "stream_bodies": True}
"""Options with which the application reads a body of known length off the socket."""

# RFC 9110 §5.6.7. What does not match stays in the answer and fails the comparison.
_DATE = re.compile(
    rb"Date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} "
    rb"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT\r\n"
)


def expected(
    status: bytes, *fields: bytes, framing: bytes | None = None, close: bool = False, body: bytes = b""
) -> bytes:
    """The bytes of a response whose Date and Server are the server's; `fields` are the application's lines."""
    end = [framing] if framing else []
    if close:
        end.append(b"Connection: close")
    lines = [b"HTTP/1.1 " + status, *fields, b"Date: *", b"Server: wsgi-server", *end, b"", b""]
    return b"\r\n".join(lines) + body


def chunks(*pieces: bytes, end: bool = True) -> bytes:
    """Content in the chunked coding, one chunk for each piece (RFC 9112 §7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


LAST_ANSWER = expected(b"200 OK", framing=b"Content-Length: 4", close=True, body=b"last")
FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nDate: *\r\nServer: wsgi-server\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 23\r\nConnection: close\r\n\r\n"
)
"""The head of the answer to a request whose application failed before its response began."""
FAILED_TEXT = b"Internal server error.\n"


def undated(raw: bytes) -> bytes:
    """`raw` with each well-formed Date as `*`."""
    return _DATE.sub(b"Date: *\r\n", raw)


def talk(address: str, *parts: bytes) -> bytes:
    """Sends each part in a write of its own and gives all that comes until the server closes."""
    with RawClient(address) as client:
        client.send(*parts)
        return everything(client)


def everything(client: RawClient) -> bytes:
    """All that comes until the server closes, with its dates as `*`."""
    received = []
    while piece := client.socket.recv(1 << 16):
        received.append(piece)
    return undated(b"".join(received))


def refused(client: RawClient, status: int) -> None:
    """Fails unless the next answer is a refusal with `status`, which says that it is the last, and is."""
    response = client.receive()
    assert response.status == status
    assert not response.interim
    assert response["Connection"] == "close"
    client.expect_end()


def reset(client: RawClient) -> None:
    """Closes so that the server gets a RST instead of a FIN."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits until `condition` holds, and fails when it never does."""
    end = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"never came about: {what}"
        pause.wait(0.002)


def is_refused(address: str) -> bool:
    """Whether the server at `address` takes no more connections."""
    try:
        RawClient(address).socket.close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # It stood in line while the door closed.
    return False


def time_to_cut(command: Command, client: RawClient) -> float:
    """Tells the command to stop, and reads a response that has no end of its own: the seconds until it was cut."""
    begun = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    with client:
        while client.socket.recv(65536):
            pass
    return time.monotonic() - begun


def descriptors() -> int:
    """How many descriptors this process has open, those of the servers in it among them."""
    return len(os.listdir("/dev/fd"))


def answer(start_response: Start, body: bytes = b"", *, status: str = "200 OK") -> list[bytes]:
    """Answers with `body` and its length."""
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@dataclass(frozen=True)
class Call:
    """One call of an application."""

    method: str
    path: str
    body: bytes | None
    """None if the application does not read."""

    @property
    def digest(self) -> str:
        """The call as `METHOD PATH LENGTH CRC32`."""
        assert self.body is not None
        return f"{self.method} {self.path} {len(self.body)} {zlib.crc32(self.body):08x}"


@dataclass
class Recorder:
    """An application that logs every call and echoes it; with `reads` it reads the body to its end, else not at all."""

    reads: bool = True
    calls: list[Call] = field(default_factory=list)

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read() if self.reads else None
        call = Call(environ["REQUEST_METHOD"], environ["PATH_INFO"], body)
        self.calls.append(call)
        return answer(start_response, self.echo(call))

    @staticmethod
    def echo(call: Call) -> bytes:
        """What the response to `call` holds."""
        return f"{call.method} {call.path} ".encode("latin-1") + (call.body or b"")

    @property
    def paths(self) -> list[str]:
        """The paths of all calls."""
        return [call.path for call in self.calls]


@dataclass
class Followed:
    """Answers `/last` itself and hands everything else to `app`."""

    app: App
    reached: int = 0

    def __call__(self, environ: Environ, start_response: Start) -> Any:
        if environ["PATH_INFO"] != "/last":
            return self.app(environ, start_response)
        self.reached += 1
        start_response("200 OK", [])
        return [b"last"]


@dataclass
class Gate:
    """An application that holds `/slow` until it is opened, tells who came in, and answers other paths at once."""

    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    opened: threading.Event = field(default_factory=threading.Event)
    paths: list[str] = field(default_factory=list)

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.paths.append(path)
        if path.startswith("/slow"):
            self.entered.release()
            assert self.opened.wait(PATIENCE)
        return answer(start_response, path.encode())

    def wait_for_one(self) -> None:
        """Waits until one more request is inside."""
        assert self.entered.acquire(timeout=PATIENCE)


def get(path: str, *lines: str) -> bytes:
    """A GET request for `path`."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")


@contextmanager
def listening(transport: str, app: Any, directory: Path, **options: Any) -> Iterator[WSGIServer]:
    """A server for `app` over `tcp`, over `tls`, or over a `unix` socket in `directory`."""
    place: dict[str, Any] = {"bind": [f"unix:{directory / 'socket'}"]} if transport == "unix" else {}
    if transport == "tls":
        place = {**tls.options()}
    with serve(app, **place, **options) as server:
        yield server
