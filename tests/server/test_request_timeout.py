"""Requests over request_timeout: what is logged, what their clients get, and what their threads do next."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.recording import STREAMING, Environ, Start, answer, eventually, get
from tests.support import Command, ProtocolError, RawClient, serve
from wsgi.errors import ConfigError, RequestTimeout
from wsgi.settings import Settings

TIMEOUT = 0.2
HAS_LOCK = getattr(sys, "_is_gil_enabled", lambda: True)()


class Site:
    """Holds `/stuck` in its own way until it is released, and answers other paths at once."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_released = False
        self.lock = threading.Lock()
        self.lock.acquire()
        self.sockets = list(socket.socketpair()) if kind == "socket" else []
        self.raised: list[BaseException] = []

    def hold(self) -> None:
        if self.kind == "loop":
            while not self.is_released:
                pass
        elif self.kind == "lock":
            self.lock.acquire()
        elif self.kind == "socket":
            self.sockets[0].recv(1)
        elif self.kind == "sleep":
            time.sleep(5 * TIMEOUT)
        elif self.kind == "catches":
            while not self.is_released:
                with contextlib.suppress(BaseException):
                    while not self.is_released:
                        pass

    def release(self) -> None:
        self.is_released = True
        with contextlib.suppress(RuntimeError):
            self.lock.release()
        for end in self.sockets[1:]:
            end.send(b"x")

    def close(self) -> None:
        for end in self.sockets:
            end.close()

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/stuck"):
            try:
                self.hold()
            except BaseException as error:
                self.raised.append(error)
                raise
        return answer(start_response, environ["PATH_INFO"].encode())


@contextlib.contextmanager
def serving(kind: str, **options: Any) -> Iterator[tuple[Site, str]]:
    """A site that is stuck in this way, and its address."""
    site = Site(kind)
    with contextlib.closing(site), serve(site, request_timeout=TIMEOUT, **options) as server:
        try:
            yield site, server.addresses[0]
        finally:
            site.release()


