"""Sessions that live in a signed cookie."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from wsgi.application.cookies import SameSite, format_cookie
from wsgi.application.groups import CallNext
from wsgi.application.headers import list_items
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["Session", "SessionMiddleware"]

_SALT = b"wsgi.application.session"
_LEAST_KEY = 16  # bytes: 128 bits, below which guessing comes into reach
_LARGEST_COOKIE = 4093  # bytes of the whole field, the smallest limit among browsers


class Session(MutableMapping[str, Any]):
    """What is known about a visitor from one request to the next.

    Keys are `str`; values are what JSON can hold, and come back as JSON gives them: a tuple as a list. The visitor can
    read them (they are signed, not encrypted) and can send an older cookie again. It is read when it is first used,
    and written if it was changed. A change inside a value has to be announced: `session.modified = True`; the same
    starts its life of `max_age` anew. Login should begin with `session.clear()`.
    """

    def __init__(self, load: Callable[[], dict[str, Any] | None]) -> None:
        self._load = load
        self._values: dict[str, Any] | None = None
        self._new = False
        self.modified = False
        """Whether the cookie has to be written."""

    @property
    def accessed(self) -> bool:
        """Whether anybody looked, so that the response depends on the cookie."""
        return self._values is not None or self.modified

    @property
    def new(self) -> bool:
        """Whether the request brought no session, or none that is valid."""
        self._stored()
        return self._new

    def _stored(self) -> dict[str, Any]:
        if self._values is None:
            loaded = self._load()
            self._new = loaded is None
            self._values = loaded or {}
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self._stored()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"the keys of a session must be str, not {type(key).__name__}")
        self._stored()[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        del self._stored()[key]
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored())

    def __len__(self) -> int:
        return len(self._stored())

    def __repr__(self) -> str:
        # The names alone: a repr ends up in logs.
        return f"<Session {', '.join(self._values or ())}>"


class SessionMiddleware:
    """Gives every request a `session`, kept in a cookie that only this application can have made.

    A cookie that is forged, damaged or too old is an empty session. Streaming responses send their head first: what
    they change in the session while they stream is lost.

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
        """Answers with what comes after, and the cookie if the session was changed."""
        cookie = request.cookies.get(self.cookie, "")
        # The session does not know the request: they would hold each other until the collector comes, body and all.
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
            # itsdangerous keeps errors in locals of their own frames, which would hold the request until the collector
            # comes.
            traceback.clear_frames(error.__traceback__)
            return None
        return values if isinstance(values, dict) else None

    def _write(self, request: Request, response: Response, session: Session) -> None:
        try:
            value = str(self._serializer.dumps(dict(session))) if session else ""
        except (TypeError, ValueError) as error:
            raise TypeError(f"a session holds what JSON can hold: {error}") from error
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
        said = list_items(response.headers.get("Cache-Control") or "")
        kept = [item for item in said if item.partition("=")[0].lower() not in ("public", "s-maxage")]
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
