"""Measures this server beside others: processor time per request, requests per second, latency, memory.

    python -m benchmarks [--workloads hello,mix] [--servers wsgi,bjoern] [--json FILE] [--markdown FILE] [--svg FILE]

Every round runs every server once, in an order that changes from round to round, so that whatever else the machine does
hits all of them alike. Processor time is that of all the server's processes, user and system, between the beginning and
the end of the load.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, plot, report
from benchmarks.measurement import Plan, samples
from benchmarks.placement import Placement
from benchmarks.results import Results
from benchmarks.servers import GROUPS, OURS, WSGI, Server, servers
from benchmarks.summary import Sample
from benchmarks.workloads import WORKLOADS, workloads

QUICK = ("hello", "echo", "slow-generator", "mix")
FRAMEWORKS = ("flask", "django", "fastapi")
PACKAGES = {"wsgi": "wsgi-server", "uwsgidecorators": "uwsgi"}
"""Distributions that are named otherwise than what they install."""


def arguments_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--group", choices=GROUPS, default=WSGI, help="which interface (default wsgi)")
    parser.add_argument("--servers", default="", help="which, with commas between (default: all that are installed)")
    parser.add_argument("--workloads", default="", help="which, with commas between (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is measured (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="for each load (default 3)")
    parser.add_argument("--quick", action="store_true", help="a few workloads, one round of a second: does it all run?")
    parser.add_argument("--unpinned", action="store_true", help="let everybody run on all processors")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--markdown", type=Path, help="a file for the tables; they are printed as well")
    parser.add_argument("--svg", type=Path, help="a file for the plot")
    parser.add_argument("--from", dest="sources", type=Path, action="append", help="measure nothing, read such a file")
    options = parser.parse_args(arguments)
    options.workloads = [name for name in options.workloads.split(",") if name]
    options.servers = [name for name in options.servers.split(",") if name]
    for kind, names, known in (
        ("workload", options.workloads, [workload.name for workload in workloads(options.group)]),
        ("server", options.servers, [server.name for server in servers(options.group)]),
    ):
        for name in names:
            if name not in known:
                parser.error(f"unknown {kind} {name!r}; there are {', '.join(known)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    if options.quick:
        options.rounds = options.seconds = 1
        options.workloads = options.workloads or list(QUICK)
    return options


def installed(wanted: Sequence[Server]) -> list[Server]:
    """Those that can be started; what is left out is said."""
    found = []
    for server in wanted:
        if server.is_installed():
            found.append(server)
        else:
            print(f"benchmarks: {server.name} is not installed: left out", file=sys.stderr)
    return found


def measured(options: argparse.Namespace) -> Results:
    if not shutil.which("wrk"):
        raise SystemExit("benchmarks: wrk is missing: install the package wrk")
    placement = Placement() if options.unpinned else Placement.pinned()
    chosen = workloads(options.group, options.workloads)
    contestants = installed(servers(options.group, options.servers))
    plan = Plan(chosen, contestants, options.rounds, options.seconds, placement)
    results = Results(
        machine.description(),
        machine.versions([*(PACKAGES.get(server.package, server.package) for server in contestants), *FRAMEWORKS]),
        {"placement": str(placement), "rounds": str(plan.rounds), "seconds": str(plan.seconds)},
    )
    if (busy := machine.load_average()) > 0.5:
        print(f"benchmarks: the machine is busy (load {busy:.1f}): figures will be unsteady", file=sys.stderr)
    placement.settle()
    for sample in samples(plan):
        results.samples.append(sample)
        print(f"{sample.workload}, round {sample.round + 1}, {sample.server}: {_said(sample)}", file=sys.stderr)
        if options.json:
            # Again and again: hours of measuring are not lost with the last minute.
            results.write(options.json)
    return results


def _said(sample: Sample) -> str:
    return sample.error or ", ".join(f"{name} {value:.2f}" for name, value in sample.figures.items())


def main(arguments: Sequence[str] | None = None) -> None:
    options = arguments_of(arguments)
    results = Results.read(options.sources) if options.sources else measured(options)
    titles = {workload.name: workload.title for workload in WORKLOADS}
    text = report.whole(results, titles, OURS)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", "utf-8")
    if options.svg:
        options.svg.write_text(plot.panels(results.samples, titles, "cpu_us", OURS), "utf-8")
    if failed := [sample for sample in results.samples if sample.server == OURS and sample.error]:
        raise SystemExit(f"benchmarks: our own server failed at {failed[0].workload}: {failed[0].error}")


if __name__ == "__main__":
    main()
