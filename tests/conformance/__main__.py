"""Tests a server from outside: `python -m tests.conformance [--environment DIRECTORY] [--server COMMAND]`.

Without options this server is tested, every wire case split at every offset.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.report import markdown, text, written_into
from tests.conformance.servers import PEERS, Launch, given, own, python_of
from tests.conformance.suite import Score, Suite, entries


def say(line: str) -> None:
    """Tells of progress beside the report."""
    print(line, file=sys.stderr, flush=True)


def version_in(python: Path, package: str) -> str:
    """The version of a package in another environment; empty if it is not installed there."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for, prints the report and gives the exit code."""
    parser = argparse.ArgumentParser(prog="make conformance ARGS=…", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--server", help="a command with {address}, {host}, {port}, {path} and {app} in it, or a preset"
    )
    parser.add_argument(
        "--environment",
        type=Path,
        help="the environment whose {python} and {bin} a command means; "
        "without --server, this server and then every preset installed there are tested",
    )
    parser.add_argument("--markdown", type=Path, help="a page whose tables are written anew")
    parser.add_argument("--splits", default="all", help="offsets at which each wire case is split: a number, or all")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds without progress that count as hung")
    parser.add_argument("--jobs", type=int, default=1, help="servers that are tested at the same time")
    parser.add_argument("--only", action="append", default=[], help="the id of a case to run; may be repeated")
    options = parser.parse_args(arguments)
    unknown = set(options.only) - {entry.id for entry in entries()}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    scores = []
    with concurrent.futures.ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        for score in pool.map(lambda server: run(server, options), chosen(options)):
            scores.append(score)
            print(text(score, options.only), flush=True)
            print()
    if not scores:
        return 1
    if options.markdown:
        options.markdown.write_text(written_into(options.markdown.read_text(), markdown(scores)))
    # What peers miss beside this server is a finding; and its promises are its own.
    return int(fails(scores[0], promises=options.server is None))


def run(server: tuple[str, Launch, Path], options: argparse.Namespace) -> Score:
    """Tests one server."""
    name, launch, python = server
    most = None if options.splits == "all" else int(options.splits)
    return Suite(name, launch, python, patience=options.patience, most=most, only=options.only, say=say).run()


def fails(score: Score, *, promises: bool) -> bool:
    """Whether a rule was missed, or a promise where they count, or whether a setting was not run at all."""
    counted = {entry.id for entry in entries() if promises or not entry.promise}
    return bool(counted & score.missed.keys() or score.failures or not score.settings)


def chosen(options: argparse.Namespace) -> list[tuple[str, Launch, Path]]:
    """The servers to test: a name, how to launch, and the interpreter."""
    ours = (f"wsgi-server {importlib.metadata.version('wsgi-server')}", own(), Path(sys.executable))
    python = python_of(options.environment)
    compares = options.environment and not options.server
    if compares or options.server in PEERS:
        found = [ours] if compares else []
        for name in PEERS if compares else [options.server]:
            version = version_in(python, PEERS[name].package)
            if version:
                found.append((f"{name} {version}", PEERS[name], python))
            else:
                say(f"{name} is not installed")
        return found
    if options.server:
        return [("server", given(options.server), python)]
    return [ours]


if __name__ == "__main__":
    sys.exit(main())
