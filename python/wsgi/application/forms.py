"""Forms: urlencoded (WHATWG URL §5) and multipart (RFC 7578), and the files that come with them.

Whatever a client sends here ends in a form or in an answer below 500, and everything has a bound: the whole form, its
parts, its text, the fields of a part. Files of up to `Limits.spool` bytes together stay in memory; beyond that they
share one unlinked temporary file, so that a form costs one descriptor, however many files it has.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote_to_bytes

from wsgi.application.errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from wsgi.application.headers import Headers, MultiDict, parse_options

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from multipart import MultipartSegment  # type: ignore[import-untyped]

    from wsgi.application.request import Limits

__all__ = ["UploadedFile", "read_form"]

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# UTF-8 is what browsers send unless a page says otherwise; the other two are what old pages say.
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
}

# RFC 2046 §5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]").fullmatch

# RFC 7578 §4.8 knows three fields of a part; some clients send a few more. A field holds a name or a file name.
_PART_FIELDS = 8
_PART_FIELD_SIZE = 4096

# RFC 2045 §6: those that change nothing. RFC 7578 §4.7: no others are sent.
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})

_CHUNK = 64 * 1024

# Control and format characters, surrogates, what has no meaning yet, separators of lines and paragraphs.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# What most file systems take, in bytes.
_NAME_SIZE = 255


class Stream(Protocol):
    """Where a body is read from; `read` may give less than was asked for, and gives nothing at the end only."""

    def read(self, size: int, /) -> bytes:
        """Reads up to `size` bytes."""
        ...


def read_form(
    stream: Stream, content_type: str, content_length: int | None, limits: Limits
) -> tuple[MultiDict[str], MultiDict[UploadedFile]]:
    """Reads the fields and the files of a form.

    Parameters:
        stream: the body; never read past `content_length`.
        content_type: the value of `Content-Type`; empty if there is none.
        content_length: bytes of the body; None: up to the end of the stream.
        limits: `body` bounds a urlencoded form, and the text of a multipart one; `form` bounds a multipart form as a
            whole, `fields` its fields and files, `spool` what all files together keep in memory, in bytes.

    Returns:
        The fields, and the files, each of which has to be closed. A part of a multipart form is a file if it has a
        `filename`, even an empty one.

    Raises:
        UnsupportedMediaType: no form, or in a character encoding that is none of UTF-8, ASCII and Latin-1.
        BadRequest: a malformed or truncated form.
        ContentTooLarge: a limit was passed; the detail says which.
    """
    media_type, options = parse_options(content_type)
    if media_type == URLENCODED:
        return MultiDict(_read_urlencoded(stream, options, content_length, limits)), MultiDict()
    if media_type == MULTIPART:
        return _read_multipart(stream, options, content_length, limits)
    arrived = f"not {media_type!r:.100}" if media_type else "but there is no Content-Type"
    raise UnsupportedMediaType(f"the content must be a form, {URLENCODED} or {MULTIPART}, {arrived}")


def _codec(charset: str) -> str:
    codec = _CHARSETS.get(charset.strip().lower())
    if codec is None:
        raise UnsupportedMediaType(f"the form must be in UTF-8, not in {charset!r:.60}")
    return codec


def _decoded(data: bytes, codec: str, what: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise BadRequest(f"{what} is not valid {codec}: {error.reason} at byte {error.start}") from None


def _shown(name: str) -> str:
    """A name from a client, for a message."""
    return f"{name!r:.60}"


def _chunks(stream: Stream, length: int | None, limit: int, named: str) -> Iterator[bytes]:
    """The pieces of a body, none of which passes its length or the limit."""
    if length is not None and length > limit:
        raise ContentTooLarge(f"the form has {length} bytes; at most {limit} are taken ({named})")
    read = 0
    # Where no length is known, one byte more shows that there is more.
    bound = limit + 1 if length is None else length
    while read < bound:
        chunk = stream.read(min(_CHUNK, bound - read))
        if not chunk:
            break
        read += len(chunk)
        if read > limit:
            raise ContentTooLarge(f"the form has more than {limit} bytes ({named})")
        yield chunk
    if length is not None and read < length:
        raise BadRequest(f"the form ends after {read} of its {length} bytes")


def _too_many_fields(limits: Limits) -> ContentTooLarge:
    return ContentTooLarge(f"the form has more than {limits.fields} fields (limit `fields`)")


def _read_urlencoded(
    stream: Stream, options: dict[str, str], length: int | None, limits: Limits
) -> list[tuple[str, str]]:
    codec = _codec(options.get("charset") or "utf-8")
    data = b"".join(_chunks(stream, length, limits.body, "limit `body`"))
    if data.count(b"&") >= limits.fields:
        raise _too_many_fields(limits)
    fields = [field.partition(b"=") for field in data.split(b"&") if field]
    pairs = [(_unquoted(name), _unquoted(value)) for name, _, value in fields]
    for name, value in pairs:
        # WHATWG HTML §4.10.5.1.1: the name of the encoding that the browser chose.
        if name == b"_charset_" and value:
            codec = _codec(_decoded(value, "ascii", "the field '_charset_'"))
            break
    text = [(_decoded(name, codec, "the name of a field"), value) for name, value in pairs]
    return [(name, _decoded(value, codec, f"the field {_shown(name)}")) for name, value in text]


def _unquoted(data: bytes) -> bytes:
    """Percent-decoded, with spaces for `+` (WHATWG URL §5.1)."""
    data = data.replace(b"+", b" ")
    if b"%" not in data:
        return data
    # The decoder takes a hundred bytes of memory for each escape: so a piece at a time.
    pieces, start = [], 0
    while start < len(data):
        stop = start + _CHUNK
        if stop < len(data):
            # Never between a percent sign and its digits.
            cut = data.rfind(b"%", stop - 2, stop)
            stop = stop if cut < 0 else cut
        pieces.append(unquote_to_bytes(data[start:stop]))
        start = stop
    return b"".join(pieces)


def _read_multipart(
    stream: Stream, options: dict[str, str], length: int | None, limits: Limits
) -> tuple[MultiDict[str], MultiDict[UploadedFile]]:
    codec = _codec(options.get("charset") or "utf-8")
    boundary = options.get("boundary")
    if not boundary:
        raise BadRequest(f"the Content-Type of a {MULTIPART} body must have a boundary (RFC 7578 §4.1)")
    if not _BOUNDARY(boundary):
        raise BadRequest("the boundary must be 1 to 70 letters, digits or marks of RFC 2046 §5.1.1")
    reader = _Multipart(codec, limits)
    try:
        reader.read(_chunks(stream, length, limits.form, "limit `form`"), boundary)
        return reader.fields(), reader.files()
    except BaseException:
        reader.close()
        raise


class _Part:
    """A part while it is read: its text piece by piece, or where its content begins in the spool."""

    __slots__ = ("codec", "filename", "headers", "media_type", "name", "pieces", "start")

    def __init__(self, segment: MultipartSegment, start: int) -> None:
        self.name: str = segment.name
        self.filename: str | None = segment.filename
        self.start = start
        self.pieces: list[bytes] = []
        try:
            # As everywhere in HTTP, a byte of a field's value is a character.
            self.headers = Headers(
                (field, value.strip(" \t").encode("utf-8", "surrogateescape").decode("latin-1"))
                for field, value in segment.headerlist
            )
        except ValueError:
            raise BadRequest(f"a header field of the part {_shown(self.name)} has characters it may not have") from None
        encoding = (self.headers.get("Content-Transfer-Encoding") or "").lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise UnsupportedMediaType(
                f"the part {_shown(self.name)} must be sent as it is, not as {encoding!r:.40} (RFC 7578 §4.7)"
            )
        self.media_type, options = parse_options(self.headers.get("Content-Type") or "")
        charset = options.get("charset")
        self.codec = _codec(charset) if charset and self.filename is None else None


class _Multipart:
    """A multipart form while it is read."""

    def __init__(self, codec: str, limits: Limits) -> None:
        self.codec = codec
        self.limits = limits
        self.spool: _Spool | None = None
        self.parts = 0
        self.kept = 0
        self.texts: list[_Part] = []
        self.uploads: list[tuple[str, UploadedFile]] = []

    def read(self, chunks: Iterator[bytes], boundary: str) -> None:
        """Takes the form apart."""
        # Only who gets such a form pays for the import.
        import multipart

        parser = multipart.PushMultipartParser(
            boundary,
            max_header_count=_PART_FIELDS,
            max_header_size=_PART_FIELD_SIZE,
            header_charset=self.codec,
            # Folded fields are refused: no client needs them, and reading them costs more time than sending them.
            strict=True,
        )
        part: _Part | None = None
        try:
            for chunk in _from_boundary(chunks, f"--{boundary}".encode()):
                for event in parser.parse(chunk):
                    if event is None:
                        assert part is not None
                        self._end(part)
                    elif isinstance(event, multipart.MultipartSegment):
                        part = self._begin(event)
                    else:
                        assert part is not None
                        self._take(part, event)
            parser.close()
        except multipart.MultipartError as error:
            if isinstance(error, multipart.StrictParserError) and _is_complete(parser):
                # RFC 2046 §5.1.1: what follows the last boundary is nobody's; many clients end with a line break.
                return
            raise self._refusal(error) from None

    @staticmethod
    def _refusal(error: Exception) -> BadRequest | ContentTooLarge:
        import multipart

        # The message comes first; the cause may follow.
        message = str(error.args[0])
        message = message[:1].lower() + message[1:]
        if isinstance(error, multipart.ParserLimitReached):
            return ContentTooLarge(
                f"a part of the form has more than {_PART_FIELDS} header fields,"
                f" or one of more than {_PART_FIELD_SIZE} bytes"
            )
        return BadRequest(f"the multipart form is malformed: {message}")

    def _keep(self, size: int) -> None:
        self.kept += size
        if self.kept > self.limits.body:
            raise ContentTooLarge(f"the text in the form has more than {self.limits.body} bytes (limit `body`)")

    def _begin(self, segment: MultipartSegment) -> _Part:
        part = _Part(segment, self.spool.size if self.spool is not None else 0)
        self.parts += 1
        if self.parts > self.limits.fields:
            raise _too_many_fields(self.limits)
        # The fields of a part stay in memory, too.
        self._keep(sum(len(field) + len(value) for field, value in part.headers.items()))
        return part

    def _take(self, part: _Part, data: bytes) -> None:
        if part.filename is None:
            self._keep(len(data))
            part.pieces.append(data)
            return
        if self.spool is None:
            self.spool = _Spool(self.limits.spool)
        self.spool.append(data)

    def _end(self, part: _Part) -> None:
        if part.filename is None:
            part.pieces = [b"".join(part.pieces)]
            self.texts.append(part)
            return
        if self.spool is None:
            self.spool = _Spool(self.limits.spool)
        window = _Window(self.spool, part.start, self.spool.size - part.start)
        upload = UploadedFile(
            io.BufferedReader(window),
            filename=part.filename,
            media_type=part.media_type,
            headers=part.headers,
            size=window.size,
        )
        self.uploads.append((part.name, upload))

    def fields(self) -> MultiDict[str]:
        """The text of the form."""
        codec = self.codec
        for part in self.texts:
            # RFC 7578 §4.6: the encoding of every part that does not say its own.
            if part.name == "_charset_":
                codec = _codec(_decoded(part.pieces[0], "ascii", "the field '_charset_'"))
                break
        return MultiDict(
            (part.name, _decoded(part.pieces[0], part.codec or codec, f"the field {_shown(part.name)}"))
            for part in self.texts
        )

    def files(self) -> MultiDict[UploadedFile]:
        """The files of the form."""
        return MultiDict(self.uploads)

    def close(self) -> None:
        """Frees what was read so far."""
        for _, upload in self.uploads:
            upload.close()
        if self.spool is not None:
            self.spool.close()


def _from_boundary(chunks: Iterator[bytes], boundary: bytes) -> Iterator[bytes]:
    """The chunks, if they begin with a boundary.

    The parser would take a preamble in its first chunk, and refuse it in later ones.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(boundary) + 2:
            break
    if not head.removeprefix(b"\r\n").startswith(boundary):
        raise BadRequest("the multipart form must begin with its boundary")
    yield head
    yield from chunks


