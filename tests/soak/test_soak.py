"""A few seconds of the soak, and its arithmetic. `make soak` is the long form."""

from __future__ import annotations

import sys

import pytest

from tests.soak.endurance import soak
from tests.soak.load import ACTS
from tests.soak.trend import trend

TIMES = [float(number) for number in range(20)]


def test_trend_of_a_leak_is_its_slope() -> None:
    found = trend(TIMES, [100 + 3 * time for time in TIMES])
    assert found.slope == pytest.approx(3)
    assert found.noise == pytest.approx(0)
    assert found.is_flat(57)
    assert not found.is_flat(56)


def test_trend_of_noise_is_flat() -> None:
    found = trend(TIMES, [100 + 10 * (number % 2) for number in range(20)])
    assert found.is_flat(0)


def test_trend_of_a_leak_within_noise_is_found() -> None:
    assert not trend(TIMES, [100 + 10 * (number % 2) + 3 * number for number in range(20)]).is_flat(30)


def test_trend_needs_three_measurements() -> None:
    with pytest.raises(ValueError, match="three measurements"):
        trend([0, 1], [1, 2])


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the server's process as Linux shows it")
def test_every_act_of_a_short_soak_comes_out_right_and_leaves_no_descriptor_or_thread() -> None:
    report = soak(4, rounds=4)
    assert report.problems == []
    assert set(report.done) == {act.__name__.replace("_", " ") for act in ACTS}
    held = [sample.held for sample in report.samples]
    assert {(each.descriptors, each.threads, each.spooled) for each in held} == {
        (held[0].descriptors, held[0].threads, 0)
    }
    assert report.table().count("\n") == 1 + len(report.measures)
