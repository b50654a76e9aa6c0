"""What WebSocket clients can make the server hold is bounded, for one connection and for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import struct
import time
import zlib
from pathlib import Path

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, Socket, closing, frame
from tests.asgi.talking import GET, Gate, Message, Receive, Scope, Send, Watched, answer
from tests.server.recording import eventually
from tests.support import RawClient

MIB = 1 << 20
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
STATM = Path("/proc/self/statm")
needs_statm = pytest.mark.skipif(not STATM.exists(), reason="needs /proc to know what is in use")


def resident() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def compressed(content: bytes) -> bytes:
    compress = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (compress.compress(content) + compress.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = compressed(bytes(16 * MIB))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await answer(send, b"ordinary")
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Late:
    """Accepts, and reads nothing until its gate is open."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, b"ordinary")
            return
        await receive()
        await send({"type": "websocket.accept"})
        await self.gate.wait()
        while True:
            self.messages.append(await receive())
            if self.messages[-1]["type"] == "websocket.disconnect":
                return


def end_of(client: Socket) -> int:
    """The code of the close frame that comes next, behind pings."""
    while (found := client.read_frame()).opcode == PING:
        pass
    assert found.opcode == CLOSE, found
    code: int = struct.unpack("!H", found.payload[:2])[0]
    return code


