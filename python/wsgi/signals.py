"""Tells whether a signal is still free to be handled by the server."""

from __future__ import annotations

import signal

__all__ = ["is_free"]


def is_free(number: int) -> bool:
    """Tells whether the program has left a signal to its default.

    Parameters:
        number: the signal; one that is ignored, as SIGHUP is below `nohup`, is not free.
    """
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    if signal.getsignal(number) is not default:
        return False
    return number in (signal.SIGINT, signal.SIGTERM) or not _is_caught(number)


def _is_caught(number: int) -> bool:
    """Whether the kernel calls a handler that Python knows nothing of, such as that of `faulthandler.register`."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name == "SigCgt":
                    return bool(int(value, 16) >> (number - 1) & 1)
    except (OSError, ValueError):
        pass  # Only Linux tells.
    return False