def _is_complete(parser: object) -> bool:
    """Whether a parser has seen the last boundary; this version has no attribute for it, but closes without a word."""
    import multipart

    assert isinstance(parser, multipart.PushMultipartParser)
    try:
        parser.close()
    except multipart.MultipartError:
        return False
    return True


class _Spool:
    """The content of all files of a form, one behind the other; in memory first, then in an unlinked file.

    Thread-safe for readers: each says where it reads.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._memory = io.BytesIO()
        self._file: io.BytesIO | io.BufferedRandom = self._memory
        self._windows = 0
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Adds content at the end."""
        if self._file is self._memory and self.size + len(data) > self._limit:
            # Only large files pay for the import.
            import tempfile

            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the last window
            self._file.write(self._memory.getvalue())
            self._memory.close()
        self._file.write(data)
        self.size += len(data)

    def read_into(self, buffer: memoryview, position: int) -> int:
        """Reads from a position, up to the end of the buffer."""
        with self._lock:
            self._file.seek(position)
            return self._file.readinto(buffer)

    def open_window(self) -> None:
        """Counts whoever reads."""
        with self._lock:
            self._windows += 1

    def close_window(self) -> None:
        """Closes behind the last reader."""
        with self._lock:
            self._windows -= 1
            last = self._windows == 0
        if last:
            self.close()

    def close(self) -> None:
        """Frees the memory or the descriptor; may be called twice."""
        self._file.close()


