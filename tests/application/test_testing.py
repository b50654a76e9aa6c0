"""The test client sends what a browser would, and is as strict as a server may be."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from typing import Any
from uuid import UUID
from wsgiref.validate import validator

import pytest

from wsgi.application import HandlerResult, Request, Response, WSGIApplication, redirect
from wsgi.application.testing import CookieJar, TestClient

app = WSGIApplication()


@app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def echo(request: Request) -> HandlerResult:
    return {
        "method": request.method,
        "url": request.url,
        "query": request.query.pairs(),
        "headers": dict(request.headers),
        "cookies": request.cookies,
        "body": request.body.decode("latin-1"),
    }


@app.post("/form")
def form(request: Request) -> HandlerResult:
    files = [(name, file.filename, file.media_type, file.read().decode()) for name, file in request.files.pairs()]
    return {"fields": request.form.pairs(), "files": files}


@app.get("/größe/<name>")
def size(request: Request, name: str) -> str:
    return name


@app.get("/broken")
def broken(request: Request) -> str:
    raise LookupError("lost")


@app.get("/latin")
def latin(request: Request) -> Response:
    return Response("é".encode("latin-1"), 418, media_type="text/plain; charset=iso-8859-1")


@pytest.fixture
def client() -> TestClient:
    return app.test_client()


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_method_has_a_function(client: TestClient, method: str) -> None:
    assert getattr(client, method)("/echo").json()["method"] == method.upper()


def test_response_has_what_was_sent(client: TestClient) -> None:
    response = client.get("/latin")
    assert (response.status, response.reason[:4], response.body, response.text) == (418, "I'm ", b"\xe9", "é")
    assert response.headers["content-type"] == "text/plain; charset=iso-8859-1"
    assert repr(response).startswith("<TestResponse 418")


def test_head_has_fields_and_no_body(client: TestClient) -> None:
    got, head = client.get("/echo"), client.head("/echo")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


def test_query_can_stand_in_the_path_and_beside_it(client: TestClient) -> None:
    assert client.get("/echo?a=1", query={"b": [2, "ü"], "c": ""}).json()["query"] == [
        ["a", "1"],
        ["b", "2"],
        ["b", "ü"],
        ["c", ""],
    ]
    assert client.get("/echo#part", query="b").json()["url"] == "http://localhost/echo?b"
    assert client.get("/echo", query="a=%20").json()["query"] == [["a", " "]]
    assert client.get("/echo", query=[("a", 1), ("a", 2)]).json()["query"] == [["a", "1"], ["a", "2"]]


@pytest.mark.parametrize("path", ["/größe/süß", "/gr%C3%B6%C3%9Fe/s%c3%bc%C3%9F", "/größe/süß#fragment"])
def test_path_may_be_encoded_or_not(client: TestClient, path: str) -> None:
    assert client.get(path).text == "süß"


def test_headers_of_a_request_replace_those_of_the_client() -> None:
    client = app.test_client(headers={"X-A": "client", "X-B": "client"})
    headers = client.get("/echo", headers=[("x-a", "one"), ("X-A", "two")]).json()["headers"]
    assert (headers["X-A"], headers["X-B"]) == ("one, two", "client")
    client.headers["X-B"] = "changed"
    assert client.get("/echo").json()["headers"]["X-B"] == "changed"


@pytest.mark.parametrize(
    ("options", "body", "content_type"),
    [
        ({}, "", None),
        ({"json": {"a": [1]}}, '{"a":[1]}', "application/json"),
        # What JSONResponse can write.
        (
            {"json": {"day": date(2020, 1, 2), "id": UUID(int=1), "none": None}},
            '{"day":"2020-01-02","id":"00000000-0000-0000-0000-000000000001","none":null}',
            "application/json",
        ),
        ({"json": None}, "", None),
        ({"data": b"null", "headers": {"Content-Type": "application/json"}}, "null", "application/json"),
        ({"json": 0}, "0", "application/json"),
        ({"data": {"a": "1 & 2", "b": [3, 4]}}, "a=1+%26+2&b=3&b=4", "application/x-www-form-urlencoded"),
        ({"data": [("a", 1), ("a", 2)]}, "a=1&a=2", "application/x-www-form-urlencoded"),
        ({"data": b"\x00\xff"}, "\x00\xff", None),
        ({"data": "text", "headers": {"Content-Type": "text/plain"}}, "text", "text/plain"),
        ({"json": [], "headers": {"content-type": "application/x+json"}}, "[]", "application/x+json"),
    ],
)
def test_body_is_encoded_as_its_kind(
    client: TestClient, options: dict[str, Any], body: str, content_type: str | None
) -> None:
    answer = client.post("/echo", **options).json()
    assert answer["body"] == body
    assert answer["headers"].get("Content-Type") == content_type
    assert answer["headers"]["Content-Length"] == str(len(body))


def test_files_are_sent_as_browsers_do(client: TestClient) -> None:
    answer = client.post(
        "/form",
        data={"title": "Größe", "tags": ["a", "b"]},
        files={
            "bare": b"bytes",
            "text": ("notes.txt", "text"),
            "photo": ('a "b"\r\n.png', io.BytesIO(b"pixels"), "image/png"),
            "many": [b"1", ("2.txt", b"2")],
        },
    ).json()
    assert answer["fields"] == [["title", "Größe"], ["tags", "a"], ["tags", "b"]]
    assert [file[0] for file in answer["files"]] == ["bare", "text", "photo", "many", "many"]
    assert [file[3] for file in answer["files"]] == ["bytes", "text", "pixels", "1", "2"]
    assert answer["files"][0] == ["bare", "bare", "application/octet-stream", "bytes"]
    assert answer["files"][1][1] == "notes.txt"
    assert answer["files"][2][2] == "image/png"
    assert answer["files"][2][1] == 'a "b"\r\n.png'


@pytest.mark.parametrize(
    "options", [{"json": 1, "data": b""}, {"json": 1, "files": {}}, {"data": b"x", "files": {"a": b"b"}}]
)
def test_two_bodies_are_refused(client: TestClient, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="body"):
        client.post("/echo", **options)


def test_url_chooses_host_and_scheme(client: TestClient) -> None:
    assert client.get("https://shop.example:8443/echo?a").json()["url"] == "https://shop.example:8443/echo?a"
    assert app.test_client(base_url="https://shop.example").get("/echo").json()["url"] == "https://shop.example/echo"


@pytest.mark.parametrize("path", ["", "echo", "ftp://localhost/echo", "?a"])
def test_neither_path_nor_url_is_refused(client: TestClient, path: str) -> None:
    with pytest.raises(ValueError, match="a path begins with a slash"):
        client.get(path)


@pytest.mark.parametrize("path", ["//other.example/a", "/a/../b", "/a//b/./c"])
def test_path_arrives_as_it_was_given(path: str) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    assert TestClient(app).get(path).text == path


def test_application_can_run_under_the_validator(client: TestClient) -> None:
    validated = TestClient(validator(app))
    assert validated.post("/form", files={"a": b"b"}).status == 200
    assert validated.get("/echo").status == 200


def test_application_can_be_mounted_at_a_path() -> None:
    client = app.test_client(root_path="/shop")
    assert client.get("/echo").json()["url"] == "http://localhost/shop/echo"


@pytest.mark.parametrize("root_path", ["shop", "/", "/shop/"])
def test_root_path_that_is_none_is_refused(root_path: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        app.test_client(root_path=root_path)


# Errors


def test_unexpected_error_is_raised_with_its_traceback(client: TestClient) -> None:
    with pytest.raises(LookupError, match="lost") as caught:
        client.get("/broken")
    assert caught.traceback[-1].name == "broken"


def test_unexpected_error_is_a_response_where_that_is_wanted() -> None:
    assert app.test_client(raise_errors=False).get("/broken").status == 500


def test_error_of_any_wsgi_application_is_raised() -> None:
    def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        TestClient(plain, raise_errors=False).get("/")


# Redirections

travel = WSGIApplication()


@travel.route("/to/<int:status>", methods=["GET", "POST", "PUT", "HEAD"])
def to(request: Request, status: int) -> Response:
    return redirect(request.url_for("there", a="b"), status)


@travel.route("/there", methods=["GET", "POST", "PUT", "HEAD"])
def there(request: Request) -> HandlerResult:
    return f"{request.method} {request.query_string} {request.text} {request.media_type}".strip(), 200, {"X-A": "b"}


travel.add_route("/around", lambda request: redirect("/around"))
travel.add_route("/away", lambda request: redirect("https://elsewhere.example/"))
travel.add_route("/relative", lambda request: redirect("there?x"))


@pytest.mark.parametrize("root_path", ["", "/shop"])
@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "POST", "GET a=b"),
        (302, "POST", "GET a=b"),
        (303, "POST", "GET a=b"),
        (307, "POST", "POST a=b {} application/json"),
        (308, "POST", "POST a=b {} application/json"),
        (302, "PUT", "PUT a=b {} application/json"),
        (303, "PUT", "GET a=b"),
    ],
)
def test_redirection_is_followed_as_browsers_do(status: int, method: str, expected: str, root_path: str) -> None:
    client = travel.test_client(root_path=root_path, follow_redirects=True)
    response = client.request(method, f"/to/{status}", json={})
    assert (response.status, response.text) == (200, expected)
    assert [before.status for before in response.history] == [status]
    assert response.url == f"http://localhost{root_path}/there?a=b"


def test_redirection_after_head_stays_head() -> None:
    response = travel.test_client().head("/to/303", follow_redirects=True)
    assert (response.status, response.body, response.headers["X-A"]) == (200, b"", "b")


def test_redirection_is_followed_only_if_asked_for() -> None:
    client = travel.test_client()
    assert client.get("/to/303").headers["Location"] == "/there?a=b"
    assert client.get("/relative", follow_redirects=True).text == "GET x"


def test_redirection_to_another_host_is_the_answer() -> None:
    assert travel.test_client(follow_redirects=True).get("/away").headers["Location"] == "https://elsewhere.example/"


def test_endless_redirection_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than 20 redirections, the last one to http://localhost/around"):
        travel.test_client(follow_redirects=True).get("/around")


# Cookies

jars = WSGIApplication()


@jars.get("/set")
def set_cookie(request: Request) -> Response:
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", path="/inner", max_age=60)
    return response


@jars.get("/delete")
def delete_cookie(request: Request) -> Response:
    response = Response()
    response.delete_cookie("a")
    response.set_cookie("b", "", path="/inner", expires=datetime(1970, 1, 2, tzinfo=timezone.utc))
    return response


jars.add_route("/inner/cookies", lambda request: request.cookies)
jars.add_route("/cookies", lambda request: request.cookies)


def test_cookies_are_kept_and_sent_where_they_belong() -> None:
    client = jars.test_client()
    client.get("/set")
    assert dict(client.cookies) == {"a": "1", "b": "2"}
    assert client.get("/cookies").json() == {"a": "1"}
    assert client.get("/inner/cookies").json() == {"a": "1", "b": "2"}
    assert client.get("http://other.example/cookies").json() == {}
    client.get("/delete")
    assert dict(client.cookies) == {}


def test_cookies_can_be_given_for_one_request_or_all() -> None:
    client = jars.test_client()
    client.cookies["kept"] = "1"
    assert client.get("/cookies", cookies={"once": "2"}).json() == {"kept": "1", "once": "2"}
    assert client.get("/cookies", headers={"Cookie": "raw=3"}).json() == {"kept": "1", "raw": "3"}
    assert client.get("/cookies").json() == {"kept": "1"}
    del client.cookies["kept"]
    assert client.get("/cookies").json() == {}


def test_cookie_for_one_request_wins_over_the_one_kept() -> None:
    client = jars.test_client()
    client.cookies["a"] = "kept"
    assert client.get("/cookies", cookies={"a": "once"}).json() == {"a": "once"}
    assert client.get("/cookies", headers={"Cookie": "a=raw"}).json() == {"a": "raw"}


def test_application_replaces_what_the_test_set() -> None:
    client = jars.test_client()
    client.cookies["a"] = "mine"
    client.get("/set")
    assert client.cookies["a"] == "1"
    assert client.get("/cookies").json() == {"a": "1"}


@pytest.mark.parametrize(
    ("field", "host", "path", "is_sent"),
    [
        ("a=1; Domain=shop.example", "shop.example", "/", True),
        ("a=1; Domain=.shop.example", "www.shop.example", "/", True),
        ("a=1; Domain=shop.example", "workshop.example", "/", False),
        ("a=1; Domain=other.example", "other.example", "/", False),
        ("a=1", "www.shop.example", "/", False),
        ("a=1", "shop.example", "/deep/x", True),
        ("a=1", "shop.example", "/deeper", False),
        ("a=1; Path=/", "shop.example", "/other", True),
        ("a=1; Path=other", "shop.example", "/deep/x", True),
        ("a=1; max-age=60; expires=Thu, 01 Jan 1970 00:00:00 GMT", "shop.example", "/deep/x", True),
        ("a=1; Max-Age=-1", "shop.example", "/deep/x", False),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "shop.example", "/deep/x", False),
    ],
)
def test_cookie_goes_to_its_domain_and_path(field: str, host: str, path: str, is_sent: bool) -> None:
    jar = CookieJar()
    jar.store(field, "shop.example", "/deep/set")
    assert jar.field(host, path if "Domain" not in field else "/deep/x") == ("a=1" if is_sent else "")


def test_cookie_of_the_longest_path_comes_first() -> None:
    jar = CookieJar()
    jar.store("a=outer; Path=/", "localhost", "/")
    jar.store("a=inner; Path=/deep", "localhost", "/")
    assert jar.field("localhost", "/deep") == "a=inner; a=outer"
    assert (len(jar), list(jar)) == (1, ["a"])
    jar.clear()
    assert jar.field("localhost", "/deep") == ""
    with pytest.raises(KeyError):
        jar["a"]


# What PEP 3333 demands of applications

App = Callable[[dict[str, Any], Callable[..., Any]], Any]


def answering(*arguments: Any, content: Any = (b"",)) -> App:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(*arguments)
        return content

    return app


def silent(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    return []


def late(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    yield b"body"
    start_response("200 OK", [])


def twice(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        (silent, "did not call start_response"),
        (late, "before it called start_response"),
        (twice, "called twice"),
        (answering(200, []), "must be str, not int"),
        (answering("200", []), "a code, a space and a phrase"),
        (answering("200 OK\r\n", []), "a code, a space and a phrase"),
        (answering("200 OK", {}), "must be a list, not dict"),
        (answering("200 OK", [["A", "b"]]), "tuple of two"),
        (answering("200 OK", [("Connection", "close")]), "Connection is the server's"),
        (answering("200 OK", [], content=["text"]), "must be bytes, not str"),
        (answering("200 OK", [("Content-Length", "3")], content=[b"ab"]), "announced 3 bytes and sent 2"),
        (answering("200 OK", [("Content-Length", "1")], content=[b"ab"]), "announced 1 bytes and sent 2"),
    ],
)
def test_breach_of_the_protocol_fails_the_test(app: App, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        TestClient(app).get("/")


@pytest.mark.parametrize("header", [("a b", "c"), ("a", "b\r\nc"), ("a", 1), ("a", "€")])
def test_field_that_cannot_be_sent_fails_the_test(header: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="header field"):
        TestClient(answering("200 OK", [header])).get("/")


class Content:
    """Content that counts how often it is closed, and may fail."""

    def __init__(self, error: type[Exception] | None = None) -> None:
        self.closed = 0
        self.error = error

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1


def test_content_is_closed_once() -> None:
    content = Content()
    assert TestClient(answering("200 OK", [], content=content)).get("/").body == b"a"
    assert content.closed == 1


def test_content_that_fails_is_closed_once() -> None:
    content = Content(LookupError)
    with pytest.raises(LookupError):
        TestClient(answering("200 OK", [], content=content)).get("/")
    assert content.closed == 1


def test_content_of_head_is_read_and_dropped() -> None:
    assert TestClient(answering("200 OK", [("Content-Length", "5")], content=[b"a"])).head("/").body == b""


def test_write_sends_before_the_content() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])(b"first ")
        return [b"second"]

    assert TestClient(app).get("/").body == b"first second"


def test_head_can_be_replaced_until_something_was_sent() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/late":
            yield b"begun"
        try:
            raise LookupError("lost")
        except LookupError as error:
            start_response("500 Sorry", [("X-A", "b")], (type(error), error, error.__traceback__))
        yield b"sorry"

    response = TestClient(app).get("/early")
    assert (response.status, response.reason, response.headers["X-A"], response.body) == (500, "Sorry", "b", b"sorry")
    with pytest.raises(LookupError, match="lost"):
        TestClient(app).get("/late")
