"""The time of a stop: what it waits for, and the end of a process that does not end in that time."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from wsgi.logging import escaped, report

__all__ = ["FAREWELL", "Countdown", "aside", "counted", "place", "say", "whereabouts"]

FAREWELL = 1.0
"""Seconds that each last step of a stop has, even if no time is left."""

# A stop that takes less than this says nothing.
_NOTICE = 0.1
# The server's own last steps after the graceful timeout: cancelled tasks, the lifespan's end, the loop.
_LAST_STEPS = 4 * FAREWELL


def counted(count: int, noun: str) -> str:
    """Gives `1 request`, `2 requests`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def place(frame: FrameType) -> str:
    """Tells where a frame is: function, file and line."""
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}, line {frame.f_lineno})"


def whereabouts(threads: Iterable[threading.Thread]) -> str:
    """Names threads, each with the function, file and line that it is in."""
    frames = sys._current_frames()
    found = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        found.append(thread.name if frame is None else f"{thread.name} in {place(frame)}")
    return ", ".join(found)


def say(text: str) -> None:
    """Writes one line to standard error for the person at the terminal, as the banner does; without one, nothing."""
    if sys.stderr is not None:
        print(f"WSGIServer: {escaped(text)}", file=sys.stderr, flush=True)


def aside(function: Callable[..., object], *arguments: object) -> None:
    """Calls `function` in a thread of its own: a signal handler must not write, since it may interrupt a write."""
    # The system may have no more threads; what is asked for here is not worth an exception in whatever runs.
    with suppress(RuntimeError):
        start_new_thread(function, arguments)


def _left_behind(caller: int) -> list[threading.Thread]:
    """The threads that keep the interpreter from its end, without the one that ends it."""
    frames = sys._current_frames()
    main = threading.main_thread()
    # Those of executors are waited for even if they are daemons, as all are that a thread of the server's began.
    executors = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})
    found = [
        thread for thread in threading.enumerate() if thread is not main and (not thread.daemon or thread in executors)
    ]
    if main.ident != caller and not _waits_for_threads(frames.get(main.ident or 0)):
        found.insert(0, main)
    return found


def _waits_for_threads(frame: FrameType | None) -> bool:
    """Whether this is where the interpreter, at its end, waits for the threads that are no daemons."""
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame is not None and (frame.f_code.co_name, frame.f_code.co_filename) == ("_shutdown", threading.__file__)


class Countdown:
    """One stop's time. From the first signal on, a thread tells what the stop waits for. If the process is the
    server's own, that thread also ends it with status 1 when the time is over, whatever still runs.

    Parameters:
        seconds: what a stop may take.
        waits_for: describes what the stop waits for; "" where that is nothing.
        ends_process: the process ends with the server.
        close: called before the process is ended, to answer who still waits and to write the last lines of logs.

    Thread-safety: `begin`, `hurry` and `settle` may be called from signal handlers.
    """

    def __init__(
        self, seconds: float, waits_for: Callable[[], str], *, ends_process: bool, close: Callable[[], object]
    ) -> None:
        self.has_begun = False
        self._seconds = seconds
        self._waits_for = waits_for
        self._ends_process = ends_process
        self._close = close
        self._again = ""
        self._deadline = 0.0
        self._end = 0.0
        self._hurried = False
        self._settled = False
        # Locked while there is nothing new.
        self._changed = allocate_lock()
        self._changed.acquire()

    def begin(self, again: str = "a second signal ends it at once") -> None:
        """Starts the clock, once.

        Parameters:
            again: how the stop can be cut short.
        """
        if self.has_begun:
            return
        self.has_begun = True
        self._again = again
        self._deadline = time.monotonic() + self._seconds
        self._end = self._deadline + _LAST_STEPS
        aside(self._watch)

    def hurry(self) -> None:
        """Leaves no more time: the server's last steps have theirs the first time; threads have none."""
        now = time.monotonic()
        self._end = now if self._settled or self._hurried else now + _LAST_STEPS
        self._deadline = now
        self._hurried = True
        self._wake()

    def settle(self) -> None:
        """The server has stopped: what is left are threads of the application's."""
        self._settled = True
        self._end = max(self._deadline, time.monotonic() + FAREWELL)
        self._wake()

    def leave(self) -> NoReturn:
        """Ends the process with status 1, naming the threads that are left."""
        said = allocate_lock()
        said.acquire()
        # Not here: a thread that is left may hold the lock of a stream or of a log.
        aside(self._say_last, get_ident(), said.release)
        said.acquire(timeout=2 * FAREWELL)
        os._exit(1)

    def _wake(self) -> None:
        with suppress(RuntimeError):
            self._changed.release()

    def _watch(self) -> None:
        self._changed.acquire(timeout=_NOTICE)
        if not self._settled:
            self._announce(self._waits_for)
        while self._ends_process and not self._settled:
            self._wait()
        if self._ends_process:
            # Threads that end by themselves are no news.
            self._changed.acquire(timeout=_NOTICE)
            self._announce(self._waits_for_threads)
        while self._ends_process:
            self._wait()

    def _wait(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            self.leave()
        self._changed.acquire(timeout=left)

    def _announce(self, waits_for: Callable[[], str]) -> None:
        left = self._deadline - time.monotonic()
        with suppress(Exception):
            if left > 0 and not self._hurried and (what := waits_for()):
                say(f"stopping: waiting up to {math.ceil(left)} s for {what}; {self._again}")

    def _waits_for_threads(self) -> str:
        threads = _left_behind(get_ident())
        return f"{counted(len(threads), 'thread')}: {whereabouts(threads)}" if threads else ""

    def _say_last(self, caller: int, done: Callable[[], None]) -> None:
        try:
            threads = _left_behind(caller)
            if threads:
                why = "when asked to end at once" if self._hurried else "after the graceful timeout"
                report(logging.ERROR, f"gave up waiting {why} for {whereabouts(threads)}")
            self._close()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:
            done()
