"""Limits of size, time and number, and clients that leave: what one client does costs that client, and nobody else.

Where the passing of time is the subject, the option is short and the test blocks on what the option brings about, so
that a slow machine makes it slower and not wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.recording import (
    CHUNKED,
    GET,
    LAST,
    NEXT,
    POST,
    STREAMING,
    Environ,
    Gate,
    Recorder,
    Start,
    answer,
    descriptors,
    eventually,
    everything,
    get,
    refused,
    reset,
)
from tests.support import PATIENCE, Command, RawClient, serve
from wsgi.errors import BodyTimeout, ClientDisconnected

SHORT = 0.2
"""Seconds of a timeout that a test waits for."""


def is_served(address: str) -> bool:
    """Whether a new client gets its answer."""
    with RawClient(address) as client:
        client.send(LAST)
        (response,) = client.responses("GET")
        return response.status == 200


# -- Sizes: what is one below the limit and at it is taken, one above is refused ---------------------------------------


def request_line_of(size: int) -> bytes:
    return b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (size - len(b"GET / HTTP/1.1")))


def fields_of(count: int) -> bytes:
    return GET + b"X: 1\r\n" * (count - 1) + b"\r\n"


def header_of(size: int) -> bytes:
    """A header section of `size` bytes, from behind the request line to the empty line that ends it."""
    frame = len(b"Host: a\r\nX: \r\n\r\n")
    return GET + b"X: %s\r\n\r\n" % (b"x" * (size - frame))


def body_of(size: int) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size


def chunked_body_of(size: int) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces(size)) + b"0\r\n\r\n"


def pieces(size: int) -> Iterator[bytes]:
    for at in range(0, size, 7):
        yield b"x" * min(7, size - at)


def one_chunk_of(size: int) -> bytes:
    return CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)


def trailers_of(count: int) -> bytes:
    return CHUNKED + b"0\r\n" + b"X: 1\r\n" * count + b"\r\n"


def trailer_section_of(size: int) -> bytes:
    return CHUNKED + b"0\r\nX: %s\r\n\r\n" % (b"x" * (size - len(b"X: \r\n\r\n")))


# What is measured, the option that limits it, other options, the limit, and the status above it (RFC 6585 §5,
# RFC 9110 §15.5.14 and §15.5.15).
SIZES: dict[str, tuple[Callable[[int], bytes], str, dict[str, Any], int, int]] = {
    "request-line": (request_line_of, "max_request_line", {}, 100, 414),
    "request-line-default": (request_line_of, "max_request_line", {}, 8190, 414),
    "fields": (fields_of, "max_header_fields", {}, 7, 431),
    "fields-default": (fields_of, "max_header_fields", {}, 100, 431),
    "header": (header_of, "max_header_size", {}, 500, 431),
    "header-default": (header_of, "max_header_size", {}, 65_536, 431),
    "body": (body_of, "max_body_size", {}, 1000, 413),
    "body-in-file": (body_of, "max_body_size", {"body_buffer": 0}, 1000, 413),
    "body-streamed": (body_of, "max_body_size", STREAMING, 1000, 413),
    "chunked": (chunked_body_of, "max_body_size", {}, 1000, 413),
    "chunked-in-file": (chunked_body_of, "max_body_size", {"body_buffer": 0}, 1000, 413),
    "chunked-streamed": (chunked_body_of, "max_body_size", {"stream_chunked": True}, 1000, 413),
    "one-chunk": (one_chunk_of, "max_body_size", {}, 1000, 413),
    "trailers": (trailers_of, "max_header_fields", {}, 7, 431),
    "trailer-section": (trailer_section_of, "max_header_size", {}, 500, 431),
}


@pytest.mark.parametrize("name", SIZES)
def test_size_up_to_its_limit_is_taken_and_above_refused(name: str) -> None:
    make, option, options, limit, status = SIZES[name]
    recorder = Recorder()
    with serve(recorder, **{option: limit}, **options) as server:
        for size in (limit - 1, limit):
            with RawClient(server.addresses[0]) as client:
                client.send(make(size) + LAST)
                found = client.responses("GET", "GET")
                assert [response.status for response in found] == [200, 200]
        with RawClient(server.addresses[0]) as client:
            recorder.calls.clear()
            client.send(make(limit + 1) + NEXT)
            refused(client, status)
        assert recorder.calls == []


def test_body_size_limit_of_0_takes_requests_without_content() -> None:
    recorder = Recorder()
    with serve(recorder, max_body_size=0) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n" + POST + b"Content-Length: 0\r\n\r\n" + CHUNKED + b"0\r\n\r\n")
        for method in ("GET", "POST", "POST"):
            assert client.receive(method).status == 200
        client.send(POST + b"Content-Length: 1\r\n\r\nx")
        refused(client, 413)
    assert len(recorder.calls) == 3


# Sent again and again until the refusal comes: it must come before the end, which never does.
ENDLESS: dict[str, tuple[bytes, bytes, int]] = {
    "method": (b"", b"A" * 1000, 414),
    "target": (b"GET /", b"x" * 1000, 414),
    "field-name": (GET, b"X" * 1000, 431),
    "field-value": (GET + b"X: ", b"x" * 1000, 431),
    "fields": (GET, b"X: 1\r\n" * 10, 431),
    "empty-fields": (GET, b"X:\r\n" * 10, 431),
    "chunk-size": (CHUNKED, b"0" * 1000, 400),
    "chunk-extension": (CHUNKED + b"1;", b"x" * 1000, 413),
    "chunk-extensions": (CHUNKED, b"1;%s\r\nx\r\n" % (b"x" * 100), 413),
    "chunked-content": (CHUNKED, b"100\r\n%s\r\n" % (b"x" * 256), 413),
    "trailers": (CHUNKED + b"0\r\n", b"X: 1\r\n" * 10, 431),
    "trailer": (CHUNKED + b"0\r\nX: ", b"x" * 1000, 431),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_request_without_end_is_refused_before_its_end(name: str) -> None:
    start, more, status = ENDLESS[name]
    recorder = Recorder()
    with serve(recorder, max_body_size=100_000) as server, RawClient(server.addresses[0]) as client:
        client.send(start)
        for _ in range(5000):
            client.send(more)
            if select.select([client.socket], [], [], 0)[0]:
                break
        refused(client, status)
    assert recorder.calls == []


# -- Content over its limit while the client still sends ---------------------------------------------------------------


def test_content_over_its_limit_is_refused_before_a_byte_of_it() -> None:
    recorder = Recorder()
    with serve(recorder, max_body_size=1000) as server, RawClient(server.addresses[0]) as client:
        client.send(POST + b"Content-Length: 1001\r\n\r\n")
        refused(client, 413)
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (POST + b"Content-Length: 20000000\r\n\r\n", b"x" * 100_000),
        (CHUNKED, b"186a0\r\n" + b"x" * 100_000 + b"\r\n"),
    ],
    ids=["length", "chunked"],
)
def test_content_over_its_limit_is_refused_to_a_client_that_sends_on(start: bytes, more: bytes) -> None:
    # RFC 9112 §9.6: the refusal must be read, and not be destroyed by a reset that answers the rest of the content.
    with serve(Recorder(), max_body_size=1_000_000) as server, RawClient(server.addresses[0]) as client:
        client.send(start)
        for _ in range(200):
            client.send(more)
        refused(client, 413)


# -- Time: heads -------------------------------------------------------------------------------------------------------


# An empty line before a request is skipped (RFC 9112 §2.2), and does not begin one.
@pytest.mark.parametrize("start", [b"", b"\r\n"])
def test_head_that_never_begins_ends_the_connection_silently(start: bytes) -> None:
    with serve(Recorder(), header_timeout=SHORT) as server, RawClient(server.addresses[0]) as client:
        client.send(start)
        client.expect_end()


@pytest.mark.parametrize("start", [b"G", GET, GET + b"X: 1\r", b"\r\nG"])
def test_head_that_stops_is_refused(start: bytes) -> None:
    recorder = Recorder()
    with serve(recorder, header_timeout=SHORT) as server, RawClient(server.addresses[0]) as client:
        client.send(start)
        refused(client, 408)
    assert recorder.calls == []


def trickle(client: RawClient, endless: bytes, pause: float) -> None:
    """Sends byte after byte until something comes back."""
    # Time is the subject: each byte comes before any timeout that counts from the last one.
    for at in range(100_000):
        client.send(endless[at % len(endless) :][:1])
        if select.select([client.socket], [], [], pause)[0]:
            return
    raise AssertionError("nothing ever came back")


def test_head_that_trickles_is_refused_at_the_deadline_of_the_whole() -> None:
    # A timeout for each read would be renewed by every byte (slowloris).
    recorder = Recorder()
    with serve(recorder, header_timeout=0.5) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        trickle(client, b"X: 1\r\n", pause=0.05)
        refused(client, 408)
    assert recorder.calls == []


def test_head_of_a_later_request_has_a_deadline_of_its_own() -> None:
    with serve(Recorder(), header_timeout=SHORT) as server, RawClient(server.addresses[0]) as client:
        for _ in range(3):
            client.send(GET + b"\r\n")
            assert client.receive().status == 200
        client.send(b"GET ")
        refused(client, 408)


def test_pipelined_head_that_stops_is_refused_after_the_answer() -> None:
    with serve(Recorder(), header_timeout=SHORT) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\nGET /half")
        assert client.receive().status == 200
        refused(client, 408)


def test_slow_head_leaves_others_alone() -> None:
    with serve(Recorder(), threads=1, header_timeout=SHORT) as server:
        slow = [RawClient(server.addresses[0]) for _ in range(50)]
        try:
            for client in slow:
                client.send(b"GET / HT")
            assert is_served(server.addresses[0])
            for client in slow:
                refused(client, 408)
            assert is_served(server.addresses[0])
        finally:
            for client in slow:
                client.socket.close()


# -- Time: bodies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [POST + b"Content-Length: 10\r\n\r\n", CHUNKED + b"a\r\n"], ids=["length", "chunked"])
@pytest.mark.parametrize("begun", [b"", b"hello"])
def test_body_that_stops_is_refused(begun: bytes, start: bytes) -> None:
    # RFC 9110 §15.5.9.
    recorder = Recorder()
    with serve(recorder, body_timeout=SHORT) as server, RawClient(server.addresses[0]) as client:
        client.send(start + begun)
        refused(client, 408)
    assert recorder.calls == []


@pytest.mark.parametrize(
    "start", [POST + b"Content-Length: 60000\r\n\r\n", CHUNKED + b"ea60\r\n"], ids=["length", "chunked"]
)
def test_body_slower_than_the_minimum_rate_is_refused(start: bytes) -> None:
    # Each byte comes in time for body_timeout; all of them together are too slow.
    recorder = Recorder()
    with serve(recorder, body_timeout=0.5, body_min_rate=1000) as server, RawClient(server.addresses[0]) as client:
        client.send(start)
        trickle(client, b"x", pause=0.05)
        refused(client, 408)
    assert recorder.calls == []


def test_body_minimum_rate_of_0_allows_any() -> None:
    recorder = Recorder()
    with serve(recorder, body_timeout=0.5, body_min_rate=0) as server, RawClient(server.addresses[0]) as client:
        client.send(POST + b"Content-Length: 16\r\n\r\n")
        # Time is the subject: all together takes longer than any silence may.
        for _ in range(15):
            client.send(b"x")
            assert not select.select([client.socket], [], [], 0.06)[0]
        client.send(b"x")
        assert client.receive("POST").status == 200


STREAMED: dict[str, tuple[dict[str, Any], bytes]] = {
    "length": (STREAMING, POST + b"Content-Length: 60000\r\n\r\n"),
    "chunked": ({"stream_chunked": True}, CHUNKED + b"ea60\r\n"),
}


class Catching:
    """Reads its body and keeps what that raises."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.caught: list[BaseException] = []
        self.over = threading.Event()

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return answer(start_response)
        try:
            while environ["wsgi.input"].read(1):
                pass
        except Exception as error:
            self.caught.append(error)
            if not self.answers:
                raise
        finally:
            self.over.set()
        return answer(start_response, b"in spite of it")


