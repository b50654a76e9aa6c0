"""The ASGI application that is attacked: what the WSGI one answers, without its framework, and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tests.attacks.content import PIECE, PIECES, PLAIN, count, whole

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CALLS_AFTER_THE_END = 200_000
"""Times that `/deaf` asks for more after its client has gone."""

MUTE = 3.0
"""Seconds for which `/mute` keeps a WebSocket open."""


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers by path, and counts."""
    if scope["type"] == "lifespan":
        raise RuntimeError("this application has no lifespan")
    path = scope["path"]
    count(path)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await SOCKETS[path](receive, send)
    elif path == "/pieces":
        await send(start())
        for _ in range(PIECES):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/endless":
        await send(start())
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    elif path == "/deaf":
        await hear_nothing(receive)
    else:
        content = b"%d" % await read(receive) if path == "/read" else whole(path)
        await send(start((b"content-length", b"%d" % len(content))))
        await send({"type": "http.response.body", "body": content})


def start(*headers: tuple[bytes, bytes]) -> Message:
    """`http.response.start`."""
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", PLAIN.encode()), *headers]}


async def read(receive: Receive) -> int:
    """The length of a body, or of what came of it."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return size


async def hear_nothing(receive: Receive) -> None:
    """Asks for more although the client has gone, which is a mistake that applications make."""
    for _ in range(CALLS_AFTER_THE_END):
        await receive()


async def echo(receive: Receive, send: Send) -> None:
    """Sends back every message."""
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def sink(receive: Receive, send: Send) -> None:
    """Takes every message."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def talk(receive: Receive, send: Send) -> None:
    """Sends as long as the client takes it, and reads nothing."""
    while True:
        await send({"type": "websocket.send", "bytes": PIECE})


async def mute(receive: Receive, send: Send) -> None:
    """Reads nothing and says nothing, until its time is over."""
    await asyncio.sleep(MUTE)


SOCKETS = {"/echo": echo, "/sink": sink, "/talk": talk, "/mute": mute}
