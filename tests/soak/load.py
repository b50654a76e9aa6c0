"""What clients do to a server in the long run, good ones and bad ones. Each act checks what comes of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.attacks.content import LARGE, PIECE, PIECES
from tests.server.recording import refused, reset
from tests.support import RawClient

HOST = b"Host: a\r\n"
CLOSE = b"Connection: close\r\n"
PAGE = b"GET /page HTTP/1.1\r\n" + HOST + b"\r\n"
UPLOAD = b"POST /read HTTP/1.1\r\n" + HOST

Act = Callable[[RawClient, random.Random], None]


def last(client: RawClient, path: bytes, body: bytes, method: bytes = b"GET") -> None:
    client.send(method + b" " + path + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    (response,) = client.responses(method.decode())
    assert (response.status, response.body) == (200, body)


def new_connection(client: RawClient, chance: random.Random) -> None:
    last(client, b"/page", b"ok")


def keep_alive(client: RawClient, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 10)):
        client.send(PAGE)
        assert client.receive().body == b"ok"


def head(client: RawClient, chance: random.Random) -> None:
    last(client, b"/large", b"", b"HEAD")


def large(client: RawClient, chance: random.Random) -> None:
    last(client, b"/large", LARGE)


def stream(client: RawClient, chance: random.Random) -> None:
    last(client, b"/pieces", PIECE * PIECES)


def framework(client: RawClient, chance: random.Random) -> None:
    client.send(b"GET /framework/file HTTP/1.1\r\n" + HOST + CLOSE + b"Range: bytes=0-9\r\n\r\n")
    (response,) = client.responses("GET")
    assert (response.status, len(response.body)) == (206, 10)


def upload(client: RawClient, chance: random.Random) -> None:
    # Some fit into memory, some go to a file.
    size = chance.choice([10, 5000, 60_000, 300_000])
    client.send(UPLOAD + b"Content-Length: %d\r\n\r\n" % size, b"x" * size)
    assert client.receive("POST").body == b"%d" % size


def chunked_upload(client: RawClient, chance: random.Random) -> None:
    sizes = [chance.randrange(1, 20_000) for _ in range(chance.randrange(1, 12))]
    client.send(UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n")
    client.send(*(b"%x\r\n%s\r\n" % (size, b"x" * size) for size in sizes), b"0\r\nX-Trailer: t\r\n\r\n")
    assert client.receive("POST").body == b"%d" % sum(sizes)


def expectation(client: RawClient, chance: random.Random) -> None:
    client.send(UPLOAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert client.receive("POST").body == b"5"


def form(client: RawClient, chance: random.Random) -> None:
    content = b"&".join(b"name%d=value" % number for number in range(chance.randrange(1, 50)))
    client.send(b"POST /framework/form HTTP/1.1\r\n" + HOST)
    client.send(
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(content), content
    )
    assert client.receive("POST").status == 200


def pipelining(client: RawClient, chance: random.Random) -> None:
    count = chance.randrange(2, 30)
    client.send(PAGE * count)
    assert [client.receive().body for _ in range(count)] == [b"ok"] * count


def failure_of_the_application(client: RawClient, chance: random.Random) -> None:
    client.send(b"GET /raise HTTP/1.1\r\n" + HOST + b"\r\n")
    assert client.receive().status == 500


def bad_request(client: RawClient, chance: random.Random) -> None:
    client.send(chance.choice([b"BAD\r\n\r\n", PAGE[:-2] + b"X : y\r\n\r\n", UPLOAD + b"Content-Length: -1\r\n\r\n"]))
    refused(client, 400)


def abort_within_request(client: RawClient, chance: random.Random) -> None:
    upload = UPLOAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 70_000
    client.send(upload[: chance.randrange(len(upload))])
    if chance.random() < 0.5:
        reset(client)


def abort_within_response(client: RawClient, chance: random.Random) -> None:
    client.send(b"GET " + chance.choice([b"/pieces", b"/large"]) + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert client.socket.recv(chance.randrange(1, 100_000))
    if chance.random() < 0.5:
        reset(client)


# How often each is done beside the others: the large ones take as long as many small ones.
ACTS: dict[Act, int] = {
    new_connection: 10,
    keep_alive: 10,
    head: 5,
    large: 1,
    stream: 2,
    framework: 5,
    upload: 8,
    chunked_upload: 8,
    expectation: 5,
    form: 5,
    pipelining: 5,
    failure_of_the_application: 2,
    bad_request: 5,
    abort_within_request: 5,
    abort_within_response: 3,
}


class Load:
    """`threads` threads of clients. What they draw follows from the seed.

    Parameters:
        address: URL of the server.
    """

    def __init__(self, address: str, threads: int = 4, seed: int = 1) -> None:
        self.address = address
        self.done: Counter[str] = Counter()
        """Acts by name."""
        self.problems: list[str] = []
        self._chances = [random.Random(f"{seed}-{index}") for index in range(threads)]
        self._lock = threading.Lock()

    def run(self, seconds: float) -> None:
        """Acts for so long; returns when the last act is over."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._act, args=(chance, end)) for chance in self._chances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _act(self, chance: random.Random, end: float) -> None:
        acts, weights = list(ACTS), list(ACTS.values())
        while time.monotonic() < end and not self.problems:
            (act,) = chance.choices(acts, weights)
            name = act.__name__.replace("_", " ")
            try:
                with RawClient(self.address) as client:
                    act(client, chance)
            except (OSError, AssertionError) as problem:
                self.problems.append(f"{name}: {problem!r}")
                return
            with self._lock:
                self.done[name] += 1
