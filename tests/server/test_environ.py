"""The environ: what PEP 3333 and CGI (RFC 3875) say of a request, nothing that a client could forge, and nothing else.

The second half is `wsgi.input`, which must read like `io.BytesIO` wherever its bytes come from.
"""

from __future__ import annotations

import io
import logging
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.server.recording import LAST, STREAMING, Environ, Start, answer, eventually, get, listening, refused, reset
from tests.support import PATIENCE, RawClient, serve
from wsgi import __version__
from wsgi.environ import ErrorStream
from wsgi.errors import ClientDisconnected, MalformedBody
from wsgi.server import WSGIServer


class Seen:
    """An application that keeps a copy of every environ."""

    def __init__(self) -> None:
        self.environs: list[Environ] = []

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        assert type(environ) is dict
        self.environs.append(dict(environ))
        environ["wsgi.input"].read()
        return answer(start_response)


def environ_of(request: bytes, **options: Any) -> Environ:
    """The environ that an application sees for `request`."""
    seen = Seen()
    with serve(seen, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(request)
        response = client.receive(request.split(b" ", 1)[0].decode())
        assert response.status == 200
    (environ,) = seen.environs
    return environ


def with_fields(*lines: bytes, line: bytes = b"GET /e HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *lines, b"", b""])


# -- The whole of it ---------------------------------------------------------------------------------------------------


def test_environ_of_a_plain_request_is_this_and_no_more() -> None:
    seen = Seen()
    with serve(seen) as server, RawClient(server.addresses[0]) as client:
        port = client.socket.getsockname()[1]
        client.send(b"GET /a/b?c=d&e HTTP/1.1\r\nHost: example.com:1\r\nUser-Agent: test\r\n\r\n")
        client.receive()
        server_port = server.server_port
    (environ,) = seen.environs
    assert {key: value for key, value in environ.items() if isinstance(value, str)} == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_HOST": "example.com:1",
        "HTTP_USER_AGENT": "test",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "c=d&e",
        "RAW_URI": "/a/b?c=d&e",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a/b?c=d&e",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server_port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"wsgi-server/{__version__}",
        "wsgi.url_scheme": "http",
    }
    assert {key for key, value in environ.items() if not isinstance(value, str)} == {
        "wsgi.client_disconnected",
        "wsgi.early_hints",
        "wsgi.errors",
        "wsgi.file_wrapper",
        "wsgi.input",
        "wsgi.input_terminated",
        "wsgi.multiprocess",
        "wsgi.multithread",
        "wsgi.run_once",
        "wsgi.version",
    }


def test_environ_keys_and_strings_are_exactly_str() -> None:
    # PEP 3333, "A Note On String Types": native strings, and no subclass where a type is named.
    environ = environ_of(with_fields(b"X-A: \xe9", b"Content-Type: text/plain", line=b"GET /%C3%A9 HTTP/1.1"))
    assert {type(key) for key in environ} == {str}
    strings = [value for value in environ.values() if isinstance(value, str)]
    assert {type(value) for value in strings} == {str}
    # Every character stands for a byte.
    assert all(ord(character) < 256 for value in strings for character in value)


def test_environ_types_are_those_of_the_pep() -> None:
    environ = environ_of(get("/"))
    assert environ["wsgi.version"] == (1, 0)
    assert type(environ["wsgi.version"]) is tuple
    for name in ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", "wsgi.input_terminated"):
        assert type(environ[name]) is bool
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False


@pytest.mark.parametrize(("threads", "several"), [(1, False), (2, True), (16, True)])
def test_multithread_tells_whether_there_are_several_threads(threads: int, several: bool) -> None:
    assert environ_of(get("/"), threads=threads)["wsgi.multithread"] is several


@pytest.mark.parametrize("several", [False, True])
def test_multiprocess_is_what_the_run_says(several: bool) -> None:
    # PEP 3333: whether "an equivalent application object may be simultaneously invoked by another process".
    seen = Seen()
    server = WSGIServer(port=0, app=seen)
    assert "wsgi.multiprocess" not in server.base_environ
    # The second run of one server has what the first had not.
    for multiprocess in (False, several):
        server._multiprocess = multiprocess
        run = threading.Thread(target=server.handle_request)
        run.start()
        with RawClient(server.addresses[0]) as client:
            client.send(get("/"))
            assert client.receive().status == 200
        run.join(PATIENCE)
    server.server_close()
    assert [environ["wsgi.multiprocess"] for environ in seen.environs] == [False, several]


def test_multiprocess_that_a_program_sets_itself_stays() -> None:
    seen = Seen()
    server = WSGIServer(port=0, app=seen)
    server.base_environ["wsgi.multiprocess"] = True
    with server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.receive().status == 200
    assert [environ["wsgi.multiprocess"] for environ in seen.environs] == [True]


def test_environ_of_http10_says_so_and_offers_no_early_hints() -> None:
    environ = environ_of(b"GET /e HTTP/1.0\r\n\r\n")
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "wsgi.early_hints" not in environ
    # HTTP/1.0 needs no Host; none is made up.
    assert "HTTP_HOST" not in environ


def test_environ_holds_nothing_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # CGI programs get their request in the environment, and some servers give the application both.
    for name in ("HTTP_X_LEAK", "REMOTE_USER", "HTTPS", "A_SECRET", "CONTENT_LENGTH", "HTTP_PROXY"):
        monkeypatch.setenv(name, "leaked")
    environ = environ_of(get("/"))
    assert "leaked" not in environ.values()
    assert not {name for name in os.environ if environ.get(name) == os.environ[name]}


def test_environ_is_the_applications_own() -> None:
    # PEP 3333: "the application is allowed to modify the dictionary in any way it desires".
    environs: list[Environ] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        environs.append(dict(environ))
        environ["left.behind"] = 1
        environ["SCRIPT_NAME"] = "/changed"
        del environ["SERVER_NAME"]
        return answer(start_response)

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as client:
        for _ in range(2):
            client.send(get("/"))
            client.receive()
        assert "left.behind" not in server.base_environ
        assert server.base_environ["SCRIPT_NAME"] == ""
    first, second = environs
    assert second.keys() == first.keys()
    assert second["SCRIPT_NAME"] == ""


def test_base_environ_is_what_every_environ_begins_with() -> None:
    from wsgi.server import WSGIServer

    seen = Seen()
    server = WSGIServer(port=0, app=seen)
    server.base_environ["SCRIPT_NAME"] = "/mounted"
    server.base_environ["my.key"] = "mine"
    with server, RawClient(server.addresses[0]) as client:
        client.send(get("/e"))
        client.receive()
    (environ,) = seen.environs
    assert (environ["SCRIPT_NAME"], environ["my.key"]) == ("/mounted", "mine")


def test_environ_is_true_whatever_the_requests_before_it_were() -> None:
    # Requests of one shape are served from a template: nothing of one may be left in another's environ.
    chance = random.Random(7)
    fields = {
        "Host": ["a", "b:8000"],
        "User-Agent": ["one", "\xe9", "", "x" * 300],
        "Cookie": ["session=1", "session=2"],
        "Authorization": ["Basic a", "Basic b"],
        "Content-Type": ["text/plain", "text/html"],
        "X-A": ["1", "2"],
    }
    shapes = [["Host"], ["Host", "X-A"], ["Host", "User-Agent", "Cookie", "X-A"], [*fields]]
    targets = [
        ("/", "/", ""),
        ("/%C3%A9", "/\xc3\xa9", ""),
        ("/a?b=c", "/a", "b=c"),
        ("/a?", "/a", ""),
        ("/" + "a" * 300,) * 2 + ("",),
    ]
    keys = {"Content-Type": "CONTENT_TYPE"}
    seen = Seen()
    with (
        serve(seen, threads=1) as server,
        RawClient(server.addresses[0]) as first,
        RawClient(server.addresses[0]) as second,
    ):
        ports = {client: str(client.socket.getsockname()[1]) for client in (first, second)}
        for _ in range(400):
            client, names = chance.choice([first, second]), chance.choice(shapes)
            method, version = chance.choice(["GET", "POST", "DELETE"]), chance.choice(["1.1", "1.1", "1.1", "1.0"])
            target, path, query = chance.choice(targets)
            chosen = {name: chance.choice(fields[name]) for name in names}
            lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in chosen.items())]
            length = chance.choice([None, None, 0, 3])
            if length is not None:
                lines.append(f"Content-Length: {length}")
            if version == "1.0":
                lines.append("Connection: keep-alive")
            client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + b"x" * (length or 0))
            assert client.receive(method).status == 200
            expected = {
                keys.get(name, "HTTP_" + name.upper().replace("-", "_")): value for name, value in chosen.items()
            }
            expected |= {"CONTENT_LENGTH": str(length)} if length is not None else {}
            expected |= {"HTTP_CONNECTION": "keep-alive"} if version == "1.0" else {}
            expected |= {
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "RAW_URI": target,
                "REMOTE_PORT": ports[client],
                "REQUEST_METHOD": method,
                "REQUEST_URI": target,
                "SERVER_PROTOCOL": f"HTTP/{version}",
            }
            environ = seen.environs.pop()
            of_server = server.base_environ.keys() | {"REMOTE_ADDR"}
            assert {
                key: value for key, value in environ.items() if isinstance(value, str) and key not in of_server
            } == expected
            assert ("wsgi.early_hints" in environ) == (version == "1.1")


