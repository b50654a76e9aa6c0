"""Tells a worker when it has reached a limit after which it is replaced (`max_requests`, `max_age`, `max_memory`).

Requests are counted by the engine, which writes to a pipe when their limit is reached; age is a timeout; memory is
measured once a second. A worker without such an option never wakes for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

# That of `os` may be eventlet's.
from posix import read

from wsgi.settings import Settings

__all__ = ["RecyclingLimits", "private_memory"]

_MEMORY_CHECK_SECONDS = 1.0
# What a limit may grow by at random, so that workers that started together do not reach theirs together.
_JITTER = 0.1
_MIB = 1 << 20
_PROCESS = Path("/proc/self")


def _random_share() -> float:
    """A random number from 0 to 1. Not of `random`: after `preload` every worker has the same state of that."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


class RecyclingLimits:
    """The limits of this worker, from its start on.

    Parameters:
        settings: the options.
        share: draws a random number from 0 to 1.

    Thread-safety: may be used in one thread only.
    """

    def __init__(self, settings: Settings, share: Callable[[], float] = _random_share) -> None:
        self._settings = settings
        self._begun = time.monotonic()
        jitter = settings.max_requests_jitter or round(settings.max_requests * _JITTER)
        self.requests = settings.max_requests and settings.max_requests + round(share() * jitter)
        """How many requests this worker answers; 0: no limit. Their last makes the engine write to `signal`."""
        self._age = settings.max_age * (1 + share() * _JITTER)
        self._memory = settings.max_memory * (1 + share() * _JITTER)
        self._reader = self.signal = -1
        if self.requests:
            self._reader, self.signal = os.pipe()
            for descriptor in (self._reader, self.signal):
                os.set_blocking(descriptor, False)

    def descriptors(self) -> list[int]:
        """The descriptor that can be read when the limit of requests is reached; none without that limit."""
        return [self._reader] if self.requests else []

    def due_in(self) -> float | None:
        """Seconds after which `reached` may have changed; None: no time matters."""
        times = []
        if self._age:
            times.append(max(0.0, self._begun + self._age - time.monotonic()))
        if self._memory:
            times.append(_MEMORY_CHECK_SECONDS)
        return min(times, default=None)

    def reached(self) -> str:
        """The limit that is reached, in words; "" while there is none."""
        settings = self._settings
        if self.requests and _has_byte(self._reader):
            return f"it has answered {self.requests} requests (max_requests {settings.max_requests})"
        age = time.monotonic() - self._begun
        if self._age and age >= self._age:
            return f"it is {age:.0f} s old (max_age {settings.max_age:g} s)"
        if self._memory and (memory := private_memory(at_least=self._memory)) >= self._memory:
            return f"it uses {memory / _MIB:.0f} MiB (max_memory {settings.max_memory / _MIB:.0f} MiB)"
        return ""

    def close(self) -> None:
        """Closes the pipe; the engine has a duplicate of its writing end."""
        for descriptor in {self._reader, self.signal} - {-1}:
            os.close(descriptor)
        self._reader = self.signal = -1
        self.requests = 0


def _has_byte(descriptor: int) -> bool:
    try:
        return bool(read(descriptor, 1))
    except OSError:
        # Empty, or closed by the application.
        return False


def private_memory(process: Path = _PROCESS, *, at_least: float = 0.0) -> int:
    """The memory of a process that no other shares, in bytes, swapped memory included; where the system does not tell
    it, all resident memory; 0 where it tells neither.

    Parameters:
        process: its folder in /proc.
        at_least: less than this need not be exact. All resident memory, which is quick to read, is never less.
    """
    try:
        pages = int((process / "statm").read_text().split()[1])
        resident = pages * os.sysconf("SC_PAGE_SIZE") + _kilobytes(process / "status", "VmSwap:")
    except (OSError, ValueError, IndexError):
        return 0
    if resident < at_least:
        return resident
    # Linux before 4.14 and some sandboxes have no smaps_rollup.
    return _kilobytes(process / "smaps_rollup", "Private_Clean:", "Private_Dirty:", "SwapPss:") or resident


def _kilobytes(file: Path, *names: str) -> int:
    """The sum of the lines `name  123 kB` of a file, in bytes."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
        return sum(int(line[1]) for line in lines if line[0] in names) * 1024
    except (OSError, ValueError, IndexError):
        return 0
