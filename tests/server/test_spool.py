"""A folder for temporary files that is missing, takes nothing, or is full: the log says so with its path and the cause,
and nothing is cut that could wait in memory."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.recording import CHUNKED, LAST, POST, chunks, get, refused
from tests.support import PATIENCE, Command, RawClient

APP = """
PIECE = b"0123456789abcdef" * 4096

def made():
    for number in range(300):
        yield b"%08d" % number + PIECE

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/made":
        return made()
    return [b"%d" % len(environ["wsgi.input"].read())]
"""
MADE = b"".join(b"%08d" % number + b"0123456789abcdef" * 4096 for number in range(300))

CAUSES = {"missing": "No such file", "closed": "", "full": "No space left"}


@pytest.fixture(params=CAUSES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A folder that cannot be used, and what the system says about it."""
    name: str = request.param
    if name == "missing":
        yield str(tmp_path / "missing"), CAUSES[name]
    elif name == "closed":
        if not Path("/proc/self").is_dir():
            pytest.skip("there is no folder that takes no file of anybody's, root included")
        yield "/proc/self", CAUSES[name]
    else:
        full = tmp_path / "full"
        full.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False, timeout=PATIENCE).returncode:
            pytest.skip("only root may mount a file system that is full")
        try:
            (full / "file").write_bytes(bytes(4096))
            yield str(full), CAUSES[name]
        finally:
            subprocess.run(["umount", str(full)], check=True, timeout=PATIENCE)


@contextlib.contextmanager
def serving(directory: Path, folder: str, *options: str) -> Iterator[Command]:
    (directory / "app.py").write_text(APP)
    with Command("app:app", *options, cwd=directory, env={"TMPDIR": folder}) as server:
        yield server


def test_unusable_folder_is_told_at_start(folder: tuple[str, str], tmp_path: Path) -> None:
    path, cause = folder
    with serving(tmp_path, path) as server:
        server.stop()
    (line,) = [line for line in server.stderr.seen if "temporary files" in line]
    assert f"WARNING cannot write temporary files in {path}: {cause}" in line
    assert "TMPDIR" in line


def test_usable_folder_is_no_news(tmp_path: Path) -> None:
    with serving(tmp_path, str(tmp_path)) as server:
        server.stop()
    assert not [line for line in server.stderr.seen if "temporary" in line]


def test_body_that_no_file_takes_is_refused_with_a_line_and_smaller_ones_are_served(
    folder: tuple[str, str], tmp_path: Path
) -> None:
    path, cause = folder
    with serving(tmp_path, path, "--body-buffer", "1000") as server:
        for _ in range(3):
            with RawClient(server.address) as client:
                client.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
                refused(client, 500)
        with RawClient(server.address) as client:
            client.send(POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000)
            assert client.receive("POST").body == b"60000"
        server.stop()
    lines = [line for line in server.stderr.seen if " ERROR " in line]
    # Three times the same trouble: one line.
    assert len(lines) == 1
    assert f"cannot write temporary files in {path}: {cause}" in lines[0]


def test_chunked_body_stays_in_memory_where_no_file_can_be_made(tmp_path: Path) -> None:
    with (
        serving(tmp_path, str(tmp_path / "missing"), "--body-buffer", "1000") as server,
        RawClient(server.address) as client,
    ):
        client.send(CHUNKED + chunks(b"x" * 40_000, b"y" * 20_000))
        assert client.receive("POST").body == b"60000"


def test_response_to_a_client_that_pauses_is_not_cut(folder: tuple[str, str], tmp_path: Path) -> None:
    path, cause = folder
    with (
        serving(tmp_path, path, "--threads", "1") as server,
        RawClient(server.address) as slow,
        RawClient(server.address) as other,
    ):
        slow.send(get("/made"))
        assert select.select([slow.socket], [], [], PATIENCE)[0]
        other.send(LAST)
        # Time is the subject: a client whose thread others need would have five seconds.
        threading.Event().wait(6)
        assert slow.receive().body == MADE
        assert other.receive().body == b"0"
        server.stop()
    assert any(f" ERROR cannot write temporary files in {path}: {cause}" in line for line in server.stderr.seen)
