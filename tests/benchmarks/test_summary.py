"""Medians, their spread, ratios within a round, and what an error does to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report, summary
from benchmarks.results import Results
from benchmarks.summary import Sample


def samples(workload: str, server: str, *values: float) -> list[Sample]:
    return [Sample(workload, server, number, {"cpu_us": value}) for number, value in enumerate(values)]


TAKEN = [*samples("hello", "ours", 4, 5, 8), *samples("hello", "other", 8, 15, 8)]


def test_summary_is_the_median_with_the_extremes() -> None:
    found = summary.summary(TAKEN, "hello", "ours", "cpu_us")
    assert found == summary.Summary(median=5, low=4, high=8)
    assert found.spread == pytest.approx(0.4)
    assert summary.summary(TAKEN, "hello", "ours", "p99_ms") is None
    assert summary.summary(TAKEN, "hello", "nobody", "cpu_us") is None


def test_ratio_is_the_median_of_the_ratios_of_the_same_round() -> None:
    assert summary.ratio(TAKEN, "hello", "other", "ours", "cpu_us") == 2
    # The order in which samples were taken is no matter.
    assert summary.ratio(TAKEN[::-1], "hello", "other", "ours", "cpu_us") == 2


def test_error_in_one_round_voids_the_figure() -> None:
    failed = [*TAKEN, Sample("hello", "other", 3, error="3 of 5 requests failed")]
    assert summary.summary(failed, "hello", "other", "cpu_us") is None
    assert summary.ratio(failed, "hello", "other", "ours", "cpu_us") is None
    assert summary.ratio(failed, "hello", "ours", "other", "cpu_us") is None
    assert summary.summary(failed, "hello", "ours", "cpu_us") is not None


def test_tables_show_figures_ratios_and_errors() -> None:
    failing = Sample("hello", "failing", 0, error="a | b\nc")
    lines = report.details([*TAKEN, failing], "hello", "ours").splitlines()
    assert lines == [
        "| server | CPU µs per request | CPU to ours | errors |",
        "|---|---|---|---|",
        "| ours | 5.0 ±40% | 1.00 | 0 |",
        "| other | 8.0 ±44% | 2.00 | 0 |",
        r"| failing | error | - | a \| b c |",
    ]


def test_overview_has_a_line_for_each_workload_that_has_the_figure() -> None:
    taken = [
        *TAKEN,
        *samples("big", "ours", 1000),
        Sample("big", "other", 0, error="broken"),
        Sample("idle", "ours", 0, {"held": 10}),
        Sample("idle", "other", 0, error="broken"),
    ]
    titles = {"hello": "Hello", "big": "Big", "idle": "Idle"}
    assert report.overview(taken, titles, "cpu_us").splitlines() == [
        "| CPU µs per request | ours | other |",
        "|---|---|---|",
        "| Hello | 5.0 | 8.0 |",
        "| Big | 1,000.0 | error |",
    ]
    assert report.overview(taken, titles, "p99_ms") == ""


def test_overview_has_servers_in_the_order_of_their_table_and_floors_behind() -> None:
    taken = [*samples("hello", "kernel only", 1), *samples("hello", "granian", 2), *samples("hello", "wsgi", 3)]
    head = report.overview(taken, {"hello": "Hello"}, "cpu_us").splitlines()[0]
    assert head == "| CPU µs per request | wsgi | granian | kernel only |"


def test_results_survive_a_file_and_later_ones_replace_earlier_ones(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    Results({"system": "Linux"}, {"other": "1"}, {"rounds": "3"}, TAKEN).write(first)
    assert Results.read([first]).samples == TAKEN
    again = samples("hello", "ours", 2)
    Results({"system": "Linux"}, {"wsgi-server": "1"}, {"rounds": "1"}, again).write(second)
    both = Results.read([first, second])
    assert both.samples == TAKEN[3:] + again
    assert both.versions == {"other": "1", "wsgi-server": "1"}