def records(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


def once(address: str, path: str) -> int:
    """The status of one request on a connection of its own."""
    with RawClient(address) as client:
        client.send(get(path, "Connection: close"))
        return client.receive().status


KINDS = {"loop": "while not self.is_released", "lock": "self.lock.acquire()", "socket": "recv(1)", "sleep": "sleep("}


@pytest.mark.parametrize("kind", KINDS)
def test_log_request_that_is_stuck_is_told_with_its_stack_and_goes_on(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wsgi.server")
    with serving(kind, threads=3) as (site, address), RawClient(address) as client:
        client.send(get("/stuck?secret=1", "X-Key: secret"))
        eventually(lambda: bool(records(caplog, "GET /stuck has no response")), "the record")
        assert once(address, "/other") == 200
        site.release()
        assert client.receive().status == 200
    first = records(caplog, "GET /stuck has no response")[0]
    assert first.levelname == "WARNING"
    assert re.search(r"after \d+\.\d s \(request_timeout 0.2 s\) in wsgi-worker-\d$", first.getMessage())
    assert first.stack_info is not None
    own, _, others = first.stack_info.partition("\nwsgi-worker-")
    assert KINDS[kind] in own
    assert "outside of the application" in others, "the other workers"
    assert not any("secret" in record.getMessage() for record in caplog.records)
    assert site.raised == []


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_client_is_answered_at_once_and_the_exception_comes_when_python_runs(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wsgi.server")
    # One thread: the next request is answered by the same.
    with serving(kind, threads=1, request_timeout_action="interrupt") as (site, address):
        with RawClient(address) as client:
            client.send(get("/stuck"))
            response = client.receive()
            assert (response.status, response.body) == (504, b"The request took too long.\n")
            client.expect_end()
        if kind != "loop":
            assert site.raised == [], "the call of C code goes on"
        if kind in ("lock", "socket"):
            eventually(lambda: bool(records(caplog, "GET /stuck goes on although")), "the second record")
            site.release()
        eventually(lambda: bool(records(caplog, "GET /stuck has ended")), "the end")
        assert [type(error) for error in site.raised] == [RequestTimeout]
        assert once(address, "/next") == 200
    (first,) = records(caplog, "GET /stuck has no response")
    assert first.levelname == "ERROR"
    assert "; its client was answered 504; RequestTimeout is raised in it, which cannot end a call of C code" in (
        first.getMessage()
    )
    assert all("or a call of C code blocks" in record.getMessage() for record in records(caplog, "although it was"))
    assert not records(caplog, "the application failed"), "the record has said it"


def test_interrupt_exception_that_is_caught_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    with serving("catches", threads=2, request_timeout_action="interrupt") as (site, address):
        assert once(address, "/stuck") == 504
        eventually(lambda: len(records(caplog, "although it was ended")) >= 2, "two more records")
        assert all("the first was caught" in record.getMessage() for record in records(caplog, "although it was"))
        site.release()
        assert once(address, "/next") == 200


def test_interrupt_under_load_costs_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    with serving("loop", threads=4, request_timeout_action="interrupt") as (site, address):

        def ask(number: int) -> int:
            return once(address, "/stuck" if number % 50 == 0 else "/other")

        with ThreadPoolExecutor(8) as clients:
            statuses = list(clients.map(ask, range(200)))
    assert [status for number, status in enumerate(statuses) if number % 50] == [200] * 196
    assert statuses[::50] == [504] * 4
    assert [type(error) for error in site.raised] == [RequestTimeout] * 4


def test_interrupt_near_the_response_never_reaches_the_next_request(caplog: pytest.LogCaptureFixture) -> None:
    limit = 0.02
    wrong: list[BaseException] = []
    chance = random.Random(1)
    pauses = [chance.uniform(0.5 * limit, 3 * limit) for _ in range(1000)]
    # Some that are over the limit on a busy machine as well, where most ticks come late.
    pauses[::100] = [2.0] * 10

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/slow"):
            end = time.monotonic() + pauses[int(path[5:])]
            while time.monotonic() < end:
                time.sleep(0.0005)
            return answer(start_response, b"slow")
        try:
            for _ in range(50):
                sum(range(20))
        except BaseException as error:
            wrong.append(error)
            raise
        return answer(start_response, b"quick")

    def ask(number: int) -> list[int]:
        return [once(address, f"/slow{number}"), once(address, "/quick"), once(address, "/quick")]

    with serve(app, threads=4, request_timeout=limit, request_timeout_action="interrupt") as server:
        address = server.addresses[0]
        with ThreadPoolExecutor(8) as clients:
            slow, *quick = zip(*clients.map(ask, range(len(pauses))), strict=True)
        workers = [thread for thread in threading.enumerate() if thread.name.startswith("wsgi-worker-")]
        assert len(workers) == 5
    assert wrong == []
    assert {status for statuses in quick for status in statuses} == {200}
    assert set(slow) == {200, 504}, "some in time, some not"
    lines = {re.sub(r"\d+", "#", record.getMessage()).partition(" after")[0] for record in caplog.records}
    assert lines <= {
        "GET /slow# has no response",
        "GET /slow# goes on although it was ended",
    }, "nothing else was logged"


@pytest.mark.parametrize("stuck_in", ["iteration", "close"])
def test_interrupt_exception_that_comes_to_no_python_code_is_taken_back(
    stuck_in: str, caplog: pytest.LogCaptureFixture
) -> None:
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    closed: list[str] = []

    class Iterated:
        # An iterator of C code: nothing of it can raise the exception.
        def __iter__(self) -> Iterator[bytes]:
            return iter(waiting.get, None)

        def close(self) -> None:
            closed.append("whole")

    class Closed:
        close = waiting.get

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"all"])

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/stuck":
            return answer(start_response, str(sum(range(100))).encode())
        start_response("200 OK", [])
        return Iterated() if stuck_in == "iteration" else Closed()

    options: dict[str, Any] = {"request_timeout": TIMEOUT, "request_timeout_action": "interrupt", "threads": 1}
    with serve(app, **options) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(get("/stuck"))
            assert client.receive().status == (504 if stuck_in == "iteration" else 200)
        eventually(lambda: bool(records(caplog, "RequestTimeout is raised in it")), "the exception")
        waiting.put(None)
        for _ in range(3):
            assert once(server.addresses[0], "/next") == 200
    assert closed == (["whole"] if stuck_in == "iteration" else [])
    assert not records(caplog, "failed")
    assert not records(caplog, "raised: ")


class Pieces:
    """Gives two pieces of a response, and waits between them until it is released or ended."""

    def __init__(self, kind: str = "text/plain") -> None:
        self.kind = kind
        self.go = threading.Event()
        self.ended_by: list[BaseException | None] = []

    def __call__(self, environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", self.kind)])
        try:
            yield b"first"
            while not self.go.is_set():
                self.go.wait(0.01)
            yield b"second"
            self.ended_by.append(None)
        except BaseException as error:
            self.ended_by.append(error)
            raise


def test_interrupt_response_that_has_begun_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    site = Pieces()
    options: dict[str, Any] = {"request_timeout": TIMEOUT, "request_timeout_action": "interrupt"}
    with serve(site, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        with pytest.raises(ProtocolError, match="ended"):
            client.receive()
        eventually(lambda: bool(site.ended_by), "the exception")
    assert [type(error) for error in site.ended_by] == [RequestTimeout]
    (record,) = records(caplog, "GET / has a response that does not go on")
    assert "; its response was cut; RequestTimeout is raised in it" in record.getMessage()


def test_log_response_is_told_between_two_pieces_and_completed(caplog: pytest.LogCaptureFixture) -> None:
    site = Pieces()
    with serve(site, request_timeout=TIMEOUT) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        eventually(lambda: bool(records(caplog, "GET / has a response that does not go on")), "the record")
        site.go.set()
        assert client.receive().body == b"firstsecond"


def test_pieces_within_the_time_may_take_longer_than_it_together(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(8):
            # Time is the subject.
            time.sleep(0.1)
            yield b"x"

    options: dict[str, Any] = {"request_timeout": 0.5, "request_timeout_action": "interrupt"}
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.receive().body == b"x" * 8
    assert not caplog.records


@pytest.mark.parametrize("kind", ["text/event-stream", "text/event-stream; charset=utf-8"])
def test_event_stream_has_no_limit(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    site = Pieces(kind)
    options: dict[str, Any] = {"request_timeout": TIMEOUT, "request_timeout_action": "interrupt"}
    with serve(site, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        # Time is the subject.
        threading.Event().wait(4 * TIMEOUT)
        site.go.set()
        assert client.receive().body == b"firstsecond"
    assert not caplog.records


def test_time_in_which_the_client_is_waited_for_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return answer(start_response, environ["wsgi.input"].read())

    options: dict[str, Any] = {"request_timeout": TIMEOUT, "request_timeout_action": "interrupt"}
    with serve(app, threads=4, **options, **STREAMING) as server, RawClient(server.addresses[0]) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        # Time is the subject.
        threading.Event().wait(4 * TIMEOUT)
        client.send(b"cd")
        assert client.receive().body == b"abcd"
    assert not caplog.records


def test_close_of_a_response_has_its_own_time(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    ended: list[BaseException] = []

    class Response:
        def __iter__(self) -> Iterator[bytes]:
            yield b"all"

        def close(self) -> None:
            try:
                while not go.is_set():
                    go.wait(0.01)
            except BaseException as error:
                ended.append(error)
                raise

    def app(environ: Environ, start_response: Start) -> Response:
        start_response("200 OK", [])
        return Response()

    options: dict[str, Any] = {"request_timeout": TIMEOUT, "request_timeout_action": "interrupt"}
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        assert client.receive().body == b"all", "the response was complete"
        eventually(lambda: bool(ended), "the exception")
        eventually(lambda: bool(records(caplog, "close() of the application's response raised")), "the log")
    assert [type(error) for error in ended] == [RequestTimeout]
    assert records(caplog, "GET / is in close() of its response")


def test_requests_that_are_stuck_together_are_told_each_and_the_others_once(caplog: pytest.LogCaptureFixture) -> None:
    with serving("loop", threads=3) as (site, address), contextlib.ExitStack() as stack:
        for number in range(2):
            stack.enter_context(RawClient(address)).send(get(f"/stuck/{number}"))
        eventually(lambda: len(records(caplog, "has no response")) >= 2, "a record for each")
        first, second = records(caplog, "has no response")[:2]
        assert {record.getMessage().partition(" has")[0] for record in (first, second)} == {
            "GET /stuck/0",
            "GET /stuck/1",
        }
        for record in (first, second):
            assert record.stack_info is not None
            assert KINDS["loop"] in record.stack_info
        site.release()


def test_access_log_has_the_status(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with serving("loop", request_timeout_action="interrupt", access_log=str(log)) as (_, address):
        assert once(address, "/stuck") == 504
    assert '"GET /stuck HTTP/1.1" 504 27 ' in log.read_text()


def watchdogs() -> list[Path]:
    """The threads of this process that watch requests."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if (task / "comm").read_text().strip() == "wsgi-watchdog":
                found.append(task)
    return found


def switches(task: Path) -> str:
    return next(line for line in (task / "status").read_text().splitlines() if line.startswith("voluntary_ctxt"))


@pytest.mark.skipif(sys.platform != "linux", reason="the test reads /proc")
def test_watchdog_is_there_only_if_asked_for_and_sleeps_while_no_request_runs() -> None:
    with serve(Site("loop")) as server:
        assert once(server.addresses[0], "/") == 200
        assert watchdogs() == []
    with serve(Site("loop"), request_timeout=TIMEOUT) as server:
        assert once(server.addresses[0], "/") == 200
        (task,) = watchdogs()
        before = ""

        def rests() -> bool:
            nonlocal before
            former, before = before, switches(task)
            threading.Event().wait(2 * TIMEOUT)
            return former == before

        eventually(rests, "no wake-ups")
        assert once(server.addresses[0], "/") == 200
    eventually(lambda: watchdogs() == [], "its end")


WAITING = """
import os, threading

def app(environ, start_response):
    if environ["PATH_INFO"] == "/stuck":
        print("inside", flush=True)
        while not os.path.exists("go"):
            threading.Event().wait(0.01)
    start_response("200 OK", [])
    return [b""]
"""


def test_time_in_which_the_process_is_stopped_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    options = ("--request-timeout", "1s", "--request-timeout-action", "interrupt")
    with Command("waiting:app", *options, cwd=tmp_path) as command:
        with RawClient(command.address) as client:
            client.send(get("/stuck"))
            command.stdout.wait_for("inside")
            command.process.send_signal(signal.SIGSTOP)
            # Time is the subject: more than the timeout.
            threading.Event().wait(3)
            (tmp_path / "go").touch()
            command.process.send_signal(signal.SIGCONT)
            assert client.receive().status == 200
        command.stop()
        assert not any("has no response" in line for line in command.stderr.seen)


HOLDING = """
import ctypes, re

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/held":
        ctypes.PyDLL(None).sleep(4)
    if path == "/match":
        # Some seconds, and for a longer text for ever.
        re.match(r"(a+)+$", "a" * 26 + "b")
    start_response("200 OK", [])
    return [b""]
"""


@pytest.mark.skipif(not HAS_LOCK, reason="without a lock, no call can hold it")
@pytest.mark.parametrize("path", ["/held", "/match"])
def test_interrupt_while_c_code_holds_the_interpreter_the_client_is_answered_and_the_stacks_shown(
    path: str, tmp_path: Path
) -> None:
    (tmp_path / "holding.py").write_text(HOLDING)
    options = ("--request-timeout", "500ms", "--request-timeout-action", "interrupt", "--threads", "2")
    with Command("holding:app", *options, cwd=tmp_path) as command, RawClient(command.address) as client:
        begun = time.monotonic()
        client.send(get(path))
        assert client.receive().status == 504
        assert time.monotonic() - begun < 3
        command.stderr.wait_for(f"GET {path} has no response after")
        command.stderr.wait_for("holds the interpreter lock, so that no Python thread runs; the stacks of all threads")
        command.stderr.wait_for('holding.py", line')
        # Once it is free, the log has it as well, and the thread serves again.
        command.stderr.wait_for("a call of C code held the interpreter lock until now")
        assert once(command.address, "/") == 200


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"request_timeout": 1, "request_timeout_action": "recycle"}, "request_timeout_action recycle needs workers"),
    ({"request_timeout_action": "interrupt"}, "request_timeout_action needs request_timeout"),
    ({"request_timeout_action": "recycle", "workers": 2}, "request_timeout_action needs request_timeout"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_action_without_what_it_needs_is_refused(options: dict[str, Any], message: str) -> None:
    makers: list[Callable[[], object]] = [
        lambda: Settings.from_keywords(**options),
        lambda: Settings.from_command({name: str(value) for name, value in options.items()}, {}),
    ]
    for make in makers:
        with pytest.raises(ConfigError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
