"""A request is gone when its response has been sent: none waits for the garbage collector, with its body."""

from __future__ import annotations

import gc
import io
import logging
import weakref
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from wsgi.application import NotFound, Request, WSGIApplication
from wsgi.application.middleware import SessionMiddleware

seen: list[weakref.ref[Request]] = []

app = WSGIApplication(middleware=[SessionMiddleware("a key of sufficient length")])


@app.middleware
def remember(request: Request, call_next: Any) -> Any:
    seen.append(weakref.ref(request))
    return call_next(request)


@app.post("/")
def index(request: Request) -> str:
    return f"{request.session.get('name')} {len(request.body)}"


@app.get("/missing")
def missing(request: Request) -> str:
    raise NotFound


@app.get("/fail")
def fail(request: Request) -> str:
    raise ZeroDivisionError


@app.get("/stream")
def stream(request: Request) -> Iterator[str]:
    yield request.path


@pytest.mark.parametrize(
    ("method", "path", "cookie"),
    [
        ("POST", "/", ""),
        ("POST", "/", "session=forged.by.somebody"),
        ("GET", "/missing", ""),
        ("GET", "/nowhere", ""),
        ("GET", "/", ""),
        ("GET", "/fail", ""),
        ("GET", "/stream", ""),
    ],
)
def test_request_is_freed_when_it_was_answered(
    method: str, path: str, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps what is logged, the traceback included.
    monkeypatch.setattr(logging.getLogger("wsgi.application"), "disabled", True)
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_COOKIE": cookie}
    environ |= {"CONTENT_LENGTH": "4", "wsgi.input": io.BytesIO(b"body")}
    setup_testing_defaults(environ)
    gc.collect()
    gc.disable()
    try:
        content = app(environ, lambda status, headers, exc_info=None: None)
        b"".join(content)
        getattr(content, "close", lambda: None)()
        del content
        assert [reference() for reference in seen] == [None] * len(seen)
    finally:
        gc.enable()
        seen.clear()
