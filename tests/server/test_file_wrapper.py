"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): the bytes are those that reading the file
would give, from where it stands, whether the kernel sends them or not.
"""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.server.recording import (
    FAILED,
    FAILED_TEXT,
    GET,
    HEAD,
    LAST,
    LAST_ANSWER,
    App,
    Environ,
    Followed,
    Start,
    chunks,
    descriptors,
    eventually,
    everything,
    expected,
    get,
    talk,
)
from tests.support import PATIENCE, RawClient, serve

CONTENT = bytes(range(256)) * 400
OK = b"200 OK"


class Closes:
    """Counts the calls of a file's close()."""

    def __init__(self, file: Any) -> None:
        self.count = 0
        self._close = file.close
        file.close = self

    def __call__(self) -> None:
        self.count += 1
        self._close()


class Counted(io.FileIO):
    """A regular file that counts."""

    closes = 0

    def close(self) -> None:
        self.closes += 1
        super().close()


def sends(file: Any, *headers: tuple[str, str], block_size: int | None = None) -> App:
    """An application that returns `file` wrapped."""

    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", list(headers))
        wrapper = environ["wsgi.file_wrapper"]
        return wrapper(file) if block_size is None else wrapper(file, block_size)

    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with `CONTENT`."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def seek(file: IO[bytes], offset: int) -> IO[bytes]:
    file.seek(offset)
    return file


def read(file: IO[bytes], size: int) -> IO[bytes]:
    file.read(size)
    return file


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


# -- Regular files: the length is known, and what is sent begins at the file's position --------------------------------

# What the application makes of the path, and where the file then stands.
STANDS: dict[str, tuple[Callable[[Path], Any], int]] = {
    "buffered": (lambda path: path.open("rb"), 0),
    "unbuffered": (lambda path: path.open("rb", buffering=0), 0),
    "for-update": (lambda path: path.open("r+b"), 0),
    "low-level": (io.FileIO, 0),
    "after-seek": (lambda path: seek(path.open("rb"), 1000), 1000),
    # Buffering has taken more from the file than was read.
    "after-read": (lambda path: read(path.open("rb"), 10), 10),
    "after-unbuffered-read": (lambda path: read(path.open("rb", buffering=0), 10), 10),
    "after-readline": (lambda path: read(path.open("rb"), CONTENT.index(b"\n") + 1), CONTENT.index(b"\n") + 1),
    "at-its-end": (lambda path: seek(path.open("rb"), len(CONTENT)), len(CONTENT)),
    "past-its-end": (lambda path: seek(path.open("rb"), len(CONTENT) + 5), len(CONTENT)),
    "before-its-last-byte": (lambda path: seek(path.open("rb"), len(CONTENT) - 1), len(CONTENT) - 1),
}


