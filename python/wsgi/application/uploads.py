"""Uploaded files, and the storage of their content during a request."""

from __future__ import annotations

import io
import os
import re
import threading
from typing import TYPE_CHECKING

from wsgi.application.headers import Headers

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Spool", "UploadedFile", "Window"]

# Control and format characters, surrogates, what has no meaning yet, separators of lines and paragraphs.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# What most file systems take, in bytes.
_NAME_SIZE = 255


class Spool:
    """The content of all files of a form, one after the other; in memory first, then in an unlinked file.

    Thread-safe for readers: each passes its position.
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
        """Counts a reader."""
        with self._lock:
            self._windows += 1

    def close_window(self) -> None:
        """Closes after the last reader."""
        with self._lock:
            self._windows -= 1
            last = self._windows == 0
        if last:
            self.close()

    def close(self) -> None:
        """Frees the memory or the descriptor; may be called twice."""
        self._file.close()


class Window(io.RawIOBase):
    """One file of a spool: seekable, and read-only."""

    def __init__(self, spool: Spool, start: int, size: int) -> None:
        self.size = size
        self._spool = spool
        self._start = start
        self._position = 0
        spool.open_window()

    def readable(self) -> bool:
        """As in `io.IOBase`, like the following methods."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Sets the position."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the beginning")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        self._check_open()
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads from the position on."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        left = max(0, self.size - self._position)
        count = self._spool.read_into(view[:left], self._start + self._position) if left else 0
        self._position += count
        return count

    def close(self) -> None:
        """Releases the spool."""
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
    """The media type sent by the client, in lower case without parameters; "" if there is none."""

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
        """Reads from the end of the last read on.

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
