"""The figures there are: what they are called in tables, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A kind of figure.

    Parameters:
        title: with its unit.
        digits: behind the point.
    """

    title: str
    digits: int = 1

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


FIGURES = {
    "cpu_us": Figure("CPU µs per request"),
    "per_second": Figure("requests/s", 0),
    "p50_ms": Figure("p50 ms", 2),
    "p99_ms": Figure("p99 ms", 2),
    "memory_mib": Figure("memory MiB"),
    "hello_per_second": Figure("hello/s", 0),
    "hello_p99_ms": Figure("p99 ms of hello", 2),
    "sleepers_per_second": Figure("sleepers/s", 0),
    "sleepers_p99_ms": Figure("p99 ms of sleepers", 2),
    "pieces": Figure("pieces", 0),
    "delay_p50_ms": Figure("delay, median ms", 2),
    "delay_max_ms": Figure("delay, longest ms", 2),
    "held": Figure("connections held", 0),
    "bytes_each": Figure("bytes each", 0),
    "served_ms": Figure("a new client is served in ms", 2),
    "growth_mib": Figure("memory growth MiB"),
    "read_mib": Figure("MiB read", 0),
}
