"""Runs ASGI applications: chooses the event loop and runs it from lifespan startup to shutdown."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import importlib.util
import inspect
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

# Not `from wsgi import _core`: this is imported after the application, and a user's wsgi.py may define that name.
from wsgi._core import ASGIReceive, ASGISend, LoopDriver
from wsgi._core import Run as EngineRun
from wsgi.errors import ConfigError
from wsgi.interface import ASGI2
from wsgi.lifespan import ASGIApplication, Lifespan
from wsgi.logging import report
from wsgi.run import POLL_SECONDS, Run, describe_pending
from wsgi.settings import Settings
from wsgi.stopping import LAST_STEP_SECONDS, counted, frame_location

__all__ = ["LoopRun", "as_single_callable", "import_loop"]

# Applications and frameworks check whether `receive` and `send` are coroutine functions; if not, they warn or call
# them in a thread. These are no `async def`, so they carry the markers of asyncio, and of inspect since 3.12.
for _kind in (ASGIReceive, ASGISend):
    _kind._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)  # type: ignore[union-attr]
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(_kind)


def as_single_callable(app: Any, interface: str) -> ASGIApplication:
    """Returns an application as an ASGI 3 single callable."""
    if interface != ASGI2:
        return app  # type: ignore[no-any-return]

    async def called_twice(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return called_twice


def _loop_name(wanted: str) -> str:
    """The loop to use, `uvloop` or `asyncio`.

    Raises:
        ConfigError: uvloop is required and not installed.
    """
    if wanted == "asyncio":
        return wanted
    if importlib.util.find_spec("uvloop") is not None:
        return "uvloop"
    if wanted == "uvloop":
        raise ConfigError("loop is uvloop, but the package uvloop is not installed")
    return "asyncio"


def import_loop(wanted: str) -> None:
    """Imports the event loop that the option `loop` selects."""
    if _loop_name(wanted) == "uvloop":
        import uvloop  # noqa: F401


def _new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


def _task_location(task: asyncio.Task[Any]) -> str:
    """Where a task waits: its innermost coroutine with a frame."""
    coroutine: Any = task.get_coro()
    found = "an unknown location"
    # Bounded, because the chain of awaited objects may contain a cycle.
    for _ in range(100):
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            break
        found = frame_location(frame)
        coroutine = getattr(coroutine, "cr_await", None)
    return found


def _task_maker(loop: asyncio.AbstractEventLoop) -> Callable[..., object]:
    # Most requests never wait: started eagerly, they need no iteration of the loop.
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return functools.partial(asyncio.Task, loop=loop, eager_start=True)
    return loop.create_task


class _Executor(ThreadPoolExecutor):
    """The loop's default executor. Its threads outlive requests, so each call runs in an empty context: context
    variables of one request must not reach the next.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(contextvars.Context().run, fn, *args, **kwargs)


