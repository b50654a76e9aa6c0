"""Receives files of any size without keeping them in memory, and answers with their SHA-256; sends a file by sendfile.

Run it with `wsgi --app-dir examples upload:app`, then `curl -T some.iso http://127.0.0.1:8000/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

BLOCK = 256 * 1024


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] not in ("PUT", "POST"):
        start_response("200 OK", [("Content-Type", "text/x-python")])
        # The server closes the file after the response.
        source: Iterable[bytes] = environ["wsgi.file_wrapper"](Path(__file__).open("rb"))  # noqa: SIM115
        return source
    digest = hashlib.sha256()
    size = 0
    # The input ends at the end of the body (`wsgi.input_terminated`), so no counting is needed.
    while block := environ["wsgi.input"].read(BLOCK):
        digest.update(block)
        size += len(block)
    body = f"{digest.hexdigest()} {size}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