@pytest.mark.parametrize("name", STANDS)
def test_regular_file_is_sent_from_its_position(name: str, path: Path) -> None:
    make, offset = STANDS[name]
    file = make(path)
    closes = Closes(file) if isinstance(file, io.BufferedReader) else None
    with serve(Followed(sends(file))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    rest = CONTENT[offset:]
    assert raw == expected(OK, framing=length(len(rest)), body=rest) + LAST_ANSWER
    assert file.closed
    assert closes is None or closes.count == 1


def test_temporary_file_that_was_written_is_sent_whole() -> None:
    # What still lies in the writer's buffer belongs to the file.
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
    file.write(CONTENT)
    file.seek(0)
    file.write(b"begun")
    file.seek(0)
    with serve(sends(file)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == b"begun" + CONTENT[5:]


def test_named_temporary_file_is_sent(path: Path) -> None:
    # Not a file but a proxy of one.
    with tempfile.NamedTemporaryFile() as file, serve(sends(file)) as server:
        file.write(CONTENT)
        file.seek(3)
        with RawClient(server.addresses[0]) as client:
            client.send(GET + b"\r\n")
            assert client.receive().body == CONTENT[3:]


@pytest.mark.parametrize("size", [100, len(CONTENT) * 2])
def test_spooled_temporary_file_is_sent(size: int) -> None:
    # In memory first, in a file once it is larger.
    file = tempfile.SpooledTemporaryFile(max_size=len(CONTENT))  # noqa: SIM115 - the server closes it
    file.write(b"x" * size)
    file.seek(1)
    with serve(sends(file)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == b"x" * (size - 1)


# -- Lengths that the application announces ----------------------------------------------------------------------------


def test_length_of_the_file_announced_is_sent(path: Path) -> None:
    app = Followed(sends(path.open("rb"), ("Content-Length", str(len(CONTENT)))))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(len(CONTENT)), body=CONTENT) + LAST_ANSWER


def test_length_below_the_file_ends_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A range of a file: PEP 3333 has the transmission continue "until Content-Length bytes have been written".
    file = Counted(path)
    file.seek(100)
    app = Followed(sends(file, ("Content-Length", "50"), ("Content-Range", "bytes 100-149/102400")))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == (
        expected(OK, b"Content-Range: bytes 100-149/102400", framing=length(50), body=CONTENT[100:150]) + LAST_ANSWER
    )
    assert file.closes == 1
    assert not caplog.records


@pytest.mark.parametrize("kind", ["memory", "larger-reads"])
def test_length_below_what_reading_gives_ends_it(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    file = Generous(CONTENT) if kind == "larger-reads" else io.BytesIO(CONTENT)
    app = Followed(sends(file, ("Content-Length", "10000")))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(10_000), body=CONTENT[:10_000]) + LAST_ANSWER
    assert not caplog.records


class Generous:
    """Gives more than it is asked for."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(size + 3000)


def test_length_of_a_pipe_is_all_that_is_read(caplog: pytest.LogCaptureFixture) -> None:
    # Reading further would wait for what the other end has not written.
    readable, writable = os.pipe()
    try:
        os.write(writable, CONTENT[:20_000])
        file = open(readable, "rb")  # noqa: SIM115 - the server closes it
        with serve(Followed(sends(file, ("Content-Length", "20000")))) as server:
            raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
        assert raw == expected(OK, framing=length(20_000), body=CONTENT[:20_000]) + LAST_ANSWER
    finally:
        os.close(writable)
    assert not caplog.records


def test_length_of_an_endless_device_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    file = open("/dev/zero", "rb")  # noqa: SIM115 - the server closes it
    with serve(Followed(sends(file, ("Content-Length", "100000")))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(100_000), body=bytes(100_000)) + LAST_ANSWER
    assert not caplog.records


# Files whose size is not that of their content, and which have no more of it than what they say here.
LYING = {
    "sysfs": "/sys/kernel/mm/transparent_hugepage/enabled",
    "sysfs-other": "/sys/devices/system/cpu/online",
    "procfs": "/proc/self/cmdline",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the pseudo file systems are Linux's")
@pytest.mark.parametrize("name", LYING)
def test_file_whose_size_lies_is_read(name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = Path(LYING[name])
    if not path.exists():
        pytest.skip(f"this machine has no {path}")
    content = path.read_bytes()
    with serve(Followed(sends(path.open("rb")))) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == content
        client.send(LAST)
        assert everything(client) == LAST_ANSWER
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="the pseudo file systems are Linux's")
def test_size_that_lies_and_was_announced_breaks_off_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    path = Path(LYING["sysfs-other"])
    if not path.exists():
        pytest.skip(f"this machine has no {path}")
    size = path.stat().st_size
    with serve(sends(path.open("rb"), ("Content-Length", str(size)))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    content = path.read_bytes()
    assert raw == expected(OK, framing=length(size), body=content)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"GET /e: its content is {size - len(content)} bytes shorter" in record.getMessage()


def test_sparse_file_is_sent_whole(path: Path) -> None:
    # It has no block, as files whose size lies, but every byte.
    path.write_bytes(b"")
    os.truncate(path, 100_000)
    with serve(Followed(sends(path.open("rb")))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(100_000), body=bytes(100_000)) + LAST_ANSWER


def test_file_opened_for_appending_is_sent_from_its_position(path: Path) -> None:
    file = path.open("a+b")
    file.write(b"more")
    file.seek(1000)
    with serve(Followed(sends(file))) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == CONTENT[1000:] + b"more"


def test_length_above_the_file_breaks_off(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = Counted(path)
    app = Followed(sends(file, ("Content-Length", str(len(CONTENT) + 1))))
    with serve(app) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=length(len(CONTENT) + 1), body=CONTENT)
    assert app.reached == 0
    assert file.closes == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wsgi.server", logging.ERROR)


# -- Requests and statuses without content -----------------------------------------------------------------------------


@dataclass
class Bodiless:
    request: bytes
    status: str
    headers: list[tuple[str, str]]
    framing: bytes | None


BODILESS = {
    "head": Bodiless(HEAD, "200 OK", [], length(len(CONTENT))),
    "head-with-length": Bodiless(HEAD, "200 OK", [("Content-Length", "50")], length(50)),
    "304": Bodiless(GET, "304 Not Modified", [], None),
    "304-with-length": Bodiless(GET, "304 Not Modified", [("Content-Length", "50")], length(50)),
    "204": Bodiless(GET, "204 No Content", [("Content-Length", "50")], None),
}


@pytest.mark.parametrize("name", BODILESS)
def test_response_without_content_closes_the_file(name: str, path: Path) -> None:
    row = BODILESS[name]
    file = Counted(path)

    def app(environ: Environ, start_response: Start) -> Any:
        start_response(row.status, row.headers)
        return environ["wsgi.file_wrapper"](file)

    with serve(Followed(app)) as server:
        raw = talk(server.addresses[0], row.request + b"\r\n" + LAST)
    assert raw == expected(row.status.encode(), framing=row.framing) + LAST_ANSWER
    assert file.closes == 1


def test_file_to_http10_has_its_length(path: Path) -> None:
    with serve(sends(path.open("rb"))) as server:
        raw = talk(server.addresses[0], b"GET /e HTTP/1.0\r\n\r\n")
    assert raw == expected(OK, framing=length(len(CONTENT)), close=True, body=CONTENT)


# -- What the kernel cannot send is read -------------------------------------------------------------------------------


class ReadOnly:
    """An object with `read` and nothing else, which PEP 3333 is content with."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.sizes: list[int] = []

    def read(self, size: int) -> bytes:
        self.sizes.append(size)
        return self._file.read(size)


class Upper:
    """Hands on everything of a file but changes what is read, as a decrypting proxy does."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size).upper()


class UpperFile(io.FileIO):
    """A regular file by its type, whose `read` is another."""

    def read(self, size: int | None = -1, /) -> bytes:
        return (super().read(-1 if size is None else size) or b"").upper()


class Limited(io.BufferedReader):
    """A file that ends early for its readers, as one that serves a range does."""

    left = 10

    def read(self, size: int | None = -1, /) -> bytes:
        size = self.left if size is None or size < 0 else min(size, self.left)
        self.left -= size
        return super().read(size)


def compressed(path: Path, module: Any) -> Any:
    path.write_bytes(module.compress(b"decompressed " * 1000))
    return module.open(path, "rb")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# What the application makes of a path, and what reading it gives.
READ: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "bytes-io": (lambda path: io.BytesIO(CONTENT), CONTENT),
    "bytes-io-mid-way": (lambda path: seek(io.BytesIO(CONTENT), 1000), CONTENT[1000:]),
    "read-only": (lambda path: ReadOnly(CONTENT), CONTENT),
    # They have a descriptor and a position, but neither is that of what they read.
    "gzip": (lambda path: compressed(path, gzip), b"decompressed " * 1000),
    "bz2": (lambda path: compressed(path, bz2), b"decompressed " * 1000),
    "proxy-that-changes": (lambda path: Upper(written(path, b"abc").open("rb")), b"ABC"),
    "subclass-that-changes": (lambda path: UpperFile(written(path, b"abc")), b"ABC"),
    "subclass-that-ends-early": (lambda path: Limited(io.FileIO(path)), CONTENT[:10]),
    "buffered-above-gzip": (lambda path: io.BufferedReader(compressed(path, gzip)), b"decompressed " * 1000),
}


@pytest.mark.parametrize("name", READ)
def test_file_is_what_reading_it_gives(name: str, path: Path) -> None:
    # PEP 3333: "the semantics of returning a file wrapper from the application should be the same as if the application
    # had returned iter(filelike.read, '')".
    make, content = READ[name]
    with serve(Followed(sends(make(path)))) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == content
        client.send(LAST)
        assert everything(client) == LAST_ANSWER


def test_block_size_is_that_of_each_read() -> None:
    file = ReadOnly(b"hello")
    with serve(Followed(sends(file, block_size=2))) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == expected(OK, framing=b"Transfer-Encoding: chunked", body=chunks(b"he", b"ll", b"o")) + LAST_ANSWER
    assert set(file.sizes) == {2}


def test_block_size_0_is_refused() -> None:
    caught: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            environ["wsgi.file_wrapper"](io.BytesIO(), 0)
        except ValueError as error:
            caught.append(error)
        start_response("200 OK", [])
        return []

    with serve(app) as server:
        talk(server.addresses[0], LAST)
    assert len(caught) == 1


def test_pipe_is_read_to_its_end() -> None:
    # It has a descriptor, but neither a position nor a length.
    readable, writable = os.pipe()
    file = open(readable, "rb")  # noqa: SIM115 - the server closes it
    with serve(Followed(sends(file))) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        with open(writable, "wb") as end:
            end.write(CONTENT)
        assert client.receive().body == CONTENT
        client.send(LAST)
        assert everything(client) == LAST_ANSWER
    assert file.closed


def test_socket_file_is_read_to_its_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, serve(sends(ours.makefile("rb"))) as server, RawClient(server.addresses[0]) as client:
        theirs.sendall(CONTENT)
        theirs.shutdown(socket.SHUT_WR)
        client.send(GET + b"\r\n")
        assert client.receive().body == CONTENT


def test_directory_descriptor_is_a_failure_of_the_application(tmp_path: Path) -> None:
    class Directory:
        def fileno(self) -> int:
            return descriptor

        def tell(self) -> int:
            return 0

        def read(self, size: int) -> bytes:
            return os.read(descriptor, size)

    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with serve(Followed(sends(Directory()))) as server:
            assert talk(server.addresses[0], GET + b"\r\n" + LAST) == FAILED + FAILED_TEXT
            assert talk(server.addresses[0], LAST) == LAST_ANSWER
    finally:
        os.close(descriptor)


def closed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        return file


MISTAKES: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: written(path, b"text").open(),
    "text-in-memory": lambda path: io.StringIO("text"),
    "closed": closed,
    "not-a-file": lambda path: 5,
    "write-only": lambda path: path.open("wb"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_file_that_gives_no_bytes_is_500(name: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = MISTAKES[name](path)
    with serve(sends(file)) as server:
        raw = talk(server.addresses[0], GET + b"\r\n" + LAST)
    assert raw == FAILED + FAILED_TEXT
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert getattr(file, "closed", True)


# -- Middleware --------------------------------------------------------------------------------------------------------


def test_wrapper_inside_middleware_is_iterated_and_closed_once(path: Path) -> None:
    file = Counted(path)

    class Shouting:
        def __init__(self, content: Any) -> None:
            self.content = content

        def __iter__(self) -> Iterator[bytes]:
            return (block.upper() for block in self.content)

        def close(self) -> None:
            self.content.close()

    def app(environ: Environ, start_response: Start) -> Any:
        return Shouting(sends(file)(environ, start_response))

    with serve(Followed(app)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == CONTENT.upper()
    assert file.closes == 1


def test_wrapper_that_was_begun_is_sent_from_there(path: Path) -> None:
    def app(environ: Environ, start_response: Start) -> Any:
        wrapper = sends(path.open("rb"), block_size=10)(environ, start_response)
        next(wrapper)
        return wrapper

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == CONTENT[10:]


def test_wrapper_after_write_follows_it(path: Path) -> None:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [])(b"first ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    with serve(Followed(app)) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert client.receive().body == b"first " + CONTENT
        client.send(LAST)
        assert everything(client) == LAST_ANSWER


def test_wrapper_of_another_request_is_taken(path: Path) -> None:
    # An application may keep the class, as frameworks do at import.
    kept: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Any:
        kept.append(environ["wsgi.file_wrapper"])
        start_response("200 OK", [])
        return kept[0](path.open("rb"))

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        for _ in range(2):
            client.send(GET + b"\r\n")
            assert client.receive().body == CONTENT


# -- Large files, slow readers -----------------------------------------------------------------------------------------

LARGE = 50 * 1000 * 1000


def large(path: Path) -> Path:
    """A file of which every block of 8 bytes tells its place, and which is larger than any socket's buffer."""
    block = b"".join(b"%07d\n" % number for number in range(LARGE // 80))
    with path.open("wb") as file:
        for _ in range(10):
            file.write(block)
    return path


def test_large_file_to_a_slow_reader_holds_no_thread(path: Path) -> None:
    large(path)
    file = Counted(path)
    sent = sends(file)

    def app(environ: Environ, start_response: Start) -> Any:
        if environ["PATH_INFO"] == "/e":
            return sent(environ, start_response)
        start_response("200 OK", [])
        return [b"other"]

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as slow:
        slow.send(GET + b"\r\n")
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += slow.socket.recv(1000)
        del received[: received.index(b"\r\n\r\n") + 4]
        # The application is done with the file although hardly a byte of it was read.
        eventually(lambda: file.closes == 1, "close() while the client still reads")
        while len(received) < LARGE:
            slowly = len(received) < 2_000_000
            if slowly:
                # Between two reads of the slow client another is served, by the only thread there is.
                with RawClient(server.addresses[0]) as other:
                    other.send(get("/other"))
                    assert other.receive().body == b"other"
            piece = slow.socket.recv(100_000 if slowly else 1 << 20)
            assert piece
            received += piece
        assert received == path.read_bytes()
        slow.send(get("/other"))
        assert slow.receive().body == b"other"
    assert file.closes == 1


def test_file_truncated_during_the_send_ends_short_and_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    large(path)
    file = Counted(path)
    app = Followed(sends(file))
    with serve(app) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(GET + b"\r\n" + LAST)
            assert client.socket.recv(1)
            eventually(lambda: file.closes == 1, "close()")
            os.truncate(path, 0)
            size = 0
            while piece := client.socket.recv(1 << 20):
                size += len(piece)
        # It announced more, so that the client knows, and nothing else stands where content should be.
        assert size < LARGE
        assert app.reached == 0
        eventually(lambda: bool(caplog.records), "the line in the log")
        assert talk(server.addresses[0], LAST) == LAST_ANSWER
    assert file.closes == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wsgi.server", logging.ERROR)
    assert record.getMessage().startswith("the response to GET /e was cut off: its file ended ")


def test_file_that_grows_during_the_send_ends_where_it_was(path: Path) -> None:
    large(path)
    app = Followed(sends(path.open("rb")))
    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n" + LAST)
        assert client.socket.recv(1, socket.MSG_PEEK)
        with path.open("ab") as file:
            file.write(b"more")
        response, last = client.responses("GET", "GET")
    assert response["Content-Length"] == str(LARGE)
    assert len(response.body) == LARGE
    assert last.body == b"last"


def test_client_gone_during_the_send_lets_the_file_go(path: Path) -> None:
    large(path)
    file = Counted(path)
    before = descriptors()
    with serve(sends(file), threads=1) as server:
        started = descriptors()
        with RawClient(server.addresses[0]) as client:
            client.send(GET + b"\r\n")
            assert client.socket.recv(1)
            eventually(lambda: file.closes == 1, "close()")
        eventually(lambda: descriptors() < started, "the end of the server's own descriptor of the file")
    eventually(lambda: descriptors() < before, "the end of every descriptor")


def test_many_files_at_once_are_not_mixed_up(tmp_path: Path) -> None:
    paths = [written(tmp_path / str(number), b"%04d" % number * 50_000) for number in range(8)]

    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](paths[int(environ["PATH_INFO"][1:])].open("rb"))

    def check(number: int) -> None:
        with RawClient(server.addresses[0]) as client:
            # Pipelined, so that files of one connection follow each other.
            order = [(number + step) % 8 for step in range(8)]
            client.send(b"".join(get(f"/{other}") for other in order))
            for other in order:
                assert client.receive().body == paths[other].read_bytes()
        done.append(number)

    done: list[int] = []
    with serve(app) as server:
        threads = [threading.Thread(target=check, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(done) == list(range(8))
