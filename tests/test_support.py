"""The raw client takes what RFC 9112 allows and nothing else: the other tests lean on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support import ProtocolError, RawClient


@pytest.fixture
def peer() -> Iterator[Callable[[bytes], RawClient]]:
    """Gives a client whose server sends the given bytes and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients: list[RawClient] = []

        def answer(content: bytes) -> None:
            with listener.accept()[0] as connection:
                connection.sendall(content)

        def connect(content: bytes) -> RawClient:
            thread = threading.Thread(target=answer, args=(content,))
            thread.start()
            clients.append(RawClient(f"http://127.0.0.1:{listener.getsockname()[1]}"))
            thread.join()
            return clients[-1]

        yield connect
        for client in clients:
            client.socket.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("content", "method", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", "GET", b"hello"),
        (OK + b"Content-Length: 5\r\n\r\n", "HEAD", b""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "GET", b"hello!"),
        (OK + b"Connection: close\r\n\r\nhello", "GET", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", "GET", b""),
    ],
)
def test_client_right_response_is_read(
    content: bytes, method: str, body: bytes, peer: Callable[[bytes], RawClient]
) -> None:
    (response,) = peer(content).responses(method)
    assert response.body == body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: 5\r\n\r\nhello!",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Bad Name: 1\r\n\r\n",
        OK + b"X: a\x00b\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_client_wrong_response_is_refused(content: bytes, peer: Callable[[bytes], RawClient]) -> None:
    client = peer(content)
    with pytest.raises(ProtocolError):
        client.responses("GET")


def test_client_fields_are_found_without_case(peer: Callable[[bytes], RawClient]) -> None:
    response = peer(OK + b"X-A: 1\r\nx-a:  2 \r\nContent-Length: 0\r\n\r\n").receive()
    assert response.values("X-a") == ["1", "2"]
    assert response["content-length"] == "0"
    assert "x-b" not in response
