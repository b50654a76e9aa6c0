"""An application whose threads do not come back: the log says so, and where each of them is."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.server.recording import Environ, Gate, Start, answer, eventually, get
from tests.support import Command, RawClient, serve

STALLED = "no request has come to its end for"


class Site:
    """Holds `/slow` until its gate is opened; with `keeps` it keeps every environ, so that no call is used again."""

    def __init__(self, *, keeps: bool = False) -> None:
        self.gate = Gate()
        self.keeps = keeps
        self.kept: list[Environ] = []

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if self.keeps:
            self.kept.append(environ)
        if environ["PATH_INFO"].startswith("/slow"):
            return self.gate(environ, start_response)
        return answer(start_response)


@contextlib.contextmanager
def held(site: Site, address: str, count: int) -> Iterator[None]:
    """Has `count` requests inside until the end."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(address)) for _ in range(count)]
        for number, client in enumerate(clients):
            client.send(get(f"/slow/{number}?secret=1"))
        try:
            for _ in clients:
                site.gate.wait_for_one()
            yield
        finally:
            site.gate.opened.set()
        for client in clients:
            assert client.receive().status == 200


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("threads", "keeps"), [(1, False), (3, False), (3, True)])
def test_threads_that_do_not_come_back_are_told_with_their_places(
    threads: int, keeps: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(keeps=keeps)
    with (
        caplog.at_level(logging.INFO, "wsgi.server"),
        serve(site, threads=threads) as server,
        RawClient(server.addresses[0]) as waiting,
    ):
        # The call of each worker may be its second.
        with RawClient(server.addresses[0]) as client:
            client.send(get("/", "Connection: close"))
            client.receive()
        with held(site, server.addresses[0], threads):
            waiting.send(get("/"))
            eventually(lambda: len(caplog.records) == 1 + threads, "a line for each thread")
            assert {record.levelname for record in caplog.records} == {"WARNING"}
            first, *others = messages(caplog)
            inside = "the only thread is" if threads == 1 else f"all {threads} threads are"
            assert first == f"{STALLED} 5 seconds: 1 wait, and {inside} inside the application"
            places = (
                rf"wsgi-worker-\d+: GET /slow/(\d+) for [5-9] s, at {re.escape(__file__)}:\d+ \w+|.*recording.py:\d+ "
            )
            assert all(re.match(places, line) for line in others), others
            assert not any("secret" in line for line in others)
            assert {line.partition(" for ")[0].rpartition("/")[2] for line in others} == {*map(str, range(threads))}
        assert waiting.receive().status == 200
        eventually(lambda: "threads come back from the application again" in messages(caplog), "the end")
    assert len(caplog.records) == threads + 2


def test_stall_is_told_even_if_nobody_waits_long(caplog: pytest.LogCaptureFixture) -> None:
    # Every request that waits is refused long before a stall is one.
    site = Site()
    with serve(site, threads=2, queue_timeout=0.1) as server, held(site, server.addresses[0], 2):

        def is_told() -> bool:
            with RawClient(server.addresses[0]) as client:
                client.send(get("/"))
                assert client.receive().status == 503
            return any(message.startswith(STALLED) for message in messages(caplog))

        eventually(is_told, "the stall")


def test_threads_that_nobody_waits_for_are_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with serve(site, threads=2) as server, held(site, server.addresses[0], 2):
        # Time is the subject: longer than a stall takes to be one.
        site.gate.opened.wait(6)
    assert messages(caplog) == []


HOLDING = """
import ctypes

def app(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        print("inside", flush=True)
        ctypes.PyDLL(None).sleep(30)
    start_response("200 OK", [])
    return [b""]
"""


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without a lock, no call can hold it")
def test_refusals_keep_their_time_while_a_call_holds_the_interpreter(tmp_path: Path) -> None:
    (tmp_path / "holding.py").write_text(HOLDING)
    options = ("--bind", "127.0.0.1:0", "--threads", "2", "--queue-timeout", "1s")
    with (
        Command("holding:app", *options, cwd=tmp_path) as command,
        RawClient(command.address) as held,
        RawClient(command.address) as first,
        RawClient(command.address) as second,
    ):
        held.send(get("/held"))
        command.stdout.wait_for("inside")
        # The first refusal is reported, which takes the interpreter.
        for client in (first, second):
            client.send(get("/"))
            assert client.receive().status == 503
        command.process.kill()
