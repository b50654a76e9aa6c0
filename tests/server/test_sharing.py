"""What one request is given, in the hands of many threads at once: no crash, no lost thread, no byte astray.

Most telling on free-threaded builds, where nothing but the server's own locks stands between the threads.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.server.recording import Environ, Start, get
from tests.support import PATIENCE, RawClient, serve

THREADS = 4
ROUNDS = 30
LETTERS = (b"a", b"b", b"c", b"d")
SIZES = (1, 1000, 20_000) * 5


def together(*works: Callable[[], object]) -> list[BaseException]:
    """Runs all of `works` at the same time, each in a thread; gives what they raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        barrier.wait(PATIENCE)
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return raised


@pytest.mark.parametrize("threads", [1, 4])
def test_input_read_by_many_threads_gives_each_byte_once(threads: int) -> None:
    length = 300_000
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        pieces: list[bytes] = []

        def read(take: Callable[[int], bytes]) -> None:
            while piece := take(997):
                pieces.append(piece)

        raised.extend(together(*[lambda: read(stream.read), lambda: read(stream.readline)] * (THREADS // 2)))
        start_response("200 OK", [])
        return [f"{sum(map(len, pieces))} {sum(map(sum, pieces))}".encode()]

    body = bytes(number % 251 for number in range(length))
    with serve(app, threads=threads) as server, RawClient(server.addresses[0]) as client:
        for _ in range(3):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length, body)
            assert client.receive().body == f"{length} {sum(body)}".encode()
    assert raised == []


def test_start_response_called_by_many_threads_sends_one_head() -> None:
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        def answer() -> None:
            write = start_response("200 OK", [("X-Piece", "a")])
            write(b"piece")

        raised.extend(together(*[answer] * THREADS))
        return []

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        for _ in range(ROUNDS):
            client.send(get("/"))
            response = client.receive()
            # One at least was first; whoever else came before the head was seen had its call refused or taken.
            assert response.status == 200
            assert response.values("X-Piece") == ["a"]
            assert set(response.body.split(b"piece")) == {b""}
    assert all(isinstance(error, AssertionError) for error in raised)
    assert len(raised) < ROUNDS * THREADS


def test_write_called_by_many_threads_keeps_pieces_whole() -> None:
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [])

        def send(letter: bytes) -> None:
            for size in SIZES:
                write(letter * size + b"\n")

        raised.extend(together(*(functools.partial(send, letter) for letter in LETTERS)))
        return [b"end\n"]

    with serve(app) as server, RawClient(server.addresses[0]) as client:
        for _ in range(ROUNDS // 3):
            client.send(get("/"))
            lines = client.receive().body.splitlines()
            assert lines.pop() == b"end"
            sizes = sorted((line[:1], len(line)) for line in lines)
            assert sizes == sorted((letter, size) for letter in LETTERS for size in SIZES)
            assert all(len(set(line)) == 1 for line in lines)
    assert raised == []


Given = tuple[Environ, Start, Callable[[bytes], object]]
USES: list[Callable[[Environ, Start, Callable[[bytes], object]], object]] = [
    lambda environ, start_response, write: write(b"stray"),
    lambda environ, start_response, write: start_response(
        "500 Stray", [("X-Stray", "1")], (ValueError, ValueError(), None)
    ),
    lambda environ, start_response, write: environ["wsgi.input"].read(10),
    lambda environ, start_response, write: environ["wsgi.early_hints"]([("Link", "</stray>")]),
    lambda environ, start_response, write: environ["wsgi.client_disconnected"](),
]


def test_objects_used_while_their_request_ends_reach_no_other_request() -> None:
    stop = threading.Event()
    kept: list[Given] = []

    def abuse() -> None:
        # What was given to requests that are over, or are just ending.
        while not stop.is_set():
            for given in kept[-3:]:
                for use in USES:
                    # Which of these are refused depends on how far their request is.
                    with contextlib.suppress(Exception):
                        use(*given)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if path == "/kept":
            kept.append((environ, start_response, write))
        return iter([path.encode()])

    with serve(app) as server:
        abusers = [threading.Thread(target=abuse) for _ in range(2)]
        for abuser in abusers:
            abuser.start()
        try:
            with RawClient(server.addresses[0]) as victim, RawClient(server.addresses[0]) as other:
                for number in range(ROUNDS):
                    victim.send(get("/kept"))
                    # Stray pieces may be in its own response, as long as that is one.
                    assert victim.receive().status in (200, 500)
                    other.send(get(f"/{number}"))
                    response = other.receive()
                    assert (response.status, response.body) == (200, f"/{number}".encode())
                    assert "X-Stray" not in response
                    assert not response.interim
        finally:
            stop.set()
            for abuser in abusers:
                abuser.join(PATIENCE)


def test_many_servers_at_once_keep_their_requests_apart() -> None:
    def app_of(name: str) -> Callable[[Environ, Start], Any]:
        def app(environ: Environ, start_response: Start) -> Any:
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("X-Id", environ.get("HTTP_X_ID", "")), ("X-Server", name)])
            return [body]

        return app

    with contextlib.ExitStack() as servers:
        addresses = [servers.enter_context(serve(app_of(str(number)))).addresses[0] for number in range(4)]

        def ask(number: int, address: str) -> None:
            with RawClient(address) as client:
                for identifier in (f"{number}-{round_}" for round_ in range(ROUNDS)):
                    client.send(get("/", f"X-Id: {identifier}"))
                    response = client.receive()
                    assert (response["X-Id"], response["X-Server"]) == (identifier, str(number))

        works = [functools.partial(ask, *server) for server in enumerate(addresses)]
        assert together(*works, *works) == []
