"""A stand-in for systemd: passes sockets, takes messages, asks for reloads and feeds on the watchdog."""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.support import PATIENCE, Command

# Puts the given descriptors to 3, 4, … and names its own process, as systemd does between fork and exec.
_START = """
import os, sys
numbers, words = sys.argv[1], sys.argv[2:]
wanted = [int(number) for number in numbers.split(",") if number]
spare = [os.dup2(number, 100 + index) for index, number in enumerate(wanted)]
for index, number in enumerate(spare):
    os.dup2(number, 3 + index)
    os.set_inheritable(3 + index, True)
os.closerange(3 + len(spare), 200)
if wanted:
    os.environ["LISTEN_FDS"] = os.environ.get("LISTEN_FDS") or str(len(wanted))
    os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID") or str(os.getpid())
if os.environ.get("WATCHDOG_USEC"):
    os.environ["WATCHDOG_PID"] = os.environ.get("WATCHDOG_PID") or str(os.getpid())
os.environ.setdefault("SYSTEMD_EXEC_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, *words])
"""


class HasDescriptor(Protocol):
    """A socket or a file."""

    def fileno(self) -> int: ...


class Message(dict[str, str]):
    """One datagram: its assignments, and when it was received."""

    def __init__(self, data: bytes) -> None:
        super().__init__(line.split("=", 1) for line in data.decode().splitlines())
        self.received = time.monotonic()


class Manager:
    """Starts the command as a service manager does, and receives what it tells.

    Parameters:
        is_abstract: the notify socket has an abstract name.
    """

    def __init__(self, *, is_abstract: bool = False) -> None:
        self.seen: list[Message] = []
        self._folder = tempfile.TemporaryDirectory(prefix="w")
        path = f"{self._folder.name}/notify"
        self.address = f"@{path}" if is_abstract else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{path}" if is_abstract else path)
        Path(self._folder.name).chmod(0o755)
        if not is_abstract:
            Path(path).chmod(0o777)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        self._folder.cleanup()

    def start_words(self, sockets: Sequence[HasDescriptor] = ()) -> list[str]:
        """The words that start the command with these sockets."""
        numbers = ",".join(str(end.fileno()) for end in sockets)
        return [sys.executable, "-c", _START, numbers, "-m", "wsgi_server"]

    def command(self, *arguments: str, cwd: Path, sockets: Sequence[socket.socket] = (), **variables: str) -> Command:
        """Starts `wsgi ARGUMENTS`."""
        return Command(
            *arguments,
            cwd=cwd,
            env={"NOTIFY_SOCKET": self.address, **variables},
            start=self.start_words(sockets),
            pass_fds=[end.fileno() for end in sockets],
            place=() if sockets else ("--port", "0"),
        )

    def receive(self, patience: float = PATIENCE) -> Message | None:
        """The next message; None if there is none within `patience` seconds."""
        self._socket.settimeout(max(patience, 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return None
        message = Message(data)
        self.seen.append(message)
        return message

    def wait_for(self, name: str, text: str = "") -> Message:
        """The next message with an assignment to `name` that contains `text`."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = self.receive(end - time.monotonic())
            if message is not None and name in message and text in message[name]:
                return message
        raise AssertionError(f"no message {name}={text} in {self.seen}")
