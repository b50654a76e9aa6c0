"""The access log: every field of it exactly, nothing in it that a client could forge, and no line lost.

A line is written once the last byte of its response has left, or when it is known that no more will. The log is read
after the server has stopped, which writes what is left.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.catalogue import wire_cases
from tests.server.recording import (
    CHUNKED,
    GET,
    HEAD,
    LAST,
    POST,
    Environ,
    Gate,
    Start,
    answer,
    eventually,
    everything,
    get,
    reset,
    talk,
)
from tests.support import PATIENCE, Command, RawClient, serve
from wsgi.server import WSGIServer

App = Callable[[Environ, Start], Any]


def hello(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(start_response, b"hello")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is written."""
    return tmp_path / "access.log"


def logged(path: Path, app: App, *exchanges: bytes, **options: Any) -> list[str]:
    """The lines after each of `exchanges` was sent on a connection of its own and answered to the end."""
    with serve(app, access_log=str(path), **options) as server:
        for exchange in exchanges:
            talk(server.addresses[0], exchange)
    text = path.read_bytes().decode("ascii")
    assert not text or text.endswith("\n")
    return text.splitlines()


def closing(*lines: bytes, line: bytes = b"GET /e HTTP/1.1") -> bytes:
    """A request after which the connection closes."""
    return b"\r\n".join([line, b"Host: a", *lines, b"Connection: close", b"", b""])


# -- The combined format -----------------------------------------------------------------------------------------------

COMBINED = re.compile(
    r'(?P<host>[^ ]+) - - \[(?P<time>[^\]]+)\] "(?P<request>.*)" (?P<status>[0-9]{3}) (?P<size>-|[0-9]+) '
    r'"(?P<referer>.*)" "(?P<agent>.*)"'
)


def test_combined_format_is_the_default_and_exact(path: Path) -> None:
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    (line,) = logged(
        path,
        hello,
        closing(b"Referer: http://b/?c", b"User-Agent: Test/1.0 (x; y)", line=b"POST /a/b?c=d%20e HTTP/1.1"),
    )
    after = datetime.datetime.now(datetime.timezone.utc)
    found = COMBINED.fullmatch(line)
    assert found, line
    time = found["time"]
    assert line == (f'127.0.0.1 - - [{time}] "POST /a/b?c=d%20e HTTP/1.1" 200 5 "http://b/?c" "Test/1.0 (x; y)"')
    assert re.fullmatch(r"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(:[0-9]{2}){3} \+0000", time)
    assert before <= datetime.datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z") <= after


def test_combined_format_without_fields_has_dashes(path: Path) -> None:
    (line,) = logged(path, hello, b"GET / HTTP/1.0\r\n\r\n")
    assert line.endswith('"GET / HTTP/1.0" 200 5 "-" "-"')


def test_combined_format_with_empty_fields_has_dashes(path: Path) -> None:
    (line,) = logged(path, hello, closing(b"Referer:", b"User-Agent: "))
    assert line.endswith('"GET /e HTTP/1.1" 200 5 "-" "-"')


def test_line_of_a_unix_socket_names_no_address(path: Path, tmp_path: Path) -> None:
    (line,) = logged(path, hello, closing(), bind=[f"unix:{tmp_path / 's'}"])
    found = COMBINED.fullmatch(line)
    assert found
    assert found["host"] in ("unix", "-")


# -- What a client cannot do to it -------------------------------------------------------------------------------------

# What stands in a field, and how it stands in the log: as Apache writes it, in a form that ends neither item nor line.
ESCAPED: list[tuple[bytes, str]] = [
    (b'"', r"\""),
    (b"\\", r"\\"),
    (b'\\"', r"\\\""),
    (b'" 200 5 "-" "forged', r"\" 200 5 \"-\" \"forged"),
    (b"\t", r"\x09"),
    (b"\xe9", r"\xe9"),
    (b"\xff", r"\xff"),
    (b"\xc3\xa9", r"\xc3\xa9"),
    # The C1 controls, which some terminals obey.
    (b"\x80\x9b31m", r"\x80\x9b31m"),
    (b"plain ~!@#$%^&*()[]{}<>", "plain ~!@#$%^&*()[]{}<>"),
]


@pytest.mark.parametrize(("value", "shown"), ESCAPED)
@pytest.mark.parametrize(("name", "group"), [(b"Referer", "referer"), (b"User-Agent", "agent")])
def test_field_is_escaped(name: bytes, group: str, value: bytes, shown: str, path: Path) -> None:
    (line,) = logged(path, hello, closing(name + b": a" + value + b"b"))
    found = COMBINED.fullmatch(line)
    assert found, line
    assert found[group] == f"a{shown}b"


