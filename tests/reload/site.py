"""The WSGI application that is reloaded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tests.reload.content import PIECE_SECONDS, PIECES, PLAIN, SLOW_SECONDS, Site, digest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

site = Site()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers by path; the query is the number of the request."""
    number = environ["QUERY_STRING"]
    site.note(number)
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", PLAIN)])
        return lines(number)
    content = site.mark(number)
    if path == "/slow":
        time.sleep(SLOW_SECONDS)
    if path == "/digest":
        content += f" {digest(environ['wsgi.input'].read())}"
    start_response("200 OK", [("Content-Type", PLAIN), ("Content-Length", str(len(content)))])
    return [content.encode()]


def lines(number: str) -> Iterator[bytes]:
    """A stream of numbered lines."""
    for index in range(PIECES):
        yield f"{site.mark(number)} {index}\n".encode()
        time.sleep(PIECE_SECONDS)
