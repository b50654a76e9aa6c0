"""The access log where it cannot be written: lines stay whole and in order, and those that are lost are counted.

Each request has a number in its path, and is the only one on its way: the numbers are in order, and what was written
and what was reported as lost are together what was asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.recording import eventually, get
from tests.support import PATIENCE, Command, RawClient

APPLICATION = """
import os
if os.environ.get("NONBLOCKING"):
    os.set_blocking(1, False)

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="sizes of pipes and limits of others are Linux's")


def path_of(number: int) -> str:
    """The path of a request, which makes a line of some 200 bytes."""
    return f"/{number:06}/{'x' * 190}"


def ask(command: Command, numbers: range) -> None:
    """Sends the requests one after the other."""
    with RawClient(command.address) as client:
        for number in numbers:
            client.send(get(path_of(number)))
            assert client.receive().status == 200


def in_order(text: str, numbers: range) -> None:
    """Fails unless the log's text is the whole lines of these requests."""
    assert text == "".join(f"{path_of(number)}\n" for number in numbers)


def lost(command: Command) -> int:
    """How many lines were reported as lost, by a server that has ended."""
    return sum(
        int(number) for line in command.stderr.seen for number in re.findall(r"(\d+) lines? (?:of|was|were)", line)
    )


def failures(command: Command) -> list[str]:
    """The reports of writes that failed."""
    return [line for line in command.stderr.seen if "cannot be written" in line]


class Pipe:
    """A pipe that holds 4 KiB, as the standard output of a server whose access log goes there."""

    def __init__(self, folder: Path, *, blocks: bool) -> None:
        (folder / "app.py").write_text(APPLICATION)
        os.mkfifo(folder / "pipe")
        self.end = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        start = ("sh", "-c", 'exec "$0" "$@" > pipe', sys.executable, "-m", "wsgi_server")
        arguments = ["app:app", "--access-log", "-", "--access-log-format", "%U"]
        self.command = Command(*arguments, cwd=folder, start=start, env={} if blocks else {"NONBLOCKING": "1"})
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, 4096)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        assert select.select([self.end], [], [], PATIENCE)[0]
        return os.read(self.end, size)

    def rest(self) -> str:
        """All there is until the server has ended."""
        pieces = []
        while piece := self.read(1 << 16):
            pieces.append(piece)
        return b"".join(pieces).decode("ascii")

    def close(self) -> None:
        """Closes the reading end, if it is open."""
        with contextlib.suppress(OSError):
            os.close(self.end)


@pytest.fixture(params=[True, False], ids=["blocking", "non-blocking"])
def pipe(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path, blocks=request.param)
    with pipe.command:
        yield pipe
    pipe.close()


@needs_linux
def test_pipe_whose_reader_is_slow_gets_every_line_in_order(pipe: Pipe) -> None:
    ask(pipe.command, range(300))
    text = b""
    while text.count(b"\n") < 300:
        text += pipe.read(150)
    pipe.command.stop()
    assert pipe.rest() == ""
    in_order(text.decode("ascii"), range(300))
    assert lost(pipe.command) == 0
    assert failures(pipe.command) == []


@needs_linux
def test_pipe_that_is_not_read_holds_no_stop_up_and_its_lost_lines_are_counted(pipe: Pipe) -> None:
    ask(pipe.command, range(100))
    began = time.monotonic()
    assert pipe.command.stop() == 0
    assert time.monotonic() - began < PATIENCE / 2
    text = pipe.rest()
    written = text.count("\n")
    in_order(text, range(written))
    assert 0 < written < 100
    assert written + lost(pipe.command) == 100


@needs_linux
def test_pipe_whose_reader_has_gone_is_reported_once_and_its_lost_lines_are_counted(pipe: Pipe) -> None:
    ask(pipe.command, range(10))
    text = b""
    while text.count(b"\n") < 10:
        text += pipe.read(1 << 16)
    pipe.close()
    # Answered as ever.
    ask(pipe.command, range(10, 30))
    pipe.command.stderr.wait_for("cannot be written")
    ask(pipe.command, range(30, 40))
    assert pipe.command.stop() == 0
    in_order(text.decode("ascii"), range(10))
    (failure,) = failures(pipe.command)
    assert "the access log on standard output cannot be written: Broken pipe" in failure
    assert lost(pipe.command) == 30


def logging_to(folder: Path, path: str) -> Command:
    (folder / "app.py").write_text(APPLICATION)
    return Command("app:app", "--access-log", path, "--access-log-format", "%U", cwd=folder)


@needs_linux
def test_disk_that_is_full_is_reported_once_with_path_and_cause_and_lost_lines_are_counted(tmp_path: Path) -> None:
    with logging_to(tmp_path, "/dev/full") as command:
        ask(command, range(20))
        assert "the access log /dev/full cannot be written: No space left" in command.stderr.wait_for("ERROR")
        ask(command, range(20, 40))
        assert command.stop() == 0
    assert len(failures(command)) == 1
    assert lost(command) == 40


@needs_linux
def test_disk_that_has_room_again_gets_every_line_in_order_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with logging_to(tmp_path, "access.log") as command:
        # In the midst of a line: a write that comes to this takes some of its bytes, and the next one fails.
        full = 10 * len(path_of(0)) + 50
        _, hard = resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (full, hard))
        ask(command, range(30))
        command.stderr.wait_for("the access log access.log cannot be written: File too large")
        assert log.stat().st_size == full
        ask(command, range(30, 60))
        resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert "no line was lost" in command.stderr.wait_for("the access log access.log is written again")
        ask(command, range(60, 70))
        eventually(lambda: log.read_text().count("\n") == 70, "the last line")
        assert command.stop() == 0
    in_order(log.read_text(), range(70))
    assert len(failures(command)) == 1
