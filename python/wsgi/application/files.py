"""Files as responses, complete or in part.

A `FileResponse` holds no descriptor until it is sent: what middleware replaces or drops leaks nothing. The file is
opened once, and its metadata (length, validators) is read from that descriptor.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NoReturn
from urllib.parse import quote

from wsgi.application.conditions import evaluate, if_range, wanted_range
from wsgi.application.errors import Forbidden, NotFound, reason_phrase
from wsgi.application.headers import Headers, HeadersLike, http_date
from wsgi.application.media_types import media_type_of
from wsgi.application.response import WITHOUT_CONTENT, Response, StartResponse, close_content, with_charset

__all__ = ["FileResponse"]

_BLOCK = 64 * 1024

# Never a wait at a FIFO, never a terminal that becomes ours, never inherited. Not every system has all of them.
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"))

# No such file, whichever way the system puts it.
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})

# RFC 9110 §15.4.5: a 304 has only the fields that caches need.
_NOT_IN_304 = frozenset(
    {
        *("accept-ranges", "content-disposition", "content-encoding", "content-language", "content-length"),
        *("content-range", "content-type"),
    }
)
# What describes the file, and not the refusal that is sent in its place; nor may that be kept as long as the file.
_OF_THE_FILE = _NOT_IN_304 | {"cache-control", "content-location", "etag", "expires", "last-modified"}


class FileResponse(Response):
    """A file, complete or the requested range; 304 if the client has the current version.

    From a path it has `Last-Modified`, a strong `ETag` (of modification time, size and inode), ranges, and leaves by
    `wsgi.file_wrapper` where the server has one, so that it can be sent by the kernel. Conditions and ranges are for
    GET (conditions for HEAD, too) and for status 200.

    Parameters:
        file: the path of a regular file, or a binary file, which is sent from its beginning if it is seekable, and
            closed when it was sent. A file that cannot seek is streamed without length and ranges. Open files have no
            validators but those among `headers`.
        status: 200 to 599; default 200.
        headers: further fields; they go before those that are made here.
        media_type: default: by the extension of the file's name, else `application/octet-stream`. Text gets
            `charset=utf-8` unless another charset is given. Compressed files are what they are: `application/gzip`.
        filename: the name for saving it (RFC 6266); default: that of the path, and none in `inline` responses.
        inline: True (default) lets the browser show the file, False offers to save it. Use False for uploaded files.
        max_age: seconds for which it may be used without asking again, for `Cache-Control`; default: not sent.
        etag: whether an `ETag` is made; without it, servers that share no disk agree on what is unchanged.

    Raises:
        NotFound: no regular file is there; also when it is sent, if it vanished meanwhile.
        Forbidden: the system does not let this process read it.
        TypeError: neither a path nor a binary file.
        ValueError: a negative `max_age`, or fields that cannot be sent.
    """

    __slots__ = ("_etag", "_file", "_path")
    holds = True

    def __init__(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        status: int = 200,
        headers: HeadersLike | None = None,
        media_type: str | None = None,
        filename: str | None = None,
        inline: bool = True,
        max_age: int | None = None,
        etag: bool = True,
    ) -> None:
        self._path: str | None = None
        self._file: IO[bytes] | None = None
        if isinstance(file, (str, os.PathLike)):
            self._path = os.fspath(file)
            name = os.path.basename(self._path)
            _look(self._path)
        elif not _is_binary(file):
            raise TypeError(f"a FileResponse needs a path or a file opened in binary mode, not {type(file).__name__}")
        else:
            self._file = file
            name = getattr(file, "name", "")
            name = os.path.basename(name) if isinstance(name, str) else ""
        self._etag = etag
        if max_age is not None and max_age < 0:
            raise ValueError(f"the max_age of a FileResponse must be 0 or more seconds, not {max_age}")
        media_type = with_charset(media_type or media_type_of(filename or name))
        super().__init__(b"", status, headers, media_type=media_type)
        if filename or not inline:
            disposition = _content_disposition("inline" if inline else "attachment", filename or name)
            self.headers.setdefault("Content-Disposition", disposition)
        if max_age is not None:
            self.headers.setdefault("Cache-Control", f"max-age={int(max_age)}")
        # A browser that guesses may take an upload for a page.
        self.headers.setdefault("X-Content-Type-Options", "nosniff")

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Sends the file, or an error response (PEP 3333).

        Raises:
            NotFound: it vanished since this response was made; nothing has been sent then.
            Forbidden: it can no longer be read.
        """
        if self.status in WITHOUT_CONTENT:
            self.close()
            return super().__call__(environ, start_response)
        content = _Content.of_path(self._path, self._etag) if self._path is not None else _Content.of_file(self._file)
        try:
            return self._send(content, environ, start_response)
        except BaseException:
            content.close()
            raise

    def close(self) -> None:
        """Closes an open file that is not sent."""
        if self._file is not None:
            self._file.close()

    def _send(self, content: _Content, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        head = Headers(self.headers)
        head.discard("Content-Length")
        etag = head.setdefault("ETag", content.etag) if content.etag else head.get("ETag")
        changed = head.setdefault("Last-Modified", content.changed) if content.changed else head.get("Last-Modified")
        status, method, size, wanted = self.status, environ["REQUEST_METHOD"], content.size, None
        if status == 200 and method in ("GET", "HEAD"):
            outcome = evaluate(environ, etag, changed)
            if outcome == 304:
                content.close()
                dropped = _NOT_IN_304 | {"last-modified"} if etag else _NOT_IN_304
                return Response(b"", 304, _without(head, dropped))(environ, start_response)
            if outcome == 412:
                content.close()
                return self._refuse(412, (), environ, start_response)
            if size is not None:
                head.setdefault("Accept-Ranges", "bytes")
                # RFC 9110 §14.2: ranges are defined for GET alone.
                if method == "GET" and if_range(environ, etag, changed):
                    wanted = wanted_range(environ.get("HTTP_RANGE", ""), size)
        if size is not None:
            start, stop = wanted or (0, size)
            if wanted is not None:
                if start >= stop:
                    content.close()
                    return self._refuse(416, [("Content-Range", f"bytes */{size}")], environ, start_response)
                status = 206
                head["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            head["Content-Length"] = str(stop - start)
        else:
            start, stop = 0, None
        start_response(f"{status} {reason_phrase(status)}", head.items())
        if method == "HEAD" or start == stop:
            content.close()
            return []
        return content.leave(start, stop, environ.get("wsgi.file_wrapper"))

    def _refuse(
        self,
        status: int,
        fields: Iterable[tuple[str, str]],
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        # Answered here and not raised: what middleware put on this response (CORS, cookies) has to go along.
        response = Response(f"{reason_phrase(status)}\n", status, [*_without(self.headers, _OF_THE_FILE), *fields])
        return response(environ, start_response)


def _is_binary(file: object) -> bool:
    return callable(getattr(file, "read", None)) and not isinstance(file, io.TextIOBase)


def _without(headers: Headers, names: frozenset[str]) -> list[tuple[str, str]]:
    return [pair for pair in headers.items() if pair[0].lower() not in names]


class _Content:
    """An open file with its metadata."""

    __slots__ = ("_raw", "changed", "etag", "file", "size")

    def __init__(self, file: IO[bytes] | io.FileIO, size: int | None, *, raw: bool) -> None:
        self.file = file
        self.size = size
        self.etag: str | None = None
        self.changed: str | None = None
        # Whether the descriptor is at the position of the next read, so that the kernel may send the file.
        self._raw = raw

    @classmethod
    def of_path(cls, path: str, etag: bool) -> _Content:
        """Opens a path, and reads the metadata from the descriptor, because the path may be replaced at any time."""
        try:
            descriptor = os.open(path, _OPEN_FLAGS)
        except (OSError, ValueError) as error:
            _raise_for(error)
        try:
            facts = os.fstat(descriptor)
            _check_regular(facts)
            # Without a buffer, the position of the file is that of the descriptor.
            content = cls(io.FileIO(descriptor, "rb"), facts.st_size, raw=True)
        except BaseException:
            os.close(descriptor)
            raise
        if etag:
            content.etag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}-{facts.st_ino:x}"'
        # RFC 9110 §8.8.2.1: never a date in the future.
        content.changed = http_date(min(facts.st_mtime, time.time()))
        return content

    @classmethod
    def of_file(cls, file: IO[bytes] | None) -> _Content:
        """Uses a file that is already open."""
        assert file is not None
        try:
            # Not all seekable files implement `seekable`, or return the position from `seek`.
            file.seek(0, os.SEEK_END)
            size: int | None = file.tell()
            file.seek(0)
        except (AttributeError, OSError, ValueError):
            if getattr(file, "closed", False):
                raise
            size = None
        return cls(file, size, raw=False)

    def leave(
        self, start: int, stop: int | None, file_wrapper: Callable[..., Iterable[bytes]] | None
    ) -> Iterable[bytes]:
        """The iterable for the server, which closes it."""
        if self.size is not None and start:
            self.file.seek(start)
        blocks = _Blocks(self.file, None if stop is None else stop - start)
        if file_wrapper is None:
            return blocks
        # Up to its end, a server may send the file itself. Everything else is read through what knows the end; an open
        # file might be more than its descriptor (buffered, decompressed).
        return file_wrapper(self.file if self._raw and stop == self.size else blocks, _BLOCK)

    def close(self) -> None:
        """Frees the descriptor."""
        close_content(self.file)


class _Blocks:
    """A part of a file: read by `wsgi.file_wrapper`, or iterated if the server has none (PEP 3333)."""

    __slots__ = ("_file", "_left")

    def __init__(self, file: IO[bytes] | io.FileIO, length: int | None) -> None:
        self._file = file
        self._left = length

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes, and never past the end of the part."""
        if self._left is None:
            return self._file.read(size) or b""
        data = self._file.read(self._left if size < 0 else min(size, self._left)) or b""
        self._left -= len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self.read(_BLOCK)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Closes the file."""
        close_content(self._file)


def _look(path: str) -> None:
    """Whether a path can be served, before anything is opened: opening a device may move it."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as error:
        _raise_for(error)
    _check_regular(facts)


def _check_regular(facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise NotFound


def _raise_for(error: Exception) -> NoReturn:
    # The path stays out of the answer; the log has it in the cause.
    if isinstance(error, PermissionError):
        raise Forbidden from error
    # ValueError: NUL, or what has no form in the file system's encoding.
    if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno in _MISSING):
        raise NotFound from error
    raise error


def _content_disposition(kind: str, filename: str) -> str:
    """The value of `Content-Disposition` (RFC 6266), with the file name escaped."""
    # Line breaks and their like cannot be sent; a name has no directories (§4.3).
    name = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", filename)
    name = re.sub(r"[/\\]", "_", name)
    if not name:
        return kind
    # Appendix D: characters that clients parse differently are only in the second form.
    plain = re.sub(r'[^\x20-\x7e]|["%]', "_", name)
    value = f'{kind}; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
