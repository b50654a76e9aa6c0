"""The lifespan protocol: start before the first request, end after the last, failures in the application's words."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.talking import GET, Receive, Scope, Send, answer
from tests.support import Command, RawClient, run
from wsgi.errors import StartupError
from wsgi.server import WSGIServer


class Site:
    """An application with a lifespan, which writes down what happens."""

    def __init__(self, startup: str = "complete", shutdown: str = "complete") -> None:
        self.answers = {"startup": startup, "shutdown": shutdown}
        self.log: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.log.append("request")
            self.log.append(scope["state"]["database"])
            scope["state"]["database"] = "changed"
            return await answer(send, b"hello")
        assert scope["type"] == "lifespan"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        for phase in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{phase}"}
            self.log.append(phase)
            scope["state"]["database"] = "open"
            if self.answers[phase] == "raise":
                raise ValueError(f"no {phase}")
            if self.answers[phase] == "return":
                return None
            if self.answers[phase] == "hang":
                await asyncio.Event().wait()
            await send({"type": f"lifespan.{phase}.{self.answers[phase]}", "message": f"because of {phase}"})
        return None


def get(server: WSGIServer) -> bytes:
    with RawClient(server.addresses[0]) as client:
        client.send(GET)
        return client.receive().body


def test_application_starts_before_its_first_request_and_ends_after_its_last(served: Serve) -> None:
    site = Site()
    with served(site, lifespan="auto") as server:
        assert site.log == ["startup"]
        assert get(server) == get(server) == b"hello"
    # The state of one request is not that of another.
    assert site.log == ["startup", "request", "open", "request", "open", "shutdown"]


def test_server_can_be_started_again(served: Serve) -> None:
    site = Site()
    server = WSGIServer(port=0, app=site)
    for _ in range(2):
        with served(site, lifespan="on"):
            pass
    server.server_close()
    assert site.log == ["startup", "shutdown"] * 2


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_start_that_fails_stops_the_server_with_the_applications_words(served: Serve, mode: str) -> None:
    site = Site(startup="failed")
    with (
        pytest.raises(StartupError, match=r"^the application failed to start: because of startup$"),
        served(site, lifespan=mode),
    ):
        raise AssertionError("it must not serve")


@pytest.mark.parametrize("startup", ["raise", "return"])
def test_start_without_an_answer_is_a_failure_where_it_must_be_one(served: Serve, startup: str) -> None:
    site = Site(startup=startup)
    with pytest.raises(StartupError, match=r"before lifespan.startup.complete") as caught, served(site, lifespan="on"):
        raise AssertionError("it must not serve")
    assert isinstance(caught.value.__cause__, ValueError if startup == "raise" else type(None))


async def without(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http", "only requests are known here"
    assert "state" not in scope
    await answer(send, b"hello")


def test_application_without_a_lifespan_is_served_all_the_same(served: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wsgi.server")
    with served(without, lifespan="auto") as server:
        assert get(server) == b"hello"
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "the application does not support the lifespan protocol (AssertionError: only"
    )
    with pytest.raises(StartupError), served(without, lifespan="on"):
        raise AssertionError("it must not serve")
    with served(without, lifespan="off") as server:
        assert get(server) == b"hello"


# ASGI, "Lifespan Protocol": the server must continue.
def test_application_that_raises_at_its_start_is_served_and_told_of(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            raise ValueError("no database")
        await answer(send, b"hello")

    with served(app, lifespan="auto") as server:
        assert get(server) == b"hello"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no database"


@pytest.mark.parametrize(
    ("shutdown", "text"),
    [
        ("failed", "the application failed to shut down: because of shutdown"),
        ("raise", "the application raised an exception in its lifespan"),
        ("return", None),
        ("hang", "the application did not complete its lifespan shutdown in time"),
    ],
)
def test_end_that_fails_is_told(
    served: Serve, caplog: pytest.LogCaptureFixture, shutdown: str, text: str | None
) -> None:
    with served(Site(shutdown=shutdown), lifespan="auto", graceful_timeout=0.2) as server:
        assert get(server) == b"hello"
    assert [record.getMessage() for record in caplog.records] == ([text] if text else [])


def test_message_out_of_place_is_raised_into_the_application(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with pytest.raises(StartupError) as caught, served(app, lifespan="on"):
        raise AssertionError("it must not serve")
    assert "is not a valid answer to lifespan.startup" in str(caught.value)


COMMAND = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await send({"type": "http.response.start", "status": 200})
        return await send({"type": "http.response.body", "body": b"hello"})
    await receive()
    %s
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("ended", flush=True)
    await send({"type": "lifespan.shutdown.complete"})
"""


def written(folder: Path, startup: str) -> Path:
    (folder / "site.py").write_text(COMMAND % startup)
    return folder


def test_command_says_why_the_application_did_not_start(tmp_path: Path) -> None:
    failure = 'return await send({"type": "lifespan.startup.failed", "message": "the database is away"})'
    done = run("./site.py", "--port", "0", cwd=written(tmp_path, failure))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "wsgi: the application failed to start: the database is away\n"


def test_command_that_is_stopped_while_it_starts_ends(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    from tests.support import PATIENCE, environment

    command = [sys.executable, "-m", "wsgi_server", "./site.py", "--port", "0"]
    startup = 'print("starting", flush=True); await asyncio.Event().wait()'
    with subprocess.Popen(
        command, cwd=written(tmp_path, startup), env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_command_ends_the_application_when_it_is_stopped(tmp_path: Path) -> None:
    with Command("./site.py", cwd=written(tmp_path, "pass")) as command:
        assert "(ASGI on " in command.banner
        with RawClient(command.address) as client:
            client.send(GET)
            assert client.receive().body == b"hello"
        assert command.stop() == 0
        assert command.stdout.seen == ["ended"]


def test_state_of_an_application_without_one_is_absent(served: Serve) -> None:
    scopes: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(send, b"hello")

    with served(app) as server:
        assert get(server) == b"hello"
    assert "state" not in scopes[0]
