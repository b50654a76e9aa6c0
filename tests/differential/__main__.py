"""Compares more cases than a test run does: `python -m tests.differential --cases 1000000 --seed 7`."""

from __future__ import annotations

import argparse
import itertools
import sys

from tests.differential.cases import generated
from tests.differential.comparing import Difference, compare, explained

BATCH = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000, help="how many; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn; default: %(default)s")
    options = parser.parse_args()
    rows = explained()
    unexplained: dict[Difference, bytes] = {}
    cases = generated(options.cases, options.seed)
    while batch := list(itertools.islice(cases, BATCH)):
        for difference, case in compare(batch).items():
            if not difference.explained or (difference.ours, difference.other) not in rows:
                unexplained.setdefault(difference, case)
    for difference, case in unexplained.items():
        print(f"{difference.ours} ({difference.other}): {case!r}")
    print(
        f"{options.cases} cases, {len(unexplained)} classes of disagreement that docs/differential.md does not explain"
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
