"""What takes long is told and logged."""

from __future__ import annotations

import logging
import re
import time

import httpx
import pytest

from wsgi.application import Request, Response, WSGIApplication
from wsgi.application.middleware import TimingMiddleware

app = WSGIApplication(middleware=[TimingMiddleware()])


@app.get("/")
def index(request: Request) -> str:
    return "quick"


@app.get("/measured")
def measured(request: Request) -> Response:
    return Response("", headers={"Server-Timing": "db;dur=1.0"})


def test_response_tells_milliseconds(client: httpx.Client) -> None:
    assert re.fullmatch(r"app;dur=\d+\.\d", client.get("/").headers["Server-Timing"])


def test_error_is_measured_too(client: httpx.Client) -> None:
    response = client.get("/missing")
    assert response.status_code == 404
    assert response.headers["Server-Timing"].startswith("app;dur=")


def test_measure_of_the_handler_stays(client: httpx.Client) -> None:
    assert re.fullmatch(r"db;dur=1\.0, ?app;dur=\d+\.\d", client.get("/measured").headers["Server-Timing"])


def an_app(middleware: TimingMiddleware) -> WSGIApplication:
    app = WSGIApplication(middleware=[middleware])

    @app.get("/items/<name>")
    def item(request: Request, name: str) -> str:
        time.sleep(0.01)
        return name

    return app


def test_time_is_that_of_the_handler() -> None:
    value = an_app(TimingMiddleware()).test_client().get("/items/x").headers["Server-Timing"]
    assert 10 <= float(value.removeprefix("app;dur=")) < 10_000


def test_header_can_be_left_out() -> None:
    assert "Server-Timing" not in an_app(TimingMiddleware(header=None)).test_client().get("/items/x").headers


def test_slow_request_is_logged_with_method_path_and_route(caplog: pytest.LogCaptureFixture) -> None:
    an_app(TimingMiddleware(log_slower_than=0.001)).test_client().get("/items/a%0Ab")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wsgi.application", logging.WARNING)
    # The line end of the path does not make a line of the log.
    assert re.fullmatch(r"slow request: GET '/items/a\\nb' \(route item\) took 0\.\d{3} s", record.getMessage())


@pytest.mark.parametrize("limit", [None, 60.0])
def test_quick_request_is_not_logged(limit: float | None, caplog: pytest.LogCaptureFixture) -> None:
    an_app(TimingMiddleware(log_slower_than=limit)).test_client().get("/items/x")
    assert caplog.records == []
