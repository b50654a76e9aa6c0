"""Slow clients beside others, and requests of the largest kind: nobody waits for a client that takes its time.

`tests/attacks` has many such clients at once; here each of them is looked at closely.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.recording import (
    CHUNKED,
    GET,
    LAST,
    POST,
    STREAMING,
    Environ,
    Gate,
    Recorder,
    Start,
    answer,
    eventually,
    get,
    refused,
)
from tests.support import RawClient, serve
from wsgi.errors import ClientDisconnected

PIECE = b"0123456789abcdef" * 4096


def is_served(address: str) -> bool:
    """Whether a new client gets its answer."""
    with RawClient(address) as client:
        client.send(LAST)
        (response,) = client.responses("GET")
        return response.status == 200


# -- Uploads -----------------------------------------------------------------------------------------------------------

UPLOADS = {
    "length": (POST + b"Content-Length: 300000\r\n\r\n", b"x" * 300_000),
    "expectation": (POST + b"Content-Length: 300000\r\nExpect: 100-continue\r\n\r\n", b"x" * 300_000),
    "chunked": (CHUNKED, b"493e0\r\n" + b"x" * 300_000 + b"\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("buffer", [65_536, 0], ids=["memory", "file"])
@pytest.mark.parametrize("name", UPLOADS)
def test_upload_that_takes_its_time_holds_no_thread(name: str, buffer: int) -> None:
    head, content = UPLOADS[name]
    recorder = Recorder()
    with serve(recorder, threads=1, body_buffer=buffer) as server, RawClient(server.addresses[0]) as slow:
        slow.send(head)
        for at in range(0, len(content), 100_000):
            slow.send(content[at : at + 100_000])
            assert is_served(server.addresses[0])
        assert len(slow.receive("POST").body) == len(b"POST /e ") + 300_000


def test_uploads_in_files_share_a_bound_and_give_it_back(caplog: pytest.LogCaptureFixture) -> None:
    # 128,000 bytes of one body may stay in memory.
    with serve(Recorder(), max_spool_size=250_000, body_buffer=1000) as server:
        address = server.addresses[0]
        with RawClient(address) as first, RawClient(address) as second:
            first.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 199_999)
            for _ in range(2):
                with RawClient(address) as late:
                    late.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
                    response = late.receive("POST")
                    assert (response.status, response["Retry-After"]) == (503, "1")
                    assert response["Connection"] == "close"
            # What fits into memory needs no file.
            second.send(POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000)
            assert second.receive("POST").status == 200
            first.send(b"x")
            assert first.receive("POST").status == 200
            second.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
            assert second.receive("POST").status == 200
    # The first refusal at once, all others with their number, at the stop at the latest.
    assert [record.getMessage() for record in caplog.records] == [
        "1 request refused with 503: the request bodies in temporary files are at their bound"
    ] * 2


def is_answered(client: RawClient, *others: tuple[RawClient, bytes]) -> bool:
    """Whether an answer comes while `others` send bytes, with less than the slack between two of them."""
    for _ in range(200):
        if select.select([client.socket], [], [], 0.1)[0]:
            return True
        for other, sent in others:
            with contextlib.suppress(OSError):
                other.send(sent)
    return False


# What fills the budget of temporary files, or of memory where there are none, and what it is filled with.
BUDGETS: dict[str, tuple[dict[str, Any], int]] = {
    "bytes": ({"max_spool_size": 450_000, "body_buffer": 1000}, 200_000),
    "memory": ({"max_spool_size": 0, "body_buffer": 1000}, 127_000),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_uploads_that_fill_the_budget_and_stall_lose_it_to_a_newcomer(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    options, size = BUDGETS[name]
    with serve(Recorder(), **options) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(20)]
        for client in slow:
            client.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * (size - 100))
        for _ in range(100):
            with RawClient(server.addresses[0]) as newcomer:
                newcomer.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
                status = newcomer.receive("POST").status
                if status == 200:
                    break
                assert status == 503
            # Each of them sends a byte now and then: its start was fast, and this is not.
            for client in slow:
                with contextlib.suppress(OSError):
                    client.send(b"x")
            select.select([], [], [], 0.1)
        assert status == 200
    assert any("closed to free temporary files for others" in record.getMessage() for record in caplog.records)


def test_upload_that_lost_its_room_is_told(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"max_spool_size": 250_000, "body_buffer": 1000}
    with serve(Recorder(), **options) as server, RawClient(server.addresses[0]) as slow:
        slow.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 199_999)
        for _ in range(100):
            with RawClient(server.addresses[0]) as newcomer:
                newcomer.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
                if newcomer.receive("POST").status == 200:
                    break
            select.select([slow.socket], [], [], 0.1)
        refused(slow, 408)
    messages = [record.getMessage() for record in caplog.records]
    assert (
        "1 slow connection closed to free temporary files for others; raise max_spool_size, or the limit of open files"
        in messages
    )


STREAMED: dict[str, tuple[bytes, bytes]] = {
    "length": (POST + b"Content-Length: 900000\r\n\r\n" + b"x" * 200_000, b"x"),
    "chunked": (CHUNKED, b"1\r\nx\r\n"),
    "expectation": (POST + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", b""),
}


class Reading:
    """Reads the body of a POST; counts what was raised."""

    def __init__(self) -> None:
        self.begun = 0
        self.raised: list[BaseException] = []

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            self.begun += 1
            try:
                environ["wsgi.input"].read()
            except BaseException as error:
                self.raised.append(error)
                raise
        return answer(start_response)


@pytest.mark.parametrize("scarce", ["connection", "thread"])
@pytest.mark.parametrize("name", STREAMED)
def test_slow_bodies_that_the_application_reads_make_room_for_others(
    name: str, scarce: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, again = STREAMED[name]
    # A quarter of the threads read what clients were asked for, and one to seven.
    count = 2 if scarce == "connection" else 3
    options = {**STREAMING, "stream_chunked": True, "threads": 8 if scarce == "connection" else 3}
    if scarce == "connection":
        options["max_connections"] = count
    app = Reading()
    with serve(app, **options) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(count)]
        for client in slow:
            client.send(first)
        eventually(lambda: app.begun == count, "all are read")
        newcomer = stack.enter_context(RawClient(server.addresses[0]))
        newcomer.send(GET + b"\r\n")
        assert is_answered(newcomer, *((client, again) for client in slow))
        assert newcomer.receive().status == 200
        eventually(lambda: len(app.raised) == 1, "the application learns of it")
        assert isinstance(app.raised[0], ClientDisconnected)
    messages = [record.getMessage() for record in caplog.records]
    why = {
        "connection": "make room for new ones; raise max",
        "thread": "free threads for waiting requests; raise threads",
    }
    assert any(message.startswith(f"1 slow connection closed to {why[scarce]}") for message in messages), messages


def test_upload_in_a_million_chunks_is_whole() -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return answer(start_response, b"%d" % len(environ["wsgi.input"].read()))

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED)
        for _ in range(100):
            client.send(b"1\r\nx\r\n" * 10_000)
        client.send(b"0\r\n\r\n")
        assert client.receive("POST").body == b"1000000"


def test_lines_without_end_cost_one_refusal() -> None:
    with serve(Recorder()) as server, RawClient(server.addresses[0]) as client:
        client.send(*[b"\r\n" * 10_000] * 100)
        refused(client, 400)


# -- Downloads ---------------------------------------------------------------------------------------------------------


class Making:
    """Makes `count` pieces of content, one after the other, for `/made`; others are answered at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.closed = threading.Event()

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/made":
            return answer(start_response)
        start_response("200 OK", [])
        return self.make()

    def make(self) -> Iterator[bytes]:
        try:
            for number in range(self.count):
                self.made += 1
                yield b"%08d" % number + PIECE
        finally:
            self.closed.set()

    @property
    def content(self) -> bytes:
        return b"".join(b"%08d" % number + PIECE for number in range(self.count))


