"""Workers that are replaced by number of requests, age and memory: what is drawn and measured, and real processes."""

from __future__ import annotations

import mmap
import os
import re
import select
import sys
import threading
from pathlib import Path

import pytest

from tests.supervisor.test_processes import ASGI_APP, Site, site, wait_until
from tests.support import RawClient, run
from wsgi.errors import ConfigError
from wsgi.server import WSGIServer
from wsgi.settings import Settings
from wsgi.supervisor.recycling import RecyclingLimits, private_memory

__all__ = ["site"]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

GROWING_APP = """
import os
KEPT = []
def app(environ, start_response):
    if environ["PATH_INFO"] == "/grow":
        KEPT.append(b"x" * (200 << 20))
    start_response("200 OK", [])
    return [f"one {os.getpid()} True".encode()]
"""


def settings(**options: object) -> Settings:
    return Settings.from_keywords(workers=1, **options)


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "share", "limit"),
    [
        ({"max_requests": 1000}, 0.0, 1000),
        ({"max_requests": 1000}, 1.0, 1100),
        ({"max_requests": 1000, "max_requests_jitter": 50}, 1.0, 1050),
        ({"max_requests": 1000, "max_requests_jitter": 5000}, 0.5, 3500),
        ({"max_requests": 1}, 1.0, 1),
        ({}, 1.0, 0),
    ],
)
def test_limit_of_requests_is_drawn_from_the_option_up_to_the_jitter(
    options: dict[str, int], share: float, limit: int
) -> None:
    limits = RecyclingLimits(settings(**options), lambda: share)
    assert limits.requests == limit
    limits.close()


def test_limits_of_two_workers_differ() -> None:
    drawn = set()
    for _ in range(20):
        limits = RecyclingLimits(settings(max_requests=1_000_000))
        drawn.add(limits.requests)
        assert 1_000_000 <= limits.requests <= 1_100_000
        limits.close()
    assert len(drawn) > 1


def test_worker_without_limits_never_wakes_for_them() -> None:
    limits = RecyclingLimits(settings())
    assert (limits.descriptors(), limits.due_in(), limits.reached()) == ([], None, "")


def test_limit_of_requests_is_reached_when_the_engine_signals() -> None:
    limits = RecyclingLimits(settings(max_requests=7), lambda: 0.0)
    assert limits.reached() == ""
    assert limits.due_in() is None
    os.write(limits.signal, b"\0")
    assert select.select(limits.descriptors(), [], [], 0)[0] == limits.descriptors()
    assert limits.reached() == "it has answered 7 requests (max_requests 7)"
    limits.close()
    assert limits.descriptors() == []


def test_limit_of_requests_whose_descriptor_was_closed_or_replaced_is_not_reached() -> None:
    limits = RecyclingLimits(settings(max_requests=7))
    (descriptor,) = limits.descriptors()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, descriptor)
    os.close(null)
    assert limits.reached() == ""
    limits.close()


def test_limit_of_age_is_due_within_a_tenth_after_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    limits = RecyclingLimits(settings(max_age=60), lambda: 0.5)
    assert limits.due_in() == pytest.approx(63)
    now = 162.0
    assert limits.reached() == ""
    assert limits.due_in() == pytest.approx(1)
    now = 163.1
    assert limits.reached() == "it is 63 s old (max_age 60 s)"


@linux_only
def test_limit_of_memory_is_measured_once_a_second_and_reached_by_what_grows() -> None:
    grown = private_memory() + (64 << 20)
    limits = RecyclingLimits(settings(max_memory=grown), lambda: 0.0)
    assert limits.due_in() == 1.0
    assert limits.reached() == ""
    kept = b"x" * (128 << 20)
    found = re.fullmatch(r"it uses (\d+) MiB \(max_memory (\d+) MiB\)", limits.reached())
    assert found is not None
    assert int(found[1]) > int(found[2])
    assert len(kept) == 128 << 20


