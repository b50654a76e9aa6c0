"""From paths to handlers and back."""

from __future__ import annotations

import functools
import random
import re
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.application.switchboard import direct
from wsgi.application import Group, Request, Response, WSGIApplication
from wsgi.application.errors import RouteError
from wsgi.application.routing import Converter, IntConverter, StringConverter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Month(Converter[int]):
    """`jan` to `mar`, the ordinary way to write one's own converter."""

    pattern = "[a-z]{3}"
    names = ("jan", "feb", "mar")

    def parse(self, text: str) -> int:
        return self.names.index(text) + 1

    def format(self, value: int) -> str:
        return self.names[value - 1]


app = WSGIApplication(converters={"month": Month})


def told(what: str) -> Callable[..., dict[str, Any]]:
    """A handler that says which it is and what it was given."""

    def handler(request: Request, **parameters: Any) -> dict[str, Any]:
        given = {name: f"{type(value).__name__}:{value}" for name, value in parameters.items()}
        return {"handler": what, "method": request.method, "route": request.route, **given}

    return handler


def declare(routes: Any, path: str, *methods: str, name: str | None = None) -> None:
    routes.add_route(path, told(path), methods=methods or ("GET",), name=name)


PATHS = [
    "/",
    "/int/<int:i>",
    "/float/<float:x>",
    "/uuid/<uuid:key>",
    "/str/<name>",
    "/str/<str:name>/end",
    "/path/<path:rest>",
    "/month/<month:m>",
    "/v<int:major>/<name>.txt",
    "/v<int:major>.<int:minor>",
    "/users/me",
    "/users/<int:i>",
    "/users/<name>",
    "/users/me/deep/one",
    "/users/<name>/deep/two",
    "/users/<path:rest>",
    "/slash/",
    "/plain",
    "/both",
    "/both/",
    "/ünï/<name>",
    "/dot.ted/-_~x",
]
for _path in PATHS:
    declare(app, _path)
declare(app, "/methods", "POST", "PUT")
declare(app, "/methods", "DELETE")
declare(app, "/union/literal", "POST")
declare(app, "/union/<name>", "PUT")
declare(app, "/ownhead")
declare(app, "/posted/", "POST")


@app.route("/ownhead", methods=["HEAD"])
def own_head(request: Request) -> Response:
    return Response("", headers={"X-Head": "own"})


@app.route("/ownoptions", methods=["GET", "OPTIONS"])
def own_options(request: Request) -> str:
    return "own"


def found(client: httpx.Client, target: str, method: str = "GET") -> dict[str, Any]:
    response = client.request(method, "/", extensions={"target": target.encode()})
    assert response.status_code == 200, (target, response.status_code, response.text)
    answer: dict[str, Any] = response.json()
    return answer


def status(client: httpx.Client, target: str, method: str = "GET") -> int:
    return client.request(method, "/", extensions={"target": target.encode()}).status_code


# Converters.

KEY = "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("target", "handler", "given"),
    [
        ("/", "/", {}),
        ("/int/0", "/int/<int:i>", {"i": "int:0"}),
        ("/int/007", "/int/<int:i>", {"i": "int:7"}),
        ("/float/1.5", "/float/<float:x>", {"x": "float:1.5"}),
        ("/float/2", "/float/<float:x>", {"x": "float:2.0"}),
        (f"/uuid/{KEY}", "/uuid/<uuid:key>", {"key": f"UUID:{KEY}"}),
        (f"/uuid/{KEY.upper()}", "/uuid/<uuid:key>", {"key": f"UUID:{KEY}"}),
        ("/str/a%20b", "/str/<name>", {"name": "str:a b"}),
        ("/str/%C3%A9", "/str/<name>", {"name": "str:é"}),
        ("/str/a/end", "/str/<str:name>/end", {"name": "str:a"}),
        ("/path/a", "/path/<path:rest>", {"rest": "str:a"}),
        ("/path/a/b/", "/path/<path:rest>", {"rest": "str:a/b/"}),
        ("/path/a//b", "/path/<path:rest>", {"rest": "str:a//b"}),
        ("/path/../x", "/path/<path:rest>", {"rest": "str:../x"}),
        ("/path/%0Aa", "/path/<path:rest>", {"rest": "str:\na"}),
        ("/month/feb", "/month/<month:m>", {"m": "int:2"}),
        ("/v2/notes.txt", "/v<int:major>/<name>.txt", {"major": "int:2", "name": "str:notes"}),
        ("/v2/a.txt.txt", "/v<int:major>/<name>.txt", {"major": "int:2", "name": "str:a.txt"}),
        ("/v2.10", "/v<int:major>.<int:minor>", {"major": "int:2", "minor": "int:10"}),
        ("/%C3%BCn%C3%AF/x", "/ünï/<name>", {"name": "str:x"}),
        ("/dot.ted/-_~x", "/dot.ted/-_~x", {}),
        # RFC 3986 §2.3: an encoded unreserved character is the same as itself.
        ("/%70lain", "/plain", {}),
        # PEP 3333: servers decode the path, so that an encoded slash is a slash.
        ("/path/a%2Fb", "/path/<path:rest>", {"rest": "str:a/b"}),
        ("/str/a%2Fend", "/str/<str:name>/end", {"name": "str:a"}),
    ],
)
def test_path_leads_to_its_handler(client: httpx.Client, target: str, handler: str, given: dict[str, str]) -> None:
    answer = found(client, target)
    assert {name: answer[name] for name in answer if name not in ("method", "route")} == {"handler": handler, **given}


