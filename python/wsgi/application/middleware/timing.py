"""How long requests take."""

from __future__ import annotations

import logging
import time

from wsgi.application.groups import CallNext
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["TimingMiddleware"]

logger = logging.getLogger("wsgi.application")


class TimingMiddleware:
    """Measures each request, sends the duration to the client, and logs slow ones.

    The time is that until the response is there, with what stands between: other middleware and the handler. The body
    of a streaming response comes after it.

    Parameters:
        header: the field that gets `app;dur=12.3`, in milliseconds (W3C Server Timing); browsers show it. None: no
            field, so that clients do not learn the duration.
        log_slower_than: seconds from which on a request is logged as a warning to `wsgi.application`; None: never.
    """

    def __init__(self, *, header: str | None = "Server-Timing", log_slower_than: float | None = None) -> None:
        self.header = header
        self.log_slower_than = log_slower_than

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answers with what comes after, and the field."""
        start = time.perf_counter()
        response = call_next(request)
        duration = time.perf_counter() - start
        if self.header is not None:
            response.headers.add(self.header, f"app;dur={duration * 1000:.1f}")
        if self.log_slower_than is not None and duration >= self.log_slower_than:
            # repr: a path may hold line ends, which would forge lines of the log.
            logger.warning(
                "slow request: %s %r (route %s) took %.3f s", request.method, request.path, request.route, duration
            )
        return response
