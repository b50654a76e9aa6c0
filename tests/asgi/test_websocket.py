"""WebSockets byte by byte (RFC 6455), and what applications see of them (ASGI, "WebSocket")."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import struct
import zlib
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, Frame, Socket, closing, frame, pieces
from tests.asgi.talking import GET, ASGIApp, Gate, Message, Receive, Scope, Script, Send, Watched, answer
from tests.server.recording import FAILED, FAILED_TEXT, eventually, everything, reset
from tests.support import RawClient

ACCEPT = {"type": "websocket.accept"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({**ACCEPT, "subprotocol": scope["subprotocols"][0] if scope["subprotocols"] else None})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Seen:
    """Accepts and keeps what it is told, to the end."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while not self.messages or self.messages[-1]["type"] != "websocket.disconnect":
            self.messages.append(await receive())

    def ended(self) -> Message:
        eventually(lambda: bool(self.messages) and self.messages[-1]["type"] == "websocket.disconnect", "it ends")
        return self.messages[-1]


# The handshake.


def test_scope_of_a_websocket_holds_what_the_specification_names(served: Serve) -> None:
    watched = Watched(echo)
    with served(watched) as server, Socket(server.addresses[0], b"Origin: http://a", path=b"/a%20b?q") as client:
        client.opened()
        port = client.socket.getsockname()[1]
        (scope,) = watched.scopes
        headers = dict(scope.pop("headers"))
        assert (headers[b"origin"], headers[b"sec-websocket-key"]) == (b"http://a", KEY)
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"q",
            "root_path": "",
            "client": ("127.0.0.1", port),
            "server": ("127.0.0.1", server.server_port),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }


def test_subprotocol_is_one_that_the_client_speaks(served: Serve) -> None:
    line = b"Sec-WebSocket-Protocol: chat, superchat"
    with served(echo) as server, Socket(server.addresses[0], line) as client:
        assert client.opened()["Sec-WebSocket-Protocol"] == "chat"
    script = Script([{**ACCEPT, "subprotocol": "other"}])
    with served(script) as server, Socket(server.addresses[0], line) as client:
        assert client.receive().status == 500
    (error,) = script.raised
    assert "one that the client offers" in str(error)


def test_headers_of_the_application_are_part_of_the_response(served: Serve) -> None:
    script = Script([{**ACCEPT, "headers": [(b"set-cookie", b"a=1"), (b"connection", b"close")]}])
    with served(script) as server, Socket(server.addresses[0]) as client:
        response = client.opened()
        assert response["set-cookie"] == "a=1"


def asking(*lines: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" /ws HTTP/1.1", b"Host: a", *lines, b"", b""])


UPGRADE = (b"Upgrade: websocket", b"Connection: keep-alive, Upgrade")
VALID_KEY = b"Sec-WebSocket-Key: " + KEY
VERSION = b"Sec-WebSocket-Version: 13"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (asking(*UPGRADE, VALID_KEY), 426),
        (asking(*UPGRADE, VALID_KEY, b"Sec-WebSocket-Version: 8"), 426),
        (asking(*UPGRADE, VALID_KEY, VERSION, VERSION), 426),
        (asking(*UPGRADE, VERSION), 400),
        (asking(*UPGRADE, VERSION, b"Sec-WebSocket-Key: short"), 400),
        (asking(*UPGRADE, VERSION, VALID_KEY, VALID_KEY), 400),
        (asking(*UPGRADE, VERSION, VALID_KEY, b"Sec-WebSocket-Protocol: a b"), 400),
        (asking(*UPGRADE, VERSION, VALID_KEY, method=b"POST"), 400),
        (asking(*UPGRADE, VERSION, VALID_KEY, b"Content-Length: 2") + b"xx", 400),
    ],
)
def test_handshake_that_cannot_be_met_never_reaches_the_application(
    served: Serve, request_bytes: bytes, status: int
) -> None:
    watched = Watched(echo)
    with served(watched) as server, RawClient(server.addresses[0]) as client:
        client.send(request_bytes)
        response = client.receive()
        assert (response.status, response["Connection"]) == (status, "close")
        if status == 426:
            assert (response["Sec-WebSocket-Version"], response["Upgrade"]) == ("13", "websocket")
        client.expect_end()
    assert watched.begun == 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        asking(b"Upgrade: websocket", VALID_KEY, VERSION),
        asking(b"Connection: Upgrade", VALID_KEY, VERSION),
        asking(b"Upgrade: h2c", b"Connection: Upgrade", VALID_KEY, VERSION),
        asking(*UPGRADE, VALID_KEY, VERSION).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_request_that_asks_for_no_websocket_is_an_ordinary_one(served: Serve, request_bytes: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, scope["type"].encode())

    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(request_bytes)
        assert client.receive().body == b"http"


