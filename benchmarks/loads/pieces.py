"""How late a piece of a response leaves that the application makes slowly. A check, not a race."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from benchmarks import browser, client
from benchmarks.loads.load import Load, LoadError, Target


@dataclass(frozen=True)
class SlowPieces(Load):
    """Reads `benchmarks.apps.plain:slow_generator`, whose pieces say when they were made."""

    def run(self, target: Target) -> dict[str, float]:
        delays = []
        received = b""
        with client.connect(target.port) as connection:
            connection.sendall(browser.request(fields=["Connection: close"]))
            while data := connection.recv(65_536):
                now = time.monotonic_ns()
                received += data
                *whole, received = received.split(b"\n")
                # Beside them there are the lines of the head, and those of chunked framing, which are short.
                delays += [(now - int(line)) / 1e6 for line in whole if line.isdigit() and len(line) > 8]
        if not delays:
            raise LoadError("no piece of the response was received")
        return {"pieces": len(delays), "delay_p50_ms": statistics.median(delays), "delay_max_ms": max(delays)}
