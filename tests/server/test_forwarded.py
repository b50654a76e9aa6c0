"""Trusted proxies: what the fields of proxies do to the environ and the log, and above all when they do nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.server.proxying import app
from tests.server.recording import CHUNKED, POST, get, listening
from tests.support import RawClient, serve

LOCAL = ["127.0.0.1"]
ALL_X = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"]
SPOOFED = (
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-User: root",
    "Forwarded: for=6.6.6.6;proto=https;host=evil.example",
)


def seen(*lines: str, **options: Any) -> dict[str, str]:
    """What the application sees of a request with these field lines."""
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/p", *lines))
        response = client.receive()
        assert response.status == 200
        found: dict[str, str] = json.loads(response.body)
        found["own port"] = str(client.socket.getsockname()[1])
    return found


def facts(found: dict[str, str]) -> tuple[str, str, str, str, str]:
    return tuple(  # type: ignore[return-value]
        found[name] for name in ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT", "SCRIPT_NAME")
    )


def test_by_default_fields_of_proxies_are_fields_like_any_other() -> None:
    found = seen(*SPOOFED)
    assert facts(found) == ("127.0.0.1", "http", "a", found["SERVER_PORT"], "")
    assert found["REMOTE_PORT"] == found["own port"]
    fields = {name: value for name, value in found.items() if name.startswith(("HTTP_X", "HTTP_F"))}
    assert fields == {
        "HTTP_X_FORWARDED_FOR": "6.6.6.6",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_HOST": "evil.example",
        "HTTP_X_FORWARDED_PORT": "443",
        "HTTP_X_FORWARDED_PREFIX": "/evil",
        "HTTP_X_FORWARDED_USER": "root",
        "HTTP_FORWARDED": "for=6.6.6.6;proto=https;host=evil.example",
    }


@pytest.mark.parametrize("fields", [ALL_X, ["forwarded"]])
def test_untrusted_peer_changes_nothing_and_its_fields_are_hidden(fields: list[str]) -> None:
    for trusted in (["10.0.0.0/8"], ["unix"], ["127.0.0.2", "::1", "0.0.0.0/8"]):
        found = seen(*SPOOFED, "X-Real: 1", trusted_proxies=trusted, forwarded_fields=fields)
        assert facts(found) == ("127.0.0.1", "http", "a", found["SERVER_PORT"], "")
        assert found["REMOTE_PORT"] == found["own port"]
        assert [name for name in found if name.startswith(("HTTP_X", "HTTP_F"))] == ["HTTP_X_REAL"]


# Malformed values of somebody who may not say anything are no reason to refuse the request.
def test_untrusted_peer_may_write_what_it_likes() -> None:
    found = seen("X-Forwarded-For: \xff<>", "Forwarded: \x22", trusted_proxies=["10.0.0.0/8"])
    assert facts(found)[0] == "127.0.0.1"


def test_trusted_proxy_tells_address_and_scheme_by_default() -> None:
    found = seen(*SPOOFED[:1], "X-Forwarded-For: 192.0.2.1", *SPOOFED[1:], trusted_proxies=LOCAL)
    # The rest is not among what proxies write by default: a client could have.
    assert facts(found) == ("192.0.2.1", "https", "a", "443", "")
    assert "REMOTE_PORT" not in found
    assert {name: value for name, value in found.items() if name.startswith(("HTTP_X", "HTTP_F"))} == {
        "HTTP_X_FORWARDED_FOR": "192.0.2.1",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_USER": "root",
    }


def test_trusted_proxy_tells_all_that_it_writes() -> None:
    lines = [
        "X-Forwarded-For: [2001:db8::1]:4711",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Prefix: /shop/",
    ]
    found = seen(*lines, trusted_proxies=LOCAL, forwarded_fields=ALL_X)
    assert facts(found) == ("2001:db8::1", "https", "shop.example:8443", "8443", "/shop")
    assert (found["REMOTE_PORT"], found["PATH_INFO"]) == ("4711", "/p")


def test_forwarded_tells_all_of_it_at_once() -> None:
    line = 'Forwarded: for="[2001:db8::1]:4711";proto=https;host="shop.example:8443"'
    found = seen(line, *SPOOFED[:5], trusted_proxies=LOCAL, forwarded_fields=["forwarded"])
    assert facts(found) == ("2001:db8::1", "https", "shop.example:8443", "8443", "")
    assert [name for name in found if name.startswith("HTTP_X")] == []
    assert found["HTTP_FORWARDED"] == line.partition(": ")[2]


@pytest.mark.parametrize(
    ("options", "lines", "client"),
    [
        ({}, ["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ({}, ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        ({}, ["X-Forwarded-For: 192.0.2.1", "X_Forwarded_For: 6.6.6.6"], "192.0.2.1"),
        ({}, ["X_Forwarded_For: 6.6.6.6"], "127.0.0.1"),
        ({}, ["X-Forwarded-For:"], "127.0.0.1"),
        ({}, ["X-Forwarded-For: unknown"], ""),
        ({}, ["X-Forwarded-For: ,,192.0.2.1, ,"], "192.0.2.1"),
        ({}, ["X-Forwarded-For: \t ::ffff:192.0.2.1 \t"], "192.0.2.1"),
        ({}, ["X-Forwarded-For: %%%, \xe9, 192.0.2.1:80"], "192.0.2.1"),
        ({}, ["X-Forwarded-For: " + "6.6.6.6, " * 6000 + "192.0.2.1"], "192.0.2.1"),
        ({"forwarded_hops": 2}, ["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ({"forwarded_hops": 2}, ["X-Forwarded-For: 6.6.6.6, 192.0.2.1, 127.0.0.1"], "192.0.2.1"),
        ({"forwarded_hops": 2, "trusted_proxies": "*"}, ["X-Forwarded-For: 6.6.6.6, 192.0.2.1, 8.8.8.8"], "192.0.2.1"),
        ({"forwarded_fields": ["forwarded"]}, ["Forwarded: for=_hidden"], ""),
        ({"forwarded_fields": ["forwarded"]}, ["Forwarded: for=6.6.6.6, for=192.0.2.1"], "192.0.2.1"),
        ({"forwarded_fields": ["forwarded"]}, ['Forwarded: for="', "Forwarded: for=192.0.2.1"], "192.0.2.1"),
        ({"forwarded_fields": ["x-forwarded-proto"]}, ["X-Forwarded-For: 6.6.6.6"], "127.0.0.1"),
        ({"forwarded_fields": []}, ["X-Forwarded-For: 6.6.6.6"], "127.0.0.1"),
    ],
)
def test_client_is_the_one_that_trusted_proxies_vouch_for(
    options: dict[str, Any], lines: list[str], client: str
) -> None:
    found = seen(*lines, **{"trusted_proxies": LOCAL, "max_header_size": "128k", **options})
    assert found["REMOTE_ADDR"] == client
    assert ("REMOTE_PORT" in found) == (client == "127.0.0.1" or ":80" in lines[0])


@pytest.mark.parametrize("count", [9_990])
def test_ten_thousand_lines_of_one_field_are_one_list(count: int) -> None:
    limits = {"max_header_fields": 10_000, "max_header_size": "1M"}
    lines = ["X-Forwarded-For: 6.6.6.6"] * count
    found = seen(*lines, "X-Forwarded-For: 192.0.2.1", trusted_proxies=LOCAL, **limits)
    assert (found["REMOTE_ADDR"], found["HTTP_X_FORWARDED_FOR"]) == ("192.0.2.1", "192.0.2.1")
    found = seen(*lines, trusted_proxies=["10.0.0.1"], **limits)
    assert "HTTP_X_FORWARDED_FOR" not in found


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("X-Forwarded-For: localhost", "X-Forwarded-For"),
        ("X-Forwarded-For: 6.6.6.6, 1.2.3", "X-Forwarded-For"),
        ("X-Forwarded-For: fe80::1%eth0", "X-Forwarded-For"),
        ("X-Forwarded-For: 192.0.2.1\xa0", "X-Forwarded-For"),
        ("X-Forwarded-Proto: gopher", "X-Forwarded-Proto"),
        ("X-Forwarded-Host: a/b", "X-Forwarded-Host"),
        ("X-Forwarded-Port: 65536", "X-Forwarded-Port"),
        ("X-Forwarded-Host: a%0d%0ab", "X-Forwarded-Host"),
        ("X-Forwarded-Prefix: //evil.example", "X-Forwarded-Prefix"),
        ("X-Forwarded-Prefix: /%0d%0aX", "X-Forwarded-Prefix"),
        ("X-Forwarded-Prefix: /a%00", "X-Forwarded-Prefix"),
        ('Forwarded: for="192.0.2.1', "Forwarded"),
        ("Forwarded: for=a", "Forwarded"),
    ],
)
def test_malformed_value_of_a_trusted_proxy_is_refused_and_reported(
    line: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    fields = ["forwarded"] if field == "Forwarded" else ALL_X
    for request in (get("/", line), POST + line.encode("latin-1") + b"\r\nContent-Length: 9\r\n\r\n"):
        caplog.clear()
        with (
            serve(app, trusted_proxies=LOCAL, forwarded_fields=fields) as server,
            RawClient(server.addresses[0]) as client,
        ):
            client.send(request)
            response = client.receive()
            assert (response.status, response.body) == (400, f"Malformed {field} field.\n".encode())
            client.expect_end()
        (report,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert report.startswith(f"a request was refused: a trusted proxy's {field} field ")


def test_each_request_of_a_connection_has_an_origin_of_its_own() -> None:
    def of(client: RawClient) -> tuple[str, str]:
        found = json.loads(client.receive().body)
        return found["REMOTE_ADDR"], found["wsgi.url_scheme"]

    with serve(app, trusted_proxies=LOCAL, body_buffer=2) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"))
        client.send(POST + b"X-Forwarded-For: 192.0.2.2\r\nContent-Length: 5\r\n\r\nhello" + get("/"))
        client.send(CHUNKED.removesuffix(b"\r\n") + b"X-Forwarded-For: 192.0.2.3\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        client.send(get("/", "X-Forwarded-For: unknown") + get("/"))
        expected = ["192.0.2.1", "192.0.2.2", "127.0.0.1", "192.0.2.3", "", "127.0.0.1"]
        assert [of(client) for _ in expected] == list(zip(expected, ["https"] + ["http"] * 5, strict=True))


def test_unix_sockets_peers_are_trusted_by_their_word(tmp_path: Path) -> None:
    for trusted, expected in ((["unix"], "192.0.2.1"), (["*"], "192.0.2.1"), (["0.0.0.0/0", "::/0"], "")):
        with (
            listening("unix", app, tmp_path, trusted_proxies=trusted) as server,
            RawClient(server.addresses[0]) as client,
        ):
            client.send(get("/", "X-Forwarded-For: 192.0.2.1"))
            assert json.loads(client.receive().body)["REMOTE_ADDR"] == expected


def test_http_1_0_without_host_gets_the_one_that_the_proxy_tells() -> None:
    with serve(app, trusted_proxies=LOCAL, forwarded_fields=ALL_X) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.0\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Proto: https\r\n\r\n")
        found = json.loads(client.receive().body)
    assert facts(found) == ("127.0.0.1", "https", "shop.example", "443", "")


def test_access_log_shows_the_client_that_the_application_sees(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    options = {"access_log": log, "access_log_format": "%h %{remote}p %>s %U", "trusted_proxies": LOCAL}
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        for path, line in (
            ("/told", "X-Forwarded-For: 192.0.2.1:4711"),
            ("/portless", "X-Forwarded-For: 2001:db8::1"),
            ("/hidden", "X-Forwarded-For: unknown"),
            ("/own", "X-Other: 1"),
        ):
            client.send(get(path, line))
            client.receive()
        port = client.socket.getsockname()[1]
    assert log.read_text().splitlines() == [
        "192.0.2.1 4711 200 /told",
        "2001:db8::1 0 200 /portless",
        "- 0 200 /hidden",
        f"127.0.0.1 {port} 200 /own",
    ]
