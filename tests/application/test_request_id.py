"""Every request has an identifier."""

from __future__ import annotations

import re

import httpx
import pytest

from wsgi.application import Request, WSGIApplication
from wsgi.application.middleware import RequestIDMiddleware

app = WSGIApplication(middleware=[RequestIDMiddleware()])


@app.get("/")
def index(request: Request) -> str:
    return str(request.state.request_id)


@app.get("/broken")
def broken(request: Request) -> str:
    raise LookupError


def test_every_request_has_another_id_in_state_and_header(client: httpx.Client) -> None:
    first, second = client.get("/"), client.get("/")
    assert re.fullmatch(r"[0-9a-f]{32}", first.text)
    assert first.headers["X-Request-ID"] == first.text != second.text


@pytest.mark.parametrize("path", ["/missing", "/broken"])
def test_error_response_has_an_id_too(client: httpx.Client, path: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", client.get(path).headers["X-Request-ID"])


def test_incoming_id_is_not_trusted_unless_told(client: httpx.Client) -> None:
    assert client.get("/", headers={"X-Request-ID": "mine"}).text != "mine"


@pytest.mark.parametrize("given", ["a", "7f3c-99/x.y_z~1:2=3@4+5", "x" * 128])
def test_trusted_id_is_taken_over(given: str) -> None:
    trusting = WSGIApplication(middleware=[RequestIDMiddleware(header="X-Trace", trust=True)])
    trusting.add_route("/", index)
    response = trusting.test_client().get("/", headers={"X-Trace": given})
    assert (response.text, response.headers["X-Trace"]) == (given, given)


@pytest.mark.parametrize("given", ["", " ", "two words", "x" * 129, 'quo"te', "new\tline", "caf\xe9", "a;b", "<b>"])
def test_trusted_id_that_is_none_is_replaced(given: str) -> None:
    trusting = WSGIApplication(middleware=[RequestIDMiddleware(trust=True)])
    trusting.add_route("/", index)
    response = trusting.test_client().get("/", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", response.text)
