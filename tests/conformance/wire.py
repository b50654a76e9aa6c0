"""Many connections at once from one thread: each sends its parts with pauses between them and reads to the end."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support import connect_client
from tests.tls import TlsSocket

QUIET = 0.01
"""Seconds of silence behind an answer until what follows is sent."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass
class Script:
    """What a client does."""

    parts: Sequence[bytes]
    pause: float = 0.0
    """Seconds between two parts."""
    follow: Sequence[bytes] = ()
    """What is sent behind the parts, each piece when something has come since the one before and nothing more does."""
    leaves: bool = False
    """Sends FIN behind the last part."""


@dataclass
class Transcript:
    """What came of it."""

    received: bytes = b""
    stalled: bool = False
    """The server neither went on nor closed before the client's patience ended and it sent FIN."""
    hung: bool = False
    """It did not close even then."""


@dataclass
class _Line:
    """One connection."""

    socket: socket.socket | TlsSocket
    script: Script
    transcript: Transcript
    deadline: float
    next: int = 0
    """The piece to be sent next: the parts, then what follows."""
    heard: float = 0.0
    """When something last came since the last piece of what follows was sent; 0 if nothing has."""
    rest: memoryview = field(default_factory=lambda: memoryview(b""))
    pieces: list[bytes] = field(default_factory=list)
    sends: bool = True
    watched: int = READ


class Exchange:
    """Carries scripts out against one address.

    Parameters:
        address: a URL as in `WSGIServer.addresses`.
        patience: seconds without any progress until a connection counts as stalled.
    """

    def __init__(self, address: str, patience: float) -> None:
        self.address = address
        self.patience = patience
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int]] = []
        self._lines: dict[int, _Line] = {}

    def run(self, scripts: Sequence[Script]) -> list[Transcript]:
        """Runs all scripts at the same time and gives what each received, once every connection is closed.

        Raises:
            OSError: the server does not accept.
        """
        transcripts = [Transcript() for _ in scripts]
        try:
            for number, (script, transcript) in enumerate(zip(scripts, transcripts, strict=True)):
                self._open(number, script, transcript)
                # The first are answered while the last are opened.
                self._turn(wait=False)
            while self._lines:
                self._turn(wait=True)
        finally:
            for number in list(self._lines):
                self._close(number)
            self._selector.close()
        return transcripts

    def _open(self, number: int, script: Script, transcript: Transcript) -> None:
        connection = connect_client(self.address, self.patience)
        connection.setblocking(False)
        self._lines[number] = _Line(connection, script, transcript, time.monotonic() + self.patience)
        self._selector.register(connection, READ, number)
        heapq.heappush(self._due, (0.0, number))

    def _turn(self, *, wait: bool) -> None:
        now = time.monotonic()
        timeout = 0.0
        if wait:
            timeout = max(0.0, min(self._due[0][0] - now if self._due else 0.05, 0.05))
        for key, events in self._selector.select(timeout):
            number: int = key.data
            if events & READ:
                self._read(number)
            if events & WRITE and number in self._lines:
                self._send(number)
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, number = heapq.heappop(self._due)
            if number in self._lines:
                self._begin_part(number)
        if wait:
            for number, line in list(self._lines.items()):
                if now > line.deadline:
                    self._lose_patience(number)

    def _begin_part(self, number: int) -> None:
        line = self._lines[number]
        pieces = [*line.script.parts, *line.script.follow] if line.script.follow else line.script.parts
        if not line.sends or line.rest or line.next == len(pieces):
            return
        if line.next >= len(line.script.parts):
            if not line.heard or time.monotonic() < line.heard + QUIET:
                return
            line.heard = 0.0
        line.rest = memoryview(pieces[line.next])
        line.next += 1
        self._send(number)

    def _send(self, number: int) -> None:
        line = self._lines[number]
        line.deadline = time.monotonic() + self.patience
        try:
            while line.rest:
                line.rest = line.rest[line.socket.send(line.rest) :]
        except BlockingIOError:
            self._watch(number, READ | WRITE)
            return
        except OSError:
            # The server has closed; what it sent before that is still to be read.
            line.sends = False
            self._watch(number, READ)
            return
        self._watch(number, READ)
        if line.next < len(line.script.parts):
            heapq.heappush(self._due, (time.monotonic() + line.script.pause, number))
        elif line.script.leaves:
            self._leave(line)
        else:
            self._plan_following(number)

    def _plan_following(self, number: int) -> None:
        line = self._lines[number]
        sent = line.next >= len(line.script.parts) and not line.rest
        if sent and line.heard and line.script.follow:
            heapq.heappush(self._due, (line.heard + QUIET, number))

    def _watch(self, number: int, events: int) -> None:
        line = self._lines[number]
        if line.watched != events:
            line.watched = events
            self._selector.modify(line.socket, events, number)

    def _leave(self, line: _Line) -> None:
        line.sends = False
        with contextlib.suppress(OSError):
            line.socket.shutdown(socket.SHUT_WR)

    def _read(self, number: int) -> None:
        line = self._lines[number]
        line.deadline = time.monotonic() + self.patience
        try:
            piece = line.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if piece:
            line.pieces.append(piece)
            line.heard = time.monotonic()
            self._plan_following(number)
        else:
            self._close(number)

    def _lose_patience(self, number: int) -> None:
        line = self._lines[number]
        if line.transcript.stalled or line.script.leaves:
            line.transcript.stalled = line.transcript.hung = True
            self._close(number)
            return
        line.transcript.stalled = True
        line.deadline = time.monotonic() + self.patience
        self._leave(line)

    def _close(self, number: int) -> None:
        line = self._lines.pop(number)
        line.transcript.received = b"".join(line.pieces)
        self._selector.unregister(line.socket)
        line.socket.close()
