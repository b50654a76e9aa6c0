"""The WSGI application that is attacked: answers small, large and in pieces, uploads, and a site of the framework."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.attacks.content import PIECE, PIECES, PLAIN, count, whole
from wsgi.application import WSGIApplication
from wsgi.application.files import FileResponse
from wsgi.application.request import Request
from wsgi.application.response import PlainTextResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIEnvironment

framework = WSGIApplication()


@framework.route("/framework/file")
def file(request: Request) -> FileResponse:
    return FileResponse(Path(__file__))


@framework.route("/framework/form", methods=["POST"])
def form(request: Request) -> PlainTextResponse:
    return PlainTextResponse(body=str(len(request.form)))


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers by path, and counts."""
    path = environ["PATH_INFO"]
    count(path)
    if path.startswith("/framework/"):
        return framework(environ, start_response)
    if path == "/pieces":
        start_response("200 OK", [("Content-Type", PLAIN)])
        return pieces()
    content = b"%d" % read(environ["wsgi.input"]) if path == "/read" else whole(path)
    start_response("200 OK", [("Content-Type", PLAIN), ("Content-Length", str(len(content)))])
    return [content]


def read(body: InputStream) -> int:
    """The length of a body."""
    size = 0
    while block := body.read(65_536):
        size += len(block)
    return size


def pieces() -> Iterator[bytes]:
    """Five MiB, made as they are asked for."""
    for _ in range(PIECES):
        yield PIECE
