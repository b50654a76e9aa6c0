"""ASGI's lifespan protocol: the application starts before its first request and ends after its last."""

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

# Seconds that a cancelled lifespan has to end.
_MOMENT = 0.5

Message = MutableMapping[str, Any]
ASGIApplication = Callable[..., Awaitable[object]]


class Lifespan:
    """The lifespan of one application, in one task from the beginning to the end.

    Parameters:
        app: a single-callable ASGI application.
        mode: `auto`, where an application that knows no lifespan is served without it, `on` or `off`.
    """

    def __init__(self, app: ASGIApplication, mode: str) -> None:
        self.state: dict[str, Any] | None = None
        """What the application left for its requests; None if it takes no part."""
        self.context = contextvars.copy_context()
        """The context variables that its requests begin with: the caller's, or those at the end of the start."""
        self._app = app
        self._mode = mode
        self._state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._due: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._answer: Message | None = None
        self._heard = False
        self._error: BaseException | None = None

    async def start(self) -> None:
        """Has the application start.

        Raises:
            StartupError: it failed, in its own words; or it knows no lifespan, and must.
        """
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer is None:
            self._judge_silence()
        elif answer["type"] == "lifespan.startup.failed":
            raise StartupError(f"the application failed to start: {answer.get('message') or 'it gave no reason'}")
        else:
            self.state = self._state

    async def stop(self, patience: float) -> None:
        """Has the application end, within `patience` seconds; it is cancelled then, and has a moment for that."""
        if self._task is None:
            return
        end = time.monotonic() + patience
        if self.state is not None and not self._task.done():
            try:
                answer = await asyncio.wait_for(self._ask("lifespan.shutdown"), patience)
            except asyncio.TimeoutError:
                report(logging.ERROR, "the application did not end its lifespan in time")
            else:
                if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                    reason = answer.get("message") or "it gave no reason"
                    report(logging.ERROR, f"the application failed to end well: {reason}")
        if not self._task.done():
            # What it does after its last answer is short; it may also be one that never started.
            left = min(max(end - time.monotonic(), 0.0), 1.0)
            await asyncio.wait([self._task], timeout=0 if self.state is None else left)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_MOMENT)
        if self._error is not None and self.state is not None:
            report(logging.ERROR, "the application failed in its lifespan", self._error)

    def _judge_silence(self) -> None:
        error = self._error
        if self._mode == "on":
            what = "it returned" if error is None else f"it raised {type(error).__name__}: {error}"
            raise StartupError(f"the application failed to start: {what} before lifespan.startup.complete") from error
        # The specification wants the server to go on.
        if error is not None and self._heard:
            report(logging.ERROR, "the application failed to start, and is served without its lifespan", error)
        elif error is not None:
            what = f"{type(error).__name__}: {error}"
            report(logging.DEBUG, f"the application takes no part in the lifespan protocol ({what})")

    async def _ask(self, kind: str) -> Message | None:
        """Sends the application an event; None if it ends without an answer."""
        self._answered.clear()
        self._answer = None
        self._due.put_nowait({"type": kind})
        await self._answered.wait()
        return self._answer

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Also SystemExit and KeyboardInterrupt, which would tear the loop down.
            self._error = error
        finally:
            self._answered.set()

    async def _receive(self) -> Message:
        message = await self._due.get()
        self._heard = True
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        phase = "shutdown" if self.state is not None else "startup"
        if kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed"):
            raise RuntimeError(f"{kind} has no place in the lifespan protocol while lifespan.{phase} is answered")
        if kind == "lifespan.startup.complete":
            # This is its own task, or one that it made: what it set stands in the context of the moment.
            self.context = contextvars.copy_context()
        self._answer = message
        self._answered.set()
