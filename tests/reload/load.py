"""Load at a fixed rate, whatever the server does: a request is due at a time that does not depend on the responses.

The clients never retry. What they draw follows from the seed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.reload.client import Answer, Closed, Connection, WebSocket
from tests.reload.content import PIECES, digest
from tests.reload.faults import Fault, Loss, Lost

__all__ = ["KINDS", "Kind", "Load", "Record", "percentile"]

POST_BYTES = 16 * 1024
UPLOAD_PIECES = 30
UPLOAD_PIECE_BYTES = 1024
UPLOAD_PIECE_SECONDS = 0.1
"""A slow upload takes three seconds, which is longer than a reload."""
LONGEST_WAIT_SECONDS = 1.0
"""After which an idle client looks whether the load is over."""
LONGEST_PAUSE_SECONDS = 3.0
"""Between a connection and its request, and within a request's head."""
PATIENCE_SECONDS = 20.0
"""What a client waits for a response."""
SLOW_SHARE = 0.1
"""Of the requests and messages, those whose response takes a while to begin."""
DETAILS = 10
"""Losses by a fault that are told in detail."""


@dataclass
class Record:
    """What came of the load.

    Parameters:
        answered: requests and messages, by the names of their kinds.
        lost: losses, of which the first by each fault are told in `details`.
        announced: closes that a response or a Close frame announced, by kind. They lose nothing.
        crossed: numbers of messages that a Close frame crossed on the way.
        latency: seconds from when a request was due to the end of its response, of those that are answered at once:
            under True those that met a reload, under False the others.
        workers: generations, by the pids of the workers that have answered.
    """

    answered: Counter[str] = field(default_factory=Counter)
    lost: Counter[Loss] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    announced: Counter[str] = field(default_factory=Counter)
    crossed: list[int] = field(default_factory=list)
    latency: dict[bool, array[float]] = field(default_factory=lambda: {True: array("f"), False: array("f")})
    workers: dict[int, int] = field(default_factory=dict)
    lag: float = 0.0
    """Seconds that the load itself was late at most, for want of a processor. They are part of the latencies."""
    event: str = "start"
    """What has happened last."""
    _event_at: float = field(default_factory=time.monotonic)

    def begin_event(self, name: str) -> None:
        """From now on losses are counted as those of this event."""
        self.event, self._event_at = name, time.monotonic()

    def lose(self, kind: str, lost: Lost) -> None:
        """Counts a loss."""
        loss = Loss(kind, lost.fault, self.event)
        self.lost[loss] += 1
        if self.lost_by("fault")[lost.fault] <= DETAILS:
            self.details.append(f"{kind}: {lost} ({self.event}, after {time.monotonic() - self._event_at:.2f} s)")

    def check_runs(self, runs: Counter[int]) -> None:
        """Holds what the clients saw against how often the application ran for each number."""
        self.begin_event("end")
        for number, count in runs.items():
            if count > 1:
                self.lose("any", Lost(Fault.RUN_TWICE, f"{count} times for request {number}"))
        for number in [crossed for crossed in self.crossed if runs[crossed]]:
            self.crossed.remove(number)
            text = f"the application had message {number}, and its answer did not come"
            self.lose("WebSocket messages", Lost(Fault.DROPPED_MESSAGE, text))

    def lost_by(self, column: str) -> Counter[Any]:
        """Losses by `kind`, `fault` or `event`."""
        counts: Counter[Any] = Counter()
        for loss, count in self.lost.items():
            counts[getattr(loss, column)] += count
        return counts


@dataclass(frozen=True)
class Kind:
    """One kind of clients.

    Parameters:
        name: what a report calls it.
        rate: requests, pairs or messages a second of all its clients.
        clients: those that keep a connection; 0: each request has a connection of its own.
        act: what a client does when a request is due; tells whether the time that it takes says something.
        is_unix: whether it connects to the Unix socket.
        is_socket: whether its connections are WebSockets.
    """

    name: str
    rate: float
    clients: int
    act: Callable[[Client], Coroutine[None, None, bool]]
    is_unix: bool = False
    is_socket: bool = False


