"""How the end of a process is told, and kills for want of memory, in folders that look like those of cgroups."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from wsgi.supervisor.ends import MemoryKills, described, work_of


class Cgroups:
    """Folders and files as the kernel has them."""

    def __init__(self, folder: Path, cgroup: str, events: str) -> None:
        self.events = folder / "cgroup" / events
        self.events.parent.mkdir(parents=True)
        self.process = folder / "process"
        self.process.write_text(cgroup)
        self.system = folder / "vmstat"
        self.system.write_text("nr_free_pages 5\noom_kill 70\n")
        self.root = folder / "cgroup"
        self.kills(3)

    def kills(self, count: int) -> None:
        self.events.write_text(f"low 0\nhigh 0\nmax 9\noom 8\noom_kill {count}\noom_group_kill 0\n")

    def counter(self) -> MemoryKills:
        return MemoryKills(self.root, self.process, self.system)


LAYOUTS = {
    "version-2": ("0::/system.slice/wsgi.service\n", "system.slice/wsgi.service/memory.events"),
    "version-2-in-a-container": ("0::/\n", "memory.events"),
    "version-2-path-of-the-host": ("0::/docker/0123\n", "memory.events"),
    "version-1": ("9:cpu,cpuacct:/x\n7:memory:/site\n", "memory/site/memory.oom_control"),
    "version-1-path-of-the-host": ("7:memory:/docker/0123\n", "memory/memory.oom_control"),
    "both": ("7:memory:/site\n1:name=systemd:/x\n0::/x\n", "memory/site/memory.oom_control"),
}


@pytest.mark.parametrize(("cgroup", "events"), LAYOUTS.values(), ids=LAYOUTS)
def test_kill_of_the_cgroup_is_told_once_each(tmp_path: Path, cgroup: str, events: str) -> None:
    cgroups = Cgroups(tmp_path, cgroup, events)
    kills = cgroups.counter()
    assert not kills.take()
    cgroups.kills(5)
    assert [kills.take() for _ in range(3)] == [True, True, False]
    # Those of other cgroups are not counted.
    cgroups.system.write_text("oom_kill 71\n")
    assert not kills.take()


@pytest.mark.parametrize("cgroup", ["0::/gone\n", "", "nonsense\n", "1:cpu:/\n"])
def test_kill_is_counted_by_the_system_where_the_cgroup_has_no_count(tmp_path: Path, cgroup: str) -> None:
    cgroups = Cgroups(tmp_path, cgroup, "other/memory.events")
    kills = cgroups.counter()
    cgroups.kills(5)
    assert not kills.take()
    cgroups.system.write_text("oom_kill 71\n")
    assert kills.take()


def test_kills_that_no_file_counts_are_none(tmp_path: Path) -> None:
    kills = MemoryKills(tmp_path, tmp_path / "process", tmp_path / "vmstat")
    assert not kills.take()
    (tmp_path / "vmstat").write_bytes(b"oom_kill many\n\xff")
    assert not kills.take()


def test_end_by_sigkill_is_told_as_a_want_of_memory_only_if_the_kernel_counted_it(tmp_path: Path) -> None:
    cgroups = Cgroups(tmp_path, *LAYOUTS["version-2"])
    kills = cgroups.counter()
    assert described(signal.SIGKILL, kills) == "was killed by SIGKILL"
    cgroups.kills(4)
    assert described(signal.SIGSEGV, kills) == "was killed by SIGSEGV"
    assert described(3 << 8, kills) == "exited with status 3"
    assert described(signal.SIGKILL, kills).startswith("was killed by SIGKILL because memory ran out: set max_memory")
    assert described(signal.SIGKILL, kills) == "was killed by SIGKILL"


def test_end_that_another_has_waited_for_is_told_as_unknown(tmp_path: Path) -> None:
    assert described(None, MemoryKills(tmp_path, tmp_path, tmp_path)) == "ended with an unknown status"


class Counters:
    """A page with the cells of two workers."""

    def __init__(self, running: int, queued: int) -> None:
        self.running, self.queued = running, queued

    def workers(self) -> list[dict[str, int]]:
        return [{"slot": 1, "running": 9, "queued": 9}, {"slot": 4, "running": self.running, "queued": self.queued}]


@pytest.mark.parametrize(
    ("running", "queued", "text"),
    [
        (0, 0, ""),
        (1, 0, " with 1 request running"),
        (3, 2, " with 3 requests running and 2 waiting"),
        (0, 2, " with 0 requests running and 2 waiting"),
    ],
)
def test_work_of_a_worker_that_ended_is_read_from_its_slot(running: int, queued: int, text: str) -> None:
    assert work_of(Counters(running, queued), 4) == text  # type: ignore[arg-type]


def test_work_of_a_worker_without_cells_is_none() -> None:
    assert work_of(Counters(1, 1), 7) == ""  # type: ignore[arg-type]
