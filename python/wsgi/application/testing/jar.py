"""The cookies that a test client keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import NamedTuple

from wsgi.application.headers import parse_http_date

__all__ = ["CookieJar"]


class _Key(NamedTuple):
    name: str
    domain: str  # with a dot in front if it covers subdomains; empty: any
    path: str


class CookieJar(MutableMapping[str, str]):
    """The cookies that a client has, by name. One that is set here goes to every host and path."""

    def __init__(self) -> None:
        self._values: dict[_Key, str] = {}

    def __getitem__(self, name: str) -> str:
        for key, value in self._values.items():
            if key.name == name:
                return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        self.pop(name, None)
        self._values[_Key(name, "", "/")] = value

    def __delitem__(self, name: str) -> None:
        keys = [key for key in self._values if key.name == name]
        if not keys:
            raise KeyError(name)
        for key in keys:
            del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.name for key in self._values))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def field(self, host: str, path: str) -> str:
        """The `Cookie` field for a request (RFC 6265 §5.4), the cookie with the longest path first; or nothing."""
        keys = [key for key in self._values if _covers_host(key.domain, host) and _covers_path(key.path, path)]
        keys.sort(key=lambda key: -len(key.path))
        return "; ".join(f"{key.name}={self._values[key]}" for key in keys)

    def store(self, field: str, host: str, path: str) -> None:
        """Stores the cookie of a `Set-Cookie` field (RFC 6265 §5.3); an expired one is removed.

        `Secure` is passed over, so that tests need no https.
        """
        pair, *attributes = field.split(";")
        name, _, value = pair.partition("=")
        given = {key.strip().lower(): text.strip() for key, _, text in (item.partition("=") for item in attributes)}
        domain = "." + given["domain"].lstrip(".").lower() if given.get("domain") else host
        if not _covers_host(domain, host):
            return
        cookie_path = given.get("path", "")
        if not cookie_path.startswith("/"):
            cookie_path = path[: path.rfind("/")] or "/"
        key = _Key(name.strip(), domain, cookie_path)
        # What the test set for any host is what the application now replaces.
        self._values.pop(_Key(key.name, "", "/"), None)
        self._values.pop(key, None)
        if not _has_expired(given):
            self._values[key] = value.strip()


def _covers_host(domain: str, host: str) -> bool:
    return domain in ("", host) or (domain.startswith(".") and (host == domain[1:] or host.endswith(domain)))


def _covers_path(cookie_path: str, path: str) -> bool:
    return path == cookie_path or path.startswith(cookie_path.rstrip("/") + "/")


def _has_expired(attributes: Mapping[str, str]) -> bool:
    age = attributes.get("max-age", "")
    if re.fullmatch(r"-?[0-9]+", age):
        return int(age) <= 0
    # Before 1971 is what "delete it" looks like; a test that waits for a date would set its clock.
    expires = parse_http_date(attributes.get("expires", ""))
    return expires is not None and expires < 365 * 86400
