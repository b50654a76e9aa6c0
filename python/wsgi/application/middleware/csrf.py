"""Protection against requests that other sites make in a visitor's name (CSRF)."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Iterable

from wsgi.application.errors import Forbidden
from wsgi.application.groups import CallNext
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["CSRFMiddleware", "csrf_token"]

_KEY = "csrf_token"
_SIZE = 32  # bytes
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
# What a page can send to another origin without asking first (Fetch, "CORS-safelisted request-header").
_READABLE_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_FORM_TYPES = _READABLE_TYPES | {"text/plain", ""}


def csrf_token(request: Request) -> str:
    """The token that forms have to send: `<input type="hidden" name="csrf_token" value="…">`, or `X-CSRF-Token`.

    The session keeps one token; each call masks it anew, so that a compressed page does not give it away (BREACH).

    Raises:
        RuntimeError: no SessionMiddleware.
    """
    token = _token_of(request)
    if token is None:
        token = secrets.token_bytes(_SIZE)
        request.session[_KEY] = token.hex()
    mask = secrets.token_bytes(_SIZE)
    return base64.urlsafe_b64encode(mask + _xor(mask, token)).decode()


class CSRFMiddleware:
    """Refuses requests that change something unless the application's own pages made them.

    Safe methods pass. Any other request has to come from the same origin, as the browser states it in
    `Sec-Fetch-Site` or else in `Origin`. One that a plain form could have sent (form encodings, text/plain, no body's
    type at all) needs the token of the session, too: in the field `csrf_token` or in `X-CSRF-Token`. Others, such as
    JSON, cannot cross origins without a preflight, so the first check is enough. Clients that are no browsers and
    send JSON pass.

    Must be inside SessionMiddleware. Looking for the field reads the form, so that handlers that stream an upload and
    mounted applications find nothing left: their clients send the token in the header, or they are exempt.

    Parameters:
        trusted_origins: other origins whose pages may send requests, such as `https://admin.example`. Their forms need
            the token all the same.
        exempt: called with a request; True disables the check for it, for example for webhooks with a signature.
    """

    def __init__(self, *, trusted_origins: Iterable[str] = (), exempt: Callable[[Request], bool] | None = None) -> None:
        self.trusted_origins = frozenset(trusted_origins)
        self.exempt = exempt

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answers with what comes after.

        Raises:
            Forbidden: the request is not known to come from the application's own pages.
        """
        if request.method not in _SAFE_METHODS and not (self.exempt is not None and self.exempt(request)):
            self._check_origin(request)
            if request.media_type in _FORM_TYPES:
                _check_token(request)
        return call_next(request)

    def _check_origin(self, request: Request) -> None:
        site = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin")
        if origin is not None and origin in self.trusted_origins:
            return
        if site is not None:
            same = site in ("same-origin", "none")
        else:
            # The host alone: behind a proxy that terminates TLS, the scheme may differ from that of the browser.
            same = origin is None or origin.partition("://")[2] == request.host
        if not same:
            raise Forbidden("this request came from another site")


def _check_token(request: Request) -> None:
    sent = request.headers.get("X-CSRF-Token")
    if sent is None and request.media_type in _READABLE_TYPES:
        sent = request.form.get("csrf_token")
    if not sent:
        raise Forbidden("the CSRF token is missing: send it as the form field csrf_token or in X-CSRF-Token")
    expected = _token_of(request)
    if expected is None or not hmac.compare_digest(_unmasked(sent), expected):
        raise Forbidden("the CSRF token is wrong or out of date: load the page again")


def _token_of(request: Request) -> bytes | None:
    kept = request.session.get(_KEY)
    return bytes.fromhex(kept) if kept else None


def _unmasked(sent: str) -> bytes:
    try:
        both = base64.urlsafe_b64decode(sent.encode())
    except (binascii.Error, ValueError):
        return b""
    return _xor(both[:_SIZE], both[_SIZE:]) if len(both) == 2 * _SIZE else b""


def _xor(mask: bytes, token: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(mask, token, strict=True))
