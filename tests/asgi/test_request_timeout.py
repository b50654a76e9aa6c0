"""Requests of ASGI applications that take longer than request_timeout."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.frames import CLOSE, TEXT, Socket, frame
from tests.asgi.talking import Receive, Scope, Send, answer, body, read, start
from tests.server.recording import descriptors, eventually, get
from tests.support import ProtocolError, RawClient, serve

TIMEOUT = 0.2
INTERRUPT: dict[str, Any] = {"request_timeout": TIMEOUT, "request_timeout_action": "interrupt"}


def records(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


def pause(seconds: float) -> None:
    """Lets time pass, where time is the subject."""
    threading.Event().wait(seconds)


class Site:
    """Waits in `/await` and blocks its loop in `/block`, until it is released; `/catch` catches its cancellation."""

    def __init__(self) -> None:
        self.is_released = False
        self.cancelled: list[str] = []

    async def hold(self) -> None:
        while not self.is_released:
            await asyncio.sleep(0.01)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            if path == "/await":
                await self.hold()
            elif path == "/block":
                while not self.is_released:
                    time.sleep(0.01)
                await asyncio.sleep(0)
            elif path == "/begun":
                await send(start())
                await send(body(b"first", more=True))
                await self.hold()
                await send(body(b"second"))
                return
            while path == "/catch" and not self.is_released:
                with contextlib.suppress(asyncio.CancelledError):
                    await self.hold()
        except asyncio.CancelledError:
            self.cancelled.append(path)
            raise
        await answer(send, path.encode())


def test_interrupt_task_is_cancelled_and_its_client_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsgi.server")
    site = Site()
    with serve(site, lifespan="off", **INTERRUPT) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/await?secret=1"))
        assert client.receive().status == 504
        client.expect_end()
        eventually(lambda: bool(records(caplog, "GET /await has ended")), "the end")
        eventually(lambda: bool(records(caplog, "GET /await has no response")), "the record")
    assert site.cancelled == ["/await"]
    (record,) = records(caplog, "GET /await has no response")
    assert record.getMessage().endswith(
        "; its client was answered 504; its task is cancelled as soon as the event loop is free"
    )
    assert record.stack_info is not None
    own, _, others = record.stack_info.partition("\nwsgi-loop")
    assert "task of GET /await, waiting:" in own
    assert "await self.hold()" in own, "the chain of coroutines"
    assert "await asyncio.sleep(0.01)" in own
    assert others, "and the loop's thread"
    assert len(caplog.records) == 2
    assert not records(caplog, "secret")


def test_interrupt_loop_that_is_blocked_client_is_answered_at_once_and_the_stack_is_that_of_its_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "wsgi.server")
    site = Site()
    with serve(site, lifespan="off", **INTERRUPT) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/block"))
        assert client.receive().status == 504
        client.expect_end()
        assert not site.is_released, "the loop is still blocked"
        eventually(lambda: bool(records(caplog, "GET /block goes on although it was ended")), "the second record")
        assert site.cancelled == []
        site.is_released = True
        eventually(lambda: site.cancelled == ["/block"], "the cancellation")
        with RawClient(server.addresses[0]) as other:
            other.send(get("/"))
            assert other.receive().status == 200
    (first,) = records(caplog, "GET /block has no response")
    assert first.stack_info is not None
    assert first.stack_info.startswith("the event loop, GET /block:\n")
    assert "time.sleep(0.01)" in first.stack_info
    assert "; its task has caught its cancellation, or blocks the event loop" in (
        records(caplog, "although it was ended")[0].getMessage()
    )


def test_interrupt_response_that_has_begun_is_cut_also_while_the_loop_is_blocked() -> None:
    site = Site()
    with (
        serve(site, lifespan="off", **INTERRUPT) as server,
        RawClient(server.addresses[0]) as client,
        RawClient(server.addresses[0]) as other,
    ):
        client.send(get("/begun"))
        head = client.receive_head()
        assert head.status == 200
        other.send(get("/block"))
        with pytest.raises(ProtocolError, match="ended"):
            client._body(head, "GET")
        assert other.receive().status == 504
        site.is_released = True


def test_interrupt_cancellation_that_is_caught_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with serve(site, lifespan="off", **INTERRUPT) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/catch"))
        assert client.receive().status == 504
        eventually(lambda: len(records(caplog, "GET /catch goes on although it was ended")) >= 2, "more records")
        site.is_released = True


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="the test counts descriptors")
def test_run_with_a_request_that_was_cut_leaves_no_descriptors_behind() -> None:
    counts = []
    for _ in range(4):
        site = Site()
        with serve(site, lifespan="off", **INTERRUPT) as server, RawClient(server.addresses[0]) as client:
            client.send(get("/catch"))
            assert client.receive().status == 504
            site.is_released = True
        gc.collect()
        counts.append(descriptors())
    assert len(set(counts[1:])) == 1, counts


def test_log_task_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with serve(site, lifespan="off", request_timeout=TIMEOUT) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/await"))
        eventually(lambda: bool(records(caplog, "GET /await has no response")), "the record")
        site.is_released = True
        assert client.receive().status == 200
    assert site.cancelled == []
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_interrupt_costs_no_other_request() -> None:
    site = Site()
    with serve(site, lifespan="off", **INTERRUPT) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(get("/await" if number % 5 == 0 else "/other"))
        statuses = [client.receive().status for client in clients]
    assert statuses == [504, 200, 200, 200, 200] * 4


def test_websockets_and_event_streams_have_no_limit(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            message = await receive()
            await send({"type": "websocket.send", "text": message["text"]})
            return
        await send(start(200, (b"content-type", b"text/event-stream")))
        await asyncio.sleep(4 * TIMEOUT)
        await send(body(b"data: 1\n\n"))

    with (
        serve(app, lifespan="off", **INTERRUPT) as server,
        RawClient(server.addresses[0]) as client,
        Socket(server.addresses[0]) as websocket,
    ):
        websocket.opened()
        client.send(get("/"))
        pause(4 * TIMEOUT)
        websocket.send(frame(TEXT, b"hello"))
        assert websocket.read_frame().payload == b"hello"
        assert websocket.read_frame().opcode == CLOSE
        assert client.receive().body == b"data: 1\n\n"
    assert not caplog.records


def test_time_in_which_the_client_is_waited_for_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await read(receive))

    with serve(app, lifespan="off", **INTERRUPT) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        pause(4 * TIMEOUT)
        client.send(b"cd")
        assert client.receive().body == b"abcd"
    assert not caplog.records


def test_what_runs_behind_a_response_has_no_limit(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        await asyncio.sleep(4 * TIMEOUT)
        done.set()

    with serve(app, lifespan="off", **INTERRUPT) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.receive().status == 200
        assert done.wait(20)
    assert not caplog.records
