"""Uses of the framework that mypy accepts, and the types they have. Checked, never run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from typing_extensions import assert_type

from wsgi.application import (
    Client,
    Converter,
    EventStreamResponse,
    FileResponse,
    Forbidden,
    Group,
    Headers,
    HTMLResponse,
    HTTPError,
    JSONResponse,
    Limits,
    MultiDict,
    NotFound,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    ServerSentEvent,
    StreamingResponse,
    UploadedFile,
    WSGIApplication,
    abort,
    redirect,
)
from wsgi.application.middleware.sessions import Session, SessionMiddleware
from wsgi.application.request import Application

app = WSGIApplication(debug=True, limits=Limits(body=1000))
group = Group("/group")

# Each kind of result.


@app.route("/response")
def response(request: Request) -> Response:
    return Response("x", 200, {"X-A": "1"}, media_type="text/plain")


@app.get("/html", name="page")
def html(request: Request) -> HTMLResponse:
    return HTMLResponse("<p>")


@app.post("/text/<name>/<int:i>")
def text(request: Request, name: str, i: int) -> str:
    return name * i


@app.put("/bytes")
def content(request: Request) -> bytes:
    return request.body


@app.patch("/object")
def an_object(request: Request) -> dict[str, Any]:
    return {"a": 1}


@app.patch("/typed-object")
def a_typed_object(request: Request) -> dict[str, int]:
    return {"a": 1}


@app.delete("/list")
def a_list(request: Request) -> list[str]:
    return ["a"]


@app.get("/pair")
def pair(request: Request) -> tuple[str, int]:
    return "made", 201


@app.get("/triple")
def triple(request: Request) -> tuple[dict[str, str], int, dict[str, str]]:
    return {"a": "b"}, 201, {"X-A": "1"}


@app.get("/triple-of-pairs")
def triple_of_pairs(request: Request) -> tuple[str, int, list[tuple[str, str]]]:
    return "", 201, [("X-A", "1")]


@app.get("/generator")
def generator(request: Request) -> Iterator[str]:
    yield "a"


@app.get("/generator-of-bytes")
def generator_of_bytes(request: Request) -> Iterator[bytes]:
    yield b"a"


@app.get("/generator-of-both")
def generator_of_both(request: Request) -> Iterator[str | bytes]:
    yield "a"
    yield b"b"


class Note(TypedDict):
    """An object with known members."""

    text: str
    stars: int


@app.get("/typed-dict")
def typed_dict(request: Request) -> Note:
    return {"text": "a", "stars": 5}


@app.get("/typed-dict-with-status")
def typed_dict_with_status(request: Request) -> tuple[Note, int]:
    return {"text": "a", "stars": 5}, 201


@app.get("/mapping")
def mapping(request: Request) -> Mapping[str, Any]:
    return {"a": 1}


@app.get("/closing")
def with_teardown(request: Request) -> str:
    file = request.enter_context(Path("a").open("rb"))  # noqa: SIM115
    assert_type(file, BufferedReader)
    request.on_close(file.close)
    request.on_close(lambda: print("over"))
    return "x"


@group.get("/either")
def either(request: Request) -> Response | str:
    return "x" if request.query else redirect("/")


@group.route("/any", methods=["GET", "POST"])
def anything(request: Request, **parameters: Any) -> Any:
    abort(404, "nothing")


class Handlers:
    """A method and an object as handlers."""

    def method(self, request: Request) -> str:
        return ""

    def __call__(self, request: Request) -> Response:
        return StreamingResponse(["a", b"b"])


app.add_route("/method", Handlers().method)
app.add_route("/object", Handlers(), methods=["GET"], name="thing")
app.add_route("/lambda", lambda request: "x")
app.include(group)
group.include(Group("/inner"))
app.static("/static", Path("static"), name="files", max_age=60, index="index.html")
app.mount("/other", WSGIApplication())
app.mount("/third", PlainTextResponse("itself"))

# A decorator leaves a handler's type as it was.

assert_type(html(Request({}, app)), HTMLResponse)
assert_type(text(Request({}, app), "a", 1), str)
assert_type(app.url_for("page", q=1), str)

# What a request has.


@app.post("/request")
def shown(request: Request) -> str:
    assert_type(request.method, str)
    assert_type(request.path, str)
    assert_type(request.url, str)
    assert_type(request.host, str)
    assert_type(request.query, MultiDict[str])
    assert_type(request.query["a"], str)
    assert_type(request.query.get("a"), str | None)
    assert_type(request.query.get_all("a"), list[str])
    assert_type(request.headers["Host"], str)
    assert_type(request.headers.get("Host"), str | None)
    assert_type(request.cookies, dict[str, str])
    assert_type(request.client, Client | None)
    assert_type(request.content_length, int | None)
    assert_type(request.media_type, str)
    assert_type(request.body, bytes)
    assert_type(request.text, str)
    assert_type(request.json(), Any)
    assert_type(request.form["a"], str)
    assert_type(request.files["a"], UploadedFile)
    assert_type(request.files.get_all("a"), list[UploadedFile])
    assert_type(request.files["a"].filename, str)
    assert_type(request.files["a"].size, int)
    assert_type(request.stream.read(5), bytes)
    assert_type(request.accepts("text/html", "text/plain"), str | None)
    assert_type(request.is_json, bool)
    assert_type(request.wants_json, bool)
    assert_type(request.is_disconnected(), bool)
    assert_type(request.route, str | None)
    assert_type(request.url_for("page", q=1), str)
    assert_type(request.app, Application)
    request.state.user = "ada"
    request.app.state.database = object()
    return str(request.state.user)


@app.get("/session")
def session(request: Request) -> str:
    assert_type(request.session, Session)
    request.session["user"] = 7
    request.session.pop("user", None)
    request.session.clear()
    return str(request.session.get("user"))


# Middleware and handlers of errors.


@app.middleware
def around(request: Request, call_next: Callable[[Request], Response]) -> Response:
    response = call_next(request)
    assert_type(response.error, BaseException | None)
    assert_type(response.headers, Headers)
    response.headers["X-A"] = "1"
    response.set_cookie("a", "1", max_age=5, same_site="Strict")
    return response


@group.middleware
def stops(request: Request, call_next: Callable[[Request], Response]) -> tuple[str, int]:
    return "no", 403


app.add_middleware(SessionMiddleware("sixteen bytes at least"))
WSGIApplication(middleware=[around, SessionMiddleware(["new" * 16, "old" * 16])])


@app.error_handler(404)
def missing(request: Request, error: HTTPError) -> tuple[str, int]:
    return error.detail, error.status


@app.error_handler(KeyError)
def key_error(request: Request, error: KeyError) -> Response:
    return Response(str(error), 400)


@app.error_handler(Exception)
def everything(request: Request, error: Exception) -> dict[str, Any]:
    return {"error": str(error)}


assert_type(missing(Request({}, app), NotFound()), tuple[str, int])

# Tests.

client = app.test_client(headers={"X-A": "1"}, raise_errors=False)
assert_type(client.get("/", query={"a": [1, 2]}, headers={"Accept": "text/html"}, follow_redirects=True).status, int)
assert_type(client.post("/", json={"a": [1]}, cookies={"a": "b"}).body, bytes)
assert_type(client.post("/", data={"a": 1}, files={"b": ("name.txt", b"c", "text/plain")}).text, str)

# Responses.

PlainTextResponse(body="x", status=200, headers=[("X-A", "1")])
JSONResponse({"a": object}, 201, Headers({"X-A": "1"}))
RedirectResponse("/", 308)
FileResponse("path.txt", filename="name.txt", inline=False)
FileResponse(Path("path.txt"), max_age=60)
EventStreamResponse([ServerSentEvent("a", event="b", id="1", retry=5)])
assert_type(redirect("/"), RedirectResponse)


class CSVResponse(Response):
    """A response of one's own, in two lines."""

    media_type = "text/csv"


CSVResponse("a,b", 201)


def sent_file(file: BinaryIO) -> FileResponse:
    return FileResponse(file, media_type="text/plain")


class Year(Converter[int]):
    """A kind of parameter of one's own."""

    pattern = "[0-9]{4}"

    def parse(self, text: str) -> int:
        return int(text)


WSGIApplication(converters={"year": Year})

# What does not come back.


def does_not_come_back(flag: bool) -> int:
    number: int | None = 1 if flag else None
    if number is None:
        abort(404)
    assert_type(number, int)
    return number


def raises() -> None:
    raise Forbidden("no", headers={"X-A": "1"}, balance=30)
