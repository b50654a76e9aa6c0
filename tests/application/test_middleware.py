"""Middleware: what goes around handlers, whoever wrote it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.application.switchboard import direct
from wsgi.application import (
    EventStreamResponse,
    Forbidden,
    Group,
    HTTPError,
    MethodNotAllowed,
    NotFound,
    PlainTextResponse,
    Request,
    Response,
    StreamingResponse,
    WSGIApplication,
)
from wsgi.application.errors import ResponseError
from wsgi.application.middleware import GzipMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CallNext = Callable[[Request], Response]


def tagged(name: str) -> Callable[[Request, CallNext], Response]:
    """A middleware that leaves its name on the way in and on the way out."""

    def middleware(request: Request, call_next: CallNext) -> Response:
        request.state.order = [*getattr(request.state, "order", []), name]
        response = call_next(request)
        response.headers.add("X-Order", name)
        return response

    return middleware


app = WSGIApplication(middleware=[tagged("constructor")])
group = Group("/group", middleware=[tagged("group")])


@app.get("/")
@group.get("/")
def index(request: Request) -> list[str]:
    return list(request.state.order)


@app.get("/fails")
@group.get("/fails")
def fails(request: Request) -> str:
    raise ValueError


@app.get("/forbidden")
def forbidden(request: Request) -> str:
    raise Forbidden


@app.get("/stream")
def stream(request: Request) -> Iterator[str]:
    yield from ("a", "b")


@app.middleware
def second(request: Request, call_next: CallNext) -> Response:
    return tagged("decorator")(request, call_next)


@app.middleware
def short_circuit(request: Request, call_next: CallNext) -> Any:
    if "X-Stop" in request.headers:
        return {"stopped": request.path}, 403
    return call_next(request)


@app.middleware
def error_named(request: Request, call_next: CallNext) -> Response:
    response = call_next(request)
    response.headers["X-Error"] = type(response.error).__name__
    return response


app.include(group)


def wrapped(inner: Callable[..., Iterable[bytes]], name: str) -> Callable[..., Iterable[bytes]]:
    """A WSGI middleware (PEP 3333), of which the framework knows nothing."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def started(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, ("X-Wrapped", name)], *exc_info)

        return inner(environ, started)

    return outer


app.wrap(wrapped, "inner")
app.wrap(wrapped, name="outer")


def test_middleware_runs_in_the_order_of_its_declaration(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.json() == ["constructor", "decorator"]
    assert response.headers.get_list("X-Order") == ["decorator", "constructor"]


def test_groups_middleware_runs_inside_and_for_the_group_alone(client: httpx.Client) -> None:
    response = client.get("/group/")
    assert response.json() == ["constructor", "decorator", "group"]
    assert response.headers.get_list("X-Order") == ["group", "decorator", "constructor"]


def test_middleware_that_does_not_go_on_answers_itself(client: httpx.Client) -> None:
    response = client.get("/group/", headers={"X-Stop": "1"})
    assert (response.status_code, response.json()) == (403, {"stopped": "/group/"})
    assert response.headers.get_list("X-Order") == ["decorator", "constructor"]
    assert "X-Error" not in response.headers


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/", 200, "NoneType"),
        ("/fails", 500, "ValueError"),
        ("/group/fails", 500, "ValueError"),
        ("/forbidden", 403, "Forbidden"),
        ("/nowhere", 404, "NotFound"),
        ("/group/nowhere", 404, "NotFound"),
        ("/%FF", 400, "BadRequest"),
    ],
)
def test_error_inside_is_a_response_by_then(client: httpx.Client, path: str, status: int, error: str) -> None:
    response = client.get("/", extensions={"target": path.encode()})
    assert response.status_code == status
    assert response.headers["X-Error"] == error
    assert "constructor" in response.headers.get_list("X-Order")


def test_middleware_sees_what_no_route_allows(client: httpx.Client) -> None:
    response = client.post("/forbidden")
    assert (response.status_code, response.headers["X-Error"]) == (405, "MethodNotAllowed")
    assert "constructor" in client.options("/").headers.get_list("X-Order")
    # The slash that is missing, too.
    assert client.get("/stream/").headers.get_list("X-Order") == ["decorator", "constructor"]


