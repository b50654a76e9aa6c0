"""The server's limits hold for ASGI applications as they do for WSGI ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import select
from pathlib import Path

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import TEXT, Frame, Socket, frame, handshake
from tests.asgi.talking import GET, Gate, Receive, Scope, Send, Watched, answer, body, start
from tests.server.recording import eventually, refused
from tests.support import RawClient


def test_request_beyond_those_that_wait_for_an_answer_is_declined(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await answer(send, b"answered")

    watched = Watched(app)
    with served(watched, queue_limit=2) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(2)]
        for client in clients:
            client.send(GET)
        watched.wait_for_begin(2)
        with RawClient(server.addresses[0]) as late:
            late.send(GET)
            response = late.receive()
            assert (response.status, response["Retry-After"], response["Connection"]) == (503, "1", "close")
        gate.open()
        for client in clients:
            assert client.receive().body == b"answered"
            # The place is free again.
            client.send(GET)
            assert client.receive().body == b"answered"
            client.socket.close()
    assert watched.begun == 4


def test_response_that_has_begun_keeps_no_place(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/stream":
            await answer(send, b"answered")
            return
        await send(start())
        await send(body(b"x", True))
        await gate.wait()
        await send(body())

    watched = Watched(app)
    with served(watched, queue_limit=1) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            watched.wait_for_begin(number + 1)
            client.socket.recv(1)
        with RawClient(server.addresses[0]) as other:
            other.send(GET)
            assert other.receive().body == b"answered"
        gate.open()
        for client in clients:
            client.socket.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000000\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n", 408),
    ],
)
def test_refused_request_never_reaches_the_application(served: Serve, sent: bytes, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)

    watched = Watched(app)
    with served(watched, header_timeout=0.2) as server, RawClient(server.addresses[0]) as client:
        client.send(sent)
        refused(client, status)
    assert watched.begun == 0


def test_idle_connection_closes_after_its_time(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)

    with served(app, keep_alive=0.1) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive().status == 200
        client.expect_end()


def test_idle_connection_makes_room_for_a_new_one(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)

    with served(app, max_connections=2) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(4)]
        for client in clients:
            client.send(GET)
            assert client.receive().status == 200
        for client in clients:
            client.socket.close()


POST = b"POST /read HTTP/1.1\r\nHost: a\r\n"

# Whatever has the application wait for its client. The first part is sent at once, the second again and again.
HOLDING: dict[str, tuple[bytes, bytes]] = {
    "body": (POST + b"Content-Length: 100000\r\n\r\n", b""),
    "trickled": (POST + b"Content-Length: 900000\r\n\r\n" + b"x" * 200_000, b"x"),
    "chunked": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "expectation": (POST + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", b""),
    "response": (b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    "websocket": (handshake(b"/flood"), b""),
    "message": (handshake() + frame(TEXT, b"x", final=False), b""),
}


async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads or writes as long as its client is there."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while scope["path"] == "/flood":
            await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
        assert (await receive())["type"] == "websocket.disconnect"
    elif scope["path"] == "/read":
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        assert message["type"] == "http.disconnect"
    elif scope["path"] == "/flood":
        await send(start())
        while True:
            await send(body(bytes(1 << 20), True))
    elif scope["path"] == "/poll":
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        await answer(send, b"answered")


@pytest.mark.parametrize("name", HOLDING)
def test_clients_that_the_application_waits_for_make_room_for_a_newcomer(
    served: Serve, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, again = HOLDING[name]
    watched, log = Watched(waiting), tmp_path / "access"
    options = {"access_log": log, "access_log_format": "%s %X %{reason}x", "max_connections": 3}
    with served(watched, **options) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(2)]
        for client in slow:
            client.send(first)
        # Another owes nothing: WebSockets cannot take the last place.
        stack.enter_context(RawClient(server.addresses[0])).send(b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n")
        watched.wait_for_begin(3)
        newcomer = stack.enter_context(RawClient(server.addresses[0]))
        newcomer.send(GET)
        # Less than the slack passes between two bytes.
        for _ in range(200):
            if select.select([newcomer.socket], [], [], 0.1)[0]:
                break
            for client in slow:
                client.send(again)
        assert newcomer.receive().body == b"answered"
        # One has made room, and its application knows.
        watched.wait_for_end(2)
        assert watched.begun == 4
    line = log.read_text().splitlines()[0]
    assert re.fullmatch(r"(499|200|101) X closed for a new client, as no connection was free", line), line
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    # Nobody could make room at first.
    messages = [message for message in messages if not message.startswith("cannot accept connections: all 3 are busy")]
    assert messages == [
        "1 slow connection closed to make room for new ones; raise max_connections, or the limit of open files"
    ]


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts WebSockets, but for one path, and waits for their end."""
    if scope["type"] == "http":
        await answer(send, b"answered")
        return
    await receive()
    if scope["path"] == "/deny":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    assert (await receive())["type"] == "websocket.disconnect"


