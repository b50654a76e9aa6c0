"""Forms: urlencoded (WHATWG URL §5) and multipart (RFC 7578), with their files.

Whatever a client sends here ends in a form or in an answer below 500, and everything has a bound: the whole form, its
parts, its text, the fields of a part. Files of up to `Limits.spool` bytes together stay in memory; beyond that they
share one unlinked temporary file, so that a form costs one descriptor, however many files it has.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from wsgi.application.charsets import codec_of
from wsgi.application.errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from wsgi.application.headers import Headers, parse_options
from wsgi.application.multidict import MultiDict
from wsgi.application.uploads import Spool, UploadedFile, Window
from wsgi.application.urlencoded import split_pairs

if TYPE_CHECKING:
    from multipart import MultipartSegment  # type: ignore[import-untyped]

    from wsgi.application.limits import Limits

__all__ = ["read_form"]

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# RFC 2046 §5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]").fullmatch

# RFC 7578 §4.8 defines three fields of a part; some clients send a few more. A field has a name or a file name.
_PART_FIELDS = 8
_PART_FIELD_SIZE = 4096
# Each field of a part has one parameter or two; a file name may hold semicolons of its own.
_PART_SEMICOLONS = 16

# RFC 2045 §6: those that change nothing. RFC 7578 §4.7: no others are sent.
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})

_CHUNK = 64 * 1024


class Stream(Protocol):
    """The source of a body; `read` may return less than requested, and returns nothing only at the end."""

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
        ContentTooLarge: a limit is exceeded; the detail names it.
    """
    media_type, options = parse_options(content_type)
    if media_type == URLENCODED:
        return MultiDict(_read_urlencoded(stream, options, content_length, limits)), MultiDict()
    if media_type == MULTIPART:
        return _read_multipart(stream, options, content_length, limits)
    arrived = f"not {media_type!r:.100}" if media_type else "but there is no Content-Type"
    raise UnsupportedMediaType(f"the content must be a form, {URLENCODED} or {MULTIPART}, {arrived}")


def _codec(charset: str) -> str:
    return codec_of(charset, "the form")


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
    pairs = split_pairs(data, "the form")
    for name, value in pairs:
        # WHATWG HTML §4.10.5.1.1: the name of the encoding that the browser chose.
        if name == b"_charset_" and value:
            codec = _codec(_decoded(value, "ascii", "the field '_charset_'"))
            break
    try:
        return [(name.decode(codec), value.decode(codec)) for name, value in pairs]
    except UnicodeDecodeError:
        text = [(_decoded(name, codec, "the name of a field"), value) for name, value in pairs]
        return [(name, _decoded(value, codec, f"the field {_shown(name)}")) for name, value in text]


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
        self.spool: Spool | None = None
        self.parts = 0
        self.kept = 0
        self.texts: list[_Part] = []
        self.uploads: list[tuple[str, UploadedFile]] = []

    def read(self, chunks: Iterator[bytes], boundary: str) -> None:
        """Parses the form."""
        # Imported only for such forms.
        import multipart

        class Parser(multipart.PushMultipartParser):  # type: ignore[misc]
            """Parses the fields of a part only if that is little work."""

            def _create_segment(self, headerlist: list[tuple[str, str]]) -> MultipartSegment:
                if any(value.count(";") > _PART_SEMICOLONS for _, value in headerlist):
                    raise ContentTooLarge(
                        f"a header field of a part of the form has more than {_PART_SEMICOLONS} semicolons"
                    )
                return super()._create_segment(headerlist)

        parser = Parser(
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
                # RFC 2046 §5.1.1: the epilogue is ignored; many clients end with a line break.
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
            self.spool = Spool(self.limits.spool)
        self.spool.append(data)

    def _end(self, part: _Part) -> None:
        if part.filename is None:
            part.pieces = [b"".join(part.pieces)]
            self.texts.append(part)
            return
        if self.spool is None:
            self.spool = Spool(self.limits.spool)
        window = Window(self.spool, part.start, self.spool.size - part.start)
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
            # RFC 7578 §4.6: the encoding of parts without one of their own.
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
    """Whether a parser has seen the last boundary; this version has no attribute for it, but closes silently."""
    import multipart

    assert isinstance(parser, multipart.PushMultipartParser)
    try:
        parser.close()
    except multipart.MultipartError:
        return False
    return True
