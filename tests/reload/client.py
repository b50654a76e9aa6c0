"""Connections that never retry: what ends one too early is a `Lost` with the precise name of the fault."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.reload.faults import Fault, Lost

__all__ = ["Answer", "Closed", "Connection", "WebSocket"]

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e]*")
_MARK = re.compile(r"([0-9]+) ([0-9]+) ([0-9]+)(?: (.*))?")
_RECEIVE_BYTES = 65_536
_CROSSING_SECONDS = 0.5
"""A message that was sent so shortly before a Close frame came may have crossed it, unless the application had it."""
_LEAVING_STATUSES = (1001, 1012)


@dataclass(frozen=True)
class Answer:
    """One response.

    Parameters:
        number: the number of the request that it belongs to.
        pid: the worker.
        generation: the generation of its application.
        rest: what the body says besides.
        is_last: whether it announces that the connection will be closed.
    """

    number: int
    pid: int
    generation: int
    rest: str
    is_last: bool


class Connection:
    """A connection to the server. Only one coroutine may use it at a time.

    Parameters:
        end: the connected socket, which it owns.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._answered: set[int] = set()
        self._was_idle = False

    @staticmethod
    async def open(address: str) -> Connection:
        """Connects to a URL, or to the path behind `unix:`.

        Raises:
            Lost: `REFUSED`.
        """
        target: str | tuple[str, int]
        if address.startswith("unix:"):
            end, target = socket.socket(socket.AF_UNIX), address.removeprefix("unix:")
        else:
            parts = urlsplit(address)
            assert parts.hostname is not None
            assert parts.port is not None
            end, target = socket.socket(), (parts.hostname, parts.port)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(end, target)
        except OSError as error:
            end.close()
            raise Lost(Fault.REFUSED, str(error)) from error
        except BaseException:
            end.close()
            raise
        return Connection(end)

    def close(self) -> None:
        """Closes it."""
        self._end.close()

    async def send(self, data: bytes) -> None:
        """Sends everything.

        Raises:
            Lost: the server takes no more.
        """
        try:
            await self._loop.sock_sendall(self._end, data)
        except OSError as error:
            raise Lost(self._fault_before_response(Fault.RESET), f"while a request was sent: {error}") from error

    async def answer(self, number: int) -> Answer:
        """Reads the response to request `number`.

        Raises:
            Lost: it is not what it must be.
        """
        is_last, body = await self._response()
        found = _MARK.fullmatch(body.partition("\n")[0])
        if found is None:
            raise Lost(Fault.MALFORMED, f"body {body[:100]!r}")
        first = Answer(int(found[1]), int(found[2]), int(found[3]), found[4] or "", is_last)
        self._check(first.number, number)
        if "\n" in body:
            mark, lines = body.rpartition(" ")[0].rpartition("\n")[2], body.splitlines()
            if lines != [f"{mark} {index}" for index in range(len(lines))]:
                raise Lost(Fault.MIXED_UP, f"lines {lines}")
            first = Answer(first.number, first.pid, first.generation, str(len(lines)), is_last)
        return first

    def _check(self, found: int, number: int) -> None:
        if found in self._answered:
            raise Lost(Fault.DOUBLED, f"a second response to {found} in place of one to {number}")
        if found != number:
            raise Lost(Fault.MIXED_UP, f"the response to {found} in place of one to {number}")
        self._answered.add(found)

    def check_idle(self) -> None:
        """Looks at a connection whose requests all are answered, before the next is sent.

        Raises:
            Lost: it has ended, or there are bytes.
        """
        try:
            found = self._buffer or self._end.recv(_RECEIVE_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            self._was_idle = True
            return
        except OSError as error:
            raise Lost(Fault.CLOSED_IDLE, str(error)) from error
        if found:
            raise Lost(Fault.DOUBLED, f"bytes behind the response: {found[:100]!r}")
        raise Lost(Fault.CLOSED_IDLE, "the stream ended")

    async def wait_idle(self, seconds: float) -> None:
        """Waits so long while all requests are answered.

        Raises:
            Lost: it has ended meanwhile, or there are bytes.
        """
        await self.wait_readable(seconds)
        if self.has_bytes():
            self.check_idle()

    async def wait_readable(self, seconds: float) -> None:
        """Waits so long, or until there is something to read."""
        is_readable = asyncio.Event()
        # Nothing is read here, so that a timeout in this very moment loses no byte.
        self._loop.add_reader(self._end, is_readable.set)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(is_readable.wait(), max(seconds, 0))
        finally:
            self._loop.remove_reader(self._end)

    def has_bytes(self) -> bool:
        """Whether something can be read at once: bytes, the end of the stream or an error."""
        return bool(self._buffer or select.select([self._end], [], [], 0)[0])

    async def expect_end(self) -> None:
        """Waits for the end of the stream after the last response.

        Raises:
            Lost: more bytes come, or a reset, which may cut off what was not read yet.
        """
        try:
            found = self._buffer or await self._loop.sock_recv(self._end, _RECEIVE_BYTES)
        except OSError as error:
            raise Lost(Fault.RESET, f"behind the response: {error}") from error
        if found:
            raise Lost(Fault.DOUBLED, f"bytes behind the response: {found[:100]!r}")

    async def _response(self) -> tuple[bool, str]:
        head = await self._until(b"\r\n\r\n", may_begin=True)
        status_line, *lines = head[:-4].split(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if status is None:
            raise Lost(Fault.MALFORMED, f"status line {status_line[:100]!r}")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if fields.get(b"transfer-encoding") == b"chunked":
            body = await self._chunks()
        elif fields.get(b"content-length", b"").isdigit():
            body = await self.take(int(fields[b"content-length"]))
        else:
            raise Lost(Fault.MALFORMED, f"no framing: {fields}")
        if status[1] != b"200":
            raise Lost(Fault.FAILED, f"{status_line.decode()}")
        return fields.get(b"connection", b"").lower() == b"close", body.decode("latin-1")

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            line = await self._until(b"\r\n")
            try:
                size = int(line, 16)
            except ValueError:
                raise Lost(Fault.MALFORMED, f"chunk size {line[:100]!r}") from None
            chunk = await self.take(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise Lost(Fault.MALFORMED, f"chunk {chunk[:100]!r} without its line end")
            if not size:
                return body
            body += chunk[:-2]

    async def until_head(self) -> bytes:
        """Reads one head and gives it as it came."""
        return await self._until(b"\r\n\r\n", may_begin=True)

    async def take(self, size: int) -> bytes:
        """Reads so many bytes."""
        while len(self._buffer) < size:
            await self._fill(is_beginning=False)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def _until(self, end: bytes, may_begin: bool = False) -> bytes:
        while end not in self._buffer:
            await self._fill(may_begin and not self._buffer)
        taken, _, self._buffer = self._buffer.partition(end)
        return taken + end

    async def _fill(self, is_beginning: bool) -> None:
        try:
            received = await self._loop.sock_recv(self._end, _RECEIVE_BYTES)
        except OSError as error:
            fault = self._fault_before_response(Fault.RESET) if is_beginning else Fault.SHORT
            raise Lost(fault, f"{error} after {self._buffer[:100]!r}") from error
        if not received:
            fault = self._fault_before_response(Fault.UNANSWERED) if is_beginning else Fault.SHORT
            raise Lost(fault, f"the stream ended after {self._buffer[:100]!r}")
        self._buffer += received
        self._was_idle = False

    def _fault_before_response(self, fault: Fault) -> Fault:
        return Fault.LOST_ON_REUSE if self._was_idle else fault


class Closed(Exception):
    """A WebSocket was closed in order.

    Parameters:
        unanswered: the number of a message that may not have reached the server before it closed.
    """

    def __init__(self, unanswered: int | None) -> None:
        super().__init__("the server has closed the WebSocket")
        self.unanswered = unanswered


class WebSocket:
    """A WebSocket that sends one text message at a time and waits for the answer.

    Parameters:
        connection: where the handshake was answered with 101.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unanswered: int | None = None
        self._sent_at = 0.0

    @staticmethod
    async def open(address: str) -> WebSocket:
        """Connects.

        Raises:
            Lost: there is no handshake.
        """
        connection = await Connection.open(address)
        try:
            key = base64.b64encode(os.urandom(16))
            await connection.send(
                b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % key
            )
            head = await connection.until_head()
            if not head.startswith(b"HTTP/1.1 101 "):
                raise Lost(Fault.FAILED, f"handshake {head[:100]!r}")
        except BaseException:
            connection.close()
            raise
        return WebSocket(connection)

    def close(self) -> None:
        """Closes the connection without a Close frame."""
        self._connection.close()

    async def exchange(self, number: int, pace: str) -> Answer:
        """Sends a message and reads its answer.

        Raises:
            Lost: something else came.
            Closed: the server has closed the WebSocket.
        """
        await self._take_unasked()
        self._unanswered, self._sent_at = number, time.monotonic()
        # What the server has sent can be read, even where it takes no more.
        with suppress(Lost):
            await self._send_frame(0x1, f"{number} {pace}".encode())
        text = (await self._message()).decode("utf-8", "replace")
        self._unanswered = None
        found = _MARK.fullmatch(text)
        if found is None:
            raise Lost(Fault.MALFORMED, f"message {text[:100]!r}")
        if int(found[1]) != number:
            raise Lost(Fault.MIXED_UP, f"the answer to {found[1]} in place of one to {number}")
        return Answer(number, int(found[2]), int(found[3]), "", is_last=False)

    async def wait_idle(self, seconds: float) -> None:
        """Waits so long, and answers pings.

        Raises:
            Lost: a message comes that answers none, or the end without a Close frame.
            Closed: the server has closed the WebSocket.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await self._connection.wait_readable(left)
            await self._take_unasked()

    async def _take_unasked(self) -> None:
        while self._connection.has_bytes():
            if (text := await self._frame()) is not None:
                raise Lost(Fault.DOUBLED, f"message {text[:100]!r} that answers none")

    async def _send_frame(self, opcode: int, payload: bytes) -> None:
        # A mask of zeros changes nothing, and is one that RFC 6455, section 5.3, allows a server to receive.
        await self._connection.send(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

    async def _message(self) -> bytes:
        while True:
            try:
                text = await self._frame()
            except Lost as lost:
                if lost.fault is not Fault.SHORT:
                    raise
                raise Lost(Fault.DROPPED_MESSAGE, f"no Close frame: {lost}") from lost
            if text is not None:
                return text

    async def _frame(self) -> bytes | None:
        """Reads a frame; gives the text of a message, and answers everything else."""
        first, length = await self._connection.take(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self._connection.take(2))
        payload = await self._connection.take(length)
        opcode = first & 0x0F
        if opcode == 0x9:
            await self._send_frame(0xA, payload)
        elif opcode == 0x8:
            with suppress(Lost):
                await self._send_frame(0x8, payload[:2])
            self._leave(payload)
        return payload if opcode == 0x1 else None

    def _leave(self, payload: bytes) -> None:
        status = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        waited = time.monotonic() - self._sent_at
        if self._unanswered is not None and waited > _CROSSING_SECONDS:
            raise Lost(Fault.DROPPED_MESSAGE, f"closed with {status} {waited:.3f} s after a message was sent")
        if status not in _LEAVING_STATUSES:
            raise Lost(Fault.WRONG_CLOSE, f"closed with {status}")
        raise Closed(self._unanswered)
