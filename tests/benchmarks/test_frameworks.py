"""The comparison of frameworks runs, and its table says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import frameworks


def test_table_shows_medians_and_the_ratios_of_the_same_round() -> None:
    times = {
        "own": {"hello": [1.0, 2.0, 4.0], "JSON": [1.0], "int parameter": [3.0]},
        "other": {"hello": [3.0, 4.0, 4.0], "JSON": [2.5], "int parameter": [1.5]},
    }
    assert frameworks.table(times).splitlines()[2:] == [
        "| own | 2.00 (1.00) | 1.00 (1.00) | 3.00 (1.00) |",
        "| other | 4.00 (2.00) | 2.50 (2.50) | 1.50 (0.50) |",
    ]


def test_short_run_measures_every_framework(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    frameworks.main(["--rounds", "1", "--calls", "10", "--json", str(report)])
    times = json.loads(report.read_text("utf-8"))
    assert list(times) == ["wsgi", "falcon", "bottle", "flask"]
    assert all(set(kinds) == set(frameworks.PATHS) for kinds in times.values())
    assert capsys.readouterr().out.count("\n| ") == 4
