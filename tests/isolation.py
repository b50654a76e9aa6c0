"""Requests whose every trace is known, and the check that an application sees its own and no other's.

Every request carries its identifier in its path, its fields, its cookies, its query and its body. Applications
(`tests/server/test_isolation.py`, `tests/asgi/test_isolation.py`) record what they see, and then keep, clear
or overwrite what they were given; `Crowd` compares what was sent with what was recorded and answered.

`ISOLATION_SEED` repeats a run that failed; `ISOLATION_ROUNDS` makes it longer.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tests.support import ProtocolError, RawClient, Response

CONNECTIONS = 8
ROUNDS = int(os.environ.get("ISOLATION_ROUNDS", "20"))
"""Batches that each connection sends."""
DEPTH = 4
"""Requests that are pipelined at most."""
LARGE = 70_000
"""Longer than a body that is kept in memory at once."""

IDENTIFIER = re.compile(r"id[0-9]+z")
NAMES = [
    *(f"X-{letter}" for letter in "Aabcdef"),
    "Accept",
    "accept-language",
    "User-Agent",
    "Referer",
    "Authorization",
]
COOKIES = ["Cookie", "cookie"]

HABITS = ["answer", "keep", "clear", "overwrite", "unread", "hint", "raise", "break"]
"""What an application does with a request."""
LAST = {"raise", "break"}
"""Habits after which the connection ends."""

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="")
"""Set by every request to its identifier."""

PROXIED: dict[str, Any] = {
    "trusted_proxies": ["127.0.0.1"],
    "forwarded_fields": ["x-forwarded-for", "x-forwarded-prefix"],
}
"""Options with which a prefix comes from the client."""


@dataclass(frozen=True)
class Sent:
    """One request."""

    identifier: str
    port: int
    """The client's."""
    method: str
    habit: str
    is_whole: bool
    """Whether its answer has a length."""
    prefix: str
    """What a proxy has taken off the path; empty without proxies."""
    raw_path: bytes
    path: str
    query: bytes
    fields: tuple[tuple[str, str], ...]
    """Names and values of all lines but the framing's and the proxy's, in their order."""
    body: bytes
    is_chunked: bool

    @property
    def framing(self) -> list[tuple[str, str]]:
        """The field that says where the body ends."""
        if self.is_chunked:
            return [("Transfer-Encoding", "chunked")]
        return [("Content-Length", str(len(self.body)))] if self.body else []

    @property
    def proxied(self) -> list[tuple[str, str]]:
        """The fields that a proxy writes."""
        return [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Prefix", self.prefix)] if self.prefix else []

    def wire(self, chance: random.Random) -> bytes:
        """The bytes of it."""
        target = self.raw_path + (b"?" + self.query if self.query else b"")
        lines = [*self.fields, *self.framing, *self.proxied]
        head = b"%s %s HTTP/1.1\r\n" % (self.method.encode(), target)
        head += b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in lines) + b"\r\n"
        if not self.is_chunked:
            return head + self.body
        parts = [self.body[at : at + 20_000] for at in range(0, len(self.body), 20_000)]
        parts = [half for part in parts for half in cut(part, chance.randrange(1, 4), chance)]
        return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"

    @property
    def answer_fields(self) -> list[tuple[str, str]]:
        """The fields of the answer that are the application's."""
        mine = self.identifier
        return [("x-id", mine), ("set-cookie", f"c={mine}; Path=/"), ("x-twice", f"1{mine}"), ("x-twice", f"2{mine}")]

    @property
    def pieces(self) -> list[bytes]:
        """The content of the answer."""
        return [f"{self.identifier} {piece}".encode() for piece in range(3)]

    @property
    def hint(self) -> str:
        """The Link field of the interim response that `hint` sends."""
        return f"</{self.identifier}>; rel=preload"


@dataclass
class Seen:
    """What an application saw of one request."""

    described: dict[str, Any]
    """A copy of what the environ or the scope says."""
    marks: dict[str, Any]
    """What another request left at an object of this one."""
    contexts: list[str]
    """The context variable, at the beginning, and after what others did meanwhile."""
    digest: str = ""
    """The body."""
    misled: list[str] = field(default_factory=list)
    """Objects of earlier requests that did something."""