# -- The request line --------------------------------------------------------------------------------------------------

# Request line, and what it makes of PATH_INFO, QUERY_STRING and REQUEST_URI.
TARGETS: list[tuple[bytes, str, str, str]] = [
    (b"GET / HTTP/1.1", "/", "", "/"),
    (b"GET /e? HTTP/1.1", "/e", "", "/e?"),
    (b"GET /e?a=b?c HTTP/1.1", "/e", "a=b?c", "/e?a=b?c"),
    # PEP 3333: the bytes of the path as latin-1, whatever they mean.
    (b"GET /%C3%A9%2Fx?q=%20 HTTP/1.1", "/\xc3\xa9/x", "q=%20", "/%C3%A9%2Fx?q=%20"),
    (b"GET /%ff HTTP/1.1", "/\xff", "", "/%ff"),
    # Decoded once, and what is no escape stays.
    (b"GET /%2541 HTTP/1.1", "/%41", "", "/%2541"),
    (b"GET /%zz%4 HTTP/1.1", "/%zz%4", "", "/%zz%4"),
    (b"GET /% HTTP/1.1", "/%", "", "/%"),
    (b"GET /a%00b HTTP/1.1", "/a\0b", "", "/a%00b"),
    (b"GET /a%0d%0aX:y HTTP/1.1", "/a\r\nX:y", "", "/a%0d%0aX:y"),
    (b"GET /a+b HTTP/1.1", "/a+b", "", "/a+b"),
    (b"GET /a%3Fb HTTP/1.1", "/a?b", "", "/a%3Fb"),
    # Nothing is normalised: the application knows its own paths.
    (b"GET /a/../b HTTP/1.1", "/a/../b", "", "/a/../b"),
    (b"GET /a/./b//c/ HTTP/1.1", "/a/./b//c/", "", "/a/./b//c/"),
    (b"GET //evil.com/x HTTP/1.1", "//evil.com/x", "", "//evil.com/x"),
    (b'GET /a;b=c,d|e"f<g> HTTP/1.1', '/a;b=c,d|e"f<g>', "", '/a;b=c,d|e"f<g>'),
    # The absolute form (RFC 9112 §3.2.2).
    (b"GET http://b/x?y=1 HTTP/1.1", "/x", "y=1", "http://b/x?y=1"),
    (b"GET http://b HTTP/1.1", "/", "", "http://b"),
    (b"GET http://b?y=1 HTTP/1.1", "/", "y=1", "http://b?y=1"),
    (b"GET HTTP://b:80/ HTTP/1.1", "/", "", "HTTP://b:80/"),
    # The asterisk form (RFC 9112 §3.2.4).
    (b"OPTIONS * HTTP/1.1", "", "", "*"),
]