def test_streamed_response_can_be_seen_to(client: httpx.Client) -> None:
    response = client.get("/stream")
    assert response.text == "ab"
    assert response.headers.get_list("X-Order") == ["decorator", "constructor"]


def test_wsgi_middleware_is_around_everything_the_last_outermost(client: httpx.Client) -> None:
    for path in ("/", "/nowhere", "/fails"):
        assert client.get(path).headers.get_list("X-Wrapped") == ["inner", "outer"]


def test_wsgi_middleware_may_answer_itself() -> None:
    own = WSGIApplication()

    def closed(inner: Any) -> Any:
        return PlainTextResponse("closed", 503)

    own.wrap(closed)
    with direct(own) as client:
        assert (client.get("/").status_code, client.get("/").text) == (503, "closed")


# The rest needs no server.


def test_request_goes_on_with_what_middleware_changed() -> None:
    own = WSGIApplication()

    @own.middleware
    def change(request: Request, call_next: CallNext) -> Response:
        request.state.user = "ada"
        request.environ["REQUEST_METHOD"] = request.headers.get("X-Method", request.method)
        return call_next(request)

    @own.put("/")
    def handler(request: Request) -> str:
        return f"{request.state.user} {request.method}"

    with direct(own) as client:
        assert client.post("/", headers={"X-Method": "PUT"}).text == "ada PUT"


def test_response_can_be_replaced() -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: "before")

    @own.middleware
    def replace(request: Request, call_next: CallNext) -> Any:
        return f"{call_next(request).body.decode()} and after", 201

    with direct(own) as client:
        response = client.get("/")
    assert (response.status_code, response.text) == (201, "before and after")
    assert response.headers.get_list("Content-Length") == [str(len("before and after"))]


def test_content_can_be_wrapped() -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: (piece for piece in ("a", "b")))

    @own.middleware
    def upper(request: Request, call_next: CallNext) -> Response:
        response = call_next(request)
        assert isinstance(response, StreamingResponse)
        content = response.content
        response.content = (piece.upper() for piece in content)
        return response

    with direct(own) as client:
        assert client.get("/").text == "AB"


def test_middleware_that_raises_before_or_after_is_an_error_for_those_outside(caplog: pytest.LogCaptureFixture) -> None:
    for moment in ("before", "after"):
        own = WSGIApplication()
        own.get("/")(lambda request: "x")
        seen: list[BaseException | None] = []

        @own.middleware
        def outside(request: Request, call_next: CallNext, seen: list[BaseException | None] = seen) -> Response:
            response = call_next(request)
            seen.append(response.error)
            return response

        @own.middleware
        def raising(request: Request, call_next: CallNext, moment: str = moment) -> Response:
            if moment == "after":
                call_next(request)
            raise KeyError(moment)

        caplog.clear()
        with direct(own) as client:
            assert client.get("/").status_code == 500
        assert [type(error) for error in seen] == [KeyError]
        assert len(caplog.records) == 1


def test_middleware_that_raises_outermost_is_answered_too() -> None:
    own = WSGIApplication()

    @own.middleware
    def raising(request: Request, call_next: CallNext) -> Response:
        raise Forbidden("not you")

    with direct(own) as client:
        response = client.get("/")
    assert (response.status_code, "not you" in response.text) == (403, True)


@pytest.mark.parametrize("result", [None, 5, object()], ids=["None", "int", "object"])
def test_middleware_that_returns_no_response_is_named(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()

    @own.middleware
    def forgetful(request: Request, call_next: CallNext) -> Any:
        call_next(request)
        return result

    with direct(own) as client:
        assert client.get("/").status_code == 500
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert isinstance(errors[0], ResponseError)
    assert "forgetful" in str(errors[0])
    assert re.search(r"test_middleware\.py:[0-9]+", str(errors[0]))


def test_call_next_can_be_called_twice() -> None:
    own = WSGIApplication()
    calls: list[int] = []

    @own.get("/")
    def handler(request: Request) -> tuple[str, int]:
        calls.append(1)
        return "x", 503 if len(calls) == 1 else 200

    @own.middleware
    def retry(request: Request, call_next: CallNext) -> Response:
        response = call_next(request)
        return response if response.status != 503 else call_next(request)

    with direct(own) as client:
        assert client.get("/").status_code == 200
    assert len(calls) == 2


def test_errors_of_every_kind_are_the_response_of_their_exception() -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: "x")
    seen: list[Any] = []

    @own.middleware
    def watch(request: Request, call_next: CallNext) -> Response:
        response = call_next(request)
        seen.append(response.error)
        return response

    # A handler of errors answers well, and the error is still known.
    own.error_handler(NotFound)(lambda request, error: "all is well")
    with direct(own) as client:
        client.get("/")
        assert client.get("/nowhere").status_code == 200
        client.post("/")
    assert [type(error) for error in seen] == [type(None), NotFound, MethodNotAllowed]
    assert all(error is None or isinstance(error, HTTPError) for error in seen)


