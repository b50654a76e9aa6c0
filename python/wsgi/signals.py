"""Tells whether a signal is free to be handled by the server, and keeps some from ending the process before that."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["held_off", "is_free"]

# Ignored until the server has handlers for them.
_held_off: set[int] = set()


@contextmanager
def held_off() -> Iterator[None]:
    """Within it SIGHUP, SIGUSR1 and SIGUSR2 do not end the process, where the program has left them to their default:
    they are ignored until the server handles them. The import of an application may take long, and logs be rotated
    meanwhile. Does nothing in other threads than the main one.
    """
    # Elsewhere than on Unix they do not exist.
    numbers = [getattr(signal, name, None) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2")]
    is_main = threading.current_thread() is threading.main_thread()
    _held_off.update(number for number in numbers if is_main and number is not None and is_free(number))
    for number in _held_off:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        ours = [number for number in _held_off if is_free(number)]
        _held_off.clear()
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def is_free(number: int) -> bool:
    """Tells whether the program has left a signal to its default.

    Parameters:
        number: the signal; one that is ignored, as SIGHUP is below `nohup`, is not free.
    """
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    if signal.getsignal(number) is not (signal.SIG_IGN if number in _held_off else default):
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
