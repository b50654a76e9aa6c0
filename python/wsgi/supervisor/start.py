"""How the program was started: in which directory, and whether by a former one that it is to replace."""

from __future__ import annotations

import functools
import os
from contextlib import suppress

__all__ = ["UPGRADE_VARIABLE", "start_directory"]

UPGRADE_VARIABLE = "_WSGI_SERVER_UPGRADE"
"""The variable by which a supervisor tells the program that it executes what goes on: see `upgrade`."""


@functools.cache
def start_directory() -> str:
    """The directory at the first call, as the shell names it: after a deployment a symbolic link in its path may lead
    elsewhere. "" if it has none any more."""
    named = os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(named) and os.path.samefile(named, os.curdir):
            return named
    with suppress(OSError):
        return os.getcwd()
    return ""