class Counting:
    """An object as a middleware."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        self.count += 1
        return call_next(request)


def test_object_can_be_a_middleware() -> None:
    own, counting = WSGIApplication(), Counting()
    own.add_middleware(counting)
    with direct(own) as client:
        client.get("/nowhere")
    assert counting.count == 1


@pytest.mark.parametrize("thing", [None, 5, Counting], ids=["None", "int", "class"])
def test_what_cannot_be_called_so_is_refused_as_a_middleware(thing: Any) -> None:
    with pytest.raises(TypeError, match="middleware"):
        WSGIApplication().add_middleware(thing)
    with pytest.raises(TypeError, match="middleware"):
        WSGIApplication(middleware=[thing])


def test_middleware_decorator_gives_the_function_back() -> None:
    def function(request: Request, call_next: CallNext) -> Response:
        return call_next(request)

    assert WSGIApplication().middleware(function) is function
    assert Group().middleware(function) is function


def test_middleware_declared_after_routes_is_around_them() -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: "x")
    own.add_middleware(tagged("late"))
    with direct(own) as client:
        assert client.get("/").headers.get_list("X-Order") == ["late"]


def test_stream_that_middleware_drops_is_closed() -> None:
    closed: list[bool] = []

    class Content:
        def __iter__(self) -> Iterator[str]:
            return iter("x")

        def close(self) -> None:
            closed.append(True)

    own = WSGIApplication()
    own.get("/")(lambda request: StreamingResponse(Content()))

    @own.middleware
    def replace(request: Request, call_next: CallNext) -> Response:
        assert isinstance(call_next(request), StreamingResponse)
        return PlainTextResponse("instead")

    with direct(own) as client:
        assert client.get("/").text == "instead"
    assert closed == [True]


# Groups: RFC 9110 §9.3.7, §15.5.5, §15.5.6.


@pytest.mark.parametrize(
    ("method", "target", "status", "order"),
    [
        ("GET", "/api/x", 200, ["api", "app"]),
        ("HEAD", "/api/x", 200, ["api", "app"]),
        ("POST", "/api/x", 405, ["api", "app"]),
        ("OPTIONS", "/api/x", 204, ["api", "app"]),
        ("GET", "/api/x/", 308, ["api", "app"]),
        ("GET", "/api/none", 404, ["api", "app"]),
        ("OPTIONS", "/api/none", 404, ["api", "app"]),
        ("GET", "/api", 404, ["api", "app"]),
        ("GET", "/api/%FF", 400, ["app"]),
        ("GET", "/api/v2/x", 200, ["v2", "api", "app"]),
        ("POST", "/api/v2/x", 405, ["v2", "api", "app"]),
        ("GET", "/api/v2/none", 404, ["v2", "api", "app"]),
        # A prefix with parameters: where one of its routes is, there is the group.
        ("POST", "/of/ann/x", 405, ["of", "app"]),
        ("OPTIONS", "/of/ann/x", 204, ["of", "app"]),
        ("GET", "/of/ann/none", 404, ["app"]),
        ("GET", "/apis", 404, ["app"]),
        ("POST", "/outside", 405, ["app"]),
        # Mounted below the prefix, beside routes.
        ("GET", "/api/mounted/a", 200, ["api", "app"]),
        ("GET", "/api/v2/mounted", 200, ["v2", "api", "app"]),
        ("PUT", "/mounted", 200, ["app"]),
    ],
)
def test_middleware_of_groups_runs_once_for_all_that_is_below_their_prefix(
    method: str, target: str, status: int, order: list[str]
) -> None:
    own = WSGIApplication(middleware=[tagged("app")])
    api, inner = Group("/api", middleware=[tagged("api")]), Group("/v2", middleware=[tagged("v2")])
    dynamic = Group("/of/<name>", middleware=[tagged("of")])
    for routes in (own, api, inner):
        routes.mount("/mounted", PlainTextResponse("mounted"))
        routes.get("/x" if routes is not own else "/outside")(lambda request: "x")
    dynamic.get("/x")(lambda request, name: name)
    api.include(inner)
    own.include(api)
    own.include(dynamic)
    with direct(own) as client:
        response = client.request(method, "/", extensions={"target": target.encode()})
    assert response.status_code == status
    assert response.headers.get_list("X-Order") == order


def test_route_of_another_group_at_the_same_path_runs_its_own_middleware() -> None:
    own = WSGIApplication()
    for name, method in (("reads", "GET"), ("writes", "POST")):
        group = Group("/x", middleware=[tagged(name)])
        group.add_route("", lambda request: "x", methods=[method], name=name)
        own.include(group)
    with direct(own) as client:
        assert client.get("/x").headers.get_list("X-Order") == ["reads"]
        assert client.post("/x").headers.get_list("X-Order") == ["writes"]
        response = client.put("/x")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert len(response.headers.get_list("X-Order")) == 1


def without_next(request: Request) -> Response:
    return Response()


async def asynchronous(request: Request, call_next: CallNext) -> Response:
    return call_next(request)


class AsynchronousObject:
    async def __call__(self, request: Request, call_next: CallNext) -> Response:
        return call_next(request)


@pytest.mark.parametrize(
    "thing", [without_next, asynchronous, AsynchronousObject(), lambda: None], ids=["one", "async", "object", "none"]
)
def test_middleware_that_cannot_take_the_request_and_the_rest_is_refused_with_its_name(thing: Any) -> None:
    for refused in (
        lambda: WSGIApplication(middleware=[thing]),
        lambda: WSGIApplication().middleware(thing),
        lambda: Group(middleware=[thing]),
        lambda: Group().add_middleware(thing),
    ):
        with pytest.raises(TypeError, match=r"a middleware, (is async|cannot be called with \(request, call_next\))"):
            refused()


def test_wrapping_after_the_first_request_is_refused() -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: "x")
    with direct(own) as client:
        client.get("/")
        with pytest.raises(RuntimeError, match=r"first request.*test_middleware\.py:[0-9]+"):
            own.wrap(wrapped, "late")
        assert "X-Wrapped" not in client.get("/").headers


# Content: PEP 3333, "Specification Details": whatever becomes of an iterable, its close() is called, and once.


class Pieces:
    """An iterator that counts its closes."""

    def __init__(self) -> None:
        self.left: list[Any] = [b"a", b"b"]
        self.closes = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self.left:
            raise StopIteration
        return self.left.pop(0)

    def close(self) -> None:
        self.closes += 1


class Around:
    """The usual way to put something around content: it closes what it has."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __iter__(self) -> Iterator[Any]:
        return iter(self.content)

    def close(self) -> None:
        self.content.close()


