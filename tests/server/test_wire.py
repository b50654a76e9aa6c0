"""HTTP/1.1 on the wire (RFC 9112): refusals, order, persistence and expectations, over TCP, TLS and Unix sockets.

What bytes alone decide, which requests are taken and which are refused, stands in `tests/corpus`, and
`tests/conformance/test_own.py` sends all of it. Here is what takes a conversation: several writes, waiting, closing, or
looking at a field of the answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.recording import (
    CHUNKED,
    GET,
    LAST,
    NEXT,
    POST,
    STREAMING,
    Call,
    Environ,
    Gate,
    Recorder,
    Start,
    answer,
    eventually,
    get,
    listening,
    refused,
)
from tests.support import PATIENCE, ProtocolError, RawClient, serve

if TYPE_CHECKING:
    from wsgi.server import WSGIServer

TRANSPORTS = ["tcp", "unix", "tls"]
HELLO = b"5\r\nhello\r\n"


class Live:
    """A server that stands for all tests of a transport, with a recorder that is emptied for each."""

    def __init__(self, server: WSGIServer, recorder: Recorder) -> None:
        self.recorder = recorder
        self.address = server.addresses[0]

    @property
    def calls(self) -> list[Call]:
        return self.recorder.calls

    def client(self) -> RawClient:
        return RawClient(self.address)


@pytest.fixture(scope="module", params=TRANSPORTS)
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    recorder = Recorder()
    with listening(request.param, recorder, tmp_path_factory.mktemp("wire")) as server:
        yield Live(server, recorder)


@pytest.fixture
def live(standing: Live) -> Live:
    standing.recorder.calls.clear()
    return standing


# -- Refusals ----------------------------------------------------------------------------------------------------------


def test_refusal_repeats_nothing_of_the_request(live: Live) -> None:
    with live.client() as client:
        client.send(b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: a\r\nX-<b>: 1\r\n\r\n")
        response = client.receive()
    assert response.status == 400
    assert "script" not in str(response)
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Length"] == str(len(response.body))


def test_refusal_of_an_unfinished_line_comes_at_once(live: Live) -> None:
    # What cannot become right is not waited for.
    for start in (b"GET / HTTP/1.1\n", b" ", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nX y: 1\r\n", CHUNKED + b"g"):
        with live.client() as client:
            client.send(start)
            refused(client, 400)
    assert live.calls == []


def test_empty_lines_without_end_are_refused(live: Live) -> None:
    with live.client() as client:
        for _ in range(100):
            client.send(b"\r\n" * 10_000)
        refused(client, 400)
    assert live.calls == []


# -- Framing -----------------------------------------------------------------------------------------------------------


def test_chunked_body_of_many_small_chunks_is_whole(live: Live) -> None:
    with live.client() as client:
        client.send(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n" + LAST)
        client.responses("POST", "GET")
    assert live.calls == [Call("POST", "/e", b"x" * 100_000), Call("GET", "/last", b"")]


@pytest.mark.parametrize("end", range(1, len(GET + b"\r\n")))
def test_head_in_two_parts_is_waited_for(end: int, live: Live) -> None:
    request = GET + b"\r\n"
    with live.client() as client:
        client.send(request[:end])
        # An exchange on another connection shows that the server has had time to look at the first part.
        with live.client() as other:
            other.send(get("/other"))
            other.receive()
        client.send(request[end:])
        assert client.receive().body == b"GET /e "


# -- Persistence (RFC 9112 §9.3) ---------------------------------------------------------------------------------------


def test_connection_serves_many_requests_one_after_the_other(live: Live) -> None:
    with live.client() as client:
        for number in range(100):
            client.send(get(f"/{number}"))
            assert client.receive().body == f"GET /{number} ".encode()
    assert live.recorder.paths == [f"/{number}" for number in range(100)]


@pytest.mark.parametrize("field", [b"", b"Connection: keep-alive\r\n", b"Connection: closed\r\n", b"Connection: x\r\n"])
def test_connection_without_close_persists(field: bytes, live: Live) -> None:
    with live.client() as client:
        client.send(GET + field + b"\r\n" + LAST)
        first, _ = client.responses("GET", "GET")
    # On HTTP/1.1 it is the default, and not said.
    assert "Connection" not in first
    assert live.recorder.paths == ["/e", "/last"]


def test_http10_closes_by_default(live: Live) -> None:
    with live.client() as client:
        client.send(b"GET /e HTTP/1.0\r\n\r\n" + NEXT)
        (response,) = client.responses("GET")
    assert response["Connection"] == "close"
    assert live.recorder.paths == ["/e"]


def test_http10_keep_alive_is_agreed_upon(live: Live) -> None:
    with live.client() as client:
        client.send(b"GET /e HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" * 3 + b"GET /last HTTP/1.0\r\n\r\n")
        found = client.responses(*["GET"] * 4)
    assert [response["Connection"] for response in found] == ["keep-alive"] * 3 + ["close"]
    assert live.recorder.paths == ["/e"] * 3 + ["/last"]


def test_http10_without_a_length_ends_by_close(tmp_path: Path) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"abc"
        yield b"de"

    for transport in TRANSPORTS:
        with listening(transport, app, tmp_path) as server, RawClient(server.addresses[0]) as client:
            client.send(b"GET /gen HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT)
            (response,) = client.responses("GET")
            assert response.body == b"abcde"
            assert "Transfer-Encoding" not in response
            assert response["Connection"] == "close"


def test_upgrade_that_nobody_takes_is_ignored(live: Live) -> None:
    # RFC 9110 §7.8: "a server may ignore a received Upgrade header field".
    with live.client() as client:
        client.send(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + LAST)
        first, _ = client.responses("GET", "GET")
    assert first.status == 200
    assert "Upgrade" not in first


# -- Pipelining (RFC 9112 §9.3.2) --------------------------------------------------------------------------------------


def test_pipelined_posts_are_answered_in_order(live: Live) -> None:
    bodies = [b"%d" % number * number for number in range(25)]
    requests = [
        b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (n, len(b), b) for n, b in enumerate(bodies)
    ]
    with live.client() as client:
        client.send(b"".join(requests))
        for number, body in enumerate(bodies):
            assert client.receive("POST").body == b"POST /%d %b" % (number, body)
    assert [call.body for call in live.calls] == bodies


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pipelined_fast_request_waits_for_the_slow_one(transport: str, threads: int, tmp_path: Path) -> None:
    gate = Gate()
    with listening(transport, gate, tmp_path, threads=threads) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/slow") + get("/fast") + LAST)
        gate.wait_for_one()
        # While the first one runs the second is not begun: what it does may depend on the first.
        assert gate.paths == ["/slow"]
        gate.opened.set()
        assert [response.body for response in client.responses(*["GET"] * 3)] == [b"/slow", b"/fast", b"/last"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pipelined_garbage_does_not_harm_the_request_before(transport: str, tmp_path: Path) -> None:
    gate = Gate()
    with listening(transport, gate, tmp_path) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/slow") + b"BAD\r\n\r\n" + NEXT)
        gate.wait_for_one()
        gate.opened.set()
        assert client.receive().body == b"/slow"
        refused(client, 400)
    assert gate.paths == ["/slow"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pipelined_10000_requests_of_a_client_that_does_not_read_are_bounded(transport: str, tmp_path: Path) -> None:
    count, size = 10_000, 10_000
    calls = 0

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        nonlocal calls
        if environ["PATH_INFO"] != "/probe":
            calls += 1
        return answer(start_response, environ["PATH_INFO"].encode().ljust(size))

    def send(client: RawClient) -> None:
        client.send(b"".join(get(f"/{number}") for number in range(count)))

    with listening(transport, app, tmp_path) as server, RawClient(server.addresses[0]) as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        with RawClient(server.addresses[0]) as probe:
            stable, before = 0, -1
            # Exchanges on another connection are the clock: a server that would go on has had its chance after each.
            for _ in range(20_000):
                probe.send(get("/probe"))
                probe.receive()
                stable = stable + 1 if calls == before and calls else 0
                before = calls
                if stable == 100:
                    break
        # 100 MB of responses were asked for. What the kernel holds for a client is a part of that.
        assert calls < count / 2
        for number in range(count):
            assert client.receive().body.rstrip() == f"/{number}".encode()
        sender.join(PATIENCE)
    assert calls == count


# -- Expect (RFC 9110 §10.1.1) -----------------------------------------------------------------------------------------

EXPECT = b"Expect: 100-continue\r\n"


class Reading:
    """An application that waits before it reads, and reads only where it is told to."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads = reads
        self.inside = threading.Event()
        self.proceed = threading.Event()
        self.calls = 0

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        self.calls += 1
        self.inside.set()
        assert self.proceed.wait(PATIENCE)
        body = environ["wsgi.input"].read() if self.reads else b"unread"
        return answer(start_response, body)


