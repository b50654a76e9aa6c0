"""Responses generated while they are sent: a clock as server-sent events, and a large download from a generator.

Run it with `wsgi --app-dir examples streaming:app` and read it with `curl -N http://127.0.0.1:8000/clock`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def clock(environ: WSGIEnvironment) -> Iterator[bytes]:
    for _ in range(10):
        yield f"data: {time.strftime('%H:%M:%S')}\n\n".encode()
        # Each event is sent within two milliseconds, although the generator sleeps now.
        time.sleep(0.1)
        if environ["wsgi.client_disconnected"]():
            return


def numbers() -> Iterator[bytes]:
    for block in range(1000):
        yield b"".join(b"%d\n" % number for number in range(block * 1000, block * 1000 + 1000))


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/clock":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
        return clock(environ)
    if environ["PATH_INFO"] == "/numbers":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return numbers()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Try /clock or /numbers.\n"]
