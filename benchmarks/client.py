"""A client for what no load generator does: few requests, one by one, with a look at each response."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import IO

PATIENCE = 60.0
"""Seconds that a single read may take; long, because servers run under instrumentation, too."""


@dataclass(frozen=True)
class Response:
    """A response, and its length on the wire."""

    status: int
    body: bytes
    length: int


def connect(port: int, patience: float = PATIENCE) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=patience)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_response(stream: IO[bytes]) -> Response:
    """Reads one response.

    Raises:
        ConnectionError: the server closed the connection before its end.
    """
    head = line = _line(stream)
    status = int(line.split(b" ")[1])
    length: int | None = None
    chunked = False
    while (line := _line(stream)) != b"\r\n":
        head += line
        name, _, value = line.lower().partition(b":")
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = value.strip() == b"chunked"
    size = len(head) + 2
    if not chunked:
        # Without both, the end of the connection ends the content.
        body = stream.read() if length is None else _exactly(stream, length)
        return Response(status, body, size + len(body))
    body = b""
    while True:
        line = _line(stream)
        chunk = _exactly(stream, int(line, 16))
        size += len(line) + len(chunk) + len(_line(stream))
        if not chunk:
            return Response(status, body, size)
        body += chunk


def exchange(port: int, request: bytes, patience: float = PATIENCE) -> Response:
    """One request on a connection of its own."""
    with connect(port, patience) as connection, connection.makefile("rb") as stream:
        connection.sendall(request)
        return read_response(stream)


def closes(port: int, request: bytes, patience: float = 2.0) -> bool:
    """Whether the server closes the connection behind its response to `request`; it has `patience` seconds for that."""
    with connect(port, patience) as connection, connection.makefile("rb") as stream:
        connection.sendall(request)
        read_response(stream)
        try:
            return stream.read(1) == b""
        except TimeoutError:
            return False


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline(65_536)
    if not line.endswith(b"\n"):
        raise ConnectionError("the server closed the connection")
    return line


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise ConnectionError("the server closed the connection")
    return content
