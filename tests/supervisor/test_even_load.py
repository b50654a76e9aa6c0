"""Even load over worker processes, and the limits that all of them share."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.test_page import page_of
from tests.supervisor.test_processes import GET, LAST, Site, wait_until
from tests.support import RawClient
from wsgi._core import Page

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

CLIENTS = 40

APP = """
import os, time
from pathlib import Path

HERE = Path(__file__).parent

def hold():
    while not (HERE / "go").exists():
        time.sleep(0.01)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        hold()
    if environ["PATH_INFO"] == "/upload":
        (HERE / "uploaded").touch()
        environ["wsgi.input"].read()
        hold()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""

ASGI_APP = """
import os, time
from pathlib import Path

HERE = Path(__file__).parent

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/hold":
        # Blocks the loop.
        (HERE / "held").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

APPS = {"wsgi": APP, "asgi": ASGI_APP}


class Farm:
    """A server with several workers, and its clients."""

    def __init__(self, site: Site, page: Page, clients: contextlib.ExitStack) -> None:
        self.site = site
        self.page = page
        self._clients = clients

    @property
    def pids(self) -> list[int]:
        """The workers."""
        return [worker["pid"] for worker in self.page.workers()]

    def connect(self) -> RawClient:
        """A client that stays until the end."""
        return self._clients.enter_context(RawClient(self.site.command.address))

    def ask(self, client: RawClient, path: bytes = b"/") -> int:
        """The worker that answers a request."""
        client.send(GET % path)
        return int(client.receive().body)

    def ask_once(self) -> int:
        """The worker that answers on a connection of its own."""
        with RawClient(self.site.command.address) as client:
            client.send(LAST % b"/")
            return int(client.receive().body)

    def beat_ms(self, pid: int) -> int:
        """When the poller of a worker was served last."""
        return next(worker["heartbeat_ms"] for worker in self.page.workers() if worker["pid"] == pid)

    def counts(self, cell: str) -> list[int]:
        """A cell of all workers."""
        return [worker[cell] for worker in self.page.workers()]


@contextlib.contextmanager
def serving(folder: Path, kind: str, workers: int, *options: str) -> Iterator[Farm]:
    site = Site(folder, APPS[kind])
    with site.served("--workers", str(workers), *options) as command, contextlib.ExitStack() as clients:
        farm = Farm(site, page_of(command.process.pid), clients)
        wait_until(lambda: all(farm.counts("is_accepting")) and len(farm.pids) == workers)
        # The client by which the start was noticed has gone.
        wait_until(lambda: sum(farm.counts("connections")) == 0)
        try:
            yield farm
        finally:
            (folder / "go").touch()


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped every thread of a process."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def spread(counts: list[int], workers: int) -> float:
    """How far the most and the least loaded worker are apart, as a part of the mean."""
    assert len(counts) == workers
    return (max(counts) - min(counts)) / (sum(counts) / workers)


@pytest.mark.parametrize("kind", APPS)
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_clients_that_stay_are_spread_within_a_fifth(tmp_path: Path, kind: str, workers: int) -> None:
    with serving(tmp_path, kind, workers) as farm:
        one_by_one = Counter(farm.ask(farm.connect()) for _ in range(CLIENTS))
        assert spread(list(one_by_one.values()), workers) <= 0.2
        assert sorted(farm.counts("connections")) == sorted(one_by_one.values())
        at_once = [farm.connect() for _ in range(CLIENTS)]
        for client in at_once:
            client.send(GET % b"/")
        together = one_by_one + Counter(int(client.receive().body) for client in at_once)
        assert spread(list(together.values()), workers) <= 0.2


@pytest.mark.parametrize("kind", APPS)
@pytest.mark.parametrize("workers", [2, 4])
def test_requests_are_spread_within_a_fifth_on_connections_that_stay_and_on_new_ones(
    tmp_path: Path, kind: str, workers: int
) -> None:
    with serving(tmp_path, kind, workers) as farm:
        new = Counter(farm.ask_once() for _ in range(100 * workers))
        assert spread(list(new.values()), workers) <= 0.2
        clients = [farm.connect() for _ in range(CLIENTS)]
        kept = Counter(farm.ask(client) for _ in range(10) for client in clients)
        assert spread(list(kept.values()), workers) <= 0.2


@pytest.mark.parametrize("kind", APPS)
def test_worker_that_is_stuck_in_its_application_gets_no_new_clients(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path, kind, 2, *(["--threads", "2"] if kind == "wsgi" else [])) as farm:
        # All threads of one worker, or its event loop, are taken.
        clients = [farm.connect() for _ in range(8)]
        by_pid = [(farm.ask(client), client) for client in clients]
        stuck = by_pid[0][0]
        held = [client for pid, client in by_pid if pid == stuck][: 2 if kind == "wsgi" else 1]
        for client in held:
            client.send(GET % b"/hold")
        if kind == "wsgi":
            wait_until(lambda: sum(farm.counts("running")) == len(held))
            # Threads that were taken only a moment ago may be free again in the next one.
            wait_until(lambda: time.monotonic() * 1000 > 10 + farm.beat_ms(stuck))
        else:
            # Its page says nothing new from the moment on at which the loop is stuck.
            wait_until((tmp_path / "held").exists)
        start = time.monotonic()
        answered = Counter(farm.ask(farm.connect()) for _ in range(CLIENTS))
        assert stuck not in answered
        assert time.monotonic() - start < 5.0


@pytest.mark.parametrize("kind", APPS)
@pytest.mark.parametrize("stopped", [1, 3])
def test_workers_that_are_stopped_keep_no_client_waiting(tmp_path: Path, kind: str, stopped: int) -> None:
    with serving(tmp_path, kind, 4) as farm:
        asleep = farm.pids[:stopped]
        try:
            for pid in asleep:
                os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: all(is_stopped(pid) for pid in asleep))
            start = time.monotonic()
            answered = Counter(farm.ask(farm.connect()) for _ in range(CLIENTS))
            # One by one, each would wait for a moment if the stopped workers were not remembered.
            assert time.monotonic() - start < CLIENTS * 0.02
            assert not set(asleep) & set(answered)
        finally:
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
        # They have fewer connections now.
        assert set(asleep) <= {farm.ask(farm.connect()) for _ in range(CLIENTS)}


def test_connections_are_limited_for_all_workers_together(tmp_path: Path) -> None:
    with serving(tmp_path, "wsgi", 2, "--max-connections", "4", "--threads", "4") as farm:
        # Each has a request inside the application, so that none can be closed for another.
        held = [farm.connect() for _ in range(4)]
        for client in held:
            client.send(GET % b"/hold")
        wait_until(lambda: sum(farm.counts("running")) == 4)
        assert farm.counts("connections") == [2, 2]
        waiting = farm.connect()
        waiting.send(GET % b"/")
        farm.site.command.stderr.wait_for("cannot accept connections: all 4 are busy")
        assert farm.counts("connections") == [2, 2]
        # A worker that is killed gives its share back.
        os.kill(farm.pids[0], signal.SIGKILL)
        assert int(waiting.receive().body) in farm.site.answering()


def test_idle_connection_is_closed_for_a_client_when_all_workers_are_full(tmp_path: Path) -> None:
    with serving(tmp_path, "wsgi", 2, "--max-connections", "4") as farm:
        idle = [farm.connect() for _ in range(4)]
        assert spread(list(Counter(farm.ask(client) for client in idle).values()), 2) == 0
        for _ in range(4):
            farm.ask(farm.connect())
        assert sum(farm.counts("connections")) == 4


def test_queue_is_limited_for_all_workers_together(tmp_path: Path) -> None:
    with serving(tmp_path, "wsgi", 2, "--threads", "1", "--queue-limit", "2") as farm:
        inside = [farm.connect() for _ in range(2)]
        for client in inside:
            client.send(GET % b"/hold")
        wait_until(lambda: farm.counts("running") == [1, 1])
        queued = [farm.connect() for _ in range(2)]
        for client in queued:
            client.send(GET % b"/")
        wait_until(lambda: sum(farm.counts("queued")) == 2)
        for _ in range(3):
            refused = farm.connect()
            refused.send(GET % b"/")
            assert refused.receive().status == 503
        (tmp_path / "go").touch()
        assert {client.receive().status for client in [*inside, *queued]} == {200}
        wait_until(lambda: farm.counts("queued") == farm.counts("running") == [0, 0])


def test_temporary_files_are_limited_for_all_workers_together_and_those_of_a_killed_one_are_free(
    tmp_path: Path,
) -> None:
    body = b"x" * 300_000
    post = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    limits = ["--max-spool-size", "400000", "--body-buffer", "1000", "--threads", "2"]
    with serving(tmp_path, "wsgi", 2, *limits) as farm:
        # Bodies beyond the memory for bodies are in files: the first is, and there is no room for a second one.
        first = farm.connect()
        first.send(post)
        wait_until(lambda: sum(farm.counts("spooled_bytes")) == len(body))
        (holder,) = [worker["pid"] for worker in farm.page.workers() if worker["spooled_bytes"]]
        wait_until((tmp_path / "uploaded").exists)
        for _ in range(2):
            # One of these is the other worker's.
            with RawClient(farm.site.command.address) as other:
                other.send(post)
                assert other.receive().status == 503
        os.kill(holder, signal.SIGKILL)
        wait_until(lambda: holder not in farm.pids)
        (tmp_path / "go").touch()
        last = farm.connect()
        last.send(post)
        assert last.receive().status == 200
