"""Messages between a supervisor and one worker or template, over a pair of sockets.

A worker reports, and the supervisor commands. Signals are no commands: a service manager or a terminal sends those to
every process of a group, and a worker must not take a second copy of a stop for a second stop. Applications also
replace signal handlers.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Command", "Report", "SupervisorEnd", "WorkerEnd", "WorkerId", "encoded", "open_channel"]

# Not what a library that the application imports puts in its place, such as gevent.
_Socket = socket.socket
_HEADER = struct.Struct("!cI")
_WORKER = struct.Struct("!II")
# The traceback of a failed import is cut here; its end says most.
_MAX_TEXT_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
# More than one text: a worker that floods its channel must not hold up the supervisor.
_MAX_READS = 8


class Report(enum.Enum):
    """What a worker reports."""

    LOADED = b"l"
    """It has the application, and carries out commands from now on."""
    READY = b"r"
    """It serves."""
    RECYCLE = b"c"
    """It asks for a successor; the text says why."""
    FAILED = b"f"
    """It could not begin to serve; the text says why."""
    FORKED = b"k"
    """A template has forked a worker; the text is its number."""
    REFUSED = b"n"
    """A template could not fork a worker; the text says why."""


class Command(enum.Enum):
    """What a worker is to do."""

    REOPEN = b"o"
    """Reopen its logs."""
    DRAIN = b"d"
    """Finish its requests and end, while other workers serve."""
    STOP = b"s"
    """Finish its requests and those of waiting clients, and end: the server stops."""
    HURRY = b"h"
    """End without waiting for requests."""
    FORK = b"k"
    """Fork a worker, whose end of its channel comes with this command. To templates only."""


class WorkerId(NamedTuple):
    """Which worker a process is.

    Parameters:
        slot: its slot of the page of counters.
        age: its number in the order of starts, for hooks.
    """

    slot: int = 0
    age: int = 0


def encoded(report: Report, text: str = "") -> bytes:
    """A message as it is sent."""
    payload = text.encode("utf-8", "backslashreplace")[-_MAX_TEXT_BYTES:]
    return _HEADER.pack(report.value, len(payload)) + payload


class WorkerEnd:
    """The end of a worker or template. Every method may be called from any thread.

    Parameters:
        worker: which worker it is for; None for a template.
    """

    def __init__(self, end: socket.socket, worker: WorkerId | None = None) -> None:
        # The program may have set a default timeout for its sockets.
        end.setblocking(True)
        self._end = end
        self.worker = worker

    def take_over(self) -> WorkerEnd:
        """The same end, which stays open when this object is closed."""
        return WorkerEnd(_Socket(fileno=self._end.detach()), self.worker)

    def send(self, report: Report, text: str = "") -> None:
        """Sends one message; does nothing if the supervisor has gone."""
        with suppress(OSError):
            self._end.sendall(encoded(report, text))

    def commands(self) -> Iterator[Command]:
        """Waits for the supervisor's commands; ends when the supervisor has gone."""
        with suppress(OSError):
            while received := self._end.recv(1):
                with suppress(ValueError):
                    yield Command(received)

    def orders(self) -> Iterator[tuple[Command, WorkerEnd | None]]:
        """Waits for commands to a template, each with the channel of the worker to fork; ends when the supervisor has
        gone.
        """
        with suppress(OSError):
            while True:
                received, descriptors, _, _ = socket.recv_fds(self._end, 1, 1)
                if not received:
                    return
                channel = None
                if descriptors:
                    # Programs that the worker executes must not get it. (`recv_fds` ignores its flags.)
                    os.set_inheritable(descriptors[0], False)
                    worker = WorkerId(*_WORKER.unpack(self._end.recv(_WORKER.size, socket.MSG_WAITALL)))
                    channel = WorkerEnd(_Socket(fileno=descriptors[0]), worker)
                with suppress(ValueError):
                    yield Command(received), channel

    def fileno(self) -> int:
        """The descriptor that can be read when there is a command."""
        return self._end.fileno()

    def close(self) -> None:
        """Closes it."""
        self._end.close()


class SupervisorEnd:
    """The supervisor's end, which never blocks.

    Parameters:
        worker: which worker it is for; None for a template.
    """

    def __init__(self, end: socket.socket, worker: WorkerId | None = None) -> None:
        end.setblocking(False)
        self._end = end
        self.worker = worker
        self._received = bytearray()

    @classmethod
    def from_descriptor(cls, descriptor: int, received: bytes) -> SupervisorEnd:
        """The end that the former program of this process had.

        Parameters:
            descriptor: the socket, which it owns from now on.
            received: what has arrived of the next message.
        """
        end = cls(socket.socket(fileno=descriptor))
        end._received += received
        return end

    @property
    def received(self) -> bytes:
        """What has arrived of the next message."""
        return bytes(self._received)

    def fileno(self) -> int:
        """The descriptor that can be read when there is something to receive."""
        return self._end.fileno()

    def send(self, command: Command) -> None:
        """Sends a command. One to a worker that has ended, or that has not read for long, is lost."""
        with suppress(OSError):
            self._end.send(command.value)

    def request_worker(self, channel: WorkerEnd) -> None:
        """Sends `Command.FORK` to a template.

        Parameters:
            channel: the end for the worker.

        Raises:
            OSError: the template has gone, or has not read for long.
        """
        message = Command.FORK.value + _WORKER.pack(*(channel.worker or WorkerId()))
        if socket.send_fds(self._end, [message], [channel.fileno()]) != len(message):
            raise BlockingIOError(errno.EAGAIN, "the template does not read its channel")

    def receive(self) -> list[tuple[Report, str]] | None:
        """Gives the messages that have arrived whole; None once the worker has closed its end or sent what is no
        message.
        """
        is_open = True
        for _ in range(_MAX_READS):
            try:
                data = self._end.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                is_open = False
                break
            self._received += data
        messages: list[tuple[Report, str]] = []
        while len(self._received) >= _HEADER.size:
            value, length = _HEADER.unpack_from(self._received)
            end = _HEADER.size + length
            if length > _MAX_TEXT_BYTES or value not in {report.value for report in Report}:
                # The application has written into a descriptor that is not its own.
                self._received.clear()
                is_open = False
                break
            if len(self._received) < end:
                break
            text = bytes(self._received[_HEADER.size : end]).decode("utf-8", "replace")
            del self._received[:end]
            messages.append((Report(value), text))
        return messages if messages or is_open else None

    def close(self) -> None:
        """Closes it."""
        self._end.close()


def open_channel(worker: WorkerId | None = None) -> tuple[SupervisorEnd, WorkerEnd]:
    """Opens a channel.

    Parameters:
        worker: which worker it is for; None for a template.

    Raises:
        OSError: no descriptors are left.
    """
    ours, theirs = socket.socketpair()
    return SupervisorEnd(ours, worker), WorkerEnd(theirs, worker)
