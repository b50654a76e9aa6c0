"""Standard streams that are closed: their descriptors must not become those of sockets, which prints would write to."""

from __future__ import annotations

import os
import sys

__all__ = ["fill_standard", "replace_missing_streams"]


def fill_standard() -> None:
    """Opens the null device on each of the descriptors 0 to 2 that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one, unless a thread opens something at this moment.
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            # As any standard stream, child processes inherit it.
            os.set_inheritable(descriptor, True)


def replace_missing_streams() -> None:
    """Gives the process `sys.stdin`, `sys.stdout` and `sys.stderr` where Python found their descriptors closed."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # Open as long as the process lives, as the stream that it stands for.
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