@pytest.mark.parametrize(
    "target",
    [
        "/nowhere",
        "/int/",
        "/int/-1",
        "/int/+1",
        "/int/1.0",
        "/int/x",
        "/int/1/2",
        "/int/%D9%A1",
        "/int/1%0A",
        "/int/" + "9" * 5000,
        "/float/nan",
        "/float/1e5",
        "/float/.5",
        "/float/1.",
        "/float/-1",
        f"/uuid/{KEY.replace('-', '')}",
        f"/uuid/{KEY}0",
        "/uuid/urn:uuid:" + KEY,
        "/str/",
        "/str/a/other",
        "/path/",
        "/month/xyz",
        "/month/FEB",
        "/v/notes.txt",
        "/v2/.txt",
        "/vx/a.txt",
        "/v2.x",
        "/Plain",
        "/plain//",
        "/dotxted/-_~x",
    ],
)
def test_path_that_fits_no_route_is_not_found(client: httpx.Client, target: str) -> None:
    assert status(client, target) == 404


# waitress joins leading slashes before the application sees them.
@pytest.mark.parametrize("backend", ["direct", "wsgi", "gunicorn"], indirect=True)
def test_path_with_an_empty_segment_is_another_path(client: httpx.Client) -> None:
    for target in ("//plain", "/int//1", "//both/"):
        assert status(client, target) == 404


def test_literal_goes_before_dynamic_and_narrow_before_wide(client: httpx.Client) -> None:
    assert found(client, "/users/me")["handler"] == "/users/me"
    assert found(client, "/users/7")["handler"] == "/users/<int:i>"
    assert found(client, "/users/you")["handler"] == "/users/<name>"
    assert found(client, "/users/a/b/c")["handler"] == "/users/<path:rest>"


def test_branch_that_leads_nowhere_is_left_again(client: httpx.Client) -> None:
    assert found(client, "/users/me/deep/one")["handler"] == "/users/me/deep/one"
    answer = found(client, "/users/me/deep/two")
    assert (answer["handler"], answer["name"]) == ("/users/<name>/deep/two", "str:me")
    answer = found(client, "/users/me/deep/three")
    assert (answer["handler"], answer["rest"]) == ("/users/<path:rest>", "str:me/deep/three")


def test_order_of_declaration_does_not_count() -> None:
    paths = ["/a/<int:i>", "/a/<name>", "/a/b", "/a/<path:rest>", "/a/<float:x>", "/a/v<int:i>", "/a/<name>/c"]
    targets = ["/a/1", "/a/x", "/a/b", "/a/x/y", "/a/1.5", "/a/v1", "/a/b/c", "/a/b/d"]
    random_source = random.Random(3986)
    seen = set()
    for _ in range(20):
        own = WSGIApplication()
        for path in random_source.sample(paths, len(paths)):
            declare(own, path, name=path)
        with direct(own) as client:
            seen.add(tuple(found(client, target)["handler"] for target in targets))
    assert len(seen) == 1
    assert seen.pop()[:3] == ("/a/<int:i>", "/a/<name>", "/a/b")


def test_many_levels_that_fit_nothing_are_searched_quickly() -> None:
    # Literal and dynamic at every level: a search without sense would take 2^14 steps and more at each request.
    own = WSGIApplication()
    for depth in range(1, 15):
        for last in ("a", "<x>"):
            levels = [*([f"<p{index}>" for index in range(depth)]), last]
            declare(own, "/" + "/".join(levels), name=f"{depth}{last}")
            declare(own, "/" + "/".join(["a"] * depth + [last]), name=f"literal{depth}{last}")
    with direct(own) as client:
        assert status(client, "/a" * 40) == 404
        assert status(client, "/a" * 14 + "/b") in (200, 404)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("path", ["/z<a>-<b>-<c>.txt", "/<a>-<b>-<int:c>", "/<a>x<b>y<c>z"])
