"""The time limit of a stop: reports what the stop waits for, and ends a process that does not end in time."""

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

__all__ = [
    "LAST_STEP_SECONDS",
    "Countdown",
    "counted",
    "frame_location",
    "print_notice",
    "run_in_thread",
    "thread_locations",
]

LAST_STEP_SECONDS = 1.0
"""Seconds that each final step of a stop may take, even after the graceful timeout."""

# A stop that takes less than this prints nothing.
_QUIET_SECONDS = 0.1
# The server's final steps after the graceful timeout: cancelling tasks, the lifespan's shutdown, closing the loop.
_SERVER_STEPS_SECONDS = 4 * LAST_STEP_SECONDS


def counted(count: int, noun: str) -> str:
    """Returns `1 request`, `2 requests`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def frame_location(frame: FrameType) -> str:
    """Describes a frame by function, file and line."""
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}, line {frame.f_lineno})"


def thread_locations(threads: Iterable[threading.Thread]) -> str:
    """Describes threads by name, function, file and line."""
    frames = sys._current_frames()
    found = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        found.append(thread.name if frame is None else f"{thread.name} in {frame_location(frame)}")
    return ", ".join(found)


def print_notice(text: str) -> None:
    """Prints one line for the operator to standard error, as the banner is; nothing if there is no standard error."""
    if sys.stderr is not None:
        # One write, because other processes may write to the same pipe.
        sys.stderr.write(f"WSGIServer: {escaped(text)}\n")
        sys.stderr.flush()


def run_in_thread(function: Callable[..., object], *arguments: object) -> None:
    """Calls `function` in a new thread: a signal handler must not write, because it may interrupt a write."""
    # The system may be out of threads; the interrupted code must not see an exception for that.
    with suppress(RuntimeError):
        start_new_thread(function, arguments)


def _remaining_threads(caller: int) -> list[threading.Thread]:
    """The threads that keep the interpreter from exiting, without the one that ends it."""
    frames = sys._current_frames()
    main = threading.main_thread()
    # The interpreter waits for executor threads even if they are daemons, as those are that a worker started.
    executors = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})
    found = [
        thread for thread in threading.enumerate() if thread is not main and (not thread.daemon or thread in executors)
    ]
    if main.ident != caller and not _waits_for_threads(frames.get(main.ident or 0)):
        found.insert(0, main)
    return found


def _waits_for_threads(frame: FrameType | None) -> bool:
    """Whether the interpreter is exiting and waits here for threads that are not daemons."""
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame is not None and (frame.f_code.co_name, frame.f_code.co_filename) == ("_shutdown", threading.__file__)


class Countdown:
    """The time limit of one stop. From the first signal on, a thread reports what the stop waits for. If the process
    belongs to the server, that thread also ends it with status 1 when the time is over, whatever still runs.

    Parameters:
        seconds: what a stop may take.
        waits_for: describes what the stop waits for; "" for nothing.
        ends_process: the process ends with the server.
        close: called before the process is ended, to answer waiting clients and to write the last log lines.
        name: what is stopping, at the begin of printed lines.

    Thread-safety: `begin`, `expire` and `server_stopped` may be called from signal handlers.
    """

    def __init__(
        self,
        seconds: float,
        waits_for: Callable[[], str],
        *,
        ends_process: bool,
        close: Callable[[], object],
        name: str = "",
    ) -> None:
        self.has_begun = False
        self._seconds = seconds
        self._waits_for = waits_for
        self._ends_process = ends_process
        self._close = close
        self._name = name
        self._again = ""
        self._deadline = 0.0
        self._end = 0.0
        self._is_expired = False
        self._has_server_stopped = False
        # Released to wake the watching thread.
        self._changed = allocate_lock()
        self._changed.acquire()

    def begin(self, again: str = "a second signal ends it at once") -> None:
        """Starts the clock; later calls do nothing.

        Parameters:
            again: how to end the process at once, as the printed line says it.
        """
        if self.has_begun:
            return
        self.has_begun = True
        self._again = again
        self._deadline = time.monotonic() + self._seconds
        self._end = self._deadline + _SERVER_STEPS_SECONDS
        run_in_thread(self._watch)

    def expire(self) -> None:
        """Ends the graceful timeout now; the server's final steps keep their time at the first call."""
        now = time.monotonic()
        self._end = now if self._has_server_stopped or self._is_expired else now + _SERVER_STEPS_SECONDS
        self._deadline = now
        self._is_expired = True
        self._wake()

    def server_stopped(self) -> None:
        """Tells that the server has stopped, and that only threads of the application are left."""
        self._has_server_stopped = True
        self._end = max(self._deadline, time.monotonic() + LAST_STEP_SECONDS)
        self._wake()

    def exit_process(self) -> NoReturn:
        """Ends the process with status 1, after a log line with the remaining threads."""
        reported = allocate_lock()
        reported.acquire()
        # In a new thread: a remaining thread may hold the lock of a stream or of a log.
        run_in_thread(self._report_remaining, get_ident(), reported.release)
        reported.acquire(timeout=2 * LAST_STEP_SECONDS)
        os._exit(1)

    def _wake(self) -> None:
        with suppress(RuntimeError):
            self._changed.release()

    def _watch(self) -> None:
        self._changed.acquire(timeout=_QUIET_SECONDS)
        if not self._has_server_stopped:
            self._announce(self._waits_for)
        while self._ends_process and not self._has_server_stopped:
            self._wait()
        if self._ends_process:
            # Threads that end within this time are not reported.
            self._changed.acquire(timeout=_QUIET_SECONDS)
            self._announce(self._waits_for_threads)
        while self._ends_process:
            self._wait()

    def _wait(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            self.exit_process()
        self._changed.acquire(timeout=left)

    def _announce(self, waits_for: Callable[[], str]) -> None:
        left = self._deadline - time.monotonic()
        with suppress(Exception):
            if left > 0 and not self._is_expired and (what := waits_for()):
                print_notice(f"{self._name}stopping: waiting up to {math.ceil(left)} s for {what}; {self._again}")

    def _waits_for_threads(self) -> str:
        threads = _remaining_threads(get_ident())
        return f"{counted(len(threads), 'thread')}: {thread_locations(threads)}" if threads else ""

    def _report_remaining(self, caller: int, done: Callable[[], None]) -> None:
        try:
            threads = _remaining_threads(caller)
            if threads:
                why = "when asked to end at once" if self._is_expired else "after the graceful timeout"
                report(logging.ERROR, f"gave up waiting {why} for {thread_locations(threads)}")
            self._close()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:
            done()
