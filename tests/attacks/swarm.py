"""Many hostile clients out of one thread: each does the same, as a `Habit` says."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

BLOCK = 65_536
CONNECTS = 100
"""Connections begun in one turn at most, so that those that are there are not forgotten."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: the close is a reset."""


@dataclass(frozen=True)
class Habit:
    """What one hostile client does on each of its connections."""

    opening: bytes = b""
    """Sent as soon as it is connected; `start` then waits for the first bytes of the answer."""
    start: bytes = b""
    """Sent as soon as it is connected."""
    drip: bytes = b""
    """Sent again and again after that, with a pause."""
    flood: bytes = b""
    """Sent again and again after that, as fast as it is taken."""
    pause: float = 1.0
    """Seconds between two drips, and between two sips of a slow reader."""
    reads: bool = False
    """Takes what comes. Otherwise it stays in the kernel's buffers."""
    sip: int = 0
    """Takes this many bytes after each pause instead."""
    ends: bool = False
    """Closes its sending side after `start`."""
    resets: bool = False
    """Resets the connection after `start`."""
    returns: bool = True
    """Comes again when the server has closed."""


@dataclass
class Fiend:
    """One of them."""

    socket: socket.socket
    left: bytes
    due: float
    awaits_answer: bool
    """Whether `left` is the opening, and nothing was received yet."""
    is_over: bool = False


@dataclass
class Swarm:
    """`count` clients with one habit.

    Parameters:
        address: URL of the server, which listens on IPv4.
    """

    address: str
    habit: Habit
    count: int
    connections: int = 0
    """How many were made in all."""
    received: int = 0
    _fiends: dict[int, Fiend] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        self._place = (parts.hostname, parts.port)
        self._epoll = select.epoll()
        self._due: deque[Fiend] = deque()

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for descriptor in list(self._fiends):
            self._drop(descriptor)
        self._epoll.close()

    def run(self, seconds: float) -> None:
        """Attacks for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()

    def is_whole(self) -> bool:
        """Whether everybody is connected at this moment."""
        return len(self._fiends) >= self.count

    def turn(self) -> None:
        """Does what can be done without waiting for more than a moment."""
        missing = self.count - len(self._fiends)
        if missing and (self.habit.returns or self.connections < self.count):
            for _ in range(min(missing, CONNECTS)):
                self._connect()
        for descriptor, events in self._epoll.poll(0.005, 512):
            self._handle(descriptor, events)
        self._remember()

    def _connect(self) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.habit.sip:
            # The less its kernel takes for it, the more the server has to keep.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(BlockingIOError):
            connection.connect(self._place)
        descriptor = connection.fileno()
        habit = self.habit
        due = time.monotonic() + habit.pause
        fiend = Fiend(connection, habit.opening or habit.start, due, awaits_answer=bool(habit.opening))
        self._fiends[descriptor] = fiend
        self._epoll.register(descriptor, select.EPOLLOUT | self._reading(fiend))
        self.connections += 1

    def _reading(self, fiend: Fiend) -> int:
        takes = self.habit.reads or fiend.awaits_answer
        return select.EPOLLRDHUP | (select.EPOLLIN if takes else 0)

    def _handle(self, descriptor: int, events: int) -> None:
        fiend = self._fiends[descriptor]
        try:
            if events & select.EPOLLOUT:
                self._send(descriptor, fiend)
            if events & select.EPOLLIN and descriptor in self._fiends:
                self._read(descriptor, fiend, BLOCK)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(descriptor)
            return
        if events & (select.EPOLLHUP | select.EPOLLERR) or (events & select.EPOLLRDHUP and not self.habit.ends):
            self._drop(descriptor)

    def _send(self, descriptor: int, fiend: Fiend) -> None:
        habit = self.habit
        if not fiend.left and habit.flood and not fiend.awaits_answer:
            fiend.left = habit.flood
        while fiend.left:
            fiend.left = fiend.left[fiend.socket.send(fiend.left) :]
        if fiend.awaits_answer:
            self._epoll.modify(descriptor, self._reading(fiend))
            return
        if habit.flood:
            return
        if habit.resets:
            fiend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._drop(descriptor)
            return
        if not fiend.is_over:
            fiend.is_over = True
            if habit.ends:
                fiend.socket.shutdown(socket.SHUT_WR)
            if habit.drip or habit.sip:
                self._due.append(fiend)
            self._epoll.modify(descriptor, self._reading(fiend))

    def _read(self, descriptor: int, fiend: Fiend, size: int) -> None:
        received = fiend.socket.recv(size)
        self.received += len(received)
        if not received:
            self._drop(descriptor)
        elif fiend.awaits_answer:
            fiend.awaits_answer = False
            fiend.left = self.habit.start
            self._epoll.modify(descriptor, select.EPOLLOUT | self._reading(fiend))

    # Those whose pause is over drip or sip.
    def _remember(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0].due <= now:
            fiend = self._due.popleft()
            descriptor = fiend.socket.fileno()
            if descriptor < 0:
                continue
            fiend.due = now + self.habit.pause
            self._due.append(fiend)
            try:
                if self.habit.drip:
                    fiend.socket.send(self.habit.drip)
                if self.habit.sip:
                    self._read(descriptor, fiend, self.habit.sip)
            except BlockingIOError:
                pass
            except OSError:
                self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        fiend = self._fiends.pop(descriptor, None)
        if fiend is not None:
            self._epoll.unregister(descriptor)
            fiend.socket.close()
