"""Three parsers behind one face: what each makes of the request at the front of some bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h11
import httptools

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Message:
    """One request that is complete."""

    method: bytes
    target: bytes
    body: bytes
    length: int
    """Bytes from the first of the head to the last of the body."""
    persistent: bool
    """The connection can be used again behind it."""


@dataclass(frozen=True)
class Refusal:
    """Why a parser takes no request there: its own words, or a name."""

    reason: str


WAITS = Refusal("waits for more")
Verdict = Message | Refusal


@dataclass(frozen=True)
class Reading:
    """What we make of a whole connection: each request with its offset, and how it stands behind them."""

    messages: list[tuple[int, Message]]
    end: str
    """`clean`, `open`, `close`, or the name of a refusal."""
    consumed: int
    """Where the bytes begin that belong to no complete request."""


def ours(cases: Sequence[bytes]) -> Iterator[Reading]:
    """Runs the pure rooms on each case, in one process for all."""
    command = ["cargo", "run", "--quiet", "--no-default-features", "--example", "verdicts"]
    stdin = b"".join(len(case).to_bytes(4, "little") + case for case in cases)
    lines = subprocess.run(command, input=stdin, capture_output=True, check=True, cwd=ROOT).stdout.decode().splitlines()
    assert len(lines) == len(cases)
    for line in lines:
        end, *requests = line.split(" ")
        start, messages = 0, []
        for request in requests:
            method, target, body, stop, persistent = request.split(",")
            parts = [bytes.fromhex(part) for part in (method, target, body)]
            messages.append((start, Message(parts[0], parts[1], parts[2], int(stop) - start, persistent == "1")))
            start = int(stop)
        yield Reading(messages, end, start)


def by_h11(data: bytes) -> Verdict:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    method = target = b""
    body = bytearray()
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target = event.method, event.target
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                persistent = connection.their_state is not h11.MUST_CLOSE
                length = len(data) - len(connection.trailing_data[0])
                return Message(method, target, bytes(body), length, persistent)
            else:
                return WAITS
    except h11.RemoteProtocolError as error:
        return Refusal(str(error).split(":")[0])


class _Collector:
    parser: httptools.HttpRequestParser

    def __init__(self) -> None:
        self.target = b""
        self.body = bytearray()
        self.complete = False
        self.persistent = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True
        # Later it would speak of the next request.
        self.persistent = self.parser.should_keep_alive()


def by_httptools(data: bytes) -> Verdict:
    collector = _Collector()
    collector.parser = parser = httptools.HttpRequestParser(collector)
    # Byte by byte, because it does not tell where a request ends.
    for at in range(len(data)):
        try:
            parser.feed_data(data[at : at + 1])
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            if not collector.complete:
                return Refusal(str(error))
        if collector.complete:
            body = bytes(collector.body)
            return Message(parser.get_method(), collector.target, body, at + 1, collector.persistent)
    return WAITS


OTHERS = {"h11": by_h11, "httptools": by_httptools}
