"""One run of a server: its threads, and the wait for their end."""

from __future__ import annotations

import _thread
import atexit
import contextvars
import logging
import os
import threading
import time
import types
from collections.abc import Callable

from wsgi import _core
from wsgi.errors import StartupError
from wsgi.logging import report
from wsgi.stopping import LAST_STEP_SECONDS, counted, thread_locations
from wsgi.wakeup import WakeupPipe

__all__ = ["POLL_SECONDS", "Run", "describe_pending", "require_real_threads"]

# Requests that a line about a stop names.
_MAX_NAMED = 5
# How often a stop checks whether its threads have ended.
POLL_SECONDS = 0.05


# How to keep libraries that patch the standard library from replacing its threads.
_REMEDIES = {
    "gevent": "gevent.monkey.patch_all(thread=False, queue=False)",
    "eventlet": "eventlet.monkey_patch(thread=False)",
}


def require_real_threads() -> None:
    """Refuses a process in which threads are greenlets.

    Workers that are greenlets would block each other in the kernel. System threads as workers would not help: a lock
    of gevent or eventlet that is released in one thread does not wake a waiter in another, and logging uses such locks.

    Raises:
        StartupError: threads are greenlets; the message says how to patch the standard library without its threads.
    """
    if isinstance(_thread.start_new_thread, types.BuiltinFunctionType):
        return
    library = _thread.start_new_thread.__module__.partition(".")[0]
    remedy = _REMEDIES.get(library, "patch the standard library without its threads")
    raise StartupError(
        f"{library} has replaced the threads of this process with greenlets, and the server needs system threads: "
        f"use {remedy}; sockets and sleeps stay patched"
    )


def describe_pending(requests: list[str], **others: int) -> str:
    """Describes what a stop waits for, such as `2 requests (GET /a, GET /b) and 1 connection`; "" for nothing.

    Parameters:
        requests: method and path of each running request.
        others: the count of each other kind, by its name in the singular.
    """
    parts = []
    if requests:
        named = requests[:_MAX_NAMED] + ["..."] * (len(requests) > _MAX_NAMED)
        parts.append(f"{counted(len(requests), 'request')} ({', '.join(named)})")
    parts += [counted(count, kind.replace("_", " ")) for kind, count in others.items() if count > 0]
    return " and ".join(parts)


class Run:
    """One run of a server for WSGI: its worker threads, and the wait for their end.

    Parameters:
        core: the engine's side of the run.
        background: no thread calls `wait`; the thread that closes the server waits for the end.
        graceful_timeout: seconds that a stop may take.
    """

    interface = "WSGI"

    def __init__(self, core: _core.Run, *, background: bool, graceful_timeout: float) -> None:
        self.deadline: float | None = None
        """When the graceful timeout ends (`time.monotonic()`); None until `stop` or `retire` is called."""
        self._graceful_timeout = graceful_timeout
        self.ended = threading.Event()
        self.background = background
        self._core = core
        self._process = os.getpid()
        self._waiter = 0 if background else threading.get_ident()
        # A stop was requested, or the engine ended by itself.
        self._stopping = False
        self._wakeup = WakeupPipe()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Starts the threads."""
        # A program may end without stopping its server; the workers must end before the interpreter does.
        atexit.register(self._at_exit)
        for index in range(self._core.workers):
            # In an empty context, which is the default except on free-threaded 3.14. Context variables of the starting
            # thread, such as a framework's application context, would otherwise be shared by all requests.
            self._spawn(f"wsgi-worker-{index}", contextvars.Context().run, self._work, index)

    def _spawn(self, name: str, body: Callable[..., None], *arguments: object) -> None:
        # Daemons, because a request that never ends must not keep the program from ending.
        thread = threading.Thread(target=body, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except KeyError as error:
            # A signal handler raised inside `start`, and the clean-up of `threading` then failed because the thread had
            # begun already. The handler's exception is the cause.
            raise error.__context__ or error from None

    def _at_exit(self) -> None:
        # A forked child inherits the registration, but not the threads, and the connections are its parent's.
        if os.getpid() == self._process:
            self.abort()
            self.finish()

    def _work(self, index: int) -> None:
        try:
            self._core.work(index)
        except BaseException as error:
            report(logging.CRITICAL, "a worker thread ended because of a defect in the server", error)
        finally:
            if self._core.is_over:
                self._wake()

    def stop(self) -> None:
        """Requests a graceful stop. May be called from any thread and any signal handler."""
        if os.getpid() == self._process:
            if self.deadline is None:
                self.deadline = time.monotonic() + self._graceful_timeout
            self._core.stop()
            self._wake()

    def retire(self) -> None:
        """Leaves the clients to other worker processes; ends the run when none is left, or after the graceful timeout.
        May be called from any thread.
        """
        if os.getpid() == self._process:
            if self.deadline is None:
                self.deadline = time.monotonic() + self._graceful_timeout
            self._core.retire()
            self._wakeup.wake()

    def abort(self) -> None:
        """Requests an immediate stop. May be called from any thread and any signal handler."""
        if os.getpid() == self._process:
            self.deadline = time.monotonic()
            self._core.abort()
            self._wake()

    def wake_pollers(self) -> None:
        """Has an idle server renew its heartbeat."""
        self._core.wake()

    def _wake(self) -> None:
        self._stopping = True
        self._wakeup.wake()

    def waits_for(self) -> str:
        """Describes what a stop still waits for; "" for nothing."""
        requests = self._core.requests()
        return describe_pending(requests, other_connection=self._core.connections - len(requests))

    def give_up(self) -> None:
        """Answers and logs unfinished requests without waiting for their threads."""
        self._core.abort()
        self._core.finish()

    def includes_current_thread(self) -> bool:
        """Whether the end of this run waits for the calling thread."""
        me = threading.get_ident()
        return me == self._waiter or any(thread.ident == me for thread in self._threads)

    def wait(self, timeout: float | None = None, started: Callable[[], None] | None = None) -> None:
        """Waits until a stop is requested, or until the run has ended after `retire`. Signal handlers run meanwhile.

        Parameters:
            timeout: seconds after which it returns anyway; None: no limit.
            started: called when the server begins to answer requests.
        """
        if started is not None:
            started()
        end = None if timeout is None else time.monotonic() + timeout
        with self._wakeup:
            while not self._stopping:
                ends = [at for at in (end, self.deadline) if at is not None]
                left = min(ends) - time.monotonic() if ends else None
                if left is not None and left <= 0:
                    return
                self._wakeup.wait(left)

    def finish(self) -> tuple[str, ...]:
        """Waits for the threads; returns the names of those that did not end in time."""
        if os.getpid() != self._process:
            return ()
        over_since = None
        for thread in self._threads:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                if over_since is None and self._is_over():
                    over_since = time.monotonic()
                # Calls whose response was cut may run until the graceful timeout ends.
                if over_since is None:
                    continue
                if time.monotonic() > max(over_since + LAST_STEP_SECONDS, self.deadline or 0.0):
                    break
        self._core.finish()
        atexit.unregister(self._at_exit)
        stuck = [thread for thread in self._threads if thread.is_alive()]
        if stuck:
            report(logging.ERROR, f"gave up waiting for requests that are still running: {thread_locations(stuck)}")
        return tuple(thread.name for thread in stuck)

    def _is_over(self) -> bool:
        """Whether the threads have no work left and only need to return."""
        return self._core.is_over
