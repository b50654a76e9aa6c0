"""Errors as clients see them: text, a page, or a problem document (RFC 9457)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from wsgi.application.errors import HTTPError
from wsgi.application.response import HTMLResponse, JSONResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from wsgi.application.request import Request

__all__ = ["error_response", "problem_response"]

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status} {title}</title>
<h1>{title}</h1>
<p>{detail}</p>
</html>
"""


def error_response(request: Request, error: HTTPError) -> Response:
    """The response for an error that no handler of the application answers, in the form that the client prefers.

    Parameters:
        request: for the format: JSON if the client accepts or sent JSON, HTML if it asks for HTML by name, else text.
        error: what went wrong; its detail is shown.
    """
    response: Response
    if request.wants_json:
        response = problem_response(error)
    elif request.accepts("text/plain", "text/html") == "text/html":
        page = _PAGE.format(status=error.status, title=escape(error.title), detail=escape(error.detail))
        response = HTMLResponse(page, error.status, error.headers)
    else:
        text = f"{error.status} {error.title}\n" + (f"{error.detail}\n" if error.detail else "")
        response = PlainTextResponse(text, error.status, error.headers)
    response.headers.vary("Accept")
    return response


def problem_response(error: HTTPError) -> JSONResponse:
    """A problem document (RFC 9457) for an error, whatever the client accepts.

    Parameters:
        error: its extensions become further members; they cannot replace `type`, `title`, `status` and `detail`, but
            for `type`, which is `about:blank` unless they name one.
    """
    document = {"type": "about:blank", "title": error.title, "status": error.status}
    if error.detail:
        document["detail"] = error.detail
    document |= {name: value for name, value in error.extensions.items() if name == "type" or name not in document}
    return JSONResponse(document, error.status, error.headers, media_type="application/problem+json")
