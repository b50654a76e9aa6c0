"""The load generator wrk: its command line, and what it says in the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.browser import FIELDS

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_LATENCY = re.compile(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)\s*$", re.MULTILINE)
_REQUESTS = re.compile(r"^\s+(\d+) requests in", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_REFUSED = re.compile(r"Non-2xx or 3xx responses: (\d+)")


@dataclass(frozen=True)
class Result:
    """What wrk measured."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    """Connections that failed, responses that did not come in time, and those that were no success."""


def command(
    url: str, seconds: int, connections: int, fields: Sequence[str] = FIELDS, script: str | None = None
) -> list[str]:
    # One thread: it has one processor, and takes less of it than any server.
    words = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    for field in fields:
        words += ["-H", field]
    return [*words, *(["-s", script] if script else []), url]


def parsed(output: str) -> Result:
    """Reads wrk's report.

    Raises:
        ValueError: it is not one.
    """
    requests, rate = _REQUESTS.search(output), _RATE.search(output)
    latencies = {int(percent): float(time) * _MILLISECONDS[unit] for percent, time, unit in _LATENCY.findall(output)}
    if requests is None or rate is None or not {50, 99} <= latencies.keys():
        raise ValueError(f"wrk said: {output}")
    failed, refused = _SOCKET_ERRORS.search(output), _REFUSED.search(output)
    errors = sum(map(int, failed.groups())) if failed else 0
    errors += int(refused[1]) if refused else 0
    return Result(int(requests[1]), float(rate[1]), latencies[50], latencies[99], errors)
