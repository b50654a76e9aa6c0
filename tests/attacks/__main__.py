"""`make attacks`: every attack in its long form, one after the other, and the table of what came of them.

`--only WORDS` picks attacks by name, `--seconds` says how long each lasts, `--page FILE` writes the page of the docs.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

from tests.attacks.battle import HEAD, Outcome, fight
from tests.attacks.catalogue import ATTACKS

PAGE = """\
# Attacks

`make attacks` lets hostile clients loose on a server, one kind after the other, each for {seconds:g} seconds after all
of them have connected. Meanwhile another client asks for a small page about fifty times a second, on connections of its
own. The run fails if one of its requests fails, if memory grows or files take more than is allowed, or if a descriptor
or thread is not given back within half a minute. The server has its default options but where the table below says
otherwise.

This page is written by `make attacks ARGS="--page docs/attacks.md"`. It was measured on a virtual machine with two
processors, which server, attack and client shared with each other and with other work: the times are upper bounds.

{table}

What each of them does, and what stands against it:

{explanations}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make attacks", description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose names hold this")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each lasts")
    parser.add_argument("--page", type=Path, help="file to write the page to")
    options = parser.parse_args()
    # Both sides of ten thousand connections are on this machine.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    chosen = [attack for attack in ATTACKS if options.only in attack.name]
    outcomes: list[Outcome] = []
    print(HEAD, flush=True)
    for attack in chosen:
        outcome = fight(attack, attack.count, options.seconds)
        outcomes.append(outcome)
        print(outcome.row(), flush=True)
        for defeat in outcome.defeats:
            print(f"make attacks: {attack.name}: {defeat}", file=sys.stderr)
    if options.page is not None:
        table = "\n".join([HEAD, *(outcome.row() for outcome in outcomes)])
        explanations = "\n".join(f"- **{attack.name}**: {attack.explanation}" for attack in chosen)
        options.page.write_text(PAGE.format(seconds=options.seconds, table=table, explanations=explanations), "utf-8")
    return 1 if any(outcome.defeats for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
