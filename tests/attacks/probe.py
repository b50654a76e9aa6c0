"""A client as others are: it asks for a small page again and again while somebody else attacks.

Run as `python -m tests.attacks.probe ADDRESS`, in a process of its own so that the attack's own work does not count as
the server's. It stops when its standard input ends, and prints what it saw.
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
ASK = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n"
LEAVE = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


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
        """Seconds within which that share of the answers came."""
        ranked = sorted(self.seconds) or [float("inf")]
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def ask(address: str, keeps: bool) -> None:
    """One connection, with two requests if it keeps alive."""
    with RawClient(address, PATIENCE) as client:
        if keeps:
            client.send(ASK)
            assert client.receive().body == b"ok"
        client.send(LEAVE)
        (response,) = client.responses("GET")
        assert response.body == b"ok", response


def watch(address: str, over: threading.Event) -> Seen:
    """Asks until it is over, at least once."""
    seen = Seen()
    while not seen.seconds or not over.is_set():
        began = time.perf_counter()
        try:
            ask(address, keeps=len(seen.seconds) % 2 == 0)
            seen.seconds.append(time.perf_counter() - began)
        except (OSError, AssertionError) as failure:
            seen.failures.append(repr(failure))
            if over.is_set():
                break
        over.wait(PAUSE)
    return seen


class Probe:
    """The client in its process, as long as the context lasts; `seen` holds what it saw after that."""

    def __init__(self, address: str) -> None:
        self.seen = Seen()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.probe", address],
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


def main(address: str) -> None:
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    print("ready", flush=True)
    threading.Thread(target=listen, daemon=True).start()
    seen = watch(address, over)
    print(json.dumps({"seconds": seen.seconds, "failures": seen.failures}))


if __name__ == "__main__":
    main(sys.argv[1])
