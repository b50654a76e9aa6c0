"""The terminal that controls the process: whether it was closed, which sends SIGHUP, and whether the process is a job
in its background, to which the kernel sends SIGTTIN and SIGTTOU.
"""

from __future__ import annotations

import os
import select
import time
from _thread import start_new_thread
from contextlib import suppress

__all__ = ["Terminal"]

# A SIGHUP that comes so soon after the terminal was closed is that of its hang-up.
_HANG_UP_SECONDS = 2.0
_HANG_UP_LAG_SECONDS = 0.05


class Terminal:
    """The controlling terminal, and when it was closed. That sends SIGHUP to some processes; later ones are an
    operator's. Without a terminal, and where the system has no epoll, there is no hang-up.

    Thread-safety: every method may be called from any thread; `close` once no other method is called any more.
    """

    def __init__(self) -> None:
        self._closed_at: float | None = None
        self._has_hung_up = False
        self._descriptor = -1
        self._poll: select.epoll | None = None
        # Closing it ends the thread that watches.
        self._watch_until = -1
        with suppress(OSError, AttributeError):
            self._descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            self._poll = select.epoll()
            # Its close is reported without being asked for; what is typed is not.
            self._poll.register(self._descriptor, 0)

    @property
    def is_watched(self) -> bool:
        """Whether there is a terminal whose close will be noticed."""
        return self._poll is not None

    def fileno(self) -> int:
        """The descriptor that can be read once the terminal is closed."""
        return self._poll.fileno() if self._poll is not None else -1

    def is_in_background(self) -> bool:
        """Whether the process belongs to a job in the background of the terminal."""
        try:
            return os.tcgetpgrp(self._descriptor) != os.getpgrp()
        except OSError:
            # There is none, or it was closed.
            return False

    def watch(self) -> None:
        """Notices the close in a thread of its own, for a process that does not wait for `fileno` itself."""
        if self._poll is None:
            return
        reader, self._watch_until = os.pipe()
        try:
            start_new_thread(self._watch, (self._poll.fileno(), reader))
        except RuntimeError:
            # The system has no more threads.
            os.close(reader)

    def _watch(self, terminal: int, reader: int) -> None:
        poll = select.poll()
        poll.register(terminal, select.POLLIN)
        poll.register(reader, select.POLLIN)
        if (terminal, select.POLLIN) in poll.poll():
            self.note_close()
        os.close(reader)

    def note_close(self) -> None:
        """The terminal was closed just now."""
        if self._closed_at is None:
            self._closed_at = time.monotonic()

    def take_hang_up(self) -> bool:
        """Whether a SIGHUP that has just come is that of the terminal's close, which is true once."""
        if self._poll is None:
            return False
        # The signal may come a moment before the terminal counts as closed.
        if self._closed_at is None and self._poll.poll(_HANG_UP_LAG_SECONDS):
            self.note_close()
        if self._closed_at is None or self._has_hung_up:
            return False
        self._has_hung_up = True
        return time.monotonic() - self._closed_at < _HANG_UP_SECONDS

    def close(self) -> None:
        """Stops watching."""
        if self._watch_until >= 0:
            os.close(self._watch_until)
            self._watch_until = -1
        if self._poll is not None:
            self._poll.close()
            self._poll = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
