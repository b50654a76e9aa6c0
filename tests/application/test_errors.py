"""Errors: raised, handled, logged, shown."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.application.switchboard import direct
from wsgi.application import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    Gone,
    Group,
    HTTPError,
    InternalServerError,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    Request,
    Response,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnprocessableContent,
    UnsupportedMediaType,
    WSGIApplication,
    abort,
    problem_response,
)
from wsgi.application.errors import ResponseError, RouteError, reason_phrase

SECRET = "s3cret"
FAMILY: dict[int, Callable[..., HTTPError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    413: ContentTooLarge,
    415: UnsupportedMediaType,
    416: RangeNotSatisfiable,
    422: UnprocessableContent,
    429: TooManyRequests,
    500: InternalServerError,
    503: ServiceUnavailable,
}
# RFC 9110 §15, RFC 6585 §4.
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class OutOfStock(Exception):
    """An application's own."""


class SoldOut(OutOfStock):
    """A narrower one."""


class TeaError(HTTPError):
    """An error with a status that has no class."""

    status = 418


class GoneFishing(NotFound):
    """A narrower 404."""


app = WSGIApplication()
shop = Group("/shop")
back = Group("/back")


@app.route("/abort/<int:status>", methods=["GET", "POST"])
def aborting(request: Request, status: int) -> str:
    abort(status, "too <b>bad</b>", headers={"X-Why": "because"}, balance=30)


@app.get("/bare/<int:status>")
def bare(request: Request, status: int) -> str:
    abort(status)


@app.route("/broken", methods=["GET", "POST"])
def broken(request: Request) -> str:
    raise ValueError(SECRET)


@app.get("/challenge")
def challenge(request: Request) -> str:
    raise Unauthorized("who are you?", challenge='Bearer realm="api"')


@app.get("/later/<int:status>")
def later(request: Request, status: int) -> str:
    if status == 429:
        raise TooManyRequests(retry_after=7)
    raise ServiceUnavailable(retry_after=7)


@app.get("/tea")
def tea(request: Request) -> str:
    raise TeaError(detail="short and stout")


@app.error_handler(OutOfStock)
def out_of_stock(request: Request, error: OutOfStock) -> tuple[str, int]:
    return f"app: {type(error).__name__}", 409


@app.error_handler(410)
def gone(request: Request, error: HTTPError) -> tuple[dict[str, Any], int]:
    return {"gone": error.detail}, 410


@shop.get("/<what>")
@back.get("/<what>")
def raising(request: Request, what: str) -> str:
    raise {
        "stock": OutOfStock(),
        "sold": SoldOut(),
        "missing": NotFound("no such thing"),
        "fishing": GoneFishing(),
        "conflict": Conflict(),
        "gone": Gone("far"),
        "other": KeyError(SECRET),
    }[what]


@shop.error_handler(SoldOut)
def sold_out(request: Request, error: SoldOut) -> tuple[str, int]:
    return "shop: SoldOut", 410


@shop.error_handler(404)
def shop_missing(request: Request, error: HTTPError) -> tuple[str, int, dict[str, str]]:
    return f"shop: 404 {error.detail}", 404, {"X-Shop": "yes"}


@back.error_handler(GoneFishing)
def fishing(request: Request, error: GoneFishing) -> tuple[str, int]:
    return "back: GoneFishing", 404


@back.error_handler(HTTPError)
def back_any(request: Request, error: HTTPError) -> tuple[str, int]:
    return f"back: HTTPError {error.status}", error.status


@back.error_handler(409)
def back_conflict(request: Request, error: HTTPError) -> tuple[str, int]:
    return "back: 409", 409


shop.include(back)
app.include(shop)


# The family.


@pytest.mark.parametrize("status", FAMILY)
def test_class_has_its_status_and_title(status: int) -> None:
    error = FAMILY[status]("detail")
    assert isinstance(error, HTTPError)
    assert (error.status, error.title, error.detail) == (status, TITLES[status], "detail")
    assert "detail" in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize("status", FAMILY)
