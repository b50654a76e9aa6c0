"""A small framework for WSGI applications. It runs on any WSGI server.

    from wsgi.application import WSGIApplication
    from wsgi.application.request import Request
    from wsgi.application.response import PlainTextResponse

    app = WSGIApplication()

    @app.route("/")
    def index(request: Request):
        return PlainTextResponse(body="Hello, world!")

Where to read on: `app` takes a request from the server to a handler and back; `routing`, `request`, `response` and
`errors` are what it does that with; `middleware` holds what applications may put around themselves.
"""

from __future__ import annotations

from wsgi.application.app import WSGIApplication
from wsgi.application.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    Gone,
    HTTPError,
    InternalServerError,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    ResponseError,
    RouteError,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnprocessableContent,
    UnsupportedMediaType,
    abort,
)
from wsgi.application.events import EventStreamResponse, ServerSentEvent
from wsgi.application.files import FileResponse
from wsgi.application.groups import CallNext, ErrorHandler, Group, Middleware
from wsgi.application.headers import Headers
from wsgi.application.multidict import MissingField, MultiDict
from wsgi.application.problems import problem_response
from wsgi.application.request import Client, Limits, Request, State
from wsgi.application.response import (
    HandlerResult,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
    redirect,
)
from wsgi.application.routing import Converter
from wsgi.application.uploads import UploadedFile

__all__ = [
    "BadRequest",
    "CallNext",
    "Client",
    "Conflict",
    "ContentTooLarge",
    "Converter",
    "ErrorHandler",
    "EventStreamResponse",
    "FileResponse",
    "Forbidden",
    "Gone",
    "Group",
    "HTMLResponse",
    "HTTPError",
    "HandlerResult",
    "Headers",
    "InternalServerError",
    "JSONResponse",
    "Limits",
    "MethodNotAllowed",
    "Middleware",
    "MissingField",
    "MultiDict",
    "NotAcceptable",
    "NotFound",
    "PlainTextResponse",
    "PreconditionFailed",
    "RangeNotSatisfiable",
    "RedirectResponse",
    "Request",
    "Response",
    "ResponseError",
    "RouteError",
    "ServerSentEvent",
    "ServiceUnavailable",
    "State",
    "StreamingResponse",
    "TooManyRequests",
    "Unauthorized",
    "UnprocessableContent",
    "UnsupportedMediaType",
    "UploadedFile",
    "WSGIApplication",
    "abort",
    "problem_response",
    "redirect",
]
