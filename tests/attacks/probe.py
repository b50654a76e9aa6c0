"""A client as others are: it asks for a small page again and again while somebody else attacks.

Run as `python -m tests.attacks.probe ADDRESS PAGE`, in a process of its own so that the attack's own work does not
count as the server's. It stops when its standard input ends, and prints what it saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from tests.support import RawClient

PAUSE = 0.02
PATIENCE = 10.0
"""Seconds after which a person has gone away."""
LEAVES = b"Connection: close\r\n"


@dataclass(frozen=True)
class Page:
    """What the client asks for."""

    fields: bytes
    """The request up to its last field."""
    body: bytes
    answer: bytes

    def request(self, leaves: bool) -> bytes:
        """One request, which may be the last of its connection."""
        return self.fields + (LEAVES if leaves else b"") + b"\r\n" + self.body


UPLOADED = 131_072
"""More than a server keeps of a chunked body in memory."""
PAGES = {
    "page": Page(b"GET /probe HTTP/1.1\r\nHost: a\r\n", b"", b"ok"),
    "upload": Page(
        b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        b"%x\r\n%s\r\n0\r\n\r\n" % (UPLOADED, b"x" * UPLOADED),
        b"%d" % UPLOADED,
    ),
}


@dataclass
class Seen:
    """How a client was served."""

    seconds: list[float] = field(default_factory=list)
    """What each answer took, with its connection."""
    failures: list[str] = field(default_factory=list)

    @property
    def availability(self) -> float:
        """The share of requests that were answered."""
        asked = len(self.seconds) + len(self.failures)
        return len(self.seconds) / asked if asked else 0.0

    def quantile(self, share: float) -> float:
        """Seconds within which that share of the answers came.

        A client that waits asks less often. Therefore an answer that took long counts once for each request that
        would have been sent meanwhile, with the time that was left of it.
        """
        asked = (one - late * PAUSE for one in self.seconds for late in range(1 + int(one / PAUSE)))
        ranked = sorted(asked) or [float("inf")]
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)]

    def times(self, *shares: float) -> str:
        """Quantiles in ms."""
        return " / ".join(f"{1000 * self.quantile(share):.1f}" for share in shares)


def ask(address: str, page: Page, keeps: bool) -> None:
    """One connection, with two requests if it keeps alive."""
    with RawClient(address, PATIENCE) as client:
        if keeps:
            client.send(page.request(leaves=False))
            response = client.receive()
            assert response.body == page.answer, response
        client.send(page.request(leaves=True))
        (response,) = client.responses("GET")
        assert response.body == page.answer, response


def watch(address: str, page: Page, over: threading.Event) -> Seen:
    """Asks until it is over, at least once."""
    seen = Seen()
    turn = 0
    while not turn or not over.is_set():
        began = time.perf_counter()
        try:
            ask(address, page, keeps=turn % 2 == 0)
            seen.seconds.append(time.perf_counter() - began)
        except (OSError, AssertionError) as failure:
            seen.failures.append(repr(failure))
        turn += 1
        over.wait(PAUSE)
    return seen


class Probe:
    """The client in its process, as long as the context lasts; `seen` holds what it saw after that."""

    def __init__(self, address: str, page: str = "page") -> None:
        self.seen = Seen()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.probe", address, page],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Probe:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        text, _ = self._process.communicate("")
        self.seen = Seen(**json.loads(text))


def main(address: str, page: str) -> None:
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    print("ready", flush=True)
    threading.Thread(target=listen, daemon=True).start()
    seen = watch(address, PAGES[page], over)
    print(json.dumps({"seconds": seen.seconds, "failures": seen.failures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
