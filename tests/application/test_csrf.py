"""Other sites cannot make a visitor's browser change anything."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from wsgi.application import Request, WSGIApplication
from wsgi.application.middleware import CSRFMiddleware, SessionMiddleware, csrf_token
from wsgi.application.testing import TestClient

KEY = "a key for the tests, of 32 bytes"
FORM = "application/x-www-form-urlencoded"


def token(request: Request) -> str:
    return csrf_token(request)


def change(request: Request) -> str:
    return "changed"


def form(request: Request) -> dict[str, Any]:
    return {"fields": dict(request.form.pairs()), "files": [file.read().decode() for _, file in request.files.pairs()]}


def application(**options: Any) -> WSGIApplication:
    app = WSGIApplication(middleware=[SessionMiddleware(KEY), CSRFMiddleware(**options)])
    app.add_route("/token", token)
    app.add_route("/form", form, methods=["POST"])
    app.add_route("/", change, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    return app


app = application()


def test_form_with_the_token_is_taken_and_can_still_be_read(client: httpx.Client) -> None:
    fields = {"csrf_token": client.get("/token").text, "title": "Milk"}
    assert client.post("/form", data=fields).json() == {"fields": fields, "files": []}
    both = client.post("/form", data=fields, files={"photo": b"pixels"})
    assert both.json() == {"fields": fields, "files": ["pixels"]}


def test_token_can_come_in_the_header(client: httpx.Client) -> None:
    headers = {"X-CSRF-Token": client.get("/token").text}
    assert client.post("/", headers=headers).text == "changed"
    assert client.delete("/", headers=headers).text == "changed"


def test_token_differs_each_time_and_each_one_counts(client: httpx.Client) -> None:
    first, second = client.get("/token").text, client.get("/token").text
    assert first != second
    for each in (first, second, first):
        assert client.post("/", data={"csrf_token": each}).status_code == 200


def test_request_without_token_is_refused(client: httpx.Client) -> None:
    client.get("/token")
    response = client.post("/", data={"title": "Milk"})
    assert response.status_code == 403
    assert "CSRF token is missing" in response.text


def test_safe_methods_need_nothing(client: httpx.Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    for method in ("GET", "HEAD", "OPTIONS"):
        assert client.request(method, "/", headers=headers).status_code < 300


@pytest.fixture
def visitor() -> TestClient:
    """A client that has a session, and sends its token."""
    client = app.test_client()
    client.headers["X-CSRF-Token"] = client.get("/token").text
    return client


@pytest.mark.parametrize("wrong", ["", "x", "=", "é", "A" * 88, base64.urlsafe_b64encode(bytes(64)).decode()])
def test_wrong_token_is_refused(visitor: TestClient, wrong: str) -> None:
    visitor.headers.discard("X-CSRF-Token")
    assert visitor.post("/", data={"csrf_token": wrong}).status == 403


def test_token_of_another_session_is_refused(visitor: TestClient) -> None:
    stranger = app.test_client()
    stranger.get("/token")
    assert stranger.post("/", headers={"X-CSRF-Token": visitor.headers["X-CSRF-Token"]}).status == 403
    # Not even with no session at all: signing in is a change, too.
    assert app.test_client().post("/", headers={"X-CSRF-Token": visitor.headers["X-CSRF-Token"]}).status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost"}, 200),
        # A proxy did TLS.
        ({"Origin": "https://localhost"}, 200),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_request_has_to_come_from_the_same_origin(visitor: TestClient, headers: dict[str, str], status: int) -> None:
    assert visitor.post("/", headers=headers).status == status


def test_trusted_origin_may_send_with_the_token() -> None:
    client = application(trusted_origins=["https://admin.example"]).test_client()
    headers = {"Origin": "https://admin.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/", headers=headers).status == 403
    headers["X-CSRF-Token"] = client.get("/token").text
    assert client.post("/", headers=headers).status == 200


@pytest.mark.parametrize("content_type", ["", FORM, "multipart/form-data; boundary=x", "text/plain", "Text/Plain;a=b"])
def test_what_a_form_can_send_needs_the_token(content_type: str) -> None:
    client = app.test_client()
    headers = {"Content-Type": content_type} if content_type else {}
    assert client.post("/", data=b"", headers=headers).status in (400, 403)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_json_needs_no_token_because_it_cannot_cross_origins_unasked(method: str) -> None:
    client = app.test_client()
    assert client.request(method, "/", json={}).status == 200
    assert client.request(method, "/", json={}, headers={"Sec-Fetch-Site": "cross-site"}).status == 403


def test_exempt_requests_pass() -> None:
    client = application(exempt=lambda request: request.path == "/form").test_client()
    assert client.post("/form", data={"a": "b"}, headers={"Origin": "https://hooks.example"}).status == 200
    assert client.post("/", data={"a": "b"}).status == 403
