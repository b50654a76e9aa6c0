"""Context variables (PEP 567): each call of the application begins with those that stood when it was started, and
nothing that it sets reaches another.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import TEXT, Frame, Socket, frame
from tests.asgi.talking import ASGIApp, Gate, Receive, Scope, Send, Watched, answer, body, read, start
from tests.server.recording import eventually
from tests.support import Command, RawClient

USER: contextvars.ContextVar[Any] = contextvars.ContextVar("USER", default="nobody")


def get(query: object) -> bytes:
    """A request that makes the application set USER to `query`."""
    return f"GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def sign_in(scope: Scope) -> bytes:
    """Sets USER to the query; gives what it was before."""
    before = str(USER.get())
    USER.set(scope["query_string"].decode())
    return before.encode()


async def quick(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, sign_in(scope))


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    before = sign_in(scope)
    await read(receive)
    await answer(send, before)


async def sleeping(scope: Scope, receive: Receive, send: Send) -> None:
    before = sign_in(scope)
    await asyncio.sleep(0.001)
    await answer(send, before)


async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
    before = sign_in(scope)
    await send(start(200, (b"content-length", b"%d" % len(before))))
    for at in range(len(before)):
        await send(body(before[at : at + 1], True))
        await asyncio.sleep(0)
    await send(body())


async def delegating(scope: Scope, receive: Receive, send: Send) -> None:
    before = sign_in(scope)
    await asyncio.create_task(answer(send, before))


async def threaded(scope: Scope, receive: Receive, send: Send) -> None:
    before = await asyncio.get_running_loop().run_in_executor(None, sign_in, scope)
    await answer(send, before)


APPLICATIONS = pytest.mark.parametrize("app", [quick, reading, sleeping, streaming, delegating, threaded])


@APPLICATIONS
def test_pipelined_requests_see_nothing_of_each_other(served: Serve, app: ASGIApp) -> None:
    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"".join(get(number) for number in range(5)))
        assert [client.receive().body for _ in range(5)] == [b"nobody"] * 5


@APPLICATIONS
def test_clients_see_nothing_of_each_other(served: Serve, app: ASGIApp) -> None:
    with served(app) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(6)]
        for _ in range(5):
            for number, client in enumerate(clients):
                client.send(get(number))
            assert [client.receive().body for client in clients] == [b"nobody"] * 6
        for client in clients:
            client.socket.close()


def test_request_that_begins_while_another_waits_sees_nothing_of_it(served: Serve) -> None:
    # What the first one asks of the loop (a deadline for its body, say) must not bring its context along.
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        before = sign_in(scope)
        await read(receive)
        await answer(send, before + b" " + str(USER.get()).encode())

    watched = Watched(app)
    with served(watched, body_buffer=0, stream_bodies=True) as server, RawClient(server.addresses[0]) as slow:
        slow.send(b"POST /?slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")
        watched.wait_for_begin()
        with RawClient(server.addresses[0]) as quick_one:
            quick_one.send(get("quick"))
            assert quick_one.receive().body == b"nobody quick"
        slow.send(b"2")
        assert slow.receive().body == b"nobody slow"


def test_tasks_of_a_request_inherit_its_context(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def child() -> None:
            seen.append(USER.get())

        seen: list[str] = []
        sign_in(scope)
        asyncio.get_running_loop().call_soon(lambda: seen.append(USER.get()))
        await asyncio.gather(child(), asyncio.create_task(child()))
        await answer(send, " ".join(seen).encode())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        for _ in range(2):
            client.send(get("a"))
            assert client.receive().body == b"a a a"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@APPLICATIONS
def test_eager_tasks_of_the_applications_choice_see_nothing_of_each_other(served: Serve, app: ASGIApp) -> None:
    # Not asyncio's own factory, which does not take what uvloop passes.
    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        return asyncio.Task(coroutine, loop=loop, **{**options, "eager_start": True})

    async def eager(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            asyncio.get_running_loop().set_task_factory(factory)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app(scope, receive, send)

    with served(eager, lifespan="on") as server, RawClient(server.addresses[0]) as client:
        client.send(b"".join(get(number) for number in range(5)))
        assert [client.receive().body for _ in range(5)] == [b"nobody"] * 5


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    seen = sign_in(scope).decode()
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{seen} {USER.get()}"})
        seen = USER.get()
        USER.set(message["text"])


def test_websockets_see_nothing_of_each_other(served: Serve) -> None:
    with served(chat) as server:
        for _ in range(2):
            sockets = [Socket(server.addresses[0], path=b"/?%d" % number) for number in range(3)]
            for socket in sockets:
                socket.opened()
            for first, second in ((b"nobody %d", b"a"), (b"%d a", b"b")):
                for socket in sockets:
                    socket.send(frame(TEXT, second))
                for number, socket in enumerate(sockets):
                    expected = first % number
                    assert socket.read_frame() == Frame(TEXT, expected)
            for socket in sockets:
                socket.socket.close()


class Site:
    """An application whose lifespan sets USER in `phase`, and says in the end what it saw then."""

    def __init__(self, set_by: Callable[[], object], answers: bool = True) -> None:
        self.seen: list[str] = []
        self._set = set_by
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await quick(scope, receive, send)
        await receive()
        self._set()
        if not self._answers:
            raise RuntimeError("no lifespan here")
        await send({"type": "lifespan.startup.complete"})
        USER.set("after the start")
        await receive()
        self.seen.append(USER.get())
        await send({"type": "lifespan.shutdown.complete"})
        return None


def test_each_request_begins_with_what_the_lifespan_had_set(served: Serve) -> None:
    site = Site(lambda: USER.set("lifespan"))
    with served(site, lifespan="on") as server:
        for _ in range(2):
            with RawClient(server.addresses[0]) as client:
                client.send(get(1), get(2))
                assert [client.receive().body for _ in range(2)] == [b"lifespan"] * 2
    assert site.seen == ["after the start"]


def test_lifespan_that_fails_leaves_nothing_to_the_requests(served: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with (
        served(Site(lambda: USER.set("lifespan"), answers=False), lifespan="auto") as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(get(1), get(2))
        assert [client.receive().body for _ in range(2)] == [b"nobody"] * 2


@pytest.mark.parametrize("lifespan", ["on", "off"])
def test_application_begins_with_what_its_starter_has_set(served: Serve, lifespan: str) -> None:
    def starting() -> None:
        USER.set("starter")
        with served(Site(lambda: None), lifespan=lifespan) as server, RawClient(server.addresses[0]) as client:
            USER.set("later")
            client.send(get(1), get(2))
            assert [client.receive().body for _ in range(2)] == [b"starter"] * 2

    contextvars.copy_context().run(starting)


def test_application_begins_with_what_its_module_has_set(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text(
        "from contextvars import ContextVar\n"
        "USER = ContextVar('USER')\n"
        "USER.set('module')\n"
        "async def app(scope, receive, send):\n"
        "    before = USER.get().encode()\n"
        "    USER.set('request')\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': before})\n"
    )
    with (
        Command("site.py", "--lifespan", "off", cwd=tmp_path) as command,
        RawClient(command.address) as client,
    ):
        client.send(get(1), get(2))
        assert [client.receive().body for _ in range(2)] == [b"module"] * 2


class Value:
    """Something that a weak reference can be had to."""


@pytest.mark.parametrize("fails", [False, True])
def test_context_goes_with_its_request(served: Serve, fails: bool) -> None:
    kept: list[weakref.ref[Value]] = []

    def sign_in() -> None:
        # No variable of the application's: tracebacks keep those.
        value = Value()
        kept.append(weakref.ref(value))
        USER.set(value)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sign_in()
        # The deadline of the body outlives the request.
        await read(receive)
        if fails:
            raise LookupError
        await answer(send, b"x" * 100)

    watched = Watched(app)
    with served(watched, body_buffer=0, stream_bodies=True) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")
        watched.wait_for_begin()
        client.send(b"2")
        assert client.receive().status == (500 if fails else 200)
        watched.wait_for_end()

        def gone() -> bool:
            gc.collect()
            return kept[0]() is None

        eventually(gone, "the value is let go")


def test_application_that_waits_for_its_client_keeps_its_context(served: Serve) -> None:
    seen: list[str] = []
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sign_in(scope)
        await send(start())
        for _ in range(64):
            await send(body(b"x" * (1 << 18), True))
            seen.append(USER.get())
        gate.open()
        await send(body())

    with served(app) as server, RawClient(server.addresses[0]) as slow, RawClient(server.addresses[0]) as other:
        slow.send(get("slow"))
        eventually(lambda: len(seen) > 1, "it has sent something")
        other.send(get("other"))
        assert len(other.receive().body) == 64 << 18
        assert len(slow.receive().body) == 64 << 18
    assert {name: seen.count(name) for name in seen} == {"slow": 64, "other": 64}
