"""Requests that are answered at once beside requests that wait: does the one hold up the other?"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import wrk
from benchmarks.loads.load import Load, Target, refuse_errors, run_wrk


@dataclass(frozen=True)
class Mix(Load):
    """Two load generators at once.

    Parameters:
        connections: how many each has.
    """

    connections: int = 32

    def run(self, target: Target) -> dict[str, float]:
        def commands(seconds: int) -> list[list[str]]:
            return [wrk.command(target.url(path), seconds, self.connections) for path in ("/", "/sleep")]

        run_wrk(commands(1))
        before = target.cpu_seconds()
        results = hello, sleepers = run_wrk(commands(target.seconds))
        used = target.cpu_seconds() - before
        refuse_errors(results)
        return {
            "hello_per_second": hello.per_second,
            "hello_p99_ms": hello.p99_ms,
            "sleepers_per_second": sleepers.per_second,
            "sleepers_p99_ms": sleepers.p99_ms,
            "cpu_us": used / max(hello.requests + sleepers.requests, 1) * 1e6,
        }
