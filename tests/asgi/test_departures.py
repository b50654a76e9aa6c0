"""A client that leaves early: what the application is told, and what the logs say of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import handshake
from tests.asgi.talking import GET, ASGIApp, Receive, Scope, Send, Watched, answer, body, read, start
from tests.server.recording import CHUNKED, chunks, reset
from tests.support import RawClient

ACCEPT = {"type": "websocket.accept"}
FORMAT = "%>s %X %B %U"
WAYS = ["reset", "close", "half-close"]
AT_ONCE = "half-close at once"


def leave(client: RawClient, how: str) -> None:
    if how == "reset":
        reset(client)
    elif how == "close":
        client.socket.close()
    else:
        client.end()


def departed(served: Serve, folder: Path, app: ASGIApp, sent: bytes, how: str) -> str:
    """The access log's line about a client that sends this and leaves when the application has begun, or at once."""
    watched, log = Watched(app), folder / "access"
    with served(watched, access_log=log, access_log_format=FORMAT) as server, RawClient(server.addresses[0]) as client:
        client.send(sent)
        if how != AT_ONCE:
            watched.wait_for_begin()
        leave(client, how)
        watched.wait_for_end()
    return log.read_text()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


async def disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    await disconnect(receive)


async def returns_behind_a_start(scope: Scope, receive: Receive, send: Send) -> None:
    await disconnect(receive)
    with pytest.raises(OSError, match="disconnected"):
        await send(start())


async def sends(scope: Scope, receive: Receive, send: Send) -> None:
    await disconnect(receive)
    await answer(send, b"too late")


async def sends_in_a_group(scope: Scope, receive: Receive, send: Send) -> None:
    async with anyio.create_task_group() as group:
        await disconnect(receive)

        async def begin() -> None:
            await send(start())

        group.start_soon(begin)
        group.start_soon(begin)


async def raises_in_its_own_words(scope: Scope, receive: Receive, send: Send) -> None:
    class ClientDisconnect(Exception):
        pass

    await disconnect(receive)
    raise ClientDisconnect


async def is_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    await disconnect(receive)
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def is_cancelled_by_its_listener(scope: Scope, receive: Receive, send: Send) -> None:
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            await disconnect(receive)
            group.cancel_scope.cancel()

        group.start_soon(listen)
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "app",
    [
        returns,
        returns_behind_a_start,
        sends,
        sends_in_a_group,
        raises_in_its_own_words,
        is_cancelled,
        is_cancelled_by_its_listener,
    ],
)
@pytest.mark.parametrize("how", WAYS)
def test_request_whose_client_leaves_unanswered_is_logged_as_that_and_as_no_error(
    served: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path, app: ASGIApp, how: str
) -> None:
    caplog.set_level(logging.INFO)
    assert departed(served, tmp_path, app, GET, how) == "499 X 0 /e\n"
    assert told(caplog) == [(logging.INFO, "the client left before its response began at GET /e")]


def test_error_that_has_nothing_to_do_with_the_departure_is_still_told(
    served: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await disconnect(receive)
        raise ValueError("while it tidied up")

    watched = Watched(app)
    log = tmp_path / "access"
    with served(watched, access_log=log, access_log_format=FORMAT) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
        reset(client)
        watched.wait_for_end()
    assert log.read_text() == "499 X 0 /e\n"
    assert (logging.ERROR, "the application failed at GET /e") in told(caplog)


def test_application_that_was_not_told_of_a_half_close_and_gives_no_response_is_an_error(
    served: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)

    log = tmp_path / "access"
    with served(app, access_log=log, access_log_format=FORMAT) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        client.end()
        (response,) = client.responses("GET")
        assert response.status == 500
    assert log.read_text() == "500 + 23 /e\n"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "sent",
    [CHUNKED + chunks(b"some", end=False), b"POST /chunked HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nsome"],
)
def test_upload_that_is_given_up_is_logged_as_that_and_as_no_error(
    served: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path, sent: bytes, how: str
) -> None:
    caplog.set_level(logging.INFO)
    assert departed(served, tmp_path, returns, sent, how).startswith("499 X 0 ")
    ((level, message),) = told(caplog)
    assert (level, message[:27]) == (logging.INFO, "the client left before its ")


async def streams(receive: Receive, send: Send) -> None:
    await disconnect(receive)


async def goes_on(receive: Receive, send: Send) -> None:
    while True:
        await send(body(b"x" * 10_000, True))
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("then", [streams, goes_on])
def test_response_whose_client_leaves_keeps_its_status_and_is_incomplete(
    served: Serve,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    then: Callable[[Receive, Send], Awaitable[None]],
    how: str,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        await send(start(206))
        await send(body(b"x", True))
        await then(receive, send)

    caplog.set_level(logging.INFO)
    watched = Watched(app)
    log = tmp_path / "access"
    with (
        served(watched, access_log=log, access_log_format="%>s %X") as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(GET)
        assert client.receive_head().status == 206
        leave(client, how)
        watched.wait_for_end()
    assert log.read_text() == "206 X\n"
    assert told(caplog) == [(logging.INFO, "the client left before its response was complete at GET /e")]


# WebSockets.


async def never_accepts(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def accepts_too_late(scope: Scope, receive: Receive, send: Send) -> None:
    await never_accepts(scope, receive, send)
    await send(ACCEPT)


async def closes_too_late(scope: Scope, receive: Receive, send: Send) -> None:
    await never_accepts(scope, receive, send)
    await send({"type": "websocket.close"})


@pytest.mark.parametrize("app", [never_accepts, accepts_too_late, closes_too_late])
@pytest.mark.parametrize("how", [*WAYS, AT_ONCE])
def test_handshake_whose_client_leaves_unanswered_is_logged_as_that_and_as_no_error(
    served: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path, app: ASGIApp, how: str
) -> None:
    caplog.set_level(logging.INFO)
    assert departed(served, tmp_path, app, handshake(), how) == "499 X 0 /\n"
    ((level, message),) = told(caplog)
    assert (level, message[:55]) == (logging.INFO, "the client left before its WebSocket was accepted at GE")


# Streams that have nothing to send.


@pytest.mark.parametrize("how", ["reset", "close"])
def test_disconnect_is_told_soon_to_a_stream_that_neither_sends_nor_asked_before(served: Serve, how: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-type", b"text/event-stream")))
        began = asyncio.get_running_loop().time()
        listening = asyncio.ensure_future(disconnect(receive))
        await listening
        lasted.append(asyncio.get_running_loop().time() - began)
        with pytest.raises(OSError, match="disconnected"):
            await send(body(b"x", True))

    lasted: list[float] = []
    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive_head().status == 200
        leave(client, how)
        watched.wait_for_end()
    assert watched.raised == []
    assert lasted[0] < 10