@linux_only
def test_private_memory_does_not_count_what_another_process_shares() -> None:
    before = private_memory()
    with mmap.mmap(-1, 64 << 20) as shared:
        shared.write(b"x" * (64 << 20))
        reader, writer = os.pipe()
        ready, ready_writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            # Touches every page, so that both have it.
            shared.seek(0)
            shared.read()
            os.write(ready_writer, b"\0")
            os.read(reader, 1)
            os._exit(0)
        os.read(ready, 1)
        assert private_memory() < before + (32 << 20)
        os.write(writer, b"\0")
        os.waitpid(pid, 0)
        for descriptor in (reader, writer, ready, ready_writer):
            os.close(descriptor)


def test_private_memory_is_the_resident_one_where_there_is_no_rollup(tmp_path: Path) -> None:
    assert private_memory(tmp_path) == 0
    (tmp_path / "statm").write_text("500 200 100 1 0 150 0\n")
    page = os.sysconf("SC_PAGE_SIZE")
    assert private_memory(tmp_path) == 200 * page
    (tmp_path / "status").write_text("Name:\tx\nVmSwap:\t      40 kB\n")
    assert private_memory(tmp_path) == 200 * page + 40 * 1024
    rollup = "00-ff ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPrivate_Clean: 8 kB\nPrivate_Dirty: 100 kB\nSwapPss: 40 kB\n"
    (tmp_path / "smaps_rollup").write_text(rollup)
    assert private_memory(tmp_path) == 148 * 1024
    # What is far from a limit is not measured exactly.
    assert private_memory(tmp_path, at_least=1 << 30) == 200 * page + 40 * 1024


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"max_requests": 10}, {"max_age": 60}, {"max_memory": "512M"}, {"max_requests": 5, "max_age": 60}]
)
def test_limits_without_workers_are_refused(options: dict[str, object]) -> None:
    name = next(iter(options))
    with pytest.raises(ConfigError, match=f"^{name} needs workers \\(from keyword {name}\\)$"):
        WSGIServer(port=0, **options)  # type: ignore[arg-type]


