"""Waits that come to nothing: `receive()` and `send()` that are cancelled, closed or forgotten leave no trace."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import TEXT, Frame, Socket, frame
from tests.asgi.talking import GET, Receive, Scope, Send, Watched, answer, body, read, start
from tests.server.recording import eventually
from tests.support import PATIENCE, RawClient

ROUNDS = 200
# Futures that come and go by themselves meanwhile.
SLACK = 5
Ask = Callable[[], Any]


async def timed_out(ask: Ask) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(), 0.0005)


async def cancelled(ask: Ask) -> None:
    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_among_others(ask: Ask) -> None:
    tasks = [asyncio.create_task(ask()) for _ in range(2)]
    outer = asyncio.create_task(asyncio.wait(tasks))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    outer.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.wait([outer, *tasks])


async def cancelled_at_once(ask: Ask) -> None:
    task = asyncio.create_task(ask())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def closed(ask: Ask) -> None:
    awaitable = ask()
    awaitable.send(None)
    awaitable.close()


async def thrown_into(ask: Ask) -> None:
    awaitable = ask()
    awaitable.send(None)
    with pytest.raises(LookupError):
        awaitable.throw(LookupError())


async def future_cancelled(ask: Ask) -> None:
    awaitable = ask()
    awaitable.send(None).cancel()
    with pytest.raises(asyncio.CancelledError):
        awaitable.send(None)
    # It is over, as any coroutine that has raised.
    with pytest.raises(RuntimeError):
        awaitable.send(None)


async def dropped(ask: Ask) -> None:
    ask().send(None)


async def never_awaited(ask: Ask) -> None:
    ask()


WAYS = pytest.mark.parametrize(
    "give_up",
    [
        timed_out,
        cancelled,
        cancelled_among_others,
        cancelled_at_once,
        closed,
        thrown_into,
        future_cancelled,
        dropped,
        never_awaited,
    ],
)
GiveUp = Callable[[Ask], Awaitable[None]]


def futures() -> int:
    """How many futures there are."""
    gc.collect()
    return sum(type(thing) is asyncio.Future for thing in gc.get_objects())


async def left(give_up: GiveUp, ask: Ask) -> int:
    """How many futures waits leave that are given up again and again."""
    await give_up(ask)
    before = futures()
    for _ in range(ROUNDS):
        await give_up(ask)
    return futures() - before


@WAYS
def test_receive_that_is_given_up_leaves_nothing(served: Serve, give_up: GiveUp) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer(send, str(await left(give_up, receive)).encode())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert abs(int(client.receive().body)) <= SLACK


@WAYS
def test_receive_of_a_websocket_that_is_given_up_leaves_nothing_and_loses_nothing(
    served: Serve, give_up: GiveUp
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        count = await left(give_up, receive)
        await send({"type": "websocket.send", "text": str(count)})
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    with served(app) as server, Socket(server.addresses[0]) as client:
        client.opened()
        assert abs(int(client.read_frame().payload)) <= SLACK
        client.send(frame(TEXT, b"hello"))
        assert client.read_frame() == Frame(TEXT, b"hello")


@WAYS
def test_send_that_is_given_up_leaves_nothing(served: Serve, give_up: GiveUp) -> None:
    found: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        # More than the client, which reads nothing for now, and the kernel take.
        first = asyncio.ensure_future(send(body(b"x" * (32 << 20), True)))
        await asyncio.sleep(0)
        assert not first.done()
        found.append(await left(give_up, lambda: send(body(b"", True))))
        await first
        await send(body())

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        eventually(lambda: bool(found or watched.raised), "the waits are given up")
        assert watched.raised == []
        assert abs(found[0]) <= SLACK
        # The others that wait are woken as ever.
        assert len(client.receive().body) == 32 << 20


def test_waits_that_are_given_up_take_no_message_from_one_that_goes_on(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        others = [asyncio.ensure_future(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        others[0].cancel()
        others[2].cancel()
        await send({"type": "websocket.send", "text": "ready"})
        await asyncio.wait(others)
        await send({"type": "websocket.send", "text": others[1].result()["text"]})

    with served(app) as server, Socket(server.addresses[0]) as client:
        client.opened()
        assert client.read_frame() == Frame(TEXT, b"ready")
        client.send(frame(TEXT, b"hello"))
        assert client.read_frame() == Frame(TEXT, b"hello")


def test_is_disconnected_can_be_asked_as_often_as_one_likes(served: Serve) -> None:
    starlette = pytest.importorskip("starlette.requests", reason="starlette is not installed")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = starlette.Request(scope, receive)
        await request.body()

        async def ask() -> None:
            assert not await request.is_disconnected()

        await answer(send, str(await left(lambda asked: asked(), ask)).encode())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert abs(int(client.receive().body)) <= SLACK


def test_upload_goes_on_behind_a_receive_that_was_given_up(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        gave_up.set()
        await answer(send, await read(receive))

    gave_up = threading.Event()
    with served(app, body_buffer=0, stream_bodies=True) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        assert gave_up.wait(PATIENCE)
        client.send(b"hello")
        assert client.receive().body == b"hello"