def test_handshake_that_is_turned_down_is_403(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    watched = Watched(app)
    with served(watched) as server, Socket(server.addresses[0]) as client:
        response = client.receive()
        assert (response.status, response.body) == (403, b"")
        # The connection is as good as before.
        client.send(asking(*UPGRADE, VALID_KEY, VERSION))
        assert client.receive().status == 403
        watched.wait_for_end(2)
    assert watched.raised == []


def test_handshake_may_be_answered_by_a_response(served: Serve) -> None:
    script = Script(
        [
            {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]},
            {"type": "websocket.http.response.body", "body": b"who ", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"are you"},
        ]
    )
    with served(script) as server, Socket(server.addresses[0]) as client:
        response = client.receive()
        assert (response.status, response["www-authenticate"], response.body) == (401, "Basic", b"who are you")
    assert script.raised == []


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("no websockets here")


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (silent, "the application returned without accepting or closing the WebSocket at GET /"),
        (raises, "the application failed at GET /"),
    ],
)
def test_application_that_decides_nothing_is_answered_500(
    served: Serve, caplog: pytest.LogCaptureFixture, app: ASGIApp, text: str
) -> None:
    with served(app) as server, Socket(server.addresses[0]) as client:
        assert everything(client) == FAILED + FAILED_TEXT
    (record,) = caplog.records
    assert record.getMessage() == text