def test_jitter_without_max_requests_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^max_requests_jitter needs max_requests \(from keyword"):
        settings(max_requests_jitter=10)


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--max-requests=-1", "max_requests must be a whole number from 0 to"),
        ("--max-requests=many", "max_requests must be a whole number from 0 to"),
        ("--max-age=soon", "max_age must be a time from 1 s"),
        ("--max-memory=-1", "max_memory must be a size"),
    ],
)
def test_wrong_limit_is_refused_in_one_line(tmp_path: Path, flag: str, problem: str) -> None:
    done = run("site_app:app", "--workers", "1", flag, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert problem in done.stderr


# -- processes --------------------------------------------------------------------------------------------------------


@linux_only
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_worker_is_replaced_after_its_requests_and_none_is_lost(tmp_path: Path, app: str) -> None:
    site = Site(tmp_path) if app == "wsgi" else Site(tmp_path, ASGI_APP)
    with site.served("--workers", "1", "--max-requests", "20", "--max-requests-jitter", "1") as command:
        answered: dict[int, int] = {}

        def ask() -> bool:
            pid = site.ask()[1]
            answered[pid] = answered.get(pid, 0) + 1
            return len(answered) > 2

        wait_until(ask)
        first, *_, _ = answered.values()
        line = command.stderr.wait_for(" is recycled: it has answered 2")
        assert re.search(r"worker \d+ is recycled: it has answered 2[01] requests \(max_requests 20\)", line)
        # The successor starts meanwhile, which takes a moment.
        assert first >= 20
        assert command.stop() == 0
    assert not any("replaced" in line for line in command.stderr.seen)


@linux_only
@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_worker_of_a_program_with_a_default_timeout_waits_for_its_successor(
    site: Site, options: tuple[str, ...]
) -> None:
    # The successor serves only after several of these timeouts.
    site.at_import("import socket; socket.setdefaulttimeout(0.1)\nif (HERE / 'slow').exists(): time.sleep(1)")
    with site.served("--workers", "1", "--max-requests", "1", *options) as command:
        (site.folder / "slow").write_text("")
        first = site.ask()[1]
        command.stderr.wait_for(f"worker {first} is recycled")
        wait_until(lambda: first not in site.answering())
        assert command.stop() == 0
    assert not any("supervisor has gone" in line for line in command.stderr.seen)


@linux_only
def test_worker_is_replaced_at_its_age(site: Site) -> None:
    with site.served("--workers", "2", "--max-age", "1") as command:
        before = site.answering()
        wait_until(lambda: not set(before) & set(site.answering()))
        assert re.search(r"is recycled: it is 1 s old \(max_age 1 s\)", command.stderr.wait_for("is recycled"))
        assert site.ask()[0] == "one"


@linux_only
@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_worker_that_eats_memory_is_replaced_and_harms_no_other(site: Site, options: tuple[str, ...]) -> None:
    (site.folder / "site_app.py").write_text(GROWING_APP)
    with site.served("--workers", "2", "--max-memory", "150M", *options) as command:
        eater = site.ask(b"/grow")[1]
        line = command.stderr.wait_for(f"worker {eater} is recycled: it uses ")
        found = re.search(r"it uses (\d+) MiB \(max_memory 150 MiB\)", line)
        assert found is not None
        assert int(found[1]) >= 200
        wait_until(lambda: eater not in site.answering())
        assert site.ask()[1] != eater
        assert command.stop() == 0


@linux_only
def test_workers_that_all_exceed_max_memory_are_replaced_ever_later(site: Site) -> None:
    with site.served("--workers", "1", "--max-memory", "1M") as command:
        for _ in range(4):
            line = command.stderr.wait_for("is recycled: it uses")
        found = re.search(r"it had served for less than 10 s, so the next starts in ([\d.]+) s$", line)
        assert found is not None
        assert float(found[1]) >= 0.5
        assert site.ask()[0] == "one"


@linux_only
def test_worker_with_a_limit_of_requests_does_not_wake_while_idle(site: Site) -> None:
    with site.served("--workers", "1", "--max-requests", "1000") as command:
        (worker,) = site.answering()

        def switches() -> dict[str, list[str]]:
            tasks = Path(f"/proc/{worker}/task")
            return {
                task.name: re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
                for task in tasks.iterdir()
            }

        pause = threading.Event()
        last: list[object] = [None]

        def is_settled() -> bool:
            before, last[0] = last[0], switches()
            pause.wait(0.5)
            return before == last[0]

        wait_until(is_settled)
        before = switches()
        pause.wait(1)
        assert switches() == before
        assert command.stop() == 0


@linux_only
def test_program_recycles_its_workers(site: Site) -> None:
    from tests.support import Command

    (site.folder / "program.py").write_text(
        "import os\n"
        "from wsgi.server import WSGIServer\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [f'program {os.getpid()} True'.encode()]\n"
        "WSGIServer(port=0, app=app, workers=1, max_requests=3, max_requests_jitter=1).serve_forever()\n"
    )
    with Command(cwd=site.folder, start=[sys.executable, "program.py"]) as command:
        site.command = command
        seen = set()

        def ask() -> bool:
            seen.add(site.ask()[1])
            return len(seen) > 1

        wait_until(ask)
        assert command.stop() == 0


@linux_only
def test_client_of_a_recycled_worker_gets_its_response(site: Site) -> None:
    with site.served("--workers", "1", "--max-requests", "1") as command:
        client, held = site.hold()
        with RawClient(command.address) as other:
            other.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert other.receive().status == 200
        command.stderr.wait_for(f"worker {held} is recycled")
        wait_until(lambda: len(site.answering()) == 2)
        wait_until(lambda: site.ask()[1] != held)
        site.let_go()
        with client:
            assert client.receive().body.decode().split()[1] == str(held)
        wait_until(lambda: held not in site.answering())
        assert command.stop() == 0
