"""Says how a process ended, and whether the kernel killed it because memory ran out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wsgi._core import Page
from wsgi.stopping import counted

__all__ = ["MemoryKills", "described", "parent_of", "work_of"]

_OUT_OF_MEMORY = (
    "was killed by SIGKILL because memory ran out: set max_memory, start fewer workers, or raise the memory limit of "
    "the container or cgroup"
)


def described(status: int | None, kills: MemoryKills) -> str:
    """How a process ended, in words.

    Parameters:
        status: as `os.waitpid` gives it; None: another has waited for the process.
        kills: the kills of this process' cgroup; one that has not been told of before is taken for this end.
    """
    if status is None:
        return "ended with an unknown status"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    if code == -signal.SIGKILL and kills.take():
        return _OUT_OF_MEMORY
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}"


def parent_of(pid: int) -> int:
    """The number of a process' parent; 0 if there is no such process, or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # The name in front, in parentheses, may hold anything.
    return int(stat.rpartition(b")")[2].split()[1])


def work_of(page: Page, slot: int) -> str:
    """What a worker had to do when it ended, such as ` with 3 requests running and 2 waiting`; "" for nothing.

    Parameters:
        page: the counters of all workers.
        slot: the worker's slot.
    """
    cells = next((cells for cells in page.workers() if cells["slot"] == slot), {})
    running, queued = cells.get("running", 0), cells.get("queued", 0)
    if not running and not queued:
        return ""
    return f" with {counted(running, 'request')} running" + (f" and {queued} waiting" if queued else "")


class MemoryKills:
    """Counts the processes that the kernel has killed because memory ran out, in the cgroup of this process.

    Parameters:
        cgroups: where the hierarchies of cgroups are mounted.
        process: the file that names the cgroups of this process.
        system: the file that counts the kills of the whole system, where the cgroup has no count, as the first one.

    Source: cgroups(7), `memory.events` of version 2, `memory.oom_control` of version 1; proc(5), vmstat.
    """

    def __init__(
        self,
        cgroups: Path = Path("/sys/fs/cgroup"),
        process: Path = Path("/proc/self/cgroup"),
        system: Path = Path("/proc/vmstat"),
    ) -> None:
        self._files = [*_files(cgroups, process), system]
        self._told = self._count()

    def take(self) -> bool:
        """Whether there was a kill that this has not been told of before; one is told at a time."""
        is_new = self._count() > self._told
        self._told += is_new
        return is_new

    def _count(self) -> int:
        for file in self._files:
            with suppress(OSError, ValueError):
                for line in file.read_text().splitlines():
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        return 0


def _files(cgroups: Path, process: Path) -> Iterator[Path]:
    with suppress(OSError, UnicodeDecodeError):
        for line in process.read_text().splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            # In a container the path may be that outside of it: then the mount is the cgroup.
            for folder in (path.lstrip("/"), ""):
                if not controllers:
                    yield cgroups / folder / "memory.events"
                elif "memory" in controllers.split(","):
                    yield cgroups / "memory" / folder / "memory.oom_control"