def test_client_that_leaves_before_it_is_accepted_is_a_disconnect(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        with pytest.raises(OSError, match="disconnected"):
            await send(ACCEPT)

    watched = Watched(app)
    with served(watched) as server, Socket(server.addresses[0]) as client:
        watched.wait_for_begin()
        client.socket.close()
        watched.wait_for_end()
    assert watched.raised == []


# Messages.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1_000_000])
def test_messages_of_every_size_go_both_ways(served: Serve, size: int) -> None:
    content = random.Random(size).randbytes(size)
    text = ("\u20ac" * (size // 3)).encode()
    with served(echo) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(frame(BINARY, content))
        assert client.read_frame() == Frame(BINARY, content)
        client.send(frame(TEXT, text))
        assert client.read_frame() == Frame(TEXT, text)


def test_messages_behind_the_handshake_are_heard(served: Serve) -> None:
    with (
        served(echo) as server,
        Socket(server.addresses[0], behind=frame(TEXT, b"early") + frame(PING, b"p")) as client,
    ):
        client.opened()
        assert {client.read_frame(), client.read_frame()} == {Frame(TEXT, b"early"), Frame(PONG, b"p")}


def test_fragments_become_one_message_with_control_frames_between(served: Serve) -> None:
    parts = [
        frame(TEXT, b"Hel", final=False),
        frame(PING, b"there?"),
        frame(CONTINUATION, b"", final=False),
        frame(PONG, b"unasked"),
        frame(CONTINUATION, b"lo"),
    ]
    with served(echo) as server, Socket(server.addresses[0]) as client:
        client.opened()
        for size in (1, 7, 1000):
            client.send(*pieces(b"".join(parts), size))
            assert client.read_frame() == Frame(PONG, b"there?")
            assert client.read_frame() == Frame(TEXT, b"Hello")


def test_application_gets_text_as_str_and_binary_as_bytes(served: Serve) -> None:
    seen = Seen()
    with served(seen) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(frame(TEXT, "\xe9".encode()), frame(BINARY, b"\xff"), closing(3000, b"done"))
        client.expect_close(3000)
        seen.ended()
    assert seen.messages == [
        {"type": "websocket.receive", "text": "\xe9"},
        {"type": "websocket.receive", "bytes": b"\xff"},
        {"type": "websocket.disconnect", "code": 3000, "reason": "done"},
    ]


def test_many_small_messages_arrive_in_order(served: Serve) -> None:
    with served(echo, websocket_queue_size=1000) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(5000)))
        assert [client.read_frame().payload for _ in range(5000)] == [b"%d" % number for number in range(5000)]


def test_client_that_is_ahead_of_the_application_has_to_wait(served: Serve) -> None:
    gate = Gate()
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await gate.wait()
        while (await receive())["type"] == "websocket.receive":
            received.append(True)

    watched = Watched(app)
    with served(watched) as server, Socket(server.addresses[0]) as client:
        client.opened()
        message = frame(BINARY, bytes(100_000))
        whole = memoryview(message * 300)
        client.socket.settimeout(0.3)
        total = 0
        with contextlib.suppress(TimeoutError):
            while total < len(whole):
                total += client.socket.send(whole[total:])
        assert total < 20_000_000
        gate.open()
        client.socket.settimeout(20)
        client.socket.sendall(whole[total:])
        client.send(closing(1000))
        client.expect_close(1000)
        watched.wait_for_end()
    assert (len(received), watched.raised) == (300, [])


def test_application_that_is_ahead_of_its_client_waits_and_is_given_up(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while True:
            await send({"type": "websocket.send", "bytes": bytes(1 << 20)})

    watched = Watched(app)
    with served(watched, write_timeout=0.2) as server, Socket(server.addresses[0]) as client:
        watched.wait_for_end()
        client.socket.close()
    (error,) = watched.raised
    assert isinstance(error, OSError)


def test_pings_that_nobody_reads_the_answers_of_are_not_hoarded(served: Serve) -> None:
    seen = Seen()
    with served(seen) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.socket.settimeout(0.5)
        pings = memoryview(frame(PING, bytes(125)) * 300_000)
        total = 0
        with contextlib.suppress(TimeoutError):
            while total < len(pings):
                total += client.socket.send(pings[total:])
        assert total < 30_000_000


# What clients do wrong (RFC 6455 §5, §7.4.1).


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"x", mask=None), 1002),
        (frame(3), 1002),
        (frame(11), 1002),
        (frame(TEXT, b"x", reserved=0x10), 1002),
        (frame(TEXT, b"x", reserved=0x20), 1002),
        (frame(TEXT, b"x", reserved=0x40), 1002),
        (frame(PING, final=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), 1002),
        (frame(CLOSE, b"x"), 1002),
        (closing(1005), 1002),
        (closing(0), 1002),
        (closing(1000, b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3", final=False) + frame(CONTINUATION, b"x"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
        (frame(BINARY, bytes(600), final=False) + frame(CONTINUATION, bytes(401)), 1009),
    ],
)
def test_frame_that_breaks_a_rule_ends_the_conversation(served: Serve, sent: bytes, code: int) -> None:
    seen = Seen()
    with served(seen, websocket_max_message=1000) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(frame(TEXT, b"before") + sent + frame(TEXT, b"behind"))
        client.expect_close(code)
        assert seen.ended()["code"] == code
    assert [message.get("text") for message in seen.messages] == ["before", None]


# How it ends.


