"""A standard library that gevent or eventlet have patched: threads that are greenlets are refused in one line; with
real threads, requests that sleep, lock and wait run side by side, and the server stops when it is told to."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server.recording import get
from tests.support import PATIENCE, Command, RawClient, environment, run

PATCHES = {
    "gevent": ("from gevent import monkey; monkey.patch_all({})", "thread=False, queue=False"),
    "eventlet": ("import eventlet; eventlet.monkey_patch({})", "thread=False"),
}
# eventlet warns that it is deprecated.
QUIET = {"PYTHONWARNINGS": "ignore"}

WSGI = """
import threading, time

lock, local = threading.Lock(), threading.local()

def app(environ, start_response):
    local.calls = getattr(local, "calls", 0) + 1
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(0.5)
    elif environ["PATH_INFO"] == "/lock":
        for _ in range(20):
            with lock:
                time.sleep(0.002)
    start_response("200 OK", [])
    return [threading.current_thread().name.encode(), b" %d" % local.calls]
"""

FLASK = """
import threading, time
from flask import Flask

app, lock = Flask("app"), threading.Lock()

@app.get("/<path>")
def page(path):
    if path == "sleep":
        time.sleep(0.5)
    app.logger.warning("a line from %s", path)
    with lock:
        time.sleep(0.002)
    return threading.current_thread().name
"""

ASGI = """
import asyncio, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/sleep":
        await asyncio.sleep(0.5)
    elif scope["path"] == "/lock":
        await asyncio.to_thread(time.sleep, 0.1)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""

EMBEDDED = """
from wsgi.server import WSGIServer

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]

WSGIServer("127.0.0.1", 0, app).serve_forever()
"""


@pytest.fixture(params=PATCHES)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def write(directory: Path, library: str, code: str, *, threads: bool) -> None:
    """Writes `app.py`, which patches first; with `threads` it patches those as well."""
    line, without_threads = PATCHES[library]
    (directory / "app.py").write_text(line.format("" if threads else without_threads) + "\n" + code)


def refusal(library: str) -> str:
    """How the message begins."""
    function = {"gevent": "gevent.monkey.patch_all", "eventlet": "eventlet.monkey_patch"}[library]
    reason = "replaced the threads of this process with greenlets, and the server needs system threads"
    return f"{library} has {reason}: use {function}({PATCHES[library][1]});"


@pytest.mark.parametrize("code", [WSGI, ASGI], ids=["wsgi", "asgi"])
def test_greenlets_for_threads_are_refused_in_one_line(code: str, library: str, tmp_path: Path) -> None:
    write(tmp_path, library, code, threads=True)
    ran = run("app:app", "--port", "0", cwd=tmp_path, env=QUIET)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"wsgi: {refusal(library)}")


def test_greenlets_for_threads_are_refused_where_they_came_before_the_server(library: str, tmp_path: Path) -> None:
    write(tmp_path, library, EMBEDDED, threads=True)
    ran = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env=environment(**QUIET),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"wsgi.errors.StartupError: {refusal(library)}")


def ask(server: Command, path: str) -> list[bytes]:
    """What four clients get that ask at the same time."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)) for _ in range(4)]
        for client in clients:
            client.send(get(path))
        return [client.receive().body for client in clients]


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("code", [WSGI, FLASK], ids=["wsgi", "flask"])
def test_patched_sleeps_and_sockets_run_in_threads(
    code: str, with_signal: signal.Signals, library: str, tmp_path: Path
) -> None:
    write(tmp_path, library, code, threads=False)
    with Command("app:app", "--threads", "4", "--graceful-timeout", "5", cwd=tmp_path, env=QUIET) as server:
        ask(server, "/page")
        began = time.monotonic()
        names = ask(server, "/sleep")
        assert time.monotonic() - began < 1.5
        assert all(name.startswith(b"wsgi-worker-") for name in names)
        assert len({name.partition(b" ")[0] for name in names}) == 4
        assert len(ask(server, "/lock")) == 4
        began = time.monotonic()
        assert server.stop(with_signal) == 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_patched_sleeps_and_sockets_leave_loops_alone(loop: str, library: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")
    write(tmp_path, library, ASGI, threads=False)
    with Command("app:app", "--loop", loop, cwd=tmp_path, env=QUIET) as server:
        for path in ("/page", "/sleep", "/lock"):
            assert ask(server, path) == [b"ok"] * 4
        assert server.stop() == 0
