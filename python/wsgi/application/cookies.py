"""Cookies: reading `Cookie`, writing `Set-Cookie` (RFC 6265)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from wsgi.application.headers import http_date, is_token

__all__ = ["SameSite", "format_cookie", "parse_cookies"]

SameSite = Literal["Strict", "Lax", "None"]

_MOST = 1000
"""Cookies of a request that are read."""

# RFC 6265 §4.1.1: cookie-octet, and a value of an attribute.
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*").fullmatch
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*").fullmatch


def parse_cookies(field: str) -> dict[str, str]:
    """The cookies of a `Cookie` field, as a lenient reader takes them (RFC 6265 §5.4).

    Of a name that comes twice, the first counts: user agents send the one with the longest path first. What has no
    name is passed over. Quotes around a value are taken off. What comes after the first 1000 is not read: browsers keep
    a few hundred for a site.

    Parameters:
        field: the value of the field, characters beyond ASCII as PEP 3333 gives them (bytes as latin-1).
    """
    cookies: dict[str, str] = {}
    for pair in field.split(";", _MOST)[:_MOST]:
        name, equals, value = pair.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not name or not equals:
            continue
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if not value.isascii():
            value = value.encode("latin-1", "replace").decode("utf-8", "replace")
        cookies.setdefault(name, value)
    return cookies


def format_cookie(
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
) -> str:
    """The value of a `Set-Cookie` field.

    Parameters:
        name: a token. The promises of the prefixes `__Host-` and `__Secure-` are held.
        value: cookie octets: ASCII without spaces, quotes, commas, semicolons and backslashes.
        max_age: seconds that the cookie lives; None: until the browser closes.
        expires: the end of its life as a date, for clients without `Max-Age`.
        path: the paths it is sent to.
        domain: the domain whose hosts it is sent to; None: this host alone.
        secure: sent over https only.
        http_only: hidden from scripts.
        same_site: "Strict", "Lax", "None" (needs `secure`), or None to leave it to the browser.
        partitioned: kept apart for each top-level site (needs `secure`).

    Raises:
        ValueError: what no cookie may hold, or attributes that browsers refuse together. The message never has the
            value.
    """
    if not is_token(name):
        raise ValueError(f"not the name of a cookie: {name!r:.100}")
    if not _VALUE(value):
        raise ValueError(
            f"the value of the cookie {name} holds a character that cookies cannot carry: encode it,"
            " for example with urllib.parse.quote"
        )
    for attribute, text in (("path", path), ("domain", domain)):
        if text is not None and not _ATTRIBUTE(text):
            raise ValueError(f"the {attribute} of the cookie {name} holds a character that cookies cannot carry")
    if same_site not in ("Strict", "Lax", "None", None):
        raise ValueError(f"same_site of the cookie {name} must be 'Strict', 'Lax', 'None' or None")
    if not secure and (same_site == "None" or partitioned or name.startswith(("__Secure-", "__Host-"))):
        raise ValueError(
            f"the cookie {name} must be secure: browsers drop it otherwise"
            " (same_site='None', partitioned, and the prefixes __Secure- and __Host- ask for it)"
        )
    if name.startswith("__Host-") and (path != "/" or domain is not None):
        raise ValueError(f"the cookie {name} must have the path '/' and no domain: its prefix __Host- promises that")
    parts = [f"{name}={value}"]
    if max_age is not None:
        parts.append(f"Max-Age={int(max_age)}")
    if expires is not None:
        parts.append(f"Expires={http_date(expires)}")
    if domain is not None:
        parts.append(f"Domain={domain}")
    if path is not None:
        parts.append(f"Path={path}")
    if secure:
        parts.append("Secure")
    if http_only:
        parts.append("HttpOnly")
    if same_site is not None:
        parts.append(f"SameSite={same_site}")
    if partitioned:
        parts.append("Partitioned")
    return "; ".join(parts)
