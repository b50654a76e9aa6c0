"""Measures the memory of worker processes with and without preload.

    python -m benchmarks.preload [--workers 4] [--requests 200] [--target NAME=MODULE:APP ...]

Memory is the proportional set size (PSS) of the supervisor and all of its children: what a process has alone, and its
part of what it shares. It is read after every worker has answered requests, because those write to shared pages.
"""

from __future__ import annotations

import argparse
import sys
import time
import urllib.request
from collections.abc import Sequence

from benchmarks.processes import ServerError, family, free_port, resident_bytes, running

TARGETS = {"Flask": "benchmarks.apps.flask_site:app", "Django": "benchmarks.apps.django_site:app"}
_MIB = 1 << 20
_PATIENCE_SECONDS = 30.0


def used_mib(target: str, workers: int, requests: int, *, preload: bool) -> float:
    """The memory of a server with this application, in MiB.

    Raises:
        ServerError: it does not start or does not answer.
    """
    port = free_port()
    command = [sys.executable, "-m", "wsgi_server", target, "--port", str(port), "--workers", str(workers)]
    with running([*command, *["--preload"] * preload], port) as process:
        end = time.monotonic() + _PATIENCE_SECONDS
        while len(family(process.pid)) < 1 + workers + preload and time.monotonic() < end:
            time.sleep(0.01)
        for _ in range(requests):
            # Each on a connection of its own, so that all workers get some.
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=_PATIENCE_SECONDS).close()
            except OSError as error:
                raise ServerError(f"{target} was not served: {error}") from error
        return resident_bytes(process.pid) / _MIB


def table(figures: dict[str, tuple[float, float]], workers: int) -> str:
    """The figures as a Markdown table."""
    lines = [f"| application | {workers} workers | with `--preload` | less |", "|---|---|---|---|"]
    for name, (without, preloaded) in figures.items():
        less = (1 - preloaded / without) * 100
        lines.append(f"| {name} | {without:.0f} MiB | {preloaded:.0f} MiB | {less:.0f} % |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.preload", description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--target", action="append", default=[], metavar="NAME=MODULE:APP")
    options = parser.parse_args(arguments)
    targets = dict(target.split("=", 1) for target in options.target) or TARGETS
    figures = {}
    for name, target in targets.items():
        without, preloaded = (
            used_mib(target, options.workers, options.requests, preload=preload) for preload in (False, True)
        )
        figures[name] = (without, preloaded)
    print(table(figures, options.workers))


if __name__ == "__main__":
    main()
