"""The option root_path: the prefix that a proxy removes, as WSGI's SCRIPT_NAME and ASGI's root_path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import RawClient, serve
from wsgi.application import WSGIApplication
from wsgi.errors import ConfigError
from wsgi.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr([environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["REQUEST_URI"]]).encode()]


async def asgi_app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError
    body = ascii([scope["root_path"], scope["path"], scope["raw_path"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(address: str, target: bytes, *fields: bytes) -> str:
    with RawClient(address) as client:
        head = b"".join(field + b"\r\n" for field in fields)
        client.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + head + b"\r\n")
        response = client.receive()
    assert response.status == 200
    return response.body.decode()


@pytest.mark.parametrize(
    ("option", "target", "script_name", "path_info"),
    [
        ("", b"/a", "", "/a"),
        ("/shop", b"/a", "/shop", "/a"),
        ("/shop", b"/", "/shop", "/"),
        # What the proxy has left is the application's, even if it looks like the prefix: one request, one meaning.
        ("/shop", b"/shop/a", "/shop", "/shop/a"),
        ("/a/b", b"/c%20d", "/a/b", "/c d"),
        # PEP 3333: bytes as characters.
        ("/sh\u00f6p", b"/", "/sh\u00c3\u00b6p", "/"),
    ],
)
def test_wsgi_application_has_the_prefix_in_script_name(
    option: str, target: bytes, script_name: str, path_info: str
) -> None:
    with serve(wsgi_app, root_path=option) as server:
        # The second has a template.
        for _ in range(3):
            expected = repr([script_name, path_info, target.decode()])
            assert ask(server.addresses[0], target) == expected


@pytest.mark.parametrize(
    ("option", "target", "root_path", "path", "raw_path"),
    [
        ("", b"/a", "", "/a", b"/a"),
        ("/shop", b"/a", "/shop", "/shop/a", b"/shop/a"),
        ("/shop", b"/", "/shop", "/shop/", b"/shop/"),
        ("/shop", b"/c%20d", "/shop", "/shop/c d", b"/shop/c%20d"),
        ("/sh\u00f6p", b"/a", "/sh\u00f6p", "/sh\u00f6p/a", b"/sh%C3%B6p/a"),
    ],
)
def test_asgi_application_has_the_prefix_in_root_path_and_path(
    option: str, target: bytes, root_path: str, path: str, raw_path: bytes
) -> None:
    with serve(asgi_app, root_path=option) as server:
        assert ask(server.addresses[0], target) == ascii([root_path, path, raw_path])


@pytest.mark.parametrize("app", [wsgi_app, asgi_app])
def test_prefix_of_a_trusted_proxy_replaces_the_option(app: Any) -> None:
    options = {"trusted_proxies": ["127.0.0.1"], "forwarded_fields": ["x-forwarded-for", "x-forwarded-prefix"]}
    with serve(app, root_path="/shop", **options) as server:
        assert ask(server.addresses[0], b"/a", b"X-Forwarded-Prefix: /other").startswith("['/other', ")
        assert ask(server.addresses[0], b"/a").startswith("['/shop', ")
    # Of a client it means nothing.
    with serve(app, root_path="/shop") as server:
        assert ask(server.addresses[0], b"/a", b"X-Forwarded-Prefix: /other").startswith("['/shop', ")


def test_framework_routes_below_the_prefix() -> None:
    site = WSGIApplication()

    @site.get("/a")
    def page(request: Any) -> str:
        return f"{request.root_path} {request.path}"

    with serve(site, root_path="/shop") as server:
        assert ask(server.addresses[0], b"/a") == "/shop /a"


@pytest.mark.parametrize(
    "value", ["shop", "//", "/a//b", "/a/../b", "/./a", "/a?b", "/a#b", "/a%20b", "/a\\b", "/a\nb"]
)
def test_prefix_that_is_no_path_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^root_path must be a path such as /shop, .* \(from keyword root_path\)$"):
        Settings.from_keywords(root_path=value)


def test_prefix_slash_at_its_end_is_removed() -> None:
    assert [Settings.from_keywords(root_path=value).root_path for value in ("/shop/", "/", "")] == ["/shop", "", ""]