class Load:
    """The clients of all kinds.

    Parameters:
        address: URL of the server, or `unix:` and a path.
        unix: address of the Unix socket; empty: no kind uses it.
        kinds: those that take part; the WebSockets only where the server has them.
        seed: for what the clients draw.
        patience: seconds that a client waits for a response.
    """

    def __init__(
        self, address: str, unix: str, kinds: list[Kind], seed: int, patience: float = PATIENCE_SECONDS
    ) -> None:
        self.record = Record()
        self.kinds = [kind for kind in kinds if unix or not kind.is_unix]
        self.patience = patience
        self._addresses = {False: address, True: unix}
        self._seed = seed
        self.numbers = itertools.count(1)
        self._reloads = 0
        self.is_over = False
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Requests that are due or answered within the block have met a reload."""
        self._reloads += 1
        try:
            yield
        finally:
            self._reloads -= 1

    def begin(self) -> None:
        """Lets the clients begin."""
        now = time.monotonic()
        for kind in self.kinds:
            for index in range(kind.clients or 1):
                chance = random.Random(f"{self._seed} {kind.name} {index}")
                client = Client(self, kind, self._addresses[kind.is_unix], chance)
                self._spawn(self._run(client, now + index / kind.rate, max(kind.clients, 1) / kind.rate))

    async def end(self) -> None:
        """Lets the clients finish what they have begun, and close their connections."""
        self.is_over = True
        while self._tasks:
            # An error of this program, rather than of the server, comes out here.
            for done in (await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION))[0]:
                self._tasks.discard(done)
                done.result()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        # One that has failed is kept for `end`.
        if task.exception() is None:
            self._tasks.discard(task)

    async def _run(self, client: Client, begin: float, period: float) -> None:
        for turn in itertools.count():
            # The rate is fixed, and idle times are not.
            due = begin + (turn + client.chance.random()) * period
            await client.wait(due)
            if self.is_over:
                break
            if not client.kind.clients:
                self.record.lag = max(self.record.lag, time.monotonic() - due)
            if client.kind.clients:
                await self._attempt(client, due)
            else:
                chance = random.Random(client.chance.random())
                self._spawn(self._attempt_once(Client(self, client.kind, client.address, chance), due))
        client.close()

    async def _attempt_once(self, client: Client, due: float) -> None:
        await self._attempt(client, due)
        client.close()

    async def _attempt(self, client: Client, due: float) -> None:
        is_reloading = self._reloads > 0
        with client.watched():
            try:
                is_timed = await asyncio.wait_for(client.kind.act(client), self.patience)
            except asyncio.TimeoutError:
                raise Lost(Fault.LATE, f"no whole response within {self.patience:g} s") from None
            if is_timed:
                self.record.latency[is_reloading or self._reloads > 0].append(time.monotonic() - due)


class Client:
    """One client.

    Parameters:
        load: what it belongs to.
        kind: what it does.
        address: where it connects to.
        chance: what it draws from.
    """

    def __init__(self, load: Load, kind: Kind, address: str, chance: random.Random) -> None:
        self.kind = kind
        self.address = address
        self.chance = chance
        self.is_slow = False
        self._load = load
        self._open: Connection | WebSocket | None = None

    async def connection(self) -> Connection:
        """The connection that it keeps, or a new one."""
        if not isinstance(self._open, Connection):
            self._open = await Connection.open(self.address)
        else:
            self._open.check_idle()
        return self._open

    async def web_socket(self) -> WebSocket:
        """The WebSocket that it keeps, or a new one."""
        if not isinstance(self._open, WebSocket):
            self._open = await WebSocket.open(self.address)
        return self._open

    def close(self) -> None:
        """Closes its connection."""
        if self._open is not None:
            self._open.close()
            self._open = None

    async def wait(self, due: float) -> None:
        """Waits until a request is due, and notices what the server does to the idle connection."""
        while (left := due - time.monotonic()) > 0 and not self._load.is_over:
            left = min(left, LONGEST_WAIT_SECONDS)
            with self.watched():
                if self._open is None:
                    await asyncio.sleep(left)
                else:
                    await self._open.wait_idle(left)

    def number(self) -> int:
        """A number that no other request has."""
        return next(self._load.numbers)

    def pace(self) -> str:
        """Whether a request is answered at once: `quick` or `slow`."""
        self.is_slow = self.chance.random() < SLOW_SHARE
        return "slow" if self.is_slow else "quick"

    def note(self, answer: Answer) -> None:
        """Counts an answer."""
        record = self._load.record
        record.answered[self.kind.name] += 1
        record.workers[answer.pid] = answer.generation

    async def leave(self, connection: Connection, answer: Answer) -> None:
        """Leaves a connection whose last response has announced its end."""
        if answer.is_last:
            await connection.expect_end()
            self._load.record.announced[self.kind.name] += bool(self.kind.clients)
            self.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Counts the loss or the end of the connection that occurs within the block, and goes on without it."""
        record = self._load.record
        try:
            yield
        except Lost as lost:
            record.lose(self.kind.name, lost)
            self.close()
        except Closed as closed:
            record.announced[self.kind.name] += 1
            record.crossed += [] if closed.unanswered is None else [closed.unanswered]
            self.close()


def _request(method: str, path: str, number: int, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path}?{number} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


_LAST = "Connection: close"


