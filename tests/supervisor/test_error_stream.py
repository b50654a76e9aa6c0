"""A standard error that is not read: what is dropped, what stays whole, and that nothing blocks."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from wsgi.supervisor.error_stream import ErrorStream, unblocked_errors

LINE = "x" * 99 + "\n"


def pipe() -> tuple[int, int]:
    return os.pipe()


def sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def terminal() -> tuple[int, int]:
    master, slave = pty.openpty()
    return master, slave


KINDS: dict[str, Callable[[], tuple[int, int]]] = {"pipe": pipe, "socket": sockets, "terminal": terminal}


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A reading end, and a writing one that blocks."""
    reader, writer = KINDS[request.param]()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def read_all(reader: int) -> str:
    """What can be read now."""
    os.set_blocking(reader, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(reader, 65536):
            found += data
    return found.decode().replace("\r\n", "\n")


def fill(stream: ErrorStream) -> int:
    """Writes until nothing is taken any more; gives the number of lines that were."""
    taken = 0
    while not stream._dropped:
        assert stream.write(LINE) == len(LINE)
        taken += 1
        assert taken < 100_000
    return taken - 1


def test_stream_that_is_full_drops_lines_and_says_how_many(ends: tuple[int, int]) -> None:
    reader, writer = ends
    with contextlib.closing(ErrorStream(writer)) as stream:
        taken = fill(stream)
        for _ in range(9):
            stream.write(LINE)
        text = read_all(reader)
        stream.write("again\n")
        text += read_all(reader)
    notice = "WSGIServer: 10 lines were dropped, because standard error was blocked\n"
    assert text == LINE * taken + notice + "again\n"
    # Other processes that share it are not changed.
    assert os.get_blocking(writer)


def test_socket_stays_as_it_is_with_a_default_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = sockets()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5)
    try:
        stream = ErrorStream(writer)
    finally:
        socket.setdefaulttimeout(before)
    assert os.get_blocking(writer)
    assert fill(stream) > 100
    stream.close()
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_text_that_fits_in_part_is_completed_first(ends: tuple[int, int]) -> None:
    reader, writer = ends
    long = "".join(f"{number}\n" for number in range(200_000))
    with contextlib.closing(ErrorStream(writer)) as stream:
        stream.write(long)
        stream.write("lost\n")
        text = read_all(reader)
        for _ in range(1000):
            stream.write("lost\n")
            text += read_all(reader)
            if "dropped" in text:
                break
    assert text.startswith(long + "WSGIServer: ")


def test_stream_without_a_reader_takes_everything() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.closing(ErrorStream(writer)) as stream:
        for _ in range(10_000):
            stream.write(LINE)
    os.close(writer)


def test_stream_escapes_what_it_cannot_encode() -> None:
    reader, writer = os.pipe()
    with contextlib.closing(ErrorStream(writer)) as stream:
        stream.write("\udc80\n")
    os.close(writer)
    assert read_all(reader) == "\\udc80\n"
    os.close(reader)


def test_pipe_that_cannot_be_opened_again_is_written_to_when_it_polls_as_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    reader, writer = os.pipe()
    with monkeypatch.context() as patch:
        patch.setattr("wsgi.supervisor.error_stream.os.open", refuse)
        stream = ErrorStream(writer)
    taken = fill(stream)
    assert taken > 100
    assert read_all(reader) == LINE * taken
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_standard_error_of_another_kind_stays_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    # Captured into a file, which does not block; and then replaced by a stream of the program's own.
    before = sys.stderr
    with unblocked_errors():
        assert sys.stderr is before
