"""The ASGI application that is reloaded: what the WSGI one answers, and a WebSocket that answers each message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tests.reload.content import PIECE_SECONDS, PIECES, PLAIN, SLOW_SECONDS, Site, digest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

site = Site()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers by path; the query is the number of the request."""
    if scope["type"] == "lifespan":
        await run_lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await answer_messages(receive, send)
        return
    number = scope["query_string"].decode()
    site.note(number)
    if scope["path"] == "/stream":
        await send(start())
        for index in range(PIECES):
            line = f"{site.mark(number)} {index}\n".encode()
            await send({"type": "http.response.body", "body": line, "more_body": True})
            await asyncio.sleep(PIECE_SECONDS)
        await send({"type": "http.response.body"})
        return
    content = site.mark(number)
    if scope["path"] == "/slow":
        await asyncio.sleep(SLOW_SECONDS)
    if scope["path"] == "/digest":
        content += f" {digest(await read(receive))}"
    await send(start((b"content-length", b"%d" % len(content))))
    await send({"type": "http.response.body", "body": content.encode()})


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Completes the startup and the shutdown."""
    for name in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{name}.complete"})


def start(*headers: tuple[bytes, bytes]) -> Message:
    """`http.response.start`."""
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", PLAIN.encode()), *headers]}


async def read(receive: Receive) -> bytes:
    """A whole body."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def answer_messages(receive: Receive, send: Send) -> None:
    """Answers each message, a number and `quick` or `slow`, until the client or the server ends the connection."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        number, pace = message["text"].split()
        site.note(number)
        if pace == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        await send({"type": "websocket.send", "text": site.mark(number)})
