"""What is too large for memory passes through whole, in both directions."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import client, curl, needs_curl, session
from tests.frameworks.apps import content
from tests.frameworks.conftest import Site
from tests.support import RawClient

SIZE = 50_000_000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 50 MB that no coding makes smaller."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture(scope="module")
def expected(file: Path) -> dict[str, object]:
    """What the application says of that file."""
    return {"size": SIZE, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while block := source.read(content.BLOCK):
            yield block


@needs_curl
def test_upload_by_form_arrives_whole(flask: Site, file: Path, expected: dict[str, object]) -> None:
    answer = curl("--form", "note=large", "--form", f"file=@{file}", f"{flask.address}/upload")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert json.loads(answer.body) == {"note": "large", "filename": "large.bin", **expected}


@needs_curl
def test_upload_of_a_file_arrives_whole(flask: Site, file: Path, expected: dict[str, object]) -> None:
    answer = curl("--upload-file", str(file), f"{flask.address}/raw")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert json.loads(answer.body) == {"length": SIZE, **expected}


def test_upload_in_chunks_arrives_whole(flask: Site, file: Path, expected: dict[str, object]) -> None:
    with session() as http:
        assert http.post(f"{flask.address}/raw", data=blocks(file)).json() == {"length": SIZE, **expected}
        # The connection is in step afterwards.
        assert http.get(f"{flask.address}/new").text == "here now"


def test_upload_from_httpx_arrives_whole(flask: Site, file: Path, expected: dict[str, object]) -> None:
    with client(flask.address) as http, file.open("rb") as source:
        assert http.put("/raw", content=source).json() == {"length": SIZE, **expected}


def test_upload_that_breaks_off_is_not_answered_as_a_whole_one(flask: Site) -> None:
    # RFC 9112 §8: with less than its Content-Length a request is incomplete, and must not be taken for complete.
    with RawClient(flask.address) as http:
        http.send(b"PUT /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x" * 500_000)
        http.end()
        # The application never hears of it.
        http.expect_end()
    with client(flask.address) as other:
        assert other.get("/new").text == "here now"


def test_generator_larger_than_every_buffer_is_streamed_whole(flask: Site) -> None:
    count = 1_000_000
    found, expected = hashlib.sha256(), hashlib.sha256()
    with session() as http, http.get(f"{flask.address}/lines/{count}", stream=True) as answer:
        for piece in answer.iter_content(1 << 20):
            found.update(piece)
    for line in content.lines(count):
        expected.update(line)
    assert found.hexdigest() == expected.hexdigest()
