"""`Request.on_close` and `Request.enter_context`: what is closed when the response has been sent, and when that is."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.application.switchboard import direct, servers_only
from tests.support import PATIENCE
from wsgi.application import (
    CallNext,
    EventStreamResponse,
    FileResponse,
    NotFound,
    PlainTextResponse,
    Request,
    Response,
    StreamingResponse,
    WSGIApplication,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Database:
    """What a middleware opens, and handlers and streams read."""

    def __init__(self) -> None:
        self.is_open = True

    def rows(self) -> Iterator[str]:
        """Its rows, as long as it is open."""
        for number in range(3):
            if not self.is_open:
                raise LookupError("the database is closed")
            yield f"{number}\n"

    def close(self) -> None:
        """Ends it."""
        self.is_open = False


journals: dict[str, list[str]] = {}
app = WSGIApplication()


@app.middleware
def journal(request: Request, call_next: CallNext) -> Response:
    """Opens a database, and writes down what happens, for the test that names itself in the query."""
    if request.path == "/journal":
        return call_next(request)
    log = request.state.log = journals.setdefault(request.query_string, [])
    database = request.state.database = request.enter_context(closing(Database()))
    request.on_close(lambda: log.append(f"closed, and the database is {'open' if database.is_open else 'closed'}"))
    response = call_next(request)
    log.append("middleware returned")
    if request.path == "/replaced":
        return PlainTextResponse("instead")
    if request.path == "/raised-after":
        raise ValueError("after")
    return response


@app.get("/journal")
def read_journal(request: Request) -> list[str]:
    return journals.get(request.query_string, [])


@app.get("/text")
def text(request: Request) -> str:
    request.on_close(lambda: request.state.log.append("handler's"))
    return "text"


@app.get("/empty")
def empty(request: Request) -> tuple[str, int]:
    return "", 304


@app.get("/file")
def file(request: Request) -> Response:
    return FileResponse(io.BytesIO(b"file"), media_type="text/plain")


@app.get("/rows")
def rows(request: Request) -> Iterator[str]:
    request.on_close(lambda: request.state.log.append("handler's"))
    try:
        yield from request.state.database.rows()
    finally:
        request.state.log.append("stream ended")


@app.get("/streaming")
def streaming(request: Request) -> Response:
    return StreamingResponse(rows(request))


@app.get("/events")
def events(request: Request) -> Response:
    return EventStreamResponse(rows(request))


@app.get("/replaced")
def replaced(request: Request) -> Response:
    return StreamingResponse(rows(request))


@app.get("/raised-after")
def raised_after(request: Request) -> Iterator[str]:
    return rows(request)


@app.get("/endless")
def endless(request: Request) -> Iterator[str]:
    try:
        for number in itertools.count():
            yield f"{number}\n" * 1000
    finally:
        request.state.log.append("stream ended")


@app.get("/raising")
def raising(request: Request) -> str:
    raise ValueError


@app.get("/missing")
def missing(request: Request) -> str:
    raise NotFound


@app.get("/cut")
def cut(request: Request) -> Iterator[str]:
    yield "a"
    raise ValueError


def below(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"mounted"]


app.mount("/mounted", below)
_names = itertools.count()


def ended(client: httpx.Client, name: str) -> list[str]:
    """The journal of a test, once its request is over: servers close after the last byte."""
    end = time.monotonic() + PATIENCE
    log: list[str] = []
    while not any(line.startswith("closed") for line in log):
        assert time.monotonic() < end, log
        log = client.get("/journal", params=name).json()
    return log


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "status", "content", "expected"),
    [
        ("/text", 200, "text", ["middleware returned", "handler's"]),
        ("/empty", 304, "", ["middleware returned"]),
        ("/file", 200, "file", ["middleware returned"]),
        ("/mounted", 200, "mounted", ["middleware returned"]),
        ("/rows", 200, "0\n1\n2\n", ["middleware returned", "stream ended", "handler's"]),
        ("/streaming", 200, "0\n1\n2\n", None),
        ("/events", 200, None, None),
        ("/replaced", 200, "instead", None),
        ("/raised-after", 500, None, None),
        ("/raising", 500, None, ["middleware returned"]),
        ("/missing", 404, None, ["middleware returned"]),
        ("/nowhere", 404, None, ["middleware returned"]),
    ],
)
def test_callbacks_run_once_after_the_response_whatever_it_is(
    client: httpx.Client, path: str, status: int, content: str | None, expected: list[str] | None, method: str
) -> None:
    name = f"{method}{path}{next(_names)}"
    response = client.request(method, path, params=name)
    assert response.status_code == status
    if content is not None and method == "GET":
        assert response.text == content
    log = ended(client, name)
    # The last one registered is the first to be called: the database is open until all others were.
    assert log.count("closed, and the database is open") == 1
    assert log[-1] == "closed, and the database is open"
    if expected is not None:
        assert log[:-1] == expected


@servers_only
def test_callbacks_run_when_the_client_leaves(client: httpx.Client) -> None:
    name = f"left{next(_names)}"
    with client.stream("GET", "/endless", params=name) as response:
        assert next(response.iter_bytes())
    assert ended(client, name) == ["middleware returned", "stream ended", "closed, and the database is open"]


def test_callbacks_run_when_a_stream_is_cut(client: httpx.Client) -> None:
    name = f"cut{next(_names)}"
    with contextlib.suppress(ValueError, httpx.RemoteProtocolError):
        client.get("/cut", params=name)
    assert ended(client, name)[-1] == "closed, and the database is open"


# Without a server


def answered(own: WSGIApplication, **variables: Any) -> Any:
    """What an application gives to a server for a GET of its root."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": None, **variables}
    return own(environ, lambda status, headers, exc_info=None: None)


