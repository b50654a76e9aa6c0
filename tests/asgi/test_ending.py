"""The end of the command's process: what does not end by itself is ended, in one time for all stages."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.asgi.conftest import needs_uvloop
from tests.asgi.frames import CLOSE, Socket
from tests.server.recording import eventually, is_refused, time_to_cut
from tests.support import PATIENCE, Command, RawClient

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"

APP = """
import asyncio, os, threading, time
import anyio.to_thread

forever = threading.Event()
LIFESPAN = os.environ.get("LIFESPAN", "")

def in_thread():
    forever.wait()

async def stubborn():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print("cancelled", flush=True)

async def generator():
    try:
        yield 1
    finally:
        await stubborn()

kept = generator()

async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    began = time.monotonic()
    print("shutting down", flush=True)
    try:
        if LIFESPAN == "stubborn":
            await stubborn()
        if LIFESPAN == "endless":
            await asyncio.sleep(1000)
    finally:
        print(f"{time.monotonic() - began:.2f}", flush=True)
    await send({"type": "lifespan.shutdown.complete"})

async def endless(send):
    try:
        while True:
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
            await asyncio.sleep(0.01)
    finally:
        print("ended", flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"]
    if scope["type"] == "websocket":
        await receive()
        print("inside", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await send({"type": "websocket.accept"})
        message = await receive()
        print(message["type"], message["code"], flush=True)
        return
    print("inside", flush=True)
    if path == "/anyio":
        await anyio.to_thread.run_sync(in_thread)
    if path == "/to_thread":
        await asyncio.to_thread(in_thread)
    if path == "/executor":
        await asyncio.get_running_loop().run_in_executor(None, in_thread)
    if path == "/thread":
        threading.Thread(target=in_thread, name="reaper", daemon=False).start()
    if path == "/stubborn":
        await stubborn()
    if path == "/generator":
        await kept.__anext__()
    if path == "/blocked":
        time.sleep(1000)
    if path == "/wait":
        await asyncio.sleep(1000)
    await send({"type": "http.response.start", "status": 200})
    if path == "/endless":
        await endless(send)
    if path == "/quiet":
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await receive()
        print((await receive())["type"], flush=True)
        return
    await send({"type": "http.response.body", "body": b"done"})
"""

both_loops = pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=needs_uvloop)])


@contextmanager
def running(folder: Path, loop: str, graceful_timeout: str, lifespan: str = "") -> Iterator[Command]:
    (folder / "site_app.py").write_text(APP)
    options = ("--loop", loop, "--graceful-timeout", graceful_timeout)
    log = ("--access-log", "-", "--access-log-format", "%m %U %s %X")
    with Command("site_app:app", *options, *log, cwd=folder, env={"LIFESPAN": lifespan}) as command:
        yield command


def ask(command: Command, path: bytes) -> RawClient:
    """A connection whose request is inside of the application."""
    client = RawClient(command.address)
    client.send(GET % path)
    command.stdout.wait_for("inside")
    return client


def words(command: Command) -> str:
    return "\n".join(command.stderr.seen)


@both_loops
@pytest.mark.parametrize(("path", "word"), [(b"/endless", "ended"), (b"/quiet", "http.disconnect")])
def test_unfinished_response_is_cut_after_half_of_the_time_and_the_stop_succeeds(
    tmp_path: Path, loop: str, path: bytes, word: str
) -> None:
    with running(tmp_path, loop, "2") as command:
        client = ask(command, path)
        assert client.receive_head().status == 200
        assert time_to_cut(command, client) >= 1
        assert command.process.wait(PATIENCE) == 0
        command.stdout.wait_for(word)
        command.stderr.wait_for("stopping: cut 1 response, unfinished after half of graceful_timeout")
    assert f"GET {path.decode()} 200 X" in command.stdout.seen
    assert "ERROR" not in words(command)


@both_loops
def test_unanswered_request_gets_503_at_the_end_and_is_no_error_of_the_application(tmp_path: Path, loop: str) -> None:
    with running(tmp_path, loop, "500ms") as command:
        with ask(command, b"/wait") as client:
            command.process.send_signal(signal.SIGTERM)
            (response,) = client.responses("GET")
            assert (response.status, response["Retry-After"]) == (503, "1")
        assert command.process.wait(PATIENCE) == 0
        command.stderr.wait_for("stopped with 1 connection unfinished after the graceful timeout: GET /wait")
    assert "GET /wait 503 +" in command.stdout.seen
    assert "ERROR" not in words(command)


@both_loops
@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/anyio", "AnyIO worker thread"),
        (b"/to_thread", "wsgi-executor_0"),
        (b"/executor", "wsgi-executor_0"),
        (b"/thread", "reaper"),
        (b"/blocked", "MainThread"),
    ],
)
def test_thread_does_not_hold_the_process(tmp_path: Path, loop: str, path: bytes, name: str) -> None:
    with running(tmp_path, loop, "500ms") as command, ask(command, path) as client:
        if path == b"/thread":
            assert client.receive().body == b"done"
        command.process.send_signal(signal.SIGTERM)
        # A loop that is held up cannot answer; the process does.
        if path != b"/thread":
            assert client.receive().status == 503
        assert command.process.wait(PATIENCE) == 1
        line = command.stderr.wait_for("gave up waiting after the graceful timeout for ")
        where = f"in app ({tmp_path / 'site_app.py'}, line " if name == "MainThread" else "in wait ("
        assert f"for {name} {where}" in line


@both_loops
@pytest.mark.parametrize("path", [b"/stubborn", b"/generator"])
def test_application_that_cannot_be_cancelled_does_not_hold_the_process(tmp_path: Path, loop: str, path: bytes) -> None:
    with running(tmp_path, loop, "500ms", lifespan="stubborn") as command, ask(command, path) as client:
        command.process.send_signal(signal.SIGTERM)
        client.receive()
        assert command.process.wait(PATIENCE) == (1 if path == b"/stubborn" else 0)
        if path == b"/stubborn":
            command.stderr.wait_for("gave up waiting for 1 request that cannot be cancelled: ")
        command.stderr.wait_for("the application did not complete its lifespan shutdown in time")


@both_loops
def test_lifespan_has_what_is_left_of_the_time(tmp_path: Path, loop: str) -> None:
    with running(tmp_path, loop, "3", lifespan="endless") as command, ask(command, b"/wait") as client:
        command.process.send_signal(signal.SIGTERM)
        assert client.receive().status == 503
        command.stdout.wait_for("shutting down")
        assert command.process.wait(PATIENCE) == 0
        # Nothing is left, so that it has the least that it can have: a second, and not three more.
        assert 0.9 < float(command.stdout.wait_for(".")) < 2.5


@both_loops
def test_second_signal_ends_the_lifespan(tmp_path: Path, loop: str) -> None:
    with running(tmp_path, loop, "60", lifespan="endless") as command:
        command.process.send_signal(signal.SIGTERM)
        command.stdout.wait_for("shutting down")
        command.stderr.wait_for("waiting up to 60 s for the application's lifespan shutdown")
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(PATIENCE) == 0


@both_loops
def test_second_signal_ends_every_stage_that_follows(tmp_path: Path, loop: str) -> None:
    with running(tmp_path, loop, "60", lifespan="endless") as command, ask(command, b"/executor") as client:
        command.process.send_signal(signal.SIGINT)
        line = command.stderr.wait_for("stopping: ")
        assert line.endswith("waiting up to 60 s for 1 request (GET /executor); press Ctrl-C again to end at once")
        command.process.send_signal(signal.SIGINT)
        assert client.receive().status == 503
        assert command.process.wait(PATIENCE) == 1
        command.stderr.wait_for("gave up waiting when asked to end at once for wsgi-executor_0 in wait (")
    assert "Traceback" not in words(command)


@both_loops
def test_websocket_that_opens_while_the_server_stops_hears_of_it_at_once(tmp_path: Path, loop: str) -> None:
    with running(tmp_path, loop, "60") as command, Socket(command.address) as client:
        command.stdout.wait_for("inside")
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: is_refused(command.address), "the door closes")
        (tmp_path / "go").touch()
        client.opened()
        found = client.read_frame()
        assert (found.opcode, found.payload[:2]) == (CLOSE, struct.pack("!H", 1001))
        command.stdout.wait_for("websocket.disconnect 1001")
        client.end()
        assert command.process.wait(PATIENCE) == 0