def is_silent(client: RawClient) -> bool:
    """Whether nothing has come for the client."""
    client.socket.setblocking(False)
    try:
        return not client.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client.socket.settimeout(PATIENCE)


STREAMED: dict[str, tuple[dict[str, Any], bytes, bytes]] = {
    "length": (STREAMING, POST + b"Content-Length: 5\r\n", b"hello"),
    "chunked": ({"stream_chunked": True}, POST + b"Transfer-Encoding: chunked\r\n", HELLO + b"0\r\n\r\n"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("field", [EXPECT, b"expect: 100-Continue\r\n"])
def test_expect_for_a_streamed_body_is_answered_at_the_first_read(
    field: bytes, kind: str, transport: str, tmp_path: Path
) -> None:
    options, head, body = STREAMED[kind]
    app = Reading()
    with listening(transport, app, tmp_path, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(head + field + b"\r\n")
        assert app.inside.wait(PATIENCE)
        assert is_silent(client)
        app.proceed.set()
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        response = client.receive("POST")
        assert (response.status, response.body) == (200, b"hello")
        assert not response.interim


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", STREAMED)
def test_expect_that_the_application_never_asks_for_gets_no_100(kind: str, transport: str, tmp_path: Path) -> None:
    # RFC 9110 §10.1.1: a final status instead of 100; the body will not be sent, so the connection cannot go on.
    options, head, _ = STREAMED[kind]
    app = Reading(reads=False)
    app.proceed.set()
    with listening(transport, app, tmp_path, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(head + EXPECT + b"\r\n")
        (response,) = client.responses("POST")
    assert (response.status, response.body, response.interim) == (200, b"unread", [])
    assert response["Connection"] == "close"


@pytest.mark.parametrize("kind", STREAMED)
def test_expect_read_after_the_response_began_gets_no_100(kind: str) -> None:
    # An interim response cannot follow the beginning of the final one.
    options, head, body = STREAMED[kind]

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun "
        yield environ["wsgi.input"].read()

    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(head + EXPECT + b"\r\n")
        first = client.socket.recv(10, socket.MSG_PEEK)
        assert first == b"HTTP/1.1 2"
        client.send(body)
        (response,) = client.responses("POST")
    assert response.body == b"begun hello"
    assert response["Connection"] == "close"


BUFFERED: dict[str, tuple[bytes, bytes]] = {
    "length": (POST + b"Content-Length: 5\r\n", b"hello"),
    "chunked": (POST + b"Transfer-Encoding: chunked\r\n", HELLO + b"0\r\n\r\n"),
}


@pytest.mark.parametrize("kind", BUFFERED)
@pytest.mark.parametrize("field", [EXPECT, b"expect: 100-Continue\r\n", b"Expect: 100-continue, 100-continue\r\n"])
def test_expect_for_a_small_body_is_answered_before_it(field: bytes, kind: str, live: Live) -> None:
    head, body = BUFFERED[kind]
    with live.client() as client:
        client.send(head + field + b"\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert live.calls == []
        client.send(body + LAST)
        first, _ = client.responses("POST", "GET")
    assert first.body == b"POST /e hello"
    assert not first.interim


@pytest.mark.parametrize("kind", BUFFERED)
def test_expect_with_the_body_right_behind_gets_one_100_at_most(kind: str, live: Live) -> None:
    head, body = BUFFERED[kind]
    with live.client() as client:
        client.send(head + EXPECT + b"\r\n" + body + LAST)
        first, _ = client.responses("POST", "GET")
    assert first.body == b"POST /e hello"
    assert [interim.status for interim in first.interim] in ([], [100])


@pytest.mark.parametrize("kind", STREAMED)
def test_expect_with_a_streamed_body_right_behind_gets_one_100_at_most(kind: str) -> None:
    options, head, body = STREAMED[kind]
    recorder = Recorder()
    with serve(recorder, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(head + EXPECT + b"\r\n" + body + LAST)
        first, _ = client.responses("POST", "GET")
    assert first.body == b"POST /e hello"
    assert [interim.status for interim in first.interim] in ([], [100])


@pytest.mark.parametrize("options", [{}, {"body_buffer": 0}, STREAMING])
@pytest.mark.parametrize("field", [EXPECT, b"Expect: foo\r\n"])
def test_expect_on_http10_is_ignored(field: bytes, options: dict[str, Any]) -> None:
    # RFC 9110 §10.1.1: "a server that receives a 100-continue expectation in an HTTP/1.0 request must ignore that
    # expectation".
    recorder = Recorder()
    with serve(recorder, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST /e HTTP/1.0\r\nContent-Length: 5\r\n" + field + b"\r\n")
        client.send(b"hello")
        (response,) = client.responses("POST")
    assert response.body == b"POST /e hello"
    assert not response.interim


REFUSED_EXPECT: dict[str, tuple[int, bytes]] = {
    "over-the-limit": (413, POST + b"Content-Length: 2000000000\r\n" + EXPECT + b"\r\n"),
    "both-framings": (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" + EXPECT + b"\r\n"),
    "unknown": (417, POST + b"Content-Length: 5\r\nExpect: foo\r\n\r\n"),
    "unknown-beside": (417, POST + b"Content-Length: 5\r\nExpect: 100-continue, foo\r\n\r\n"),
    "unknown-in-second-line": (417, POST + b"Content-Length: 5\r\n" + EXPECT + b"Expect: foo\r\n\r\n"),
    "host-missing": (400, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + EXPECT + b"\r\n"),
}


@pytest.mark.parametrize("name", REFUSED_EXPECT)
def test_expect_on_what_is_refused_gets_no_100(name: str, live: Live) -> None:
    status, request = REFUSED_EXPECT[name]
    with live.client() as client:
        client.send(request)
        refused(client, status)
    assert live.calls == []


def test_expect_without_a_body_does_not_hang(live: Live) -> None:
    with live.client() as client:
        client.send(GET + EXPECT + b"\r\n" + LAST)
        first, _ = client.responses("GET", "GET")
    assert first.body == b"GET /e "
    assert not first.interim


def test_expect_with_an_empty_body_is_answered(live: Live) -> None:
    # The client waits for an answer to its expectation, whatever the length it announced.
    with live.client() as client:
        client.send(POST + b"Content-Length: 0\r\n" + EXPECT + b"\r\n" + LAST)
        first, _ = client.responses("POST", "GET")
    assert first.status == 200
    assert [interim.status for interim in first.interim] in ([], [100])


@pytest.mark.parametrize("kind", STREAMED)
def test_streamed_body_and_response_go_both_ways_at_once(kind: str) -> None:
    options, _, _ = STREAMED[kind]
    chunked = kind == "chunked"

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "50")])
        for _ in range(10):
            yield environ["wsgi.input"].read(5)

    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(CHUNKED if chunked else POST + b"Content-Length: 50\r\n\r\n")
        received = b""
        for number in range(10):
            piece = b"%05d" % number
            client.send(b"5\r\n%b\r\n" % piece if chunked else piece)
            # The next piece is sent only once this one came back.
            while not received.endswith(piece):
                more = client.socket.recv(4096)
                assert more
                received += more


# -- Unread bodies (RFC 9112 §9.3, §9.6) -------------------------------------------------------------------------------

LITTLE = b"x" * 100_000

# Options, what is sent, and whether the connection lives; None: either is right.
UNREAD: dict[str, tuple[dict[str, Any], list[bytes], bool | None]] = {
    "small": ({}, [POST + b"Content-Length: 5\r\n\r\nhello"], True),
    "small-chunked": ({}, [CHUNKED + HELLO + b"0\r\n\r\n"], True),
    "chunked-in-file": ({"body_buffer": 0}, [CHUNKED + HELLO + b"0\r\n\r\n"], True),
    "in-file": ({"body_buffer": 0}, [POST + b"Content-Length: 100000\r\n\r\n" + LITTLE], True),
    "streamed-little": (
        STREAMING,
        [POST + b"Content-Length: 100000\r\n\r\n" + LITTLE],
        True,
    ),
    "streamed-in-parts": (
        STREAMING,
        [POST + b"Content-Length: 100000\r\n\r\n", LITTLE[:7], LITTLE[7:]],
        True,
    ),
    "streamed-much": (
        STREAMING,
        [POST + b"Content-Length: 4000000\r\n\r\n", b"x" * 4_000_000],
        False,
    ),
    # It depends on whether the end has come along with the head.
    "chunked-streamed": ({"stream_chunked": True}, [CHUNKED + HELLO + b"0\r\n\r\n"], None),
    "chunked-streamed-without-end": ({"stream_chunked": True}, [CHUNKED + HELLO], False),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", UNREAD)
def test_body_left_unread_is_drained_or_the_last(name: str, transport: str, tmp_path: Path) -> None:
    options, parts, lives = UNREAD[name]
    recorder = Recorder(reads=False)
    with listening(transport, recorder, tmp_path, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(*parts, LAST)
        # The client is told before it sends what nobody will read.
        closes = client.receive("POST").values("Connection") == ["close"]
        assert lives is None or closes != lives
        assert len(client.responses(*([] if closes else ["GET"]))) + 1 == len(recorder.calls)
    assert recorder.paths == (["/e"] if closes else ["/e", "/last"])


def read_partly(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(start_response, environ["wsgi.input"].read(3))


@pytest.mark.parametrize("options", [{}, {"body_buffer": 0}, STREAMING])
@pytest.mark.parametrize("rest", [b"lo", b"lo" + b"x" * 100_000])
def test_body_read_partly_is_drained(rest: bytes, options: dict[str, Any]) -> None:
    with serve(read_partly, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(
            POST + b"Content-Length: %d\r\n\r\nhel" % (3 + len(rest)), rest + POST + b"Content-Length: 1\r\n\r\nx"
        )
        assert client.receive("POST").body == b"hel"
        assert client.receive("POST").body == b"x"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_client_that_still_sends_reads_the_response(transport: str, tmp_path: Path) -> None:
    # RFC 9112 §9.6: a close with unread bytes would be a reset, which can destroy the response before it is read.
    recorder = Recorder(reads=False)
    size = 8_000_000
    options = STREAMING
    with listening(transport, recorder, tmp_path, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(POST + b"Content-Length: %d\r\n\r\n" % size)
        # The whole body is sent before the first look at the response, as simple clients do.
        for _ in range(size // 100_000):
            client.send(b"x" * 100_000)
        (response,) = client.responses("POST")
    assert response.status == 200
    assert response["Connection"] == "close"


def test_refused_client_that_still_sends_reads_the_refusal(live: Live) -> None:
    with live.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 8000000\r\n\r\n")
        for _ in range(80):
            client.send(b"x" * 100_000)
        refused(client, 400)
    assert live.calls == []


def closes_itself(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Connection", "close")])
    return [b"x" * 1_000_000]


def says_nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"x" * 1_000_000]


@pytest.mark.parametrize(("app", "options"), [(closes_itself, {}), (says_nothing, {"keep_alive": 0})])
def test_close_by_the_server_leaves_the_response_whole(app: Any, options: dict[str, Any]) -> None:
    # RFC 9112 §9.6: a client that has not seen the response yet may send its next request. An immediate close answers
    # that with a reset, which destroys what is still in the server's buffers; so a server closes in stages.
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/e"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        for _ in range(3):
            client.send(NEXT)
            # An exchange on another connection gives the server the time to make its mistake.
            with RawClient(server.addresses[0]) as other:
                other.send(LAST)
                other.responses("GET")
        (response,) = client.responses("GET")
    assert len(response.body) == 1_000_000
    assert response["Connection"] == "close"


# -- Half-close --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "request_bytes",
    [get("/slow"), POST + b"Content-Length: 5\r\n\r\nhello", CHUNKED + HELLO + b"0\r\n\r\n", get("/1") + get("/2")],
)
def test_half_close_after_the_request_still_gets_the_response(
    request_bytes: bytes, transport: str, tmp_path: Path
) -> None:
    # RFC 9112 §9.6 speaks of half-closed clients: what was asked in full is answered in full.
    size = 3_000_000

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            # The end of the client's side is seen before the answer.
            eventually(environ["wsgi.client_disconnected"], "the half-close")
        return answer(start_response, b"x" * size)

    with listening(transport, app, tmp_path) as server, RawClient(server.addresses[0]) as client:
        client.send(request_bytes)
        client.end()
        methods = ["GET"] * (request_bytes.count(b" HTTP/1.1"))
        assert [len(response.body) for response in client.responses(*methods)] == [size] * len(methods)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("options", [{}, {**STREAMING, "stream_chunked": True}], ids=["buffered", "streamed"])
@pytest.mark.parametrize(
    "later",
    [
        b"",
        get("/2"),
        get("/2") + get("/3"),
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["nothing", "request", "two", "chunked"],
)
def test_half_close_while_the_application_works_is_seen_after_what_came_before_it(
    later: bytes, options: dict[str, Any], transport: str, tmp_path: Path
) -> None:
    gate = Gate()
    with listening(transport, gate, tmp_path, threads=4, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/slow"))
        gate.wait_for_one()
        client.send(later)
        client.end()
        # An exchange on another connection shows that the server has looked at its sockets since.
        with RawClient(server.addresses[0]) as other:
            other.send(LAST)
            other.responses("GET")
        gate.opened.set()
        # All that was asked is answered, and then the connection ends, at once and not when keep_alive does.
        assert len(client.responses(*["GET"] * (1 + later.count(b" HTTP/1.1")))) == 1 + later.count(b" HTTP/1.1")


def test_half_close_during_a_generator_still_gets_all_of_it() -> None:
    closed = threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun "
        assert closed.wait(PATIENCE)
        eventually(environ["wsgi.client_disconnected"], "the half-close")
        yield b"x" * 1_000_000
        yield b" ended"

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        client.end()
        closed.set()
        (response,) = client.responses("GET")
    assert response.body == b"begun " + b"x" * 1_000_000 + b" ended"


# -- Sockets of every kind ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX") or not Path("/proc/net/unix").exists(), reason="Linux alone has them"
)
def test_abstract_unix_socket_serves(tmp_path: Path) -> None:
    recorder = Recorder()
    place = f"unix:@wsgi-test-{tmp_path.name}-{id(recorder)}"
    with serve(recorder, bind=[place]) as server, RawClient(server.addresses[0]) as client:
        client.send(LAST)
        client.responses("GET")
    assert recorder.paths == ["/last"]


def test_client_that_is_cut_off_is_noticed_by_these_tests() -> None:
    # The strict reading above must be able to fail.
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "9")])
        yield b"short"

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(LAST)
        with pytest.raises(ProtocolError):
            client.responses("GET")