def application_of(kind: str, pieces: Pieces) -> WSGIApplication:
    """An application whose content is these pieces."""
    own = WSGIApplication()
    if kind == "events":
        pieces.left = ["a", "b"]

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return pieces

    def lazily(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        class Lazy(Around):
            def __iter__(self) -> Iterator[bytes]:
                start_response("200 OK", [("Content-Type", "text/plain")])
                # Not `yield from`, with which the end of this generator would close the pieces, too.
                for piece in pieces:  # noqa: UP028
                    yield piece

        return Lazy(pieces)

    results: dict[str, Callable[[], Any]] = {
        "stream": lambda: StreamingResponse(pieces),
        "iterator": lambda: pieces,
        "tuple": lambda: (pieces, 201, {"X-A": "1"}),
        "events": lambda: EventStreamResponse(pieces),
        "handler of errors": lambda: pieces,
    }
    if kind in ("mounted", "lazily"):
        own.mount("/", {"mounted": mounted, "lazily": lazily}[kind])
    elif kind == "handler of errors":
        own.error_handler(404)(lambda request, error: results[kind]())
    else:
        own.add_route("/", lambda request: results[kind]())
    return own


def replacing(request: Request, call_next: CallNext) -> Response:
    call_next(request)
    return PlainTextResponse("instead")


def raising_after(request: Request, call_next: CallNext) -> Response:
    call_next(request)
    raise ValueError("after")


def wrapping(request: Request, call_next: CallNext) -> Response:
    inner = call_next(request)
    assert isinstance(inner, StreamingResponse)
    return StreamingResponse(Around(inner.content), inner.status, inner.headers)


def putting_around(request: Request, call_next: CallNext) -> Response:
    inner = call_next(request)
    assert isinstance(inner, StreamingResponse)
    inner.content = Around(inner.content)
    return inner


ENDS: dict[str, Any] = {
    "sent": None,
    "replaced": replacing,
    "raised after": raising_after,
    "wrapped": wrapping,
    "put around": putting_around,
    "compressed": GzipMiddleware(),
}


KINDS = ["stream", "iterator", "tuple", "events", "handler of errors", "mounted", "lazily"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reading", ["all", "some", "nothing"])
def test_content_is_closed_exactly_once_whatever_becomes_of_it(kind: str, end: str, method: str, reading: str) -> None:
    pieces = Pieces()
    own = application_of(kind, pieces)
    for _ in range(2):
        # Inside one another, too.
        if ENDS[end]:
            own.add_middleware(ENDS[end])
    environ = {"REQUEST_METHOD": method, "PATH_INFO": "/", "HTTP_ACCEPT_ENCODING": "gzip", "wsgi.input": None}
    content: Any = own(environ, lambda status, headers, exc_info=None: None)
    assert pieces.closes <= 1
    iterator = iter(content)
    for _ in range({"all": 10, "some": 1, "nothing": 0}[reading]):
        next(iterator, None)
    if hasattr(content, "close"):
        content.close()
    assert pieces.closes == 1


@pytest.mark.parametrize("refusals", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_content_is_closed_once_if_the_server_refuses_the_head(refusals: int, kind: str, end: str) -> None:
    # Once: the error is answered in its place. Twice: that cannot be sent either.
    asked: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        asked.append(status)
        if len(asked) <= refusals:
            raise ConnectionError

    pieces = Pieces()
    own = application_of(kind, pieces)
    if ENDS[end]:
        own.add_middleware(ENDS[end])
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_ACCEPT_ENCODING": "gzip", "wsgi.input": None}
    content: Any = None
    with contextlib.suppress(ConnectionError):
        content = own(environ, start_response)
    if hasattr(content, "close"):
        content.close()
    assert pieces.closes == 1
    assert len(asked) == 2


def test_content_that_middleware_replaced_is_closed() -> None:
    closed: list[bool] = []

    class Pieces:
        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

        def close(self) -> None:
            closed.append(True)

    own = WSGIApplication()
    own.get("/")(lambda request: StreamingResponse(Pieces()))

    @own.middleware
    def louder(request: Request, call_next: CallNext) -> Response:
        response = call_next(request)
        assert isinstance(response, StreamingResponse)
        pieces = response.content
        response.content = (str(piece).upper() for piece in pieces)
        return response

    with direct(own) as client:
        assert client.get("/").text == "AB"
    assert closed == [True]


def test_error_handler_that_gives_one_response_again_and_again_is_not_followed() -> None:
    own = WSGIApplication()
    always = PlainTextResponse("sorry", 500)
    own.error_handler(ZeroDivisionError)(lambda request, error: always)

    @own.get("/")
    def fail(request: Request) -> str:
        raise ZeroDivisionError

    @own.middleware
    def count(request: Request, call_next: CallNext) -> Response:
        response = call_next(request)
        response.set_cookie(f"visitor{request.query_string}", "1")
        return response

    with direct(own) as client:
        assert client.get("/?1").text == "sorry"
        second = client.get("/?2")
    assert (second.status_code, second.text) == (500, "500 Internal Server Error\n")
    assert "visitor1" not in str(second.headers)
