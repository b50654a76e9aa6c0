"""What the ASGI tests share: applications that are scripts of messages, and records of what they saw."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from tests.server.recording import eventually

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

GET = b"GET /e HTTP/1.1\r\nHost: a\r\n\r\n"


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    """`http.response.start`."""
    return {"type": "http.response.start", "status": status, "headers": [list(pair) for pair in headers], **more}


def body(content: bytes = b"", more: bool = False) -> Message:
    """`http.response.body`."""
    return {"type": "http.response.body", "body": content, "more_body": more}


async def answer(send: Send, content: bytes = b"", status: int = 200) -> None:
    """Answers with `content` and its length."""
    await send(start(status, (b"content-length", str(len(content)).encode())))
    await send(body(content))


async def read(receive: Receive) -> bytes:
    """The whole request body; fails if the client leaves before its end."""
    pieces = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


@dataclass
class Script:
    """An application that sends these messages, whatever is asked, and keeps what was raised."""

    messages: list[Any]
    raised: list[BaseException] = field(default_factory=list)
    swallows: bool = False
    """Whether it goes on behind an error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self.messages:
            try:
                await send(message)
            except BaseException as error:
                self.raised.append(error)
                if not self.swallows:
                    raise


@dataclass
class Watched:
    """An application that is watched: what became of its calls."""

    app: ASGIApp
    scopes: list[Scope] = field(default_factory=list)
    begun: int = 0
    ended: int = 0
    cancelled: int = 0
    raised: list[BaseException] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.begun += 1
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except Exception as error:
            self.raised.append(error)
            raise
        finally:
            self.ended += 1

    def wait_for_begin(self, count: int = 1) -> None:
        """Waits until so many calls have begun."""
        eventually(lambda: self.begun >= count, f"{count} calls begin")

    def wait_for_end(self, count: int = 1) -> None:
        """Waits until so many calls are over."""
        eventually(lambda: self.ended >= count, f"{count} calls end")


class Gate:
    """Lets coroutines of one loop wait until a thread opens it."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def open(self) -> None:
        """Lets everybody go on."""
        self._opened.set()

    async def wait(self) -> None:
        """Waits until it is open."""
        while not self._opened.is_set():
            await asyncio.sleep(0.001)
