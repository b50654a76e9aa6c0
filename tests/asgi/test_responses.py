"""Responses byte by byte, and what happens to an application that breaks the rules (ASGI, "HTTP")."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.talking import GET, ASGIApp, Gate, Message, Receive, Scope, Script, Send, Watched, answer, body, start
from tests.server.recording import FAILED, FAILED_TEXT, LAST, chunks, eventually, expected, talk
from tests.support import RawClient

HTTP10 = b"GET /e HTTP/1.0\r\n\r\n"
HEAD = b"HEAD /e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "messages", "response"),
    [
        # All content in one message: its length is known.
        (LAST, [start(), body(b"hello")], expected(b"200 OK", framing=b"Content-Length: 5", close=True, body=b"hello")),
        (LAST, [start(), body()], expected(b"200 OK", framing=b"Content-Length: 0", close=True)),
        (LAST, [start(404), body()], expected(b"404 Not Found", framing=b"Content-Length: 0", close=True)),
        (LAST, [start(299), body()], expected(b"299 ", framing=b"Content-Length: 0", close=True)),
        (LAST, [start(204), body()], expected(b"204 No Content", close=True)),
        (LAST, [start(304), body(b"x")], expected(b"304 Not Modified", close=True)),
        (LAST, [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}],
         expected(b"200 OK", framing=b"Content-Length: 0", close=True)),
        # Pieces.
        (LAST, [start(), body(b"a", True), body(b"", True), body(b"bc", True), body()],
         expected(b"200 OK", framing=b"Transfer-Encoding: chunked", close=True, body=chunks(b"a", b"bc"))),
        (LAST, [start(200, (b"content-length", b"3")), body(b"a", True), body(b"bc")],
         expected(b"200 OK", framing=b"Content-Length: 3", close=True, body=b"abc")),
        (HTTP10, [start(), body(b"a", True), body(b"bc")], expected(b"200 OK", close=True, body=b"abc")),
        (HEAD, [start(200, (b"content-length", b"3")), body(b"abc")],
         expected(b"200 OK", framing=b"Content-Length: 3", close=True)),
        (HEAD, [start(), body(b"a", True), body(b"bc")], expected(b"200 OK", close=True)),
        # Fields leave as they came, those of the connection are the server's.
        (LAST, [start(200, (b"x-a", b"1"), (b"X-A", b"2"), (b"connection", b"close"), (b"x-obs", b"\xe9")), body()],
         expected(b"200 OK", b"x-a: 1", b"X-A: 2", b"x-obs: \xe9", framing=b"Content-Length: 0", close=True)),
        (LAST, [start(), {"type": "http.response.body", "body": memoryview(bytearray(b"view"))}],
         expected(b"200 OK", framing=b"Content-Length: 4", close=True, body=b"view")),
    ],
)  # fmt: skip
def test_messages_become_a_response(
    served: Serve, request_bytes: bytes, messages: list[Message], response: bytes
) -> None:
    script = Script(messages)
    with served(script) as server:
        assert talk(server.addresses[0], request_bytes) == response
    assert script.raised == []


def test_headers_may_be_any_iterable_of_pairs(served: Serve) -> None:
    class Start(dict[str, Any]):
        pass

    headers = ((name, b"1") for name in (b"x-a", b"x-b"))
    script = Script([Start(type="http.response.start", status=200, headers=headers), body()])
    with served(script) as server:
        answered = talk(server.addresses[0], LAST)
    assert answered == expected(b"200 OK", b"x-a: 1", b"x-b: 1", framing=b"Content-Length: 0", close=True)


def test_connection_is_used_again_and_pipelined_requests_are_answered_in_order(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(0.01)
        await answer(send, scope["raw_path"])

    with served(app) as server, RawClient(server.addresses[0]) as client:
        paths = [b"/slow", b"/a", b"/slow", b"/b", b"/c"]
        client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths))
        assert [client.receive().body for _ in paths] == paths


def test_head_waits_a_moment_for_the_first_content(served: Serve) -> None:
    silences: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        await send(start())
        # Other turns of the loop are no silence.
        await asyncio.sleep(0)
        silences.append(time.monotonic() - began)
        if scope["path"] == "/e":
            raise ValueError("no content came of it")
        await send(body(b"whole"))

    def answered_at_once(address: str, request: bytes) -> bytes:
        """The answer to a request in which the processor was not with others for as long as a head waits."""
        for _ in range(1000):
            found = talk(address, request)
            if silences.pop() < 0.002:
                return found
        pytest.fail("every request was held up")

    with served(app) as server:
        assert answered_at_once(server.addresses[0], GET) == FAILED + FAILED_TEXT
        whole = expected(b"200 OK", framing=b"Content-Length: 5", close=True, body=b"whole")
        assert answered_at_once(server.addresses[0], LAST) == whole


# An event stream may have nothing to send for long, and its client wants to know that it was accepted.
@pytest.mark.parametrize(
    ("request_bytes", "start_message", "framing"),
    [
        (GET, start(200, (b"content-type", b"text/event-stream")), b"Transfer-Encoding: chunked"),
        (GET, start(), b"Transfer-Encoding: chunked"),
        (GET, start(200, (b"content-length", b"5")), b"Content-Length: 5"),
        (HTTP10, start(), b"Connection: close"),
        (HEAD, start(), b"Connection: close"),
        (GET, start(204), b"204 No Content"),
    ],
)
def test_head_leaves_without_content_where_none_follows(
    served: Serve, request_bytes: bytes, start_message: Message, framing: bytes
) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start_message)
        await gate.wait()
        await send(body(b"con", True))
        await send(body(b"t", True))
        await send(body(b"."))

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(request_bytes)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = client.socket.recv(1)
            assert received != b""
            head += received
        assert framing in head
        assert not client.has_something()
        gate.open()
        watched.wait_for_end()
        if framing == b"Content-Length: 5":
            assert client.socket.recv(5, socket.MSG_WAITALL) == b"cont."
        elif framing == b"Transfer-Encoding: chunked":
            rest = chunks(b"con", b"t", b".")
            assert client.socket.recv(len(rest), socket.MSG_WAITALL) == rest
    assert watched.raised == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (b"/file", chunks(b"from the file")),
        (b"/trailers", chunks(b"abc")[:-2] + b"x-end: 1\r\n\r\n"),
    ],
)
def test_file_and_trailers_may_follow_a_head_that_has_left(
    served: Serve, tmp_path: Path, path: bytes, content: bytes
) -> None:
    gate = Gate()
    file = tmp_path / "file"
    file.write_bytes(b"from the file")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(trailers=scope["path"] == "/trailers"))
        await gate.wait()
        if scope["path"] == "/trailers":
            await send(body(b"abc"))
            await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})
        else:
            await send({"type": "http.response.pathsend", "path": str(file)})

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n" % path)
        assert client.receive_head()["Transfer-Encoding"] == "chunked"
        gate.open()
        received = b""
        while len(received) < len(content):
            piece = client.socket.recv(len(content))
            assert piece != b""
            received += piece
        assert received == content


def test_second_start_behind_a_head_that_has_left_is_named(served: Serve) -> None:
    seen = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await seen.wait()
        await send(start(500))

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive_head().status == 200
        seen.open()
        watched.wait_for_end()
    (error,) = watched.raised
    assert str(error) == "http.response.start was sent twice"


def test_pieces_leave_while_the_application_waits(served: Serve) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"first", True))
        await gate.wait()
        await send(body(b"last"))

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        seen = b""
        while not seen.endswith(b"first\r\n"):
            seen += client.socket.recv(1000)
        gate.open()
        while not seen.endswith(b"0\r\n\r\n"):
            seen += client.socket.recv(1000)
        assert seen.endswith(b"4\r\nlast\r\n0\r\n\r\n")


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 100_000, 5_000_000])
def test_content_of_any_size_arrives_whole(served: Serve, size: int) -> None:
    content = random.Random(size).randbytes(size)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/whole":
            await answer(send, content)
            return
        await send(start())
        for at in range(0, size, 70_000):
            await send(body(content[at : at + 70_000], True))
        await send(body())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        for path in (b"/whole", b"/pieces"):
            client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            assert client.receive().body == content


def test_application_that_is_ahead_of_its_client_waits(served: Serve) -> None:
    piece = bytes(256 * 1024)
    sent = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(200):
            await send(body(piece, True))
            sent.append(len(piece))
        await send(body())

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_begin()
        client.socket.recv(1)
        before = -1
        while before != len(sent):
            before = len(sent)
            # Others are served meanwhile: what is held up is one request.
            with RawClient(server.addresses[0]) as other:
                other.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
                assert other.receive().status == 400
        assert sum(sent) < 20_000_000
        total = 1
        while total < 200 * len(piece):
            total += len(client.socket.recv(1 << 20))
        watched.wait_for_end()
    assert len(sent) == 200


def test_client_that_takes_nothing_is_given_up(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        while True:
            await send(body(bytes(1 << 20), True))

    watched = Watched(app)
    with served(watched, write_timeout=0.2) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        watched.wait_for_end()
        (error,) = watched.raised
        assert isinstance(error, OSError)


# Extensions.


def test_file_is_sent_by_its_path(served: Serve, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3_000_000)
    file = tmp_path / "file"
    file.write_bytes(content)
    empty = tmp_path / "empty"
    empty.write_bytes(b"")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send({"type": "http.response.pathsend", "path": str(tmp_path) + scope["path"]})

    with served(app) as server, RawClient(server.addresses[0]) as client:
        for path, size in ((b"/file", 3_000_000), (b"/empty", 0), (b"/file", 3_000_000)):
            client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            response = client.receive()
            assert response["Content-Length"] == str(size)
            assert response.body == content[:size]


def test_file_that_is_not_there_raises_into_the_application(served: Serve, tmp_path: Path) -> None:
    script = Script([start(), {"type": "http.response.pathsend", "path": str(tmp_path / "none")}])
    with served(script) as server:
        assert talk(server.addresses[0], GET) == FAILED + FAILED_TEXT
    (error,) = script.raised
    assert isinstance(error, FileNotFoundError)


def test_file_that_becomes_shorter_is_cut_off_and_logged(
    served: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(50_000_000))
    with served(Script([start(), {"type": "http.response.pathsend", "path": str(path)}])) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(GET)
            assert client.socket.recv(1)
            os.truncate(path, 0)
            size = 0
            while piece := client.socket.recv(1 << 20):
                size += len(piece)
        assert size < 50_000_000
        eventually(lambda: bool(caplog.records), "the line in the log")
    (record,) = caplog.records
    assert record.getMessage().startswith("the response to GET /e was cut off: its file ended ")


def test_file_whose_name_is_no_utf_8_is_sent(served: Serve, tmp_path: Path) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff"))
    try:
        Path(path).write_bytes(b"content")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    script = Script([start(), {"type": "http.response.pathsend", "path": path}])
    with served(script) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive().body == b"content"


# RFC 8297
def test_early_hints_leave_ahead_of_the_response(served: Serve) -> None:
    hint = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>; rel=preload"]}
    with served(Script([hint, start(), body()])) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        (interim,) = client.receive().interim
        assert (interim.status, interim.values("Link")) == (103, ["</a>; rel=preload", "</b>; rel=preload"])
        client.send(HTTP10)
        assert client.receive().interim == []


# RFC 9112 §7.1.2
def test_trailers_follow_chunked_content(served: Serve) -> None:
    trailers = [
        {
            "type": "http.response.trailers",
            "headers": [(b"x-sum", b"1"), (b"content-length", b"9")],
            "more_trailers": True,
        },
        {"type": "http.response.trailers", "headers": [(b"x-end", b"2")]},
    ]
    messages = [start(trailers=True), body(b"abc"), *trailers]
    wants = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"
    with served(Script(messages)) as server:
        ended = b"3\r\nabc\r\n0\r\nx-sum: 1\r\nx-end: 2\r\n\r\n"
        chunked = expected(b"200 OK", framing=b"Transfer-Encoding: chunked", close=True, body=ended)
        assert talk(server.addresses[0], wants) == chunked
        # Others get the content alone.
        plain = expected(b"200 OK", framing=b"Transfer-Encoding: chunked", close=True, body=chunks(b"abc"))
        assert talk(server.addresses[0], LAST) == plain
        assert talk(server.addresses[0], HTTP10) == expected(b"200 OK", close=True, body=b"abc")


# What an application does wrong.


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        ("text", TypeError, "a message must be a dict, not str"),
        ({}, ValueError, "the message has no 'type'"),
        ({"type": 5}, TypeError, "'type' must be a str, not int"),
        ({"type": "websocket.accept"}, ValueError, '"websocket.accept" has no place in HTTP'),
        ({"type": "http.response.start"}, ValueError, 'the message has no "status"'),
        (start("200"), TypeError, '"status" must be an int, not str'),  # type: ignore[arg-type]
        (start(99), ValueError, "200 to 999"),
        (start(70_000), ValueError, "200 to 999"),
        (start(-1), ValueError, "200 to 999"),
        (start(101), ValueError, "interim"),
        (start(200, ("x", "y")), TypeError, "http.response.start: a header name must be bytes, not str"),  # type: ignore[arg-type]
        (start(200, (b"x", "y")), TypeError, "header 'x': the value must be bytes, not str"),  # type: ignore[arg-type]
        (start(200, (b"x\r\ny", b"1")), ValueError, "begins with 'x' contains a carriage return at position 1"),
        (start(200, (b"x", b"1\r\ny: 2")), ValueError, "header 'x': the value contains a carriage return at"),
        (start(200, (b"x", b"1\n")), ValueError, "http.response.start: header 'x': the value contains a line feed"),
        (start(200, (b"x",)), TypeError, "an iterable of pairs of bytes"),  # type: ignore[arg-type]
        ({"type": "http.response.start", "status": 200, "headers": 5}, TypeError, "an iterable of pairs of bytes"),
        (start(200, (b"content-length", b"x")), ValueError, "header 'content-length': the value must be a plain"),
        ({"type": "http.response.\ud800"}, ValueError, "has no place in HTTP"),
        ({"type": "http.response.early_hint", "links": [b"a\n"]}, ValueError, "header 'Link': the value contains a"),
        (body(b"early"), RuntimeError, "http.response.body was sent before http.response.start"),
        ({"type": "http.response.pathsend", "path": "/dev/null"}, ValueError, "a regular file"),
        ({"type": "http.response.pathsend", "path": "/proc/self/cmdline"}, ValueError, "a regular file of known size"),
        ({"type": "http.response.pathsend"}, ValueError, 'no "path"'),
        ({"type": "http.response.trailers"}, RuntimeError, "not due"),
        ({"type": "http.response.early_hint"}, ValueError, 'no "links"'),
        ({"type": "http.response.early_hint", "links": ["</a>"]}, TypeError, '"links" must be bytes, not str'),
    ],
)  # fmt: skip
def test_wrong_message_is_named_raised_and_answered_500(
    served: Serve, caplog: pytest.LogCaptureFixture, message: Any, error: type[Exception], text: str
) -> None:
    script = Script([message])
    with served(script) as server:
        assert talk(server.addresses[0], GET) == FAILED + FAILED_TEXT
    (raised,) = script.raised
    assert type(raised) is error
    assert text in str(raised)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is raised


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([start(), start()], "http.response.start was sent twice"),
        ([start(), body(b"", True), start()], "http.response.start was sent twice"),
        ([start(), body(b"x", True), {"type": "http.response.pathsend", "path": __file__}], "after http.response.body"),
        ([start(), body(), body()], "http.response.body was sent after the response was complete"),
        ([start(), body(), start()], "http.response.start was sent after the response was complete"),
        ([start(trailers=True), body(), body()], "where http.response.trailers is due"),
        ([start(), {"type": "http.response.early_hint", "links": []}], "after http.response.start"),
        ([start(), body("text")], '"body" must be bytes, not str'),  # type: ignore[arg-type]
        ([start(200, (b"content-length", b"3")), body(b"abcd")], "longer than its content-length"),
        ([start(200, (b"content-length", b"3")), body(b"ab")], "1 bytes shorter than its content-length"),
    ],
)
def test_wrong_order_is_named_and_raised(
    served: Serve, caplog: pytest.LogCaptureFixture, messages: list[Message], text: str
) -> None:
    script = Script(messages)
    with served(script) as server:
        talk(server.addresses[0], LAST)
    (raised,) = script.raised
    assert text in str(raised)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is raised


def test_wrong_message_that_an_application_bears_is_named_in_the_log(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script([body(b"early"), start(), body(b"right")], swallows=True)
    with served(script) as server:
        answered = talk(server.addresses[0], LAST)
    assert answered == expected(b"200 OK", framing=b"Content-Length: 5", close=True, body=b"right")
    (record,) = caplog.records
    assert record.exc_info is None
    assert "broke ASGI at GET /last: http.response.body was sent before http.response.start" in record.getMessage()


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def only_started(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())


async def exits(scope: Scope, receive: Receive, send: Send) -> None:
    raise SystemExit(5)


async def interrupts(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyboardInterrupt


async def cancels(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


def returns_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


def raises_at_once(scope: Scope, receive: Receive, send: Send) -> Any:
    raise ValueError("at once")


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (silent, "the application returned without a response at GET /e"),
        (only_started, "the application returned before it sent any content at GET /e"),
        (exits, "the application failed at GET /e"),
        (interrupts, "the application failed at GET /e"),
        (cancels, "the application failed at GET /e"),
        (returns_nothing, "the application failed at GET /e"),
        (raises_at_once, "the application failed at GET /e"),
    ],
)
def test_application_without_a_response_is_answered_500(
    served: Serve, caplog: pytest.LogCaptureFixture, app: ASGIApp, text: str
) -> None:
    with served(app) as server:
        for _ in range(2):
            assert talk(server.addresses[0], GET) == FAILED + FAILED_TEXT
    assert [record.getMessage() for record in caplog.records] == [text, text]
    assert all(record.levelno == logging.ERROR for record in caplog.records)


async def raises_later(scope: Scope, receive: Receive, send: Send) -> Any:
    await asyncio.sleep(0)
    raises_at_once(scope, receive, send)


@pytest.mark.parametrize("app", [raises_at_once, raises_later])
def test_error_of_the_application_is_logged_with_its_frames(
    served: Serve, caplog: pytest.LogCaptureFixture, app: ASGIApp
) -> None:
    with served(app) as server:
        talk(server.addresses[0], GET)
    (record,) = caplog.records
    assert record.exc_info
    assert [frame.name for frame in traceback.extract_tb(record.exc_info[2])][-1] == "raises_at_once"


@pytest.mark.parametrize("raises", [True, False])
def test_response_that_breaks_off_is_no_whole_one(
    served: Serve, caplog: pytest.LogCaptureFixture, raises: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"abc", True))
        if raises:
            raise ValueError("in the midst")

    with served(app) as server:
        answered = talk(server.addresses[0], LAST)
    assert answered == expected(
        b"200 OK", framing=b"Transfer-Encoding: chunked", close=True, body=chunks(b"abc", end=False)
    )
    (record,) = caplog.records
    assert ("failed" if raises else "returned before its response was complete") in record.getMessage()


def test_error_behind_a_complete_response_is_told_and_harms_nobody(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"done")
        raise ValueError("in a background task")

    with served(app) as server, RawClient(server.addresses[0]) as client:
        for _ in range(3):
            client.send(GET)
            assert client.receive().body == b"done"
    assert [record.getMessage() for record in caplog.records] == ["the application failed at GET /e"] * 3


@pytest.mark.parametrize("make", [asyncio.ensure_future, asyncio.create_task, asyncio.gather])
def test_what_receive_and_send_give_is_a_coroutine_to_asyncio(served: Serve, make: Callable[[Any], Any]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await make(receive())
        await make(send(start()))
        await make(send(body(b"tasks")))
        message = receive()
        assert asyncio.iscoroutine(message)
        await message
        with pytest.raises(RuntimeError, match="already awaited"):
            await message

    watched = Watched(app)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(GET)
        assert client.receive().body == b"tasks"
        watched.wait_for_end()
    assert watched.raised == []