def test_hostile_segment_is_matched_quickly(path: str) -> None:
    own = WSGIApplication()
    declare(own, path)
    with direct(own) as client:
        # The short ones first: backtracking over three parameters fails there, and would take hours at the long ones.
        for length in (300, 4000):
            begin = time.process_time()
            for piece in ("-", "x", "xy"):
                assert status(client, "/z" + piece * (length // len(piece))) == 404
            assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("depth", [1, 2])
def test_number_of_methods_does_not_multiply_the_search(depth: int) -> None:
    tries: list[str] = []

    class Counted(Converter[str]):
        def parse(self, text: str) -> str:
            tries.append(text)
            raise ValueError

    for method in ("GET", "DELETE"):
        numbers = []
        for methods in (["PUT"], [f"M{number}" for number in range(50)]):
            own = WSGIApplication(converters={"counted": Counted})
            declare(own, "/" + "x/" * (depth - 1) + "<counted:name>")
            declare(own, "/other", *methods)
            tries.clear()
            with direct(own) as client:
                assert client.request(method, "/" + "x/" * (depth - 1) + "a").status_code == 404
            numbers.append(len(tries))
        assert numbers[0] == numbers[1] < 5


# Methods: RFC 9110 §9, §15.5.6.


def test_method_without_route_is_not_allowed(client: httpx.Client) -> None:
    response = client.get("/methods")
    assert response.status_code == 405
    assert members(response.headers["Allow"]) == {"POST", "PUT", "DELETE", "OPTIONS"}


def members(allow: str) -> set[str]:
    names = [name.strip() for name in allow.split(",")]
    assert len(names) == len(set(names))
    return set(names)


def test_allow_is_the_union_of_all_routes_that_fit(client: httpx.Client) -> None:
    response = client.get("/union/literal")
    assert response.status_code == 405
    assert members(response.headers["Allow"]) == {"POST", "PUT", "OPTIONS"}
    assert members(client.get("/union/other").headers["Allow"]) == {"PUT", "OPTIONS"}


def test_method_of_a_wider_route_is_reached_behind_a_literal(client: httpx.Client) -> None:
    assert found(client, "/union/literal", "PUT")["handler"] == "/union/<name>"
    assert found(client, "/union/literal", "POST")["handler"] == "/union/literal"


def test_unknown_method_is_not_allowed() -> None:
    with direct(app, validated=False) as client:
        assert client.request("BREW", "/plain").status_code == 405
        assert client.request("BREW", "/nowhere").status_code == 404
    # RFC 9110 §9.1: methods are case-sensitive.
    with direct(app, validated=False, REQUEST_METHOD="get") as client:
        assert client.get("/plain").status_code == 405


def test_head_is_answered_by_get(client: httpx.Client) -> None:
    response = client.head("/plain")
    assert response.status_code == 200
    assert response.content == b""
    # The length of what GET would send, but for the handler's telling the method.
    assert int(response.headers["Content-Length"]) == len(client.get("/plain").content.replace(b"GET", b"HEAD"))


def test_own_route_for_head_goes_before_get(client: httpx.Client) -> None:
    assert client.head("/ownhead").headers["X-Head"] == "own"
    assert "X-Head" not in client.get("/ownhead").headers


def test_head_without_get_is_not_allowed(client: httpx.Client) -> None:
    assert client.head("/methods").status_code == 405


def test_options_lists_the_methods(client: httpx.Client) -> None:
    response = client.options("/plain")
    assert (response.status_code, response.content) == (204, b"")
    assert members(response.headers["Allow"]) == {"GET", "HEAD", "OPTIONS"}
    assert members(client.options("/methods").headers["Allow"]) == {"POST", "PUT", "DELETE", "OPTIONS"}
    assert client.options("/nowhere").status_code == 404


def test_own_route_for_options_is_called(client: httpx.Client) -> None:
    assert client.options("/ownoptions").text == "own"


def test_options_of_the_whole_server_is_answered() -> None:
    # RFC 9110 §9.3.7: the request target `*`; the validator knows no such path.
    with direct(app, validated=False, PATH_INFO="*") as client:
        assert client.options("/").status_code == 204
        assert client.get("/").status_code in (400, 404)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_shortcut_declares_its_method(method: str) -> None:
    own = WSGIApplication()

    @getattr(own, method)("/<int:i>", name="thing")  # type: ignore[untyped-decorator]
    def handler(request: Request, i: int) -> str:
        return f"{request.method} {i}"

    with direct(own) as client:
        assert client.request(method.upper(), "/5").text == f"{method.upper()} 5"
        assert client.request("PATCH" if method != "patch" else "PUT", "/5").status_code == 405
    assert own.url_for("thing", i=5) == "/5"


def test_methods_are_taken_in_any_case_and_from_any_iterable() -> None:
    own = WSGIApplication()
    own.add_route("/", told("x"), methods=(method for method in ["get", "Post"]))
    with direct(own) as client:
        assert client.get("/").status_code == client.post("/").status_code == 200


# Trailing slashes: 308 keeps the method (RFC 9110 §15.4.9).


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/slash", "/slash/"),
        ("/plain/", "/plain"),
        ("/plain/?a=b%20c&d", "/plain?a=b%20c&d"),
        ("/str/%C3%A9/", "/str/%C3%A9"),
        ("/str/a%20b%3F%25/", "/str/a%20b%3F%25"),
        ("/posted", "/posted/"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_missing_or_needless_slash_is_redirected(client: httpx.Client, method: str, target: str, location: str) -> None:
    response = client.request(method, "/", extensions={"target": target.encode()})
    assert response.status_code == 308
    where = httpx.URL("http://testserver/").join(response.headers["Location"])
    assert where.host == "testserver"
    assert where.raw_path.decode() == location


def test_both_spellings_declared_are_both_answered(client: httpx.Client) -> None:
    assert found(client, "/both")["handler"] == "/both"
    assert found(client, "/both/")["handler"] == "/both/"


def test_redirect_encodes_a_query_that_came_as_bytes_once() -> None:
    # RFC 3986 §2.5: the octets as they came, and those that were encoded already as they are.
    with direct(app) as client:
        response = client.get("/", extensions={"target": b"/plain/?q=\xc3\xa9\xff&r=%C3%A9%20[a]?/"})
    assert response.headers["Location"] == "/plain?q=%C3%A9%FF&r=%C3%A9%20[a]?/"


@pytest.mark.parametrize("path", ["plain", "x/plain", "x/", "/x/plain"])
def test_path_without_a_slash_in_front_is_not_found(path: str) -> None:
    with direct(app, PATH_INFO=path, validated=False) as client:
        assert client.get("/").status_code == 404


def test_redirect_keeps_the_root_path() -> None:
    with direct(app, SCRIPT_NAME="/outer") as client:
        location = client.get("/plain/").headers["Location"]
    assert httpx.URL("http://testserver/outer/plain/").join(location).path == "/outer/plain"


@pytest.fixture(scope="module")
def open_house() -> WSGIApplication:
    """An application that takes nearly any path, so that slashes could be redirected nearly anywhere."""
    own = WSGIApplication()
    declare(own, "/<name>")
    declare(own, "/<a>/<b>/")
    declare(own, "/x/<path:rest>")
    declare(own, "/")
    return own


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/",
        "//evil.example",
        "///evil.example/",
        "//evil.example/%2e%2e/",
        "/\\evil.example/",
        "/%5Cevil.example/",
        "/%2Fevil.example/",
        "/%09/evil.example/",
        "/%0D%0ALocation:%20x/",
        "//evil.example//",
        "/.//evil.example/",
        "//x/a/",
        "//x",
    ],
)
def test_slash_redirect_never_leads_to_another_host(open_house: WSGIApplication, target: str) -> None:
    with direct(open_house) as client:
        response = client.get("/", extensions={"target": target.encode()})
    if "Location" in response.headers:
        location = response.headers["Location"]
        # As browsers read it: backslashes are slashes, tabs and line breaks are nothing (WHATWG URL §4.4).
        read = re.sub("[\t\r\n]", "", location).replace("\\", "/")
        assert not read.startswith("//")
        assert httpx.URL("http://testserver/").join(read).host == "testserver"
    else:
        assert response.status_code in (200, 404)


# URLs.


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ("/", {}, "/"),
        ("/a/", {}, "/a/"),
        ("/<name>", {"name": "a b"}, "/a%20b"),
        ("/<name>", {"name": "é?#%&=+;"}, "/%C3%A9%3F%23%25&=+;"),
        ("/<int:i>", {"i": 7}, "/7"),
        ("/<float:x>", {"x": 1.5}, "/1.5"),
        ("/<float:x>", {"x": 2}, "/2"),
        ("/<uuid:key>", {"key": uuid.UUID(KEY)}, f"/{KEY}"),
        ("/f/<path:rest>", {"rest": "a b/c"}, "/f/a%20b/c"),
        ("/v<int:a>/<b>.txt", {"a": 1, "b": "x"}, "/v1/x.txt"),
        ("/ünï", {}, "/%C3%BCn%C3%AF"),
        # What is no parameter of the path becomes the query.
        ("/<int:i>", {"i": 7, "q": "a b", "r": "é&="}, "/7?q=a+b&r=%C3%A9%26%3D"),
        ("/", {"q": ["1", "2"]}, "/?q=1&q=2"),
        ("/", {"q": None, "r": ""}, "/?r="),
        ("/", {"name": "x", "self": "y"}, "/?name=x&self=y"),
    ],
)
def test_url_is_made_from_a_name(path: str, values: dict[str, Any], expected: str) -> None:
    own = WSGIApplication()
    declare(own, path, name="thing")
    assert own.url_for("thing", **values) == expected


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/<int:i>", {}),
        ("/<int:i>", {"i": -1}),
        ("/<int:i>", {"i": "x"}),
        ("/<int:i>", {"i": None}),
        ("/<name>", {"name": ""}),
        ("/<name>", {"name": "a/b"}),
        ("/<float:x>", {"x": float("nan")}),
        ("/<float:x>", {"x": float("inf")}),
        ("/<float:x>", {"x": "a"}),
        ("/<uuid:x>", {"x": "a"}),
        ("/f/<path:x>", {"x": ""}),
        ("/<name>", {"name": None}),
        # RFC 3986 §5.2.4: whoever follows the URL takes segments of dots out, and is elsewhere.
        ("/<name>", {"name": "."}),
        ("/u/<name>/delete", {"name": ".."}),
        ("/f/<path:x>", {"x": "../x"}),
        ("/f/<path:x>", {"x": "a/./b"}),
        ("/f/<path:x>", {"x": "a/.."}),
    ],
)
def test_url_with_a_missing_or_unfit_value_is_refused(path: str, values: dict[str, Any]) -> None:
    own = WSGIApplication()
    declare(own, path, name="thing")
    with pytest.raises(RouteError, match="thing"):
        own.url_for("thing", **values)


