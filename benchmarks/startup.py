"""Measures how soon a server takes connections after it was started, beyond what the import of its application takes.

    python -m benchmarks.startup [--rounds 15] [--servers wsgi,gunicorn] [--target MODULE:APP]

Every round starts every server once, and a bare interpreter that imports the application and ends.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.processes import ROOT, free_port, running
from benchmarks.servers import WSGI, Server, servers

TARGET = "benchmarks.apps.plain:hello"


def import_ms(target: str) -> float:
    """How long an interpreter takes to start, to import the application and to end, in milliseconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {target.partition(':')[0]}"], check=True, cwd=ROOT)
    return (time.perf_counter() - start) * 1000


def listening_ms(server: Server, target: str) -> float:
    """How long a server takes until it is connected to, in milliseconds.

    Raises:
        ServerError: it does not start.
    """
    port = free_port()
    start = time.perf_counter()
    with running(server.start(target, port), port):
        return (time.perf_counter() - start) * 1000


def table(times: dict[str, list[float]], baseline: Sequence[float]) -> str:
    """Medians, and the differences to the baseline's of the same round, as a Markdown table."""
    lines = ["| server | ms until it listens | beyond the import of its application |", "|---|---|---|"]
    for name, taken in times.items():
        beyond = statistics.median(one - other for one, other in zip(taken, baseline, strict=True))
        lines.append(f"| {name} | {statistics.median(taken):.0f} | {beyond:.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--servers", default="", help="names, divided by commas; all that are installed without it")
    parser.add_argument("--target", default=TARGET, help=f"the application (default {TARGET})")
    options = parser.parse_args(arguments)
    names = [name for name in options.servers.split(",") if name]
    runners = [server for server in servers(WSGI, names) if server.is_installed()]
    times: dict[str, list[float]] = {server.name: [] for server in runners}
    baseline = []
    for _ in range(options.rounds):
        baseline.append(import_ms(options.target))
        for server in runners:
            times[server.name].append(listening_ms(server, options.target))
    print(table(times, baseline))


if __name__ == "__main__":
    main()
