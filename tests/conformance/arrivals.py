"""What an application must be given for the bytes of a case that is accepted, read from the bytes themselves.

A plain reader of requests that are known to be sound: it splits at CRLF, at the first colon and at white space, and has
none of the server's code. A status says that a request was taken; this says that nothing of it was lost on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

ABSOLUTE = re.compile(rb"(?i)https?://([^/?]*)(.*)", re.DOTALL)
SINGLE = ("CONTENT_TYPE", "HTTP_AUTHORIZATION")
"""Variables of fields whose further lines repeat the first one, or the request is refused."""


@dataclass(frozen=True)
class Sent:
    """One request as its client sent it."""

    method: bytes
    target: bytes
    version: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    """Names as they came, and values without the white space around them."""
    body: bytes

    @property
    def authority(self) -> bytes | None:
        """The host in an absolute-form target, which stands for Host (RFC 9112 §3.2.2)."""
        found = ABSOLUTE.fullmatch(self.target)
        return found[1] if found else None

    @property
    def path(self) -> bytes:
        """The path as it came; empty for `*`."""
        found = ABSOLUTE.fullmatch(self.target)
        path = (found[2] if found else self.target).partition(b"?")[0]
        return b"" if path == b"*" else path or b"/"

    @property
    def given(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields but those that no application is given: of names with an underscore, which could meet those with a
        hyphen, and what means something else to programs (httpoxy)."""
        return tuple((name, value) for name, value in self.fields if b"_" not in name and name.lower() != b"proxy")

    @property
    def query(self) -> bytes:
        """What stands behind the question mark."""
        return self.target.partition(b"?")[2]

    def variables(self) -> dict[str, str]:
        """The variables of a WSGI environ that come from the request (PEP 3333, RFC 3875)."""
        values: dict[str, bytes] = {
            "REQUEST_METHOD": self.method,
            "PATH_INFO": unquote_to_bytes(self.path),
            "QUERY_STRING": self.query,
            "REQUEST_URI": self.target,
            "RAW_URI": self.target,
            "SERVER_PROTOCOL": self.version,
        }
        for name, value in self.given:
            key = name.upper().replace(b"-", b"_").decode()
            if key in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
                # Of either, what is known of the content.
                values["CONTENT_LENGTH"] = b"%d" % len(self.body)
                continue
            key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
            if key not in values:
                values[key] = value
            elif key not in SINGLE:
                values[key] += (b"; " if key == "HTTP_COOKIE" else b",") + value
        if self.authority is not None:
            values["HTTP_HOST"] = self.authority
        return {key: value.decode("latin-1") for key, value in values.items()}

    def scope(self) -> dict[str, Any]:
        """The keys of an ASGI scope that come from the request, whose method is in upper case."""
        path = self.path or b"*"
        headers = [(name.lower(), value) for name, value in self.given]
        if self.authority is not None:
            named = [(name, self.authority if name == b"host" else value) for name, value in headers]
            headers = named if any(name == b"host" for name, _ in named) else [(b"host", self.authority), *named]
        return {
            "method": self.method.decode(),
            "path": unquote_to_bytes(path).decode(errors="replace"),
            "raw_path": path,
            "query_string": self.query,
            "http_version": self.version.removeprefix(b"HTTP/").decode(),
            "headers": headers,
        }


def of_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """What an environ has of the keys that `Sent.variables` speaks of."""
    own = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "SERVER_PROTOCOL")
    return {key: value for key, value in environ.items() if key in own or key.startswith(("HTTP_", "CONTENT_"))}


def of_scope(scope: Mapping[str, Any]) -> dict[str, Any]:
    """What a scope has of the keys that `Sent.scope` speaks of."""
    keys = ("method", "path", "raw_path", "query_string", "http_version", "headers")
    return {key: [tuple(pair) for pair in scope[key]] if key == "headers" else scope[key] for key in keys}


def requests(content: bytes, count: int) -> list[Sent]:
    """The first `count` requests of what a client sends, which are complete and sound."""
    found = _read(content)
    return [next(found) for _ in range(count)]


def _read(content: bytes) -> Iterator[Sent]:
    while content:
        head, empty, content = content.lstrip(b"\r\n").partition(b"\r\n\r\n")
        assert empty, "a head without an end"
        line, *lines = head.split(b"\r\n")
        method, target, version = line.split(b" ")
        fields = []
        for each in lines:
            name, _, value = each.partition(b":")
            fields.append((name, value.strip(b" \t")))
        framing = {name.lower(): value for name, value in fields}
        if b"transfer-encoding" in framing:
            body, content = _chunks(content)
        else:
            length = int(framing.get(b"content-length", b"0"))
            body, content = content[:length], content[length:]
        yield Sent(method, target, version, tuple(fields), body)


def _chunks(content: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, content = content.partition(b"\r\n")
        size = int(re.split(rb"[; \t]", line, maxsplit=1)[0], 16)
        if size == 0:
            break
        body += content[:size]
        content = content[size:].removeprefix(b"\r\n")
    while content and not content.startswith(b"\r\n"):
        content = content.partition(b"\r\n")[2]
    return body, content.removeprefix(b"\r\n")