def test_abort_raises_the_class_of_the_status(status: int) -> None:
    with pytest.raises(HTTPError) as caught:
        abort(status, "detail", headers={"X-A": "1"}, member=5)
    assert type(caught.value) is FAMILY[status]
    assert caught.value.detail == "detail"
    assert caught.value.headers["x-a"] == "1"
    assert caught.value.extensions == {"member": 5}


def test_subclass_does_not_take_its_parents_place() -> None:
    with pytest.raises(NotFound) as caught:
        abort(404)
    assert type(caught.value) is NotFound


@pytest.mark.parametrize(("status", "title"), [(402, "Payment Required"), (418, None), (451, None), (507, None)])
def test_abort_raises_http_error_for_a_status_without_class(status: int, title: str | None) -> None:
    with pytest.raises(HTTPError) as caught:
        abort(status, "detail")
    assert type(caught.value) is HTTPError
    assert caught.value.status == status
    assert caught.value.title == title if title else caught.value.title


@pytest.mark.parametrize("status", [0, 99, 200, 204, 302, 399, 600, 1000, -404])
def test_status_that_is_no_error_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        HTTPError(status)
    with pytest.raises(ValueError, match="400 to 599"):
        abort(status)


def test_title_is_the_applications_if_it_wants() -> None:
    assert HTTPError(409, title="Out of Credit").title == "Out of Credit"
    assert HTTPError(499).title != ""


def test_headers_that_cannot_be_sent_are_refused_without_the_value() -> None:
    with pytest.raises(ValueError, match="X-A") as caught:
        BadRequest(headers={"X-A": f"{SECRET}\n"})
    assert SECRET not in str(caught.value)


def test_errors_can_be_copied() -> None:
    # Test runners and process pools pickle exceptions.
    for error in (BadRequest("detail"), HTTPError(418, "detail")):
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (type(twin), twin.status, twin.detail) == (type(error), error.status, "detail")


def test_declaration_errors_have_the_parents_that_fit() -> None:
    assert issubclass(RouteError, ValueError)
    assert issubclass(ResponseError, TypeError)


# What clients see.


@pytest.mark.parametrize("status", [400, 404, 418, 422, 500, 503, 599])
def test_error_is_answered_with_its_status_detail_and_headers(client: httpx.Client, status: int) -> None:
    response = client.get(f"/abort/{status}")
    assert response.status_code == status
    assert response.headers["X-Why"] == "because"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "too <b>bad</b>" in response.text


def test_error_without_detail_says_its_title(client: httpx.Client) -> None:
    assert "Not Found" in client.get("/bare/404").text
    assert "Not Found" in client.get("/nowhere").text


def test_page_is_for_those_who_ask_for_one_and_escapes(client: httpx.Client) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    response = client.get("/abort/404", headers={"Accept": browser})
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "too &lt;b&gt;bad&lt;/b&gt;" in response.text
    assert "<b>" not in response.text
    assert "Accept" in response.headers["Vary"]


# RFC 9457.
@pytest.mark.parametrize(
    "accept", ["application/json", "application/problem+json", "application/json, text/html;q=0.5"]
)
def test_problem_document_is_for_those_who_ask_for_json(client: httpx.Client, accept: str) -> None:
    response = client.get("/abort/403", headers={"Accept": accept})
    assert response.headers["Content-Type"] == "application/problem+json"
    # §3.1: type, title, status, detail; §3.2: further members.
    assert response.json() == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "too <b>bad</b>",
        "balance": 30,
    }
    assert response.headers["X-Why"] == "because"


def test_problem_document_without_detail_has_none(client: httpx.Client) -> None:
    response = client.get("/nowhere", headers={"Accept": "application/json"})
    assert response.json() == {"type": "about:blank", "title": "Not Found", "status": 404}


