"""What the tests of the server share: a raw client with a strict parser, a server in this process, the command.

Nothing here sleeps: what takes time is waited for, and every wait has a bound.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.tls import TlsSocket

if TYPE_CHECKING:
    from types import TracebackType

    from wsgi.server import WSGIServer

PATIENCE = 20.0
"""Seconds after which a wait counts as failed: long beside what is waited for, short beside the run."""

STATUS_LINE = re.compile(rb"(HTTP/1\.1) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)\r\n")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")


class ProtocolError(AssertionError):
    """The server sent what HTTP/1.1 does not allow, or ended too early."""


@dataclass
class Response:
    """One response, with the interim ones before it."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    interim: list[Response] = field(default_factory=list)
    version: str = "HTTP/1.1"

    def values(self, name: str) -> list[str]:
        """All values of a field; names are compared without case."""
        return [value for other, value in self.fields if other.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.values(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.values(name))


class ResponseReader:
    """Reads responses to the letter of RFC 9112.

    Parameters:
        receive: gives the next bytes, and none at the end of the stream.
        status_line: what a status line must match: version, status and reason.
    """

    def __init__(self, receive: Callable[[], bytes], status_line: re.Pattern[bytes] = STATUS_LINE) -> None:
        self._more = receive
        self._status_line = status_line
        self._buffer = b""

    def receive(self, method: str = "GET") -> Response:
        """Reads the response to a request with `method`, and the interim responses before it."""
        interim: list[Response] = []
        while (response := self.receive_head()).status < 200 and response.status != 101:
            interim.append(response)
        response.interim = interim
        response.body = self._body(response, method)
        return response

    def responses(self, *methods: str) -> list[Response]:
        """Reads exactly one response for each method, and then the end of the stream."""
        found = [self.receive(method) for method in methods]
        self.expect_end()
        return found

    def expect_end(self) -> None:
        """Fails unless the server closes without another byte."""
        rest = self._buffer
        # Unread request bytes turn the close into a reset, which is an end as well.
        with contextlib.suppress(ConnectionResetError):
            while received := self._more():
                rest += received
        if rest:
            raise ProtocolError(f"bytes where the stream should end: {rest[:200]!r}")

    def has_ended(self) -> bool:
        """Waits for the next byte or the end of the stream, and tells whether it is the end."""
        if not self._buffer:
            with contextlib.suppress(ConnectionResetError):
                self._buffer = self._more()
        return not self._buffer

    def receive_head(self) -> Response:
        """Reads the next head, be it of an interim or of a final response, and no content."""
        found = self._match(self._status_line, b"\r\n", "status line")
        fields = []
        while not self._starts(b"\r\n"):
            name, value = self._match(_FIELD_LINE, b"\r\n", "field line").groups()
            fields.append((name.decode("ascii"), value.decode("latin-1")))
        self._take(2)
        return Response(int(found[2]), found[3].decode("latin-1"), fields, version=found[1].decode("ascii"))

    def _body(self, response: Response, method: str) -> bytes:
        lengths, codings = response.values("Content-Length"), response.values("Transfer-Encoding")
        if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
            raise ProtocolError(f"more than one framing: {lengths} {codings}")
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return b""
        if codings:
            if codings != ["chunked"]:
                raise ProtocolError(f"unknown transfer coding {codings}")
            return self._chunks()
        if lengths:
            if not re.fullmatch("[0-9]+", lengths[0]):
                raise ProtocolError(f"malformed length {lengths[0]!r}")
            return self._take(int(lengths[0]))
        rest = self._buffer
        self._buffer = b""
        while received := self._more():
            rest += received
        return rest

    def _chunks(self) -> bytes:
        body = []
        while size := int(self._match(_CHUNK_LINE, b"\r\n", "chunk size")[1], 16):
            body.append(self._take(size))
            if self._take(2) != b"\r\n":
                raise ProtocolError("a chunk without its line end")
        if self._take(2) != b"\r\n":
            raise ProtocolError("a trailer that nobody asked for")
        return b"".join(body)

    def _match(self, pattern: re.Pattern[bytes], until: bytes, what: str) -> re.Match[bytes]:
        while until not in self._buffer:
            self._fill(what)
        line = self._take(self._buffer.index(until) + len(until))
        found = pattern.fullmatch(line)
        if found is None:
            raise ProtocolError(f"malformed {what}: {line[:200]!r}")
        return found

    def _starts(self, prefix: bytes) -> bool:
        while len(self._buffer) < len(prefix):
            self._fill("head")
        return self._buffer.startswith(prefix)

    def _take(self, size: int) -> bytes:
        if len(self._buffer) < size:
            parts, missing = [self._buffer], size - len(self._buffer)
            while missing > 0:
                received = self._read("body")
                parts.append(received)
                missing -= len(received)
            self._buffer = b"".join(parts)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _fill(self, what: str) -> None:
        self._buffer += self._read(what)

    def _read(self, what: str) -> bytes:
        received = self._more()
        if not received:
            raise ProtocolError(f"the stream ended where a {what} should be, after {self._buffer[:200]!r}")
        return received


class RawClient(ResponseReader):
    """A connection that sends the bytes it is given and reads responses to the letter of RFC 9112.

    Parameters:
        address: a URL as in `WSGIServer.addresses`.
        patience: seconds that any single read may take.
        status_line: what a status line must match.
    """

    def __init__(self, address: str, patience: float = PATIENCE, status_line: re.Pattern[bytes] = STATUS_LINE) -> None:
        self.socket = connect_client(address, patience)
        super().__init__(lambda: self.socket.recv(65536), status_line)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Sends each part in a write of its own."""
        for part in parts:
            self.socket.sendall(part)

    def end(self) -> None:
        """Sends FIN; the responses can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def has_something(self) -> bool:
        """Whether bytes or the end of the stream can be read at once."""
        return bool(self._buffer or select.select([self.socket], [], [], 0)[0])


def connect(address: str, patience: float) -> socket.socket:
    """Connects to a URL as in `WSGIServer.addresses`; `patience` is the timeout of every call in seconds."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(patience)
        try:
            connection.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            connection.close()
            raise
        return connection
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 80), patience)
    # Every part that a test sends must leave as a segment of its own.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect_client(address: str, patience: float) -> socket.socket | TlsSocket:
    """Connects as `connect` does, and speaks TLS where the address says https."""
    connection = connect(address, patience)
    return TlsSocket(connection) if address.startswith("https:") else connection


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def serve(app: Any, **options: Any) -> Iterator[WSGIServer]:
    """A server for `app` on a free port, in a background thread of this process, stopped at the end."""
    from wsgi.server import WSGIServer

    if "bind" not in options:
        options.setdefault("port", 0)
    with WSGIServer(app=app, **options) as server:
        yield server


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process without the server's own variables, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_") and name != "PORT"}
    return {**kept, **variables}


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `wsgi ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "wsgi_server", *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Command:
    """A running `wsgi ARGUMENTS` on a free port. As a context it is stopped, and killed if it does not stop.

    Parameters:
        arguments: what follows the command's name; `--port 0` is added unless they, or a file, say where to listen.
        cwd: the directory to start in.
        env: variables for the process.
        start: the words that start the command.
        pass_fds: descriptors that the process inherits.
        place: what says where to listen, if the arguments do not.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        start: Sequence[str] = (sys.executable, "-m", "wsgi_server"),
        pass_fds: Sequence[int] = (),
        place: Sequence[str] = ("--port", "0"),
    ) -> None:
        place = [] if any(word in arguments for word in ("--port", "--bind", "--config")) else place
        self.process = subprocess.Popen(
            [*start, *arguments, *place],
            cwd=cwd,
            env=environment(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout = _Lines(self.process.stdout)
        self.stderr = _Lines(self.process.stderr)
        try:
            self.banner = self.stderr.wait_for("WSGIServer: Serving HTTP on ")
        except AssertionError:
            self.stop(signal.SIGKILL)
            raise
        listed = self.banner.removeprefix("WSGIServer: Serving HTTP on ").rpartition(" (")[0]
        self.addresses = listed.split(", ")

    @property
    def address(self) -> str:
        """The first address, for `RawClient` and other clients."""
        return self.addresses[0]

    def __enter__(self) -> Command:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Sends the signal to this process alone, waits for its end and gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.stdout.close()
            self.stderr.close()


class _Lines:
    """The lines of a pipe, read by a thread so that a wait for one can have a bound."""

    def __init__(self, pipe: IO[str]) -> None:
        self.seen: list[str] = []
        self._pipe = pipe
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, text: str) -> str:
        """Gives the first line not yet seen that holds `text`."""
        while True:
            try:
                line = self._queue.get(timeout=PATIENCE)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {text!r} in: " + "\n".join(self.seen))
            self.seen.append(line)
            if text in line:
                return line

    def close(self) -> None:
        """Takes what is left once the process has ended."""
        self._thread.join(PATIENCE)
        while not self._queue.empty():
            if (line := self._queue.get()) is not None:
                self.seen.append(line)
        self._pipe.close()
