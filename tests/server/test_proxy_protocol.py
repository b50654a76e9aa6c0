"""The PROXY protocol: with the option on, every connection is a trusted proxy's and begins with its header.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import curl, needs_curl
from tests.server.proxying import SIGNATURE, app, extension, v1, v2
from tests.server.recording import GET, POST, eventually, get, listening
from tests.support import RawClient, has_ipv6, serve

TRUSTED = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": "any"}
CLIENT = ("192.0.2.1", "4711")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server that expects the protocol."""
    with serve(app, **TRUSTED) as server:
        yield server.addresses[0]


def client_of(response: Any) -> tuple[str, str | None]:
    assert response.status == 200
    seen = json.loads(response.body)
    return seen["REMOTE_ADDR"], seen.get("REMOTE_PORT")


def ask(address: str, *parts: bytes) -> tuple[str, str | None]:
    """Sends each part in a write of its own and gives the client that the application sees."""
    with RawClient(address) as client:
        client.send(*parts)
        return client_of(client.receive())


def closed(address: str, *parts: bytes) -> None:
    """Fails unless the connection is closed without a byte of an answer."""
    with RawClient(address) as client:
        try:
            client.send(*parts)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert client.has_ended()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (v1("192.0.2.1"), CLIENT),
        (v1("2001:db8::1"), ("2001:db8::1", "4711")),
        (b"PROXY UNKNOWN\r\n", ("", None)),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", ("", None)),
        (v2("192.0.2.1"), CLIENT),
        (v2("2001:db8::1"), ("2001:db8::1", "4711")),
        (v2("::ffff:192.0.2.1"), CLIENT),
        (v2(None), ("", None)),
        (v2("192.0.2.1", extensions=extension(0xEA, b"\x01vpce-0123456789") + extension(4, bytes(500))), CLIENT),
    ],
)
def test_header_tells_the_client(address: str, header: bytes, expected: tuple[str, str | None]) -> None:
    assert ask(address, header + get("/")) == expected


def test_connection_of_the_proxy_itself_keeps_its_address(address: str) -> None:
    with RawClient(address) as client:
        client.send(v2(None, command=0x20) + get("/"))
        port = client.socket.getsockname()[1]
        assert client_of(client.receive()) == ("127.0.0.1", str(port))


@pytest.mark.parametrize("header", [v1("192.0.2.1"), v2("192.0.2.1"), v2("192.0.2.1", extensions=extension(4, b"a"))])
def test_header_split_at_every_byte_is_read_whole(address: str, header: bytes) -> None:
    for cut in range(1, len(header) + 4):
        sent = header + get("/")
        assert ask(address, sent[:cut], sent[cut:]) == CLIENT
    assert ask(address, *[bytes([byte]) for byte in header + get("/")]) == CLIENT


def test_client_is_that_of_the_header_for_all_requests_of_the_connection(address: str) -> None:
    post = POST + b"Content-Length: 5\r\n\r\nhello"
    with RawClient(address) as client:
        client.send(v2("192.0.2.1") + get("/a") + post + get("/b"))
        assert [client_of(client.receive()) for _ in range(3)] == [CLIENT] * 3
        client.send(get("/later"))
        assert client_of(client.receive()) == CLIENT


def test_server_variables_stay_those_of_the_listener(address: str) -> None:
    with RawClient(address) as client:
        client.send(v1("192.0.2.1"), get("/"))
        seen = json.loads(client.receive().body)
        host, port = client.socket.getpeername()
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["wsgi.url_scheme"]) == (host, str(port), "http")


TLS = extension(0x20, b"\x01\0\0\0\0" + extension(0x21, b"TLSv1.3"))


@pytest.mark.parametrize(
    ("header", "host", "expected"),
    [
        (v2("192.0.2.1", extensions=TLS), "shop.example", ("https", "443")),
        (v2("192.0.2.1", extensions=extension(4, b"x") + TLS), "shop.example:8443", ("https", "8443")),
        (v2("192.0.2.1", extensions=extension(0x20, bytes(5))), "shop.example", ("http", None)),
        # The proxy itself asks, and its fields count.
        (v2("192.0.2.1", command=0x20, extensions=TLS), "shop.example", ("http", "80")),
        (v2("192.0.2.1"), "shop.example", ("http", None)),
    ],
)
def test_client_that_speaks_tls_to_the_proxy_has_the_scheme_https(
    address: str, header: bytes, host: str, expected: tuple[str, str | None]
) -> None:
    with RawClient(address) as client:
        client.send(header)
        for _ in range(2):
            client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: http\r\n\r\n".encode())
            seen = json.loads(client.receive().body)
            assert seen["wsgi.url_scheme"] == expected[0]
            assert seen["SERVER_PORT"] == (expected[1] or str(client.socket.getpeername()[1]))