def test_callback_that_fails_is_logged_and_keeps_no_other_from_running(caplog: pytest.LogCaptureFixture) -> None:
    own, called = WSGIApplication(), []

    @own.get("/")
    def index(request: Request) -> str:
        request.on_close(lambda: called.append("first"))
        request.on_close(lambda: called.append(str(1 / 0)))
        request.on_close(lambda: called.append("third"))
        return "x"

    answered(own).close()
    assert called == ["third", "first"]
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError
    # A test hears of it.
    with pytest.raises(ZeroDivisionError):
        own.test_client().get("/")


def test_callback_that_ends_the_program_keeps_no_other_from_running() -> None:
    own, called = WSGIApplication(), []

    @own.get("/")
    def index(request: Request) -> str:
        request.on_close(lambda: called.append("first"))
        request.on_close(exit)
        return "x"

    with pytest.raises(SystemExit):
        answered(own).close()
    assert called == ["first"]


def test_callbacks_run_when_the_handler_ends_the_program() -> None:
    own, left = WSGIApplication(), []

    @contextmanager
    def scope() -> Iterator[None]:
        try:
            yield
        except SystemExit:
            left.append("with the reason")
            raise

    @own.get("/")
    def index(request: Request) -> str:
        request.enter_context(scope())
        raise SystemExit

    with pytest.raises(SystemExit):
        answered(own)
    assert left == ["with the reason"]


def test_callback_can_be_registered_by_a_callback_and_by_a_stream() -> None:
    own, called = WSGIApplication(), []

    @own.get("/")
    def index(request: Request) -> Response:
        def pieces() -> Iterator[str]:
            yield "a"
            request.on_close(lambda: request.on_close(lambda: called.append("of a callback")))
            yield "b"

        return EventStreamResponse(pieces())

    assert "b" in own.test_client().get("/").text
    assert called == ["of a callback"]


@pytest.mark.parametrize("path", ["/text", "/stream"])
def test_callback_after_the_end_is_refused(path: str) -> None:
    own, requests = WSGIApplication(), []

    @own.middleware
    def keep(request: Request, call_next: CallNext) -> Response:
        requests.append(request)
        return call_next(request)

    own.get("/text")(lambda request: "x")
    own.get("/stream")(lambda request: iter("x"))
    own.test_client().get(path)
    with pytest.raises(RuntimeError, match="the response has been sent"):
        requests[0].on_close(print)
    database = Database()
    with pytest.raises(RuntimeError, match="the response has been sent"):
        requests[0].enter_context(closing(database))


@pytest.mark.parametrize("thing", [None, "text", Database()])
def test_what_is_neither_function_nor_context_manager_is_refused(thing: Any) -> None:
    request = Request({}, app)
    with pytest.raises(TypeError, match="on_close takes a function"):
        request.on_close(thing)
    with pytest.raises(TypeError, match="enter_context takes a context manager"):
        request.enter_context(thing)


def test_context_manager_that_fails_to_enter_is_the_handlers_error_and_not_left() -> None:
    own, left = WSGIApplication(), []

    class Broken:
        def __enter__(self) -> None:
            raise LookupError

        def __exit__(self, *reason: object) -> None:
            left.append(reason)

    own.get("/")(lambda request: request.enter_context(Broken()))
    with pytest.raises(LookupError):
        own.test_client().get("/")
    assert left == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/", None), ("/raising", ValueError), ("/missing", NotFound), ("/cut", ValueError), ("/handled", LookupError)],
)
def test_context_manager_is_told_the_error_of_the_response(path: str, reason: type[Exception] | None) -> None:
    own, told = WSGIApplication(), []

    class Transaction:
        def __enter__(self) -> str:
            return "entered"

        def __exit__(self, kind: object, error: object, traceback: object) -> bool:
            told.append(kind)
            assert kind is (type(error) if error else None)
            return True

    @own.middleware
    def within(request: Request, call_next: CallNext) -> Response:
        assert request.enter_context(Transaction()) == "entered"
        return call_next(request)

    own.get("/")(lambda request: "x")
    own.get("/raising")(raising)
    own.get("/missing")(missing)
    own.get("/cut")(cut)

    @own.get("/handled")
    def handled(request: Request) -> str:
        raise LookupError

    own.error_handler(LookupError)(lambda request, error: "handled")
    with contextlib.suppress(ValueError):
        own.test_client(raise_errors=False).get(path)
    assert told == [reason]


def test_callbacks_run_in_the_thread_that_closes() -> None:
    own, threads = WSGIApplication(), []

    @own.get("/")
    def index(request: Request) -> Iterator[str]:
        request.on_close(lambda: threads.append(threading.current_thread()))
        yield "x"

    content = answered(own)
    closer = threading.Thread(target=content.close)
    closer.start()
    closer.join(PATIENCE)
    assert threads == [closer]


# Debug mode


@pytest.mark.parametrize("debug", [True, False])
def test_stream_that_reads_what_middleware_closed_is_explained_in_debug_mode(
    debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    own = WSGIApplication(debug=debug)

    @own.middleware
    def too_early(request: Request, call_next: CallNext) -> Response:
        with closing(Database()) as database:
            request.state.database = database
            request.state.log = []
            return call_next(request)

    own.get("/")(rows)
    with caplog.at_level(logging.WARNING), pytest.raises(LookupError), direct(own) as client:
        client.get("/")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == debug
    assert all("after the handler and all middleware" in message and "on_close" in message for message in messages)
