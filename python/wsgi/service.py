"""What the command tells the system about its server: the pidfile, and the messages to systemd."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from wsgi._core import Page
from wsgi.pidfile import PidFile
from wsgi.systemd import Notifier

__all__ = ["Service", "is_alive"]


def is_alive(page: Page, watchdog_seconds: float) -> bool:
    """Whether the heartbeat of a worker has moved within half of the watchdog's interval."""
    beats = [worker["heartbeat_ms"] / 1000 for worker in page.workers()]
    return time.monotonic() - max(beats, default=0.0) < watchdog_seconds / 2


class Service:
    """The server as its service manager sees it. A server that no service manager has started tells nothing.

    Parameters:
        notifier: sends the messages.
        pidfile: written when the server serves.
        watchdog_seconds: the interval within which the manager must be told that the server is alive; None: no
            watchdog.
    """

    def __init__(
        self,
        notifier: Notifier | None = None,
        pidfile: PidFile | None = None,
        watchdog_seconds: float | None = None,
    ) -> None:
        self.notifier = Notifier() if notifier is None else notifier
        self.watchdog_seconds = watchdog_seconds
        self._pidfile = pidfile
        self._process = os.getpid()
        self._ended = threading.Event()

    def serves(self, status: str) -> None:
        """Requests are answered from now on; also after a reload.

        Raises:
            ConfigError: the pidfile cannot be written.
        """
        if self._pidfile is not None:
            self._pidfile.write()
        self.notifier.ready(status)

    def reloaded(self, status: str) -> None:
        """A reload was asked for, and is over."""
        self.notifier.reloading(status)
        self.notifier.ready(status)

    def watch(self, wake: Callable[[], object], page: Page | None) -> None:
        """Starts a thread for the watchdog, if there is one: it has the engine renew its heartbeat, and feeds the
        watchdog while that moves. A thread of Python, because a server without the interpreter answers nothing.

        Parameters:
            wake: has an idle engine renew its heartbeat.
            page: the heartbeat of a single process; None in a worker, whose supervisor feeds the watchdog.
        """
        if self.watchdog_seconds is None:
            return
        arguments = (self.watchdog_seconds, wake, page)
        threading.Thread(target=self._watch, args=arguments, name="wsgi-watchdog", daemon=True).start()

    def _watch(self, seconds: float, wake: Callable[[], object], page: Page | None) -> None:
        # Twice in the time in which the watchdog is fed once.
        while not self._ended.wait(seconds / 4):
            wake()
            if self._ended.wait(seconds / 4):
                break
            if page is None:
                wake()
            elif is_alive(page, seconds):
                self.notifier.feed_watchdog()

    def end(self) -> None:
        """The server has stopped. Does nothing in a worker, which was forked from the server's process."""
        if os.getpid() != self._process:
            return
        self._ended.set()
        if self._pidfile is not None:
            self._pidfile.remove()
