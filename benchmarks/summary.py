"""From samples to what is said about them: medians over rounds, their spread, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One server in one round of one workload.

    Parameters:
        workload: its name.
        server: its name.
        round: its number, from 0.
        figures: by name; empty where there was an error.
        error: why there are none.
    """

    workload: str
    server: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """A figure over all rounds.

    Parameters:
        median: of the rounds.
        low: the smallest.
        high: the largest.
    """

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half the distance between the extremes, as a fraction of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def of(samples: Sequence[Sample], workload: str, server: str) -> list[Sample]:
    return [sample for sample in samples if (sample.workload, sample.server) == (workload, server)]


def errors(samples: Sequence[Sample], workload: str, server: str) -> list[str]:
    """What went wrong. One round with an error makes the others doubtful, too: no figure is given."""
    return [sample.error for sample in of(samples, workload, server) if sample.error]


def summary(samples: Sequence[Sample], workload: str, server: str, figure: str) -> Summary | None:
    """A figure of a server, unless it was not measured or voided by an error."""
    if errors(samples, workload, server):
        return None
    values = [sample.figures[figure] for sample in of(samples, workload, server) if figure in sample.figures]
    return Summary(statistics.median(values), min(values), max(values)) if values else None


def ratio(samples: Sequence[Sample], workload: str, server: str, other: str, figure: str) -> float | None:
    """How a server's figure relates to another's: the median of the ratios within each round.

    What else the machine does hits the servers of one round alike, so this is steadier than a ratio of medians.
    """
    if errors(samples, workload, server) or errors(samples, workload, other):
        return None
    others = {sample.round: sample.figures.get(figure) for sample in of(samples, workload, other)}
    ratios = [
        sample.figures[figure] / divisor
        for sample in of(samples, workload, server)
        if figure in sample.figures and (divisor := others.get(sample.round))
    ]
    return statistics.median(ratios) if ratios else None