@needs_statm
def test_unfinished_messages_that_expand_take_what_is_allowed_and_no_more(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with served(echo, websocket_memory=32 * MIB) as server:
        address = server.addresses[0]
        before = resident()
        clients = []
        for _ in range(20):
            clients.append(client := Socket(address, OFFER))
            client.opened()
            client.send(frame(BINARY, BOMB, final=False, reserved=0x40))
            with RawClient(address) as ordinary:
                ordinary.send(GET)
                assert ordinary.receive().body == b"ordinary"
        # The newest may have its message whole; most others have lost their place to it.
        with Socket(address) as other:
            other.opened()
            other.send(frame(BINARY, bytes(MIB)))
            assert other.read_frame() == Frame(BINARY, bytes(MIB))
            eventually(lambda: sum(client.has_something() for client in clients) >= 17, "17 make room")
            assert resident() - before < 120 * MIB
            assert {end_of(client) for client in clients if client.has_something()} == {1013}
        for client in clients:
            client.socket.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert re.match(r"closed \d+ WebSockets with 1013: messages took websocket_memory, 33554432 bytes;", warnings[0])


@needs_statm
def test_messages_that_wait_for_the_application_are_counted_by_their_bytes(served: Serve) -> None:
    late = Late()
    with served(late, body_timeout=0.1) as server, Socket(server.addresses[0], OFFER) as client:
        client.opened()
        before = resident()
        client.send(frame(BINARY, BOMB, reserved=0x40) * 10, closing(1000))
        for _ in range(20):
            with RawClient(server.addresses[0]) as ordinary:
                ordinary.send(GET)
                assert ordinary.receive().body == b"ordinary"
        assert resident() - before < 60 * MIB
        late.gate.open()
        client.expect_close(1000)
    # Reading has stopped in the midst of one, and the client has not to answer for that.
    assert [len(message.get("bytes", b"")) for message in late.messages] == [16 * MIB] * 10 + [0]


def test_many_connections_with_waiting_messages_make_room_for_those_that_are_read(served: Serve) -> None:
    late = Late()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (echo if scope["path"] == "/echo" else late)(scope, receive, send)

    watched = Watched(app)
    with served(watched, websocket_memory=2 * MIB) as server:
        clients = [Socket(server.addresses[0]) for _ in range(20)]
        for client in clients:
            client.opened()
            client.send(frame(BINARY, bytes(200 * 1024)))
        with Socket(server.addresses[0], path=b"/echo") as other:
            other.opened()
            for size in (1, 1000, 100_000):
                other.send(frame(BINARY, bytes(size)))
                assert other.read_frame() == Frame(BINARY, bytes(size))
        eventually(lambda: sum(client.has_something() for client in clients) >= 10, "10 make room")
        closed = [client for client in clients if client.has_something()]
        assert {end_of(client) for client in closed} == {1013}
        late.gate.open()
        watched.wait_for_end(len(closed))
        for client in clients:
            client.socket.close()
        watched.wait_for_end(21)
    ends = [message for message in late.messages if message["type"] == "websocket.disconnect"]
    assert sum(end["code"] == 1013 for end in ends) == len(closed)


def test_message_that_stops_in_its_midst_ends_with_1008(served: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with served(echo, body_timeout=0.2) as server:
        for begun in (frame(TEXT, b"half", final=False), frame(TEXT, b"half")[:-1], frame(PING)[:1]):
            with Socket(server.addresses[0]) as client:
                client.opened()
                client.send(frame(TEXT, b"whole"), begun)
                assert client.read_frame() == Frame(TEXT, b"whole")
                client.expect_close(1008, b"the message came too slowly")
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count("a WebSocket's message came too slowly at GET /") == 3


def test_message_that_trickles_below_the_minimum_rate_ends_with_1008(served: Serve) -> None:
    with (
        served(echo, body_timeout=0.5, body_min_rate=10_000) as server,
        Socket(server.addresses[0]) as client,
    ):
        client.opened()
        client.send(frame(BINARY, bytes(MIB))[: MIB // 2])
        end = time.monotonic() + 20
        with contextlib.suppress(OSError):
            while not client.has_something() and time.monotonic() < end:
                client.send(b"x")
                select.select([client.socket], [], [], 0.01)
        assert end_of(client) == 1008


def test_connection_without_an_unfinished_message_waits_as_long_as_it_likes(served: Serve) -> None:
    with (
        served(echo, body_timeout=0.1, websocket_ping_interval=0.2) as server,
        Socket(server.addresses[0]) as client,
    ):
        client.opened()
        for _ in range(3):
            assert client.read_frame() == Frame(PING, b"")
            client.send(frame(PONG))
        client.send(frame(TEXT, b"still here"))
        assert client.read_frame() == Frame(TEXT, b"still here")


# What is sent at once, and then again and again: less than the slack of three seconds passes between two bytes.
UNFINISHED = {
    "stops between frames": (frame(TEXT, b"half", final=False), b""),
    "stops within a frame": (frame(TEXT, b"half")[:-1], b""),
    "stops within a header": (frame(PING)[:1], b""),
    "trickles after a fast start": (frame(BINARY, bytes(MIB))[: MIB // 2], b"\0"),
    "trickles in fragments": (frame(BINARY, b"", final=False), frame(CONTINUATION, b"x", final=False)),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_client_that_does_not_complete_a_message_makes_room_and_an_idle_one_does_not(served: Serve, kind: str) -> None:
    begun, more = UNFINISHED[kind]
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await gate.wait()
        await echo(scope, receive, send)

    with served(app, max_connections=4) as server, contextlib.ExitStack() as stack:
        address = server.addresses[0]
        idle, *slow = [stack.enter_context(Socket(address)) for _ in range(3)]
        for client in (idle, *slow):
            client.opened()
            client.send(frame(TEXT, b"whole"))
            assert client.read_frame() == Frame(TEXT, b"whole")
        for client in slow:
            client.send(begun)
        waiting = stack.enter_context(RawClient(address))
        waiting.send(GET.replace(b"/e", b"/wait"))
        newcomer = stack.enter_context(RawClient(address))
        newcomer.send(GET)
        for _ in range(200):
            if select.select([newcomer.socket], [], [], 0.1)[0]:
                break
            for client in slow:
                with contextlib.suppress(OSError):
                    client.send(more)
        assert newcomer.receive().body == b"ordinary"
        eventually(lambda: sum(client.has_something() for client in slow) == 1, "one of the two makes room")
        idle.send(frame(TEXT, b"still here"))
        assert idle.read_frame() == Frame(TEXT, b"still here")
        gate.open()
        assert waiting.receive().body == b"ordinary"
        # The other has its place still, and completes its message.
        (kept,) = [client for client in slow if not client.has_something()]
        if kind == "stops between frames":
            kept.send(frame(CONTINUATION, b" a message"))
            assert kept.read_frame() == Frame(TEXT, b"half a message")
        for client in (idle, *slow):
            client.socket.close()


@needs_statm
def test_idle_connection_keeps_no_state_of_its_compression(served: Serve) -> None:
    count = 300
    message = frame(BINARY, compressed(b"word " * 200), reserved=0x40)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "taken"})

    with served(app) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Socket(server.addresses[0], OFFER)) for _ in range(count)]
        for client in clients:
            client.opened()
            client.send(frame(TEXT, b"plain"))
            assert client.read_frame() == Frame(TEXT, b"taken")
        before = resident()
        for client in clients:
            client.send(message)
            assert client.read_frame() == Frame(TEXT, b"taken")
        assert (resident() - before) / count < 12 * 1024


def test_memory_is_given_back_when_the_application_ends_first(served: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.receive"
        await asyncio.sleep(0.05)

    # Far more in all than there is room for, and nobody is closed for it.
    with served(app, websocket_memory=MIB) as server:
        for _ in range(30):
            with Socket(server.addresses[0]) as client:
                client.opened()
                client.send(frame(TEXT, b"x"), frame(BINARY, bytes(100_000)), frame(BINARY, bytes(100_000))[:50_000])
                assert end_of(client) == 1000
                client.send(frame(BINARY, bytes(100_000))[50_000:], closing(1000))
                client.expect_end()
