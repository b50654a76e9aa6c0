"""Fields that protect a site are there, and can be chosen."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from wsgi.application import HTMLResponse, Request, WSGIApplication
from wsgi.application.middleware import SecurityHeadersMiddleware

app = WSGIApplication(middleware=[SecurityHeadersMiddleware()])


@app.get("/")
def index(request: Request) -> HTMLResponse:
    return HTMLResponse("<p>Hello")


@app.get("/own")
def own(request: Request) -> HTMLResponse:
    return HTMLResponse("<p>Map", headers={"content-security-policy": "default-src maps.example"})


@app.get("/broken")
def broken(request: Request) -> HTMLResponse:
    raise LookupError


@pytest.mark.parametrize("path", ["/", "/missing", "/broken"])
def test_every_response_has_the_fields(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Permissions-Policy" not in headers
    assert "Strict-Transport-Security" not in headers


def test_what_the_handler_set_stays(client: httpx.Client) -> None:
    headers = client.get("/own").headers
    assert headers.get_list("Content-Security-Policy") == ["default-src maps.example"]


def headers_of(base_url: str = "http://localhost", **options: Any) -> dict[str, str]:
    app = WSGIApplication(middleware=[SecurityHeadersMiddleware(**options)])
    app.add_route("/", index)
    return dict(app.test_client(base_url=base_url).get("/").headers.items())


def test_every_field_can_be_changed_or_left_out() -> None:
    headers = headers_of(
        content_security_policy=None,
        frame_options="SAMEORIGIN",
        referrer_policy=None,
        opener_policy=None,
        permissions_policy="camera=()",
    )
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Permissions-Policy"] == "camera=()"
    assert not {"Content-Security-Policy", "Referrer-Policy", "Cross-Origin-Opener-Policy"} & set(headers)


# RFC 6797 §7.2: not over a connection that is not secure.
def test_transport_security_is_told_over_https_alone() -> None:
    assert headers_of("https://localhost", hsts=300)["Strict-Transport-Security"] == "max-age=300"
    assert "Strict-Transport-Security" not in headers_of("http://localhost", hsts=300)
    assert "Strict-Transport-Security" not in headers_of("https://localhost")


def test_transport_security_can_cover_subdomains_and_be_taken_back() -> None:
    headers = headers_of("https://localhost", hsts=0, hsts_subdomains=True)
    assert headers["Strict-Transport-Security"] == "max-age=0; includeSubDomains"


@pytest.mark.parametrize("options", [{"frame_options": "ALLOW-FROM https://a.example"}, {"hsts": -1}])
def test_value_that_no_browser_understands_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SecurityHeadersMiddleware(**options)
