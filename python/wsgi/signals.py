"""Tells whether the program left a signal to its default, and ignores some signals until the server handles them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["default_signals_ignored", "disposition_in_child", "is_default"]

# Ignored until the server has handlers for them.
_ignored: set[int] = set()


@contextmanager
def default_signals_ignored(*, are_blocked: bool = False) -> Iterator[None]:
    """Ignores SIGHUP, SIGUSR1 and SIGUSR2 where the program has left them to their default, which ends the process.
    Importing an application may take long, and a log rotation may send SIGUSR1 meanwhile. Does nothing outside of the
    main thread.

    Parameters:
        are_blocked: this thread blocks them, and ignoring them would lose those that wait: only processes that are
            forked ignore them, see `disposition_in_child`.
    """
    # They exist on Unix only.
    numbers = [getattr(signal, name, None) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2")]
    is_main = threading.current_thread() is threading.main_thread()
    _ignored.update(number for number in numbers if is_main and number is not None and is_default(number))
    for number in () if are_blocked else _ignored:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        ours = [number for number in _ignored if is_default(number)]
        _ignored.clear()
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def disposition_in_child(number: int) -> object:
    """What a forked process is to do with a signal until the server handles it there, as for `signal.signal`."""
    return signal.SIG_IGN if number in _ignored else signal.getsignal(number)


def is_default(number: int) -> bool:
    """Whether the program has left a signal to its default.

    Parameters:
        number: the signal; an ignored one, such as SIGHUP under `nohup`, is not at its default.
    """
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    found = signal.getsignal(number)
    if found is not default and not (number in _ignored and found is signal.SIG_IGN):
        return False
    return number in (signal.SIGINT, signal.SIGTERM) or not _is_caught(number)


def _is_caught(number: int) -> bool:
    """Whether a handler is installed that Python does not know, such as that of `faulthandler.register`."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name == "SigCgt":
                    return bool(int(value, 16) >> (number - 1) & 1)
    except (OSError, ValueError):
        pass  # Only Linux has this file.
    return False
