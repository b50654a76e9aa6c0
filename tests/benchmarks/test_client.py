"""The client reads responses whole, however they are framed."""

from __future__ import annotations

import io

import pytest

from benchmarks import browser, client

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\n"


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (HEAD + b"content-length: 0\r\n\r\n", b""),
    ],
)
def test_framed_response_ends_where_it_says(wire: bytes, body: bytes) -> None:
    stream = io.BytesIO(wire + b"HTTP/1.1 404 Not Found\r\n")
    assert client.read_response(stream) == client.Response(200, body, len(wire))
    assert stream.tell() == len(wire)


def test_response_without_framing_ends_with_the_connection() -> None:
    wire = HEAD + b"\r\nhello"
    assert client.read_response(io.BytesIO(wire)) == client.Response(200, b"hello", len(wire))


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: 5\r\n\r\nhell",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhe",
    ],
)
def test_truncated_response_is_an_error(wire: bytes) -> None:
    with pytest.raises(ConnectionError, match="closed the connection"):
        client.read_response(io.BytesIO(wire))


def test_request_of_a_browser_has_seven_fields_and_its_body() -> None:
    head, _, body = browser.request("/a", fields=["Connection: close"]).partition(b"\r\n\r\n")
    assert head.startswith(b"GET /a HTTP/1.1\r\nHost: ")
    assert head.count(b"\r\n") == 8
    assert body == b""
    head, _, body = browser.request(body=b"abc").partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 3" in head
    assert body == b"abc"
