"""Counts the instructions that the server takes for a request, with valgrind's callgrind: a measure without noise.

    python -m benchmarks.instructions [--workloads hello] [--functions 60] [--connections 8] [--check | --write]

The whole server runs under callgrind, with one worker. After a warm-up, requests are sent one after the other, each
when the last one is answered, and the instructions of the worker's thread are counted; the kernel's are not. With
`--connections`, several are asked at once, so that responses leave together. Which requests a round of the poller
finds is then a matter of timing, and the figure less exact.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import browser, client
from benchmarks.callgrind import Profile
from benchmarks.processes import ServerError, free_port, running
from benchmarks.servers import OURS, WSGI, servers

BASELINE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
"""How much dearer than the baseline a request may become, as a fraction."""

WORKLOADS = {
    "hello": ("hello", [browser.request()]),
    "echo": ("echo", [browser.request(body=b"x" * 4096)]),
    "generator": ("generator", [browser.request()]),
    "proxied": ("hello", browser.through_a_proxy(997)),
}
"""Functions of `benchmarks.apps.plain`, and what they are asked, one after the other."""

WARM_UP = 300


@dataclass(frozen=True)
class Count:
    """Instructions for each request."""

    total: float
    own: float
    """Those in the extension module itself."""
    requests: int
    profile: Profile


def measure(workload: str, requests_count: int, connections: int) -> Count:
    """Serves a workload under callgrind.

    Raises:
        ServerError: the server does not run, or not as it should.
    """
    port = free_port()
    app, requests = WORKLOADS[workload]
    asked = itertools.cycle(requests)
    (server,) = servers(WSGI, [OURS])
    with tempfile.TemporaryDirectory() as folder:
        # Instrumentation begins when the server runs: starting is quick, and not in the figures.
        command = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--compress-pos=no",
            f"--callgrind-out-file={folder}/profile", sys.executable,
            *server.start(f"benchmarks.apps.plain:{app}", port, threads=1),
        ]  # fmt: skip
        # With the hashes of one process like those of the next, dicts have the same collisions.
        with running(command, port, {"PYTHONHASHSEED": "0"}) as process:
            length = client.exchange(port, requests[0]).length
            _ask(port, asked, length, WARM_UP, connections)
            _tell(process.pid, "instrumentation", "on")
            _ask(port, asked, length, WARM_UP, connections)
            _tell(process.pid, "zero")
            sent = _ask(port, asked, length, requests_count, connections)
            _tell(process.pid, "dump")
            profiles = [Profile.of(path) for path in Path(folder).glob("profile.1-*")]
    # The worker's: the main thread waits for signals, the monitor for its next tick.
    profile = max(profiles, key=lambda profile: profile.total)
    own = sum(cost for library, cost in profile.libraries().items() if library.startswith("_core."))
    return Count(profile.total / sent, own / sent, sent, profile)


def _ask(port: int, asked: Iterator[bytes], length: int, count: int, connections: int) -> int:
    """Sends at least `count` requests over some connections, and gives the number."""
    rounds = -(-count // connections)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(client.connect(port)) for _ in range(connections)]
        for _ in range(rounds):
            for connection in sockets:
                connection.sendall(next(asked))
            for connection in sockets:
                missing = length
                while missing:
                    received = len(connection.recv(missing))
                    if not received:
                        raise ServerError("the server closed a connection while instructions were counted")
                    missing -= received
    return rounds * connections


def _tell(pid: int, *words: str) -> None:
    """Speaks to callgrind inside the process."""
    told = subprocess.run(["vgdb", f"--pid={pid}", *words], capture_output=True, text=True, check=False)
    if told.returncode:
        raise ServerError(f"vgdb: {told.stderr.strip()}")


def listing(count: Count, functions: int) -> str:
    """Libraries and the dearest functions, with their cost for each request."""
    libraries = sorted(count.profile.libraries().items(), key=lambda library: -library[1])
    lines = [f"{cost / count.requests:9.1f}  [{library}]" for library, cost in libraries]
    lines += ["", f"{'own':>9} {'inclusive':>9} {'calls':>7}  function"]
    for function in count.profile.functions()[:functions]:
        own, inclusive, calls = (
            number / count.requests for number in (function.own, function.inclusive, function.calls)
        )
        lines.append(f"{own:9.1f} {inclusive:9.1f} {calls:7.2f}  {function.name} [{function.library}]")
    return "\n".join(lines)


def table(counts: dict[str, Count], baseline: dict[str, dict[str, float]]) -> str:
    """Instructions for each request, and how they compare with the baseline where it may be compared with."""
    lines = [
        "| workload | instructions per request | in the extension module | beside the baseline |",
        "|---|---|---|---|",
    ]
    for workload, count in counts.items():
        ratios = [f"{ratio:.3f} ({name})" for name, ratio in compared(count, baseline.get(workload, {})).items()]
        lines.append(f"| {workload} | {count.total:,.0f} | {count.own:,.0f} | {', '.join(ratios) or '-'} |")
    return "\n".join(lines)


def compared(count: Count, standing: dict[str, float]) -> dict[str, float]:
    """Ratios to the figures of a baseline."""
    return {name: getattr(count, name) / figure for name, figure in standing.items()}


def surroundings() -> dict[str, str]:
    """What the figures depend on beside the code: other compilers and interpreters give others."""
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    overrides = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("CARGO_PROFILE_")]
    build = " ".join([compiler, *overrides, platform.machine()])
    return {"own": build, "total": f"{build} Python {sys.version}"}


def comparable(baseline: dict[str, Any], here: dict[str, str]) -> dict[str, dict[str, float]]:
    """The figures of a baseline that were made in surroundings like these."""
    fitting = {name for name, value in here.items() if baseline["surroundings"].get(name) == value}
    return {
        workload: {name: figure for name, figure in figures.items() if name in fitting}
        for workload, figures in baseline["workloads"].items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.instructions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="which, with commas between")
    parser.add_argument("--requests", type=int, default=2000, help="requests that are counted (default 2000)")
    parser.add_argument("--connections", type=int, default=1, help="connections that are asked at once (default 1)")
    parser.add_argument("--functions", type=int, default=0, help="also list so many functions, the dearest first")
    parser.add_argument("--check", action="store_true", help=f"fail if dearer than the baseline by {TOLERANCE:.0%}%")
    parser.add_argument("--write", action="store_true", help="make this the baseline")
    options = parser.parse_args(arguments)
    workloads = options.workloads.split(",")
    if unknown := [workload for workload in workloads if workload not in WORKLOADS]:
        parser.error(f"unknown workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if missing := [program for program in ("valgrind", "vgdb") if not shutil.which(program)]:
        raise SystemExit(f"benchmarks: {missing[0]} is missing: install the package valgrind")

    here = surroundings()
    baseline = comparable(json.loads(BASELINE.read_text("utf-8")), here) if options.connections == 1 else {}
    counts = {}
    for workload in workloads:
        try:
            counts[workload] = measure(workload, options.requests, options.connections)
        except ServerError as error:
            raise SystemExit(f"benchmarks: {error}") from error
        if options.functions:
            print(f"{workload}:\n{listing(counts[workload], options.functions)}\n", flush=True)
    print(table(counts, baseline))
    if options.write:
        figures = {name: {"own": round(count.own), "total": round(count.total)} for name, count in counts.items()}
        BASELINE.write_text(json.dumps({"surroundings": here, "workloads": figures}, indent=2) + "\n", "utf-8")
    if options.check:
        check(counts, baseline)


def check(counts: dict[str, Count], baseline: dict[str, dict[str, float]]) -> None:
    """Holds figures against a baseline.

    Raises:
        SystemExit: a request became dearer.
    """
    ratios = {workload: compared(count, baseline.get(workload, {})) for workload, count in counts.items()}
    if not any(ratios.values()):
        print("benchmarks: the baseline is of another compiler or interpreter: nothing was compared")
    for workload, names in ratios.items():
        for name, ratio in names.items():
            if ratio > 1 + TOLERANCE:
                raise SystemExit(f"benchmarks: {workload} takes {ratio - 1:.1%} more instructions ({name})")


if __name__ == "__main__":
    main()
