"""Starts the command in namespaces of its own: for other users, on a read-only root, as the first process."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_SETUP = """
set -e
mount -t tmpfs -o mode=755 none /mnt
"""
# Every mount, the last first; those that cannot be changed hold no files.
_READ_ONLY = """
cut -d ' ' -f 2 /proc/self/mounts | sort -r | while read -r place; do
    case $place in /proc*|/dev*|/sys*) continue;; esac
    mount -o remount,bind,ro "$place" 2>/dev/null || true
done
"""


@cache
def missing() -> str:
    """Why there can be no sandbox here; empty if there can be one."""
    if sys.platform != "linux":
        return "namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "only root may change users and mount"
    for program in ("unshare", "setpriv", "mount"):
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"], check=False
    )
    return "" if done.returncode == 0 else "this machine allows no mount namespaces"


needs_sandbox = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def words(
    *command: str, user: str | None = None, read_only: bool = False, first: bool = False, drop: Sequence[str] = ()
) -> list[str]:
    """The words that start `command` in namespaces where every user may read Python and this package.

    Parameters:
        user: whom it runs as, without other groups; None: root.
        read_only: no file can be written.
        first: it is process 1.
        drop: further options of setpriv.
    """
    script = _SETUP + "".join(_open(folder, paths) for folder, paths in _closed().items())
    script += _READ_ONLY if read_only else ""
    changes = list(drop)
    if user is not None:
        changes += ["--reuid", user, "--regid", user if user != "nobody" else "nogroup", "--clear-groups"]
    script += f'exec {shlex.join(["setpriv", *changes, "--"]) if changes else ""} "$@"'
    spaces = ["--pid", "--fork", "--mount-proc"] if first else []
    chosen = list(command) or [sys.executable, "-m", "wsgi_server"]
    return ["unshare", "--mount", "--propagation", "private", *spaces, "sh", "-c", script, "sh", *chosen]


def _closed() -> dict[Path, list[Path]]:
    """Folders that other users may not enter, each with what they need of it."""
    found: dict[Path, list[Path]] = {}
    for path in {Path(sys.base_prefix), Path(sys.prefix), ROOT}:
        above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if above:
            found.setdefault(above[0], []).append(path)
    return found


def _open(folder: Path, paths: list[Path]) -> str:
    """Puts an open folder in the place of a closed one, with nothing but `paths` in it."""
    lines = []
    for number, path in enumerate(paths):
        lines += [f"mkdir /mnt/{number}", f"mount --rbind {shlex.quote(str(path))} /mnt/{number}"]
    lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(folder))}")
    for number, path in enumerate(paths):
        lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --rbind /mnt/{number} {shlex.quote(str(path))}"]
    return "\n".join([*lines, ""])