class _Window(io.RawIOBase):
    """One file of a spool: seekable, and read-only."""

    def __init__(self, spool: _Spool, start: int, size: int) -> None:
        self.size = size
        self._spool = spool
        self._start = start
        self._position = 0
        spool.open_window()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the beginning")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        left = max(0, self.size - self._position)
        count = self._spool.read_into(view[:left], self._start + self._position) if left else 0
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._spool.close_window()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed upload")


class UploadedFile:
    """A file that came with a form.

    It is closed at the end of the request; `save` what shall stay. False where the user chose no file: browsers send
    such a field without a file name and without content.

    One thread at a time may use it; different files of a form may be read by different threads.
    """

    filename: str
    """As the client sent it, "" if it sent none. Never a path to trust: see `safe_filename`."""

    media_type: str
    """What the client says it is, in lower case and without parameters; "" if it says nothing."""

    headers: Headers
    """The header fields of its part; what is beyond ASCII is as in all of HTTP, one character for each byte."""

    size: int
    """Bytes."""

    file: io.BufferedReader
    """The content: seekable, read-only."""

    def __init__(self, file: io.BufferedReader, *, filename: str, media_type: str, headers: Headers, size: int) -> None:
        self.file = file
        self.filename = filename
        self.media_type = media_type
        self.headers = headers
        self.size = size

    @property
    def safe_filename(self) -> str:
        """The file name without directories, invisible characters, what Windows forbids, and dots or spaces at its
        ends.

        At most 255 bytes of UTF-8, with its extension; `upload` if nothing remains. Two uploads may have the same.
        """
        import unicodedata

        name = unicodedata.normalize("NFC", re.split(r"[/\\]", self.filename)[-1])
        kinds = [(character, unicodedata.category(character)) for character in name]
        name = "".join(" " if kind == "Zs" else character for character, kind in kinds if kind not in _INVISIBLE)
        name = re.sub(r'[<>:"|?*]', "_", name).strip(". ")
        stem, extension = os.path.splitext(name)
        # Names of devices on Windows, whatever their extension.
        if re.fullmatch(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])", stem.partition(".")[0].rstrip()):
            stem = f"_{stem}"
        extension = _cut(extension, _NAME_SIZE // 2)
        return _cut(stem, _NAME_SIZE - len(extension.encode())) + extension or "upload"

    def read(self, size: int = -1) -> bytes:
        """Reads on from where the last read ended.

        Parameters:
            size: bytes; default: the rest.
        """
        return self.file.read(size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole content to a file, which is replaced if it exists.

        Parameters:
            path: where to; do not make it of `filename`.
        """
        position = self.file.tell()
        self.file.seek(0)
        try:
            with open(path, "wb") as target:
                while piece := self.file.read(1024 * 1024):
                    target.write(piece)
        finally:
            self.file.seek(position)

    def close(self) -> None:
        """Frees the content; may be called twice."""
        self.file.close()

    def __bool__(self) -> bool:
        return bool(self.filename or self.size)

    def __repr__(self) -> str:
        return f"<UploadedFile {self.filename!r:.60} ({self.size} bytes)>"


def _cut(text: str, size: int) -> str:
    """The beginning of a text that fits into so many bytes of UTF-8."""
    return text.encode("utf-8", "ignore")[:size].decode("utf-8", "ignore")
