"""Messages that come back over WebSockets, by a load generator of our own: wrk speaks none."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from benchmarks.compiler import compiled
from benchmarks.loads.load import Load, LoadError, Target


@dataclass(frozen=True)
class WebSocketEcho(Load):
    """Echoes of `benchmarks.apps.asgi_plain:websocket`, one message at a time on each connection.

    Parameters:
        connections: how many.
        length: of a message, at most 125 bytes.
    """

    connections: int = 64
    length: int = 64

    def run(self, target: Target) -> dict[str, float]:
        self._ask(target, 1)
        before = target.cpu_seconds()
        echoes, wrong, p50, p99 = self._ask(target, target.seconds)
        used = target.cpu_seconds() - before
        if wrong or not echoes:
            raise LoadError(f"{wrong} of {echoes} echoes were wrong")
        return {
            "cpu_us": used / echoes * 1e6,
            "per_second": echoes / target.seconds,
            "p50_ms": p50 / 1000,
            "p99_ms": p99 / 1000,
            "memory_mib": target.memory_mib(),
        }

    def _ask(self, target: Target, seconds: int) -> list[int]:
        numbers = [target.port, self.connections, seconds, self.length]
        asked = subprocess.run(
            [str(compiled("websocket")), *map(str, numbers)], capture_output=True, text=True, check=False
        )
        if asked.returncode:
            raise LoadError(asked.stderr.strip())
        return [int(number) for number in asked.stdout.split()]
