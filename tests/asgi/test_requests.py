"""What `receive` gives: the body as it arrives, and the client's departure (ASGI, "Request", "Disconnect")."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.talking import GET, Gate, Message, Receive, Scope, Send, Watched, answer, body, read, start
from tests.server.recording import CHUNKED, NEXT, chunks, eventually, everything, refused, reset
from tests.support import PATIENCE, Command, RawClient


def post(content: bytes, *lines: bytes) -> bytes:
    head = [b"POST /e HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(content), *lines, b"", b""]
    return b"\r\n".join(head) + content


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, await read(receive))


class Listening:
    """An application that keeps every message and answers with the body's length."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            self.messages.append(message)
            more = message.get("more_body", False)
        await answer(send, b"%d" % sum(len(message.get("body", b"")) for message in self.messages))


@pytest.mark.parametrize("content", [b"", b"hello", bytes(65_536)], ids=len)
def test_small_body_is_one_message(served: Serve, content: bytes) -> None:
    app = Listening()
    with served(app) as server, RawClient(server.addresses[0]) as client:
        request = post(content)
        client.send(*(request[at : at + 20_000] for at in range(0, len(request), 20_000)))
        assert client.receive().body == b"%d" % len(content)
    assert app.messages == [{"type": "http.request", "body": content, "more_body": False}]


def test_request_without_a_body_has_an_empty_one(served: Serve) -> None:
    app = Listening()
    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive().body == b"0"
    assert app.messages == [{"type": "http.request", "body": b"", "more_body": False}]


def test_chunked_body_is_handed_on_as_it_arrives(served: Serve) -> None:
    app = Listening()
    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED)
        for number, piece in enumerate((b"one", b"two")):
            client.send(chunks(piece, end=False))
            eventually(lambda: len(app.messages) > number, "a piece arrives")  # noqa: B023
        client.send(chunks())
        assert client.receive().body == b"6"
        client.send(CHUNKED + chunks(b"whole") + NEXT)
        assert client.receive().body == b"11"
        assert client.receive().body == b"11"
    bodies = [(message["body"], message["more_body"]) for message in app.messages]
    assert bodies == [(b"one", True), (b"two", True), (b"", False), (b"whole", False), (b"", False)]


@pytest.mark.parametrize("chunked", [False, True])
def test_large_body_arrives_whole_in_bounded_pieces(served: Serve, chunked: bool) -> None:
    content = random.Random(2).randbytes(3_000_000)
    app = Listening()
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED + chunks(*pieces) + NEXT if chunked else post(content) + NEXT)
        assert client.receive().body == b"3000000"
        # What followed on the wire is the next request.
        assert client.receive().status == 200
    assert b"".join(message["body"] for message in app.messages) == content
    assert max(len(message["body"]) for message in app.messages) <= 65_536


def test_body_is_read_no_faster_than_it_is_asked_for(served: Serve) -> None:
    gate = Gate()
    size = 100_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["more_body"]
        await gate.wait()
        await answer(send, b"enough")

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.socket.setblocking(False)
        sent, silent = 0, 0
        while silent < 200:
            try:
                sent += client.socket.send(bytes(1 << 20))
                silent = 0
            except BlockingIOError:
                silent += 1
                time.sleep(0.001)
        assert sent < size / 2
        client.socket.settimeout(PATIENCE)
        gate.open()
        assert client.receive().body == b"enough"


