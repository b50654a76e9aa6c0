"""Cross-origin requests by the Fetch standard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.application.switchboard import direct
from wsgi.application import Group, JSONResponse, Request, Response, WSGIApplication
from wsgi.application.middleware import CORSMiddleware
from wsgi.application.testing import TestResponse

SHOP = "https://shop.example"

app = WSGIApplication(
    middleware=[CORSMiddleware([SHOP], headers=["X-Cart"], expose=["X-Total"], credentials=True, max_age=60)]
)


@app.get("/items")
def items(request: Request) -> JSONResponse:
    return JSONResponse([1, 2], headers={"X-Total": "2"})


@app.get("/broken")
def broken(request: Request) -> JSONResponse:
    raise LookupError


def allowed(headers: Mapping[str, str]) -> set[str]:
    return {name.lower() for name in headers if name.lower().startswith("access-control-")}


def test_allowed_origin_is_named_with_what_it_may_read(client: httpx.Client) -> None:
    response = client.get("/items", headers={"Origin": SHOP})
    assert response.json() == [1, 2]
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Expose-Headers"] == "X-Total"
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("path", ["/missing", "/broken"])
def test_script_of_an_allowed_origin_can_read_errors(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"Origin": SHOP}).headers["Access-Control-Allow-Origin"] == SHOP


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://shop.example", f"{SHOP}.evil.example", f"{SHOP}:8443", "null", ""]
)
def test_other_origin_is_answered_without_permission(client: httpx.Client, origin: str) -> None:
    response = client.get("/items", headers={"Origin": origin})
    assert response.status_code == 200
    assert allowed(response.headers) == set()
    assert response.headers["Vary"] == "Origin"


def test_request_without_origin_varies_all_the_same(client: httpx.Client) -> None:
    response = client.get("/items")
    assert allowed(response.headers) == set()
    assert response.headers["Vary"] == "Origin"


def test_preflight_is_answered_without_the_handler(client: httpx.Client) -> None:
    response = client.options("/missing", headers={"Origin": SHOP, "Access-Control-Request-Method": "PUT"})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE"
    assert response.headers["Access-Control-Allow-Headers"] == "X-Cart"
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Max-Age"] == "60"
    assert "Origin" in response.headers["Vary"]


def test_preflight_of_another_origin_gets_no_permission(client: httpx.Client) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    response = client.options("/items", headers=headers)
    assert response.status_code == 204
    assert allowed(response.headers) == set()
    assert "Origin" in response.headers["Vary"]


def test_options_that_is_no_preflight_reaches_the_application(client: httpx.Client) -> None:
    response = client.options("/items", headers={"Origin": SHOP})
    assert response.headers["Allow"]
    assert response.headers["Access-Control-Allow-Origin"] == SHOP


def answer(*arguments: Any, method: str = "GET", headers: Mapping[str, str], **options: Any) -> TestResponse:
    app = WSGIApplication(middleware=[CORSMiddleware(*arguments, **options)])
    app.add_route("/", lambda request: Response("", headers={"Access-Control-Allow-Origin": "https://old.example"}))
    return app.test_client().request(method, "/", headers=headers)


# Fetch, "CORS protocol and HTTP caches": always sent, then, and without Vary.
@pytest.mark.parametrize("headers", [{"Origin": "https://a.example"}, {}])
def test_any_origin_is_a_star_that_caches_may_share(headers: dict[str, str]) -> None:
    response = answer("*", headers=headers)
    assert response.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    assert "Vary" not in response.headers


def test_null_origin_is_allowed_only_if_listed() -> None:
    assert answer(["null"], headers={"Origin": "null"}).headers["Access-Control-Allow-Origin"] == "null"


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://a.shop.example", True),
        ("https://a.shop.example.evil.example", False),
        ("xhttps://a.shop.example", False),
        ("https://a.shop.example\n", False),
    ],
)
def test_pattern_has_to_match_the_whole_origin(origin: str, is_allowed: bool) -> None:
    middleware = CORSMiddleware(origin_pattern=r"https://[a-z]+\.shop\.example")
    assert middleware._allow_origin(Response(), origin) is is_allowed


@pytest.mark.parametrize("origin", ["https://a\x01", "https://a\r\nX-A: 1", "https://a, https://b", "https://", "a b"])
def test_wide_pattern_lets_origins_through_and_nothing_else(origin: str) -> None:
    app = WSGIApplication(middleware=[CORSMiddleware(origin_pattern="(?s).*")])
    app.add_route("/", lambda request: "x")
    for sent, is_allowed in ((origin, False), (SHOP, True)):
        for method in ("GET", "OPTIONS"):
            with direct(app, HTTP_ORIGIN=sent, HTTP_ACCESS_CONTROL_REQUEST_METHOD="PUT", validated=False) as client:
                response = client.request(method, "/")
            assert response.status_code in (200, 204)
            assert ("Access-Control-Allow-Origin" in response.headers) is is_allowed


def test_any_header_means_those_asked_for() -> None:
    asked = {
        "Origin": SHOP,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, x-a,b@d",
    }
    response = answer([SHOP], headers=asked, method="OPTIONS")
    assert "Access-Control-Allow-Headers" not in response.headers
    app = WSGIApplication(middleware=[CORSMiddleware([SHOP], headers="*", methods=["PUT"], max_age=None)])
    response = app.test_client().options("/", headers=asked)
    assert response.headers["Access-Control-Allow-Headers"] == "authorization, x-a"
    assert response.headers["Access-Control-Allow-Methods"] == "PUT"
    assert "Access-Control-Max-Age" not in response.headers
    assert "Access-Control-Request-Headers" in response.headers["Vary"]


@pytest.mark.parametrize("origins", ["*", ["https://a.example", "*"]])
def test_any_origin_with_credentials_is_refused(origins: Any) -> None:
    with pytest.raises(ValueError, match="credentials"):
        CORSMiddleware(origins, credentials=True)


def test_exposing_everything_with_credentials_is_refused() -> None:
    with pytest.raises(ValueError, match="credentials"):
        CORSMiddleware([SHOP], expose="*", credentials=True)


@pytest.mark.parametrize(
    "origin",
    ["shop.example", "https://shop.example/", "https://Shop.example", "https://shop.example/a", "", "https://*"],
)
def test_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        CORSMiddleware([origin])


@pytest.mark.parametrize("option", ["methods", "headers", "expose"])
def test_name_that_is_no_token_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        CORSMiddleware([SHOP], **{option: ["two words"]})  # type: ignore[arg-type]


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://[::1]:8443", "chrome-extension://abcdef"])
def test_origin_as_browsers_send_it_is_taken(origin: str) -> None:
    assert answer(origin, headers={"Origin": origin}).headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("prefix", ["/api", "/<tenant>"])
def test_preflight_below_a_group_is_answered_by_the_groups_middleware(prefix: str) -> None:
    app, api = WSGIApplication(), Group(prefix, middleware=[CORSMiddleware([SHOP])])
    api.add_route("/items", lambda request, **parameters: "items")
    app.add_route("/outside", lambda request: "outside")
    app.include(api)
    client, path = app.test_client(), f"{prefix.replace('<tenant>', 'acme')}/items"
    asked = {"Origin": SHOP, "Access-Control-Request-Method": "PUT"}
    response = client.options(path, headers=asked)
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, SHOP)
    assert "PUT" in response.headers["Access-Control-Allow-Methods"]
    # What is no preflight, and what is not allowed, is readable, too.
    assert client.options(path, headers={"Origin": SHOP}).headers["Access-Control-Allow-Origin"] == SHOP
    refused = client.put(path, headers={"Origin": SHOP})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (405, SHOP)
    assert allowed(dict(client.options("/outside", headers=asked).headers.items())) == set()
