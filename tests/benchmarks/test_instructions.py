"""Instructions are counted, and held against a baseline only where that says something."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import instructions
from benchmarks.callgrind import Profile
from benchmarks.instructions import Count

SURROUNDINGS = {"own": "rustc 1", "total": "rustc 1 Python 3"}
BASELINE = {"surroundings": SURROUNDINGS, "workloads": {"hello": {"own": 100, "total": 200}}}


def count(own: float, total: float) -> Count:
    return Count(total, own, 1, Profile([]))


def test_other_interpreter_leaves_only_the_extension_module_to_compare() -> None:
    assert instructions.comparable(BASELINE, {"own": "rustc 1", "total": "rustc 1 Python 4"}) == {"hello": {"own": 100}}


def test_other_compiler_leaves_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    baseline = instructions.comparable(BASELINE, {"own": "rustc 2", "total": "rustc 2 Python 3"})
    instructions.check({"hello": count(1000, 2000)}, baseline)
    assert "nothing was compared" in capsys.readouterr().out


@pytest.mark.parametrize(("own", "total"), [(104, 200), (100, 207)])
def test_dearer_request_fails_the_check(own: float, total: float) -> None:
    baseline = instructions.comparable(BASELINE, SURROUNDINGS)
    with pytest.raises(SystemExit, match=r"hello takes [34]\.\d% more instructions"):
        instructions.check({"hello": count(own, total)}, baseline)


def test_cheaper_request_and_one_within_the_tolerance_pass(capsys: pytest.CaptureFixture[str]) -> None:
    baseline = instructions.comparable(BASELINE, SURROUNDINGS)
    instructions.check({"hello": count(102, 150), "new": count(1, 1)}, baseline)
    assert capsys.readouterr().out == ""


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "baseline.json"
    path.write_text('{"surroundings": {}, "workloads": {}}')
    monkeypatch.setattr(instructions, "BASELINE", path)
    return path


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_server_is_counted_and_checked_against_what_was_written(
    baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instructions.main(["--workloads", "hello", "--requests", "100", "--functions", "5", "--write"])
    libraries, _, functions = capsys.readouterr().out.partition(" calls  function\n")
    assert "[_core." in libraries
    assert "[libc." in libraries
    assert len(functions.partition("\n\n")[0].splitlines()) == 5
    figures = json.loads(baseline.read_text())["workloads"]["hello"]
    # Both bounds are far away: a request is neither free, nor does anything else count as part of it.
    assert 1000 < figures["own"] < figures["total"] < 1_000_000
    instructions.main(["--workloads", "hello", "--requests", "100", "--check"])
    assert "(total)" in capsys.readouterr().out
