"""`make attacks`: every attack in its long form, one after the other, and the table of what came of them.

`--interface wsgi` or `asgi` picks the applications that are attacked, `--only WORDS` picks attacks by name, `--seconds`
says how long each lasts at least, `--page FILE` writes the page of the docs. `--server "COMMAND --port {port} {app}"`
attacks another server, without the options that an attack asks this one for. What came of that stands in `peers.md`,
the end of the page.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

from tests.attacks.battle import HEAD, Outcome, fight
from tests.attacks.catalogue import BOTH, attacks

QUIET = 2.0
"""Seconds for which the other client is alone before each attack."""
PAGE = """\
# Attacks

`make attacks` lets hostile clients loose on a server, one kind after the other, each for {seconds:g} seconds after all
of them have connected. Meanwhile another client asks for a small page about fifty times a second, on connections of its
own; before, it has done so for {quiet:g} seconds with the server to itself. Times count a request that had to wait for
the one before it as if it had been sent when it was due. The run fails if more of its requests fail than the attack
allows (none, but where the list below says otherwise), if half of them take more than half a second (more where the
attack leaves no place free), if memory grows or files take more than is allowed, if a descriptor or thread is not given
back within half a minute, or if the server does not stop. The server has its default options but where the list below
says otherwise.

This page is written by `make attacks ARGS="--page docs/attacks.md"`. It was measured on a virtual machine with two
processors, which server, attack and client shared with each other and with other work: the times are upper bounds.

{tables}

What each of them does, and what stands against it:

{items}

{peers}"""
PEERS = Path(__file__).with_name("peers.md")
TITLES = {"wsgi": "WSGI", "asgi": "ASGI and WebSockets"}


def page(outcomes: list[Outcome], seconds: float) -> str:
    """The page of the docs."""
    tables = []
    for interface, title in TITLES.items():
        rows = [outcome.row() for outcome in outcomes if outcome.interface == interface]
        if rows:
            tables.append("\n".join([f"## {title}", "", HEAD, *rows]))
    items = dict.fromkeys(outcome.attack.item for outcome in outcomes)
    tables_text, items_text, peers = "\n\n".join(tables), "\n".join(items), PEERS.read_text("utf-8")
    return PAGE.format(seconds=seconds, quiet=QUIET, tables=tables_text, items=items_text, peers=peers)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make attacks", description=__doc__)
    parser.add_argument("--interface", choices=[*BOTH, "all"], default="all", help="of the applications to attack")
    parser.add_argument("--only", action="append", default=[], help="attacks whose names hold this; may be repeated")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each lasts at least")
    parser.add_argument("--page", type=Path, help="file to write the page to")
    parser.add_argument("--server", help="the command of another server, with {port} and {app} in it")
    options = parser.parse_args()
    # Both sides of ten thousand connections are on this machine.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    interfaces = BOTH if options.interface == "all" else (options.interface,)
    outcomes: list[Outcome] = []
    print(HEAD, flush=True)
    for attack, interface in attacks(interfaces, options.only):
        seconds = max(options.seconds, attack.shortest)
        outcome = fight(attack, interface, attack.count, seconds, quiet=QUIET, server=options.server)
        outcomes.append(outcome)
        print(outcome.row(), flush=True)
        for defeat in outcome.defeats:
            print(f"make attacks: {attack.name} ({interface}): {defeat}", file=sys.stderr)
    if options.page is not None:
        options.page.write_text(page(outcomes, options.seconds), "utf-8")
    return 1 if any(outcome.defeats for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
