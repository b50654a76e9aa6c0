"""Sessions in a signed cookie."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import httpx
import itsdangerous
import pytest

from wsgi.application import HandlerResult, Request, Response, WSGIApplication
from wsgi.application.middleware import SessionMiddleware
from wsgi.application.testing import TestClient

KEY = "a key for the tests, of 32 bytes"
OLD_KEY = "the key that was used before this"

app = WSGIApplication(middleware=[SessionMiddleware(KEY)])


@app.get("/")
def index(request: Request) -> str:
    return "nothing about you"


@app.get("/show")
def show(request: Request) -> HandlerResult:
    return {"values": dict(request.session), "new": request.session.new, "modified": request.session.modified}


@app.post("/set/<name>/<value>")
def put(request: Request, name: str, value: str) -> str:
    request.session[name] = value
    return "set"


@app.post("/append/<value>")
def append(request: Request, value: str) -> str:
    request.session.setdefault("list", []).append(value)
    request.session.modified = True
    return "appended"


@app.post("/clear")
def clear(request: Request) -> str:
    request.session.clear()
    return "cleared"


@app.post("/break/<value>")
def fail(request: Request, value: str) -> str:
    request.session["value"] = value
    raise LookupError


@app.post("/large")
def large(request: Request) -> str:
    request.session["value"] = secrets.token_hex(9000)
    return "too much"


@app.post("/set")
def put_what_json_cannot_hold(request: Request) -> str:
    request.session["value"] = {1, 2}
    return "impossible"


def test_session_is_there_with_the_next_request(client: httpx.Client) -> None:
    assert client.get("/show").json() == {"values": {}, "new": True, "modified": False}
    client.post("/set/name/Ann")
    client.post("/append/1")
    client.post("/append/2")
    assert client.get("/show").json() == {
        "values": {"name": "Ann", "list": ["1", "2"]},
        "new": False,
        "modified": False,
    }


def test_cookie_is_hidden_from_scripts_and_other_sites(client: httpx.Client) -> None:
    cookie = client.post("/set/name/Ann").headers["Set-Cookie"]
    assert cookie.startswith("session=")
    assert cookie.split("; ")[1:] == ["Max-Age=1209600", "Path=/", "HttpOnly", "SameSite=Lax"]


def test_response_varies_only_if_the_session_was_used(client: httpx.Client) -> None:
    assert "Vary" not in client.get("/").headers
    assert client.get("/show").headers["Vary"] == "Cookie"
    assert client.post("/set/a/b").headers["Vary"] == "Cookie"


def test_session_is_written_only_if_it_was_changed(client: httpx.Client) -> None:
    client.post("/set/name/Ann")
    for path in ("/", "/show"):
        assert "Set-Cookie" not in client.get(path).headers


def test_response_with_a_cookie_is_for_no_shared_cache(client: httpx.Client) -> None:
    assert client.post("/set/name/Ann").headers["Cache-Control"] == "private"
    assert "Cache-Control" not in client.get("/show").headers


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (None, {"private"}),
        ("public, max-age=60", {"private", "max-age=60"}),
        ("Public, S-MaxAge=9", {"private"}),
        ("max-age=60", {"private", "max-age=60"}),
        ("private", {"private"}),
        ("no-store", {"no-store"}),
    ],
)
def test_shared_cache_never_gets_a_cookie(said: str | None, sent: set[str]) -> None:
    # RFC 9111 §5.2.2: one visitor's session would be the next one's.
    app = WSGIApplication(middleware=[SessionMiddleware(KEY)])

    @app.get("/<value>")
    def page(request: Request, value: str) -> Response:
        if value != "unchanged":
            request.session["value"] = value
        return Response("x", headers={"Cache-Control": said} if said else None)

    client = app.test_client()
    response = client.get("/x")
    assert "Set-Cookie" in response.headers
    assert set(", ".join(response.headers.get_all("Cache-Control")).split(", ")) == sent
    # Without a cookie, the handler's word stands.
    assert client.get("/unchanged").headers.get("Cache-Control") == said


def test_cleared_session_takes_the_cookie_away(client: httpx.Client) -> None:
    client.post("/set/name/Ann")
    assert "Max-Age=0" in client.post("/clear").headers["Set-Cookie"]
    assert client.cookies.get("session") is None
    assert client.get("/show").json()["values"] == {}


def test_clearing_what_is_not_there_sets_no_cookie(client: httpx.Client) -> None:
    assert "Set-Cookie" not in client.post("/clear").headers


def test_session_is_written_with_an_error_response(client: httpx.Client) -> None:
    assert client.post("/break/kept").status_code == 500
    assert client.get("/show").json()["values"] == {"value": "kept"}


@pytest.mark.parametrize("path", ["/large", "/set"])
def test_what_no_cookie_can_hold_is_an_error_and_not_lost_in_silence(client: httpx.Client, path: str) -> None:
    response = client.post(path)
    assert response.status_code == 500
    assert "Set-Cookie" not in response.headers


def test_error_of_a_large_session_names_the_limit() -> None:
    with pytest.raises(ValueError, match=r"a cookie of \d+ bytes.* 4093"):
        app.test_client().post("/large")


def test_error_of_an_impossible_value_names_its_type() -> None:
    with pytest.raises(TypeError, match=r"JSON.*set"):
        app.test_client().post("/set")


def test_key_that_is_no_text_is_refused_when_it_is_set() -> None:
    app = WSGIApplication(middleware=[SessionMiddleware(KEY)])
    app.add_route("/", lambda request: request.session.update({1: "one"}))
    with pytest.raises(TypeError, match="keys of a session must be str, not int"):
        app.test_client().get("/")


def cookie_of(client: TestClient) -> str:
    client.post("/set/name/Ann")
    return client.cookies["session"]


def values_with(cookie: str, app: WSGIApplication = app) -> Any:
    answer = app.test_client().get("/show", headers={"Cookie": f"session={cookie}"})
    assert answer.status == 200
    return answer.json()["values"]


def test_every_change_to_the_cookie_makes_an_empty_session() -> None:
    cookie = cookie_of(app.test_client())
    assert values_with(cookie) == {"name": "Ann"}
    for index in range(len(cookie)):
        # The last character of base64 has bits that stand for nothing.
        other = {"A": "z"}.get(cookie[index], "A")
        damaged = cookie[:index] + other + cookie[index + 1 :]
        assert values_with(damaged) == {} or index == len(cookie) - 1
        assert values_with(cookie[:index]) == {}


@pytest.mark.parametrize("cookie", ["", ".", "..", "...", "a.b.c", "\xff", "%00", "{}", ".eJw.x.y", "x" * 5000])
def test_cookie_that_is_no_session_is_an_empty_session(cookie: str) -> None:
    assert values_with(cookie) == {}


@pytest.mark.parametrize("payload", [[1], "text", None, 5])
def test_signed_cookie_that_holds_no_session_is_an_empty_session(payload: Any) -> None:
    serializer = SessionMiddleware(KEY)._serializer
    assert values_with(str(serializer.dumps(payload))) == {}


def test_signature_made_with_the_key_for_another_purpose_does_not_count() -> None:
    assert values_with(str(itsdangerous.URLSafeTimedSerializer(KEY).dumps({"name": "Eve"}))) == {}


def app_with(*arguments: Any, **options: Any) -> WSGIApplication:
    app = WSGIApplication(middleware=[SessionMiddleware(*arguments, **options)])
    app.add_route("/show", show)
    app.add_route("/set/<name>/<value>", put, methods=["POST"])
    return app


def test_session_ends_after_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    client = app_with(KEY, max_age=60).test_client()
    cookie = cookie_of(client)
    now = itsdangerous.TimestampSigner(KEY).get_timestamp()
    for later, values in ((60, {"name": "Ann"}), (62, {})):
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self, later=later: now + later)
        assert values_with(cookie, client.app) == values  # type: ignore[arg-type]


def test_session_without_age_lives_as_long_as_the_browser() -> None:
    response = app_with(KEY, max_age=None).test_client().post("/set/a/b")
    assert "Max-Age" not in response.headers["Set-Cookie"]


def test_new_key_signs_and_old_keys_are_accepted() -> None:
    before, between, after = app_with(OLD_KEY), app_with([KEY, OLD_KEY.encode()]), app_with(KEY)
    assert values_with(cookie_of(before.test_client()), between) == {"name": "Ann"}
    assert values_with(cookie_of(between.test_client()), after) == {"name": "Ann"}
    assert values_with(cookie_of(before.test_client()), after) == {}


@pytest.mark.parametrize("key", ["", b"", "short", b"123456789012345", [], ["", KEY], [KEY, "short"]])
def test_key_that_can_be_guessed_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="secret_key"):
        SessionMiddleware(key)


def test_attributes_are_those_asked_for() -> None:
    app = app_with(
        KEY, cookie="id", path="/shop", domain="shop.example", secure=True, same_site="Strict", http_only=False
    )
    cookie = app.test_client().post("/set/a/b").headers["Set-Cookie"]
    assert cookie.startswith("id=")
    assert cookie.split("; ")[2:] == ["Domain=shop.example", "Path=/shop", "Secure", "SameSite=Strict"]


@pytest.mark.parametrize(
    ("base_url", "options", "is_secure"),
    [
        ("http://localhost", {}, False),
        ("https://localhost", {}, True),
        ("https://localhost", {"secure": False}, False),
        ("http://localhost", {"cookie": "__Host-session"}, True),
        ("http://localhost", {"same_site": "None"}, True),
    ],
)
def test_cookie_is_secure_where_the_request_was(base_url: str, options: dict[str, Any], is_secure: bool) -> None:
    response = app_with(KEY, **options).test_client(base_url=base_url).post("/set/a/b")
    assert ("; Secure" in response.headers["Set-Cookie"]) is is_secure


@pytest.mark.parametrize(
    "options", [{"same_site": "None", "secure": False}, {"cookie": "a b"}, {"cookie": "__Host-a", "path": "/a"}]
)
def test_attributes_that_browsers_refuse_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cookie"):
        SessionMiddleware(KEY, **options)


def test_session_without_middleware_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    app = WSGIApplication()
    app.add_route("/", lambda request: str(request.session))
    with pytest.raises(RuntimeError, match="SessionMiddleware"):
        app.test_client().get("/")


def test_session_behaves_as_a_dictionary() -> None:
    seen: list[Any] = []

    def handler(request: Request) -> Response:
        session = request.session
        session.update(a=1, b=2)
        seen.extend([len(session), list(session), session.pop("a"), "a" in session, session.get("c"), repr(session)])
        del session["b"]
        return Response()

    app = WSGIApplication(middleware=[SessionMiddleware(KEY)])
    app.add_route("/", handler)
    response = app.test_client().get("/")
    assert seen == [2, ["a", "b"], 1, False, None, "<Session b>"]
    assert "Set-Cookie" not in response.headers
