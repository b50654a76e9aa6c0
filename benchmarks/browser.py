"""What clients send: the fields of a browser, in the words of wrk and as bytes."""

from __future__ import annotations

from collections.abc import Sequence

FIELDS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests: 1",
]
"""Beside Host, which is the seventh."""


def request(path: str = "/", body: bytes = b"", fields: Sequence[str] = ()) -> bytes:
    """One request: GET, or POST if there is a body."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1", *FIELDS, *fields]
    if body:
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def through_a_proxy(count: int) -> list[bytes]:
    """Requests of as many clients, as a proxy sends them on one connection: no two have the same fields."""
    return [
        request(f"/item/{number % 50}", fields=[f"X-Forwarded-For: 203.0.113.{number % 250}"]).replace(
            b"session=0123456789abcdef0123456789abcdef", b"session=%032x" % number
        )
        for number in range(count)
    ]
