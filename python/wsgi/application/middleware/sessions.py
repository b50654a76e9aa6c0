"""Sessions stored in a signed cookie."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Sequence
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from wsgi.application.cookies import SameSite, format_cookie
from wsgi.application.groups import CallNext
from wsgi.application.headers import list_items
from wsgi.application.request import Request
from wsgi.application.response import Response
from wsgi.application.session import Session

__all__ = ["Session", "SessionMiddleware"]

_SALT = b"wsgi.application.session"
_LEAST_KEY = 16  # bytes: 128 bits, below which guessing comes into reach
_LARGEST_COOKIE = 4093  # bytes of the whole field, the smallest limit among browsers


class SessionMiddleware:
    """Returns every request a `session`, stored in a cookie that is signed by this application.

    A forged, damaged or expired cookie gives an empty session. Streaming responses send their head first: changes of
    the session during the stream are lost.

    Parameters:
        secret_key: at least 16 random bytes (`python -c "import secrets; print(secrets.token_hex())"`). Several: the
            first signs, all are accepted, so that a new key can be put in front of the old one.
        cookie: its name.
        max_age: seconds that a session lives after it was last written; None: until the browser closes.
        path: the paths the cookie is sent to.
        domain: the domain whose hosts it is sent to; None: this host alone.
        secure: sent over https only; None: if the request came over https, or the other attributes ask for it.
        same_site: whether other sites' requests bring it: "Lax" (links to here do), "Strict", "None" or None.
        http_only: hidden from scripts.

    Raises:
        ValueError: a key that is too short, or none; attributes that browsers refuse; from a request, a session that
            does not fit into a cookie.
    """

    def __init__(
        self,
        secret_key: str | bytes | Sequence[str | bytes],
        *,
        cookie: str = "session",
        max_age: int | None = 14 * 24 * 60 * 60,
        path: str = "/",
        domain: str | None = None,
        secure: bool | None = None,
        same_site: SameSite | None = "Lax",
        http_only: bool = True,
    ) -> None:
        # itsdangerous signs with the last key.
        self._serializer = URLSafeTimedSerializer(
            _checked_keys(secret_key)[::-1],
            salt=_SALT,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        if secure is None and (same_site == "None" or cookie.startswith(("__Secure-", "__Host-"))):
            secure = True
        # What browsers would refuse is refused here, not with the first response.
        format_cookie(cookie, path=path, domain=domain, secure=secure is not False, same_site=same_site)
        self.cookie = cookie
        self.max_age = max_age
        self.path = path
        self.domain = domain
        self.secure = secure
        self.same_site = same_site
        self.http_only = http_only

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Adds the session to the request, and the cookie to the response if the session was changed."""
        cookie = request.cookies.get(self.cookie, "")
        # The session has no reference to the request: a cycle would keep both until a garbage collection.
        session = request.session = Session(lambda: self._load(cookie))
        response = call_next(request)
        if session.accessed:
            response.headers.vary("Cookie")
        if session.modified and (session or self.cookie in request.cookies):
            self._write(request, response, session)
        return response

    def _load(self, cookie: str) -> dict[str, Any] | None:
        if not cookie:
            return None
        try:
            values = self._serializer.loads(cookie, max_age=self.max_age)
        except BadData as error:
            # itsdangerous stores errors in locals of their own frames: a cycle that would keep the request until a
            # garbage collection.
            traceback.clear_frames(error.__traceback__)
            return None
        return values if isinstance(values, dict) else None

    def _write(self, request: Request, response: Response, session: Session) -> None:
        try:
            value = str(self._serializer.dumps(dict(session))) if session else ""
        except (TypeError, ValueError) as error:
            raise TypeError(f"a session can only store JSON values: {error}") from error
        response.set_cookie(
            self.cookie,
            value,
            max_age=self.max_age if session else 0,
            path=self.path,
            domain=self.domain,
            secure=request.scheme == "https" if self.secure is None else self.secure,
            http_only=self.http_only,
            same_site=self.same_site,
        )
        size = len(response.headers.get_all("Set-Cookie")[-1])
        if size > _LARGEST_COOKIE:
            raise ValueError(
                f"the session makes a cookie of {size} bytes, and browsers drop one of more than {_LARGEST_COOKIE}:"
                " keep a key in the session and the rest on the server"
            )
        # `Vary: Cookie` does not keep a cache from giving one new visitor's cookie to the next.
        directives = list_items(response.headers.get("Cache-Control") or "")
        kept = [item for item in directives if item.partition("=")[0].lower() not in ("public", "s-maxage")]
        if not {"private", "no-store"} & {item.lower() for item in kept}:
            response.headers["Cache-Control"] = ", ".join(["private", *kept])


def _checked_keys(secret_key: str | bytes | Sequence[str | bytes]) -> list[bytes]:
    keys = [secret_key] if isinstance(secret_key, (str, bytes)) else list(secret_key)
    if not keys:
        raise ValueError("secret_key: at least one key is needed")
    encoded = [key.encode() if isinstance(key, str) else key for key in keys]
    for key in encoded:
        if len(key) < _LEAST_KEY:
            raise ValueError(
                f"secret_key: a key must have at least {_LEAST_KEY} bytes, and be random; this one has {len(key)}"
                ' (python -c "import secrets; print(secrets.token_hex())" makes a good one)'
            )
    return encoded
