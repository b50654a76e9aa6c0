"""Workers whose requests are stuck are replaced, and lose nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.supervisor.test_processes import is_running, wait_until
from tests.support import Command, RawClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

GET = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

APP = """
import ctypes, os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/sleep":
        while True:
            time.sleep(0.01)
    if path == "/c":
        time.sleep(60)
    if path == "/held":
        ctypes.PyDLL(None).sleep(60)
    if path == "/catch":
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass
    if path == "/slow":
        print("inside", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""

ASGI_APP = """
import asyncio, os, time

async def app(scope, receive, send):
    if scope["path"] == "/block":
        time.sleep(60)
    if scope["path"] == "/await":
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def ask(command: Command, path: bytes) -> tuple[int, bytes]:
    with RawClient(command.address) as client:
        client.send(GET % path)
        response = client.receive()
    return response.status, response.body


def command_for(folder: Path, action: str, app: str = APP, workers: int = 1) -> Command:
    (folder / "stuck_app.py").write_text(app)
    options = ["--workers", str(workers), "--request-timeout", "500ms", "--request-timeout-action", action]
    options += ["--graceful-timeout", "1s", "--threads", "4", *(["--lifespan", "off"] if app is ASGI_APP else [])]
    return Command("stuck_app:app", *options, cwd=folder)


def replaced(command: Command, former: int) -> None:
    """Waits until another worker answers, and the former one has ended."""
    wait_until(lambda: ask(command, b"/") != (200, str(former).encode()))
    wait_until(lambda: not is_running(former))
    status, pid = ask(command, b"/")
    assert status == 200
    assert int(pid) != former


@pytest.mark.parametrize("path", [b"/sleep", b"/c", b"/catch", b"/held"])
def test_recycle_worker_with_a_stuck_request_is_replaced(path: bytes, tmp_path: Path) -> None:
    with command_for(tmp_path, "recycle") as command:
        former = int(ask(command, b"/")[1])
        assert ask(command, path)[0] == 504
        line = command.stderr.wait_for(f"GET {path.decode()} has no response")
        assert line.endswith("; its client was answered 504; this worker is replaced")
        replaced(command, former)
        assert command.stop() == 0


def test_recycle_finishes_the_other_requests_first(tmp_path: Path) -> None:
    with command_for(tmp_path, "recycle") as command, RawClient(command.address) as slow:
        former = int(ask(command, b"/")[1])
        assert ask(command, b"/c")[0] == 504
        slow.send(GET % b"/slow")
        wait_until(lambda: ask(command, b"/") != (200, str(former).encode()))
        (tmp_path / "go").touch()
        assert slow.receive().status == 200
        replaced(command, former)


@pytest.mark.parametrize(("app", "path"), [(APP, b"/catch"), (ASGI_APP, b"/await"), (ASGI_APP, b"/block")])
def test_interrupt_request_that_goes_on_has_its_worker_replaced(app: str, path: bytes, tmp_path: Path) -> None:
    with command_for(tmp_path, "interrupt", app) as command:
        former = int(ask(command, b"/")[1])
        assert ask(command, path)[0] == 504
        line = command.stderr.wait_for(f"GET {path.decode()} goes on although it was ended")
        assert line.endswith("; this worker is replaced")
        replaced(command, former)


def test_interrupt_request_that_ends_keeps_its_worker(tmp_path: Path) -> None:
    with command_for(tmp_path, "interrupt") as command:
        former = ask(command, b"/")
        assert ask(command, b"/sleep")[0] == 504
        command.stderr.wait_for("GET /sleep has ended")
        assert ask(command, b"/") == former
