"""Mounting other WSGI applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from wsgi.application.errors import ResponseError
from wsgi.application.headers import Headers
from wsgi.application.response import Content, Response, StartResponse, StreamingResponse, close_content

__all__ = ["WSGIApp", "WSGIResponse", "call"]

WSGIApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class WSGIResponse(StreamingResponse):
    """What another WSGI application answered; its iterable goes to the server as it is: it may be a `file_wrapper`."""

    __slots__ = ("line",)

    line: str
    """The status with the phrase that the application chose."""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Sends this response (PEP 3333)."""
        if self.line[:3] != str(self.status):
            return super().__call__(environ, start_response)
        start_response(self.line, self.headers.items())
        content = self.content
        if isinstance(content, Content) and content.owner is content.pieces:
            # It is what the application returned, which may be a `file_wrapper`.
            return content.hand_over()  # type: ignore[return-value]
        return content  # type: ignore[return-value]


def call(app: WSGIApp, environ: dict[str, Any]) -> Response:
    """Calls a WSGI application and returns its answer as a response, which middleware can change.

    Its iterable is read until it has called `start_response`, which it may do with its first piece.

    Raises:
        ResponseError: it did not call `start_response`.
    """
    started: list[Any] = []
    written: list[bytes] = []
    handed_on = False

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if started and not exc_info:
            raise ResponseError(f"the mounted application {app!r:.100} called start_response twice without exc_info")
        if handed_on or written:
            # PEP 3333: the head counts as sent, so the error has to end the response.
            raise exc_info[1].with_traceback(exc_info[2])
        started[:] = [status, headers]
        return written.append

    content = app(environ, start_response)
    try:
        first: list[bytes] = []
        if not started or written:
            pieces = iter(content)
            while not started:
                piece = next(pieces, None)
                if piece is None:
                    raise ResponseError(f"the mounted application {app!r:.100} did not call start_response")
                first.append(piece)
            content = Content(chain(written, first, pieces), content)
        line, headers = started
        response = WSGIResponse(content, int(line[:3]))
        response.line = line
        response.headers = Headers(headers)
    except BaseException:
        close_content(content)
        raise
    handed_on = True
    return response
