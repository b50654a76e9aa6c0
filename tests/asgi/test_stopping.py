"""A stop finishes what runs, within its time; what is left is cancelled. Ctrl-C and SIGTERM ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import CLOSE, TEXT, Socket, closing, frame
from tests.asgi.talking import GET, Gate, Receive, Scope, Send, Watched, answer, body, start
from tests.server.recording import eventually, is_refused
from tests.support import PATIENCE, Command, RawClient, serve
from wsgi.server import WSGIServer


def stopping(server: WSGIServer) -> threading.Thread:
    thread = threading.Thread(target=server.server_close)
    thread.start()
    return thread


def test_running_request_is_finished_and_idle_connection_closed(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/e":
            await gate.wait()
        await answer(send, b"finished")

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as idle, RawClient(server.addresses[0]) as client:
        idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.receive().body == b"finished"
        client.send(GET)
        watched.wait_for_begin(2)
        thread = stopping(server)
        idle.expect_end()
        gate.open()
        (response,) = client.responses("GET")
        assert (response.body, response["Connection"]) == (b"finished", "close")
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_background_work_is_finished(served: Serve, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"done")
        await gate.wait()

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive().body == b"done"
        thread = stopping(server)
        client.expect_end()
        assert watched.ended == 0
        gate.open()
        thread.join(PATIENCE)
    assert (watched.ended, watched.cancelled, caplog.records) == (1, 0, [])


@pytest.mark.parametrize("answered", [False, True])
def test_what_takes_too_long_is_cancelled(served: Serve, caplog: pytest.LogCaptureFixture, answered: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await answer(send, b"done")
        await asyncio.Event().wait()

    watched = Watched(app)
    with served(watched, graceful_timeout=0.2) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
        server.server_close()
        if not answered:
            (response,) = client.responses("GET")
            assert response.status == 503
    assert (watched.ended, watched.cancelled) == (1, 1)
    told = [] if answered else ["stopped with 1 connection unfinished after the graceful timeout: GET /e"]
    assert [record.getMessage() for record in caplog.records] == told


def test_cancelled_application_has_a_moment_to_tidy_up(served: Serve) -> None:
    tidied = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            tidied.append(True)

    watched = Watched(app)
    with served(watched, graceful_timeout=0) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
    assert tidied == [True]


def test_application_that_does_not_let_itself_be_cancelled_is_given_up(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if scope["path"] == "/once":
                    raise

    watched = Watched(app)
    with served(watched, graceful_timeout=0) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
        server.server_close()
        assert server.stuck == ("wsgi-loop",)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert told[0].startswith("gave up waiting for 1 request that cannot be cancelled: wait (")
    caplog.clear()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_run_leaves_no_descriptors_behind(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/e":
            await asyncio.Event().wait()
        await answer(send, b"finished")

    def run() -> int:
        with served(app, graceful_timeout=0.05) as server, RawClient(server.addresses[0]) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", GET)
            assert client.receive().body == b"finished"
        del server
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = run()
    assert [run() for _ in range(3)] == [before] * 3


def test_endless_stream_is_cut_off(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        while True:
            await send(body(b"tick", True))
            await asyncio.sleep(0.001)

    watched = Watched(app)
    with served(watched, graceful_timeout=0.1) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
        server.server_close()
        received = b""
        try:
            while piece := client.socket.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        assert not received.endswith(b"0\r\n\r\n")
    assert watched.ended == 1


EVENTS = start(200, (b"Content-Type", b"text/event-stream; charset=utf-8"))


async def listens(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def goes_on(receive: Receive, send: Send) -> None:
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(0.001)
            await send(body(b"data: x\n\n", True))


@pytest.mark.parametrize("has_content", [False, True])
@pytest.mark.parametrize("then", [listens, goes_on])
def test_event_stream_ends_at_once(
    served: Serve, then: Callable[[Receive, Send], Awaitable[None]], has_content: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(EVENTS)
        if has_content:
            await send(body(b"data: 1\n\n", True))
        await then(receive, send)

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive_head().status == 200
        thread = stopping(server)
        # The last chunk: the client knows that nothing is missing.
        content = client._chunks()
        client.expect_end()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert watched.raised == []
    assert content.startswith(b"data: 1\n\n" if has_content else b"")


def test_event_stream_that_begins_behind_the_stop_ends_with_its_first_content(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await send(EVENTS)
        if scope["path"] == "/whole":
            await send(body(b"data: all\n\n"))
            return
        # It still leaves, and the application learns that no more will.
        with pytest.raises(OSError, match="disconnected"):
            await send(body(b"data: 1\n\n", True))

    watched = Watched(app)
    with (
        served(watched) as server,
        RawClient(server.addresses[0]) as idle,
        RawClient(server.addresses[0]) as one,
        RawClient(server.addresses[0]) as whole,
    ):
        one.send(GET)
        whole.send(b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n")
        watched.wait_for_begin(2)
        thread = stopping(server)
        # The stop has begun.
        idle.expect_end()
        gate.open()
        assert one.responses("GET")[0].body == b"data: 1\n\n"
        assert whole.responses("GET")[0].body == b"data: all\n\n"
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert watched.raised == []


def test_websocket_that_is_accepted_behind_the_stop_is_closed_at_once(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await gate.wait()
        await send({"type": "websocket.accept"})
        assert (await receive())["code"] == 1001

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as idle, Socket(server.addresses[0]) as client:
        watched.wait_for_begin()
        thread = stopping(server)
        # The stop has begun.
        idle.expect_end()
        gate.open()
        client.opened()
        assert client.read_frame().payload[:2] == (1001).to_bytes(2, "big")
        client.send(closing(1001))
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert watched.raised == []


@pytest.mark.parametrize("messages", [1, 3])
def test_messages_that_have_arrived_are_answered_before_a_stop_closes_the_websocket(
    served: Serve, messages: int
) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            watched.scopes.append(message)
            await gate.wait()
            await send({"type": "websocket.send", "text": message["text"]})
        assert message["code"] == 1001

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as idle, Socket(server.addresses[0]) as client:
        client.opened()
        texts = [b"%d" % number for number in range(messages)]
        client.send(b"".join(frame(TEXT, text) for text in texts))
        eventually(lambda: len(watched.scopes) == 2, "the application has the first message")
        thread = stopping(server)
        # The stop has begun.
        idle.expect_end()
        gate.open()
        assert [client.read_frame().payload for _ in texts] == texts
        found = client.read_frame()
        assert (found.opcode, found.payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
        client.send(closing(1001))
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert watched.raised == []


def test_message_that_has_begun_to_arrive_is_answered_before_a_stop_closes_the_websocket(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    whole = frame(TEXT, b"whole")
    with served(app) as server, RawClient(server.addresses[0]) as idle, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(whole + whole[:8])
        assert client.read_frame().payload == b"whole"
        thread = stopping(server)
        idle.expect_end()
        client.send(whole[8:])
        assert client.read_frame().payload == b"whole"
        assert client.read_frame().opcode == CLOSE
        client.send(closing(1001))
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_application_that_answers_no_message_does_not_hold_up_a_stop(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        watched.scopes.append({})
        await gate.wait()

    watched = Watched(app)
    with served(watched, graceful_timeout=2) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(frame(TEXT, b"one"))
        eventually(lambda: len(watched.scopes) == 2, "the application has the message")
        thread = stopping(server)
        # After a quarter of the time; after half of it the connection would be cut without a Close frame.
        assert client.read_frame().payload[:2] == (1001).to_bytes(2, "big")
        client.send(closing(1001))
        gate.open()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_application_may_stop_its_server(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        server.shutdown()
        await answer(send, b"bye")

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        (response,) = client.responses("GET")
        assert response.body == b"bye"
        eventually(lambda: not server._run or server._run._core.is_over, "the run is over")


def test_one_request_is_handled_and_no_more() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"one")

    server = WSGIServer(port=0, app=app, lifespan="off")
    for _ in range(2):
        with RawClient(server.addresses[0]) as client:
            client.send(GET)
            server.handle_request()
            (response,) = client.responses("GET")
            assert (response.body, response["Connection"]) == (b"one", "close")
    server.timeout = 0.05
    server.handle_request()
    server.server_close()


def test_loop_is_its_own_beside_another_that_runs() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"inside")

    async def program() -> bytes:
        with serve(app, lifespan="off") as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.server_port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answered = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answered

    assert asyncio.run(program()).endswith(b"inside")


APP = """
import asyncio, time
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError
    if scope["path"] == "/wait":
        print("inside", flush=True)
        try:
            await asyncio.sleep(%s)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
    if scope["path"] == "/block":
        print("inside", flush=True)
        time.sleep(1000)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def asked(client: RawClient, path: str) -> None:
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_what_runs(tmp_path: Path, loop: str, number: int) -> None:
    (tmp_path / "site.py").write_text(APP % "0.3")
    with Command("./site.py", "--loop", loop, cwd=tmp_path) as command, RawClient(command.address) as client:
        asked(client, "/wait")
        assert command.stdout.wait_for("inside")
        command.process.send_signal(number)
        assert client.receive().body == b"hello"
        assert command.stop(number) == 0
        assert "Traceback" not in "\n".join(command.stderr.seen)


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_second_signal_cancels_what_runs(tmp_path: Path, loop: str) -> None:
    (tmp_path / "site.py").write_text(APP % "1000")
    with Command("./site.py", "--loop", loop, cwd=tmp_path) as command, RawClient(command.address) as client:
        asked(client, "/wait")
        assert command.stdout.wait_for("inside")
        command.process.send_signal(signal.SIGINT)
        # Nobody is let in any more: the first signal was heard.
        eventually(lambda: is_refused(command.address), "the door closes")
        assert command.stop(signal.SIGINT) == 0
        assert command.stdout.seen == ["inside", "cancelled"]


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_signals_end_a_loop_that_is_held_up(tmp_path: Path, loop: str) -> None:
    (tmp_path / "site.py").write_text(APP % "0")
    with Command("./site.py", "--loop", loop, cwd=tmp_path) as command, RawClient(command.address) as client:
        asked(client, "/block")
        assert command.stdout.wait_for("inside")
        end = threading.Event()
        while command.process.poll() is None and not end.wait(0.05):
            command.process.send_signal(signal.SIGINT)
        # The interrupt hits the application, the loop on its way out or the interpreter; or the stop gives up.
        assert command.process.wait(PATIENCE) in (0, 1, 130, -signal.SIGINT)
