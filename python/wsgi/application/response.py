"""Responses: the values that a handler may return, and how they are sent.

Every response is a WSGI application itself: `response(environ, start_response)`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from wsgi.application.cookies import SameSite, format_cookie
from wsgi.application.errors import ResponseError, reason_phrase
from wsgi.application.headers import Headers, HeadersLike
from wsgi.application.urlencoded import encoder

__all__ = [
    "WITHOUT_CONTENT",
    "Content",
    "HTMLResponse",
    "HandlerResult",
    "JSONResponse",
    "PlainTextResponse",
    "RedirectResponse",
    "Response",
    "StreamingResponse",
    "as_bytes",
    "as_response",
    "close_content",
    "describe",
    "encode_json",
    "redirect",
    "with_charset",
]

StartResponse = Callable[..., Any]

_encoded_location = encoder("%/:=&?~#+!$,;'@()*[]")

P = TypeVar("P")

# RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
WITHOUT_CONTENT = frozenset({204, 205, 304})
_status_lines = {status: f"{status} {reason_phrase(status)}" for status in range(200, 600)}


def _checked_status(status: int) -> int:
    # Where no line is at hand: no number, an informational status, or one of more than three digits.
    if not isinstance(status, int) or status not in _status_lines:
        raise ValueError(f"the status of a response must be from 200 to 599, not {status!r:.50}")
    return int(status)


def _encoded(body: object, response: Response) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    raise TypeError(f"the body of a {type(response).__name__} must be str or bytes, not {type(body).__name__}")


class Response:
    """A response with its complete content.

    Not thread-safe; a response belongs to one request.

    Parameters:
        body: the content; text is sent as UTF-8.
        status: 200 to 599; default 200.
        headers: fields beside `Content-Type` and `Content-Length`, which are made.
        media_type: the value of `Content-Type`; default: that of the class, or what fits a body of this type. Text
            gets `charset=utf-8`.

    Raises:
        ValueError: a status or a field that cannot be sent.
        TypeError: a body that is neither text nor bytes.
    """

    __slots__ = ("body", "error", "headers", "sent", "status")

    media_type: ClassVar[str | None] = None
    holds: ClassVar[bool] = False
    """Whether it has content that must be closed if it is not sent."""

    body: bytes
    status: int
    headers: Headers
    error: BaseException | None
    """The exception that this response answers."""
    sent: bool
    """Whether it was sent; each request needs a response of its own."""

    def __init__(
        self,
        body: str | bytes = b"",
        status: int = 200,
        headers: HeadersLike | None = None,
        *,
        media_type: str | None = None,
    ) -> None:
        self.status = status if status in _status_lines else _checked_status(status)
        self.error = None
        self.sent = False
        self.body = body.encode() if isinstance(body, str) else _encoded(body, self)
        self.headers = Headers(headers)
        if media_type is None:
            # Even a response without content has a type: `wsgiref.validate` insists.
            media_type = self.media_type or (
                "application/octet-stream" if body and not isinstance(body, str) else "text/plain; charset=utf-8"
            )
            if headers is None:
                # No such field yet, and the value needs no check: saves 0.5 µs of 3.5.
                self.headers.fields.append(("Content-Type", media_type))
                return
        elif isinstance(body, str):
            media_type = with_charset(media_type)
        self.headers.setdefault("Content-Type", media_type)

    def set_cookie(
        self,
        name: str,
        value: str = "",
        *,
        max_age: int | None = None,
        expires: float | datetime | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = False,
        same_site: SameSite | None = "Lax",
        partitioned: bool = False,
    ) -> None:
        """Adds a cookie (RFC 6265); for the parameters see `format_cookie`.

        Parameters:
            name: a token.
            value: cookie octets.
            max_age: seconds that it lives; None: until the browser closes.
            expires: the end of its life, seconds since the epoch or a datetime.
            path: the paths it is sent to.
            domain: the domain whose hosts it is sent to; None: this host alone.
            secure: sent over https only.
            http_only: hidden from scripts.
            same_site: "Strict", "Lax", "None", or None to leave it to the browser.
            partitioned: kept apart for each top-level site.

        Raises:
            ValueError: what no cookie may hold.
        """
        cookie = format_cookie(
            name,
            value,
            max_age=max_age,
            expires=expires,
            path=path,
            domain=domain,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
            partitioned=partitioned,
        )
        self.headers.add("Set-Cookie", cookie)

    def delete_cookie(
        self,
        name: str,
        *,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        same_site: SameSite | None = "Lax",
        partitioned: bool = False,
    ) -> None:
        """Deletes a cookie of the client; the attributes must be those it was set with.

        Parameters:
            name: the cookie.
            path: its path.
            domain: its domain.
            secure: whether it is a secure one; those whose name or other attributes ask for it are.
            same_site: as it was set.
            partitioned: whether it is kept apart for each top-level site.
        """
        secure = secure or partitioned or same_site == "None" or name.startswith(("__Host-", "__Secure-"))
        self.set_cookie(
            name,
            max_age=0,
            expires=0,
            path=path,
            domain=domain,
            secure=secure,
            same_site=same_site,
            partitioned=partitioned,
        )

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Sends this response (PEP 3333)."""
        status, body, fields = self.status, self.body, self.headers.fields
        if type(body) is not bytes:
            # It may have been set since.
            body = _encoded(body, self)
        if status in WITHOUT_CONTENT:
            return self._send_head(start_response)
        if len(fields) != 1 or fields[0][0] != "Content-Type":
            # A handler for HEAD may set the length of the content it does not make.
            if environ["REQUEST_METHOD"] == "HEAD" and not body and "Content-Length" in self.headers:
                return self._send_head(start_response)
            fields = [pair for pair in fields if pair[0].lower() != "content-length"]
        start_response(_status_lines[status], [*fields, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def close(self) -> None:
        """Releases the content of a response that is not sent; does nothing here."""

    def _send_head(self, start_response: StartResponse) -> Iterable[bytes]:
        """Sends a response that has no content, with its fields, except those that describe content."""
        fields = self.headers.items()
        if self.status == 205:
            # Content there is, but of no length.
            fields = [*(pair for pair in fields if pair[0].lower() != "content-length"), ("Content-Length", "0")]
        elif self.status in WITHOUT_CONTENT:
            fields = [pair for pair in fields if pair[0].lower() not in ("content-length", "content-type")]
        start_response(_status_lines[self.status], fields)
        return []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


def with_charset(media_type: str) -> str:
    """A media type of text with `charset=utf-8`, unless it names another."""
    is_bare = media_type.startswith("text/") and "charset" not in media_type.lower()
    return f"{media_type}; charset=utf-8" if is_bare else media_type


class PlainTextResponse(Response):
    """Text."""

    __slots__ = ()
    media_type = "text/plain; charset=utf-8"


class HTMLResponse(Response):
    """A page."""

    __slots__ = ()
    media_type = "text/html; charset=utf-8"


def _jsonable(value: object) -> object:
    """Converts other types to JSON values: dates as in RFC 3339, UUIDs and decimals as text, dataclasses as objects."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be converted to JSON")


# RFC 8259 §8.1: UTF-8; §6: no NaN, no infinity.
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_jsonable).encode
_to_ascii_json = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_jsonable).encode


def encode_json(value: object) -> bytes:
    """A value as JSON (RFC 8259), in UTF-8.

    Raises:
        TypeError: it cannot be converted to JSON.
        ValueError: NaN, infinity, circular references.
    """
    try:
        return _to_json(value).encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; escaped, it can be sent as it came.
        return _to_ascii_json(value).encode()


class JSONResponse(Response):
    """JSON (RFC 8259).

    Parameters:
        body: what `json` can write, and dates, UUIDs, decimals and dataclasses.
        status: 200 to 599; default 200.
        headers: further fields.
        media_type: default `application/json`.

    Raises:
        TypeError: a value that cannot be converted to JSON.
        ValueError: NaN, infinity, circular references.
    """

    __slots__ = ()
    media_type = "application/json"

    def __init__(
        self,
        body: Any = None,
        status: int = 200,
        headers: HeadersLike | None = None,
        *,
        media_type: str | None = None,
    ) -> None:
        super().__init__(encode_json(body), status, headers, media_type=media_type)


class RedirectResponse(Response):
    """Redirects the client (RFC 9110 §15.4).

    Parameters:
        location: a URI or a path; characters not allowed in a URI are percent-encoded.
        status: 301, 302, 303 (default: look there with GET, what a form wants), 307 or 308 (the same request again).
        headers: further fields.

    Raises:
        ValueError: a status that is no redirection.
    """

    __slots__ = ()

    def __init__(self, location: str, status: int = 303, headers: HeadersLike | None = None) -> None:
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"the status of a redirection must be 301, 302, 303, 307 or 308, not {status!r:.50}")
        super().__init__(b"", status, headers)
        self.headers["Location"] = _encoded_location(location)


def redirect(location: str, status: int = 303) -> RedirectResponse:
    """Returns a redirect; see `RedirectResponse`."""
    return RedirectResponse(location, status)


class StreamingResponse(Response):
    """A response whose content is generated while it is sent.

    Parameters:
        content: pieces of text (sent as UTF-8) or bytes; its `close()` is called at the end, also when the client
            leaves.
        status: 200 to 599; default 200.
        headers: further fields; with a `Content-Length` the connection can be used again by HTTP/1.0 clients.
        media_type: default `text/plain; charset=utf-8`.

    Raises:
        TypeError: content that is one text instead of pieces.
    """

    __slots__ = ("content",)
    media_type = "text/plain; charset=utf-8"
    holds = True

    content: Iterable[str | bytes]

    def __init__(
        self,
        content: Iterable[str | bytes],
        status: int = 200,
        headers: HeadersLike | None = None,
        *,
        media_type: str | None = None,
    ) -> None:
        if isinstance(content, (str, bytes)):
            raise TypeError(f"the content of a {type(self).__name__} must be an iterable of pieces; send it whole")
        super().__init__(b"", status, headers, media_type=with_charset(media_type) if media_type else None)
        self.content = content if isinstance(content, Content) else Content(content)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Sends this response (PEP 3333)."""
        if self.status in WITHOUT_CONTENT or environ["REQUEST_METHOD"] == "HEAD":
            self.close()
            return self._send_head(start_response)
        try:
            # No generator: `close()` of one that never began would not reach the content.
            pieces = Content(map(as_bytes, self.content), self.content)
            start_response(_status_lines[self.status], self.headers.items())
        except BaseException:
            self.close()
            raise
        return pieces

    def close(self) -> None:
        """Closes the content of a response that is not sent."""
        close_content(self.content)


def close_content(content: object) -> None:
    """Calls `close()` of an iterable that has one."""
    close = getattr(content, "close", None)
    if close is not None:
        close()


class Content(Generic[P]):
    """Pieces that are closed exactly once, by the server or by a middleware that replaces them.

    Parameters:
        pieces: what to iterate over.
        owner: what to close; default: the pieces.
    """

    __slots__ = ("_closed", "owner", "pieces")

    def __init__(self, pieces: Iterable[P], owner: object = None) -> None:
        self.pieces = pieces
        self.owner = pieces if owner is None else owner
        self._closed = False

    def __iter__(self) -> Iterator[P]:
        return iter(self.pieces)

    def hand_over(self) -> object:
        """Returns the owner; the caller closes it."""
        self._closed = True
        return self.owner

    def close(self) -> None:
        """Closes the owner; a second call does nothing."""
        if not self._closed:
            self._closed = True
            close_content(self.owner)


def as_bytes(piece: str | bytes) -> bytes:
    """A piece of a stream as it is sent.

    Raises:
        ResponseError: it is neither text nor bytes.
    """
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    raise ResponseError(f"a piece of a streamed response must be str or bytes, not {type(piece).__name__}")


HandlerResult = (
    Response
    | str
    | bytes
    | Mapping[str, Any]
    | list[Any]
    | tuple[Any, int]
    | tuple[Any, int, HeadersLike]
    | Iterator[str | bytes]
)
"""What a handler may return; see `as_response`."""


def as_response(result: object, handler: object) -> Response:
    """Converts the result of a handler to a response.

    A `Response` is itself; text becomes `text/plain` (never HTML: what is echoed must not become a page), bytes
    `application/octet-stream`, a mapping or list JSON, an iterator is streamed; `(body, status)` and
    `(body, status, headers)` take one of these as their body.

    Parameters:
        result: what the handler returned.
        handler: named if that is none of these.

    Raises:
        ResponseError: anything else.
    """
    if isinstance(result, Response):
        return result
    if isinstance(result, (str, bytes)):
        return Response(result)
    if isinstance(result, (dict, list, Mapping)):
        return JSONResponse(result)
    if isinstance(result, tuple) and len(result) in (2, 3) and not isinstance(result[0], tuple):
        body, status, *headers = result
        try:
            status, fields = _checked_status(status), Headers(headers[0] if headers else None)
            response = as_response(body, handler)
            response.status = status
            response.headers.update(fields)
        except (TypeError, ValueError) as error:
            raise ResponseError(f"{describe(handler)} returned a tuple that is no response: {error}") from None
        return response
    if isinstance(result, Iterator):
        # A generator begins to run here, so that what it raises before its first piece is answered like other errors.
        begun = list(islice(result, 1))
        return StreamingResponse(Content(chain(begun, result), result))
    kind = f"tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
    raise ResponseError(
        f"{describe(handler)} returned {'None' if result is None else f'a {kind}'}; it must return a Response, str,"
        " bytes, dict, list, a generator, or a tuple (body, status) or (body, status, headers)"
    )


def describe(function: object) -> str:
    """A function with its file and line, for messages: `handler 'index' (app.py:12)`."""
    function = getattr(function, "__func__", function)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    code = getattr(function, "__code__", None)
    return f"handler {name!r}" + (f" ({code.co_filename}:{code.co_firstlineno})" if code else "")