@pytest.mark.parametrize("trickles", [False, True], ids=["stops", "trickles"])
@pytest.mark.parametrize("kind", STREAMED)
def test_streamed_body_too_slow_raises_in_the_application_and_is_refused(
    kind: str, trickles: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options, start = STREAMED[kind]
    app = Catching(answers=False)
    with serve(app, body_timeout=SHORT, body_min_rate=10_000, threads=2, **options) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(start + b"hello")
            if trickles:
                trickle(client, b"x", pause=0.05)
            refused(client, 408)
        assert is_served(server.addresses[0])
    (error,) = app.caught
    assert isinstance(error, BodyTimeout)
    assert isinstance(error, TimeoutError)
    # The client's doing, and no news for the application's log.
    assert not caplog.records


@pytest.mark.parametrize("kind", STREAMED)
def test_streamed_body_too_slow_lets_the_application_answer(kind: str) -> None:
    options, start = STREAMED[kind]
    app = Catching(answers=True)
    with serve(app, body_timeout=SHORT, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(start + b"hello")
        (response,) = client.responses("POST")
    assert (response.status, response.body) == (200, b"in spite of it")
    assert response["Connection"] == "close"


def test_streamed_body_that_the_application_asks_for_late_is_not_late() -> None:
    # A client that waits for 100 Continue cannot be slow before it gets it.
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        # Time is the subject: longer than the body may be silent.
        threading.Event().wait(3 * SHORT)
        return answer(start_response, environ["wsgi.input"].read())

    with (
        serve(app, body_timeout=SHORT, **STREAMING) as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.receive("POST").body == b"hello"


def test_streamed_body_is_not_late_by_the_time_the_application_took() -> None:
    # A client that answers to what it is sent is silent while the application works, which is not its doing.
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        for _ in range(2):
            piece = environ["wsgi.input"].read(5)
            # Time is the subject: longer than the body may be silent.
            threading.Event().wait(3 * SHORT)
            yield piece

    with (
        serve(app, body_timeout=SHORT, **STREAMING) as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(POST + b"Content-Length: 10\r\n\r\nhello")
        received = b""
        while not received.endswith(b"\r\n\r\nhello"):
            piece = client.socket.recv(4096)
            assert piece
            received += piece
        client.send(b"world")
        assert client.socket.recv(10) == b"world"


def test_slow_streamed_body_leaves_others_alone() -> None:
    app = Catching(answers=False)
    with (
        serve(app, threads=2, body_timeout=1, **STREAMING) as server,
        RawClient(server.addresses[0]) as slow,
    ):
        slow.send(STREAMED["length"][1])
        for _ in range(10):
            assert is_served(server.addresses[0])
        refused(slow, 408)


# -- Time: responses ---------------------------------------------------------------------------------------------------

BLOCK = b"x" * 1_000_000


class Large:
    """50 MB in one of several ways; counts what was closed."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.closed = threading.Event()

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/large":
            return answer(start_response, b"small")
        start_response("200 OK", [("Content-Length", str(50 * len(BLOCK)))])
        return {"bytes": [BLOCK * 50], "list": [BLOCK] * 50, "generator": self.generate()}[self.way]

    def generate(self) -> Iterator[bytes]:
        try:
            for _ in range(50):
                yield BLOCK
        finally:
            self.closed.set()


@pytest.mark.parametrize("way", ["bytes", "list"])
def test_response_of_50_mb_to_a_slow_reader_holds_no_thread(way: str) -> None:
    with serve(Large(way), threads=1) as server, RawClient(server.addresses[0]) as slow:
        slow.send(get("/large"))
        for size in (1, 1000, 100_000):
            assert slow.socket.recv(size, socket.MSG_PEEK)
            # Served by the only thread, while most of the large response is still to be sent.
            assert is_served(server.addresses[0])
        response = slow.receive()
        assert response.body == BLOCK * 50


@pytest.mark.parametrize("way", ["bytes", "list", "generator"])
def test_response_that_nobody_reads_ends_and_frees_the_thread(way: str) -> None:
    app = Large(way)
    with serve(app, threads=1, write_timeout=SHORT) as server:
        before = descriptors()
        with RawClient(server.addresses[0]) as client:
            client.send(get("/large"))
            assert client.socket.recv(1, socket.MSG_PEEK)
            assert is_served(server.addresses[0])
            # The client's own is left.
            eventually(lambda: descriptors() <= before + 1, "the end of the connection")
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while piece := client.socket.recv(1 << 20):
                    received += len(piece)
        assert received < 50 * len(BLOCK)
    assert way != "generator" or app.closed.is_set()


def test_response_to_http10_that_is_given_up_does_not_look_whole() -> None:
    # RFC 9112 §8: only the end of the connection ends this content, so the end of one that was cut must be another.
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        # Less than an application has to wait for, so that it is done while most of it is still to be sent.
        yield b"x" * 900_000

    with serve(app, write_timeout=SHORT) as server:
        with socket.socket(fileno=os.dup(server.fileno())) as listener:
            # Connections inherit it: the kernel takes little of the response.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
        before = descriptors()
        with RawClient(server.addresses[0]) as client:
            client.send(b"GET /e HTTP/1.0\r\n\r\n")
            assert client.socket.recv(1, socket.MSG_PEEK)
            eventually(lambda: descriptors() <= before + 1, "the end of the connection")
            with pytest.raises(ConnectionResetError):
                everything(client)


def test_response_that_is_read_slowly_but_steadily_is_whole() -> None:
    # The timeout is for silence, not for the whole.
    size = 6_000_000

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return answer(start_response, b"x" * size)

    with serve(app, write_timeout=1) as server, RawClient(server.addresses[0]) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        client.send(LAST)
        received = 0
        pause = threading.Event()
        while piece := client.socket.recv(200_000):
            received += len(piece)
            # Time is the subject: all together takes longer than the timeout.
            pause.wait(0.05)
        assert received > size


# -- Time: keep-alive --------------------------------------------------------------------------------------------------


def test_keep_alive_that_is_not_used_ends_silently() -> None:
    with serve(Recorder(), keep_alive=SHORT) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        assert "Connection" not in client.receive()
        # No 408: a request that crosses it on the way must not meet an answer that is not its own.
        client.expect_end()


def test_keep_alive_begins_anew_with_each_response() -> None:
    with serve(Recorder(), keep_alive=0.5) as server, RawClient(server.addresses[0]) as client:
        # Time is the subject: together longer than the timeout.
        for _ in range(6):
            client.send(GET + b"\r\n")
            client.receive()
            assert not select.select([client.socket], [], [], 0.15)[0]
        client.expect_end()


def test_keep_alive_is_not_counted_while_the_application_works() -> None:
    gate = Gate()
    with serve(gate, keep_alive=SHORT, header_timeout=SHORT) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n")
        client.receive()
        client.send(get("/slow"))
        gate.wait_for_one()
        # Time is the subject.
        assert not select.select([client.socket], [], [], 3 * SHORT)[0]
        gate.opened.set()
        assert client.receive().body == b"/slow"


def test_keep_alive_of_0_closes_after_each_response() -> None:
    recorder = Recorder()
    with serve(recorder, keep_alive=0) as server, RawClient(server.addresses[0]) as client:
        client.send(GET + b"\r\n" + NEXT)
        (response,) = client.responses("GET")
    assert response["Connection"] == "close"
    assert recorder.paths == ["/e"]


def test_keep_alive_of_0_closes_towards_http10_too() -> None:
    with serve(Recorder(), keep_alive=0) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        (response,) = client.responses("GET")
    assert response["Connection"] == "close"


# -- Memory ------------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
@pytest.mark.parametrize("kind", ["length", "chunked", "chunked-streamed"])
def test_large_body_is_never_in_memory_as_a_whole(kind: str) -> None:
    count, piece = 100, b"x" * 1_000_000
    grown: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        size = 0
        grown.append(resident())
        while block := environ["wsgi.input"].read(65_536):
            size += len(block)
        grown.append(resident())
        return answer(start_response, b"%d" % size)

    with serve(app, stream_chunked=kind == "chunked-streamed") as server, RawClient(server.addresses[0]) as client:
        before = resident()
        if kind == "length":
            client.send(POST + b"Content-Length: %d\r\n\r\n" % (count * len(piece)))
        else:
            client.send(CHUNKED)
        for _ in range(count):
            client.send(piece if kind == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
        if kind != "length":
            client.send(b"0\r\n\r\n")
        assert client.receive("POST").body == b"%d" % (count * len(piece))
    # A fifth of it, for what else goes on in this process.
    assert max(grown) - before < count * len(piece) / 5


# -- Clients that leave ------------------------------------------------------------------------------------------------

LEAVINGS: dict[str, Callable[[RawClient], None]] = {
    "fin": lambda client: client.socket.close(),
    "reset": reset,
}


class Working:
    """An application that has begun, waits until the client is gone, and goes on with `finish`."""

    def __init__(self, content: Callable[[], Iterable[bytes]]) -> None:
        self.content = content
        self.inside = threading.Event()
        self.gone = threading.Event()
        self.completed = threading.Event()
        self.closed = threading.Event()

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/last":
            return answer(start_response)
        self.inside.set()
        assert self.gone.wait(PATIENCE)
        eventually(environ["wsgi.client_disconnected"], "the client's leaving")
        start_response("200 OK", [])
        self.completed.set()
        return Content(self.content(), self.closed)


class Content:
    def __init__(self, items: Iterable[bytes], closed: threading.Event) -> None:
        self.items = items
        self.closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.items)

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


CONTENTS: dict[str, Callable[[], Iterable[bytes]]] = {
    "nothing": list,
    "small": lambda: [b"hello"],
    "large": lambda: [BLOCK] * 20,
    "pieces": lambda: (b"x" * 1000 for _ in range(20_000)),
}


@pytest.mark.parametrize("leaves", LEAVINGS)
@pytest.mark.parametrize("content", CONTENTS)
def test_client_gone_while_the_application_works_lets_it_complete(
    content: str, leaves: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Working(CONTENTS[content])
    with serve(app, threads=1) as server:
        client = RawClient(server.addresses[0])
        client.send(get("/work"))
        assert app.inside.wait(PATIENCE)
        LEAVINGS[leaves](client)
        app.gone.set()
        assert app.completed.wait(PATIENCE)
        assert app.closed.wait(PATIENCE)
        assert is_served(server.addresses[0])
    # A client that leaves is nobody's error.
    assert not caplog.records


@pytest.mark.parametrize("leaves", LEAVINGS)
@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HT", GET, POST + b"Content-Length: 10\r\n\r\nhello", CHUNKED + b"5\r\nhel"],
    ids=["silent", "line", "fields", "body", "chunk"],
)
def test_client_gone_before_its_request_is_complete_is_quiet(
    start: bytes, leaves: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    with serve(recorder) as server:
        for _ in range(20):
            client = RawClient(server.addresses[0])
            client.send(start)
            LEAVINGS[leaves](client)
        assert is_served(server.addresses[0])
    assert recorder.paths == ["/last"]
    assert not caplog.records


@pytest.mark.parametrize("leaves", LEAVINGS)
@pytest.mark.parametrize("kind", STREAMED)
def test_client_gone_mid_upload_raises_in_the_application(
    kind: str, leaves: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    options, start = STREAMED[kind]
    app = Catching(answers=False)
    log = tmp_path / "access"
    with serve(app, threads=1, access_log=log, access_log_format="%>s %X %m", **options) as server:
        client = RawClient(server.addresses[0])
        client.send(start + b"hello")
        LEAVINGS[leaves](client)
        assert app.over.wait(PATIENCE)
        assert is_served(server.addresses[0])
    # A reset may overtake the head itself; where the application saw the request it saw the end of it, too.
    assert [type(error) for error in app.caught] == [ClientDisconnected]
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("the client left before its body was complete at POST ")
    assert "499 X POST" in log.read_text().splitlines()


def nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return []


def no_pieces(environ: Environ, start_response: Start) -> Iterable[bytes]:
    yield from ()


def content_without_a_start(environ: Environ, start_response: Start) -> Iterable[bytes]:
    yield b"x"


def its_own_error(environ: Environ, start_response: Start) -> Iterable[bytes]:
    raise ClientDisconnected("as the environ says")


def an_error_of_its_own_kind(environ: Environ, start_response: Start) -> Iterable[bytes]:
    class ClientDisconnect(Exception):
        pass

    raise ClientDisconnect


@pytest.mark.parametrize("leaves", LEAVINGS)
@pytest.mark.parametrize("then", [nothing, no_pieces, content_without_a_start, its_own_error, an_error_of_its_own_kind])
def test_application_that_knows_that_its_client_is_gone_owes_no_response(
    then: Callable[[Environ, Start], Iterable[bytes]], leaves: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    begun, over = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/last":
            return answer(start_response)
        begun.set()
        eventually(environ["wsgi.client_disconnected"], "the client's leaving")
        over.set()
        return then(environ, start_response)

    log = tmp_path / "access"
    with serve(app, threads=1, access_log=log, access_log_format="%>s %X %B %U") as server:
        client = RawClient(server.addresses[0])
        client.send(get("/work"))
        assert begun.wait(PATIENCE)
        LEAVINGS[leaves](client)
        assert over.wait(PATIENCE)
        assert is_served(server.addresses[0])
    assert log.read_text().splitlines()[0] == "499 X 0 /work"
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert told == [(logging.INFO, "the client left before its response began at GET /work")]


def test_error_of_an_application_that_knows_that_its_client_is_gone_is_told(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    begun, over = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/last":
            return answer(start_response)
        begun.set()
        eventually(environ["wsgi.client_disconnected"], "the client's leaving")
        over.set()
        raise ValueError("while it tidied up")

    log = tmp_path / "access"
    with serve(app, threads=1, access_log=log, access_log_format="%>s %X") as server:
        client = RawClient(server.addresses[0])
        client.send(get("/work"))
        assert begun.wait(PATIENCE)
        client.socket.close()
        assert over.wait(PATIENCE)
        assert is_served(server.addresses[0])
    assert log.read_text().splitlines()[0] == "499 X"
    assert "the application failed at GET /work" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("leaves", LEAVINGS)
def test_client_gone_in_the_middle_of_a_response_lets_the_thread_go(leaves: str) -> None:
    app = Large("generator")
    with serve(app, threads=1) as server:
        client = RawClient(server.addresses[0])
        client.send(get("/large"))
        assert client.socket.recv(1)
        LEAVINGS[leaves](client)
        # Long before the write timeout of a minute.
        assert app.closed.wait(PATIENCE)
        assert is_served(server.addresses[0])


# -- Numbers -----------------------------------------------------------------------------------------------------------


def test_connections_at_their_limit_make_room_by_an_idle_one() -> None:
    with serve(Recorder(), max_connections=2) as server:
        first, second, third = (RawClient(server.addresses[0]) for _ in range(3))
        for client in (first, second, third):
            client.send(GET + b"\r\n")
            # The third would wait for ever if idle connections counted like others.
            assert client.receive().status == 200
        ended = select.select([first.socket, second.socket], [], [], PATIENCE)[0]
        # One was enough.
        assert len(ended) == 1
        for client in (first, second, third):
            if client.socket in ended:
                client.expect_end()
            else:
                client.send(LAST)
                client.responses("GET")
            client.socket.close()


def test_connections_at_their_limit_wait_for_a_busy_one() -> None:
    gate = Gate()
    with serve(gate, max_connections=2, threads=4) as server:
        address = server.addresses[0]
        with RawClient(address) as first, RawClient(address) as second:
            for client in (first, second):
                client.send(get("/slow", "Connection: close"))
                gate.wait_for_one()
            with RawClient(address) as third:
                third.send(LAST)
                # Time is the subject: nobody in the application is closed for the sake of a newcomer.
                assert not select.select([third.socket], [], [], SHORT)[0]
                assert gate.paths == ["/slow", "/slow"]
                gate.opened.set()
                for client in (first, second):
                    assert [response.body for response in client.responses("GET")] == [b"/slow"]
                assert [response.body for response in third.responses("GET")] == [b"/last"]


# Whatever holds a place and does not get on: the newcomer is served while it is still there, long before its timeout.
HOLDING: dict[str, bytes] = {
    "silence": b"",
    "head": GET,
    "refusal": b"BAD\r\n\r\n",
    "body": POST + b"Content-Length: 100000\r\n\r\n",
    "chunked": CHUNKED,
    "response": get("/large"),
}


@pytest.mark.parametrize("name", HOLDING)
def test_connections_that_hold_every_place_make_room_for_a_newcomer(name: str) -> None:
    with serve(Large("bytes"), max_connections=3) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(RawClient(server.addresses[0]))
            client.send(HOLDING[name])
        assert is_served(server.addresses[0])


def test_client_that_keeps_up_is_not_closed_for_a_newcomer() -> None:
    with serve(Recorder(), max_connections=2) as server, RawClient(server.addresses[0]) as quick:
        quick.send(POST + b"Content-Length: 3000000\r\n\r\n")
        with RawClient(server.addresses[0]) as silent:
            for _ in range(29):
                quick.send(b"x" * 100_000)
            # The silent one has to go, although the other came first.
            assert is_served(server.addresses[0])
            silent.expect_end()
        quick.send(b"x" * 100_000)
        assert len(quick.receive("POST").body) > 3_000_000


DESCRIPTORS = """
import os, resource, time
from wsgi.server import WSGIServer

def app(environ, start_response):
    if environ["PATH_INFO"] == "/lower":
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    while environ["PATH_INFO"] == "/wait" and not os.path.exists("go"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

WSGIServer(port=0, app=app, threads=2).run()
"""

needs_linux_descriptors = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors as Linux does")


@needs_linux_descriptors
def test_descriptors_used_up_are_waited_for_and_reported_once(tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(DESCRIPTORS)
    clients: list[RawClient] = []
    with Command(cwd=tmp_path, start=(sys.executable, "few.py")) as server, contextlib.ExitStack() as stack:
        with RawClient(server.address) as client:
            # Only now: the server shares out what it has when it starts.
            client.send(get("/lower", "Connection: close"))
            client.responses("GET")
        for _ in range(60):
            client = stack.enter_context(RawClient(server.address))
            # In the application or in line for it: none of these can be closed to make room.
            client.send(get("/wait"))
            clients.append(client)
        assert "cannot accept connections" in server.stderr.wait_for("ERROR")
        # Time is the subject: a server that tries again and again would use a processor up meanwhile.
        before = processor_time(server.process.pid)
        threading.Event().wait(0.5)
        assert processor_time(server.process.pid) - before <= 20
        (tmp_path / "go").touch()
        # Those that are in are served as ever, and now that they are idle so are the others.
        for client in clients:
            assert client.receive().body == b"ok"
    assert len([line for line in server.stderr.seen if "cannot accept connections" in line]) == 1


@needs_linux_descriptors
def test_connections_leave_descriptors_to_the_application(tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(DESCRIPTORS)
    start = ("sh", "-c", 'ulimit -n 40 && exec "$@"', "sh", sys.executable, "few.py")
    with Command(cwd=tmp_path, start=start) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)) for _ in range(60)]
        for client in clients:
            client.send(get("/wait"))
        assert "cannot accept connections: all 25 are busy" in server.stderr.wait_for("WARNING")
        used = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        assert used < 40
        (tmp_path / "go").touch()
        for client in clients:
            assert client.receive().body == b"ok"


def processor_time(pid: int) -> int:
    """What a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


# -- One client and the others -----------------------------------------------------------------------------------------


def test_clients_that_err_never_affect_another() -> None:
    recorder = Recorder()
    wrong: list[bytes] = [
        b"\0" * 100,
        b"GET / HTTP/1.1\n\n",
        b"\x16\x03\x01\x02\x00",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"g\r\n",
        b"A" * 10_000,
        GET + b"X" * 70_000,
        POST + b"Content-Length: 100000\r\n\r\nx",
        get("/left"),
    ]
    stop = threading.Event()

    def err(number: int) -> None:
        for turn in range(40):
            client = RawClient(server.addresses[0])
            with contextlib.suppress(ConnectionError):
                client.send(wrong[(number + turn) % len(wrong)])
            LEAVINGS["reset" if turn % 2 else "fin"](client)

    with serve(recorder, threads=4) as server, RawClient(server.addresses[0]) as good:
        threads = [threading.Thread(target=err, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for turn in range(200):
            good.send(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n" % turn, b"%04d" % turn)
            assert good.receive("POST").body == b"POST /%d %04d" % (turn, turn)
        for thread in threads:
            thread.join(PATIENCE)
        stop.set()
        assert is_served(server.addresses[0])


# -- Refused at construction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_request_line", 0),
        ("max_header_fields", 0),
        ("max_header_size", -1),
        ("header_timeout", 0),
        ("body_timeout", -1.0),
        ("write_timeout", float("nan")),
        ("keep_alive", float("inf")),
        ("max_connections", 0),
    ],
)
def test_limit_without_sense_is_refused_at_construction(option: str, value: Any) -> None:
    from wsgi.server import WSGIServer

    with pytest.raises(ValueError, match=re.escape(option)):
        WSGIServer(port=0, app=Recorder(), **{option: value})
