"""What was measured where, in general terms."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path


def description() -> dict[str, str]:
    """Processor, memory, system and interpreter: nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} processors",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {re.split('[-+]', platform.release())[0]}, {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load generator": _wrk(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of installed distributions; those that are not there are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load_average() -> float:
    """How many threads wanted to run lately: much of it before we begin spoils what we measure."""
    return os.getloadavg()[0]


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _wrk() -> str:
    # It says its version and how it is used, and ends with 1.
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return " ".join((said.stdout + said.stderr).split()[:2])