# RFC 9110 §10.1.1
def test_continue_is_sent_when_the_body_is_asked_for(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/refuse":
            await answer(send, b"no", 403)
            return
        await gate.wait()
        await echo(scope, receive, send)

    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n"
    with served(app) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(head % b"/take")
            client.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
            client.socket.settimeout(PATIENCE)
            gate.open()
            assert client.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(bytes(100_000))
            assert client.receive().body == bytes(100_000)
        with RawClient(server.addresses[0]) as client:
            client.send(head % b"/refuse")
            response = client.receive()
            assert (response.status, response.interim, response["Connection"]) == (403, [], "close")


# Departures.


async def until_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    await read(receive)
    message = await receive()
    assert message == {"type": "http.disconnect"}
    # Once it is so, it stays so.
    assert await receive() == message
    await send(start())


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def left(client: RawClient, how: str) -> None:
    if how == "reset":
        reset(client)
    else:
        client.socket.close()


@pytest.mark.parametrize("how", ["reset", "close"])
def test_departure_is_told_while_the_application_waits(
    served: Serve, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.INFO)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await until_disconnect(scope, receive, send)
        while True:
            # The first piece after a close may still reach the kernel.
            await send(body(b"x", True))
            await asyncio.sleep(0.001)

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
        left(client, how)
        watched.wait_for_end()
    (error,) = watched.raised
    assert isinstance(error, OSError)
    # The application's error follows from the client's departure.
    assert told(caplog) == [(logging.INFO, "the client left before its response began at GET /e")]


def test_half_close_is_no_departure_for_a_moment(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        leaves = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait([leaves], timeout=0.1)
        assert not done
        await answer(send, b"still here")

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        client.end()
        (response,) = client.responses("GET")
        assert response.body == b"still here"


def test_disconnect_is_told_at_once_after_the_response(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await answer(send, b"done")
        assert await waiting == {"type": "http.disconnect"}
        assert await receive() == {"type": "http.disconnect"}

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive().body == b"done"
        watched.wait_for_end()
    assert watched.raised == []


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("chunked", [False, True])
def test_body_that_breaks_off_is_a_disconnect(
    served: Serve, caplog: pytest.LogCaptureFixture, how: str, chunked: bool
) -> None:
    caplog.set_level(logging.INFO)

    class ClientDisconnect(Exception):
        """The name that frameworks give it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED + chunks(b"some", end=False) if chunked else post(bytes(100_000))[:-1])
        watched.wait_for_begin()
        left(client, how)
        watched.wait_for_end()
    assert [type(error) for error in watched.raised] == [ClientDisconnect]
    # A reset may be seen before the end of the body is.
    ((level, message),) = told(caplog)
    assert level == logging.INFO
    assert message in [
        f"the client left before its {what} at POST /e" for what in ("body was complete", "response began")
    ]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CHUNKED + b"4\r\nsome\r\nx\r\n", 400),
        (CHUNKED + b"7fffffff\r\nsome", 413),
        (CHUNKED + b"4\r\nsome\r\n", 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nsome", 408),
    ],
)
def test_body_that_is_wrong_or_late_is_refused_to_the_client(
    served: Serve, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
        assert message == {"type": "http.disconnect"}
        with pytest.raises(OSError, match="disconnected"):
            await send(start())

    watched = Watched(app)
    with served(watched, body_timeout=0.2, max_body_size=1 << 20) as server, RawClient(server.addresses[0]) as client:
        client.send(sent)
        refused(client, status)
        watched.wait_for_end()
    assert watched.raised == []
    assert caplog.records == []


def test_slow_body_is_refused_by_its_rate(served: Serve) -> None:
    watched = Watched(echo)
    with served(watched, body_timeout=0.3, body_min_rate=1000) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED)
        end = time.monotonic() + PATIENCE
        # Never silent for long, and much too slow on the whole.
        while watched.ended == 0:
            assert time.monotonic() < end
            client.send(chunks(b"x", end=False))
            time.sleep(0.02)
        assert client.receive().status == 408


def test_time_in_which_nobody_asks_for_the_body_is_not_the_clients(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.05)
        await asyncio.sleep(0.4)
        asked.set()
        await echo(scope, receive, send)

    asked = asyncio.Event()
    with served(app, body_timeout=0.3) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED)
        eventually(asked.is_set, "the application asks again")
        client.send(chunks(b"late"))
        assert client.receive().body == b"late"


def test_unread_body_does_not_become_a_request(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, scope["raw_path"])

    with served(app) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(post(b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n") + NEXT)
            assert [client.receive().body, client.receive().body] == [b"/e", b"/next"]
        with RawClient(server.addresses[0]) as client:
            client.send(b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n", bytes(900_000))
            assert b"Connection: close" in everything(client)


def test_requests_that_left_no_trace_are_let_go(served: Serve) -> None:
    tasks: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        if scope["path"] == "/count":
            tasks.append(len(asyncio.all_tasks()))
            await answer(send)
            return
        await receive()

    watched = Watched(app)
    with served(watched) as server:
        for number in range(20):
            with RawClient(server.addresses[0]) as client:
                client.send(GET)
                watched.wait_for_begin(number + 1)
                reset(client)
        eventually(lambda: watched.begun == watched.ended, "all calls end")
        with RawClient(server.addresses[0]) as client:
            client.send(b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().status == 200
    # The server's own, and this one.
    assert tasks[0] <= 2


def test_context_variables_of_one_request_are_not_those_of_another(served: Serve) -> None:
    import contextvars

    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nobody")

    def app(scope: Scope, receive: Receive, send: Send) -> Any:
        before = seen.get()
        seen.set(scope["path"])

        async def inner() -> None:
            await asyncio.sleep(0.001)
            assert seen.get() == scope["path"]
            assert asyncio.current_task() is not None
            await answer(send, before.encode())

        return inner()

    with served(app, interface="asgi") as server, RawClient(server.addresses[0]) as client:
        for path in (b"/a", b"/b", b"/c"):
            client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            assert client.receive().body == b"nobody"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_forked_child_that_comes_back_is_ended(tmp_path: Path, loop: str) -> None:
    (tmp_path / "site.py").write_text(
        "import asyncio, os, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n"
        "        raise ValueError\n"
        "    await asyncio.sleep(0)\n"
        "    if scope['path'] == '/fork' and (child := os.fork()):\n"
        "        os.waitpid(child, 0)\n"
        "    elif scope['path'] == '/fork':\n"
        "        return\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'parent'})\n"
    )
    with Command("./site.py", "--loop", loop, cwd=tmp_path) as command:
        for path in (b"/fork", b"/e", b"/fork"):
            with RawClient(command.address) as client:
                client.send(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
                (response,) = client.responses("GET")
                assert response.body == b"parent"
        assert command.stop() == 0
    assert "forked returned to the server and was ended" in "\n".join(command.stderr.seen)
