"""The server's limits hold for ASGI applications as they do for WSGI ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.asgi.conftest import Serve
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
