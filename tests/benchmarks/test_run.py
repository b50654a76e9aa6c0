"""The benchmark runs, and its table says what was measured."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_run", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_table_shows_the_median_of_ratios_of_the_same_round(run: ModuleType) -> None:
    def sample(server: str, cpu: float, errors: int = 0) -> object:
        return run.Sample(server, "hello", 1000, errors, cpu, 5000.0, 1.5)

    rounds = [(4.0, 8.0), (5.0, 15.0), (8.0, 8.0)]
    samples = [sample(*pair) for own, other in rounds for pair in (("wsgi", own), ("other", other))]
    samples[-1] = sample("other", 8.0, errors=3)
    lines = run.table(samples).splitlines()
    assert lines[2:] == [
        "| hello | wsgi | 5.0 | 1.00 | 5,000 | 1.5 | 0 |",
        "| hello | other | 8.0 | 2.00 | 5,000 | 1.5 | 3 |",
    ]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs the load generator wrk")
def test_short_run_measures_this_server_without_errors(
    run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    run.main(["--rounds", "1", "--seconds", "1", "--servers", "wsgi", "--json", str(report)])
    samples = json.loads(report.read_text())
    assert [sample["workload"] for sample in samples] == list(run.WORKLOADS)
    assert all(sample["requests"] > 0 and sample["errors"] == 0 for sample in samples)
    assert "| hello | wsgi |" in capsys.readouterr().out
