"""The load generator for WebSockets counts echoes, and takes nothing else for one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.loads.load import LoadError, Target
from benchmarks.loads.websocket import WebSocketEcho

pytestmark = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler")

LENGTH = 20
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@contextlib.contextmanager
def serving(head: bytes = UPGRADED, opcode: int = 0x81) -> Iterator[Target]:
    """Echoes messages of one length, and nothing more of RFC 6455 than that."""

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError), connection.makefile("rb") as stream:
            while stream.readline() not in (b"\r\n", b""):
                pass
            connection.sendall(head)
            while len(frame := stream.read(6 + LENGTH)) == 6 + LENGTH:
                assert frame[:2] == bytes([0x81, 0x80 | LENGTH])
                content = bytes(byte ^ frame[2 + index % 4] for index, byte in enumerate(frame[6:]))
                connection.sendall(bytes([opcode, LENGTH]) + content)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=[door.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield Target(os.getpid(), door.getsockname()[1], 1)
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_echoes_are_counted_and_timed() -> None:
    with serving() as target:
        figures = WebSocketEcho(connections=3, length=LENGTH).run(target)
    assert figures["per_second"] > 1
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["cpu_us"] > 0


def test_answer_that_is_no_echo_is_an_error() -> None:
    with serving(opcode=0x82) as target, pytest.raises(LoadError, match="echoes were wrong"):
        WebSocketEcho(connections=1, length=LENGTH).run(target)


def test_refused_handshake_is_an_error() -> None:
    with serving(b"HTTP/1.1 404 Not Found\r\n\r\n") as target, pytest.raises(LoadError, match="404"):
        WebSocketEcho(connections=1, length=LENGTH).run(target)