def test_url_of_an_unknown_name_suggests_a_near_one() -> None:
    own = WSGIApplication()
    declare(own, "/", name="profile")
    with pytest.raises(RouteError, match=r"'profil'.*'profile'"):
        own.url_for("profil")


def test_url_leads_back_to_its_values() -> None:
    own = WSGIApplication(converters={"month": Month})
    seen: list[dict[str, Any]] = []

    def handler(request: Request, **parameters: Any) -> str:
        seen.append(parameters)
        return ""

    own.add_route("/<int:i>/<float:x>/<uuid:key>/<month:m>/<name>/p<other>.x/<path:rest>", handler, name="all")
    random_source = random.Random(3987)
    letters = [chr(code) for code in range(1, 0x250) if chr(code) != "/"] + list("€𝄞%?#&;+= \\")
    with direct(own) as client:
        for _ in range(200):
            values = {
                "i": random_source.randrange(10**12),
                "x": random_source.choice([0.0, 1e-7, 1e22, 0.1, random_source.random(), 123456.789]),
                "key": uuid.UUID(int=random_source.getrandbits(128)),
                "m": random_source.randint(1, 3),
                "name": "".join(random_source.choices(letters, k=random_source.randint(1, 6))),
                "other": "".join(random_source.choices(letters, k=random_source.randint(1, 6))),
                "rest": "x" + "".join(random_source.choices([*letters, "/"], k=6)),
            }
            target = own.url_for("all", **values)
            assert re.fullmatch(r"[!-~]+", target)
            response = client.get("/", extensions={"target": target.encode()})
            assert response.status_code == 200, (target, values)
            assert seen.pop() == values


@pytest.mark.parametrize("rest", ["/evil.example", "//evil.example", "\\evil.example"])
def test_url_never_leads_to_another_host(rest: str) -> None:
    # RFC 3986 §4.2: a reference that begins with two slashes names a host.
    own = WSGIApplication()
    declare(own, "/<path:rest>", name="all")
    try:
        url = own.url_for("all", rest=rest)
    except RouteError:
        return
    assert not url.replace("\\", "/").startswith("//")


def test_name_is_the_handlers_unless_given() -> None:
    own = WSGIApplication()

    @own.get("/one")
    def page(request: Request) -> str:
        return str(request.route)

    @own.get("/two", name="other")
    def another(request: Request) -> str:
        return str(request.route)

    assert own.url_for("page") == "/one"
    assert own.url_for("other") == "/two"
    with pytest.raises(RouteError, match="another"):
        own.url_for("another")
    with direct(own) as client:
        assert (client.get("/one").text, client.get("/two").text) == ("page", "other")


def test_name_given_twice_is_refused() -> None:
    own = WSGIApplication()
    declare(own, "/1", name="thing")
    with pytest.raises(RouteError, match="thing"):
        declare(own, "/2", name="thing")


def test_name_that_two_handlers_happen_to_have_is_refused_where_it_is_used() -> None:
    own = WSGIApplication()
    declare(own, "/1")
    assert own.url_for("handler") == "/1"
    declare(own, "/2")
    with pytest.raises(RouteError, match=r"'/1'.*'/2'"):
        own.url_for("handler")
    # One that was given goes before those that were not.
    declare(own, "/3", name="handler")
    assert own.url_for("handler") == "/3"


# Groups.


