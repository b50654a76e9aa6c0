"""The messages between a supervisor and a worker, whole, in pieces, and wrong."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.support import PATIENCE
from wsgi.supervisor.channel import Command, Report, SupervisorEnd, WorkerEnd, WorkerId, open_channel


@contextlib.contextmanager
def channel() -> Iterator[tuple[SupervisorEnd, WorkerEnd]]:
    supervisor, worker = open_channel()
    with contextlib.closing(supervisor), contextlib.closing(worker):
        yield supervisor, worker


@contextlib.contextmanager
def raw() -> Iterator[tuple[SupervisorEnd, socket.socket]]:
    """A supervisor's end, and a worker that may send anything."""
    ours, theirs = socket.socketpair()
    supervisor = SupervisorEnd(ours)
    with contextlib.closing(supervisor), theirs:
        yield supervisor, theirs


def test_messages_arrive_whole_and_in_order() -> None:
    with channel() as (supervisor, worker):
        assert supervisor.receive() == []
        worker.send(Report.READY)
        worker.send(Report.FAILED, "wrong: ü")
        assert supervisor.receive() == [(Report.READY, ""), (Report.FAILED, "wrong: ü")]
        assert supervisor.receive() == []


def test_message_in_pieces_arrives_once_it_is_whole() -> None:
    with raw() as (supervisor, worker):
        for byte in b"f" + struct.pack("!I", 3) + b"ab":
            worker.sendall(bytes([byte]))
            assert supervisor.receive() == []
        worker.sendall(b"c")
        assert supervisor.receive() == [(Report.FAILED, "abc")]


def test_worker_that_has_ended_is_told_after_its_last_message() -> None:
    with channel() as (supervisor, worker):
        worker.send(Report.FAILED, "last")
        worker.close()
        assert supervisor.receive() == [(Report.FAILED, "last")]
        assert supervisor.receive() is None
        # It is lost, and nothing fails.
        supervisor.send(Command.STOP)


@pytest.mark.parametrize("wrong", [b"x\0\0\0\0", b"f\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n"])
def test_bytes_that_are_no_message_end_the_channel(wrong: bytes) -> None:
    with raw() as (supervisor, worker):
        worker.sendall(b"r\0\0\0\0" + wrong)
        assert supervisor.receive() == [(Report.READY, "")]
        worker.sendall(wrong)
        assert supervisor.receive() is None


def test_flood_is_read_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsgi.supervisor.channel._MAX_READS", 1)
    with raw() as (supervisor, worker):
        worker.sendall(b"r\0\0\0\0" * 20_000)
        received = supervisor.receive()
        assert received
        assert len(received) < 20_000


def test_text_that_is_too_long_loses_its_beginning() -> None:
    with channel() as (supervisor, worker):
        # It is more than the socket holds: the worker waits until it has been read.
        thread = threading.Thread(target=worker.send, args=[Report.FAILED, "x" * 300_000 + "the end"])
        thread.start()
        messages: list[tuple[Report, str]] = []
        while not messages and select.select([supervisor], [], [], PATIENCE)[0]:
            messages = supervisor.receive() or []
        thread.join(PATIENCE)
        ((kind, text),) = messages
        assert kind is Report.FAILED
        assert len(text) == 256 * 1024
        assert text.endswith("xthe end")


def test_text_with_lone_surrogates_is_escaped() -> None:
    with channel() as (supervisor, worker):
        worker.send(Report.FAILED, "\udc80")
        assert supervisor.receive() == [(Report.FAILED, "\\udc80")]


def test_commands_come_in_order_until_the_supervisor_has_gone() -> None:
    with channel() as (supervisor, worker):
        for command in Command:
            supervisor.send(command)
        supervisor.close()
        assert list(worker.commands()) == list(Command)


def test_command_to_a_worker_that_does_not_read_never_blocks() -> None:
    with channel() as (supervisor, _):
        for _ in range(100_000):
            supervisor.send(Command.REOPEN)


def test_report_to_a_supervisor_that_has_gone_is_dropped() -> None:
    with channel() as (supervisor, worker):
        supervisor.close()
        worker.send(Report.READY)


def test_template_gets_the_channel_and_the_slot_of_the_worker_to_fork() -> None:
    supervisor, template = open_channel()
    ours, theirs = open_channel(WorkerId(7, 9))
    supervisor.send(Command.REOPEN)
    supervisor.request_worker(theirs)
    theirs.close()
    supervisor.send(Command.DRAIN)
    orders = template.orders()
    assert next(orders) == (Command.REOPEN, None)
    command, channel = next(orders)
    assert command is Command.FORK
    assert channel is not None
    assert ours.worker == channel.worker == (7, 9)
    assert not os.get_inheritable(channel.fileno())
    channel.send(Report.READY)
    assert ours.receive() == [(Report.READY, "")]
    assert next(orders) == (Command.DRAIN, None)
    supervisor.close()
    assert list(orders) == []
    for end in (template, ours, channel):
        end.close()


def test_template_that_does_not_read_takes_no_more_requests() -> None:
    supervisor, template = open_channel()
    ours, theirs = open_channel(WorkerId())

    def request_many() -> None:
        for _ in range(100_000):
            supervisor.request_worker(theirs)

    with pytest.raises(OSError, match=r"unavailable|references"):
        request_many()
    for end in (supervisor, template, ours, theirs):
        end.close()


def test_end_that_is_taken_over_stays_open() -> None:
    supervisor, worker = open_channel(WorkerId(3))
    other = worker.take_over()
    worker.close()
    other.send(Report.READY)
    assert supervisor.receive() == [(Report.READY, "")]
    assert other.worker == (3, 0)
    for end in (supervisor, other):
        end.close()
