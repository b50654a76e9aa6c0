"""Under load nothing is lost, nothing mixed up, and nothing left behind."""

from __future__ import annotations

import gc
import os
import socket
import struct
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.server import crowd
from tests.support import PATIENCE, Command, RawClient, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROOT = Path(__file__).parents[2]

CLIENTS, REQUESTS, ROUNDS = 200, 100, 3

# What the allocator may do with 20,000 requests of a round, which is no leak; one byte a request is 59 KiB in three.
GROWTH = 10 << 20

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="this system has no /proc that tells of threads, descriptors and memory"
)


class Held(NamedTuple):
    """How much this process holds."""

    threads: int
    """Of Python."""
    tasks: int
    """The system's threads."""
    descriptors: int


def held() -> Held:
    """What this process holds now, without what earlier tests have left to be collected."""
    gc.collect()
    return Held(threading.active_count(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")))


def is_back(before: Held) -> bool:
    """Whether no more is held than before."""
    return all(now <= then for now, then in zip(held(), before, strict=True))


def until(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true: a thread that was joined needs a moment to vanish from the system's tables."""
    bell = threading.Event()
    return any(condition() or bell.wait(0.01) for _ in range(int(PATIENCE / 0.01)))


def resident(process: int) -> int:
    """Bytes of memory that a process really occupies."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_every_request_of_a_crowd_is_run_once_and_answered_with_its_own_answer() -> None:
    runs: Counter[str] = Counter()
    lock = threading.Lock()

    def counting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with lock:
            runs[environ["QUERY_STRING"]] += 1
        return crowd.app(environ, start_response)

    with serve(counting) as server:
        visit = crowd.Crowd(server.addresses[0], "visit", CLIENTS, REQUESTS)
        visit.run()
    assert runs == Counter(identifier for share in visit.identifiers for identifier in share)


def test_crowd_of_quick_and_waiting_requests_is_answered_each_with_its_own_answer() -> None:
    never = threading.Event()

    def waiting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if zlib.crc32(environ["QUERY_STRING"].encode()) % 10 == 0:
            # Time is the subject: longer than the server lets a leader be held up, so that others take over.
            never.wait(0.003)
        return crowd.app(environ, start_response)

    with serve(waiting) as server:
        crowd.Crowd(server.addresses[0], "mixed", CLIENTS, 20).run()


@needs_proc
def test_threads_and_descriptors_are_back_after_a_crowd() -> None:
    before = held()
    for number in range(2):
        with serve(crowd.app) as server:
            crowd.Crowd(server.addresses[0], f"round-{number}", CLIENTS, 10).run()
            assert held().threads > before.threads
        assert until(lambda: is_back(before)), f"{held()} is left of {before}"


@needs_proc
def test_descriptors_are_back_after_short_connections_while_serving() -> None:
    with serve(crowd.app) as server:
        address = server.addresses[0]
        crowd.Crowd(address, "warm", 20, 2).run()
        calm = settled()
        for number in range(10):
            crowd.Crowd(address, f"short-{number}", CLIENTS, 1).run()
        assert until(lambda: held().descriptors <= calm), f"{held().descriptors} is left of {calm}"


def settled() -> int:
    """The number of descriptors, once the ends of the connections before have been noticed."""
    counts = [held().descriptors]

    def is_settled() -> bool:
        counts.append(held().descriptors)
        return len(counts) > 5 and len(set(counts[-5:])) == 1

    assert until(is_settled)
    return counts[-1]


DEPARTURES = {
    "within the head": b"GET / HTTP/1.1\r\nHo",
    "within the body": b"POST /echo?x HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nbegin",
    "within a large body": b"POST /echo?x HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nbegin",
    "within a chunk": b"POST /echo?x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\nbegin",
    "before the answer": b"GET /stream?x HTTP/1.1\r\nHost: a\r\n\r\n" * 20,
}


@needs_proc
@pytest.mark.parametrize("departure", DEPARTURES.values(), ids=DEPARTURES)
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_clients_that_leave_midway_leave_nothing_behind(departure: bytes, reset: bool) -> None:
    before = held()
    with serve(crowd.app, threads=4) as server:
        for _ in range(30):
            with RawClient(server.addresses[0]) as client:
                if reset:
                    # SO_LINGER of no time: the close is a reset.
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.send(departure)
        # The server is as good as new.
        crowd.Crowd(server.addresses[0], "after", 10, 10).run()
    assert until(lambda: is_back(before)), f"{held()} is left of {before}"


@needs_proc
def test_memory_stays_flat_over_rounds_of_a_crowd() -> None:
    with Command("tests.server.crowd:app", cwd=ROOT) as command:
        sizes = []
        # The first rounds are the warm-up: what they make the server take is there for all that come. Without the
        # interpreter lock every thread has a heap of its own to warm.
        warm = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else 4
        for number in range(warm + ROUNDS):
            crowd.Crowd(command.address, f"round-{number}", CLIENTS, REQUESTS).run()
            sizes.append(resident(command.process.pid))
        assert command.stop() == 0
    growth = max(sizes[warm:]) - sizes[warm - 1]
    assert growth < GROWTH, f"{growth} bytes more after {ROUNDS} rounds: {sizes}"