MALFORMED = [
    get("/"),
    b"\r\n" + get("/"),
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"PROXY\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 080\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 4711 80\r\n",
    b"PROXY TCP6 fe80::1%lo ::1 4711 80\r\n",
    b"PROXY UNKNOWN " + b"x" * 107 + b"\r\n",
    v2("192.0.2.1", command=0x22),
    v2("192.0.2.1", command=0x11),
    SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
    SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
    SIGNATURE + b"\x21\x11\xff\xff",
    v2("192.0.2.1", extensions=b"\x04\x00\x02a"),
    v2("192.0.2.1", extensions=extension(0x20, b"\x01")),
]


@pytest.mark.parametrize("beginning", MALFORMED)
def test_anything_else_is_closed_without_an_answer(address: str, beginning: bytes) -> None:
    closed(address, beginning + get("/"))
    closed(address, *[bytes([byte]) for byte in beginning + get("/")])


def test_second_header_is_no_request(address: str) -> None:
    with RawClient(address) as client:
        client.send(v1("192.0.2.1") + v1("203.0.113.9") + get("/"))
        assert client.receive().status == 400
        client.expect_end()


@pytest.mark.parametrize(("version", "yes", "no"), [("v1", v1, v2), ("v2", v2, v1)])
def test_version_that_was_not_asked_for_is_closed(version: str, yes: Any, no: Any) -> None:
    with serve(app, trusted_proxies=["127.0.0.0/8"], proxy_protocol=version) as server:
        assert ask(server.addresses[0], yes("192.0.2.1"), get("/")) == CLIENT
        closed(server.addresses[0], no("192.0.2.1"), get("/"))


def test_peer_that_is_not_trusted_is_closed_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    with serve(app, trusted_proxies=["10.0.0.0/8", "unix"], proxy_protocol="any") as server:
        for beginning in (b"", get("/"), v1("10.0.0.1") + get("/"), v2("10.0.0.1") + get("/")):
            closed(server.addresses[0], beginning)
    reports = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert reports == ["a connection from 127.0.0.1 was closed: with proxy_protocol, trusted_proxies must cover it"]


def test_malformed_header_is_reported_once_and_without_its_bytes(caplog: pytest.LogCaptureFixture) -> None:
    with serve(app, **TRUSTED) as server:
        for _ in range(3):
            closed(server.addresses[0], get("/secret"))
    reports = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert reports == [
        "a connection was closed: its PROXY protocol header is unusable: the connection does not begin with it"
    ]


@pytest.mark.parametrize("beginning", [b"", b"PROXY TCP4 192", SIGNATURE[:7], v2("192.0.2.1")[:20]])
def test_header_that_does_not_end_in_time_closes_the_connection(beginning: bytes) -> None:
    with serve(app, header_timeout=0.05, **TRUSTED) as server:
        closed(server.addresses[0], beginning)


def test_silence_behind_the_header_is_that_of_a_new_connection() -> None:
    with serve(app, header_timeout=0.05, **TRUSTED) as server:
        closed(server.addresses[0], v1("192.0.2.1"))
        with RawClient(server.addresses[0]) as client:
            client.send(v1("192.0.2.1") + GET)
            assert client.receive().status == 408


def test_proxy_that_leaves_inside_the_header_leaves_nothing_behind() -> None:
    with serve(app, **TRUSTED) as server:
        for cut in (0, 1, 5, 20):
            with RawClient(server.addresses[0]) as client:
                client.send(v2("192.0.2.1")[:cut])
                client.end()
                assert client.has_ended()
        assert ask(server.addresses[0], v1("192.0.2.1"), get("/")) == CLIENT


