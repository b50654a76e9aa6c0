"""The application that is attacked: answers small, large and in pieces, uploads, and a site of the framework."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wsgi.application import WSGIApplication
from wsgi.application.files import FileResponse
from wsgi.application.request import Request
from wsgi.application.response import PlainTextResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PIECE = b"x" * 65_536
PIECES = 80
LARGE = b"x" * (8 << 20)

framework = WSGIApplication()


@framework.route("/framework/file")
def file(request: Request) -> FileResponse:
    return FileResponse(Path(__file__))


@framework.route("/framework/form", methods=["POST"])
def form(request: Request) -> PlainTextResponse:
    return PlainTextResponse(body=str(len(request.form)))


calls: Counter[str] = Counter()
_lock = threading.Lock()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers by path, and counts."""
    path = environ["PATH_INFO"]
    with _lock:
        calls[path] += 1
    if path.startswith("/framework/"):
        return framework(environ, start_response)
    if path == "/pieces":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return pieces()
    if path == "/raise":
        raise RuntimeError("on purpose")
    if path == "/read":
        size = 0
        while block := environ["wsgi.input"].read(65_536):
            size += len(block)
        content = b"%d" % size
    else:
        content = {"/large": LARGE, "/state": b""}.get(path, b"ok")
        content = json.dumps(state()).encode() if path == "/state" else content
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
    return [content]


def pieces() -> Iterator[bytes]:
    """Five MiB, made as they are asked for."""
    for _ in range(PIECES):
        yield PIECE


def state() -> dict[str, int]:
    """What only the process itself knows."""
    gc.collect()
    counts = {"calls": calls.total(), "objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks()}
    return {**counts, "heap": heap()}


_HEAP_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Heap(ctypes.Structure):
    # struct mallinfo2 of glibc.
    _fields_ = [(name, ctypes.c_size_t) for name in _HEAP_FIELDS]


def heap() -> int:
    """Bytes that malloc has given out and not got back; 0 where the system's does not tell."""
    look = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if look is None:
        return 0
    look.restype = _Heap
    found = look()
    return int(found.uordblks + found.hblkhd)