class LoopRun(Run):
    """One run of a server for ASGI: one event loop, in the thread that calls `wait` or in a thread of its own.

    Parameters:
        core: the engine's side of the run.
        background: run the loop in a thread.
        app: a single-callable ASGI application.
        settings: the server's options.
        servers: the `server` of each listener's scopes.
    """

    def __init__(
        self, core: EngineRun, *, background: bool, app: ASGIApplication, settings: Settings, servers: list[object]
    ) -> None:
        super().__init__(core, background=background, graceful_timeout=settings.graceful_timeout)
        self._app = app
        self._settings = settings
        self._servers = servers
        self._loop_name = _loop_name(settings.loop)
        self.interface = f"ASGI on {self._loop_name}"
        self._loop: asyncio.AbstractEventLoop | None = None
        # Set when the application has started or failed to start.
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._over = False
        self._aborted = False
        self._driver: LoopDriver | None = None
        # Lifespan shutdown is in progress.
        self._ends_lifespan = False
        # The wait in progress that a stop may cancel.
        self._cancellable: asyncio.Task[Any] | None = None
        self._abandoned: tuple[str, ...] = ()

    def begin(self) -> None:
        """Starts the thread of a background run, and waits until the application has started in it.

        Raises:
            StartupError: the application failed to start.
        """
        atexit.register(self._at_exit)
        if self.background:
            # As in the foreground, the application inherits the current context variables.
            self._spawn("wsgi-loop", contextvars.copy_context().run, self._serve)
            self._ready.wait()
            if self._failure is not None:
                raise self._failure

    def stop(self) -> None:
        """Requests a graceful stop. May be called from any thread and any signal handler."""
        super().stop()
        self._wake_loop()

    def retire(self) -> None:
        """Leaves the clients to other worker processes; ends the run when none is left, or after the graceful timeout.
        May be called from any thread.
        """
        super().retire()
        self._wake_loop()

    def abort(self) -> None:
        """Requests an immediate stop. May be called from any thread and any signal handler."""
        if self._aborted and threading.get_ident() == self._waiter:
            # The second request: the loop is blocked, and this is its thread.
            raise KeyboardInterrupt
        self._aborted = True
        super().abort()
        self._wake_loop()

    def _wake_loop(self) -> None:
        loop = self._loop
        # The loop may just have closed.
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._cancel_wait)

    def waits_for(self) -> str:
        """Describes what a stop still waits for; "" for nothing."""
        if self._ends_lifespan:
            return "the application's lifespan shutdown"
        requests, driver = self._core.requests(), self._driver
        tasks = len(driver.tasks) if driver is not None else 0
        return describe_pending(
            requests,
            other_connection=self._core.connections - len(requests),
            background_task=tasks - len(requests),
        )

    def _time_left(self) -> float:
        return 0.0 if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)

    def _cancel_wait(self) -> None:
        """Cancels the wait in progress: startup at any stop, any other wait at an immediate one."""
        if self._cancellable is not None and (self._aborted or not self._ready.is_set()):
            self._cancellable.cancel()

    def wait(self, timeout: float | None = None, started: Callable[[], None] | None = None) -> None:
        """Runs the loop in this thread until a stop is complete. Signal handlers run meanwhile.

        Parameters:
            timeout: seconds after which it stops by itself; None: no limit.
            started: called when the server begins to answer requests.

        Raises:
            StartupError: the application failed to start.
        """
        self._serve(timeout, started)
        if self._failure is not None:
            raise self._failure

    def finish(self) -> tuple[str, ...]:
        """Waits for the loop; returns the names of threads that did not end in time."""
        end = time.monotonic() + self._time_left() + 4 * LAST_STEP_SECONDS
        for thread in self._threads:
            while thread.is_alive() and not self._over and time.monotonic() < end:
                thread.join(POLL_SECONDS)
        self._over = True
        return super().finish() + self._abandoned

    def _is_over(self) -> bool:
        return self._over

    def _serve(self, timeout: float | None = None, started: Callable[[], None] | None = None) -> None:
        loop = _new_loop(self._loop_name)
        executor = _Executor(thread_name_prefix="wsgi-executor")
        try:
            asyncio.set_event_loop(loop)
            loop.set_default_executor(executor)
            self._loop = loop
            loop.run_until_complete(self._main(timeout, started))
        except BaseException as error:
            self._failure = error
        finally:
            self._over = True
            self._close(loop)
            executor.shutdown(wait=False, cancel_futures=True)
            self._loop = None
            self._ready.set()

    async def _main(self, timeout: float | None, started: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        lifespan = Lifespan(self._app, self._settings.lifespan)
        with self._wakeup:
            loop.add_reader(self._wakeup.fileno(), self._wakeup.drain)
            try:
                if await self._wait_cancellable(lifespan.start(), starting=True):
                    self._ready.set()
                    if timeout is not None:
                        loop.call_later(timeout, self.stop)
                    await self._drive(loop, lifespan, started)
            finally:
                self._ends_lifespan = True
                await self._wait_cancellable(lifespan.stop(max(self._time_left(), LAST_STEP_SECONDS)))
                self._ends_lifespan = False
                loop.remove_reader(self._wakeup.fileno())

    async def _wait_cancellable(self, awaited: Any, *, starting: bool = False) -> bool:
        """Waits for something that `_cancel_wait` may cancel; False if it did."""
        self._cancellable = task = asyncio.ensure_future(awaited)
        if starting and self.deadline is not None:
            task.cancel()
        try:
            await asyncio.wait([task])
            if task.cancelled():
                return False
            task.result()
            return True
        finally:
            self._cancellable = None

    async def _drive(
        self, loop: asyncio.AbstractEventLoop, lifespan: Lifespan, started: Callable[[], None] | None
    ) -> None:
        over = asyncio.Event()
        driver = self._core.drive(
            loop,
            self._servers,
            lifespan.state,
            context=lifespan.context,
            create_task=_task_maker(loop),
            over=over.set,
        )
        self._driver = driver
        loop.add_reader(driver.fileno(), driver.turn)
        loop.call_soon(driver.turn)
        if started is not None:
            started()
        try:
            await over.wait()
        finally:
            loop.remove_reader(driver.fileno())
        await self._end_tasks(driver)

    async def _end_tasks(self, driver: LoopDriver) -> None:
        """Waits until the graceful timeout for tasks that go on after their responses, then cancels them."""
        tasks = driver.tasks
        left = self._time_left()
        if tasks and left > 0 and not self._aborted:
            await self._wait_cancellable(asyncio.wait(tasks, timeout=left))
        tasks = [task for task in tasks if not task.done()]
        if not tasks:
            return
        driver.dismiss()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=LAST_STEP_SECONDS)
        stubborn = [task for task in tasks if not task.done()]
        if stubborn:
            count, locations = counted(len(stubborn), "request"), ", ".join(map(_task_location, stubborn))
            report(logging.ERROR, f"gave up waiting for {count} that cannot be cancelled: {locations}")
            self._abandoned = ("wsgi-loop",)

    async def _tidy(self, rest: set[asyncio.Task[Any]]) -> None:
        end = time.monotonic() + LAST_STEP_SECONDS
        for task in rest:
            task.cancel()
        if rest:
            await self._wait_cancellable(asyncio.wait(rest, timeout=LAST_STEP_SECONDS))
        # Not `wait_for`, which never returns while a generator suppresses its cancellation.
        generators = asyncio.ensure_future(asyncio.get_running_loop().shutdown_asyncgens())
        await self._wait_cancellable(asyncio.wait([generators], timeout=max(end - time.monotonic(), POLL_SECONDS)))

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancels tasks that the application has left in the loop, and closes the loop."""
        try:
            loop.run_until_complete(self._tidy(asyncio.all_tasks(loop)))
        except Exception as error:
            report(logging.ERROR, "cleaning up the event loop failed", error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()