@pytest.mark.parametrize(
    ("sent", "echoed", "told"),
    [
        (closing(1000), 1000, (1000, "")),
        (closing(4999, b"bye"), 4999, (4999, "bye")),
        (frame(CLOSE), None, (1005, "")),
    ],
)
def test_close_of_the_client_is_answered_and_told(
    served: Serve, sent: bytes, echoed: int | None, told: tuple[int, str]
) -> None:
    seen = Seen()
    with served(seen) as server, Socket(server.addresses[0]) as client:
        client.opened()
        client.send(sent)
        client.expect_close(echoed, b"")
        end = seen.ended()
    assert (end["code"], end["reason"]) == told


@pytest.mark.parametrize(
    ("close", "code", "reason"), [({}, 1000, b""), ({"code": 4001, "reason": "enough"}, 4001, b"enough")]
)
def test_close_of_the_application_waits_for_the_client(
    served: Serve, close: dict[str, Any], code: int, reason: bytes
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", **close})
        message = await receive()
        assert (message["type"], message["code"]) == ("websocket.disconnect", code)
        with pytest.raises(OSError, match="disconnected"):
            await send({"type": "websocket.send", "text": "late"})

    watched = Watched(app)
    with served(watched) as server, Socket(server.addresses[0]) as client:
        client.opened()
        found = client.read_frame()
        assert (found.opcode, found.payload) == (CLOSE, struct.pack("!H", code) + reason)
        # What the client still says before its own close is of no interest.
        client.send(frame(TEXT, b"more"), frame(PING), closing(code))
        client.expect_end()
        watched.wait_for_end()
    assert watched.raised == []


def test_application_that_returns_closes(served: Serve) -> None:
    script = Script([ACCEPT, {"type": "websocket.send", "text": "last"}])
    with served(script) as server, Socket(server.addresses[0]) as client:
        client.opened()
        assert client.read_frame() == Frame(TEXT, b"last")
        assert client.read_frame() == Frame(CLOSE, struct.pack("!H", 1000))
        client.send(closing(1000))
        client.expect_end()


def test_application_that_fails_closes_with_1011(served: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        raise ValueError("in the midst")

    with served(app) as server, Socket(server.addresses[0]) as client:
        client.opened()
        assert client.read_frame() == Frame(CLOSE, struct.pack("!H", 1011))
        client.send(closing(1011))
        client.expect_end()
    (record,) = caplog.records
    assert record.getMessage() == "the application failed at GET /"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_client_that_leaves_without_a_word_is_1006(served: Serve, caplog: pytest.LogCaptureFixture, how: str) -> None:
    class WebSocketDisconnect(Exception):
        """The name that frameworks give it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        message = await receive()
        assert message == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        with pytest.raises(OSError, match="disconnected"):
            await send({"type": "websocket.send", "text": "late"})
        raise WebSocketDisconnect

    watched = Watched(app)
    with served(watched) as server, Socket(server.addresses[0]) as client:
        client.opened()
        if how == "reset":
            reset(client)
        else:
            client.socket.close()
        watched.wait_for_end()
    assert [type(error) for error in watched.raised] == [WebSocketDisconnect]
    assert caplog.records == []


def test_silent_client_is_pinged_and_kept_as_long_as_it_answers(served: Serve) -> None:
    seen = Seen()
    with (
        served(seen, websocket_ping_interval=0.05, websocket_ping_timeout=0.2) as server,
        Socket(server.addresses[0]) as client,
    ):
        client.opened()
        for _ in range(5):
            found = client.read_frame()
            assert found.opcode == PING
            client.send(frame(PONG, found.payload))
        # And given up when it does not.
        assert client.read_frame().opcode == PING
        client.expect_close(1011)
        assert seen.ended()["code"] == 1011


@pytest.mark.parametrize("answers", [True, False])
def test_stop_says_that_the_server_goes_away(served: Serve, answers: bool) -> None:
    seen = Seen()
    with served(seen, graceful_timeout=0.5) as server, Socket(server.addresses[0]) as client:
        client.opened()
        server.shutdown()
        found = client.read_frame()
        assert (found.opcode, found.payload[:2]) == (CLOSE, struct.pack("!H", 1001))
        assert seen.ended()["code"] == 1001
        if answers:
            client.send(closing(1001))
            client.expect_end()
        else:
            server.server_close()
            assert client.has_ended()


# What applications do wrong.


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([{"type": "websocket.send", "text": "early"}], RuntimeError, "sent before websocket.accept"),
        ([{"type": "http.response.start", "status": 200}], ValueError, "no place in a WebSocket"),
        ([{"type": "websocket.accept", "headers": [(b"sec-websocket-protocol", b"x")]}], ValueError, "subprotocol"),
        ([{"type": "websocket.accept", "headers": [("x", "y")]}], TypeError, "must be bytes"),
        ([{"type": "websocket.accept", "subprotocol": 5}], TypeError, "must be a str"),
        ([{"type": "websocket.close", "code": 1006}], ValueError, "a code that may be sent"),
        ([{"type": "websocket.http.response.body"}], RuntimeError, "before http.response.start"),
    ],
)
def test_wrong_message_before_the_handshake_is_raised(
    served: Serve, caplog: pytest.LogCaptureFixture, messages: list[Message], error: type[Exception], text: str
) -> None:
    script = Script(messages)
    with served(script) as server, Socket(server.addresses[0]) as client:
        assert client.receive().status == 500
    (raised,) = script.raised
    assert type(raised) is error
    assert text in str(raised)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (ACCEPT, RuntimeError, "websocket.accept was sent after websocket.accept"),
        ({"type": "websocket.send"}, ValueError, 'either "bytes" or "text"'),
        ({"type": "websocket.send", "text": "a", "bytes": b"b"}, ValueError, 'either "bytes" or "text"'),
        ({"type": "websocket.send", "text": b"a"}, TypeError, "must be a str, not bytes"),
        ({"type": "websocket.send", "bytes": "a"}, TypeError, "must be bytes, not str"),
        ({"type": "websocket.send", "text": "\ud800"}, ValueError, '"text" contains a lone surrogate'),
        ({"type": "websocket.close", "reason": "\ud800"}, ValueError, '"reason" contains a lone surrogate'),
        ({"type": "websocket.close", "code": "1000"}, TypeError, "must be an int"),
        ({"type": "websocket.close", "reason": b"x"}, TypeError, "must be a str"),
        ({"type": "websocket.other"}, ValueError, "no place in a WebSocket"),
        ({"type": "websocket.http.response.start", "status": 200}, RuntimeError, "after websocket.accept"),
    ],
)
def test_wrong_message_after_the_handshake_is_raised_and_closes_with_1011(
    served: Serve, caplog: pytest.LogCaptureFixture, message: Message, error: type[Exception], text: str
) -> None:
    script = Script([ACCEPT, message])
    with served(script) as server, Socket(server.addresses[0]) as client:
        client.opened()
        assert client.read_frame() == Frame(CLOSE, struct.pack("!H", 1011))
        client.send(closing(1011))
        client.expect_end()
    (raised,) = script.raised
    assert type(raised) is error
    assert text in str(raised)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# Compression (RFC 7692).

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


class Peer:
    """The client's side of permessage-deflate."""

    def __init__(self, bits: int = 15) -> None:
        self._deflate = zlib.compressobj(wbits=-bits)
        self._inflate = zlib.decompressobj(wbits=-15)

    def deflate(self, content: bytes) -> bytes:
        """A message's payload."""
        return (self._deflate.compress(content) + self._deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def inflate(self, payload: bytes) -> bytes:
        """What a payload holds."""
        return self._inflate.decompress(payload + b"\0\0\xff\xff")


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"", "permessage-deflate; server_max_window_bits=12"),
        (b"; client_max_window_bits", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"),
        (
            b"; server_no_context_takeover; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_no_context_takeover",
        ),
        (b"; server_max_window_bits=8, permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
    ],
)
def test_compressed_messages_go_both_ways(served: Serve, offer: bytes, answer: str) -> None:
    content = " ".join(str(number) for number in range(3000)).encode()
    with served(echo) as server, Socket(server.addresses[0], DEFLATE + offer) as client:
        assert client.opened()["Sec-WebSocket-Extensions"] == answer
        peer = Peer(12)
        for _ in range(3):
            small = peer.deflate(content)
            client.send(frame(TEXT, small[:100], reserved=0x40, final=False), frame(CONTINUATION, small[100:]))
            found = client.read_frame()
            assert (found.opcode, found.compressed) == (TEXT, True)
            assert len(found.payload) < len(content)
            if "server_no_context" in answer:
                peer._inflate = zlib.decompressobj(wbits=-15)
            assert peer.inflate(found.payload) == content
        # Small ones are sent as they are, and may come as they are.
        client.send(frame(TEXT, b"small"))
        assert client.read_frame() == Frame(TEXT, b"small")


# Each refers to what it sent before, whatever others have sent meanwhile, and small messages are no part of that.
def test_many_conversations_keep_their_compression_apart(served: Serve) -> None:
    def content(number: int) -> bytes:
        return " ".join(str(number * 1_000_003 + word * 7919) for word in range(120)).encode()

    with served(echo) as server, contextlib.ExitStack() as stack:
        clients = [(stack.enter_context(Socket(server.addresses[0], DEFLATE)), Peer(12)) for _ in range(40)]
        sizes: list[int] = []
        for _ in range(3):
            size = 0
            for number, (client, peer) in enumerate(clients):
                if sizes == []:
                    client.opened()
                client.send(frame(TEXT, b"small"), frame(TEXT, peer.deflate(content(number)), reserved=0x40))
                assert client.read_frame() == Frame(TEXT, b"small")
                found = client.read_frame()
                assert peer.inflate(found.payload) == content(number)
                size += len(found.payload)
            sizes.append(size)
    assert sizes[1] < sizes[0] / 5
    assert sizes[2] < sizes[0] / 5


def test_bomb_is_refused_before_it_goes_off(served: Serve) -> None:
    seen = Seen()
    with (
        served(seen, websocket_max_message=1 << 20) as server,
        Socket(server.addresses[0], DEFLATE + b"; client_no_context_takeover") as client,
    ):
        client.opened()
        bomb = Peer().deflate(bytes(200 << 20))
        assert len(bomb) < 1 << 20
        client.send(frame(BINARY, bomb, reserved=0x40))
        client.expect_close(1009)
        assert seen.ended()["code"] == 1009


def test_compression_can_be_switched_off(served: Serve) -> None:
    with served(echo, websocket_compression=False) as server, Socket(server.addresses[0], DEFLATE) as client:
        assert "Sec-WebSocket-Extensions" not in client.opened()


# Beside HTTP.


def test_websockets_keep_no_place_of_requests_that_wait(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, b"hello")
        else:
            await echo(scope, receive, send)

    with served(app, queue_limit=1) as server:
        sockets = []
        for _ in range(3):
            sockets.append(Socket(server.addresses[0]))
            sockets[-1].opened()
        with RawClient(server.addresses[0]) as client:
            client.send(GET)
            assert client.receive().body == b"hello"
        for one in sockets:
            one.send(closing(1000))
            one.expect_close(1000)
            one.socket.close()


def test_conversations_go_on_side_by_side(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        reading = asyncio.ensure_future(receive())
        await send({"type": "websocket.send", "text": "first"})
        message = await reading
        await send({"type": "websocket.send", "text": message["text"] + " answered"})
        await receive()

    with served(app) as server:
        sockets = [Socket(server.addresses[0]) for _ in range(20)]
        for one in sockets:
            one.opened()
            assert one.read_frame() == Frame(TEXT, b"first")
        for number, one in enumerate(sockets):
            one.send(frame(TEXT, b"%d" % number))
        for number, one in enumerate(sockets):
            assert one.read_frame() == Frame(TEXT, b"%d answered" % number)
            one.socket.close()