def test_groups_are_nested_with_their_prefixes_and_middleware_in_order() -> None:
    def tagged(name: str) -> Callable[[Request, Callable[[Request], Response]], Response]:
        def middleware(request: Request, call_next: Callable[[Request], Response]) -> Response:
            request.state.order = [*getattr(request.state, "order", []), name]
            response = call_next(request)
            response.headers.add("X-Order", name)
            return response

        return middleware

    own = WSGIApplication(middleware=[tagged("app")])
    outer = Group("/outer", middleware=[tagged("outer 1")])
    outer.add_middleware(tagged("outer 2"))
    inner = Group("/<int:i>", middleware=[tagged("inner")])

    @inner.get("/page")
    def page(request: Request, i: int) -> list[Any]:
        return [i, *request.state.order]

    outer.include(inner)
    own.include(outer)
    declare(own, "/outside")
    with direct(own) as client:
        response = client.get("/outer/7/page")
        assert response.json() == [7, "app", "outer 1", "outer 2", "inner"]
        assert response.headers.get_list("X-Order") == ["inner", "outer 2", "outer 1", "app"]
        assert client.get("/outside").headers.get_list("X-Order") == ["app"]
        assert client.get("/nowhere").headers.get_list("X-Order") == ["app"]
    assert own.url_for("page", i=7) == "/outer/7/page"


def test_route_added_to_a_group_after_it_was_included_is_answered() -> None:
    own = WSGIApplication()
    outer, inner = Group("/a"), Group("/b")
    own.include(outer)
    outer.include(inner)
    declare(inner, "/late")
    inner.add_middleware(lambda request, call_next: ("changed", 201))
    with direct(own) as client:
        assert client.get("/a/b/late").status_code == 201


def test_group_in_two_places_is_answered_in_both() -> None:
    own, other = WSGIApplication(), Group("/other")
    group = Group("/group")
    declare(group, "/x")
    own.include(group)
    other.include(group)
    own.include(other)
    declare(group, "/y")
    with direct(own) as client:
        for target in ("/group/x", "/group/y", "/other/group/x", "/other/group/y"):
            assert status(client, target) == 200


def test_group_without_prefix_adds_nothing_to_paths() -> None:
    own, group = WSGIApplication(), Group()
    declare(group, "/x")
    own.include(group)
    with direct(own) as client:
        assert status(client, "/x") == 200


def test_empty_path_in_a_group_is_its_prefix() -> None:
    own, outer, inner = WSGIApplication(), Group("/users"), Group("/<int:i>")
    outer.add_route("", told("all"), name="users")
    inner.add_route("", told("one"), name="user")
    outer.include(inner)
    own.include(outer)
    assert (own.url_for("users"), own.url_for("user", i=7)) == ("/users", "/users/7")
    with direct(own) as client:
        assert (found(client, "/users")["handler"], found(client, "/users/7")["i"]) == ("all", "int:7")
        response = client.get("/users/")
        assert (response.status_code, response.headers["Location"]) == (308, "/users")
    for routes in (WSGIApplication(), Group()):
        with pytest.raises(RouteError, match="begin with '/'"):
            routes.add_route("", told("x"))


@pytest.mark.parametrize("prefix", ["a", "/a/", "/", "a/", "/<int:i", "/a//b"])
def test_malformed_prefix_is_refused(prefix: str) -> None:
    own = WSGIApplication()

    def declared() -> None:
        group = Group(prefix)
        declare(group, "/x")
        own.include(group)

    with pytest.raises(RouteError, match=re.escape(prefix)):
        declared()


def test_group_within_itself_is_refused() -> None:
    one, two = Group("/one"), Group("/two")
    one.include(two)
    with pytest.raises(RouteError, match="itself"):
        one.include(one)
    with pytest.raises(RouteError, match="itself"):
        two.include(one)


def test_declaration_after_the_first_request_is_refused() -> None:
    own, group = WSGIApplication(), Group("/g")
    own.include(group)
    declare(own, "/")
    with direct(own) as client:
        client.get("/")
    with pytest.raises(RuntimeError, match="first request"):
        declare(own, "/late")
    with pytest.raises(RuntimeError, match="first request"):
        declare(group, "/late")
    with pytest.raises(RuntimeError, match="first request"):
        own.add_middleware(lambda request, call_next: call_next(request))


# Declarations that cannot stand.


def refusal(declaration: Callable[[], object]) -> str:
    """The message of a refused declaration, which says where it stands."""
    with pytest.raises(RouteError) as caught:
        declaration()
    message = str(caught.value)
    assert re.search(rf" \(declared at {re.escape(__file__)}:[0-9]+\)$", message), message
    assert message.count("(declared at") <= 2
    return message


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "a/b",
        "//",
        "/a//b",
        "/<",
        "/a>",
        "/<>",
        "/<int:>",
        "/<int:i",
        "/<:i>",
        "/<1a>",
        "/<a-b>",
        "/<nosuch:i>",
        "/<int:i>/<int:i>",
        "/<a><b>",
        "/<path:rest>/more",
        "/x<path:rest>",
        "/<path:rest>.txt",
        "/<request>",
        "/a?b",
        "/a#b",
        "/<é>",
        "/<a b>",
        # As other frameworks write it.
        "/q/{x}",
        "/q/{x",
    ],
)
def test_malformed_path_is_refused_where_it_is_declared(path: str) -> None:
    own = WSGIApplication()
    assert repr(path) in refusal(lambda: declare(own, path))


def test_refusal_names_the_line_of_the_declaration() -> None:
    own, group = WSGIApplication(), Group("/g")
    handler = told("x")
    line = sys._getframe().f_lineno + 1
    group.add_route("/x", handler)
    own.add_route("/g/x", handler)
    # The group's route is the one that comes second, by being included; where it was declared is what helps.
    assert f":{line})" in refusal(lambda: own.include(group))
    line = sys._getframe().f_lineno + 1
    message = refusal(lambda: own.get("/g/x")(handler))
    assert message.endswith(f":{line})")
    assert f":{line - 4})" in message


