"""One call of an application, held to PEP 3333."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from wsgi.application.headers import Headers
from wsgi.application.mount import WSGIApp
from wsgi.application.response import close_content

__all__ = ["Exchange"]

_STATUS = re.compile(r"[1-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*").fullmatch
# What only a server may send (PEP 3333, "Other HTTP Features").
_HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


class Exchange:
    """One call of an application, held to PEP 3333."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.status = ""
        self.headers = Headers()
        self.pieces: list[bytes] = []
        self._received = 0

    def run(self, app: WSGIApp, environ: dict[str, Any]) -> None:
        """Calls the application, reads what it returns, and closes that."""
        content = app(environ, self._start_response)
        try:
            for piece in content:
                self._take(piece)
        finally:
            close_content(content)
        assert self.status, "the application did not call start_response"
        announced = self.headers.get("Content-Length")
        if announced is not None and not self._is_bodiless():
            assert int(announced) == self._received, (
                f"the application announced {announced} bytes and sent {self._received}"
            )

    def _is_bodiless(self) -> bool:
        return self.method == "HEAD" or self.status[:3] in ("204", "304")

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            if self._received:
                raise exc_info[1].with_traceback(exc_info[2])
        else:
            assert not self.status, "start_response was called twice, and without exc_info"
        assert isinstance(status, str), f"the status must be str, not {type(status).__name__}"
        assert _STATUS(status), f"the status must be a code, a space and a phrase, not {status!r}"
        assert type(headers) is list, f"the headers must be a list, not {type(headers).__name__}"
        assert all(type(pair) is tuple and len(pair) == 2 for pair in headers), "each header must be a tuple of two"
        for name, _ in headers:
            assert name.lower() not in _HOP_BY_HOP, f"{name} is the server's to send, not the application's"
        self.status, self.headers = status, Headers(headers)
        return self._take

    def _take(self, piece: bytes) -> None:
        assert isinstance(piece, bytes), f"a piece of the body must be bytes, not {type(piece).__name__}"
        assert self.status, "the application sent a body before it called start_response"
        self._received += len(piece)
        if not self._is_bodiless():
            self.pieces.append(piece)
