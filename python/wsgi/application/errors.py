"""The errors of applications.

HTTPError                   answers with its status; raise one, or `abort(status)`
├── BadRequest … ServiceUnavailable, one class for each status that applications raise
    │   └── MissingField (KeyError), in `multidict`
RouteError (ValueError)     a route is invalid; raised when it is declared
ResponseError (TypeError)   a handler returned something that is no response
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NoReturn

from wsgi.application.headers import Headers, HeadersLike

__all__ = [
    "UNHANDLED_ERRORS",
    "BadRequest",
    "Conflict",
    "ContentTooLarge",
    "Forbidden",
    "Gone",
    "HTTPError",
    "InternalServerError",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "PreconditionFailed",
    "RangeNotSatisfiable",
    "ResponseError",
    "RouteError",
    "ServiceUnavailable",
    "TooManyRequests",
    "Unauthorized",
    "UnprocessableContent",
    "UnsupportedMediaType",
    "abort",
    "reason_phrase",
]

UNHANDLED_ERRORS = "wsgi.application.errors"
"""The key of an environ for a list to which the application appends unhandled exceptions; set by test clients."""

# RFC 9110 renamed two of the phrases that older Pythons know.
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_KINDS = {2: "Success", 3: "Redirection", 4: "Client Error", 5: "Server Error"}


def reason_phrase(status: int) -> str:
    """The reason phrase of a status code; that of its class for an unregistered code."""
    return _PHRASES.get(status) or _KINDS.get(status // 100, "Unknown")


class RouteError(ValueError):
    """An invalid route: malformed, in conflict with another, or not matching the parameters of its handler."""


class ResponseError(TypeError):
    """A handler returned something that is no response."""


class HTTPError(Exception):
    """An answer that is an error: raise it anywhere below a handler.

    Parameters:
        status: 400 to 599; the classes below have theirs.
        detail: what is wrong, for the client to read; it is shown as it is given.
        headers: fields that the response must have.
        title: a short name of the kind of error; default: the status's phrase.
        extensions: further members of the problem document that JSON clients get (RFC 9457 §3.2).

    Raises:
        ValueError: a status that is no error, or fields that cannot be sent.
    """

    status: int = 500

    def __init__(
        self,
        status: int | None = None,
        detail: str = "",
        *,
        headers: HeadersLike | None = None,
        title: str | None = None,
        **extensions: Any,
    ) -> None:
        if status is not None:
            self.status = int(status)
        if not 400 <= self.status <= 599:
            raise ValueError(f"the status of an HTTPError must be from 400 to 599, not {self.status}")
        self.detail = detail
        self.headers = Headers(headers)
        self.title = title or reason_phrase(self.status)
        self.extensions = extensions
        super().__init__(f"{self.status} {self.title}" + (f": {detail}" if detail else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied and pickled by its `args`, which are its message here.
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[HTTPError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> HTTPError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class _StatusError(HTTPError):
    """An error whose class is its status, so that the detail comes first."""

    def __init__(
        self,
        detail: str = "",
        *,
        headers: HeadersLike | None = None,
        title: str | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(None, detail, headers=headers, title=title, **extensions)


class BadRequest(_StatusError):
    """400: the request cannot be understood."""

    status = 400


class Unauthorized(_StatusError):
    """401: the client has to authenticate (RFC 9110 §15.5.2).

    Parameters:
        challenge: the value of `WWW-Authenticate`, for example `Bearer realm="api"`.
    """

    status = 401

    def __init__(self, detail: str = "", *, challenge: str | None = None, **rest: Any) -> None:
        super().__init__(detail, **rest)
        if challenge is not None:
            self.headers["WWW-Authenticate"] = challenge


class Forbidden(_StatusError):
    """403: understood, and refused."""

    status = 403


class NotFound(_StatusError):
    """404: there is nothing here."""

    status = 404


class MethodNotAllowed(_StatusError):
    """405: not with this method (RFC 9110 §15.5.6).

    Parameters:
        allowed: the methods that are, for `Allow`.
    """

    status = 405

    def __init__(self, detail: str = "", *, allowed: Iterable[str] = (), **rest: Any) -> None:
        super().__init__(detail, **rest)
        self.headers["Allow"] = ", ".join(sorted(allowed))


class NotAcceptable(_StatusError):
    """406: nothing that the client accepts can be sent."""

    status = 406


class Conflict(_StatusError):
    """409: not in the state that things are in."""

    status = 409


class Gone(_StatusError):
    """410: there was something here, and it will not come back."""

    status = 410


class PreconditionFailed(_StatusError):
    """412: a condition of the request does not hold."""

    status = 412


class ContentTooLarge(_StatusError):
    """413: more than is taken."""

    status = 413


class UnsupportedMediaType(_StatusError):
    """415: not in a format that is understood."""

    status = 415


class RangeNotSatisfiable(_StatusError):
    """416: no such part."""

    status = 416


class UnprocessableContent(_StatusError):
    """422: well-formed, but it makes no sense."""

    status = 422


class _Later(_StatusError):
    """An error that may pass.

    Parameters:
        retry_after: seconds until another try makes sense.
    """

    def __init__(self, detail: str = "", *, retry_after: int | None = None, **rest: Any) -> None:
        super().__init__(detail, **rest)
        if retry_after is not None:
            self.headers["Retry-After"] = str(int(retry_after))


class TooManyRequests(_Later):
    """429: too many requests; `retry_after` is in seconds (RFC 6585 §4)."""

    status = 429


class InternalServerError(_StatusError):
    """500: a mistake on this side."""

    status = 500


class ServiceUnavailable(_Later):
    """503: temporarily unavailable; `retry_after` is in seconds."""

    status = 503


_BY_STATUS: dict[int, type[_StatusError]] = {
    kind.status: kind
    for kind in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        NotAcceptable,
        Conflict,
        Gone,
        PreconditionFailed,
        ContentTooLarge,
        UnsupportedMediaType,
        RangeNotSatisfiable,
        UnprocessableContent,
        TooManyRequests,
        InternalServerError,
        ServiceUnavailable,
    )
}


def abort(status: int, detail: str = "", **options: Any) -> NoReturn:
    """Ends the request with an error.

    Parameters:
        status: 400 to 599.
        detail: what is wrong, for the client to read.
        options: as for the class of that status, `headers` for example.

    Raises:
        HTTPError: always; the class of that status where there is one (`NotFound` for 404).
        ValueError: a status that is no error.
    """
    kind = _BY_STATUS.get(status)
    raise HTTPError(status, detail, **options) if kind is None else kind(detail, **options)