def test_second_route_for_the_same_path_and_method_is_refused_with_both_places() -> None:
    own = WSGIApplication()
    declare(own, "/a/<int:i>", "GET", "POST")
    message = refusal(lambda: declare(own, "/a/<int:j>", "PUT", "POST"))
    assert "POST" in message
    assert "/a/<int:i>" in message
    declare(own, "/a/<int:j>", "DELETE")


def test_route_refused_leaves_nothing_behind() -> None:
    own = WSGIApplication()
    declare(own, "/a", "POST")
    with pytest.raises(RouteError):
        declare(own, "/a", "GET", "POST", name="second")
    with direct(own) as client:
        assert status(client, "/a") == 405
    with pytest.raises(RouteError, match="second"):
        own.url_for("second")


@pytest.mark.parametrize("methods", ["GET", [], (), ["GE T"], ["GET", ""], ["GET\n"]])
def test_methods_that_are_none_are_refused(methods: Any) -> None:
    own = WSGIApplication()
    refusal(lambda: own.add_route("/", told("x"), methods=methods))


async def coroutine(request: Request) -> str:
    return ""


async def asynchronous_generator(request: Request) -> Any:
    yield ""


class Asynchronous:
    async def __call__(self, request: Request) -> str:
        return ""


@pytest.mark.parametrize(
    "handler",
    [coroutine, asynchronous_generator, functools.partial(coroutine), Asynchronous()],
    ids=["function", "generator", "partial", "object"],
)
def test_coroutine_is_refused_as_a_handler(handler: Any) -> None:
    own = WSGIApplication()
    assert "async" in refusal(lambda: own.add_route("/", handler))


@pytest.mark.parametrize(
    ("path", "handler"),
    [
        ("/<int:i>", lambda request: ""),
        ("/", lambda: ""),
        ("/", lambda request, i: ""),
        ("/<a>", lambda request, b: ""),
        ("/<a>", lambda request, a, b: ""),
        ("/<a>", lambda request, a, /: ""),
        ("/<a>", lambda a: ""),
        ("/", lambda *, request: ""),
    ],
)
def test_handler_that_does_not_take_its_parameters_is_refused(path: str, handler: Any) -> None:
    own = WSGIApplication()
    assert "lambda" in refusal(lambda: own.add_route(path, handler))


@pytest.mark.parametrize("handler", [None, "name", 5])
def test_handler_that_cannot_be_called_is_refused(handler: Any) -> None:
    own = WSGIApplication()
    assert "callable" in refusal(lambda: own.add_route("/", handler))


class Handlers:
    def method(self, request: Request, i: int) -> str:
        return f"method {i}"

    def __call__(self, request: Request, **rest: Any) -> str:
        return f"object {rest['i']}"


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (lambda request, i: f"lambda {i}", "lambda 7"),
        (lambda request, i=1, j=2: f"defaults {i} {j}", "defaults 7 2"),
        (lambda req, **rest: f"rest {rest['i']}", "rest 7"),
        (Handlers().method, "method 7"),
        (Handlers(), "object 7"),
        (functools.partial(lambda extra, request, i: f"partial {i}", "x"), "partial 7"),
    ],
)
def test_callable_of_every_kind_is_a_handler(handler: Any, expected: str) -> None:
    own = WSGIApplication()
    own.add_route("/<int:i>", handler, name="thing")
    with direct(own) as client:
        assert client.get("/7").text == expected


def test_decorator_gives_the_handler_back() -> None:
    own = WSGIApplication()

    def handler(request: Request) -> str:
        return ""

    assert own.route("/")(handler) is handler
    assert own.get("/2", name="2")(handler) is handler


def test_converter_that_fails_otherwise_than_by_value_error_is_not_taken_for_no_match() -> None:
    class Broken(Converter[int]):
        pattern = ".+"

        def parse(self, text: str) -> int:
            raise RuntimeError("broken")

    own = WSGIApplication(converters={"broken": Broken})
    declare(own, "/<broken:x>")
    with direct(own) as client:
        assert client.get("/a").status_code == 500


def test_converter_with_groups_in_its_pattern_stands_beside_text() -> None:
    class Either(Converter[str]):
        pattern = "(a|b)(c)?"

    own = WSGIApplication(converters={"either": Either})
    declare(own, "/x<either:e>-<either:f>")
    with direct(own) as client:
        answer = found(client, "/xac-b")
    assert (answer["e"], answer["f"]) == ("str:ac", "str:b")


def test_converter_of_the_application_replaces_a_built_in_one() -> None:
    own = WSGIApplication(converters={"int": Month})
    declare(own, "/<int:i>")
    with direct(own) as client:
        assert found(client, "/mar")["i"] == "int:3"
        assert status(client, "/7") == 404


def test_pattern_of_a_subclass_counts_wherever_its_parameter_stands() -> None:
    class Slug(StringConverter):
        pattern = "[a-z]+"

    class Year(IntConverter):
        pattern = "[0-9]{4}"

    own = WSGIApplication(converters={"slug": Slug, "year": Year})
    for path in ("/s/<slug:s>", "/y/<year:y>", "/m/<slug:s>-<year:y>"):
        declare(own, path, name=path[1])
    with direct(own) as client:
        assert (found(client, "/s/abc")["s"], found(client, "/y/2020")["y"]) == ("str:abc", "int:2020")
        assert found(client, "/m/abc-2020")["y"] == "int:2020"
        for target in ("/s/ABC", "/s/%3Cscript%3E", "/y/1", "/y/20201", "/m/abc-1"):
            assert status(client, target) == 404
    with pytest.raises(RouteError, match="'y'"):
        own.url_for("y", y=1)


