"""What takes long is told and logged."""

from __future__ import annotations

import logging
import re

import httpx
import pytest

from wsgi.application import Request, Response, WSGIApplication
from wsgi.application.middleware import TimingMiddleware, timing

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


class Clock:
    """Time that goes by only where a test says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def an_app(middleware: TimingMiddleware, clock: Clock) -> WSGIApplication:
    app = WSGIApplication(middleware=[middleware])

    @app.get("/items/<name>")
    def item(request: Request, name: str) -> str:
        clock.now += 0.0123
        return name

    return app


def test_time_is_that_of_the_handler(clock: Clock) -> None:
    answer = an_app(TimingMiddleware(), clock).test_client().get("/items/x")
    assert answer.headers["Server-Timing"] == "app;dur=12.3"


def test_header_can_be_left_out(clock: Clock) -> None:
    assert "Server-Timing" not in an_app(TimingMiddleware(header=None), clock).test_client().get("/items/x").headers


def test_slow_request_is_logged_with_method_path_and_route(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    an_app(TimingMiddleware(log_slower_than=0.0123), clock).test_client().get("/items/a%0Ab")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wsgi.application", logging.WARNING)
    # The line end of the path does not make a line of the log.
    assert re.fullmatch(r"slow request: GET '/items/a\\nb' \(route item\) took 0\.012 s", record.getMessage())


@pytest.mark.parametrize("limit", [None, 0.0124])
def test_quick_request_is_not_logged(limit: float | None, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    an_app(TimingMiddleware(log_slower_than=limit), clock).test_client().get("/items/x")
    assert caplog.records == []