def test_request_line_is_escaped_and_not_decoded(path: Path) -> None:
    # What is percent-encoded stays so: decoded, it could be a line end.
    (line,) = logged(path, hello, closing(line=b'GET /a%0d%0aX%22"\\b?"%00 HTTP/1.1'))
    found = COMBINED.fullmatch(line)
    assert found, line
    assert found["request"] == r"GET /a%0d%0aX%22\"\\b?\"%00 HTTP/1.1"


@pytest.mark.parametrize("byte", range(256))
def test_no_byte_of_a_client_can_forge_a_line(byte: int, path: Path) -> None:
    # Whatever is let through leaves one line of printable ASCII for each request; what is refused leaves at most one.
    sent = bytes([byte])
    lines = logged(path, hello, closing(b"User-Agent: a" + sent + b"b"), closing(line=b"GET /a" + sent + b"b HTTP/1.1"))
    assert len(lines) <= 2
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert COMBINED.fullmatch(line), line


# -- Atoms -------------------------------------------------------------------------------------------------------------

REQUEST = closing(b"X-A: 1", b"x-a: 2", b"Cookie: c=1", b"Referer: r", line=b"POST /a%20b?c=d&e HTTP/1.1")

# A format, and the line it makes of that request; a pattern where the value is not known before.
ATOMS: dict[str, tuple[str, str]] = {
    "text": ("just text", "just text"),
    "percent": ("100%% %%h", "100% %h"),
    "non-ascii-text": ("caf\xe9 %m", "caf\xe9 POST"),
    "host": ("%h %a", r"127\.0\.0\.1 127\.0\.0\.1"),
    "logname-and-user": ("%l %u", "- -"),
    "time": ("%t", r"\[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8} \+0000\]"),
    "request-line": ("%r", r"POST /a%20b\?c=d&e HTTP/1\.1"),
    "method": ("%m", "POST"),
    "path": ("%U", "/a%20b"),
    "query": ("%q", r"\?c=d&e"),
    "protocol": ("%H", r"HTTP/1\.1"),
    "status": ("%s %>s", "200 200"),
    "size": ("%b %B", "5 5"),
    "time-taken": ("%D %T", "[0-9]+ [0-9]+"),
    "time-taken-in-units": ("%{us}T %{ms}T %{s}T", "[0-9]+ [0-9]+ [0-9]+"),
    "remote-port": ("%{remote}p", "[1-9][0-9]*"),
    "connection-status": ("%X", r"[+-]"),
    "reason": ("%{reason}x", "-"),
    "field": ("%{Referer}i", "r"),
    "field-in-any-case": ("%{rEFERER}i", "r"),
    "field-absent": ("%{X-B}i", "-"),
    "field-of-request": ("%{Host}i", "a"),
    "several": ("%m%U%q", r"POST/a%20b\?c=d&e"),
}


@pytest.mark.parametrize("name", ATOMS)
def test_atom_gives_its_value(name: str, path: Path) -> None:
    log_format, pattern = ATOMS[name]
    with serve(hello, access_log=str(path), access_log_format=log_format) as server:
        talk(server.addresses[0], REQUEST)
    (line,) = path.read_text("utf-8").splitlines()
    assert re.fullmatch(pattern, line), line


def test_atom_query_of_a_request_without_one_is_empty(path: Path) -> None:
    lines = logged(
        path, hello, closing(line=b"GET / HTTP/1.1"), closing(line=b"GET /? HTTP/1.1"), access_log_format="<%q>"
    )
    assert lines == ["<>", "<>"]


def test_atom_size_of_nothing_is_a_dash_or_0(path: Path) -> None:
    def nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return []

    assert logged(path, nothing, closing(), access_log_format="%s %b %B") == ["204 - 0"]


def test_atom_remote_port_is_the_clients(path: Path) -> None:
    options = {"access_log": str(path), "access_log_format": "%{remote}p"}
    with serve(hello, **options) as server, RawClient(server.addresses[0]) as client:
        port = client.socket.getsockname()[1]
        client.send(LAST)
        client.responses("GET")
    assert path.read_text() == f"{port}\n"


