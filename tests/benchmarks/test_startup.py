"""The start of servers is measured, and the table says what was measured."""

from __future__ import annotations

import pytest

from benchmarks import startup


def test_table_shows_what_is_beyond_the_import_of_the_same_round() -> None:
    lines = startup.table({"one": [100.0, 300.0, 150.0], "other": [50.0, 60.0, 90.0]}, [40.0, 60.0, 50.0]).splitlines()
    assert lines[2:] == ["| one | 150 | 100 |", "| other | 60 | 10 |"]


def test_short_run_measures_our_server(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["--rounds", "1", "--servers", "wsgi"])
    (line,) = capsys.readouterr().out.splitlines()[2:]
    assert line.startswith("| wsgi | ")
