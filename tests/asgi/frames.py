"""A WebSocket client that sends the bytes it is given and reads frames to the letter of RFC 6455."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from tests.support import RawClient, Response

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


class Frame(NamedTuple):
    """A frame of the server's."""

    opcode: int
    payload: bytes
    final: bool = True
    compressed: bool = False


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, mask: bytes | None = MASK
) -> bytes:
    """A frame of a client's."""
    length = len(payload)
    masked = 0 if mask is None else 0x80
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    if length < 126:
        head += bytes([masked | length])
    elif length < 1 << 16:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def closing(code: int, reason: bytes = b"") -> bytes:
    """A close frame of a client's."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


def handshake(path: bytes = b"/", *lines: bytes) -> bytes:
    """The request for a WebSocket, with field lines besides those that it needs."""
    needed = [b"Host: a", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: " + KEY]
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, *needed, b"Sec-WebSocket-Version: 13", *lines, b"", b""])


class Socket(RawClient):
    """A connection that has asked for a WebSocket.

    Parameters:
        address: a URL as in `WSGIServer.addresses`.
        lines: field lines besides those that a handshake needs.
        behind: bytes that are sent with the handshake.
    """

    def __init__(self, address: str, *lines: bytes, path: bytes = b"/", behind: bytes = b"") -> None:
        super().__init__(address)
        self.send(handshake(path, *lines) + behind)

    def __enter__(self) -> Socket:
        return self

    def opened(self) -> Response:
        """Reads the response, which must open the WebSocket."""
        response = self.receive()
        assert response.status == 101, response
        assert (response["Upgrade"], response["Connection"]) == ("websocket", "Upgrade")
        assert response["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "Content-Length" not in response
        assert "Transfer-Encoding" not in response
        return response

    def read_frame(self) -> Frame:
        """Reads one frame."""
        first, second = self._take(2)
        assert not second & 0x80, "a server masks nothing"
        assert not first & 0x30
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
            assert length >= 126
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
            assert length >= 1 << 16
        return Frame(first & 0xF, self._take(length), bool(first & 0x80), bool(first & 0x40))

    def expect_close(self, code: int | None, reason: bytes | None = None) -> None:
        """Reads a close frame, and then the end of the stream."""
        found = self.read_frame()
        assert found.opcode == CLOSE, found
        if code is None:
            assert found.payload == b""
        else:
            assert struct.unpack("!H", found.payload[:2]) == (code,), found
        if reason is not None:
            assert found.payload[2:] == reason
        self.expect_end()


def pieces(whole: bytes, size: int) -> Iterable[bytes]:
    """`whole` in parts of `size` bytes."""
    return (whole[at : at + size] for at in range(0, len(whole), size))
