"""Aims are held against the right opponent, in the right direction."""

from __future__ import annotations

import pytest

from benchmarks import reach
from benchmarks.figures import FIGURES
from benchmarks.floor import KERNEL
from benchmarks.reach import REACHES, Reach
from benchmarks.servers import OURS, WSGI, servers
from benchmarks.summary import Sample
from benchmarks.workloads import workloads


def sample(server: str, cpu: float, rate: float) -> Sample:
    return Sample("hello", server, 0, {"cpu_us": cpu, "per_second": rate})


TAKEN = [sample(OURS, 5, 100), sample("fast", 10, 80), sample("slow", 20, 50), sample(KERNEL, 4, 200)]


@pytest.mark.parametrize(
    ("aim", "measured", "met"),
    [
        (Reach("hello", "cpu_us", 0.6), 0.5, True),
        (Reach("hello", "cpu_us", 0.4), 0.5, False),
        (Reach("hello", "cpu_us", 0.3, ("slow",)), 0.25, True),
        (Reach("hello", "cpu_us", 0.6, ("slow", "fast")), 0.5, True),
        (Reach("hello", "cpu_us", 1.2, (KERNEL,)), 1.25, False),
        (Reach("hello", "per_second", 1.3, at_least=True), 1.25, False),
        (Reach("hello", "per_second", 2, ("slow",), at_least=True), 2, True),
        (Reach("hello", "cpu_us", 5, absolute=True), 5, True),
        (Reach("hello", "per_second", 101, absolute=True, at_least=True), 100, False),
    ],
)
def test_ours_is_held_against_the_best_of_those_meant(aim: Reach, measured: float, met: bool) -> None:
    assert aim.measured(TAKEN) == measured
    assert aim.is_met(measured) is met


def test_what_was_not_measured_or_failed_is_not_met_by_silence() -> None:
    aim = Reach("hello", "cpu_us", 0.5, ("absent",))
    assert aim.measured(TAKEN) is None
    failed = [*TAKEN, Sample("hello", OURS, 1, error="1 of 2 requests failed")]
    assert Reach("hello", "cpu_us", 0.5).measured(failed) is None
    assert "| not measured | - |" in reach.table(failed, {"hello": "hello"})


def test_every_aim_names_what_there_is() -> None:
    names = {workload.name for workload in workloads(WSGI)}
    opponents = {server.name for server in servers(WSGI)} | {KERNEL, reach.LOG_OFF}
    for aim in REACHES:
        assert aim.workload in names
        assert aim.figure in FIGURES
        assert set(aim.others) <= opponents
    # Each workload has an aim.
    assert {aim.workload for aim in REACHES} == names


def test_table_says_aim_measure_and_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "REACHES", [Reach("hello", "cpu_us", 0.4, ("fast", "slow")), Reach("idle", "held", 1)])
    assert reach.table(TAKEN, {"hello": "Hello"}).splitlines()[2:] == [
        "| Hello | CPU µs per request | ≤ 0.4 × best of fast and slow | 0.50 × | no |"
    ]
    assert reach.table(TAKEN, {}) == ""
