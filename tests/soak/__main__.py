"""`make soak`: mixed load for some minutes (ARGS="--minutes 10"), and the trend of what the server holds meanwhile."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.soak.endurance import soak

ROUNDS_A_MINUTE = 6


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the load lasts")
    parser.add_argument("--samples", type=Path, help="file for all that was measured")
    options = parser.parse_args()
    report = soak(60 * options.minutes, max(8, round(ROUNDS_A_MINUTE * options.minutes)))
    print(f"{report.done.total():,} acts in {options.minutes:g} minutes, of these:")
    for name, count in report.done.most_common():
        print(f"  {count:>8,} {name}")
    for problem in report.problems:
        print(f"make soak: {problem}", file=sys.stderr)
    if report.problems:
        return 1
    print(report.table())
    if options.samples is not None:
        options.samples.write_text("\n".join(map(repr, report.samples)), "utf-8")
    for name in report.growing:
        print(f"make soak: {name}: grows by more than is allowed", file=sys.stderr)
    return 1 if report.growing else 0


if __name__ == "__main__":
    sys.exit(main())