def test_parse_of_a_subclass_counts_wherever_its_parameter_stands() -> None:
    class Doubled(IntConverter):
        def parse(self, text: str) -> int:
            return 2 * int(text)

    own = WSGIApplication(converters={"doubled": Doubled})
    declare(own, "/<doubled:i>")
    declare(own, "/m/<doubled:i>.txt")
    with direct(own) as client:
        assert (found(client, "/7")["i"], found(client, "/m/7.txt")["i"]) == ("int:14", "int:14")


def test_convert_of_an_own_converter_is_inherited() -> None:
    class Base(Converter[str]):
        def convert(self, text: str) -> str:
            return f"base {text}"

    class Same(Base):
        pass

    class Narrower(Base):
        pattern = "[0-9]+"

    own = WSGIApplication(converters={"base": Base, "same": Same, "narrower": Narrower})
    for kind in ("base", "same", "narrower"):
        declare(own, f"/{kind}/<{kind}:value>")
    with direct(own) as client:
        for kind in ("base", "same", "narrower"):
            assert found(client, f"/{kind}/1")["value"] == "str:base 1"


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?P<p0>a)", "(?i)a"])
def test_pattern_that_cannot_stand_beside_text_is_refused_or_works(pattern: str) -> None:
    class Odd(Converter[str]):
        pass

    with warnings.catch_warnings():
        # Python 3.10 warns of what later versions refuse.
        warnings.simplefilter("ignore", DeprecationWarning)
        Odd.pattern, Odd.matcher = pattern, re.compile(pattern)
        own = WSGIApplication(converters={"odd": Odd})
        try:
            declare(own, "/x<odd:a>-<odd:b>")
        except RouteError:
            # Where it was declared is said as for any other route.
            refusal(lambda: declare(own, "/x<odd:a>-<odd:b>"))
            return
    text = "aa" if pattern.endswith("1") else "a"
    with direct(own) as client:
        assert found(client, f"/x{text}-{text}")["b"] == f"str:{text}"


def test_float_beyond_all_floats_is_not_found() -> None:
    with direct(app) as client:
        assert status(client, "/float/" + "9" * 400) == 404
        assert found(client, "/float/" + "9" * 300)["x"] == "float:1e+300"


# Mounted applications: PEP 3333.


class Closing:
    """Pieces that note each close."""

    def __init__(self, pieces: Iterable[bytes], closed: list[str]) -> None:
        self.pieces = iter(pieces)
        self.closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces

    def close(self) -> None:
        self.closed.append("closed")


def where(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}|{environ['QUERY_STRING']}".encode("latin-1")
    start_response("200 Very OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def written(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    write(b"twice ")
    return [b"returned"]


def lazily(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", [("Content-Type", "text/plain")])
    yield b"one "
    yield b"two"


def changed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"sorry"]


mounts = WSGIApplication()
mounts.mount("/where", where)
mounts.mount("/where/deeper", where)
mounts.mount("/ünï", where)
mounts.mount("/written", written)
mounts.mount("/lazily", lazily)
mounts.mount("/changed", changed)
declare(mounts, "/where/route")
_inner = WSGIApplication()


@_inner.get("/page/<name>", name="inner")
def _inner_page(request: Request, name: str) -> dict[str, str]:
    return {"root": request.root_path, "path": request.path, "url": request.url_for("inner", name=name)}


mounts.mount("/inner", _inner)


@mounts.middleware
def seen(request: Request, call_next: Callable[[Request], Response]) -> Response:
    response = call_next(request)
    response.headers["X-Seen"] = str(response.status)
    return response


@pytest.fixture
def mounted(connect: Callable[..., httpx.Client]) -> httpx.Client:
    return connect("mounts")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/where", "/where||"),
        ("/where/", "/where|/|"),
        ("/where/a/b?c=d", "/where|/a/b|c=d"),
        ("/where/a%2Fb", "/where|/a/b|"),
        ("/where/deeper/x", "/where/deeper|/x|"),
        ("/where/%FF", "/where|/\xff|"),
        ("/%C3%BCn%C3%AF/x", "/ünï|/x|"),
    ],
)
def test_mounted_application_sees_itself_at_its_root(mounted: httpx.Client, target: str, expected: str) -> None:
    response = mounted.get("/", extensions={"target": target.encode()})
    if target.endswith("%FF"):
        # Nothing can be routed by a path that is no text.
        assert response.status_code == 400
        return
    assert response.status_code == 200
    assert response.content.decode("utf-8") == expected
    assert response.headers["X-Seen"] == "200"


def test_mounted_application_is_not_reached_by_a_longer_name(mounted: httpx.Client) -> None:
    assert mounted.get("/whereabouts").status_code == 404


def test_route_goes_before_a_mounted_application(mounted: httpx.Client) -> None:
    assert found(mounted, "/where/route")["handler"] == "/where/route"


def test_what_a_mounted_application_writes_is_sent(mounted: httpx.Client) -> None:
    assert mounted.get("/written").text == "written twice returned"
    response = mounted.get("/lazily")
    assert (response.status_code, response.text) == (201, "one two")


def test_mounted_application_may_change_its_mind_before_anything_is_sent(mounted: httpx.Client) -> None:
    response = mounted.get("/changed")
    assert (response.status_code, response.text) == (503, "sorry")


def test_mounted_application_may_not_change_its_mind_after_it_wrote(caplog: pytest.LogCaptureFixture) -> None:
    # PEP 3333: what was written has been sent, so the error is raised again and the response is none.
    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"partial ")
        try:
            raise ValueError("changed its mind")
        except ValueError:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry"]

    own = WSGIApplication()
    own.mount("/m", inner)
    with direct(own) as client:
        response = client.get("/m")
    assert response.status_code >= 500
    assert "partial" not in response.text


def test_mounted_applications_phrase_is_kept(mounted: httpx.Client) -> None:
    assert mounted.get("/where").reason_phrase == "Very OK"


def test_mounted_application_is_asked_with_any_method(mounted: httpx.Client) -> None:
    assert mounted.delete("/where/x").text == "/where|/x|"
    response = mounted.head("/where/x")
    assert (response.status_code, response.content) == (200, b"")


