"""Conversations of the section `limits`: what they cost the server in memory, processor time and descriptors.

Most look at the server's process from outside, through /proc.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conformance.exchanges import demand, get
from tests.conformance.extremes import CHUNKED
from tests.conformance.judge import HANG, WRONG
from tests.conformance.scripts import PIECE, Talk, script, send_what_is_taken
from tests.support import RawClient

GROWTH = 64 << 20
"""Bytes by which a server may grow where it is to be bounded."""


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a server and its workers have."""
    pages = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_time(pid: int) -> float:
    """Seconds that a server and its workers have computed."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def bounded(talk: Talk) -> Iterator[Callable[[], None]]:
    """Gives a function that complains if the server has grown too much since the beginning."""
    before = resident(talk.subject.pid)

    def check() -> None:
        grown = resident(talk.subject.pid) - before
        demand(grown < GROWTH, f"the server grew by {grown >> 20} MiB")

    yield check


def send_until_full(client: RawClient, data: bytes) -> None:
    """Sends until the server takes no more for half a second, or all is sent."""
    client.socket.settimeout(0.5)
    send_what_is_taken(client, data)


@script(
    "resource-pipeline-unread",
    "limits",
    "RFC 9112 §9.3.2",
    "A client that sends 20,000 requests and reads nothing does not grow the server.",
    linux=True,
)
def pipeline_unread(talk: Talk) -> None:
    with talk.client() as client, bounded(talk) as check:
        send_until_full(client, get("generator-large") * 20_000)
        check()
    talk.still_serves()


@script(
    "resource-generator-unread",
    "limits",
    "PEP 3333, Buffering and Streaming",
    "A generator runs ahead of its client only so far.",
    linux=True,
)
def generator_unread(talk: Talk) -> None:
    with talk.client() as client, bounded(talk) as check:
        client.send(get("endless") + get("endless"))
        client.socket.recv(1000)
        threading.Event().wait(0.5)
        check()
        demand(talk.count("close") == 0, "64 MiB left for a client that reads nothing", WRONG)
    talk.still_serves()


@script(
    "resource-upload-unread",
    "limits",
    "RFC 9110 §15.5.14",
    "An upload of 64 MB to an application that ignores it does not grow the server.",
    linux=True,
)
def upload_unread(talk: Talk) -> None:
    with talk.client() as client, bounded(talk) as check:
        client.send(b"POST /app/ignores HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            if not send_what_is_taken(client, PIECE):
                break
        check()
    talk.still_serves()


def seconds_for(talk: Talk, content: bytes, size: int) -> float:
    """The processor time of one request with this chunked body."""
    before = processor_time(talk.subject.pid)
    with talk.client(20.0) as client:
        client.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + content)
        response = client.receive()
        demand(response.body == str(size).encode(), f"{response.status}: {response.body[:80]!r}")
    return processor_time(talk.subject.pid) - before


@script(
    "resource-small-chunks",
    "limits",
    "RFC 9112 §7.1",
    "Chunks of one byte cost in proportion to their number.",
    linux=True,
)
def small_chunks(talk: Talk) -> None:
    few, many = 50_000, 400_000
    first = seconds_for(talk, b"1\r\nx\r\n" * few + b"0\r\n\r\n", few)
    second = seconds_for(talk, b"1\r\nx\r\n" * many + b"0\r\n\r\n", many)
    # Eight times as many; a server whose cost is their square would need 64 times as long.
    demand(second < 24 * max(first, 0.05), f"{few} chunks took {first:.2f} s, {many} took {second:.2f} s")


@script(
    "resource-head-byte-by-byte",
    "limits",
    "RFC 9112 §2.1",
    "A head of 30 KB that comes byte by byte costs in proportion to its length.",
    linux=True,
)
def head_byte_by_byte(talk: Talk) -> None:
    def seconds(size: int) -> float:
        head = b"GET /e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + (b"X: " + b"y" * 95 + b"\r\n") * (size // 100)
        before = processor_time(talk.subject.pid)
        with talk.client() as client:
            client.send(*(head[at : at + 1] for at in range(len(head))), b"\r\n")
            demand(client.receive().status in (200, 400, 431), "not served")
        return processor_time(talk.subject.pid) - before

    first, second = seconds(3_000), seconds(9_000)
    demand(second < 6 * max(first, 0.1), f"3,000 bytes took {first:.2f} s, 9,000 took {second:.2f} s")


@script(
    "resource-descriptors-run-out",
    "limits",
    "RFC 9110 §15.6.4",
    "Without a free descriptor the server neither spins nor dies, and serves again when there is one.",
    linux=True,
)
def descriptors_run_out(talk: Talk) -> None:
    pids = family(talk.subject.pid)
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    clients: list[RawClient] = []
    try:
        for pid in pids:
            used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, before[pid][1]))
        for _ in range(40):
            clients.append(RawClient(talk.subject.address, talk.subject.patience))
        start = processor_time(talk.subject.pid)
        threading.Event().wait(1.0)
        used_seconds = processor_time(talk.subject.pid) - start
        demand(used_seconds < 0.6, f"{used_seconds:.2f} s of computing in a second of nothing to do")
    finally:
        for client in clients:
            client.socket.close()
        for pid, limits in before.items():
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    talk.still_serves()


@script(
    "resource-crowd",
    "limits",
    "RFC 9110 §15.6.4",
    "A hundred slow requests at once are each answered, or refused with 503.",
)
def crowd(talk: Talk) -> None:
    clients = [RawClient(talk.subject.address, 4 * talk.subject.patience) for _ in range(100)]
    try:
        for client in clients:
            client.send(get("slow", "Connection: close"))
        statuses = []
        for client in clients:
            demand(not client.has_ended(), "a client got no answer", WRONG)
            statuses.append(client.receive().status)
        demand(set(statuses) <= {200, 503}, f"statuses {sorted(set(statuses))}")
    finally:
        for client in clients:
            client.socket.close()


@script("resource-idle-connections", "limits", "RFC 9112 §9.5", "A hundred idle connections do not keep others out.")
def idle_connections(talk: Talk) -> None:
    clients = []
    try:
        for _ in range(100):
            client = RawClient(talk.subject.address, talk.subject.patience)
            clients.append(client)
            client.send(b"GET /e HTTP/1.1\r\nHost: a\r\n\r\n")
            demand(client.receive().status == 200, "a client was not served", HANG)
        talk.still_serves()
    finally:
        for client in clients:
            client.socket.close()


@script(
    "resource-half-heads", "limits", "RFC 9112 §9.5", "A hundred connections amid their heads do not keep others out."
)
def half_heads(talk: Talk) -> None:
    clients = [RawClient(talk.subject.address, talk.subject.patience) for _ in range(100)]
    try:
        for client in clients:
            client.send(b"GET / HT")
        talk.still_serves()
    finally:
        for client in clients:
            client.socket.close()
