"""`make reload-test`: a server under load is reloaded again and again, and every loss is named.

Half of the reloads are those of a WSGI application, half those of an ASGI one; `--interface` picks one of them.
`--seed` repeats the events, their moments and what clients send. `--server` picks other servers, which are started from
the environment of `--environment`, and `--page FILE` writes the page of the docs. The run fails if this server loses
anything, or does not give back what it held.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.reload.servers import RECYCLING, SERVERS, SITES, offered_options
from tests.reload.tables import page, summary
from tests.reload.trial import Trial, run_trial

OURS = "wsgi"
RECYCLED_AFTER = 200
"""Requests that a worker of this server handles in a few seconds."""
MOST_LAG_SECONDS = 1.0
"""Beyond this a run says little."""


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """What the command line asks for."""
    variants = list(ours(offered_options()))
    for name in SERVERS if "all" in options.server else options.server:
        interfaces = [each for each in SERVERS[name].commands if options.interface in ("all", each)]
        runs = [(each, words) for words in (variants if name == OURS else [()]) for each in interfaces]
        reloads = options.reloads if name == OURS else options.peer_reloads
        for index, (interface, words) in enumerate(runs):
            share = (reloads + index) // len(runs)
            python = sys.executable if name == OURS else str(options.environment / "bin" / "python")
            yield Trial(name, interface, share, options.seed, python, words)


def ours(offered: str) -> Iterator[tuple[str, ...]]:
    """Words for the command line of this server: one run for each."""
    recycling = (RECYCLING, str(RECYCLED_AFTER)) if f"{RECYCLING} " in offered else ()
    yield recycling
    if "--preload" in offered:
        yield (*recycling, "--preload")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make reload-test", description=__doc__)
    parser.add_argument("--reloads", type=int, default=200, help="SIGHUPs in all (default %(default)s)")
    parser.add_argument("--interface", choices=[*SITES, "all"], default="all", help="of the application")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (default %(default)s)")
    parser.add_argument("--server", choices=[*SERVERS, "all"], nargs="+", default=[OURS], help="what is reloaded")
    parser.add_argument(
        "--peer-reloads", type=int, default=40, help="SIGHUPs of each other server (default %(default)s)"
    )
    parser.add_argument("--environment", type=Path, default=Path(".venv-conformance"), help="has the other servers")
    parser.add_argument("--page", type=Path, help="file to write the page to")
    options = parser.parse_args()
    # Both sides of the connections to a server that hangs are on this machine.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reports, failed = [], False
    for trial in trials(options):
        report = run_trial(trial)
        reports.append(report)
        print("\n".join(summary(report)), flush=True)
        if report.record.lag > MOST_LAG_SECONDS:
            problem = "the load was late for want of a processor: what is late, or crossed, may be its own"
            print(f"make reload-test: {report.title}: {problem}", file=sys.stderr)
        for problem in report.problems:
            print(f"make reload-test: {report.title}: {problem}", file=sys.stderr)
        failed |= bool(report.problems) or (trial.server == OURS and report.record.lost.total() > 0)
    if options.page is not None:
        options.page.write_text(page(reports), "utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
