"""Many clients out of few threads, each with requests of its own, and the application that answers them.

Every request carries an identifier that must come back with its answer, and is made again from that identifier alone:
so the answer is known, and one that belongs to somebody else is not mistaken for it.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support import PATIENCE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PIECES = 5
BLOCK = 256 * 1024


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Gives the identifier back, and what was sent with it."""
    identifier = environ["QUERY_STRING"]
    fields = [("Content-Type", "text/plain"), ("X-Id", identifier)]
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
        return [body]
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", fields)
        return streamed(identifier)
    body = f"page {identifier}".encode()
    start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]


def streamed(identifier: str) -> Iterator[bytes]:
    """An answer in pieces."""
    for number in range(PIECES):
        yield f"{number} of {identifier}\n".encode()


@dataclass
class Request:
    """One request with its answer."""

    identifier: str
    method: str
    content: bytes
    """All bytes of it."""
    answer: bytes


def request(identifier: str) -> Request:
    """The request that belongs to an identifier."""
    chance = random.Random(identifier)
    kind = chance.choice(["page", "page", "head", "stream", "echo", "chunked"])
    head = f"{{}} /{kind}?{identifier} HTTP/1.1\r\nHost: a\r\n".encode()
    if kind in ("page", "head"):
        method = "GET" if kind == "page" else "HEAD"
        answer = f"page {identifier}".encode() if kind == "page" else b""
        return Request(identifier, method, head.replace(b"{}", method.encode()) + b"\r\n", answer)
    if kind == "stream":
        return Request(identifier, "GET", head.replace(b"{}", b"GET") + b"\r\n", b"".join(streamed(identifier)))
    # One in thirty is larger than what the server takes whole before a thread is taken.
    size = chance.randrange(65_000, 150_000) if chance.randrange(30) == 0 else chance.randrange(1500)
    body = f"{identifier} ".encode() + chance.randbytes(size)
    head = head.replace(b"{}", b"POST")
    if kind == "echo":
        return Request(identifier, "POST", head + b"Content-Length: %d\r\n\r\n" % len(body) + body, body)
    cut = chance.randrange(1, len(body))
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]))
    return Request(identifier, "POST", head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", body)


class Confusion(AssertionError):
    """An answer that is not the one that was due."""


class Client:
    """One connection with its share of the requests, of which it keeps up to `depth` under way."""

    def __init__(self, address: tuple[str, int], identifiers: Iterable[str], depth: int) -> None:
        self.socket = socket.create_connection(address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._left = iter(identifiers)
        self._depth = depth
        self._due: deque[Request] = deque()
        self._out = b""
        self._in = b""
        self.answered = 0

    @property
    def is_done(self) -> bool:
        """Whether every answer has come."""
        return not self._due

    @property
    def has_output(self) -> bool:
        """Whether there is something that the socket did not take."""
        return bool(self._out)

    def advance(self) -> None:
        """Sends and receives what can be, without waiting."""
        self._receive()
        while len(self._due) < self._depth and (identifier := next(self._left, None)) is not None:
            made = request(identifier)
            self._due.append(made)
            self._out += made.content
        if self._out:
            with contextlib.suppress(BlockingIOError):
                self._out = self._out[self.socket.send(self._out) :]

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            received = self.socket.recv(BLOCK)
            if not received:
                raise Confusion(f"closed with {len(self._due)} answers missing")
            self._in += received
        while self._due and (found := _response(self._in, self._due[0].method)) is not None:
            identifier, body, self._in = found
            due = self._due.popleft()
            if (identifier, body) != (due.identifier, due.answer):
                raise Confusion(f"due was {due.identifier} {due.answer[:60]!r}, but {identifier} {body[:60]!r} came")
            self.answered += 1
        if self._in and not self._due:
            raise Confusion(f"an answer that nobody asked for: {self._in[:60]!r}")


def _response(received: bytes, method: str) -> tuple[str, bytes, bytes] | None:
    """Identifier and content of the first response, and the rest; None while it is incomplete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    status, *lines = received[:end].decode("latin-1").split("\r\n")
    if status != "HTTP/1.1 200 OK":
        raise Confusion(f"refused: {received[: end + 200]!r}")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    at = end + 4
    if method == "HEAD":
        return fields["x-id"], b"", received[at:]
    if "content-length" in fields:
        stop = at + int(fields["content-length"])
        return None if len(received) < stop else (fields["x-id"], received[at:stop], received[stop:])
    body = b""
    while (line := received.find(b"\r\n", at)) >= 0:
        size = int(received[at:line], 16)
        at = line + 2 + size + 2
        if len(received) < at:
            return None
        if received[at - 2 : at] != b"\r\n":
            raise Confusion("a chunk without its line end")
        if not size:
            return fields["x-id"], body, received[at:]
        body += received[line + 2 : at - 2]
    return None


class Crowd:
    """Sends `each` requests from each of `clients` clients, multiplexed by `threads` threads.

    Parameters:
        address: URL of the server, which listens on IPv4.
        name: what the identifiers of this crowd begin with.
    """

    def __init__(self, address: str, name: str, clients: int, each: int, threads: int = 2) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        assert parts.port is not None
        self.address = (parts.hostname, parts.port)
        self.identifiers = [[f"{name}-{client}-{number}" for number in range(each)] for client in range(clients)]
        self.threads = threads
        self.answered = 0
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        """Returns when every answer has come; raises if one is missing or wrong."""
        threads = [threading.Thread(target=self._attend, args=(index,)) for index in range(self.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.problems == []
        assert self.answered == sum(map(len, self.identifiers))

    def _attend(self, index: int) -> None:
        clients: list[Client] = []
        try:
            for number, identifiers in enumerate(self.identifiers[index :: self.threads]):
                clients.append(Client(self.address, identifiers, depth=1 + number % 4))
            self._multiplex(clients)
        except (OSError, Confusion) as problem:
            self.problems.append(repr(problem))
        finally:
            for client in clients:
                client.socket.close()
            with self._lock:
                self.answered += sum(client.answered for client in clients)

    def _multiplex(self, clients: list[Client]) -> None:
        with selectors.DefaultSelector() as selector:
            for client in clients:
                client.advance()
                selector.register(client.socket, _interest(client), client)
            while selector.get_map():
                ready = selector.select(PATIENCE)
                if not ready:
                    raise Confusion(f"{len(selector.get_map())} clients wait for answers that do not come")
                for key, _ in ready:
                    client = key.data
                    client.advance()
                    if client.is_done:
                        selector.unregister(client.socket)
                    elif key.events != _interest(client):
                        selector.modify(client.socket, _interest(client), client)


def _interest(client: Client) -> int:
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if client.has_output else 0)
