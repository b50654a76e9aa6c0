"""The server that is attacked, in a process of its own, and what can be seen of it from outside.

It is this server, or any other that a command line starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.support import PATIENCE, Command, RawClient

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SITES = {"wsgi": "tests.attacks.site:app", "asgi": "tests.attacks.asgi_site:app"}
"""The application that is attacked, by its interface."""


class Held(NamedTuple):
    """What a process and its children hold at one moment."""

    resident: int
    """Bytes of memory."""
    descriptors: int
    threads: int
    spooled: int
    """Bytes in files that have no name."""
    processor: float
    """Seconds of processor time since the process began."""

    def plus(self, other: Held) -> Held:
        """What both hold."""
        return Held._make(map(sum, zip(self, other, strict=True)))


NOTHING = Held(0, 0, 0, 0, 0.0)


def held(pid: int) -> Held:
    """Looks at a process of this system and at its children; one that has ended holds nothing."""
    found = NOTHING
    with contextlib.suppress(OSError):
        found = _held_alone(pid)
        for child in children(pid):
            found = found.plus(held(child))
    return found


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def _held_alone(pid: int) -> Held:
    place = Path(f"/proc/{pid}")
    resident = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    fields = (place / "stat").read_text().rpartition(") ")[2].split()
    processor = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    descriptors = list((place / "fd").iterdir())
    return Held(resident, len(descriptors), int(fields[17]), sum(map(_size_of_unnamed, descriptors)), processor)


def _size_of_unnamed(descriptor: Path) -> int:
    # It may be closed between two looks.
    with contextlib.suppress(OSError):
        if os.readlink(descriptor).endswith(" (deleted)"):
            return descriptor.stat().st_size
    return 0


def state_at(address: str) -> dict[str, int]:
    """What the application behind an address says of itself."""
    with RawClient(address) as client:
        client.send(b"GET /state HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        (response,) = client.responses("GET")
    found: dict[str, int] = json.loads(response.body)
    return found


def with_files(files: int | None, *words: str) -> tuple[str, ...]:
    """A command that is started with a limit of open files, where one is given."""
    return words if files is None else ("sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *words)


class Victim(Command):
    """`wsgi SITE` with options and, where it is given, a limit of open files."""

    def __init__(
        self,
        *options: str,
        files: int | None = None,
        env: Mapping[str, str] | None = None,
        interface: str = "wsgi",
    ) -> None:
        start = with_files(files, sys.executable, "-m", "wsgi_server")
        super().__init__(SITES[interface], *options, cwd=ROOT, env=env, start=start)

    def __enter__(self) -> Victim:
        return self

    @property
    def pid(self) -> int:
        """The process' number."""
        return self.process.pid

    def state(self) -> dict[str, int]:
        """What the application says of itself."""
        return state_at(self.address)


class Peer:
    """Another server, started by a command line with `{port}`, and with `{app}` for the application to serve.

    Raises:
        AssertionError: it does not listen in time.
    """

    def __init__(self, command: str, files: int | None, interface: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [word.format(port=port, app=SITES[interface]) for word in shlex.split(command)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.address = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            with_files(files, *words), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._wait(port)
        except AssertionError:
            self.stop()
            raise

    def _wait(self, port: int) -> None:
        end = time.monotonic() + PATIENCE
        pause = threading.Event()
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return
            pause.wait(0.05)
        raise AssertionError(f"does not listen: {self.process.args!r}")

    def stop(self) -> int:
        """Ends it as `Command.stop` does."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for child in children(self.process.pid):
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            raise


class Watch:
    """Looks at a process ten times a second, as long as the context lasts."""

    def __init__(self, pid: int) -> None:
        self.seen = [held(pid)]
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.seen.append(held(self._pid))

    @property
    def peak(self) -> Held:
        """The most of each."""
        return Held(*(max(column) for column in zip(*self.seen, strict=True)))


def settled(pid: int, below: Held, patience: float) -> Iterator[Held]:
    """What a process holds, again and again until descriptors and threads are no more than `below` or patience ends."""
    pause = threading.Event()
    for _ in range(int(patience / 0.1)):
        now = held(pid)
        yield now
        if now.descriptors <= below.descriptors and now.threads <= below.threads:
            return
        pause.wait(0.1)
