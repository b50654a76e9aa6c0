"""An identifier for every request."""

from __future__ import annotations

import re
import uuid

from wsgi.application.groups import CallNext
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["RequestIDMiddleware"]

# What lands in logs and answers must not carry line ends, quotes or novels.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch


class RequestIDMiddleware:
    """Returns every request an identifier: `request.state.request_id`, and a field of the response.

    Parameters:
        header: the field that carries it.
        trust: takes the identifier that the request brings if it is one (1 to 128 letters, digits and `._~+/=:@-`).
            Use it only behind a proxy that sets it; otherwise clients choose the ids in your logs.
    """

    def __init__(self, *, header: str = "X-Request-ID", trust: bool = False) -> None:
        self.header = header
        self.trust = trust

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answers with what comes after, and the field."""
        given = request.headers.get(self.header, "") if self.trust else ""
        request_id = given if _ACCEPTABLE(given) else uuid.uuid4().hex
        request.state.request_id = request_id
        response = call_next(request)
        response.headers[self.header] = request_id
        return response
