"""The page of counters: its cells, its slots, and what it has of real processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.supervisor.test_processes import Site, wait_until
from wsgi._core import Page, Server
from wsgi.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

CELLS = ("pid", "target", "generation", "reloads_begun", "reloads_done", "reloads_failed")


def test_page_cells_are_zero_until_they_are_set_and_shared_by_every_mapping() -> None:
    page = Page(2)
    others = [Page.open(page.fileno()), Page.open(f"/proc/self/fd/{page.fileno()}")]
    for value, name in enumerate(CELLS, 2**40):
        assert page.get(name) == 0
        page.set(name, value)
        assert [other.get(name) for other in others] == [value, value]


def test_page_is_shared_by_a_forked_process() -> None:
    page = Page(1)
    pid = os.fork()
    if pid == 0:
        try:
            page.set("target", 7)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert page.get("target") == 7


def test_page_slots_are_given_from_the_lowest_and_taken_back() -> None:
    page = Page(3)
    assert page.slots == 3
    assert page.workers() == []
    assert [page.take_slot(generation) for generation in (1, 1, 2)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="every slot of the page is taken"):
        page.take_slot(2)
    page.release_slot(1)
    # There is no such slot, and nothing to release.
    page.release_slot(3)
    assert [(worker["slot"], worker["generation"]) for worker in page.workers()] == [(0, 1), (2, 2)]
    assert page.take_slot(3) == 1


@pytest.mark.parametrize(("slots", "shards"), [(0, 1), (4097, 1), (1, 0), (1, 4097)])
def test_page_of_a_wrong_size_is_refused(slots: int, shards: int) -> None:
    with pytest.raises(ValueError, match="a page has 1 to 4096 slots, of 1 to 4096 shards"):
        Page(slots, shards=shards)


def test_page_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(65536))
    with pytest.raises(ValueError, match="does not hold shared counters"):
        Page.open(str(path))
    with pytest.raises(FileNotFoundError):
        Page.open(str(tmp_path / "missing"))
    for number in (-1, 1_000_000):
        with pytest.raises(OSError, match="Bad file descriptor"):
            Page.open(number)


def test_page_cell_of_an_unknown_name_is_refused() -> None:
    page = Page(1)
    with pytest.raises(ValueError, match="no cell has the name connections"):
        page.get("connections")
    with pytest.raises(ValueError, match="no cell has the name layout"):
        page.set("layout", 1)


@pytest.mark.parametrize(("slot", "shards", "why"), [(2, 1, "no slot 2"), (0, 3, "room for 2 shards, not for 3")])
def test_run_whose_place_the_page_does_not_have_is_refused(slot: int, shards: int, why: str) -> None:
    server = Server(Settings.from_keywords(host="127.0.0.1", port=0))
    try:
        with pytest.raises(ValueError, match=why):
            server.start(print, [{}], shards=shards, page=Page(2, shards=2), slot=slot)
    finally:
        server.close()


def page_of(pid: int) -> Page:
    """The page of a supervisor."""
    (path,) = [
        entry for entry in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(entry).startswith("/memfd:wsgi-counters")
    ]
    return Page.open(str(path))


def test_supervisor_publishes_its_decisions_and_its_workers(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.served("--workers", "2") as command:
        page = page_of(command.process.pid)

        def cells() -> list[int]:
            return [page.get(name) for name in CELLS]

        assert cells() == [command.process.pid, 2, 1, 0, 0, 0]
        assert sorted(worker["pid"] for worker in page.workers()) == site.answering()
        site.reload("two")
        assert cells() == [command.process.pid, 2, 2, 1, 1, 0]
        wait_until(lambda: [worker["generation"] for worker in page.workers()] == [2, 2])
        site.at_import("1 / 0")
        site.signal(signal.SIGHUP)
        wait_until(lambda: page.get("reloads_failed") == 1)
        assert cells() == [command.process.pid, 2, 2, 2, 1, 1]
        site.signal(signal.SIGTTIN)
        wait_until(lambda: page.get("target") == 3)
        site.at_import("")


def test_worker_that_is_killed_loses_its_slot(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.served("--workers", "2") as command:
        page = page_of(command.process.pid)
        killed = page.workers()[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in [worker["pid"] for worker in page.workers()])
        wait_until(lambda: sorted(worker["pid"] for worker in page.workers()) == site.answering())
