"""Whether a row of measurements grows: a straight line through them, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Trend:
    """The line of least squares through measurements.

    Parameters:
        slope: growth in a second.
        error: the standard error of the slope.
        seconds: between the first measurement and the last.
    """

    slope: float
    error: float
    seconds: float

    @property
    def growth(self) -> float:
        """What the line gains between the first measurement and the last."""
        return self.slope * self.seconds

    @property
    def noise(self) -> float:
        """What of that may be chance: two standard errors."""
        return 2 * self.error * self.seconds

    def is_flat(self, allowed: float) -> bool:
        """Whether the growth that is beyond chance is no more than allowed."""
        return self.growth - self.noise <= allowed


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Fits a line to three measurements or more."""
    count = len(times)
    if count < 3 or count != len(values):
        raise ValueError(f"a trend needs three measurements or more, each with its time, not {count}")
    middle, mean = sum(times) / count, sum(values) / count
    spread = sum((time - middle) ** 2 for time in times)
    slope = sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
    left = sum((value - mean - slope * (time - middle)) ** 2 for time, value in zip(times, values, strict=True))
    return Trend(slope, sqrt(left / (count - 2) / spread), times[-1] - times[0])
