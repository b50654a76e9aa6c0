"""A sleep that signals and other threads end, however closely they come before it begins."""

from __future__ import annotations

import os
import select
import signal
import threading
import weakref
from contextlib import suppress

# Those of `os` may be eventlet's, which no signal handler can call.
from posix import read, write
from types import TracebackType

__all__ = ["Hearing"]


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Hearing:
    """A pipe with an end for whoever sleeps.

    Python runs signal handlers between two of its instructions; a signal that comes just before a thread begins to
    sleep in the kernel is only noted, and does not end the sleep. But it leaves a byte in the pipe that
    `signal.set_wakeup_fd` names, and that does. As a context manager, this is that pipe in the main thread, and nothing
    in others, which get no signals.
    """

    def __init__(self) -> None:
        self._ear, self._mouth = os.pipe()
        for descriptor in (self._ear, self._mouth):
            os.set_blocking(descriptor, False)
        # With the last reference: whoever still has one may speak into it.
        weakref.finalize(self, _close, self._ear, self._mouth)
        self._before: int | None = None

    def __enter__(self) -> Hearing:
        if threading.current_thread() is threading.main_thread():
            # A full pipe has been heard already, or is about to be.
            self._before = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
            self._before = None

    def fileno(self) -> int:
        """The descriptor that can be read when there is something to hear."""
        return self._ear

    def tell(self) -> None:
        """Ends the sleep that is, or the next one. From any thread and any signal handler."""
        with suppress(BlockingIOError):
            write(self._mouth, b"\0")

    def listen(self) -> None:
        """Takes what there is to hear; never waits."""
        with suppress(BlockingIOError):
            read(self._ear, 4096)

    def sleep(self, timeout: float | None) -> None:
        """Sleeps until there is something to hear, or for `timeout` seconds; None is for ever."""
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._ear, select.POLLIN)
            poll.poll(None if timeout is None else timeout * 1000)
        else:
            # eventlet takes the other one away.
            select.select([self._ear], [], [], timeout)
        self.listen()
