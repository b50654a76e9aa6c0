"""A server as a family of processes: started, awaited, accounted for, ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


# What a shell sets for servers would change figures behind our back.
_FOREIGN = re.compile(r"(WSGI|GUNICORN|GRANIAN|UVICORN|UWSGI|WEB)_")


class ServerError(Exception):
    """A server that does not run."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a family, in steps of a clock tick (10 ms) each process."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            ticks += cpu_ticks(Path(f"/proc/{member}/stat").read_text())
    return ticks / _CLOCK_TICKS


def cpu_ticks(stat: str) -> int:
    """User and system time in a process's `stat`."""
    # The name may hold spaces and parentheses; the fields behind it do not.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident_bytes(pid: int) -> int:
    """Memory of a family that no other process shares, and its part of what is shared."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += proportional_bytes(Path(f"/proc/{member}/smaps_rollup").read_text())
    return total


def proportional_bytes(smaps: str) -> int:
    """The proportional set size in a process's `smaps_rollup`."""
    return next((int(line.split()[1]) * 1024 for line in smaps.splitlines() if line.startswith("Pss:")), 0)


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None, patience: float = 60.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server while the block lasts.

    Parameters:
        command: what starts it, with the repository as its working directory.
        port: where it will listen.
        environment: variables beside our own.
        patience: seconds that it may take to start, and to end.

    Raises:
        ServerError: it ended, or does not listen, with what it wrote.
    """
    inherited = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, **(environment or {})},
            stdout=log,
            stderr=log,
            # A group of its own, so that its children can be ended with it.
            start_new_session=True,
        )
        try:
            if not _listens(process, port, patience):
                log.seek(0)
                raise ServerError(f"the server does not start: {log.read().decode(errors='replace')}")
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=patience)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(process: subprocess.Popen[bytes], port: int, patience: float) -> bool:
    end = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        time.sleep(0.001)
    return False