REQUESTS = {"chunked": get("/made"), "until-close": b"GET /made HTTP/1.0\r\n\r\n"}


@pytest.mark.parametrize("name", REQUESTS)
def test_download_in_pieces_to_a_slow_reader_frees_its_thread_when_others_need_it(name: str) -> None:
    app = Making(count=300)
    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as slow:
        slow.send(REQUESTS[name])
        # It waits for its client, because nobody else is there.
        eventually(lambda: app.made > 0, "the first piece")
        assert not app.closed.is_set()
        assert is_served(server.addresses[0])
        assert app.made == app.count
        response = slow.receive()
        assert response.body == app.content


def test_download_in_a_file_that_is_not_read_loses_it_to_an_upload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, log = Making(count=300), tmp_path / "access"
    options = {"access_log": log, "access_log_format": "%U %s %X %{reason}x", "max_spool_size": 20_000_000}
    with serve(app, threads=1, **options) as server, RawClient(server.addresses[0]) as slow:
        slow.send(get("/made"))
        eventually(lambda: app.made > 0, "the first piece")
        # It goes on into a file for the sake of this one.
        assert is_served(server.addresses[0])
        assert app.closed.is_set()
        for _ in range(100):
            with RawClient(server.addresses[0]) as newcomer:
                newcomer.send(POST + b"Content-Length: 9000000\r\n\r\n" + b"x" * 9_000_000)
                status = newcomer.receive("POST").status
                if status == 200:
                    break
                assert status == 503
            select.select([], [], [], 0.1)
        assert status == 200
        with contextlib.suppress(ConnectionResetError):
            while slow.socket.recv(1 << 20):
                pass
    assert "/made 200 X closed for another request, as the temporary files were at their bound" in log.read_text()
    assert any("1 slow connection closed to free temporary files" in record.getMessage() for record in caplog.records)


