"""A standard error that never blocks: a supervisor must reap and restart while the reader of its log does not read."""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["ErrorStream", "unblocked_errors"]

_DESCRIPTOR = 2
# A pipe that polls as writable takes this much (PIPE_BUF of Linux) unless another process writes at that moment.
_PIPE_BYTES = 4096


@contextmanager
def unblocked_errors() -> Iterator[None]:
    """Within it, `sys.stderr` never blocks, if it is the process's standard error and not a file. In a child that is
    forked within it, the former stream comes back at the end of the block too.
    """
    former = sys.stderr
    stream = None
    with suppress(OSError, ValueError, AttributeError):
        if former.fileno() == _DESCRIPTOR and not stat.S_ISREG(os.fstat(_DESCRIPTOR).st_mode):
            former.flush()
            stream = ErrorStream(_DESCRIPTOR)
    if stream is None:
        yield
        return
    sys.stderr = stream
    try:
        yield
    finally:
        if sys.stderr is stream:
            sys.stderr = former
        stream.close()


class ErrorStream(io.TextIOBase):
    """Writes to a descriptor as far as it takes bytes at once. What does not fit is dropped, in whole calls of `write`,
    and the number of dropped lines is written before the next text that fits.

    Parameters:
        descriptor: a pipe, a terminal or a socket; it stays open, and its flags, which other processes share, as they
            are.
    """

    def __init__(self, descriptor: int) -> None:
        self._write, self._close = _writer(descriptor)
        # The rest of a text whose beginning was written.
        self._rest = b""
        self._dropped = 0

    def writable(self) -> bool:
        """Whether it can be written to: it can."""
        return True

    def write(self, text: str, /) -> int:
        """Writes or drops `text`, and gives its length."""
        self._rest = self._rest[self._write_some(self._rest) :]
        data = text.encode("utf-8", "backslashreplace")
        if self._dropped:
            notice = f"WSGIServer: {self._dropped} lines were dropped, because standard error was blocked\n"
            data = notice.encode() + data
        written = 0 if self._rest else self._write_some(data)
        if written:
            self._rest, self._dropped = data[written:], 0
        else:
            self._dropped += text.count("\n")
        return len(text)

    def close(self) -> None:
        """Closes what it has opened itself."""
        if not self.closed:
            super().close()
            self._close()

    def _write_some(self, data: bytes) -> int:
        """Writes as much as is taken at once, and gives the number of bytes."""
        written = 0
        while written < len(data) and (count := self._write(data[written:])):
            written += count
        return written


def _writer(descriptor: int) -> tuple[Callable[[bytes], int], Callable[[], object]]:
    """A function that writes some bytes without blocking and gives their number, and one that closes what it uses."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        blocks = os.get_blocking(descriptor)
        end = socket.socket(fileno=os.dup(descriptor))
        # A default timeout of the program's sockets would have changed what all processes share.
        end.settimeout(None)
        os.set_blocking(descriptor, blocks)
        return _tried(lambda data: end.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)), end.close
    try:
        # An open file of its own, so that not to block is not the other processes' lot too.
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return _tried(lambda data: _write_if_ready(descriptor, data)), lambda: None
    return _tried(lambda data: os.write(own, data)), lambda: os.close(own)


def _tried(write: Callable[[bytes], int]) -> Callable[[bytes], int]:
    def tried(data: bytes) -> int:
        try:
            return write(data)
        except BlockingIOError:
            return 0
        except OSError:
            # There is no reader any more, and none to tell.
            return len(data)

    return tried


def _write_if_ready(descriptor: int, data: bytes) -> int:
    if not select.select([], [descriptor], [], 0)[1]:
        return 0
    return os.write(descriptor, data[:_PIPE_BYTES])
