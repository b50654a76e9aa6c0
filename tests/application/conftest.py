"""The same requests to the same applications, without a server and under three of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests import clients
from tests.application.switchboard import COMPLAINTS, application, direct
from tests.support import PATIENCE, environment, serve

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

COMMANDS = {
    "waitress": ["tests.application.switchboard", "waitress", "{fd}"],
    "gunicorn": [
        *("gunicorn", "--worker-class", "gthread", "--threads", "4", "--bind", "fd://{fd}"),
        *(
            "--graceful-timeout",
            "1",
            "--limit-request-line",
            "8190",
            "--log-level",
            "warning",
            "tests.application.switchboard:application",
        ),
    ],
}
"""What follows `python -m`, with the number of a listening socket."""


class Served:
    """The switchboard under one kind of server, and what that server wrote to its standard error."""

    def __init__(self, address: str, log: IO[str] | None = None) -> None:
        self.address = address
        self._log = log

    def news(self) -> str:
        """What the server wrote since the last time."""
        return self._log.read() if self._log is not None else ""


@contextlib.contextmanager
def _in_process() -> Iterator[Served]:
    with serve(application) as server:
        yield Served(server.addresses[0])


@contextlib.contextmanager
def _by_command(kind: str) -> Iterator[Served]:
    # The socket listens before the server starts: whoever connects waits, and nobody has to ask whether it is up.
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.NamedTemporaryFile() as log:
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=descriptor) for word in COMMANDS[kind])],
            cwd=ROOT,
            env=environment(PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
        )
        port = listener.getsockname()[1]
        # From here on only the server holds it: when that ends, connections are refused and do not wait.
        listener.close()
        try:
            with open(log.name, errors="replace") as written:
                yield Served(f"http://127.0.0.1:{port}", written)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


class Servers:
    """Starts each kind of server once, when it is first asked for."""

    def __init__(self) -> None:
        self._running: dict[str, Served] = {}
        self._stack = contextlib.ExitStack()

    def start(self, kind: str) -> Served:
        if kind not in self._running:
            server = _in_process() if kind == "wsgi" else _by_command(kind)
            self._running[kind] = self._stack.enter_context(server)
        return self._running[kind]

    def stop(self) -> None:
        self._running.clear()
        self._stack.close()


SERVERS = Servers()


# Other tests count the threads and descriptors of this process: the servers go with the last test of this directory.
@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        if nextitem is None or HERE not in nextitem.path.parents:
            SERVERS.stop()


def pytest_sessionfinish() -> None:
    # After an interruption there was no last test.
    SERVERS.stop()


@pytest.fixture(params=["direct", "wsgi", "waitress", "gunicorn"])
def backend(request: pytest.FixtureRequest) -> str:
    """How the application runs: called directly, or under a server."""
    kind: str = request.param
    return kind


@pytest.fixture
def connect(request: pytest.FixtureRequest, backend: str) -> Iterator[Callable[..., httpx.Client]]:
    """Gives clients of the applications in the test's module: `connect("app")`, or `connect("app", validated=False)`
    for one that does not run under `wsgiref.validate`.
    """
    module = request.module.__name__
    stack = contextlib.ExitStack()

    def connect(name: str = "app", *, validated: bool = True) -> httpx.Client:
        if backend == "direct":
            client = direct(getattr(request.module, name), validated=validated)
        else:
            client = clients.client(SERVERS.start(backend).address)
            client.headers["X-Test-App"] = f"{module}:{name}" if validated else f"{module}:{name}:bare"
        return stack.enter_context(client)

    if backend == "direct":
        with stack:
            yield connect
        return
    server = SERVERS.start(backend)
    server.news()
    try:
        with stack:
            yield connect
        with clients.client(server.address) as client:
            complaints = client.get("/", headers={"X-Test-App": COMPLAINTS}).text
    finally:
        # Shown where the test failed.
        print(server.news())
    assert complaints == "", f"the validator complained under {backend}"


@pytest.fixture
def client(connect: Callable[..., httpx.Client]) -> httpx.Client:
    """A client of the `app` in the test's module, under each way to run it. What it gets is what any server sends."""
    return connect("app")


@pytest.fixture
def descriptors() -> Iterator[Callable[[], int]]:
    """Counts open descriptors more than at the beginning; none may be left at the end."""

    def count() -> int:
        return len(os.listdir("/dev/fd"))

    before = count()
    yield lambda: count() - before
    assert count() == before
