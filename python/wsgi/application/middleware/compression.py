"""Responses compressed by gzip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from wsgi.application.groups import CallNext
from wsgi.application.headers import list_items, parse_options
from wsgi.application.request import Request
from wsgi.application.response import Content, Response, StreamingResponse, as_bytes

__all__ = ["GzipMiddleware"]

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for gzip's format
_MEDIA_TYPES = (
    "text/*",
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/problem+json",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
)


class GzipMiddleware:
    """Compresses responses for clients that accept it (RFC 9110 §8.4, RFC 1952).

    Left as they are: small ones, those encoded already, partial ones, those with `Cache-Control: no-transform`, event
    streams, files (FileResponse), and media types that are compressed themselves. A strong ETag becomes weak, since
    the bytes are no longer those it stood for. Pieces of a streaming response leave compressed, but not withheld.

    A page that shows data of the request beside a secret should not be compressed, because its size reveals the
    secret (BREACH); `csrf_token` masks its own.

    Parameters:
        minimum_size: bytes below which compressing is not worth it; a stream of unknown length counts as large.
        level: 1 (quick) to 9 (small).
        media_types: what is compressed: whole types, or `text/*` for all of a kind. Types that end in `+json` and
            `+xml` have to be named like any other.

    Raises:
        ValueError: a level that does not exist.
    """

    def __init__(self, *, minimum_size: int = 1024, level: int = 6, media_types: Iterable[str] = _MEDIA_TYPES) -> None:
        if not 1 <= level <= 9:
            raise ValueError(f"level must be from 1 to 9, not {level}")
        self.minimum_size = minimum_size
        self.level = level
        self.media_types = frozenset(media_types)

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answers with what comes after, compressed if it can be and the client accepts it."""
        response = call_next(request)
        if not self._is_compressible(response):
            return response
        # Also on the uncompressed variant, so that caches distinguish both.
        response.headers.vary("Accept-Encoding")
        if request.accepts_encoding("gzip", "identity") == "gzip":
            self._compress(response, has_content=request.method != "HEAD")
        return response

    def _is_compressible(self, response: Response) -> bool:
        headers = response.headers
        if response.status < 200 or response.status in (204, 205, 206, 304) or "Content-Encoding" in headers:
            return False
        if "no-transform" in (item.lower() for item in list_items(headers.get("Cache-Control") or "")):
            return False
        media_type, _ = parse_options(headers.get("Content-Type") or "")
        if media_type == "text/event-stream":
            return False
        if media_type not in self.media_types and f"{media_type.partition('/')[0]}/*" not in self.media_types:
            return False
        if isinstance(response, StreamingResponse):
            length = headers.get("Content-Length") or ""
            return not length.isdecimal() or int(length) >= self.minimum_size
        # A response that sends itself, such as a file, has no body here.
        return type(response).__call__ is Response.__call__ and len(response.body) >= self.minimum_size

    def _compress(self, response: Response, *, has_content: bool) -> None:
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, _GZIP)
        headers = response.headers
        if isinstance(response, StreamingResponse):
            if has_content:
                content = response.content
                response.content = Content(_compressed(content, compressor), content)
        else:
            response.body = compressor.compress(response.body) + compressor.flush()
        headers["Content-Encoding"] = "gzip"
        headers.discard("Content-Length")
        # A range would be one of the bytes as they were (RFC 9110 §14.2).
        headers.discard("Accept-Ranges")
        if (tag := headers.get("ETag")) is not None and not tag.startswith("W/"):
            headers["ETag"] = f"W/{tag}"


def _compressed(content: Iterable[str | bytes], compressor: zlib._Compress) -> Iterator[bytes]:
    """The pieces of a stream, each compressed and flushed when it comes."""
    for data in map(as_bytes, content):
        if data:
            yield compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield compressor.flush()
