"""Servers that lose something on purpose, one fault each, to see whether the detector finds it and names it right.

A double serves well but for every third time that its fault can occur.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.reload.content import PIECES, digest

__all__ = ["Double", "served"]

EVERY = 3
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Request:
    """A request as a double sees it."""

    path: str
    number: str
    body: bytes
    is_last: bool
    key: bytes
    index: int
    """Requests before it on its connection."""


class Reset(Exception):
    """Reset the connection now."""


class End(Exception):
    """End the stream now."""


@dataclass
class Double:
    """What a double does in place of a good server. Every method is one that a faulty double overrides.

    Each raises `Reset` or `End` to end the connection at once.
    """

    runs: list[int] = field(default_factory=list)
    """Numbers of the requests for which the application has run."""

    def __post_init__(self) -> None:
        self._turns = itertools.count(1)

    def is_turn(self) -> bool:
        """Whether the fault is due."""
        return next(self._turns) % EVERY == 0

    def content(self, request: Request) -> list[bytes]:
        """The body of a response, as chunks for a stream."""
        self.runs.append(int(request.number))
        mark = f"{request.number} 1 1"
        if request.path == "/stream":
            return [f"{mark} {index}\n".encode() for index in range(PIECES)]
        return [(f"{mark} {digest(request.body)}" if request.path == "/digest" else mark).encode()]

    def response(self, request: Request) -> bytes:
        """The whole response."""
        content = self.content(request)
        close = b"Connection: close\r\n" if request.is_last else b""
        if request.path == "/stream":
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in content)
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n%s0\r\n\r\n" % (close, chunks)
        (body,) = content
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), close, body)

    async def respond(self, request: Request, send: Callable[[bytes], Coroutine[None, None, None]]) -> None:
        """Sends what answers a request."""
        await send(self.response(request))

    async def message(self, number: str, send: Callable[[bytes], Coroutine[None, None, None]]) -> None:
        """Answers a WebSocket message."""
        self.runs.append(int(number))
        await send(frame(0x1, f"{number} 1 1".encode()))


def frame(opcode: int, payload: bytes) -> bytes:
    """A WebSocket frame of a server."""
    return bytes([0x80 | opcode, len(payload)]) + payload


def close_frame(status: int) -> bytes:
    """A Close frame of a server."""
    return frame(0x8, struct.pack("!H", status))


@asynccontextmanager
async def served(double: Double) -> AsyncIterator[str]:
    """The address of a double as long as the block runs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.current_task())
        try:
            await _serve(double, reader, writer)
        except Reset:
            end = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        except (End, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    tasks: set[asyncio.Task[None] | None] = set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        while tasks:
            await asyncio.sleep(0.01)


async def _serve(double: Double, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    for index in itertools.count():
        request = await _request(reader, index)
        if request is None:
            return
        if request.key:
            accept = base64.b64encode(hashlib.sha1(request.key + _MAGIC).digest())
            await send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
            )
            while (number := await _message(reader)) is not None:
                await double.message(number, send)
            return
        await double.respond(request, send)
        if request.is_last:
            return


async def _request(reader: asyncio.StreamReader, index: int) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head[:-4].split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    original = dict(line.split(": ", 1) for line in lines)
    path, _, number = request_line.split(" ")[1].partition("?")
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    key = original.get("Sec-WebSocket-Key", "").encode()
    return Request(path, number, body, fields.get("connection") == "close", key, index)


async def _message(reader: asyncio.StreamReader) -> str | None:
    """The number in a text message; None once the client closes."""
    first, length = await reader.readexactly(2)
    payload = (await reader.readexactly(4 + (length & 0x7F)))[4:]
    return payload.decode().split(" ")[0] if first & 0x0F == 0x1 else None
