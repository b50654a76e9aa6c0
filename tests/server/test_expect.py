"""`Expect: 100-continue` (RFC 9110 §10.1.1) where bodies are taken whole: clients are asked for a body when a thread is
free for it, and a few calls read theirs themselves."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import curl, needs_curl
from tests.server.recording import LAST, POST, STREAMING, Environ, Gate, Start, answer, get
from tests.support import PATIENCE, RawClient, serve

EXPECT = b"Expect: 100-continue\r\n"
LENGTH = POST + b"Content-Length: 5\r\n" + EXPECT + b"\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n" + EXPECT + b"\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODIES = {"length": (LENGTH, b"hello"), "chunked": (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")}


class Site:
    """Holds `/slow` like a `Gate`; for other paths it answers with the length that it was told and the body."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            return self.gate(environ, start_response)
        return answer(start_response, environ["CONTENT_LENGTH"].encode() + b" " + environ["wsgi.input"].read())

    @contextlib.contextmanager
    def held(self, address: str, count: int) -> Iterator[None]:
        """Has `count` requests inside at the same time."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(RawClient(address)) for _ in range(count)]
            for client in clients:
                client.send(get("/slow"))
            try:
                for _ in clients:
                    self.gate.wait_for_one()
                yield
            finally:
                self.gate.opened.set()
            for client in clients:
                assert client.receive().status == 200


def test_expect_of_a_body_that_is_never_read_gets_no_100() -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        assert environ["CONTENT_LENGTH"] == "5"
        return answer(start_response, b"who are you?", status="401 Unauthorized")

    with serve(app, threads=2) as server:
        # One after the other: the leave that each has is given back.
        for _ in range(3):
            with RawClient(server.addresses[0]) as client:
                client.send(LENGTH)
                (response,) = client.responses("POST")
            assert (response.status, response.interim, response["Connection"]) == (401, [], "close")


def test_expect_is_answered_at_the_first_read() -> None:
    inside, proceed = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        inside.set()
        assert proceed.wait(PATIENCE)
        return answer(start_response, environ["wsgi.input"].read())

    with serve(app, threads=2) as server, RawClient(server.addresses[0]) as client:
        client.send(LENGTH)
        assert inside.wait(PATIENCE)
        assert not client.has_something()
        proceed.set()
        assert client.socket.recv(100) == CONTINUE
        client.send(b"hello")
        response = client.receive("POST")
        assert (response.status, response.body, response.interim) == (200, b"hello", [])


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_expect_that_is_not_met_leaves_most_threads_to_others(threads: int, kind: str) -> None:
    head, body = BODIES[kind]
    site = Site()
    held = 0 if threads == 1 or kind == "chunked" else max(1, threads // 4)
    with serve(site, threads=threads) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(2 * threads)]
        for client in slow:
            client.send(head)
            assert client.socket.recv(100) == CONTINUE
        with site.held(server.addresses[0], threads - held):
            pass
        for client in slow:
            client.send(body)
            # The application learns the length of a chunked body, too.
            assert client.receive("POST").body == b"5 hello"


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("threads", [1, 2])
def test_expect_is_not_answered_while_every_thread_is_busy(threads: int, kind: str) -> None:
    head, body = BODIES[kind]
    site = Site()
    with serve(site, threads=threads, queue_timeout=1) as server, RawClient(server.addresses[0]) as client:
        with site.held(server.addresses[0], threads):
            with RawClient(server.addresses[0]) as late:
                late.send(head)
                (response,) = late.responses("POST")
                assert (response.status, response.interim) == (503, [])
            client.send(head)
            # Time is the subject: nothing comes.
            assert not select.select([client.socket], [], [], 0.2)[0]
        assert client.socket.recv(100) == CONTINUE
        client.send(body)
        assert client.receive("POST").body == b"5 hello"


@pytest.mark.parametrize("kind", BODIES)
def test_expect_of_a_client_that_sends_its_body_unasked_is_served(kind: str) -> None:
    # curl waits for a second and then sends the body.
    head, body = BODIES[kind]
    site = Site()
    with serve(site, threads=1) as server, RawClient(server.addresses[0]) as client:
        with site.held(server.addresses[0], 1):
            client.send(head, body + LAST.replace(b"/last", b"/slow"))
        first, _ = client.responses("POST", "GET")
        assert first.body == b"5 hello"
        assert [interim.status for interim in first.interim] in ([], [100])


def test_expect_of_a_client_that_leaves_takes_no_thread_with_it() -> None:
    site = Site()
    with serve(site, threads=4) as server:
        for head in [LENGTH, CHUNKED] * 4:
            with RawClient(server.addresses[0]) as client:
                client.send(head)
                assert client.socket.recv(100) == CONTINUE
        with site.held(server.addresses[0], 4):
            pass


@needs_curl
@pytest.mark.parametrize("options", [{}, {"threads": 1}, STREAMING], ids=["some", "whole", "streamed"])
@pytest.mark.parametrize("allowed", [True, False])
def test_expect_of_curl_is_met(options: dict[str, Any], allowed: bool, tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    (tmp_path / "file").write_bytes(content)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if not allowed:
            return answer(start_response, b"who are you?", status="401 Unauthorized")
        return answer(start_response, hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode())

    with serve(app, **options) as server:
        file = str(tmp_path / "file")
        response = curl("--header", "Expect: 100-continue", "--upload-file", file, f"{server.addresses[0]}/file")
    assert response.status == (200 if allowed else 401)
    assert response.body == (hashlib.sha256(content).hexdigest().encode() if allowed else b"who are you?")
