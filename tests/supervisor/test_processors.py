"""Counting processors: affinity and the quotas of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsgi.processors import usable_processors


def cgroup(folder: Path, membership: str, **files: str) -> tuple[Path, Path]:
    process = folder / "process"
    process.write_text(membership)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder, process


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("max 100000", 4),
        ("garbage", 4),
        ("1 0", 4),
        ("900000 100000", 4),
    ],
)
def test_quota_of_a_cgroup_limits_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    folder, process = cgroup(tmp_path, "0::/a/b\n", a__b__cpu_DOT_max=quota)
    assert usable_processors(folder, process) == expected


def test_quota_of_an_outer_cgroup_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    folder, process = cgroup(tmp_path, "0::/a/b\n", a__cpu_DOT_max="300000 100000", a__b__cpu_DOT_max="max 100000")
    assert usable_processors(folder, process) == 3


def test_quota_of_version_1_limits_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    files = {"cpu__x__cpu_DOT_cfs_quota_us": "200000\n", "cpu__x__cpu_DOT_cfs_period_us": "100000\n"}
    folder, process = cgroup(tmp_path, "3:memory:/x\n2:cpu,cpuacct:/x\n", **files)
    assert usable_processors(folder, process) == 2


def test_without_cgroups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert usable_processors(tmp_path, tmp_path / "missing") == 1
