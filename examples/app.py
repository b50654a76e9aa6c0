"""The smallest program: a plain WSGI application and a server for it. Run it with `python examples/app.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from wsgi.server import WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/":
        status, text = "200 OK", "Hello, world!\n"
    else:
        status, text = "404 Not Found", "There is nothing here.\n"
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    WSGIServer(host="localhost", port=8000, app=app).serve_forever()