def test_mounted_framework_application_knows_its_root(mounted: httpx.Client) -> None:
    assert mounted.get("/inner/page/x").json() == {"root": "/inner", "path": "/page/x", "url": "/inner/page/x"}
    assert mounted.get("/inner/nowhere").status_code == 404


def test_mounted_application_below_a_root_path_sees_both() -> None:
    with direct(mounts, SCRIPT_NAME="/outer") as client:
        assert client.get("/where/x").text == "/outer/where|/x|"
        assert client.get("/inner/page/x").json()["url"] == "/outer/inner/page/x"


@pytest.mark.parametrize("kind", ["list", "lazy", "written", "failing"])
def test_content_of_a_mounted_application_is_closed_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def lazy() -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x"

        if kind == "lazy":
            return Closing(lazy(), closed)
        if kind == "failing":
            return Closing((1 // 0 for _ in "x"), closed)  # type: ignore[misc]
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if kind == "written":
            write(b"w")
        return Closing([b"x"], closed)

    own = WSGIApplication()
    own.mount("/m", inner)
    with direct(own) as client:
        response = client.get("/m")
    assert response.status_code == (500 if kind == "failing" else 200)
    assert closed == ["closed"]


def test_mounted_application_that_never_starts_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()
    own.mount("/m", lambda environ, start_response: [])
    with direct(own) as client:
        assert client.get("/m").status_code == 500
    assert "start_response" in caplog.text


def test_mounted_application_that_raises_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    def broken(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise ValueError("broken")

    own = WSGIApplication()
    own.mount("/m", broken)
    with direct(own) as client:
        assert client.get("/m").status_code == 500
    assert len(caplog.records) == 1


def test_mounted_application_that_fails_in_midstream_is_not_taken_for_whole() -> None:
    # PEP 3333, "Error Handling": once headers have been sent, start_response re-raises exc_info.
    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        try:
            raise ValueError("in midstream")
        except ValueError:
            start_response("500 Error", [("Content-Type", "text/plain")], sys.exc_info())
            yield b"error page"

    own = WSGIApplication()
    own.mount("/m", inner)
    with direct(own) as client, pytest.raises(ValueError, match="in midstream"):
        client.get("/m")


def test_environ_of_the_outer_application_is_left_alone() -> None:
    own = WSGIApplication()
    own.mount("/m", where)
    kept: list[tuple[str, str]] = []

    @own.middleware
    def watch(request: Request, call_next: Callable[[Request], Response]) -> Response:
        response = call_next(request)
        kept.append((request.environ["SCRIPT_NAME"], request.environ["PATH_INFO"]))
        return response

    with direct(own) as client:
        client.get("/m/x")
    assert kept == [("", "/m/x")]


def test_group_mounts_below_its_prefix_and_inside_its_middleware() -> None:
    own, group = WSGIApplication(), Group("/g")
    group.mount("/m", where)

    @group.middleware
    def tag(request: Request, call_next: Callable[[Request], Response]) -> Response:
        response = call_next(request)
        response.headers["X-Group"] = "yes"
        return response

    own.include(group)
    with direct(own) as client:
        response = client.get("/g/m/x")
    assert response.text == "/g/m|/x|"
    assert response.headers["X-Group"] == "yes"


@pytest.mark.parametrize(("prefix", "target"), [("a", where), ("/<name>", where), ("/a//b", where), ("/a", None)])
def test_malformed_mount_is_refused(prefix: str, target: Any) -> None:
    own = WSGIApplication()
    refusal(lambda: own.mount(prefix, target))


def test_second_mount_at_the_same_prefix_is_refused() -> None:
    own = WSGIApplication()
    own.mount("/a", where)
    refusal(lambda: own.mount("/a/", where))


def test_mount_at_the_root_takes_what_no_route_takes() -> None:
    own = WSGIApplication()
    own.mount("/", where)
    declare(own, "/route")
    with direct(own) as client:
        assert found(client, "/route")["handler"] == "/route"
        assert client.get("/other").text == "|/other|"


@pytest.mark.parametrize("method", ["route", "get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize("routes", [WSGIApplication(), Group("/g")], ids=["app", "group"])
def test_decorator_without_parentheses_is_refused(routes: Any, method: str) -> None:
    def handler(request: Request) -> str:
        return ""

    with pytest.raises(RouteError, match=r"write @app\.get\('/path'\)"):
        getattr(routes, method)(handler)


@pytest.mark.parametrize("target", [WSGIApplication(), where, None, "group"])
def test_only_groups_can_be_included(target: Any) -> None:
    with pytest.raises(TypeError, match="Group"):
        WSGIApplication().include(target)


class Reads:
    """A middleware that reads the body before it goes on."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, request: Request, call_next: Callable[[Request], Response]) -> Response:
        value = getattr(request, self.how)
        value() if callable(value) else value
        return call_next(request)


def reading(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]


@pytest.mark.parametrize("how", ["body", "text", "json", "method"])
def test_mounted_application_gets_the_body_that_middleware_read(how: str) -> None:
    own = WSGIApplication(middleware=[Reads(how)])
    own.mount("/m", reading)
    with direct(own) as client:
        assert client.post("/m", json={"a": "é"}).json() == {"a": "é"}


@pytest.mark.parametrize("how", ["form", "files", "stream"])
def test_mounted_application_whose_body_is_gone_is_an_error_and_sees_no_empty_one(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = WSGIApplication(middleware=[Reads(how)])
    own.mount("/m", reading)
    with direct(own) as client:
        assert client.post("/m", data={"a": "1"}).status_code == 500
    assert "read the body of this request as a stream or a form" in caplog.text


def test_mounted_application_gets_the_form_whose_body_middleware_read_first() -> None:
    own = WSGIApplication(middleware=[Reads("body"), Reads("form")])
    own.mount("/m", reading)
    with direct(own) as client:
        assert client.post("/m", data={"a": "1"}).text == "a=1"
