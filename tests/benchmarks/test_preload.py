"""The memory of workers is measured with and without preload, and the table says what was measured."""

from __future__ import annotations

import sys

import pytest

from benchmarks import preload


def test_table_shows_what_preload_saves() -> None:
    lines = preload.table({"one": (100.0, 60.0)}, 4).splitlines()
    assert lines == [
        "| application | 4 workers | with `--preload` | less |",
        "|---|---|---|---|",
        "| one | 100 MiB | 60 MiB | 40 % |",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="preload needs Linux")
def test_short_run_measures_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    preload.main(["--workers", "2", "--requests", "5", "--target", "plain=benchmarks.apps.plain:hello"])
    (line,) = capsys.readouterr().out.splitlines()[2:]
    name, without, preloaded = line.strip("| ").split(" | ")[:3]
    assert name == "plain"
    assert 0 < float(preloaded.split()[0]) < 2 * float(without.split()[0])
