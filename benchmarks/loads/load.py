"""What a load is: it asks a running server for a while, and gives figures."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import wrk
from benchmarks.processes import cpu_seconds, resident_bytes

MIB = 1024 * 1024


class LoadError(Exception):
    """A server that did not do what was asked of it: there is no figure."""


@dataclass(frozen=True)
class Target:
    """A running server.

    Parameters:
        pid: its first process.
        port: where it listens, on 127.0.0.1.
        seconds: how long a load may take that has no end of its own.
    """

    pid: int
    port: int
    seconds: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def memory_mib(self) -> float:
        return resident_bytes(self.pid) / MIB


class Load(ABC):
    """Asks one server."""

    def prepare(self, folder: Path) -> dict[str, str]:
        """Makes what is needed before the server starts, in a folder that goes away.

        Returns: variables for the server's environment.
        """
        return {}

    @abstractmethod
    def run(self, target: Target) -> dict[str, float]:
        """Figures by name; the units are in `benchmarks.figures`.

        Raises:
            LoadError: there are none.
        """


def run_wrk(commands: Sequence[Sequence[str]]) -> list[wrk.Result]:
    """Runs load generators at once, and waits for them."""
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    results = []
    for process in running:
        output = process.communicate()[0].decode(errors="replace")
        try:
            results.append(wrk.parsed(output))
        except ValueError as error:
            raise LoadError(str(error)) from error
    return results


def refuse_errors(results: Sequence[wrk.Result]) -> None:
    """A server that refuses some requests is quick with them: that is no figure."""
    if errors := sum(result.errors for result in results):
        raise LoadError(f"{errors} of {sum(result.requests for result in results)} requests failed")


def milliseconds_since(begun: float) -> float:
    return (time.monotonic() - begun) * 1000
