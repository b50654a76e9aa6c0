"""Uses of the framework that mypy refuses: at each line that says so, for the reason it says, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

from wsgi.application import (
    FileResponse,
    Group,
    Headers,
    HTMLResponse,
    Limits,
    NotFound,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    ServerSentEvent,
    StreamingResponse,
    WSGIApplication,
    abort,
)

app = WSGIApplication()
group = Group("/group")

# Results that are none.


@app.get("/int")  # error: type-var
def returns_int(request: Request) -> int:
    return 1


@app.get("/none")  # error: type-var
def returns_nothing(request: Request) -> None:
    return None


@app.get("/set")  # error: type-var
def returns_set(request: Request) -> set[str]:
    return {"a"}


@app.get("/tuple")  # error: type-var
def returns_wrong_pair(request: Request) -> tuple[int, str]:
    return 200, "x"


@app.get("/maybe")  # error: type-var
def returns_maybe(request: Request) -> str | None:
    return None


@group.post("/coroutine")  # error: type-var
async def coroutine(request: Request) -> str:
    return "x"


# Handlers that cannot be called so.


@app.get("/no-request")  # error: type-var
def takes_nothing() -> str:
    return "x"


@app.get("/other-request")  # error: type-var
def takes_a_number(number: int) -> str:
    return "x"


app.add_route("/x", 5)  # error: arg-type
app.add_route("/x", takes_nothing, methods=5)  # error: arg-type
app.route("/x", methods=[1])  # error: list-item
app.route("/x", name=5)  # error: arg-type
app.get(5)  # error: arg-type
app.get("/x", methods=["GET"])  # error: call-arg
app.mount("/x", "app")  # error: arg-type
app.include(app)  # error: arg-type
WSGIApplication(limits=5)  # error: arg-type
Limits(unknown=5)  # error: call-arg
Group(5)  # error: arg-type

# What the test client does not take.

client = app.test_client()
client.get("/", jsn=1)  # error: call-arg
client.post("/", json={}, header={})  # error: call-arg
client.put("/", headers=5)  # error: arg-type
client.get(5)  # error: arg-type

# A decorator leaves a handler's type as it was.


@app.get("/page")
def page(request: Request) -> HTMLResponse:
    return HTMLResponse("<p>")


number: int = page(Request({}, app))  # error: assignment
page("no request")  # error: arg-type

# What a request has, and has not.


@app.post("/request")
def shown(request: Request) -> str:
    length: int = request.content_length  # error: assignment
    field: int = request.query["a"]  # error: assignment
    maybe: str = request.query.get("a")  # error: assignment
    file: str = request.files["a"]  # error: assignment
    body: str = request.body  # error: assignment
    request.query["a"] = "b"  # error: index
    request.headers["A"] = "b"  # error: index
    request.form["a"] = "b"  # error: index
    request.session[5] = "x"  # error: index
    _ = request.nothing  # error: attr-defined
    request.accepts(5)  # error: arg-type
    _ = request.client.host  # error: union-attr
    request.method = "GET"  # error: misc
    return f"{length} {field} {maybe} {file} {body}"


# Middleware and handlers of errors.


@app.middleware  # error: type-var
def without_next(request: Request) -> Response:
    return Response()


@app.middleware  # error: type-var
def returns_none(request: Request, call_next: Callable[[Request], Response]) -> None:
    call_next(request)


@group.middleware
def changes(request: Request, call_next: Callable[[Request], Response]) -> Response:
    response = call_next()  # error: call-arg
    response.headers["A"] = 5  # error: assignment
    response.set_cookie("a", same_site="lax")  # error: arg-type
    return response


@app.error_handler(404)  # error: type-var
def takes_no_error(request: Request) -> str:
    return "x"


@app.error_handler(404)  # error: type-var
def answers_with_none(request: Request, error: Exception) -> None:
    return None


app.error_handler("404")  # error: arg-type
app.error_handler(KeyboardInterrupt)  # error: arg-type

# Responses.

Response(5)  # error: arg-type
Response("x", "200 OK")  # error: arg-type
Response("x", 200, {"A": 5})  # error: arg-type
PlainTextResponse(text="x")  # error: call-arg
StreamingResponse([1, 2])  # error: list-item
RedirectResponse(5)  # error: arg-type
FileResponse(5)  # error: arg-type
ServerSentEvent("x", id=5)  # error: arg-type
Headers({"A": 5})  # error: arg-type
Headers()["A"] = 5  # error: assignment
NotFound(404)  # error: arg-type


def aborts() -> None:
    abort("404")  # error: arg-type


def after_abort() -> str:
    abort(404)
    return "never"  # error: unreachable


# What is closed with a request.


def wrong_teardown(request: Request) -> None:
    request.on_close(print("over"))  # error: arg-type
    request.on_close(lambda error: None)  # error: arg-type, misc
    request.enter_context(open)  # error: arg-type
