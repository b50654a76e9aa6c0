"""The server that is attacked, in a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.support import Command, RawClient

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


class Held(NamedTuple):
    """What a process holds at one moment."""

    resident: int
    """Bytes of memory."""
    descriptors: int
    threads: int
    spooled: int
    """Bytes in files that have no name."""
    processor: float
    """Seconds of processor time since the process began."""


def held(pid: int) -> Held:
    """Looks at a process of this system."""
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


class Victim(Command):
    """`wsgi tests.attacks.site:app` with options and, where it is given, a limit of open files."""

    def __init__(self, *options: str, files: int | None = None, env: Mapping[str, str] | None = None) -> None:
        start: tuple[str, ...] = (sys.executable, "-m", "wsgi_server")
        if files is not None:
            start = ("sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *start)
        super().__init__("tests.attacks.site:app", *options, cwd=ROOT, env=env, start=start)

    def __enter__(self) -> Victim:
        return self

    @property
    def pid(self) -> int:
        """The process' number."""
        return self.process.pid

    def state(self) -> dict[str, int]:
        """What the application says of itself."""
        with RawClient(self.address) as client:
            client.send(b"GET /state HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            (response,) = client.responses("GET")
        found: dict[str, int] = json.loads(response.body)
        return found


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
        with contextlib.suppress(OSError):  # the process has ended
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