@dataclass
class Records:
    """What all requests saw, by what they hold for their identifier."""

    sent: dict[str, Sent] = field(default_factory=dict)
    seen: list[tuple[str, Seen]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What a client saw that was not meant for it."""
    kept: list[tuple[str, Any]] = field(default_factory=list)
    """What an application keeps, by the identifier of the request."""
    answered: set[str] = field(default_factory=set)
    """The requests whose answers were read."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, path: str, described: dict[str, Any], marks: dict[str, Any]) -> tuple[Sent, Seen]:
        """Records a request, and sets the context variable."""
        (identifier,) = IDENTIFIER.findall(path)
        seen = Seen(described, marks, [VARIABLE.get()])
        VARIABLE.set(identifier)
        with self.lock:
            self.seen.append((identifier, seen))
        return self.sent[identifier], seen

    def over(self) -> list[tuple[str, Any]]:
        """The last of what was kept of requests that are over."""
        with self.lock:
            return [(identifier, kept) for identifier, kept in self.kept[-10:] if identifier in self.answered]

    def misdescribed(self, expected: Callable[[Sent], dict[str, Any]]) -> list[str]:
        """Requests that were not run once each, or saw something else than what was sent."""
        calls = Counter(identifier for identifier, _ in self.seen)
        found = [f"{identifier}: {calls[identifier]} calls" for identifier in self.sent if calls[identifier] != 1]
        for identifier, seen in self.seen:
            sent = self.sent[identifier]
            due = expected(sent)
            for name in due.keys() | seen.described.keys():
                if due.get(name) != seen.described.get(name):
                    found.append(f"{identifier}: {name} was {seen.described.get(name)!r}, not {due.get(name)!r}")
            if sent.habit != "unread" and seen.digest != digest(sent.body):
                found.append(f"{identifier}: the body was {seen.digest}, not {digest(sent.body)}")
            found += [f"{identifier}: {what}" for what in seen.misled]
        return found

    def confused_contexts(self) -> list[str]:
        """Requests whose context variable was another request's."""
        return [
            f"{identifier}: {seen.contexts}"
            for identifier, seen in self.seen
            if seen.contexts[0] or set(seen.contexts[1:]) - {identifier}
        ]

    def marked(self) -> list[str]:
        """Requests that were given an object on which another has left a mark."""
        return [f"{identifier}: {seen.marks}" for identifier, seen in self.seen if seen.marks]


def digest(body: bytes) -> str:
    """A body in short."""
    return f"{len(body)} {zlib.crc32(body):08x}"


def cut(whole: bytes, count: int, chance: random.Random) -> list[bytes]:
    """`whole` in so many parts, some of which may be empty."""
    ends = sorted(chance.randrange(len(whole) + 1) for _ in range(count - 1))
    return [whole[begin:end] for begin, end in zip([0, *ends], [*ends, len(whole)], strict=True)]


def marks_of(values: dict[str, Any]) -> dict[str, Any]:
    """What requests before left at the objects of this one."""
    return {name: value.mark for name, value in values.items() if hasattr(value, "mark")}


def mark(values: dict[str, Any], identifier: str) -> None:
    """Leaves a mark at each object that takes one; classes are as global as the modules they come from."""
    for value in values.values():
        if isinstance(value, type):
            continue
        try:
            value.mark = identifier
        except (AttributeError, TypeError):
            continue


@dataclass
class Crowd:
    """Sends batches of requests over several connections at once, in pieces that take turns at random.

    Parameters:
        is_proxied: whether the server was started with `PROXIED`.
    """

    records: Records
    is_proxied: bool
    seed: int = field(default_factory=lambda: int(os.environ.get("ISOLATION_SEED") or secrets.randbits(32)))

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        # Few lists of names, so that most requests resemble one before.
        self.shapes = [self._shape() for _ in range(6)]

    def _shape(self) -> list[str]:
        names = self.chance.choices(NAMES, k=self.chance.randrange(8))
        names += self.chance.choices(COOKIES, k=self.chance.randrange(3))
        # Two that differ are refused.
        names = [name for at, name in enumerate(names) if name != "Authorization" or name not in names[:at]]
        self.chance.shuffle(names)
        return ["Host", *names]

    def run(self, address: str) -> None:
        """Sends everything and reads every answer; what is wrong with them is among the problems."""
        clients: list[RawClient | None] = [None] * CONNECTIONS
        rounds = [ROUNDS] * CONNECTIONS
        batches: list[list[Sent]] = [[] for _ in range(CONNECTIONS)]
        left: list[list[bytes]] = [[] for _ in range(CONNECTIONS)]
        try:
            while any(rounds) or any(batches):
                index = self.chance.choice([at for at in range(CONNECTIONS) if rounds[at] or batches[at]])
                client = clients[index]
                if client is None:
                    client = clients[index] = RawClient(address)
                if not batches[index]:
                    rounds[index] -= 1
                    batches[index] = self._batch(client.socket.getsockname()[1])
                    wire = b"".join(sent.wire(self.chance) for sent in batches[index])
                    left[index] = cut(wire, self.chance.randrange(1, 9), self.chance)
                    continue
                is_over = False
                try:
                    if left[index]:
                        client.send(left[index].pop(0))
                        continue
                    for sent in batches[index]:
                        self._read(client, sent)
                        self.records.answered.add(sent.identifier)
                        is_over = sent.habit in LAST
                except (ProtocolError, OSError) as failure:
                    self.records.problems.append(f"{[sent.identifier for sent in batches[index]]}: {failure!r}")
                    is_over = True
                batches[index] = []
                if is_over:
                    client.socket.close()
                    clients[index] = None
        finally:
            for client in clients:
                if client is not None:
                    client.socket.close()

    def _batch(self, port: int) -> list[Sent]:
        made: list[Sent] = []
        for _ in range(self.chance.randrange(1, DEPTH + 1)):
            sent = self._request(port)
            self.records.sent[sent.identifier] = sent
            made.append(sent)
            if sent.habit in LAST:
                break
        return made

    def _request(self, port: int) -> Sent:
        chance = self.chance
        identifier = f"id{len(self.records.sent)}z"
        method = chance.choice(["GET", "POST", "PUT", "HEAD", "DELETE"])
        # A response without content is whole before anything can break off.
        habit = chance.choice(HABITS if method != "HEAD" else HABITS[:-1])
        names = chance.choice(self.shapes) if chance.random() < 0.9 else self._shape()
        fields = [(name, self._value(name, identifier)) for name in names]
        body = b""
        if method in ("POST", "PUT"):
            size = LARGE + chance.randrange(LARGE) if chance.random() < 0.05 else chance.randrange(3000)
            size = min(size, 3000) if habit == "unread" else size
            body = f"body of {identifier} ".encode() + chance.randbytes(size)
            if chance.random() < 0.5:
                fields.append(("Content-Type", f"text/{identifier}"))
        rest = chance.choice(["", "/%20x", "/a%2Fb", "/."])
        decoded = {"/%20x": "/ x", "/a%2Fb": "/a/b"}.get(rest, rest)
        return Sent(
            identifier,
            port,
            method,
            habit,
            is_whole=chance.random() < 0.5,
            prefix=f"/of{identifier}" if self.is_proxied and chance.random() < 0.5 else "",
            raw_path=f"/{identifier}{rest}".encode(),
            path=f"/{identifier}{decoded}",
            query=chance.choice([b"", b"q=%s&%%zz" % identifier.encode(), b"?"]),
            fields=tuple(fields),
            body=body,
            # Behind a chunked body that is left unread a server may close.
            is_chunked=bool(body) and habit != "unread" and chance.random() < 0.5,
        )

    def _value(self, name: str, identifier: str) -> str:
        if name == "Host":
            return f"{identifier}.example"
        if name.lower() == "cookie":
            return f"a={identifier}; b={self.chance.randrange(100)}"
        return f"{identifier} {self.chance.choice(['', 'x', 'a, b', chr(233)])}".strip()

    def _read(self, client: RawClient, sent: Sent) -> None:
        problems = self.records.problems
        mine = f"{sent.habit} {sent.identifier}"
        if sent.habit == "break":
            text = ""
            try:
                text = repr(client.receive(sent.method))
                client.expect_end()
            except (ProtocolError, OSError) as end:
                text += str(end)
            if strange := set(IDENTIFIER.findall(text)) - {sent.identifier}:
                problems.append(f"{mine}: got something of {strange}")
            return
        response = client.receive(sent.method)
        if sent.habit == "raise":
            if response.status != 500 or IDENTIFIER.search(repr(response)):
                problems.append(f"{mine}: got {response}")
            client.expect_end()
            return
        links = [value for interim in response.interim for value in interim.values("Link")]
        if links != ([sent.hint] if sent.habit == "hint" else []):
            problems.append(f"{mine}: got the hints {links}")
        if response.status != 200 or own_fields(response) != sent.answer_fields:
            problems.append(f"{mine}: got {response.status} with {response.fields}")
        if response.body != (b"" if sent.method == "HEAD" else b"".join(sent.pieces)):
            problems.append(f"{mine}: got {response.body!r}")


def own_fields(response: Response) -> list[tuple[str, str]]:
    """The fields of a response that are not the server's."""
    servers = {"date", "server", "content-length", "transfer-encoding", "connection"}
    return [(name.lower(), value) for name, value in response.fields if name.lower() not in servers]