def test_download_in_pieces_beyond_the_bound_of_files_must_be_quick_when_others_need_its_thread() -> None:
    app = Making(count=300)
    with serve(app, threads=1, max_spool_size=0) as server, RawClient(server.addresses[0]) as slow:
        slow.send(get("/made"))
        eventually(lambda: app.made > 0, "the first piece")
        # Nobody is served before the slow one is given up, long before its write timeout.
        assert is_served(server.addresses[0])
        assert app.closed.is_set()
        assert app.made < app.count
        with contextlib.suppress(ConnectionResetError):
            received = 0
            while piece := slow.socket.recv(1 << 20):
                received += len(piece)
            assert received < app.count * len(PIECE)


def test_download_in_pieces_waits_for_its_client_while_nobody_needs_its_thread() -> None:
    app = Making(count=300)
    gate: Any = Gate()

    def either(environ: Environ, start_response: Start) -> Iterable[bytes]:
        chosen = gate if environ["PATH_INFO"].startswith("/slow") else app
        return chosen(environ, start_response)

    with serve(either, threads=2) as server, RawClient(server.addresses[0]) as slow:
        slow.send(get("/made"))
        eventually(lambda: app.made > 0, "the first piece")
        with RawClient(server.addresses[0]) as other:
            other.send(get("/slow", "Connection: close"))
            gate.wait_for_one()
            # Both threads have something to do, and nothing waits in line.
            assert not app.closed.wait(0.3)
            gate.opened.set()
            other.responses("GET")
        assert not app.closed.is_set()
        assert slow.receive().body == app.content


def test_keep_alive_of_others_outlives_a_crowd_of_newcomers() -> None:
    with serve(Recorder(), max_connections=3) as server, contextlib.ExitStack() as stack:
        kept, *_ = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(10)]
        # Whoever asks in good time keeps the place that the silent ones lose.
        for _ in range(20):
            kept.send(GET + b"\r\n")
            assert kept.receive().status == 200