def test_atom_time_taken_holds_the_applications(path: Path) -> None:
    def slow(environ: Environ, start_response: Start) -> Iterable[bytes]:
        # Time is the subject.
        threading.Event().wait(0.05)
        return answer(start_response)

    (line,) = logged(path, slow, closing(), access_log_format="%D %{ms}T %{s}T")
    micro, milli, seconds = (int(part) for part in line.split(" "))
    assert micro >= 50_000
    assert (milli, seconds) == (micro // 1000, micro // 1_000_000)


@pytest.mark.parametrize(
    "log_format",
    ["%y", "%h %z", "%", "a%", "%{", "%{X", "%{X}", "%{X}z", "%{}i", "%{x}T", "%{local}p", "%>h", "%{X}o", "%\xe9"],
)
def test_atom_that_is_unknown_is_refused_at_construction(log_format: str, path: Path) -> None:
    # Whether a log is written or not.
    for access_log in (str(path), None):
        with pytest.raises(ValueError, match=r"option access_log_format: unknown directive %.*; known are %% %h"):
            WSGIServer(port=0, app=hello, access_log=access_log, access_log_format=log_format)
    assert not path.exists()


def test_atoms_of_gunicorn_are_refused_with_their_counterparts() -> None:
    with pytest.raises(ValueError, match=r"%\(h\)s is not spoken here; write %h \[%t\] \"%\{Referer\}i\"$"):
        WSGIServer(port=0, app=hello, access_log_format='%(h)s [%(t)s] "%(f)s"')
    with pytest.raises(ValueError, match=r"%\(L\)s has no counterpart here; known are %% %h"):
        WSGIServer(port=0, app=hello, access_log_format="%(L)s")


def test_log_that_cannot_be_opened_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="access_log") as caught:
        WSGIServer(port=0, app=hello, access_log=str(tmp_path / "missing" / "log"))
    assert "missing" in str(caught.value)


# -- Status and size ---------------------------------------------------------------------------------------------------


def of(status: str, content: Any, *headers: tuple[str, str]) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response(status, list(headers))
        return content() if callable(content) else content

    return app


def raising(environ: Environ, start_response: Start) -> Iterable[bytes]:
    raise ValueError("an error of the application")


def cut(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"abc"
    raise ValueError("an error of the application")


def written(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])(b"abc")
    return [b"de"]


def wrapped(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](Path(__file__).open("rb"))


INTERNAL_ERROR = len(b"Internal server error.\n")

