"""The scope of an HTTP request (ASGI, "HTTP Connection Scope")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import KEY
from tests.asgi.talking import GET, Receive, Scope, Send, Watched, answer
from tests.support import RawClient


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"hello")


async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})


def scope_of(served: Serve, request: bytes, **options: Any) -> Scope:
    app = Watched(hello)
    with served(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(request)
        assert client.receive(request.split(b" ")[0].decode()).status == 200
    (scope,) = app.scopes
    return scope


def test_scope_holds_what_the_specification_names(served: Serve) -> None:
    app = Watched(hello)
    with served(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST /a%20b/%C3%A9?q=%20&r HTTP/1.1\r\nHost: a:80\r\nX-One: 1\r\nx-one: 2\r\nCookie: c\r\n\r\n")
        assert client.receive().body == b"hello"
        address, port = client.socket.getsockname()[:2]
        (scope,) = app.scopes
        assert dict(scope) == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/a b/\xe9",
            "raw_path": b"/a%20b/%C3%A9",
            "query_string": b"q=%20&r",
            "root_path": "",
            "headers": [(b"host", b"a:80"), (b"x-one", b"1"), (b"x-one", b"2"), (b"cookie", b"c")],
            "client": (address, port),
            "server": ("127.0.0.1", server.server_port),
            "extensions": {"http.response.early_hint": {}},
        }


def test_scope_of_http10_says_so_and_offers_no_interim_response(served: Serve) -> None:
    scope = scope_of(served, b"GET / HTTP/1.0\r\n\r\n")
    assert (scope["http_version"], scope["method"], scope["headers"]) == ("1.0", "GET", [])
    assert scope["extensions"] == {}


def test_scope_offers_trailers_to_clients_that_take_them(served: Serve) -> None:
    scope = scope_of(served, b"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n")
    assert "http.response.trailers" in scope["extensions"]


# RFC 9110 §9.1: methods are case-sensitive, and a scope has them in upper case.
@pytest.mark.parametrize("method", [b"delete", b"Get", b"m-SEARCH", b"head"])
def test_method_with_a_lower_case_letter_is_refused(served: Serve, method: bytes, tmp_path: Path) -> None:
    app, log = Watched(hello), tmp_path / "access.log"
    options = {"access_log": str(log), "access_log_format": "%m %s %{reason}x"}
    with served(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(b"%b /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" % method, GET)
        response = client.receive(method.decode())
        assert (response.status, response.body) == (501, b"The method is not implemented.\n")
        client.expect_end()
    assert app.begun == 0
    assert log.read_text() == f"{method.decode()} 501 the method has a lower-case letter, which ASGI cannot pass on\n"


def test_method_of_other_characters_is_passed_on(served: Serve) -> None:
    scope = scope_of(served, b"M-SEARCH!1 / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert scope["method"] == "M-SEARCH!1"


WITHHELD = b"X_Forwarded_User: root\r\nX_FORWARDED-FOR: 6.6.6.6\r\nContent_Type: a/b\r\n_: 1\r\nPROXY: evil\r\n"
NAMES = [b"x_forwarded_user", b"x_forwarded-for", b"content_type", b"_", b"proxy"]


# Frameworks that make variables of the names take `_` for `-`.
@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"], ["192.0.2.1"]], ids=["none", "peer", "other"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_fields_that_pass_for_others_are_withheld(served: Serve, kind: str, trusted: list[str]) -> None:
    app = Watched(hello if kind == "http" else accepting)
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n" % KEY
    )
    request = b"GET / HTTP/1.1\r\nHost: a\r\n%bX-One: 1\r\n%b\r\n" % (WITHHELD, upgrade if kind == "websocket" else b"")
    with served(app, trusted_proxies=trusted) as server, RawClient(server.addresses[0]) as client:
        client.send(request)
        assert client.receive_head().status == (200 if kind == "http" else 101)
    (scope,) = app.scopes
    names = [name for name, _ in scope["headers"]]
    assert names[:2] == [b"host", b"x-one"]
    assert not set(NAMES) & set(names)


# No server can see whether middleware stands between the application and what it is offered.
def test_scope_offers_files_by_their_path_only_where_the_option_says_so(served: Serve) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert "http.response.pathsend" not in scope_of(served, request)["extensions"]
    assert scope_of(served, request, pathsend=True)["extensions"]["http.response.pathsend"] == {}


# RFC 9112 §3.2.2
def test_authority_of_an_absolute_target_is_the_host(served: Serve) -> None:
    scope = scope_of(served, b"GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (scope["path"], scope["raw_path"], scope["headers"]) == ("/x", b"/x", [(b"host", b"b")])


@pytest.mark.parametrize(
    ("target", "path", "raw"),
    [
        (b"/%ff", "/\ufffd", b"/%ff"),
        (b"/%zz%", "/%zz%", b"/%zz%"),
        (b"//evil.com/x", "//evil.com/x", b"//evil.com/x"),
        (b"/a/../b", "/a/../b", b"/a/../b"),
        (b"/%2F", "//", b"/%2F"),
    ],
)
def test_path_is_decoded_once(served: Serve, target: bytes, path: str, raw: bytes) -> None:
    scope = scope_of(served, b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    assert (scope["path"], scope["raw_path"]) == (path, raw)


def test_asterisk_is_the_path_of_a_request_to_the_server(served: Serve) -> None:
    scope = scope_of(served, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (scope["path"], scope["raw_path"]) == ("*", b"*")


def test_unix_socket_has_a_path_as_server_and_no_client(served: Serve, tmp_path: Path) -> None:
    place = tmp_path / "socket"
    scope = scope_of(served, GET, bind=[f"unix:{place}"])
    assert (scope["server"], scope["client"]) == ((str(place), None), None)


def test_scopes_share_nothing_that_an_application_may_change(served: Serve) -> None:
    app = Watched(hello)
    with served(app) as server, RawClient(server.addresses[0]) as client:
        for _ in range(2):
            client.send(GET)
            assert client.receive().status == 200
    first, second = app.scopes
    assert first is not second
    for name in ("asgi", "headers", "extensions"):
        assert first[name] == second[name]
        assert first[name] is not second[name]


def test_scope_tells_what_trusted_proxies_do(served: Serve) -> None:
    fields = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"]
    scope = scope_of(
        served,
        b"GET /a%20b HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Prefix: /shop\r\nX-One: 1\r\n\r\n",
        trusted_proxies=["127.0.0.1"],
        forwarded_fields=fields,
    )
    assert (scope["scheme"], scope["client"]) == ("https", ("203.0.113.9", 0))
    assert scope["server"] == ("127.0.0.1", 8443)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", "/shop/a b", b"/shop/a%20b")
    assert scope["headers"][:2] == [(b"host", b"shop.example:8443"), (b"x-one", b"1")]
    assert (b"x-forwarded-for", b"203.0.113.9") in scope["headers"]


# Applications make URLs and fields of the path in front.
@pytest.mark.parametrize("prefix", [b"/%0d%0aX", b"/a%00", b"/%7f", b"/%5Cevil.example"])
def test_prefix_with_escaped_control_characters_is_refused(served: Serve, prefix: bytes) -> None:
    app = Watched(hello)
    options = {"trusted_proxies": ["127.0.0.1"], "forwarded_fields": ["x-forwarded-prefix"]}
    with served(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: %b\r\n\r\n" % prefix)
        response = client.receive()
        assert (response.status, response.body) == (400, b"Malformed X-Forwarded-Prefix field.\n")
    assert app.begun == 0


def test_prefix_is_no_part_of_the_asterisk(served: Serve) -> None:
    scope = scope_of(
        served,
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /shop\r\n\r\n",
        trusted_proxies=["127.0.0.1"],
        forwarded_fields=["x-forwarded-prefix"],
    )
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", "*", b"*")


def test_scope_tells_nothing_that_nobody_vouches_for(served: Serve) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n"
    scope = scope_of(served, request, trusted_proxies=["192.0.2.1"])
    assert (scope["scheme"], scope["client"][0]) == ("http", "127.0.0.1")
    assert scope["headers"] == [(b"host", b"a")]
