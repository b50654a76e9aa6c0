"""A wait that signals and other threads end, even if they arrive just before it begins."""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress

# Those of `os` may be eventlet's, which no signal handler can call.
from posix import read, write
from types import TracebackType

__all__ = ["WakeupPipe", "wait_readable"]


def wait_readable(descriptors: Iterable[int], timeout: float | None) -> list[int]:
    """Waits until a descriptor can be read, or was closed. Returns those that can.

    Parameters:
        timeout: seconds after which it returns anyway; None: no limit.
    """
    if hasattr(select, "poll"):
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        # Rounded up: a wait that is too short by a fraction of a millisecond would be repeated.
        return [ready for ready, _ in poll.poll(None if timeout is None else math.ceil(timeout * 1000))]
    # eventlet removes `select.poll`.
    return select.select([*descriptors], [], [], timeout)[0]


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class WakeupPipe:
    """A self-pipe: one thread waits on its reading end, signals and other threads write to its writing end.

    Python runs signal handlers between bytecode instructions. A signal that arrives just before a thread blocks in the
    kernel is only flagged and does not interrupt the wait; but Python writes a byte to the descriptor set by
    `signal.set_wakeup_fd`, which does. Entering the context sets that descriptor in the main thread; in other threads
    it does nothing, because they receive no signals.

    Thread-safety: `wake` may be called from any thread and any signal handler, the rest from the waiting thread.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        # With the last reference, because other threads may still write to it.
        weakref.finalize(self, _close, self._reader, self._writer)
        self._before: int | None = None

    def __enter__(self) -> WakeupPipe:
        if threading.current_thread() is threading.main_thread():
            # A full pipe wakes the reader anyway.
            self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
            self._before = None

    def fileno(self) -> int:
        """The reading end, readable after `wake` or a signal."""
        return self._reader

    def wake(self) -> None:
        """Ends the current wait, or the next one if there is none."""
        with suppress(BlockingIOError):
            write(self._writer, b"\0")

    def drain(self) -> None:
        """Empties the pipe; never blocks."""
        with suppress(BlockingIOError):
            read(self._reader, 4096)

    def wait(self, timeout: float | None) -> None:
        """Waits until `wake` is called or a signal arrives, then empties the pipe.

        Parameters:
            timeout: seconds after which it returns anyway; None: no limit.
        """
        wait_readable([self._reader], timeout)
        self.drain()
