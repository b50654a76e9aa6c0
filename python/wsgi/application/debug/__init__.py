"""What developers see where an error was not expected: for `WSGIApplication(debug=True)`, never in production."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from itertools import islice
from types import MappingProxyType

from wsgi.application.debug.frames import calls, ends, every
from wsgi.application.debug.page import page, report
from wsgi.application.debug.redaction import Redactor, is_sensitive, is_surely_secret
from wsgi.application.multidict import MultiDict
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["traceback_page"]

_HEADERS = {
    "Cache-Control": "no-store",
    # Whatever slipped through the escaping finds a page that runs and loads nothing.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}


_MOST = 200  # members of a container that are looked at


def traceback_page(error: BaseException, request: Request) -> Response:
    """A response that shows an error with its tracebacks, sources, local variables and the request.

    What is secret by its name (passwords, tokens, keys, cookies, sessions, authorization) is left out, and so are
    these values under other names. It is HTML for clients that ask for HTML, and text for others.
    Never raises.

    Parameters:
        error: what was raised, with its traceback.
        request: what was asked for.
    """
    try:
        redactor = Redactor(_secrets(error, request))
        if request.accepts("text/plain", "text/html") == "text/html":
            text, media_type = page(error, request, redactor), "text/html; charset=utf-8"
        else:
            text, media_type = report(error, request, redactor), "text/plain; charset=utf-8"
        # Messages may hold what UTF-8 cannot: names of files that are not UTF-8 come as surrogates.
        return Response(text.encode(errors="backslashreplace"), 500, _HEADERS, media_type=media_type)
    except Exception as second:
        text = f"{type(error).__name__} was raised, and then {type(second).__name__} when its page was made.\n"
        return Response(text, 500, _HEADERS)


def _secrets(error: BaseException, request: Request) -> Iterator[str]:
    """The values that must not be shown anywhere."""
    for name, value in request.headers.items():
        if is_sensitive(name):
            yield value
            credentials = value.partition(" ")[2]  # what follows the scheme of Authorization
            yield credentials
            with contextlib.suppress(ValueError):
                # RFC 7617: a name and a password.
                basic = base64.b64decode(credentials, validate=True).decode("utf-8", "replace")
                yield basic
                yield basic.partition(":")[2]
    yield from request.cookies.values()
    yield from _members(request.parameters)
    with contextlib.suppress(Exception):  # a malformed query is shown nowhere
        yield from _members(dict(request.query))
    form, _ = request.__dict__.get("_form") or ({}, {})
    yield from _members(form)
    yield from _members(request.__dict__.get("_json"))
    for each in every(error):
        first, _, last = ends(calls(each.__traceback__))
        for call in (*first, *last):
            # From Python 3.13 this is no dict (PEP 667).
            yield from _members(dict(call.trace.tb_frame.f_locals))


def _members(values: object, depth: int = 4) -> Iterator[str]:
    """The secrets among named values, and in the containers among them."""
    if not depth:
        return
    # No other mappings: one may be a whole database, or fail.
    if isinstance(values, (dict, MappingProxyType, MultiDict)):
        pairs = dict.items(values) if isinstance(values, dict) else values.items()
        for name, value in islice(list(pairs), _MOST):
            if isinstance(name, str) and is_surely_secret(name):
                if isinstance(value, str):
                    yield value
                elif isinstance(value, bytes):
                    yield value.decode("latin-1")
                elif isinstance(value, int):
                    yield str(value)
            yield from _members(value, depth - 1)
    elif isinstance(values, (list, tuple)):
        for value in values[:_MOST]:
            yield from _members(value, depth - 1)