def test_websockets_leave_an_eighth_of_the_connections_to_others(
    served: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched, log = Watched(silent), tmp_path / "access"
    options = {"access_log": log, "access_log_format": "%s %X %{reason}x", "max_connections": 16}
    with served(watched, **options) as server, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(Socket(server.addresses[0])) for _ in range(14)]
        for client in sockets:
            assert client.opened().status == 101
        for _ in range(3):
            with RawClient(server.addresses[0]) as ordinary:
                ordinary.send(GET)
                assert ordinary.receive().body == b"answered"
            with RawClient(server.addresses[0]) as late:
                late.send(handshake())
                response = late.receive()
                assert (response.status, response["Retry-After"], response["Connection"]) == (503, "1", "close")
        # One that ends makes room for one more, and one that is turned down takes none.
        sockets.pop().socket.close()
        watched.wait_for_end(4)
        with Socket(server.addresses[0], path=b"/deny") as denied:
            assert denied.receive().status == 403
        with Socket(server.addresses[0]) as client:
            assert client.opened().status == 101
    lines = log.read_text().splitlines()
    assert lines.count("503 + WebSockets hold seven eighths of max_connections") == 3
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert messages == [
        "1 request refused with 503: WebSockets hold seven eighths of max_connections",
        "2 requests refused with 503: WebSockets hold seven eighths of max_connections",
    ]


def test_only_connection_may_be_a_websocket(served: Serve) -> None:
    with served(silent, max_connections=1) as server:
        for _ in range(2):
            with Socket(server.addresses[0]) as client:
                assert client.opened().status == 101


def test_client_that_owes_nothing_keeps_its_place(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
        elif scope["path"] == "/poll":
            # It has its whole request, and listens for the client's leaving.
            assert (await receive())["more_body"] is False
            listening = asyncio.ensure_future(receive())
            await gate.wait()
            await answer(send, b"polled")
            assert (await listening)["type"] == "http.disconnect"
        else:
            await waiting(scope, receive, send)

    watched = Watched(app)
    with (
        served(watched, max_connections=3) as server,
        Socket(server.addresses[0]) as idle,
        RawClient(server.addresses[0]) as polling,
        RawClient(server.addresses[0]) as slow,
    ):
        idle.opened()
        polling.send(b"POST /poll HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        watched.wait_for_begin(2)
        slow.send(POST + b"Content-Length: 100000\r\n\r\n")
        watched.wait_for_begin(3)
        with RawClient(server.addresses[0]) as newcomer:
            newcomer.send(GET)
            assert newcomer.receive().body == b"answered"
        gate.open()
        assert polling.receive().body == b"polled"
        idle.send(frame(TEXT, b"still here"))
        assert idle.read_frame() == Frame(TEXT, b"still here")


def test_access_log_has_a_line_for_each_request(served: Serve, tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/raise":
            raise ValueError
        await answer(send, b"hello")

    log = tmp_path / "access"
    with served(app, access_log=log) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.receive().body == b"hello"
        client.send(b"GET /raise HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.receive().status == 500
    lines = log.read_text().splitlines()
    assert [re.sub(r"\[.*?\]", "[]", line) for line in lines] == [
        '127.0.0.1 - - [] "GET /a HTTP/1.1" 200 5 "-" "-"',
        '127.0.0.1 - - [] "GET /raise HTTP/1.1" 500 23 "-" "-"',
    ]


def test_many_connections_at_once_are_all_answered(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, scope["raw_path"])

    watched = Watched(app)
    with served(watched) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(200)]
        for turn in range(3):
            for number, client in enumerate(clients):
                client.send(b"GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (turn, number))
            for number, client in enumerate(clients):
                assert client.receive().body == b"/%d/%d" % (turn, number)
        for client in clients:
            client.socket.close()
    eventually(lambda: watched.ended == 600, "all calls end")
