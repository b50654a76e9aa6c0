"""Cross-origin requests, as the Fetch standard has them (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wsgi.application.groups import CallNext
from wsgi.application.headers import is_token, list_items
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["CORSMiddleware"]

# What a browser sends as Origin: scheme, host and, unless it is the scheme's own, port; in lower case, without a path.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?").fullmatch
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class CORSMiddleware:
    """Lets pages of other origins use the application. Preflight requests are answered here and go no further.

    Browsers keep the rules, not servers: a request from an origin that is not allowed is handled as any other, and the
    browser keeps the answer from the page.

    Parameters:
        origins: those that are allowed, each as a browser sends it, such as `https://shop.example` or
            `http://localhost:5173`; "*" for all. "null" (files, sandboxed frames) only if it is listed.
        methods: those that a preflight allows.
        headers: request fields that a preflight allows beyond the safelisted ones; "*" for whatever is asked for.
        expose: response fields that scripts may read beyond the safelisted ones.
        credentials: whether requests with cookies are allowed; not together with the origins "*".
        max_age: seconds that browsers may remember a preflight; None leaves it to them (5 seconds).
        origin_pattern: a regular expression that allows an origin, too, if it matches all of it. Escape the dots.

    Raises:
        ValueError: something that cannot work, such as an origin with a path, or "*" with credentials.
    """

    def __init__(
        self,
        origins: Iterable[str] = (),
        *,
        methods: Iterable[str] = _METHODS,
        headers: Iterable[str] = (),
        expose: Iterable[str] = (),
        credentials: bool = False,
        max_age: int | None = 600,
        origin_pattern: str | re.Pattern[str] | None = None,
    ) -> None:
        allowed, exposed, wanted = frozenset(_several(origins)), _several(expose), _several(headers)
        self.any_origin = "*" in allowed
        self.origins = allowed - {"*"}
        for origin in self.origins:
            if origin != "null" and not _ORIGIN(origin):
                raise ValueError(
                    f"origins: {origin!r} is not an origin as browsers send it: scheme://host or scheme://host:port,"
                    " in lower case, without a slash at the end"
                )
        if credentials and (self.any_origin or "*" in exposed):
            raise ValueError("credentials: browsers take no '*' with them; list the origins and the fields to expose")
        self.origin_pattern = re.compile(origin_pattern) if origin_pattern is not None else None
        self.credentials = credentials
        self.expose = ", ".join(_tokens("expose", exposed))
        self.any_header = "*" in wanted
        preflight = {
            "Access-Control-Allow-Methods": ", ".join(_tokens("methods", _several(methods))),
            "Access-Control-Allow-Headers": "" if self.any_header else ", ".join(_tokens("headers", wanted)),
            "Access-Control-Max-Age": "" if max_age is None else str(int(max_age)),
        }
        self.preflight = {name: value for name, value in preflight.items() if value}

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answers a preflight, or answers with what comes after and the fields that browsers need."""
        origin = request.headers.get("Origin")
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method == "OPTIONS" and origin is not None and asked is not None:
            response = Response(status=204)
            self._allow_preflight(request, response, origin)
        else:
            response = call_next(request)
            if self._allow_origin(response, origin) and self.expose:
                response.headers["Access-Control-Expose-Headers"] = self.expose
        # A cache must not give one origin's answer to another, nor to requests without an origin.
        if not self.any_origin:
            response.headers.vary("Origin")
        return response

    def _allow_origin(self, response: Response, origin: str | None) -> bool:
        if self.any_origin:
            # Also without an origin: a cache that keeps this answer may give it to a page that has one.
            response.headers["Access-Control-Allow-Origin"] = "*"
            return True
        if origin is None or not (origin in self.origins or self._matches(origin)):
            return False
        response.headers["Access-Control-Allow-Origin"] = origin
        if self.credentials:
            response.headers["Access-Control-Allow-Credentials"] = "true"
        return True

    def _matches(self, origin: str) -> bool:
        # Whatever the pattern lets through is sent back: it must be an origin.
        return bool(self.origin_pattern and _ORIGIN(origin) and self.origin_pattern.fullmatch(origin))

    def _allow_preflight(self, request: Request, response: Response, origin: str) -> None:
        response.headers.vary("Access-Control-Request-Method", "Access-Control-Request-Headers")
        if not self._allow_origin(response, origin):
            return
        response.headers.update(self.preflight)
        if self.any_header:
            # The names and not "*", which covers neither Authorization nor requests with credentials.
            asked = list_items(request.headers.get("Access-Control-Request-Headers", ""))
            if names := ", ".join(filter(is_token, asked)):
                response.headers["Access-Control-Allow-Headers"] = names


def _several(values: Iterable[str]) -> list[str]:
    # A string is iterable, too, but a list of its letters is never meant.
    return [values] if isinstance(values, str) else list(values)


def _tokens(option: str, names: list[str]) -> list[str]:
    for name in names:
        if not isinstance(name, str) or not is_token(name):
            raise ValueError(f"{option}: {name!r} is not a name")
    return names
