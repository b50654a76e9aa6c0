"""Context variables (PEP 567): each call of a WSGI application begins with an empty context, and runs whole in it."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.server.recording import Environ, Start, answer, eventually, get
from tests.support import RawClient, serve

USER: contextvars.ContextVar[Any] = contextvars.ContextVar("USER", default="nobody")


def sign_in(environ: Environ) -> str:
    """Sets USER to the path; gives what it was before."""
    before = str(USER.get())
    USER.set(environ["PATH_INFO"])
    return before


def whole(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(start_response, sign_in(environ).encode())


def written(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", [])
    write(sign_in(environ).encode())
    return []


def generated(environ: Environ, start_response: Start) -> Iterator[bytes]:
    # Runs with the iteration, not with the call.
    start_response("200 OK", [])
    yield sign_in(environ).encode()


APPLICATIONS = pytest.mark.parametrize("app", [whole, written, generated])


@APPLICATIONS
def test_requests_of_one_thread_see_nothing_of_each_other(app: Any) -> None:
    with serve(app, threads=1) as server:
        for _ in range(2):
            with RawClient(server.addresses[0]) as client:
                client.send(*(get(f"/{number}") for number in range(3)))
                assert [client.receive().body for _ in range(3)] == [b"nobody"] * 3


@APPLICATIONS
def test_clients_see_nothing_of_each_other(app: Any) -> None:
    with serve(app, threads=4) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(6)]
        for _ in range(5):
            for number, client in enumerate(clients):
                client.send(get(f"/{number}"))
            assert [client.receive().body for client in clients] == [b"nobody"] * 6
        for client in clients:
            client.socket.close()


def test_iteration_and_close_run_in_the_context_of_the_call() -> None:
    closed: list[str] = []

    class Content:
        def __init__(self) -> None:
            self.pieces = iter(range(3))

        def __iter__(self) -> Content:
            return self

        def __next__(self) -> bytes:
            next(self.pieces)
            seen = f"{USER.get()};"
            USER.set(seen)
            return seen.encode()

        def close(self) -> None:
            closed.append(USER.get())

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        sign_in(environ)
        start_response("200 OK", [])
        return Content()

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as client:
        for path in ("/a", "/b"):
            client.send(get(path))
            assert client.receive().body.decode() == f"{path};{path};;{path};;;"
    assert closed == ["/a;;;", "/b;;;"]


def test_file_that_is_read_runs_in_the_context_of_the_call() -> None:
    seen: list[str] = []

    class File:
        def read(self, size: int) -> bytes:
            seen.append(USER.get())
            return b""

        def close(self) -> None:
            seen.append(USER.get())

    def app(environ: Environ, start_response: Start) -> Any:
        sign_in(environ)
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](File())

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as client:
        for path in ("/a", "/b"):
            client.send(get(path))
            assert client.receive().status == 200
    assert seen == ["/a", "/a", "/b", "/b"]


class Value:
    """Something that a weak reference can be had to."""


@pytest.mark.parametrize("fault", ["none", "call", "iteration", "piece", "close", "cut"])
def test_context_goes_with_its_request(fault: str) -> None:
    # One that stayed entered would keep what is set in it.
    kept: list[weakref.ref[Value]] = []
    seen: list[object] = []

    class Content:
        def __iter__(self) -> Iterator[Any]:
            if fault == "iteration":
                raise LookupError
            yield "text" if fault == "piece" else b"x"
            if fault == "cut":
                raise LookupError

        def close(self) -> None:
            if fault == "close":
                raise LookupError

    def sign_in() -> None:
        # No variable of the application's: tracebacks keep those.
        value = Value()
        kept.append(weakref.ref(value))
        USER.set(value)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append(USER.get())
        sign_in()
        if fault == "call":
            raise LookupError
        start_response("200 OK", [])
        return Content()

    def gone() -> bool:
        gc.collect()
        return all(reference() is None for reference in kept)

    with serve(app, threads=1) as server:
        for _ in range(3):
            with RawClient(server.addresses[0]) as client:
                client.send(get("/"))
                assert client.receive_head().status == (500 if fault in ("call", "iteration", "piece") else 200)
        eventually(gone, "the values of all requests are let go")
    assert seen == ["nobody"] * 3


def test_errors_are_logged_in_the_context_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    caplog.handler.addFilter(lambda record: bool(seen.append(USER.get()) or True))  # type: ignore[func-returns-value]

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        sign_in(environ)
        raise LookupError

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/a"))
        assert client.receive().status == 500
        eventually(lambda: seen == ["/a"], "the error is logged")


def test_threads_that_are_started_see_nothing_of_their_starter() -> None:
    # A framework's application context that a script has pushed, say, would be one for all requests.
    def starting() -> None:
        USER.set("starter")
        with serve(whole, threads=2) as server, RawClient(server.addresses[0]) as client:
            client.send(get("/1"), get("/2"))
            assert [client.receive().body for _ in range(2)] == [b"nobody"] * 2

    contextvars.copy_context().run(starting)


def test_requests_of_flask_have_contexts_of_their_own_though_a_script_has_pushed_one() -> None:
    flask = pytest.importorskip("flask", reason="flask is not installed")
    app = flask.Flask(__name__)

    @app.get("/<name>")  # type: ignore[untyped-decorator]
    def remember(name: str) -> str:
        before = flask.g.get("name", "nobody")
        flask.g.name = name
        return str(before)

    def starting() -> None:
        app.app_context().push()
        with serve(app, threads=2) as server, RawClient(server.addresses[0]) as client:
            client.send(get("/1"), get("/2"), get("/3"))
            assert [client.receive().body for _ in range(3)] == [b"nobody"] * 3

    # A thread of its own, so that nothing stays pushed in this one.
    failures: list[BaseException] = []

    def body() -> None:
        try:
            starting()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert failures == []