async def new_connection(client: Client) -> bool:
    """Asks once."""
    number, connection = client.number(), await client.connection()
    await connection.send(_request("GET", f"/{client.pace()}", number, _LAST))
    await _finish(client, connection, await connection.answer(number))
    return not client.is_slow


async def kept_connection(client: Client) -> bool:
    """Asks on a connection that stays open."""
    number, connection = client.number(), await client.connection()
    await connection.send(_request("GET", f"/{client.pace()}", number))
    await _finish(client, connection, await connection.answer(number))
    return not client.is_slow


async def early_connection(client: Client) -> bool:
    """Connects, and asks a while later."""
    number, connection = client.number(), await client.connection()
    await asyncio.sleep(client.chance.uniform(0, LONGEST_PAUSE_SECONDS))
    connection.check_idle()
    await connection.send(_request("GET", "/quick", number, _LAST))
    await _finish(client, connection, await connection.answer(number))
    return False


async def slow_head(client: Client) -> bool:
    """Sends a request in two parts with a pause between them."""
    number, connection = client.number(), await client.connection()
    head = _request("GET", "/quick", number, _LAST)
    cut = client.chance.randrange(1, len(head))
    await connection.send(head[:cut])
    await asyncio.sleep(client.chance.uniform(0, LONGEST_PAUSE_SECONDS))
    await connection.send(head[cut:])
    await _finish(client, connection, await connection.answer(number))
    return False


async def pipelined_pair(client: Client) -> bool:
    """Asks twice at once on a connection that stays open."""
    numbers, connection = (client.number(), client.number()), await client.connection()
    await connection.send(b"".join(_request("GET", "/quick", number) for number in numbers))
    for number in numbers:
        answer = await connection.answer(number)
        client.note(answer)
    await client.leave(connection, answer)
    return True


async def post(client: Client) -> bool:
    """Posts a body that is echoed in short, on a connection that stays open."""
    number, connection = client.number(), await client.connection()
    body = client.chance.randbytes(POST_BYTES)
    await connection.send(_request("POST", "/digest", number, f"Content-Length: {len(body)}") + body)
    answer = await connection.answer(number)
    _check_digest(answer, body)
    await _finish(client, connection, answer)
    return True


async def slow_upload(client: Client) -> bool:
    """Posts a body that takes longer than a reload."""
    number, connection = client.number(), await client.connection()
    pieces = [client.chance.randbytes(UPLOAD_PIECE_BYTES) for _ in range(UPLOAD_PIECES)]
    body = b"".join(pieces)
    await connection.send(_request("POST", "/digest", number, f"Content-Length: {len(body)}", _LAST))
    for piece in pieces:
        await connection.send(piece)
        await asyncio.sleep(UPLOAD_PIECE_SECONDS)
    answer = await connection.answer(number)
    _check_digest(answer, body)
    await _finish(client, connection, answer)
    return False


async def stream(client: Client) -> bool:
    """Reads numbered chunks, which the application sends over a second."""
    number, connection = client.number(), await client.connection()
    await connection.send(_request("GET", "/stream", number, _LAST))
    answer = await connection.answer(number)
    if answer.rest != str(PIECES):
        raise Lost(Fault.SHORT, f"{answer.rest} of {PIECES} lines")
    await _finish(client, connection, answer)
    return False


async def message(client: Client) -> bool:
    """Sends a message on a WebSocket that stays open."""
    number, web_socket = client.number(), await client.web_socket()
    client.note(await web_socket.exchange(number, client.pace()))
    return not client.is_slow


def _check_digest(answer: Answer, body: bytes) -> None:
    if answer.rest != digest(body):
        raise Lost(Fault.MIXED_UP, f"digest {answer.rest}, not {digest(body)}")


async def _finish(client: Client, connection: Connection, answer: Answer) -> None:
    client.note(answer)
    await client.leave(connection, answer)


KINDS = [
    Kind("new connections", 40, 0, new_connection),
    Kind("keep-alive", 30, 30, kept_connection),
    Kind("long idle", 8, 200, kept_connection),
    Kind("early connections", 2, 0, early_connection),
    Kind("slow heads", 2, 0, slow_head),
    Kind("pipelined pairs", 8, 8, pipelined_pair),
    Kind("posts of 16 KiB", 8, 8, post),
    Kind("slow uploads", 1, 0, slow_upload),
    Kind("chunked streams", 1.5, 0, stream),
    Kind("Unix socket, new", 10, 0, new_connection, is_unix=True),
    Kind("Unix socket, keep-alive", 6, 6, kept_connection, is_unix=True),
    Kind("WebSocket messages", 20, 10, message, is_socket=True),
]


def percentile(values: array[float], share: float) -> float:
    """The value below which so large a share of them is; 0 for none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
