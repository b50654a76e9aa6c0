"""ASGI's lifespan protocol: startup before the first request, shutdown after the last."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from wsgi.errors import StartupError
from wsgi.logging import report

__all__ = ["Lifespan"]

# How long a cancelled lifespan task may take to end.
_CANCEL_SECONDS = 0.5

Message = MutableMapping[str, Any]
ASGIApplication = Callable[..., Awaitable[object]]


class Lifespan:
    """The lifespan of one application, which runs in one task from startup to shutdown.

    Parameters:
        app: a single-callable ASGI application.
        mode: `on`, `off`, or `auto`, where an application without lifespan support is served without it.
    """

    def __init__(self, app: ASGIApplication, mode: str) -> None:
        self.state: dict[str, Any] | None = None
        """What the application stored for its requests; None if it does not support lifespan."""
        self.context = contextvars.copy_context()
        """The context that requests copy: the caller's, or the one at the end of startup."""
        self._app = app
        self._mode = mode
        self._state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._answer: Message | None = None
        self._has_received = False
        self._error: BaseException | None = None

    async def start(self) -> None:
        """Sends `lifespan.startup` and waits for the answer.

        Raises:
            StartupError: the application failed to start; or it does not support lifespan and `mode` is `on`.
        """
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._send_event("lifespan.startup")
        if answer is None:
            self._check_missing_answer()
        elif answer["type"] == "lifespan.startup.failed":
            raise StartupError(f"the application failed to start: {answer.get('message') or 'it gave no reason'}")
        else:
            self.state = self._state

    async def stop(self, timeout: float) -> None:
        """Sends `lifespan.shutdown` and waits `timeout` seconds for the answer, then cancels the task."""
        if self._task is None:
            return
        end = time.monotonic() + timeout
        if self.state is not None and not self._task.done():
            try:
                answer = await asyncio.wait_for(self._send_event("lifespan.shutdown"), timeout)
            except asyncio.TimeoutError:
                report(logging.ERROR, "the application did not complete its lifespan shutdown in time")
            else:
                if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                    reason = answer.get("message") or "it gave no reason"
                    report(logging.ERROR, f"the application failed to shut down: {reason}")
        if not self._task.done():
            # The rest of the task after its last answer should be short; the task may also never have started.
            left = min(max(end - time.monotonic(), 0.0), 1.0)
            await asyncio.wait([self._task], timeout=0 if self.state is None else left)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CANCEL_SECONDS)
        if self._error is not None and self.state is not None:
            report(logging.ERROR, "the application raised an exception in its lifespan", self._error)

    def _check_missing_answer(self) -> None:
        error = self._error
        if self._mode == "on":
            what = "it returned" if error is None else f"it raised {type(error).__name__}: {error}"
            raise StartupError(f"the application failed to start: {what} before lifespan.startup.complete") from error
        # The specification requires the server to continue.
        if error is not None and self._has_received:
            report(logging.ERROR, "the application failed in lifespan.startup and is served without lifespan", error)
        elif error is not None:
            what = f"{type(error).__name__}: {error}"
            report(logging.DEBUG, f"the application does not support the lifespan protocol ({what})")

    async def _send_event(self, kind: str) -> Message | None:
        """Sends the application an event; returns its answer, None if the task ends without one."""
        self._answered.clear()
        self._answer = None
        self._events.put_nowait({"type": kind})
        await self._answered.wait()
        return self._answer

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Also SystemExit and KeyboardInterrupt, which would stop the loop.
            self._error = error
        finally:
            self._answered.set()

    async def _receive(self) -> Message:
        message = await self._events.get()
        self._has_received = True
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        phase = "shutdown" if self.state is not None else "startup"
        if kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed"):
            raise RuntimeError(f"{kind} is not a valid answer to lifespan.{phase}")
        if kind == "lifespan.startup.complete":
            # Called in the application's task or one it made, so the current context holds the variables it has set.
            self.context = contextvars.copy_context()
        self._answer = message
        self._answered.set()
