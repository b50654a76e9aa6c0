"""Load for a long time, and whether what the server holds stays what it is."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from tests.attacks.victim import MIB, Held, Victim, held, settled
from tests.soak.load import Load
from tests.soak.trend import Trend, trend

WARM_UP = 0.25
"""The share of the measurements that counts as warm-up: pools fill, caches grow, the allocator finds its size."""
REST = 10.0
"""Seconds in which what clients left behind must be noticed."""


MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""What a thread of glibc's keeps for itself counts as given out, and grows until each thread has met every size."""


@dataclass(frozen=True)
class Sample:
    """What the server held when nobody asked for anything."""

    at: float
    """Seconds since the beginning."""
    held: Held
    state: dict[str, int]


@dataclass(frozen=True)
class Measure:
    """One thing that must not grow."""

    name: str
    allowed: float
    """Growth over the whole run that is no leak: what an allocator or a counter of the interpreter's own may do."""
    values: list[float]

    def trend(self, times: list[float]) -> Trend:
        """The trend behind the warm-up."""
        begin = int(WARM_UP * len(times))
        return trend(times[begin:], self.values[begin:])


@dataclass
class Report:
    """What came of a soak."""

    samples: list[Sample]
    done: Counter[str]
    problems: list[str]

    @property
    def measures(self) -> list[Measure]:
        """All that was watched."""
        return [
            Measure("memory, MiB", 3, [sample.held.resident / MIB for sample in self.samples]),
            # The table of deadlines doubles with the connections of ten seconds, and shrinks: 384 KiB up and down.
            Measure("of it given out by malloc, KiB", 512, [sample.state["heap"] / 1024 for sample in self.samples]),
            Measure("descriptors", 0, [sample.held.descriptors for sample in self.samples]),
            Measure("threads", 0, [sample.held.threads for sample in self.samples]),
            Measure("temporary files, MiB", 0, [sample.held.spooled / MIB for sample in self.samples]),
            Measure("Python objects", 200, [sample.state["objects"] for sample in self.samples]),
            Measure("Python memory blocks", 500, [sample.state["blocks"] for sample in self.samples]),
        ]

    @property
    def times(self) -> list[float]:
        """When the samples were taken."""
        return [sample.at for sample in self.samples]

    @property
    def growing(self) -> list[str]:
        """Names of what is not flat."""
        times = self.times
        return [measure.name for measure in self.measures if not measure.trend(times).is_flat(measure.allowed)]

    def table(self) -> str:
        """The report as a page shows it."""
        lines = [
            "| held by the server | after warm-up | at the end | slope a minute | growth | of it chance | allowed | |",
            "|---|---|---|---|---|---|---|---|",
        ]
        times = self.times
        begin = int(WARM_UP * len(times))
        for measure in self.measures:
            found = measure.trend(times)
            flat = "flat" if found.is_flat(measure.allowed) else "grows"
            lines.append(
                f"| {measure.name} | {measure.values[begin]:,.5g} | {measure.values[-1]:,.5g} "
                f"| {60 * found.slope:+.3g} | {found.growth:+.3g} | {found.noise:.2g} | {measure.allowed:g} | {flat} |"
            )
        return "\n".join(lines)


def soak(seconds: float, rounds: int) -> Report:
    """Loads a fresh server for so long, and looks at it after each of `rounds` equal parts."""
    samples: list[Sample] = []
    with Victim("--threads", "8", "--access-log", "/dev/null", env=MALLOC) as victim:
        load = Load(victim.address)
        began = time.monotonic()
        baseline = held(victim.pid)
        for _ in range(rounds):
            load.run(seconds / rounds)
            for _ in settled(victim.pid, baseline, REST):
                pass
            # The application's own look at itself comes first: it makes objects.
            state = victim.state()
            for now in settled(victim.pid, baseline, REST):
                last = now
            samples.append(Sample(time.monotonic() - began, last, state))
            if load.problems:
                break
    return Report(samples, load.done, load.problems)