@pytest.mark.parametrize(("line", "path", "query", "uri"), TARGETS)
def test_target_gives_path_query_and_uri(line: bytes, path: str, query: str, uri: str) -> None:
    environ = environ_of(with_fields(line=line))
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == uri
    assert environ["SCRIPT_NAME"] == ""


@pytest.mark.parametrize(
    ("target", "host"), [(b"http://b/x", "b"), (b"http://b:81", "b:81"), (b"http://[::1]:81/x", "[::1]:81")]
)
def test_absolute_target_replaces_host(target: bytes, host: str) -> None:
    # RFC 9112 §3.2.2: "a server must ignore the received Host header field (if any) and instead use the host
    # information of the request-target".
    assert environ_of(with_fields(line=b"GET %s HTTP/1.1" % target))["HTTP_HOST"] == host
    # HTTP/1.0 may come without Host.
    assert environ_of(b"GET %s HTTP/1.0\r\n\r\n" % target)["HTTP_HOST"] == host


def test_absolute_target_of_https_is_no_proof_of_tls() -> None:
    environ = environ_of(with_fields(line=b"GET https://b/ HTTP/1.1"))
    assert environ["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "get", "M-SEARCH", "PROPFIND", "X!#$%&'*+-.^_`|~9"])
def test_method_is_as_it_came(method: str) -> None:
    assert environ_of(with_fields(line=f"{method} / HTTP/1.1".encode()))["REQUEST_METHOD"] == method


# -- Fields ------------------------------------------------------------------------------------------------------------

# Field lines, what they add to the environ, and what must not be there.
FIELDS: dict[str, tuple[list[bytes], dict[str, str], list[str]]] = {
    "case": ([b"x-LOWER-Upper: vAlue"], {"HTTP_X_LOWER_UPPER": "vAlue"}, []),
    "digits": ([b"X-1a: 2"], {"HTTP_X_1A": "2"}, []),
    "latin-1": ([b"X: \xe9\xff"], {"HTTP_X": "\xe9\xff"}, []),
    "utf-8": ([b"X: \xc3\xa9"], {"HTTP_X": "\xc3\xa9"}, []),
    "white-space": ([b"X: \t v \t w \t "], {"HTTP_X": "v \t w"}, []),
    "no-white-space": ([b"X:v"], {"HTTP_X": "v"}, []),
    "empty": ([b"X:"], {"HTTP_X": ""}, []),
    "only-white-space": ([b"X: \t "], {"HTTP_X": ""}, []),
    "colons": ([b"X: a:b"], {"HTTP_X": "a:b"}, []),
    # Repeats (RFC 9110 §5.3): in order, by a comma; cookies (RFC 6265 §5.4) by a semicolon.
    "repeated": ([b"X-A: 1", b"Y: 3", b"x-a: 2"], {"HTTP_X_A": "1,2", "HTTP_Y": "3"}, []),
    "repeated-thrice": ([b"X: 1", b"X: 2, 3", b"X: 4"], {"HTTP_X": "1,2, 3,4"}, []),
    "repeated-empty": ([b"X:", b"X: 1", b"X:"], {"HTTP_X": ",1,"}, []),
    "cookies": ([b"Cookie: a=1", b"X: 1", b"cookie: b=2"], {"HTTP_COOKIE": "a=1; b=2"}, []),
    "cookies-of-many": ([b"Cookie: a=1; b=2", b"Cookie: c=3"], {"HTTP_COOKIE": "a=1; b=2; c=3"}, []),
    "set-cookie": ([b"Set-Cookie: a=1", b"Set-Cookie: b=2"], {"HTTP_SET_COOKIE": "a=1,b=2"}, []),
    # Content-Type and Content-Length have variables of their own (RFC 3875 §4.1).
    "content-type": ([b"Content-Type: text/plain"], {"CONTENT_TYPE": "text/plain"}, ["HTTP_CONTENT_TYPE"]),
    "content-type-empty": ([b"Content-Type:"], {"CONTENT_TYPE": ""}, ["HTTP_CONTENT_TYPE"]),
    "content-length": ([b"Content-Length: 0"], {"CONTENT_LENGTH": "0"}, ["HTTP_CONTENT_LENGTH"]),
    "no-content": ([], {}, ["CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"]),
    "authorization": ([b"Authorization: Basic eDp5"], {"HTTP_AUTHORIZATION": "Basic eDp5"}, ["REMOTE_USER"]),
    # Names that would become the variable of another name, which a proxy in front has checked, are dropped.
    "underscore": ([b"X_A: 1"], {}, ["HTTP_X_A"]),
    "underscore-beside": (
        [b"X-Forwarded-For: 1.1.1.1", b"X_Forwarded_For: 6.6.6.6", b"X-Forwarded_For: 6.6.6.6"],
        {"HTTP_X_FORWARDED_FOR": "1.1.1.1"},
        [],
    ),
    "underscore-before": ([b"X_A: 6", b"X-A: 1"], {"HTTP_X_A": "1"}, []),
    # Every other character that a name may have (RFC 9110 §5.6.2) stands in the variable as it is.
    "odd-names": (
        [b"X.Dot: 1", b"X!a: 2", b"X~b: 3", b"x-amz-meta-meta.data: 4", b"x.dot: 5"],
        {"HTTP_X.DOT": "1,5", "HTTP_X!A": "2", "HTTP_X~B": "3", "HTTP_X_AMZ_META_META.DATA": "4"},
        ["HTTP_X_DOT", "HTTP_X_A", "HTTP_X_B", "HTTP_X_AMZ_META_META_DATA"],
    ),
    "every-name-byte": ([b"a!#$%&'*+-.^`|~Z9: v"], {"HTTP_A!#$%&'*+_.^`|~Z9": "v"}, []),
    "underscore-and-dot": ([b"X.A_B: 1"], {}, ["HTTP_X.A_B"]),
    # Fields with one value: lines that repeat it are one (the corpus has those that differ).
    "content-type-repeated": ([b"Content-Type: a/b", b"content-type: a/b"], {"CONTENT_TYPE": "a/b"}, []),
    "authorization-repeated": ([b"Authorization: x y", b"AUTHORIZATION: x y"], {"HTTP_AUTHORIZATION": "x y"}, []),
    "content_length": ([b"Content_Length: 3"], {}, ["CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"]),
    "content_type": ([b"Content_Type: x"], {}, ["CONTENT_TYPE", "HTTP_CONTENT_TYPE"]),
    "transfer_encoding": ([b"Transfer_Encoding: chunked"], {}, ["HTTP_TRANSFER_ENCODING"]),
    # Variables that are no fields.
    "http_content_length": ([b"HTTP_CONTENT_LENGTH: 9"], {}, ["CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"]),
    "http-names": ([b"HTTP-X: 1"], {"HTTP_HTTP_X": "1"}, ["HTTP_X"]),
    "script_name": ([b"SCRIPT_NAME: /x", b"Script-Name: /y"], {"SCRIPT_NAME": "", "HTTP_SCRIPT_NAME": "/y"}, []),
    "path_info": ([b"PATH_INFO: /x", b"Path-Info: /y"], {"PATH_INFO": "/e"}, []),
    "remote_user": ([b"REMOTE_USER: root", b"Remote-User: root"], {"HTTP_REMOTE_USER": "root"}, ["REMOTE_USER"]),
    "remote_addr": ([b"REMOTE_ADDR: 6.6.6.6", b"Remote-Addr: 6.6.6.6"], {"REMOTE_ADDR": "127.0.0.1"}, []),
    "request_method": ([b"REQUEST_METHOD: PUT", b"Request-Method: PUT"], {"REQUEST_METHOD": "GET"}, []),
    "server_name": ([b"Server-Name: b", b"SERVER_NAME: b"], {"SERVER_NAME": "127.0.0.1"}, []),
    "wsgi-names": ([b"wsgi.url_scheme: https", b"wsgi-url-scheme: https"], {"wsgi.url_scheme": "http"}, []),
    "https": ([b"HTTPS: on"], {"wsgi.url_scheme": "http", "HTTP_HTTPS": "on"}, ["HTTPS"]),
    # What a proxy says counts for nothing unless the proxy is known; the fields are there for the application.
    "x-forwarded": (
        [b"X-Forwarded-Proto: https", b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Host: b", b"X-Forwarded-Port: 443"],
        {"wsgi.url_scheme": "http", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "a", "HTTP_X_FORWARDED_PROTO": "https"},
        [],
    ),
    "forwarded": (
        [b"Forwarded: for=6.6.6.6;proto=https;host=b"],
        {"wsgi.url_scheme": "http", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "a"},
        [],
    ),
    # HTTP_PROXY steers the clients that an application uses (RFC 3875 §4.1.18 lets a server leave fields out).
    "proxy": ([b"Proxy: http://evil/"], {}, ["HTTP_PROXY"]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_lines_become_variables(name: str) -> None:
    lines, present, absent = FIELDS[name]
    environ = environ_of(with_fields(*lines))
    assert {key: environ.get(key) for key in present} == present
    assert not [key for key in absent if key in environ]


def test_field_repeated_up_to_the_limit_keeps_its_order() -> None:
    numbers = range(5000)
    lines = [b"X: %d" % number for number in numbers]
    environ = environ_of(with_fields(*lines), max_header_fields=5001, max_header_size=1 << 20)
    assert environ["HTTP_X"] == ",".join(map(str, numbers))


def test_fields_of_many_names_are_all_there() -> None:
    # More names than a cache of names keeps, on one connection.
    seen = Seen()
    lines = [b"X-Name-%d: %d" % (number, number) for number in range(2500)]
    options = {"max_header_fields": 3000, "max_header_size": 1 << 20}
    with serve(seen, **options) as server, RawClient(server.addresses[0]) as client:
        for _ in range(2):
            client.send(with_fields(*lines))
            client.receive()
    for environ in seen.environs:
        assert [environ[f"HTTP_X_NAME_{number}"] for number in range(2500)] == [str(n) for n in range(2500)]


def test_field_long_name_and_value_are_whole() -> None:
    environ = environ_of(with_fields(b"X-%s: %s" % (b"n" * 10_000, b"v" * 50_000)))
    assert environ["HTTP_X_" + "N" * 10_000] == "v" * 50_000


def test_fields_of_one_request_are_not_those_of_the_next() -> None:
    seen = Seen()
    with serve(seen, threads=1) as server, RawClient(server.addresses[0]) as client:
        client.send(with_fields(b"X-First: 1", b"Content-Type: a", b"Content-Length: 0") + with_fields(b"X-Second: 2"))
        client.receive()
        client.receive()
    first, second = seen.environs
    assert "HTTP_X_SECOND" not in first
    assert not {"HTTP_X_FIRST", "CONTENT_TYPE", "CONTENT_LENGTH"} & second.keys()


# -- Bodies ------------------------------------------------------------------------------------------------------------

POST = b"POST /e HTTP/1.1"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

# Field lines and body, options, CONTENT_LENGTH, and whether the application is told of the transfer coding.
LENGTHS: dict[str, tuple[list[bytes], bytes, dict[str, Any], str | None, bool]] = {
    "none": ([], b"", {}, None, False),
    "zero": ([b"Content-Length: 0"], b"", {}, "0", False),
    "in-memory": ([b"Content-Length: 5"], b"hello", {}, "5", False),
    "in-file": ([b"Content-Length: 5"], b"hello", {"body_buffer": 0}, "5", False),
    "streamed": ([b"Content-Length: 5"], b"hello", STREAMING, "5", False),
    "leading-zeros": ([b"Content-Length: 005"], b"hello", {}, "5", False),
    # A chunked body is taken whole first, so that its length is true; frameworks read nothing without it.
    "chunked": ([b"Transfer-Encoding: chunked"], HELLO, {}, "5", False),
    "chunked-to-file": ([b"Transfer-Encoding: chunked"], HELLO, {"body_buffer": 0}, "5", False),
    "chunked-empty": ([b"Transfer-Encoding: chunked"], b"0\r\n\r\n", {}, "0", False),
    "chunked-streamed": ([b"Transfer-Encoding: chunked"], HELLO, {"stream_chunked": True}, None, True),
    "trailers": ([b"Transfer-Encoding: chunked"], b"0\r\nX-T: 1\r\n\r\n", {}, "0", False),
    "underscored-beside": ([b"Content_Length: 3", b"Content-Length: 5"], b"hello", {}, "5", False),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_content_length_is_true(name: str) -> None:
    lines, body, options, expected, coded = LENGTHS[name]
    environ = environ_of(with_fields(*lines, line=POST) + body, **options)
    assert environ.get("CONTENT_LENGTH") == expected
    assert ("HTTP_TRANSFER_ENCODING" in environ) == coded
    # Trailers are dropped: they came after everything that was decided by fields (RFC 9110 §6.5.1).
    assert "HTTP_X_T" not in environ


# -- The peers ---------------------------------------------------------------------------------------------------------


def test_environ_over_a_unix_socket_has_names_all_the_same(tmp_path: Path) -> None:
    # PEP 3333: SERVER_NAME and SERVER_PORT "can never be empty strings"; RFC 3875 §4.1.8 wants a REMOTE_ADDR.
    seen = Seen()
    with listening("unix", seen, tmp_path) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        client.receive()
    (environ,) = seen.environs
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"].isdigit()
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this system has no IPv6")
def test_environ_over_ipv6_names_both_ends() -> None:
    seen = Seen()
    with serve(seen, host="::1") as server, RawClient(server.addresses[0]) as client:
        port = client.socket.getsockname()[1]
        client.send(get("/"))
        client.receive()
    (environ,) = seen.environs
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("::1", str(port))
    assert environ["SERVER_NAME"] == "::1"


def test_environ_tells_the_listener_and_the_client_of_each_connection(tmp_path: Path) -> None:
    seen = Seen()
    with serve(seen, bind=["127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path / 's'}"], threads=1) as server:
        clients = [RawClient(address) for address in server.addresses * 2]
        for client in clients:
            client.send(get("/"))
            client.receive()
        ports = [client.socket.getsockname()[1] for client in clients if client.socket.family == socket.AF_INET]
        for client in clients:
            client.socket.close()
        places = [address.rpartition(":")[2] for address in server.addresses[:2]]
    assert [environ["SERVER_PORT"] for environ in seen.environs] == [*places, "80"] * 2
    remote = [environ.get("REMOTE_PORT") for environ in seen.environs]
    assert remote == [str(ports[0]), str(ports[1]), None, str(ports[2]), str(ports[3]), None]


def test_server_name_of_a_wildcard_bind_is_a_name() -> None:
    environ = environ_of_wildcard()
    # "0.0.0.0" is no name that anybody could be sent to.
    assert environ["SERVER_NAME"] == socket.gethostname()


def environ_of_wildcard() -> Environ:
    seen = Seen()
    with serve(seen, host="0.0.0.0") as server, RawClient(f"http://127.0.0.1:{server.server_port}") as client:
        client.send(get("/"))
        client.receive()
    return seen.environs[0]


# -- wsgi.errors -------------------------------------------------------------------------------------------------------


def test_errors_takes_text_and_goes_where_stderr_goes(capsys: pytest.CaptureFixture[str]) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        errors = environ["wsgi.errors"]
        errors.write("\u2603 written\n")
        errors.writelines(["one\n", "two\n"])
        errors.flush()
        print("printed", file=errors)
        return answer(start_response)

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.receive().status == 200
    assert capsys.readouterr().err == "\u2603 written\none\ntwo\nprinted\n"


class Failing(io.StringIO):
    """A stream of the program that cannot be written to."""

    def write(self, text: str) -> int:
        raise OSError("no space left")

    def flush(self) -> None:
        raise OSError("no space left")


class Logging(io.StringIO):
    """A stream of the program that logs each line, where the log ends in `wsgi.errors`."""

    def write(self, text: str) -> int:
        logging.getLogger("a.program").error("%s", text.strip())
        return len(text)


# What the application makes of `sys.stderr`.
STREAMS: dict[str, Callable[[Any], Any]] = {
    "none": lambda errors: None,
    "closed": lambda errors: closed(),
    "failing": lambda errors: Failing(),
    "itself": lambda errors: errors,
    "logging-to-it": lambda errors: Logging(),
    "without-methods": lambda errors: object(),
}


def closed() -> IO[str]:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("name", STREAMS)
def test_errors_where_stderr_takes_nothing_go_to_the_descriptor_once(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        errors = environ["wsgi.errors"]
        log = logging.getLogger("a.program")
        log.propagate = False
        log.handlers = [logging.StreamHandler(errors)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", STREAMS[name](errors))
            errors.write("first \u2603\n")
            errors.writelines(["second\n"])
            errors.flush()
            log.error("third")
        return answer(start_response, b"fine")

    try:
        with serve(app) as server, RawClient(server.addresses[0]) as client:
            client.send(get("/"))
            assert client.receive().body == b"fine"
    finally:
        logging.getLogger("a.program").handlers = []
        logging.getLogger("a.program").propagate = True
    assert capfd.readouterr().err.splitlines() == ["first \u2603", "second", "third"]


def test_errors_as_stdout_writes_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", environ["wsgi.errors"])
            print("printed")
        return answer(start_response)

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.receive().status == 200
    assert capsys.readouterr().err == "printed\n"


def test_errors_refuses_what_is_no_text() -> None:
    with pytest.raises(TypeError, match=r"wsgi\.errors: write\(\) takes a str, not bytes"):
        ErrorStream().write(b"bytes")  # type: ignore[arg-type]


# -- wsgi.client_disconnected ------------------------------------------------------------------------------------------


def test_client_disconnected_tells_when_the_client_leaves() -> None:
    here: list[bool] = []
    asked, gone = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        here.append(environ["wsgi.client_disconnected"]())
        asked.set()
        eventually(environ["wsgi.client_disconnected"], "the client's leaving")
        gone.set()
        return answer(start_response)

    with serve(app) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(get("/"))
            assert asked.wait(PATIENCE)
        assert gone.wait(PATIENCE)
    assert here == [False]


def test_client_disconnected_is_false_while_requests_wait_behind() -> None:
    answers: list[bool] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        answers.append(environ["wsgi.client_disconnected"]())
        return answer(start_response)

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/1") + get("/2") + LAST)
        client.responses("GET", "GET", "GET")
    assert answers == [False] * 3


def test_client_disconnected_can_be_asked_after_the_response() -> None:
    kept: list[Callable[[], bool]] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        kept.append(environ["wsgi.client_disconnected"])
        return answer(start_response)

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(LAST)
        client.responses("GET")
        (is_gone,) = kept
        eventually(is_gone, "the end of a connection that is over")


# -- wsgi.input: like io.BytesIO ---------------------------------------------------------------------------------------

BODIES = {
    "empty": b"",
    "one-byte": b"x",
    "line-feed": b"\n",
    "two-lines": b"a\nb\n",
    "no-last-line-feed": b"a\nb",
    "empty-lines": b"\n\n\nabc\n\n",
    "cr-lf": b"a\r\nb\rc\r\n",
    "zeros": b"\0\n\0\0",
    "long-lines": b"x" * 70_000 + b"\n" + b"y" * 140_000 + b"\n" + b"z" * 10,
    "many-lines": b"".join(b"%d\n" % number for number in range(20_000)),
    "one-long-line": b"x" * 200_000,
}

Operation = tuple[str, tuple[Any, ...]]


def lines(stream: Any) -> list[bytes]:
    return list(stream)


def one(stream: Any) -> bytes | None:
    found: bytes | None = next(stream, None)
    return found


def perform(stream: Any, operations: list[Operation]) -> list[object]:
    special: dict[str, Callable[[Any], object]] = {"iterate": lines, "next": one}
    return [
        special[name](stream) if name in special else getattr(stream, name)(*arguments)
        for name, arguments in operations
    ]


REST: Operation = ("read", ())

# Each followed by reading what is left, twice: past the end there is nothing, for ever.
READINGS: dict[str, list[Operation]] = {
    "read": [("read", ())],
    "read-none": [("read", (None,))],
    "read-negative": [("read", (-1,))],
    "read-more-negative": [("read", (-5,))],
    "read-zero": [("read", (0,))],
    "read-one": [("read", (1,))],
    "read-some": [("read", (3,)), ("read", (2,)), ("read", (0,)), ("read", (100,))],
    "read-much": [("read", (1 << 20,))],
    "read-huge": [("read", (1 << 62,))],
    "read-past-a-block": [("read", (65_535,)), ("read", (2,)), ("read", (65_536,))],
    "readline": [("readline", ())] * 4,
    "readline-none": [("readline", (None,))] * 2,
    "readline-negative": [("readline", (-1,))] * 2,
    "readline-zero": [("readline", (0,))],
    "readline-one": [("readline", (1,))] * 4,
    "readline-two": [("readline", (2,))] * 3,
    "readline-some": [("readline", (65_537,)), ("readline", (5,)), ("readline", (1 << 30,))],
    "readlines": [("readlines", ())],
    "readlines-none": [("readlines", (None,))],
    "readlines-negative": [("readlines", (-1,))],
    "readlines-zero": [("readlines", (0,))],
    "readlines-one": [("readlines", (1,))] * 3,
    "readlines-two": [("readlines", (2,))] * 2,
    "readlines-some": [("readlines", (70_000,)), ("readlines", (10,))],
    "iterate": [("iterate", ())],
    "iterate-twice": [("iterate", ()), ("iterate", ())],
    "next": [("next", ())] * 3,
    "mixed": [("next", ()), ("read", (1,)), ("readline", ()), ("readlines", (1,)), ("read", (2,)), ("iterate", ())],
}

# How the body comes: options, and whether it is chunked.
SOURCES: dict[str, tuple[dict[str, Any], bool]] = {
    "memory": ({}, False),
    "file": ({"body_buffer": 0}, False),
    "streamed": (STREAMING, False),
    "chunked-in-memory": ({"body_buffer": 1 << 20}, True),
    "chunked-in-file": ({"body_buffer": 0}, True),
    "chunked-streamed": ({"stream_chunked": True}, True),
}


class Reader:
    """An application that does to its input what the test has put down for it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.results: list[object] = []

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        self.results = perform(environ["wsgi.input"], self.operations)
        return answer(start_response)


def encoded(body: bytes, *, chunked: bool, pieces: random.Random) -> list[bytes]:
    """A request with `body`, in the pieces in which it is sent."""
    if not chunked:
        parts = [with_fields(b"Content-Length: %d" % len(body), line=POST)]
    else:
        parts = [with_fields(b"Transfer-Encoding: chunked", line=POST)]
    at = 0
    while at < len(body):
        size = pieces.choice([1, 2, 7, 1000, 60_000])
        piece = body[at : at + size]
        at += size
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if len(parts) > 20:
            size = len(body)
            rest = body[at:]
            if rest:
                parts.append(b"%x\r\n%b\r\n" % (len(rest), rest) if chunked else rest)
            break
    if chunked:
        parts.append(b"0\r\n\r\n")
    return parts


@pytest.mark.parametrize("source", SOURCES)
def test_input_reads_like_bytes_io(source: str) -> None:
    options, chunked = SOURCES[source]
    pieces = random.Random(3333)
    reader = Reader()
    with serve(reader, threads=2, **options) as server, RawClient(server.addresses[0]) as client:
        for kind, body in BODIES.items():
            for name, operations in READINGS.items():
                reader.operations = [*operations, REST, REST, ("readline", ()), ("readlines", ()), ("iterate", ())]
                client.send(*encoded(body, chunked=chunked, pieces=pieces))
                assert client.receive("POST").status == 200, (kind, name)
                assert reader.results == perform(io.BytesIO(body), reader.operations), (kind, name)


@pytest.mark.parametrize("source", SOURCES)
def test_input_read_in_any_order_is_like_bytes_io(source: str) -> None:
    options, chunked = SOURCES[source]
    draw = random.Random(9112)
    reader = Reader()
    sizes = [None, -1, 0, 1, 2, 3, 10, 1000, 65_535, 65_536, 65_537, 1 << 40]
    with serve(reader, threads=2, **options) as server, RawClient(server.addresses[0]) as client:
        for attempt in range(60):
            body = bytes(draw.choices(b"\n\r\0abc", k=draw.choice([0, 1, 10, 1000, 100_000])))
            reader.operations = [
                (name, () if name in ("iterate", "next") else (draw.choice(sizes[draw.choice([0, 2]) :]),))
                for name in draw.choices(["read", "readline", "readlines", "iterate", "next"], [8, 8, 3, 1, 4], k=12)
            ]
            client.send(*encoded(body, chunked=chunked, pieces=draw))
            assert client.receive("POST").status == 200, attempt
            assert reader.results == perform(io.BytesIO(body), reader.operations), (attempt, reader.operations)


@pytest.mark.parametrize("source", SOURCES)
def test_input_gives_exactly_bytes(source: str) -> None:
    options, chunked = SOURCES[source]
    reader = Reader()
    reader.operations = [("read", (1,)), ("readline", ()), ("next", ()), ("readlines", (1,)), REST]
    with serve(reader, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(*encoded(b"a\nb\nc\nd\ne\n" * 3, chunked=chunked, pieces=random.Random(1)))
        client.receive("POST")
    read, line, step, several, rest = reader.results
    assert [type(value) for value in (read, line, step, rest)] == [bytes] * 4
    assert type(several) is list
    assert [type(value) for value in several] == [bytes]


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (("read", ("1",)), TypeError),
        (("read", (1.5,)), TypeError),
        (("read", (1, 2)), TypeError),
        (("readline", (b"",)), TypeError),
        (("readlines", ("",)), TypeError),
        (("write", (b"x",)), AttributeError),
    ],
)
def test_input_misused_raises_as_a_file_does(operation: Operation, error: type[Exception]) -> None:
    caught: list[type[BaseException]] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        for stream in (io.BytesIO(b"abc") if operation[0] != "write" else object(), environ["wsgi.input"]):
            try:
                perform(stream, [operation])
            except Exception as problem:
                caught.append(type(problem))
        return answer(start_response, environ["wsgi.input"].read())

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(with_fields(b"Content-Length: 3", line=POST) + b"abc")
        # Nothing was taken by the calls that failed.
        assert client.receive("POST").body == b"abc"
    assert caught == [error, error]


@pytest.mark.parametrize("source", SOURCES)
def test_input_kept_after_the_response_is_at_its_end_or_holds_its_own(source: str) -> None:
    options, chunked = SOURCES[source]
    kept: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            kept.append(environ["wsgi.input"])
        return answer(start_response, environ["PATH_INFO"].encode())

    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(b"".join(encoded(b"hello", chunked=chunked, pieces=random.Random(1))))
        assert client.receive("POST").status == 200
        (stream,) = kept
        # Never a byte of what follows on the connection, and never a wait for it.
        client.send(get("/next"))
        assert stream.read() in (b"", b"hello")
        assert stream.readline() == b""
        # A chunked body that is left unread has no known end, so that this connection closes.
        if source != "chunked-streamed":
            assert client.receive().body == b"/next"


@pytest.mark.parametrize("source", ["streamed", "chunked-streamed"])
def test_input_gives_what_has_come_while_more_is_to_come(source: str) -> None:
    # Framings inside a body (an upload's progress, a long poll) need what is there, and not the whole.
    options, chunked = SOURCES[source]
    read = threading.Event()
    results: list[bytes] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        results.append(stream.readline())
        results.append(stream.read(2))
        read.set()
        results.append(stream.read())
        return answer(start_response)

    first, second = b"line\nab", b"cd"
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        if chunked:
            client.send(with_fields(b"Transfer-Encoding: chunked", line=POST), b"7\r\n%b\r\n" % first)
        else:
            client.send(with_fields(b"Content-Length: 9", line=POST), first)
        # The rest is sent only once the first part was read.
        assert read.wait(PATIENCE)
        client.send(b"2\r\n%b\r\n0\r\n\r\n" % second if chunked else second)
        assert client.receive("POST").status == 200
    assert results == [b"line\n", b"ab", b"cd"]


def test_input_may_be_read_by_another_thread() -> None:
    results: list[bytes] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        threads = [threading.Thread(target=lambda: results.append(stream.read(50_000))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        return answer(start_response)

    body = bytes(range(250)) * 800
    with serve(app, **STREAMING) as server, RawClient(server.addresses[0]) as client:
        client.send(with_fields(b"Content-Length: %d" % len(body), line=POST), body)
        assert client.receive("POST").status == 200
    # Each byte went to one of them.
    assert sorted(b"".join(results)) == sorted(body)


# -- wsgi.input: bodies that end early or wrongly ----------------------------------------------------------------------


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("source", ["streamed", "chunked-streamed"])
@pytest.mark.parametrize(
    "operation", [("read", ()), ("read", (100,)), ("readline", ()), ("readlines", ()), ("iterate", ())]
)
def test_input_cut_short_raises_instead_of_looking_whole(source: str, operation: Operation, resets: bool) -> None:
    # RFC 9112 §8: an incomplete message must not be taken for a whole one.
    options, chunked = SOURCES[source]
    caught: list[BaseException] = []
    inside, over = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        inside.set()
        for _ in range(2):
            try:
                perform(environ["wsgi.input"], [operation])
            except BaseException as problem:
                caught.append(problem)
        over.set()
        return answer(start_response)

    with serve(app, **options) as server:
        with RawClient(server.addresses[0]) as client:
            if chunked:
                client.send(with_fields(b"Transfer-Encoding: chunked", line=POST), b"a\r\nhello")
            else:
                client.send(with_fields(b"Content-Length: 10", line=POST), b"hello")
            assert inside.wait(PATIENCE)
            if resets:
                reset(client)
        assert over.wait(PATIENCE)
        # The worker lives.
        with RawClient(server.addresses[0]) as client:
            client.send(get("/"))
            assert client.receive().status == 200
    assert [type(problem) for problem in caught] == [ClientDisconnected] * 2
    assert isinstance(caught[0], ConnectionError)


def test_input_half_closed_early_is_cut_short_too() -> None:
    caught: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except ClientDisconnected as problem:
            caught.append(problem)
        return answer(start_response, b"read what there was")

    with serve(app, **STREAMING) as server, RawClient(server.addresses[0]) as client:
        client.send(with_fields(b"Content-Length: 10", line=POST) + b"hello")
        client.end()
        # Whoever only half-closed reads what the application made of it.
        (response,) = client.responses("POST")
        assert response.body == b"read what there was"
        assert response["Connection"] == "close"
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("chunk", "status"),
    [(b"5\r\nhelloXX\r\n", 400), (b"g\r\n", 400), (b"5\nhello\r\n", 400), (b"ffffffffffffffff\r\n", 413)],
)
def test_input_streamed_chunks_that_break_the_rules_raise(chunk: bytes, status: int) -> None:
    caught: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except MalformedBody as problem:
            caught.append(problem)
            raise
        return answer(start_response)

    with serve(app, stream_chunked=True) as server, RawClient(server.addresses[0]) as client:
        client.send(with_fields(b"Transfer-Encoding: chunked", line=POST), b"2\r\nab\r\n" + chunk + LAST)
        refused(client, status)
    assert len(caught) == 1
    # An application's log must not hold what a client sent.
    assert chunk.strip() not in str(caught[0]).encode()
