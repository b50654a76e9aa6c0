"""What an application keeps of a request leads to no later one: all that it is given is made for that request."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import Socket
from tests.asgi.talking import Message, Receive, Scope, Send, answer, body, read, start
from tests.support import RawClient

REQUESTS = 4


def post(number: int) -> bytes:
    return b"POST /%d HTTP/1.1\r\nHost: a\r\nX-Number: %d\r\nContent-Length: 1\r\n\r\n%d" % (number, number, number)


def parts(scope: Scope, receive: Receive, send: Send) -> list[Any]:
    """What an application is given, and what of that it may change."""
    return [receive, send, scope, scope["headers"], scope["extensions"], scope["asgi"], scope["state"]]


class Kept:
    """Keeps all parts of each call, of which each begins with a clean state."""

    def __init__(self) -> None:
        self.parts: list[list[Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["started"] = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert scope["state"] == {"started": True}
        assert all(extension == {} for extension in scope["extensions"].values())
        self.parts.append(parts(scope, receive, send))
        path = scope["path"]
        for part in (scope, scope["headers"], scope["extensions"], scope["asgi"], scope["state"]):
            # What is left in one is in no other.
            part.append((b"x-forged", b"1")) if isinstance(part, list) else part.update(started=path)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await answer(send, await read(receive))


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_everything_that_a_call_is_given_is_its_own(served: Serve, kind: str) -> None:
    app = Kept()
    with served(app, lifespan="on") as server:
        if kind == "http":
            with RawClient(server.addresses[0]) as client:
                for number in range(REQUESTS):
                    client.send(post(number))
                    assert client.receive("POST").body == b"%d" % number
        else:
            for _ in range(REQUESTS):
                with Socket(server.addresses[0]) as socket:
                    assert socket.receive().status == 403
    assert len(app.parts) == REQUESTS
    assert len({id(part) for parts in app.parts for part in parts}) == REQUESTS * len(app.parts[0])
    for number, (_, _, scope, headers, *_) in enumerate(app.parts):
        # As it was, and what its own call wrote: nothing of those that followed.
        assert headers.count((b"x-forged", b"1")) == 1
        if kind == "http":
            assert (scope["path"], dict(headers)[b"x-number"]) == (f"/{number}", b"%d" % number)


def test_receive_and_send_have_no_weak_references_and_no_attributes(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for thing in (receive, send, receive(), send(start())):
            with pytest.raises(TypeError):
                weakref.ref(thing)
            with pytest.raises(AttributeError):
                thing.user = "secret"  # type: ignore[union-attr]
        await answer(send, b"ok")

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(post(0))
        assert client.receive("POST").body == b"ok"


def of_earlier(receive: Receive, send: Send) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Ways to use what an earlier request was given."""
    asked, head, content = receive(), send(start(418)), send(body(b"forged"))
    return {
        "receive": receive,
        "start": lambda: send(start(418)),
        "body": lambda: send(body(b"forged")),
        "hint": lambda: send({"type": "http.response.early_hint", "links": [b"</forged>"]}),
        "receive that was begun": lambda: asked,
        "start that was begun": lambda: head,
        "body that was begun": lambda: content,
    }


WAYS = ["receive", "start", "body", "hint", "receive that was begun", "start that was begun", "body that was begun"]


@pytest.mark.parametrize("keeps", [True, False], ids=["connection", "other"])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_given_to_one_request_says_and_hears_nothing_of_another(served: Serve, way: str, keeps: bool) -> None:
    earlier: list[dict[str, Callable[[], Awaitable[Any]]]] = []
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for ways in earlier:
            # A message to a response that is over may be an error, and is none of this request's.
            found = (await asyncio.gather(ways[way](), return_exceptions=True))[0]
            if isinstance(found, dict):
                heard.append(found)
        mine = of_earlier(receive, send)
        await answer(send, await read(receive))
        earlier[:] = [mine]

    with served(app) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(1 if keeps else REQUESTS)]
        for number in range(REQUESTS):
            client = clients[number % len(clients)]
            client.send(post(number))
            response = client.receive("POST")
            assert (response.status, response.body) == (200, b"%d" % number)
        for client in clients:
            client.socket.close()
        # Coroutines that were never awaited are let go without a warning.
        earlier.clear()
        gc.collect()
    assert {message["type"] for message in heard} == ({"http.disconnect"} if "receive" in way else set())


def test_objects_that_the_collector_lists_between_requests_are_of_no_other(served: Serve) -> None:
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(id(receive))
        await answer(send, scope["path"].encode())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        kept: list[Any] = []
        for number in range(REQUESTS):
            client.send(post(number))
            assert client.receive("POST").body == b"/%d" % number
            if number == 1:
                names = {"ASGICall", "ASGIReceive", "ASGISend", "Running", "Awaitable"}
                kept = [thing for thing in gc.get_objects() if type(thing).__name__ in names]
        assert not {id(thing) for thing in kept} & set(seen[2:])
