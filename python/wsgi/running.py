"""One run of a server: its threads, and the wait for them."""

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
from wsgi.hearing import Hearing
from wsgi.logging import report
from wsgi.stopping import FAREWELL, counted, whereabouts

__all__ = ["TICK", "Run", "described", "require_real_threads"]

# Requests that are named where a stop waits for many.
_NAMED = 5
# How often the end of a stop is looked for.
TICK = 0.05


# How those that replace the standard library's threads are told to leave them alone.
_REMEDIES = {
    "gevent": "gevent.monkey.patch_all(thread=False, queue=False)",
    "eventlet": "eventlet.monkey_patch(thread=False)",
}


def require_real_threads() -> None:
    """Refuses a process in which threads are greenlets.

    Workers that are greenlets would block each other in the kernel. And with workers of the system's: a lock of
    gevent's or eventlet's that one thread waits for is not given on by another, and logging alone has such locks.

    Raises:
        StartupError: they are; the message says how to patch the standard library without its threads.
    """
    if isinstance(_thread.start_new_thread, types.BuiltinFunctionType):
        return
    library = _thread.start_new_thread.__module__.partition(".")[0]
    remedy = _REMEDIES.get(library, "patch the standard library without its threads")
    raise StartupError(
        f"{library} has replaced the threads of this process by greenlets, in which the server cannot run: "
        f"use {remedy}; sockets and sleeps stay patched, in real threads"
    )


def described(requests: list[str], **others: int) -> str:
    """Describes what a stop waits for, such as `2 requests (GET /a, GET /b) and 1 connection`; "" if that is nothing.

    Parameters:
        requests: method and path of each request that is running.
        others: how many there are of each other kind, by its name in the singular.
    """
    parts = []
    if requests:
        named = requests[:_NAMED] + ["..."] * (len(requests) > _NAMED)
        parts.append(f"{counted(len(requests), 'request')} ({', '.join(named)})")
    parts += [counted(count, kind.replace("_", " ")) for kind, count in others.items() if count > 0]
    return " and ".join(parts)


class Run:
    """One run of a server for WSGI: its worker threads, and the wait for them.

    Parameters:
        core: the engine's part.
        background: nobody will call `wait`; whoever closes the server waits for the end.
        graceful_timeout: seconds that a stop may take.
    """

    interface = "WSGI"

    def __init__(self, core: _core.Run, *, background: bool, graceful_timeout: float) -> None:
        self.deadline: float | None = None
        """When the time of the stop is over (`time.monotonic()`); None until one is asked for."""
        self._graceful_timeout = graceful_timeout
        self.ended = threading.Event()
        self.background = background
        self._core = core
        self._process = os.getpid()
        self._waiter = 0 if background else threading.get_ident()
        # A stop was asked for, or the engine came to its end by itself. Whoever waits hears of it.
        self._stopping = False
        self._hearing = Hearing()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Starts the threads."""
        # A program may end without stopping its server; the workers must be home before the interpreter goes.
        atexit.register(self._leave)
        for index in range(self._core.workers):
            # In an empty context, which threads have by themselves except on free-threaded 3.14. What the starting
            # thread keeps in its own, such as a framework's application context, would be one for all requests.
            self._spawn(f"wsgi-worker-{index}", contextvars.Context().run, self._work, index)

    def _spawn(self, name: str, body: Callable[..., None], *arguments: object) -> None:
        # A request that never ends must not keep the program from ending: daemons.
        thread = threading.Thread(target=body, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except KeyError as error:
            # A signal handler raised in the midst of it, and the clean-up of `threading` tripped over a thread that had
            # begun already: what counts is the handler's exception, which that hides.
            raise error.__context__ or error from None

    def _leave(self) -> None:
        # A forked child inherits the registration, but neither the threads nor the right to the connections.
        if os.getpid() == self._process:
            self.abort()
            self.finish()

    def _work(self, index: int) -> None:
        try:
            self._core.work(index)
        except BaseException as error:
            report(logging.CRITICAL, "a worker thread ended by a defect of the server itself", error)
        finally:
            if self._core.is_over:
                self._tell()

    def stop(self) -> None:
        """Asks for a graceful stop. From any thread and any signal handler."""
        if os.getpid() == self._process:
            if self.deadline is None:
                self.deadline = time.monotonic() + self._graceful_timeout
            self._core.stop()
            self._tell()

    def abort(self) -> None:
        """Asks for a stop at once. From any thread and any signal handler."""
        if os.getpid() == self._process:
            self.deadline = time.monotonic()
            self._core.abort()
            self._tell()

    def _tell(self) -> None:
        self._stopping = True
        self._hearing.tell()

    def waits_for(self) -> str:
        """Describes what a stop still waits for; "" if that is nothing."""
        requests = self._core.requests()
        return described(requests, other_connection=self._core.connections - len(requests))

    def give_up(self) -> None:
        """Answers and logs what is unfinished, without the threads that are at it."""
        self._core.abort()
        self._core.finish()

    def is_mine(self) -> bool:
        """Whether the calling thread is one that the end of this run waits for."""
        me = threading.get_ident()
        return me == self._waiter or any(thread.ident == me for thread in self._threads)

    def wait(self, timeout: float | None = None, started: Callable[[], None] | None = None) -> None:
        """Waits until a stop is asked for. Signal handlers run meanwhile.

        Parameters:
            timeout: seconds until it returns without having been asked; None waits for ever.
            started: called once requests are answered.
        """
        if started is not None:
            started()
        end = None if timeout is None else time.monotonic() + timeout
        with self._hearing:
            while not self._stopping:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._hearing.sleep(left)

    def finish(self) -> tuple[str, ...]:
        """Waits for the threads; gives the names of those that were given up."""
        if os.getpid() != self._process:
            return ()
        over_since = None
        for thread in self._threads:
            while thread.is_alive():
                thread.join(TICK)
                if over_since is None and self._is_over():
                    over_since = time.monotonic()
                # What was cut has the rest of the stop's time to come to its end.
                if over_since is not None and time.monotonic() > max(over_since + FAREWELL, self.deadline or 0.0):
                    break
        self._core.finish()
        atexit.unregister(self._leave)
        stuck = [thread for thread in self._threads if thread.is_alive()]
        if stuck:
            report(logging.ERROR, f"gave up waiting for requests that are still running: {whereabouts(stuck)}")
        return tuple(thread.name for thread in stuck)

    def _is_over(self) -> bool:
        """Whether the threads have nothing more to do than to come home."""
        return self._core.is_over
