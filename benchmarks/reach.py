"""What this server is meant to reach, beside others and beside floors, and what was measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import FIGURES
from benchmarks.floor import IN_PROCESS, KERNEL
from benchmarks.servers import OURS
from benchmarks.summary import Sample, ratio, summary

LOG_OFF = f"{OURS}, log off"
_NO_PEERS = (OURS, LOG_OFF, KERNEL, IN_PROCESS)


@dataclass(frozen=True)
class Reach:
    """One aim.

    Parameters:
        workload: its name.
        figure: its name.
        bound: a factor on what others have, or a figure by itself.
        others: whose figure counts, the best of them if they are several; every peer's if there is none named.
        absolute: whether the bound is a figure by itself.
        at_least: whether more is better.
    """

    workload: str
    figure: str
    bound: float
    others: tuple[str, ...] = ()
    absolute: bool = False
    at_least: bool = False

    def aim(self) -> str:
        relation = "≥" if self.at_least else "≤"
        if self.absolute:
            return f"{relation} {self.bound:g}"
        names = " and ".join(self.others) or "all peers"
        return f"{relation} {self.bound:g} × {names if len(self.others) == 1 else f'best of {names}'}"

    def measured(self, samples: Sequence[Sample]) -> float | None:
        """Ours beside the bound: a figure by itself, or as a multiple of the best of the others."""
        if self.absolute:
            own = summary(samples, self.workload, OURS, self.figure)
            return own.median if own else None
        best = self._best(samples)
        return ratio(samples, self.workload, OURS, best, self.figure) if best else None

    def is_met(self, measured: float) -> bool:
        return measured >= self.bound if self.at_least else measured <= self.bound

    def _best(self, samples: Sequence[Sample]) -> str | None:
        peers = {sample.server for sample in samples if sample.server not in _NO_PEERS}
        medians = {
            name: found.median
            for name in sorted(self.others or peers)
            if (found := summary(samples, self.workload, name, self.figure))
        }
        if not medians:
            return None
        return (max if self.at_least else min)(medians, key=lambda name: medians[name])


REACHES = [
    Reach("hello", "cpu_us", 0.72, ("fastwsgi",)),
    Reach("hello", "cpu_us", 1.25, (KERNEL,)),
    Reach("10k", "cpu_us", 0.78, ("fastwsgi",)),
    Reach("1m", "cpu_us", 1.02, ("fastwsgi", "uwsgi")),
    Reach("1m", "cpu_us", 1.05, (KERNEL,)),
    Reach("echo", "cpu_us", 0.70, ("fastwsgi",)),
    Reach("generator", "cpu_us", 0.25, ("fastwsgi",)),
    Reach("generator", "per_second", 10, ("fastwsgi",), at_least=True),
    Reach("slow-generator", "delay_max_ms", 10, absolute=True),
    Reach("new-connections", "cpu_us", 0.9),
    Reach("flask", "cpu_us", 0.95, ("bjoern",)),
    Reach("flask-json", "cpu_us", 0.95, ("bjoern",)),
    Reach("django", "cpu_us", 1),
    Reach("sleeping", "per_second", 0.98, at_least=True),
    Reach("sleeping", "cpu_us", 1),
    Reach("sleeping", "p99_ms", 1.1),
    Reach("mix", "hello_per_second", 2, ("granian",), at_least=True),
    Reach("mix", "hello_p99_ms", 1, ("granian",)),
    Reach("mix", "sleepers_per_second", 0.98, at_least=True),
    Reach("computing", "per_second", 0.99, at_least=True),
    Reach("computing", "p99_ms", 0.5, ("granian",)),
    Reach("idle", "bytes_each", 100, absolute=True),
    Reach("idle", "held", 10_000, absolute=True, at_least=True),
    # Time beside 100 readers that hold no worker; where they held the four there are, nobody would be served.
    Reach("readers", "served_ms", 500, absolute=True),
    Reach("readers", "growth_mib", 2, absolute=True),
    Reach("access-log", "cpu_us", 1.05, (LOG_OFF,)),
]


def table(samples: Sequence[Sample], titles: dict[str, str]) -> str:
    """All aims of the workloads that were measured, and whether they are met."""
    lines = ["| workload | figure | reach | measured | met |", "|---|---|---|---|---|"]
    for reach in REACHES:
        if reach.workload not in titles:
            continue
        measured = reach.measured(samples)
        if measured is None:
            text, met = "not measured", "-"
        else:
            text = FIGURES[reach.figure].text(measured) if reach.absolute else f"{measured:.2f} ×"
            met = "yes" if reach.is_met(measured) else "no"
        lines.append(f"| {titles[reach.workload]} | {FIGURES[reach.figure].title} | {reach.aim()} | {text} | {met} |")
    return "\n".join(lines) if len(lines) > 2 else ""
