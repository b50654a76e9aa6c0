"""Bodies of requests: JSON, forms, forms with files."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import IO, Any, TypeAlias
from urllib.parse import urlencode

from wsgi.application.response import encode_json

__all__ = ["Content", "Fields", "Files", "encoded", "pairs"]

Content: TypeAlias = "bytes | str | IO[bytes]"
File: TypeAlias = "Content | tuple[str, Content] | tuple[str, Content, str]"
Files: TypeAlias = "Mapping[str, File | list[File]]"
Fields: TypeAlias = "Mapping[str, Any] | Iterable[tuple[str, Any]]"

_OCTETS = "application/octet-stream"


def pairs(values: Fields) -> list[tuple[str, Any]]:
    """Names and values, of a mapping or as they are."""
    return list(values.items()) if isinstance(values, Mapping) else list(values)


def encoded(json: Any, data: bytes | str | Fields | None, files: Files | None) -> tuple[bytes, str]:
    """The body, and its media type, which is empty if the test has to set it."""
    if json is not None and (data is not None or files is not None):
        raise ValueError("a request has one body: give json, or data and files")
    if json is not None:
        return encode_json(json), "application/json"
    if isinstance(data, (bytes, str)):
        if files is not None:
            raise ValueError("a request has one body: beside files, data must be the fields of a form")
        return (data, "") if isinstance(data, bytes) else (data.encode(), "")
    if files is not None:
        return _multipart(pairs(data or ()), files)
    if data is not None:
        return urlencode(pairs(data), doseq=True).encode(), "application/x-www-form-urlencoded"
    return b"", ""


def _multipart(fields: list[tuple[str, Any]], files: Files) -> tuple[bytes, str]:
    """A form with files, as browsers send it (WHATWG HTML §4.10.21.8, RFC 7578)."""
    boundary = secrets.token_hex(16)
    parts: list[tuple[str, bytes]] = []
    for name, values in fields:
        for value in values if isinstance(values, (list, tuple)) else [values]:
            parts.append((f'name="{_quoted(name)}"', str(value).encode()))
    for name, entries in files.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            filename, content, media_type = _described(name, entry)
            place = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"\r\nContent-Type: {media_type}'
            parts.append((place, _bytes(content)))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {place}\r\n\r\n".encode() + content + b"\r\n"
        for place, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _described(name: str, file: File) -> tuple[str, Content, str]:
    if not isinstance(file, tuple):
        return name, file, _OCTETS
    return file if len(file) == 3 else (*file, _OCTETS)


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _bytes(content: Content) -> bytes:
    if isinstance(content, str):
        return content.encode()
    return content if isinstance(content, bytes) else content.read()
