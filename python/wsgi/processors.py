"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["CGROUPS", "cgroup_folders", "usable_processors"]

CGROUPS = Path("/sys/fs/cgroup")
"""Where the hierarchies of cgroups are mounted."""


def usable_processors(cgroups: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> int:
    """Counts the processors that this process may use: those of its affinity mask, limited by the quota of its cgroup
    and of the cgroups around it, rounded up. At least 1.

    Parameters:
        cgroups: where the hierarchies of cgroups are mounted.
        process: the file that names the cgroups of this process.

    Source: cgroups(7), `cpu.max` of version 2, `cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [count, *(math.ceil(quota) for quota in _quotas(cgroups, process))]
    return max(1, min(quotas))


def _quotas(cgroups: Path, process: Path) -> Iterator[float]:
    """The quotas that apply, in processors."""
    for folder, version in cgroup_folders("cpu", cgroups, process):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            # No quota is `max`, which is no number, or -1.
            if int(quota) > 0:
                yield int(quota) / int(period)


def cgroup_folders(controller: str, cgroups: Path, process: Path) -> Iterator[tuple[Path, int]]:
    """The folders of this process's cgroup and of those around it, innermost first, each with the version of its
    hierarchy.

    Parameters:
        controller: `cpu` or `memory`.
        cgroups: where the hierarchies of cgroups are mounted.
        process: the file that names the cgroups of this process.
    """
    try:
        lines = process.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            if not controllers:
                yield cgroups / folder, 2
            elif controller in controllers.split(","):
                yield cgroups / controller / folder, 1
