"""No client and no application keeps the loop: others are answered, timers run, and a stop is complete."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import BINARY, CONTINUATION, PING, TEXT, Socket, frame
from tests.asgi.talking import GET, ASGIApp, Receive, Scope, Send, Watched, answer, body, start
from tests.support import RawClient

ROUNDS = 20
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate"


async def echo(receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def beside(flooding: Callable[[Scope, Receive, Send], object]) -> Watched:
    """An application that answers GET requests, and does this with others."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/e":
            await asyncio.sleep(0.001)
            await answer(send, b"ordinary")
        else:
            await flooding(scope, receive, send)  # type: ignore[misc]

    return Watched(app)


def count_answers(address: str) -> int:
    """The answers that an ordinary client gets to requests on connections of their own."""
    count = 0
    for _ in range(ROUNDS):
        with RawClient(address) as client:
            client.send(GET)
            count += client.receive().body == b"ordinary"
    return count


@contextlib.contextmanager
def flooded(client: RawClient, data: bytes) -> Iterator[None]:
    """Sends `data` again and again, and reads away what comes back, until the end of the block."""
    over = threading.Event()

    def write() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                client.socket.sendall(data)

    def read() -> None:
        with contextlib.suppress(OSError):
            while client.socket.recv(1 << 20):
                pass

    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)


def compressed(content: bytes) -> bytes:
    compress = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compress.compress(content) + compress.flush(zlib.Z_SYNC_FLUSH))[:-4]


FLOODS = {
    "small messages": frame(TEXT, b"small") * 20_000,
    "pings": frame(PING) * 40_000,
    "empty continuations": frame(TEXT, b"", final=False)
    + frame(CONTINUATION, final=False) * 40_000
    + frame(CONTINUATION),
    "large messages": frame(BINARY, random.Random(7).randbytes(1 << 20)),
    "messages that expand a thousandfold": frame(BINARY, compressed(bytes(16 << 20)), reserved=0x40) * 20,
}


async def sink(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("does", [echo, sink])
def test_websocket_that_floods_holds_up_nobody_else_and_no_stop(
    served: Serve, kind: str, does: Callable[[Receive, Send], object]
) -> None:
    async def flooding(scope: Scope, receive: Receive, send: Send) -> None:
        await does(receive, send)  # type: ignore[misc]

    with served(beside(flooding), graceful_timeout=1) as server, Socket(server.addresses[0], OFFER) as client:
        client.opened()
        with flooded(client, FLOODS[kind]):
            assert count_answers(server.addresses[0]) == ROUNDS
            server.server_close()
            assert server.stuck == ()


def test_body_of_one_byte_chunks_holds_up_nobody_else(served: Serve) -> None:
    async def upload(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    with (
        served(beside(upload), stream_chunked=True, graceful_timeout=1) as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with flooded(client, b"1\r\nx\r\n" * 40_000):
            assert count_answers(server.addresses[0]) == ROUNDS


def test_pipelined_requests_hold_up_nobody_else(served: Serve) -> None:
    async def quick(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"quick")

    with (
        served(beside(quick), graceful_timeout=1) as server,
        RawClient(server.addresses[0]) as client,
        flooded(client, b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n" * 5000),
    ):
        assert count_answers(server.addresses[0]) == ROUNDS


async def send_wrongly(send: Send) -> None:
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        await send({"type": "unheard.of"})


async def receives_behind_the_end(scope: Scope, receive: Receive, send: Send, over: threading.Event) -> None:
    await answer(send)
    while not over.is_set():
        await receive()


async def sends_nothing(scope: Scope, receive: Receive, send: Send, over: threading.Event) -> None:
    await send(start())
    while not over.is_set():
        await send(body(b"", True))


async def sends_to_a_reader(scope: Scope, receive: Receive, send: Send, over: threading.Event) -> None:
    await send(start())
    while not over.is_set():
        await send(body(b"x" * 1000, True))


async def sends_what_is_wrong(scope: Scope, receive: Receive, send: Send, over: threading.Event) -> None:
    while not over.is_set():
        await send_wrongly(send)


async def sends_in_a_task_of_its_own(scope: Scope, receive: Receive, send: Send, over: threading.Event) -> None:
    await asyncio.create_task(sends_nothing(scope, receive, send, over))


@pytest.mark.parametrize(
    "loops",
    [receives_behind_the_end, sends_nothing, sends_to_a_reader, sends_what_is_wrong, sends_in_a_task_of_its_own],
)
def test_application_that_awaits_in_a_loop_leaves_others_their_turn(
    served: Serve, loops: Callable[[Scope, Receive, Send, threading.Event], object]
) -> None:
    over = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await loops(scope, receive, send, over)  # type: ignore[misc]

    watched = beside(app)
    with served(watched, graceful_timeout=1) as server, RawClient(server.addresses[0]) as client:
        try:
            client.send(b"GET /loop HTTP/1.1\r\nHost: a\r\n\r\n")
            with flooded(client, b""):
                watched.wait_for_begin()
                assert count_answers(server.addresses[0]) == ROUNDS
        finally:
            over.set()
        watched.wait_for_end(1 + ROUNDS)


def test_context_variable_is_kept_across_turns_and_leaks_into_no_other_request(served: Serve) -> None:
    variable = contextvars.ContextVar("variable", default=b"none")
    seen: list[tuple[bytes, bytes]] = []

    def app() -> ASGIApp:
        async def upload(scope: Scope, receive: Receive, send: Send) -> None:
            before = variable.get()
            variable.set(scope["raw_path"])
            for _ in range(200):
                await send_wrongly(send)
            seen.append((before, variable.get()))
            await answer(send)

        return upload

    paths = [b"/%d" % number for number in range(10)]
    with served(app()) as server:
        clients = [RawClient(server.addresses[0]) for _ in paths]
        for client, path in zip(clients, paths, strict=True):
            client.send(b"GET %b HTTP/1.0\r\n\r\n" % path)
        for client in clients:
            assert client.receive().status == 200
            client.socket.close()
    assert sorted(seen) == [(b"none", path) for path in paths]


def test_send_cancelled_between_turns_sends_nothing_more(served: Serve) -> None:
    sent: list[int] = []

    async def streams(send: Send) -> None:
        while True:
            await send(body(b"x", True))
            sent.append(1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        task = asyncio.ensure_future(streams(send))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await send(body())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert len(client.receive().body) == len(sent)