def test_waiting_for_the_header_does_not_keep_the_server_from_stopping() -> None:
    with serve(app, **TRUSTED) as server:
        client = RawClient(server.addresses[0])
        client.send(b"PROXY ")
        ask(server.addresses[0], v1("192.0.2.1"), get("/"))
    with client:
        assert client.has_ended()


def test_unix_sockets_speak_it_as_well(tmp_path: Path) -> None:
    with listening("unix", app, tmp_path, trusted_proxies=["unix"], proxy_protocol="v1") as server:
        assert ask(server.addresses[0], v1("192.0.2.1") + get("/")) == CLIENT
        closed(server.addresses[0], get("/"))


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_ipv6_peers_are_trusted_by_their_network() -> None:
    with serve(app, host="::1", trusted_proxies=["::/64"], proxy_protocol="v2") as server:
        assert ask(server.addresses[0], v2("192.0.2.1") + get("/")) == CLIENT
    with serve(app, host="::1", trusted_proxies=["127.0.0.1"], proxy_protocol="v2") as server:
        closed(server.addresses[0], v2("192.0.2.1") + get("/"))


# The proxy relays bytes: the fields are the client's, whoever relays them.
@pytest.mark.parametrize(
    ("trusted", "source", "expected"),
    [
        (["127.0.0.1"], "192.0.2.1", "192.0.2.1"),
        (["*"], "192.0.2.1", "192.0.2.1"),
        (["127.0.0.1", "192.0.2.0/24"], "192.0.2.1", "203.0.113.9"),
        (["*", "192.0.2.1"], "192.0.2.1", "203.0.113.9"),
    ],
)
def test_fields_behind_the_header_count_if_the_client_is_a_proxy(
    trusted: list[str], source: str, expected: str
) -> None:
    with serve(app, trusted_proxies=trusted, proxy_protocol="any") as server, RawClient(server.addresses[0]) as client:
        client.send(v2(source) + get("/", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https"))
        seen = json.loads(client.receive().body)
    assert seen["REMOTE_ADDR"] == expected
    assert seen["wsgi.url_scheme"] == ("https" if expected == "203.0.113.9" else "http")
    assert seen.get("HTTP_X_FORWARDED_FOR") == ("203.0.113.9" if expected == "203.0.113.9" else None)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(None), SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216)])
def test_client_without_an_address_is_never_taken_for_the_proxy(header: bytes) -> None:
    with (
        serve(app, trusted_proxies=["127.0.0.1", "unix", "*"], proxy_protocol="any") as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(header + get("/", "X-Forwarded-For: 203.0.113.9"))
        seen = json.loads(client.receive().body)
    assert seen["REMOTE_ADDR"] == ""
    assert "HTTP_X_FORWARDED_FOR" not in seen


def test_access_log_shows_the_client_of_the_header(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with serve(app, access_log=log, access_log_format="%h %{remote}p %U", **TRUSTED) as server:
        ask(server.addresses[0], v1("192.0.2.1") + get("/a"))
        ask(server.addresses[0], v2("2001:db8::1", 9) + get("/b"))
        ask(server.addresses[0], b"PROXY UNKNOWN\r\n" + get("/c"))
    assert log.read_text().splitlines() == ["192.0.2.1 4711 /a", "2001:db8::1 9 /b", "- 0 /c"]


def test_without_the_option_the_header_is_a_malformed_request() -> None:
    for header in (v1("192.0.2.1"), v2("192.0.2.1")):
        with serve(app, trusted_proxies=["127.0.0.1"]) as server, RawClient(server.addresses[0]) as client:
            client.send(header + get("/"))
            assert client.receive().status == 400


def test_new_clients_take_the_place_of_connections_that_bring_no_header() -> None:
    with serve(app, max_connections=2, **TRUSTED) as server:
        silent = [RawClient(server.addresses[0]) for _ in range(2)]

        def served() -> bool:
            return ask(server.addresses[0], v1("192.0.2.1"), get("/")) == CLIENT

        eventually(served, "a place for a client")
        for client in silent:
            client.socket.close()


@needs_curl
def test_curl_with_haproxy_protocol_is_served(address: str) -> None:
    found = curl("--haproxy-protocol", address)
    assert found.status == 200
    assert json.loads(found.body)["REMOTE_ADDR"] == "127.0.0.1"
    assert curl(address).exit_code == 52  # an empty reply
