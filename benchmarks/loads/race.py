"""As many requests as the server answers, over kept or new connections."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import wrk
from benchmarks.browser import FIELDS
from benchmarks.loads.load import Load, LoadError, Target, refuse_errors, run_wrk


@dataclass(frozen=True)
class Race(Load):
    """One load generator.

    Parameters:
        path: what is asked for.
        connections: how many ask at once.
        fields: what each request says beside them that a browser sends.
        script: a file for wrk.
    """

    path: str = "/"
    connections: int = 64
    fields: tuple[str, ...] = ()
    script: str | None = None

    def run(self, target: Target) -> dict[str, float]:
        def command(seconds: int) -> list[str]:
            return wrk.command(target.url(self.path), seconds, self.connections, [*FIELDS, *self.fields], self.script)

        run_wrk([command(1)])
        before = target.cpu_seconds()
        (result,) = run_wrk([command(target.seconds)])
        used = target.cpu_seconds() - before
        refuse_errors([result])
        if not result.requests:
            raise LoadError("no request was answered")
        return {
            "cpu_us": used / result.requests * 1e6,
            "per_second": result.per_second,
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
            "memory_mib": target.memory_mib(),
        }
