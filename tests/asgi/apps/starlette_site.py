"""Files by Starlette, with and without middleware that reads response bodies."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.asgi.apps.shared import DOWNLOAD


async def download(request: Request) -> Response:
    return FileResponse(DOWNLOAD)


async def offered(request: Request) -> Response:
    return PlainTextResponse("yes" if "http.response.pathsend" in request.scope["extensions"] else "no")


class Reading(BaseHTTPMiddleware):
    """Reads every response whole, as middleware for caching or signing does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        assert isinstance(response, StreamingResponse) or hasattr(response, "body_iterator")
        body = b"".join([piece async for piece in response.body_iterator])
        return Response(body, response.status_code, dict(response.headers))


routes = [Route("/download", download), Route("/offered", offered)]
plain = Starlette(routes=routes)
wrapped = Starlette(routes=routes, middleware=[Middleware(Reading)])