# Application, request, and `%s %B %X`: Apache's %B is "size of response in bytes, excluding HTTP headers", and %X is X
# for a response that was aborted.
OUTCOMES: dict[str, tuple[App, bytes, str]] = {
    "get": (hello, closing(), "200 5 +"),
    "head": (hello, closing(line=b"HEAD /e HTTP/1.1"), "200 0 +"),
    "head-of-list": (of("200 OK", [b"hello"]), closing(line=b"HEAD /e HTTP/1.1"), "200 0 +"),
    "not-found": (of("404 Not Found", [b"no"]), closing(), "404 2 +"),
    "own-status": (of("299 Odd", [b"no"]), closing(), "299 2 +"),
    "not-modified": (of("304 Not Modified", [b"x"], ("Content-Length", "5")), closing(), "304 0 +"),
    "no-content": (of("204 No Content", [b"x"]), closing(), "204 0 +"),
    "empty": (of("200 OK", []), closing(), "200 0 +"),
    # The content, without the framing of its chunks.
    "chunked": (of("200 OK", lambda: iter([b"abc", b"de"])), closing(), "200 5 +"),
    "write": (written, closing(), "200 5 +"),
    "file": (wrapped, closing(), f"200 {Path(__file__).stat().st_size} +"),
    "large": (of("200 OK", [b"x" * 3_000_000]), closing(), "200 3000000 +"),
    "longer-than-announced": (of("200 OK", [b"hello"], ("Content-Length", "2")), closing(), "200 2 +"),
    "http10": (of("200 OK", lambda: iter([b"abc"])), b"GET /e HTTP/1.0\r\n\r\n", "200 3 +"),
    "expectation": (
        hello,
        POST + b"Connection: close\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
        "200 5 +",
    ),
    # The server's own answer.
    "failed": (raising, closing(), f"500 {INTERNAL_ERROR} +"),
    "failed-head": (raising, closing(line=b"HEAD /e HTTP/1.1"), "500 0 +"),
    "never-started": (lambda environ, start_response: [b"x"], closing(), f"500 {INTERNAL_ERROR} +"),
    # Broken off: the status is the one that was sent.
    "cut": (cut, closing(), "200 3 X"),
    "shorter-than-announced": (of("200 OK", [b"abc"], ("Content-Length", "5")), closing(), "200 3 X"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome_status_size_and_end_are_logged(name: str, path: Path) -> None:
    app, request, line = OUTCOMES[name]
    assert logged(path, app, request, access_log_format="%s %B %X") == [line]


def test_outcome_of_a_queue_that_is_full_is_503(path: Path) -> None:
    gate = Gate()
    options = {"access_log": str(path), "access_log_format": "%U %s %B %X"}
    with serve(gate, threads=1, queue_limit=1, **options) as server:
        clients = [RawClient(server.addresses[0]) for _ in range(3)]
        clients[0].send(get("/slow", "Connection: close"))
        gate.wait_for_one()
        for client, name in zip(clients[1:], ("/1", "/2"), strict=True):
            client.send(get(name, "Connection: close"))
        # One of them waits, the other is refused while every thread is inside the application.
        refused = next(iter(first_answered(clients[1:])))
        (response,) = refused.responses("GET")
        gate.opened.set()
        for client in clients:
            if client is not refused:
                client.responses("GET")
            client.socket.close()
    assert response.status == 503
    lines = path.read_text().splitlines()
    assert sorted(line.split(" ", 1)[1] for line in lines) == ["200 2 +", "200 5 +", f"503 {len(response.body)} +"]


def first_answered(clients: list[RawClient]) -> list[RawClient]:
    readable = select.select([client.socket for client in clients], [], [], PATIENCE)[0]
    return [client for client in clients if client.socket in readable]


def test_outcome_of_a_body_too_slow_for_the_application_is_408(path: Path) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return answer(start_response, environ["wsgi.input"].read())

    lines = logged(
        path,
        app,
        POST + b"Content-Length: 10\r\n\r\nhello",
        body_buffer=0,
        stream_bodies=True,
        body_timeout=0.1,
        access_log_format="%s %B %X",
    )
    text = b"The request did not arrive in time.\n"
    assert lines == [f"408 {len(text)} +"]


@pytest.mark.parametrize("resets", [False, True])
def test_outcome_of_a_client_that_left_is_aborted(resets: bool, path: Path) -> None:
    gone, closed = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield b"begun"
            assert gone.wait(PATIENCE)
            for _ in range(500):
                yield b"x" * 100_000
        finally:
            closed.set()

    with serve(app, access_log=str(path), access_log_format="%m %s %X") as server:
        client = RawClient(server.addresses[0])
        client.send(GET + b"\r\n")
        assert client.socket.recv(1, socket.MSG_PEEK)
        if resets:
            reset(client)
        client.socket.close()
        gone.set()
        assert closed.wait(PATIENCE)
    assert path.read_text() == "GET 200 X\n"


def test_outcome_of_a_client_that_does_not_read_is_aborted(path: Path) -> None:
    app = of("200 OK", [b"x" * 50_000_000])
    options = {"access_log": str(path), "access_log_format": "%s %X", "write_timeout": 0.2}
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(LAST)
        # Written although the client never takes its response.
        eventually(lambda: path.read_text() != "", "a line")
    assert path.read_text() == "200 X\n"


# -- What the server answers itself ------------------------------------------------------------------------------------


async def _read(scope: Any, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


reader: Any = _read
"""An ASGI application that reads its request, then answers."""


@pytest.mark.parametrize("app", [hello, reader], ids=["wsgi", "asgi"])
def test_refusal_of_every_kind_has_one_line_with_its_status_and_reason(app: Any, path: Path) -> None:
    cases = [case for case in wire_cases() if case.is_refused]
    options = {"access_log": str(path), "access_log_format": '%{remote}p %h %s %b %X "%r" %{reason}x'}
    ports: dict[str, tuple[str, int]] = {}
    with serve(app, **options) as server:
        for case in cases:
            with RawClient(server.addresses[0]) as client:
                port = str(client.socket.getsockname()[1])
                client.send(case.content)
                ports[case.id] = (port, len(everything(client).rpartition(b"\r\n\r\n")[2]))
    lines = path.read_text("ascii").splitlines()
    assert len(lines) == len(cases)
    found = [re.fullmatch(r'(\d+) 127\.0\.0\.1 (\d+) (-|\d+) \+ "(.*)" ([a-zA-Z].*)', line) for line in lines]
    assert all(found), lines
    by_port: dict[str, list[re.Match[str]]] = {}
    for line in found:
        assert line
        by_port.setdefault(line[1], []).append(line)
    for case in cases:
        port, size = ports[case.id]
        # The system may give a port twice.
        line = by_port[port].pop(0)
        assert (line[2], line[3]) == (case.outcomes[0].end, str(size or "-")), (case.id, line[0])


REFUSALS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "line": (b"GET /a b HTTP/1.1\r\n\r\n", {}, '400 "GET /a b HTTP/1.1" - -  - -'),
    "nothing": (b"\r\n\r\n", {}, '400 "-" - -  - -'),
    "tls": (b"\x16\x03\x01\x02\x00", {}, r'400 "\x16\x03\x01\x02\x00" - -  - -'),
    "version": (b"GET /a?b HTTP/2.0\r\n", {}, '505 "GET /a?b HTTP/2.0" - -  - -'),
    "field": (GET + b"Referer: r\r\nX : y\r\n\r\n", {}, '400 "GET /e HTTP/1.1" GET /e  HTTP/1.1 -'),
    "framing": (
        b"POST /e?f HTTP/1.1\r\nHost: a\r\nReferer: r\r\nExpect: more\r\n\r\n",
        {},
        '417 "POST /e?f HTTP/1.1" POST /e ?f HTTP/1.1 r',
    ),
    "body": (CHUNKED + b"g\r\n", {}, '400 "POST /e HTTP/1.1" POST /e  HTTP/1.1 -'),
    "body-size": (
        POST + b"Content-Length: 11\r\n\r\n",
        {"max_body_size": 10},
        '413 "POST /e HTTP/1.1" POST /e  HTTP/1.1 -',
    ),
    "head-size": (GET + b"X: " + b"y" * 300, {"max_header_size": 256}, '431 "GET /e HTTP/1.1" GET /e  HTTP/1.1 -'),
    # Cut at the limit.
    "line-size": (
        b"GET /" + b"a" * 100,
        {"max_request_line": 64},
        f'414 "GET /{"a" * 59}" - -  - -',
    ),
    "head-timeout": (GET, {"header_timeout": 0.05}, '408 "GET /e HTTP/1.1" GET /e  HTTP/1.1 -'),
    "line-timeout": (b"GET /e", {"header_timeout": 0.05}, '408 "GET /e" - -  - -'),
    "body-timeout": (
        POST + b"Content-Length: 5\r\n\r\nx",
        {"body_timeout": 0.05},
        '408 "POST /e HTTP/1.1" POST /e  HTTP/1.1 -',
    ),
    "spool-full": (
        POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000,
        {"max_spool_size": 1, "body_buffer": 0},
        '503 "POST /e HTTP/1.1" POST /e  HTTP/1.1 -',
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_has_a_line_with_what_is_known_of_its_request(name: str, path: Path) -> None:
    request, options, line = REFUSALS[name]
    log_format = '%s "%r" %m %U %q %H %{Referer}i'
    assert logged(path, hello, request, access_log_format=log_format, **options) == [line]


def test_refusal_behind_requests_has_a_line_of_its_own(path: Path) -> None:
    keeping = GET + b"\r\n"
    lines = logged(path, hello, keeping + keeping + b"BAD\r\n\r\n", access_log_format="%m %s %B %{reason}x")
    assert lines[:2] == ["GET 200 5 -"] * 2
    assert len(lines) == 3
    assert lines[2].startswith("- 400 24 the request line is not")


def test_refusal_to_head_has_no_size(path: Path) -> None:
    lines = logged(path, hello, b"HEAD /e HTTP/1.1\r\n\r\n", access_log_format="%s %B %{reason}x")
    assert lines == ["400 0 an HTTP/1.1 request without Host"]


def test_refusal_behind_a_trusted_proxy_names_the_client(path: Path) -> None:
    lines = logged(
        path,
        hello,
        GET + b"X-Forwarded-For: 192.0.2.7\r\nExpect: more\r\n\r\n",
        # What a proxy says wrongly is no word about the client.
        GET + b"X-Forwarded-For: nowhere\r\n\r\n",
        trusted_proxies=["127.0.0.1"],
        access_log_format="%h %s",
    )
    assert lines == ["192.0.2.7 417", "127.0.0.1 400"]


@pytest.mark.parametrize(
    ("line", "status"), [(b"Sec-WebSocket-Version: 8", "426"), (b"Sec-WebSocket-Version: 13", "400")]
)
def test_refusal_of_a_websocket_has_a_line_with_its_reason(line: bytes, status: str, path: Path) -> None:
    request = b"\r\n".join(
        [b"GET /w HTTP/1.1", b"Host: a", b"Upgrade: websocket", line, b"Connection: upgrade", b"", b""]
    )
    (found,) = logged(path, reader, request, access_log_format="%U %s %X %{reason}x")
    assert re.fullmatch(rf"/w {status} \+ .*WebSocket.*", found)


def test_connection_without_an_answer_has_no_line(path: Path) -> None:
    with serve(hello, access_log=str(path), header_timeout=0.05) as server:
        for sent in (b"", b"GET /e HTT", GET, POST + b"Content-Length: 5\r\n\r\nx", b"\r\n"):
            with RawClient(server.addresses[0]) as client:
                if sent:
                    client.send(sent)
                    client.socket.shutdown(socket.SHUT_WR)
                assert everything(client) == b""
    assert path.read_text() == ""


def wrapping(file: Path) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file.open("rb"))

    return app


def test_cut_response_has_a_reason(path: Path, tmp_path: Path) -> None:
    app = of("200 OK", [b"x" * 50_000_000])
    options: dict[str, Any] = {"access_log": str(path), "access_log_format": "%U %s %X %{reason}x"}
    with serve(app, write_timeout=0.2, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(LAST)
        eventually(lambda: path.read_text() != "", "a line")
    with serve(app, graceful_timeout=0.2, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/stopped"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        server.shutdown()
        eventually(lambda: path.read_text().count("\n") == 2, "a second line")
    with serve(app, max_connections=1, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/evicted"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        with RawClient(server.addresses[0]):
            eventually(lambda: path.read_text().count("\n") == 3, "a third line")
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/left"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        reset(client)
    with serve(cut, **options) as server:
        talk(server.addresses[0], closing(line=b"GET /failed HTTP/1.1"))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50_000_000)
        with serve(wrapping(tmp_path / "large"), **options) as server, RawClient(server.addresses[0]) as client:
            client.send(get("/file", "Connection: close"))
            assert client.socket.recv(1, socket.MSG_PEEK)
            file.truncate(0)
            everything(client)
    assert path.read_text().splitlines() == [
        "/last 200 X the client took nothing within write_timeout",
        "/stopped 200 X the server stopped",
        "/evicted 200 X closed for a new client, as no connection was free",
        "/left 200 X the client closed the connection",
        "/failed 200 X the application did not complete its response",
        "/file 200 X a file could not be read as far as announced",
    ]


def test_request_that_is_unanswered_at_the_end_has_a_line(path: Path) -> None:
    gate = Gate()
    options: dict[str, Any] = {"access_log": str(path), "access_log_format": "%U %s %X %{reason}x"}
    with serve(gate, graceful_timeout=0.1, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/slow"))
        gate.wait_for_one()
        server.server_close()
        assert server.stuck
        gate.opened.set()
        eventually(lambda: path.read_text() != "", "its line")
    assert path.read_text() == "/slow 503 + the server stopped before the application had answered\n"


@pytest.mark.parametrize("writes", [False, True], ids=["iterable", "write"])
def test_response_ahead_of_a_client_that_does_not_read_is_cut_with_a_reason(writes: bool, path: Path) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        if not writes:
            return iter([b"x" * 1_000_000] * 50)
        for _ in range(50):
            write(b"x" * 1_000_000)
        return []

    options: dict[str, Any] = {"access_log": str(path), "access_log_format": "%U %s %X %{reason}x"}
    with serve(app, write_timeout=0.2, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(LAST)
        eventually(lambda: path.read_text() != "", "a line")
        # What is still in the kernel may come; its end must not look like that of the response.
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := client.socket.recv(1 << 20):
                received = received[-16:] + piece
        assert not received.endswith(b"0\r\n\r\n")
    assert path.read_text() == "/last 200 X the client took nothing within write_timeout\n"


def test_client_that_left_while_its_request_waited_is_499(path: Path) -> None:
    gate = Gate()
    options = {"access_log": str(path), "access_log_format": "%U %s %b %X %{reason}x"}
    with (
        serve(gate, threads=1, **options) as server,
        RawClient(server.addresses[0]) as first,
        RawClient(server.addresses[0]) as second,
    ):
        first.send(get("/slow", "Connection: close"))
        gate.wait_for_one()
        second.send(get("/waits"))
        # Time is the subject: a client that leaves within a second is still answered.
        threading.Event().wait(1.1)
        second.socket.shutdown(socket.SHUT_WR)
        gate.opened.set()
        first.responses("GET")
        eventually(lambda: "/waits" in path.read_text(), "its line")
    assert "/waits 499 - X the client closed the connection" in path.read_text().splitlines()


# -- Reasons in the server's log ---------------------------------------------------------------------------------------


def test_refusals_and_cuts_are_reported_at_debug_without_fields_or_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wsgi.server")
    with serve(hello) as server:
        address = server.addresses[0]
        talk(address, b"GET /a\x1b?secret HTTP/1.1\r\n\r\n")
        talk(address, b"GET /a?secret HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nX : y\r\n\r\n")
        with RawClient(address) as client:
            client.send(GET)
            client.socket.shutdown(socket.SHUT_WR)
            assert everything(client) == b""
        with RawClient(address) as client:
            client.send(POST + b"Content-Length: 5\r\n\r\n")
            client.socket.shutdown(socket.SHUT_WR)
            assert everything(client) == b""
        # What is in order has no line.
        talk(address, closing())
    with serve(cut) as server:
        talk(server.addresses[0], closing())
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert messages == [
        "response 400 for 127.0.0.1: the target contains a control or non-ASCII byte",
        "response 400 to GET /a for 127.0.0.1: white space between a field's name and its colon",
        "connection from 127.0.0.1 closed: the client left before its request was complete",
        "connection from 127.0.0.1 closed: the client left before its body was complete",
        "response 200 to GET /e for 127.0.0.1 cut: the application did not complete its response",
    ]
    assert not any("secret" in message for message in messages)


def test_refusals_are_no_news_for_an_ordinary_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsgi.server")
    with serve(hello) as server:
        talk(server.addresses[0], b"BAD\r\n\r\n")
    assert not caplog.records


def test_requests_that_find_the_queue_full_are_warned_of_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with serve(gate, threads=1, queue_limit=1) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(6)]
        clients[0].send(get("/slow", "Connection: close"))
        gate.wait_for_one()
        for client in clients[1:]:
            client.send(get("/1", "Connection: close"))
        # One of them waits in the queue.
        answered = 0
        while answered < 4:
            for client in first_answered(clients[1:]):
                assert client.receive().status == 503
                clients.remove(client)
                answered += 1
        gate.opened.set()
        for client in clients:
            client.responses("GET")
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    # The first at once; the others with the next report, which a stop brings at the latest.
    assert messages == [
        "1 request refused with 503: the request queue is full",
        "3 requests refused with 503: the request queue is full",
    ]


def test_slow_clients_that_have_to_make_room_are_warned_of_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    with serve(of("200 OK", [b"x" * 50_000_000]), max_connections=2) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(2)]
        for client in slow:
            client.send(get("/"))
            assert client.socket.recv(1, socket.MSG_PEEK)
        for _ in range(2):
            newcomer = stack.enter_context(RawClient(server.addresses[0]))
            newcomer.send(get("/"))
            assert newcomer.socket.recv(1, socket.MSG_PEEK)
    messages = [record.getMessage() for record in caplog.records]
    made_room = [message for message in messages if "make room" in message]
    assert [message.split(" ", 1)[0] for message in made_room] == ["1", "1"]


# -- Excluded paths ----------------------------------------------------------------------------------------------------

# Patterns, and which of the paths below are left.
PATHS = ["/", "/health", "/health/", "/healthy", "/static/a.css", "/static/b/c", "/Health"]
EXCLUDED: dict[str, tuple[list[str], list[str]]] = {
    "none": ([], PATHS),
    "exact": (["/health"], ["/", "/health/", "/healthy", "/static/a.css", "/static/b/c", "/Health"]),
    "prefix": (["/static/*"], ["/", "/health", "/health/", "/healthy", "/Health"]),
    "prefix-of-names": (["/heal*"], ["/", "/static/a.css", "/static/b/c", "/Health"]),
    "several": (["/health", "/static/*", "/"], ["/health/", "/healthy", "/Health"]),
    "everything": (["/*"], []),
}


@pytest.mark.parametrize("name", EXCLUDED)
def test_excluded_paths_are_not_logged(name: str, path: Path) -> None:
    patterns, left = EXCLUDED[name]
    requests = [closing(line=f"GET {each} HTTP/1.1".encode()) for each in PATHS]
    lines = logged(path, hello, *requests, access_log_exclude=patterns, access_log_format="%U")
    assert lines == left


def test_excluded_path_is_so_for_refused_requests(path: Path) -> None:
    lines = logged(
        path,
        hello,
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nX : y\r\n\r\n",
        # Without a valid request line there is no path.
        b"GET /health HTTP/2.0\r\n\r\n",
        access_log_exclude=["/health"],
        access_log_format="%r",
    )
    assert lines == ["GET /health HTTP/2.0"]


def test_excluded_path_is_so_with_any_query(path: Path) -> None:
    lines = logged(path, hello, closing(line=b"GET /health?x=1 HTTP/1.1"), access_log_exclude=["/health"])
    assert lines == []


# -- Where it goes -----------------------------------------------------------------------------------------------------


def test_file_is_appended_to(path: Path) -> None:
    path.write_text("before\n")
    for _ in range(2):
        logged(path, hello, closing(), access_log_format="%U")
    assert path.read_text() == "before\n/e\n/e\n"


def test_lines_appear_while_the_server_runs(path: Path) -> None:
    with serve(hello, access_log=str(path), access_log_format="%U") as server:
        talk(server.addresses[0], closing())
        eventually(lambda: path.read_text() == "/e\n", "the line")


def test_no_log_is_written_where_none_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(hello) as server:
        talk(server.addresses[0], closing())
    assert capfd.readouterr().out == ""


APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_standard_output_of_the_command_is_a_log(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    with Command("app:app", "--access-log", "-", cwd=tmp_path) as command:
        talk(command.address, closing(b"User-Agent: test"))
        line = command.stdout.wait_for("GET")
    assert COMBINED.fullmatch(line)
    assert line.endswith('"GET /e HTTP/1.1" 200 2 "-" "test"')


def test_format_and_patterns_of_the_command_are_taken(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    arguments = ["--access-log", "-", "--access-log-format", "%m %U %s", "--access-log-exclude", "/health"]
    with Command("app:app", *arguments, cwd=tmp_path) as command:
        for target in (b"/health", b"/other"):
            talk(command.address, closing(line=b"GET %s HTTP/1.1" % target))
        command.stdout.wait_for("/other")
    assert command.stdout.seen == ["GET /other 200"]


def test_unknown_atom_of_the_command_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "wsgi_server",
            "app:app",
            "--access-log",
            "-",
            "--access-log-format",
            "%y",
            "--port",
            "0",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "%y" in done.stderr


# -- Nothing is lost ---------------------------------------------------------------------------------------------------


def test_every_request_has_its_line_after_a_graceful_stop(path: Path) -> None:
    clients, each = 8, 250

    def ask(number: int) -> None:
        with RawClient(server.addresses[0]) as client:
            for turn in range(each):
                client.send(get(f"/{number}/{turn}"))
                client.receive()

    with serve(hello, access_log=str(path), access_log_format="%U") as server:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"/{number}/{turn}" for number in range(clients) for turn in range(each))


def test_request_that_runs_while_the_server_stops_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, signal, threading\n"
        "def app(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/stop':\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n"
    )
    with Command("app:app", "--access-log", "access.log", "--access-log-format", "%U %s %X", cwd=tmp_path) as command:
        with RawClient(command.address) as client:
            client.send(get("/first") + get("/stop"))
            client.receive()
            client.receive()
        assert command.process.wait(PATIENCE) == 0
    assert (tmp_path / "access.log").read_text() == "/first 200 +\n/stop 200 +\n"


def test_each_run_of_a_server_writes_its_lines_before_it_ends(path: Path) -> None:
    server = WSGIServer(port=0, app=hello, access_log=str(path), access_log_format="%U")
    with contextlib.ExitStack() as stack:
        stack.callback(server.server_close)
        for count, target in enumerate(("/first", "/second"), 1):
            run = threading.Thread(target=server.handle_request)
            run.start()
            talk(server.addresses[0], closing(line=f"GET {target} HTTP/1.1".encode()))
            run.join(PATIENCE)
            assert path.read_text().splitlines() == ["/first", "/second"][:count]


def test_run_whose_log_cannot_be_opened_again_is_refused_and_the_next_one_serves(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    server = WSGIServer(port=0, app=hello, access_log=str(folder / "log"), access_log_format="%U")

    def run() -> None:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        talk(server.addresses[0], closing())
        thread.join(PATIENCE)

    with contextlib.ExitStack() as stack:
        stack.callback(server.server_close)
        run()
        folder.rename(tmp_path / "moved")
        with pytest.raises(ValueError, match=f"option access_log: cannot open the access log {folder}/log: "):
            server.handle_request()
        folder.mkdir()
        run()
    assert [(tmp_path / name / "log").read_text() for name in ("moved", "logs")] == ["/e\n", "/e\n"]


FORKED = """
import os, sys
from pathlib import Path
from socket import create_connection
from wsgi.server import WSGIServer

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

server = WSGIServer(port=0, app=app, access_log="access.log", access_log_format="%U")
tasks = Path("/proc/self/task")
print(len(list(tasks.iterdir())) if tasks.exists() else 1)
for target in ("/one", "/two"):
    child = os.fork()
    if not child:
        try:
            server.handle_request()
            server.server_close()
        finally:
            os._exit(0)
    with create_connection(server.server_address, 20) as client:
        client.sendall(f"GET {target} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n".encode())
        while client.recv(1000):
            pass
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_server_made_before_a_fork_has_no_thread_and_serves_and_logs_in_its_children(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)
    assert (tmp_path / "access.log").read_text() == "/one\n/two\n"


def test_lines_of_one_connection_are_in_order(path: Path) -> None:
    count = 500
    requests = b"".join(get(f"/{number}") for number in range(count))
    with serve(hello, access_log=str(path), access_log_format="%U") as server, RawClient(server.addresses[0]) as client:
        client.send(requests)
        for _ in range(count):
            client.receive()
    assert path.read_text().splitlines() == [f"/{number}" for number in range(count)]


def test_head_and_get_of_one_connection_are_told_apart(path: Path) -> None:
    with (
        serve(hello, access_log=str(path), access_log_format="%m %B") as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(HEAD + b"\r\n" + GET + b"\r\n" + LAST)
        client.responses("HEAD", "GET", "GET")
    assert path.read_text() == "HEAD 0\nGET 5\nGET 5\n"
