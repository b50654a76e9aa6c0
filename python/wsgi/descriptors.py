"""Opens closed standard streams: a socket must not get the descriptor that `print` writes to."""

from __future__ import annotations

import os
import sys

__all__ = ["open_standard_descriptors", "replace_missing_streams"]


def open_standard_descriptors() -> None:
    """Opens the null device on each of the descriptors 0 to 2 that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # `open` returns this number, the lowest free one, unless another thread opens a file at this moment.
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            # Child processes inherit standard streams.
            os.set_inheritable(descriptor, True)


def replace_missing_streams() -> None:
    """Sets `sys.stdin`, `sys.stdout` and `sys.stderr` where Python found their descriptors closed at start."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # Stays open as long as the process, as standard streams do.
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