@pytest.mark.parametrize("accept", [None, "*/*"])
def test_client_that_sent_json_gets_a_problem_document(client: httpx.Client, accept: str | None) -> None:
    headers = {"Content-Type": "application/json"}
    if accept is None:
        del client.headers["Accept"]
    else:
        headers["Accept"] = accept
    response = client.post("/abort/422", content=b"{}", headers=headers)
    assert response.headers["Content-Type"] == "application/problem+json"
    response = client.post("/broken", content=b"{}", headers=headers)
    assert response.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500}


def test_client_that_sent_json_and_prefers_a_page_gets_a_page(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json", "Accept": "text/html"}
    response = client.post("/abort/422", content=b"{}", headers=headers)
    assert response.headers["Content-Type"].startswith("text/html")


def test_client_that_accepts_nothing_of_it_gets_text(client: httpx.Client) -> None:
    response = client.get("/abort/404", headers={"Accept": "image/png"})
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/plain")


# RFC 9457 §3.1.1 and §3.1.5: what kind of problem it is, and which case of it.
def test_problem_document_has_the_type_and_instance_that_the_application_gives() -> None:
    own = WSGIApplication()

    @own.get("/")
    def handler(request: Request) -> str:
        members: dict[str, Any] = {"type": "https://example.com/out-of-credit", "instance": "/account/12345/msgs/abc"}
        raise Forbidden("Your balance is 30, but that costs 50.", title="Not enough credit.", balance=30, **members)

    with direct(own) as client:
        assert client.get("/", headers={"Accept": "application/json"}).json() == {
            "type": "https://example.com/out-of-credit",
            "title": "Not enough credit.",
            "status": 403,
            "detail": "Your balance is 30, but that costs 50.",
            "instance": "/account/12345/msgs/abc",
            "balance": 30,
        }


def test_head_of_an_error_has_no_content(client: httpx.Client) -> None:
    response = client.head("/nowhere")
    assert (response.status_code, response.content) == (404, b"")


def test_challenge_is_sent(client: httpx.Client) -> None:
    # RFC 9110 §15.5.2.
    response = client.get("/challenge")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')


@pytest.mark.parametrize("status", [429, 503])
def test_time_of_the_next_try_is_sent(client: httpx.Client, status: int) -> None:
    # RFC 9110 §10.2.3.
    response = client.get(f"/later/{status}")
    assert (response.status_code, response.headers["Retry-After"]) == (status, "7")


def test_own_subclass_of_http_error_is_answered(client: httpx.Client) -> None:
    response = client.get("/tea")
    assert (response.status_code, "short and stout" in response.text) == (418, True)


# Unknown errors.


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json"])
def test_unknown_error_is_a_plain_500_without_details(client: httpx.Client, accept: str) -> None:
    response = client.get("/broken", headers={"Accept": accept})
    assert response.status_code == 500
    assert "Internal Server Error" in response.text
    for word in (SECRET, "ValueError", "Traceback", "test_errors"):
        assert word not in response.text


def test_unknown_error_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with direct(app) as client:
        client.get("/broken")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wsgi.application", logging.ERROR)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert "GET" in record.getMessage()
    assert "/broken" in record.getMessage()


def test_unknown_error_below_middleware_and_groups_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    own, group = WSGIApplication(middleware=[passing, passing]), Group("/g", middleware=[passing])
    group.get("/broken")(broken)
    own.include(group)
    with direct(own) as client:
        client.get("/g/broken")
    assert len(caplog.records) == 1


def passing(request: Request, call_next: Callable[[Request], Response]) -> Response:
    return call_next(request)


@pytest.mark.parametrize("path", ["/abort/404", "/nowhere", "/abort/500", "/shop/stock"])
def test_error_that_has_an_answer_is_not_logged(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with direct(app) as client:
        client.get(path)
    assert caplog.records == []


def test_log_line_cannot_be_forged_by_a_path(caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()

    @own.get("/<path:rest>")
    def handler(request: Request, rest: str) -> str:
        raise ValueError

    with direct(own) as client:
        client.get("/", extensions={"target": b"/a%0AERROR forged%1B%5B31m".replace(b" ", b"%20")})
    assert not any(character in caplog.records[0].getMessage() for character in "\n\r\x1b")


def test_base_exceptions_are_not_held_up() -> None:
    own = WSGIApplication()

    @own.get("/")
    def handler(request: Request) -> str:
        raise KeyboardInterrupt

    with direct(own) as client, pytest.raises(KeyboardInterrupt):
        client.get("/")


def test_details_are_shown_in_debug_mode_only() -> None:
    for debug in (False, True):
        own = WSGIApplication(debug=debug)
        own.get("/broken")(broken)
        with direct(own) as client:
            response = client.get("/broken", headers={"Accept": "text/html"})
            assert response.status_code == 500
            assert ("ValueError" in response.text) is debug
            assert "Not Found" in client.get("/nowhere").text


def test_debug_mode_is_off_unless_asked_for() -> None:
    assert WSGIApplication().debug is False


# Handlers of errors.


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        # The class's own handler before its parent's, and the group's before the application's.
        ("/shop/stock", 409, "app: OutOfStock"),
        ("/shop/sold", 410, "shop: SoldOut"),
        ("/shop/missing", 404, "shop: 404 no such thing"),
        ("/shop/fishing", 404, "shop: 404 "),
        # Within a group: classes below HTTPError, then the status, then HTTPError.
        ("/shop/back/fishing", 404, "back: GoneFishing"),
        ("/shop/back/conflict", 409, "back: 409"),
        ("/shop/back/missing", 404, "back: HTTPError 404"),
        # What the innermost group does not know goes outwards.
        ("/shop/back/sold", 410, "shop: SoldOut"),
        ("/shop/back/stock", 409, "app: OutOfStock"),
        ("/shop/gone", 410, '{"gone":"far"}'),
        ("/abort/410", 410, '{"gone":"too <b>bad</b>"}'),
    ],
)
def test_innermost_and_narrowest_handler_answers(client: httpx.Client, path: str, status: int, text: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.text) == (status, text)


def test_error_that_no_handler_knows_is_answered_as_ever(client: httpx.Client) -> None:
    assert client.get("/shop/other").status_code == 500
    assert client.get("/shop/conflict").status_code == 409


def test_handler_of_500_gets_unknown_errors_after_they_were_logged(caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()
    own.get("/broken")(broken)
    own.get("/known")(lambda request: abort(500, "known"))
    logged: list[int] = []

    @own.error_handler(500)
    def sorry(request: Request, error: Exception) -> tuple[str, int]:
        logged.append(len(caplog.records))
        return f"sorry: {type(error).__name__}", 500

    with direct(own) as client:
        assert client.get("/broken").text == "sorry: ValueError"
        assert client.get("/known").text == "sorry: InternalServerError"
    assert logged == [1, 1]


def test_handler_of_exception_gets_whatever_nobody_else_takes(caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()
    own.get("/broken")(broken)

    @own.error_handler(Exception)
    def everything(request: Request, error: Exception) -> tuple[str, int]:
        return type(error).__name__, 500

    with direct(own) as client:
        assert client.get("/broken").text == "ValueError"
        assert client.get("/nowhere").text == "NotFound"


def test_handlers_answer_what_no_route_raised() -> None:
    own = WSGIApplication()
    own.get("/there")(passing_handler)

    @own.error_handler(404)
    def missing(request: Request, error: NotFound) -> tuple[str, int]:
        return f"no {request.path}", 404

    @own.error_handler(MethodNotAllowed)
    def wrong(request: Request, error: MethodNotAllowed) -> tuple[str, int, Any]:
        return "not so", 405, error.headers

    with direct(own) as client:
        assert client.get("/nowhere").text == "no /nowhere"
        response = client.post("/there")
        assert (response.text, response.headers["Allow"]) == ("not so", "GET, HEAD, OPTIONS")


def passing_handler(request: Request) -> str:
    return "here"


def test_handler_answers_paths_that_are_no_text() -> None:
    own = WSGIApplication()

    @own.error_handler(400)
    def bad(request: Request, error: BadRequest) -> tuple[str, int]:
        return "bad", 400

    with direct(own) as client:
        assert client.get("/", extensions={"target": b"/%FF"}).text == "bad"


class Unprintable:
    """What neither JSON nor a page can say."""

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def needs_a_session(request: Request, error: Exception) -> Any:
    """An error page whose template reads what only a group's middleware brings."""
    return request.session["user"]


def unknown_result(request: Request, error: Exception) -> Any:
    return 5


def fails_later(request: Request, error: HTTPError) -> Any:
    return FailingLater(status=error.status)


def fails_at_once(request: Request, error: Exception) -> Any:
    if error:
        raise RuntimeError(SECRET)
    yield "never"


class FailingLater(Response):
    """A response that cannot be sent."""

    __slots__ = ()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize("handler", [needs_a_session, unknown_result, fails_later, fails_at_once])
@pytest.mark.parametrize("key", ["status", HTTPError, Exception])
@pytest.mark.parametrize("within", ["the application", "a group"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/g/nowhere", 404), ("PUT", "/g/here", 405), ("GET", "/g/forbidden", 403), ("GET", "/g/%FF", 400)],
)
def test_handler_that_fails_leaves_the_status_and_fields_of_the_error(
    method: str, path: str, status: int, within: str, key: Any, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own, group = WSGIApplication(), Group("/g")
    group.get("/here")(lambda request: "")
    group.get("/forbidden")(lambda request: abort(403, "not you"))
    own.include(group)
    (group if within == "a group" else own).error_handler(status if key == "status" else key)(handler)
    with direct(own) as client:
        response = client.request(method, "/", extensions={"target": path.encode()})
    assert response.status_code == status
    assert response.text.startswith(f"{status} {reason_phrase(status)}\n")
    assert ("not you" in response.text) == (status == 403)
    assert ("Allow" in response.headers) == (status == 405)
    assert SECRET not in response.text
    (record,) = caplog.records
    assert f"failed to answer {status}" in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize("key", [OutOfStock, Exception, 500])
def test_handler_of_an_unknown_error_that_fails_is_a_logged_500(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: raising(request, "stock"))
    own.error_handler(key)(fails_at_once)
    with direct(own) as client:
        response = client.get("/")
    assert (response.status_code, response.text) == (500, "500 Internal Server Error\n")
    # The error that it should have answered is logged, too: before, or as the context.
    assert "failed to answer 500" in caplog.text
    assert "OutOfStock" in caplog.text


def test_answer_that_cannot_be_written_leaves_the_status(caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: abort(409, "taken", limit=Unprintable()))
    with direct(own) as client:
        response = client.get("/", headers={"Accept": "application/json"})
    assert (response.status_code, response.json()["detail"]) == (409, "taken")
    assert "failed to answer 409" in caplog.text


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_handler_that_fails_is_shown_with_the_error_it_answered_in_debug_mode(accept: str) -> None:
    own = WSGIApplication(debug=True)
    own.error_handler(404)(needs_a_session)
    own.error_handler(405)(fails_later)
    own.get("/")(lambda request: "")
    with direct(own, validated=False) as client:
        missing = client.get("/nowhere", headers={"Accept": accept})
        wrong = client.put("/", headers={"Accept": accept})
    assert missing.status_code == 404
    assert "404 Not Found" in missing.text
    assert "request.session needs SessionMiddleware" in missing.text
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "405 Method Not Allowed" in wrong.text
    assert "RuntimeError" in wrong.text


def test_error_is_logged_although_the_application_disabled_older_loggers(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("wsgi.application").disabled = True  # as dictConfig does
    own = WSGIApplication()
    own.get("/")(lambda request: raising(request, "stock"))
    with direct(own) as client:
        assert client.get("/").status_code == 500
    assert "OutOfStock" in caplog.text


def test_handler_may_return_any_kind_of_result() -> None:
    for result, status, text in (
        ("plain", 200, "plain"),
        (({"a": 1}, 404), 404, '{"a":1}'),
        (Response("r", 410), 410, "r"),
    ):
        own = WSGIApplication()
        own.error_handler(404)(lambda request, error, result=result: result)
        with direct(own) as client:
            response = client.get("/nowhere")
        assert (response.status_code, response.text) == (status, text)


def test_groups_handlers_get_errors_of_their_middleware_but_not_of_the_applications() -> None:
    def fails(request: Request, call_next: Callable[[Request], Response]) -> Response:
        raise OutOfStock

    for place in ("app", "group"):
        own, group = WSGIApplication(), Group("/g")
        group.get("/")(passing_handler)
        group.error_handler(OutOfStock)(lambda request, error: "group")
        own.error_handler(OutOfStock)(lambda request, error: "app")
        (own if place == "app" else group).add_middleware(fails)
        own.include(group)
        with direct(own) as client:
            assert client.get("/g/").text == place


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/nowhere", "api 404"),
        ("GET", "/api", "api 404"),
        ("POST", "/api/there", "api 405"),
        ("GET", "/api/v2/nowhere", "v2 404"),
        ("POST", "/api/v2/there", "api 405"),
        ("GET", "/api/%FF", "api 400"),
        ("GET", "/apis", "app 404"),
        ("GET", "/nowhere", "app 404"),
        ("GET", "/x/y/nowhere", "app 404"),
    ],
)
def test_groups_handlers_answer_below_their_prefix_where_there_is_no_route(
    method: str, target: str, expected: str
) -> None:
    own, api, inner, dynamic = WSGIApplication(), Group("/api"), Group("/v2"), Group("/x/<name>")

    def says(who: str) -> Callable[[Request, HTTPError], tuple[str, int]]:
        return lambda request, error: (f"{who} {error.status}", error.status)

    for status in (400, 404, 405):
        own.error_handler(status)(says("app"))
        api.error_handler(status)(says("api"))
    inner.error_handler(404)(says("v2"))
    dynamic.error_handler(404)(says("dynamic"))
    for group in (api, inner):
        group.get("/there")(passing_handler)
    dynamic.get("/there")(lambda request, name: name)
    api.include(inner)
    own.include(api)
    own.include(dynamic)
    with direct(own) as client:
        assert client.request(method, "/", extensions={"target": target.encode()}).text == expected


@pytest.mark.parametrize("key", [0, 200, 399, 600])
def test_key_that_is_no_error_status_is_refused(key: int) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        WSGIApplication().error_handler(key)


@pytest.mark.parametrize("key", ["404", None, object, KeyboardInterrupt, ValueError("x")])
def test_key_that_is_neither_status_nor_exception_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="status or a class of exceptions"):
        WSGIApplication().error_handler(key)


def test_second_handler_of_the_same_key_is_refused() -> None:
    own = WSGIApplication()
    own.error_handler(404)(lambda request, error: "")
    with pytest.raises(ValueError, match="404"):
        own.error_handler(404)(lambda request, error: "")


def test_error_handler_decorator_gives_the_function_back() -> None:
    def function(request: Request, error: Exception) -> str:
        return ""

    assert WSGIApplication().error_handler(404)(function) is function


def test_answer_to_an_error_does_not_share_its_headers() -> None:
    # Raised twice, as a module-level constant may be.
    error = BadRequest("x", headers={"X-A": "1"})
    own = WSGIApplication()

    @own.get("/")
    def handler(request: Request) -> str:
        raise error

    @own.middleware
    def adds(request: Request, call_next: Callable[[Request], Response]) -> Response:
        response = call_next(request)
        response.headers.add("X-A", "2")
        return response

    with direct(own) as client:
        for _ in range(2):
            assert client.get("/").headers.get_list("X-A") == ["1", "2"]


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("missing", 404, "404 Not Found\nno pieces\n"),
        ("aborted", 403, "403 Forbidden\n"),
        ("stock", 409, "sold out"),
        ("unknown", 500, "500 Internal Server Error\n"),
        ("whole", 200, "whole"),
    ],
)
def test_error_before_the_first_piece_of_a_generator_is_answered_as_any_other(
    kind: str, status: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = WSGIApplication()
    seen: list[BaseException | None] = []

    @own.get("/<kind>")
    def pieces(request: Request, kind: str) -> Iterator[str]:
        if kind == "missing":
            raise NotFound("no pieces")
        if kind == "aborted":
            abort(403)
        if kind == "stock":
            raise OutOfStock
        if kind == "unknown":
            raise ValueError(SECRET)
        yield kind

    @own.middleware
    def sees(request: Request, call_next: Callable[[Request], Response]) -> Response:
        response = call_next(request)
        seen.append(response.error)
        return response

    own.error_handler(OutOfStock)(lambda request, error: ("sold out", 409))
    with direct(own) as client:
        response = client.get(f"/{kind}")
    assert (response.status_code, response.text) == (status, text)
    assert [error is None for error in seen] == [kind == "whole"]
    assert len(caplog.records) == (kind == "unknown")


def test_error_before_the_first_piece_is_shown_in_debug_mode() -> None:
    own = WSGIApplication(debug=True)

    @own.get("/")
    def pieces(request: Request) -> Iterator[str]:
        if not request.query:
            raise ValueError("before anything was sent")
        yield ""

    with direct(own) as client:
        assert "before anything was sent" in client.get("/").text


def test_handler_that_finds_something_else_wrong_with_the_request_answers_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: request.host)

    @own.error_handler(400)
    def bad(request: Request, error: BadRequest) -> str:
        return request.url

    @own.error_handler(404)
    def missing(request: Request, error: NotFound) -> str:
        raise Gone("for good")

    with direct(own, HTTP_HOST="a b") as client:
        assert client.get("/").status_code == 400
        response = client.get("/nowhere", headers={"Accept": "application/json"})
    assert (response.status_code, response.json()["detail"]) == (410, "for good")
    assert caplog.records == []


@pytest.mark.parametrize("accept", ["text/html", "*/*", "application/json", "image/png"])
def test_problem_response_is_a_problem_document_for_everybody(accept: str) -> None:
    # RFC 9457 §3.
    own = WSGIApplication()

    @own.error_handler(HTTPError)
    def problem(request: Request, error: HTTPError) -> Response:
        return problem_response(error)

    @own.get("/<kind>")
    def handler(request: Request, kind: str) -> str:
        if kind == "full":
            raise TooManyRequests("slower", retry_after=7, type="https://example.com/slow", balance=3)
        raise NotFound

    with direct(own) as client:
        full, bare = (client.get(f"/{kind}", headers={"Accept": accept}) for kind in ("full", "bare"))
    assert (full.status_code, full.headers["Content-Type"]) == (429, "application/problem+json")
    assert full.headers["Retry-After"] == "7"
    assert full.json() == {
        "type": "https://example.com/slow",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "slower",
        "balance": 3,
    }
    assert bare.json() == {"type": "about:blank", "title": "Not Found", "status": 404}


async def asynchronous_handler(request: Request, error: Exception) -> str:
    return ""


@pytest.mark.parametrize(
    "handler",
    [lambda: "", lambda request: "", lambda request, error, more: "", asynchronous_handler],
    ids=["nothing", "request", "more", "async"],
)
def test_handler_of_errors_that_cannot_be_called_so_is_refused(handler: Any) -> None:
    for routes in (WSGIApplication(), Group("/g")):
        with pytest.raises(TypeError, match="for errors, "):
            routes.error_handler(404)(handler)


def test_error_that_is_raised_again_and_again_gathers_no_tracebacks() -> None:
    # Each would hold a request with its body.
    error = NotFound("a name in a module")
    own = WSGIApplication()

    @own.get("/")
    def handler(request: Request) -> str:
        raise error

    @own.middleware
    def raises_itself(request: Request, call_next: Callable[[Request], Response]) -> Response:
        response = call_next(request)
        if "X-Again" in request.headers:
            raise error
        return response

    with direct(own) as client:
        for headers in ({}, {"X-Again": "1"}, {}):
            assert client.get("/", headers=headers).status_code == 404
            assert error.__traceback__ is None
            assert error.__context__ is None
