"""What the system allows this process: open files and memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from wsgi.processors import CGROUPS, cgroup_folders

__all__ = ["connection_limit", "memory_limit", "open_files_limit"]

# cgroup v1 says "no limit" by a number near 2**63, rounded down to a page.
_UNLIMITED_BYTES = 1 << 62


def open_files_limit() -> int | None:
    """The number of files that this process may have open; None without a limit."""
    try:
        import resource
    except ImportError:  # Unix only.
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def connection_limit(max_connections: int, processes: int) -> tuple[int, int] | None:
    """The connections that can be open at most and the limit of open files, if that keeps `max_connections` from being
    reached; else None.

    Parameters:
        max_connections: the option.
        processes: how many processes accept connections.
    """
    files = open_files_limit()
    if files is None:
        return None
    # The engine leaves the rest to temporary files and to the application.
    reachable = files // 8 * 5 * processes
    return (reachable, files) if reachable < max_connections else None


def memory_limit(cgroups: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> int | None:
    """The memory in bytes that the cgroup of this process, or one around it, allows; None without a limit.

    Parameters:
        cgroups: where the hierarchies of cgroups are mounted.
        process: the file that names the cgroups of this process.

    Source: cgroups(7), `memory.max` of version 2, `memory.limit_in_bytes` of version 1.
    """
    limits = []
    for folder, version in cgroup_folders("memory", cgroups, process):
        with suppress(OSError, ValueError):
            # No limit is `max`, which is no number.
            limits.append(int((folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).read_text()))
    return min((limit for limit in limits if limit < _UNLIMITED_BYTES), default=None)
