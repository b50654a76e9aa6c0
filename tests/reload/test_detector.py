"""The detector finds each fault of a server that has it, and calls it by its name and by no other."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from tests.reload.doubles import Double, End, Request, Reset, close_frame, frame, served
from tests.reload.faults import Fault
from tests.reload.load import KINDS, Kind, Load, Record

Send = Callable[[bytes], Coroutine[None, None, None]]

NAMED = {kind.name: kind for kind in KINDS}
NEW, KEPT, PAIRS = NAMED["new connections"], NAMED["keep-alive"], NAMED["pipelined pairs"]
POSTS, STREAMS, MESSAGES = NAMED["posts of 16 KiB"], NAMED["chunked streams"], NAMED["WebSocket messages"]
ANSWERS = 12
"""Answers after which a double has shown its fault more than once."""
PATIENCE_SECONDS = 10.0


async def _loaded(double: Double, kind: Kind, patience: float) -> Record:
    # Few clients that ask often: the fault of a kept connection needs more than one request.
    kind = replace(kind, rate=200.0, clients=min(kind.clients, 3))
    loop = asyncio.get_running_loop()
    async with served(double) as address:
        load = Load(address, "", [kind], seed=1, patience=patience)
        end = loop.time() + PATIENCE_SECONDS
        load.begin()
        while load.record.answered.total() + load.record.lost.total() < ANSWERS:
            assert loop.time() < end, "the load does not go on"
            await asyncio.sleep(0.01)
        await load.end()
    load.record.check_runs(Counter(double.runs))
    return load.record


def loaded(double: Double, kind: Kind, patience: float = PATIENCE_SECONDS) -> Record:
    """What one kind of clients sees of a double."""
    return asyncio.run(_loaded(double, kind, patience))


class Resets(Double):
    async def respond(self, request: Request, send: Send) -> None:
        if self.is_turn():
            raise Reset
        await super().respond(request, send)


class ResetsBehindResponse(Double):
    async def respond(self, request: Request, send: Send) -> None:
        await super().respond(request, send)
        if self.is_turn():
            # The client has read the response when it learns of the reset.
            await asyncio.sleep(0.02)
            raise Reset


class Ends(Double):
    async def respond(self, request: Request, send: Send) -> None:
        if self.is_turn():
            raise End
        await super().respond(request, send)


class EndsOnReuse(Double):
    async def respond(self, request: Request, send: Send) -> None:
        if request.index > 0 and self.is_turn():
            raise End
        await super().respond(request, send)


class ResetsOnReuse(Double):
    async def respond(self, request: Request, send: Send) -> None:
        if request.index > 0 and self.is_turn():
            raise Reset
        await super().respond(request, send)


class AnswersFirstOfTwo(Double):
    async def respond(self, request: Request, send: Send) -> None:
        await super().respond(request, send)
        if int(request.number) % 2:
            raise End


class CutsShort(Double):
    async def respond(self, request: Request, send: Send) -> None:
        if self.is_turn():
            await send(self.response(request)[:-1])
            raise End
        await super().respond(request, send)


class LeavesOutChunks(Double):
    def content(self, request: Request) -> list[bytes]:
        content = super().content(request)
        return content[:-1] if self.is_turn() else content


class AnswersTwice(Double):
    async def respond(self, request: Request, send: Send) -> None:
        await send(self.response(request) * (2 if self.is_turn() else 1))
        self.runs = list(set(self.runs))


class MixesUp(Double):
    def content(self, request: Request) -> list[bytes]:
        number = int(request.number) + 1_000_000 if self.is_turn() else request.number
        return super().content(replace(request, number=str(number)))


class SwapsChunks(Double):
    def content(self, request: Request) -> list[bytes]:
        content = super().content(request)
        if self.is_turn():
            content[3:5] = reversed(content[3:5])
        return content


class MixesUpWorkers(Double):
    def content(self, request: Request) -> list[bytes]:
        content = super().content(request)
        if self.is_turn():
            content[4] = content[4].replace(b" 1 1 ", b" 2 1 ")
        return content


class MixesUpBodies(Double):
    def content(self, request: Request) -> list[bytes]:
        return super().content(replace(request, body=request.body[1:] if self.is_turn() else request.body))


class ClosesIdle(Double):
    async def respond(self, request: Request, send: Send) -> None:
        await super().respond(request, send)
        if self.is_turn():
            raise End


class Fails(Double):
    def response(self, request: Request) -> bytes:
        response = super().response(request)
        return response.replace(b" 200 OK", b" 503 Service Unavailable") if self.is_turn() else response


class Garbles(Double):
    def response(self, request: Request) -> bytes:
        response = super().response(request)
        return response.replace(b"HTTP/1.1", b"HTTP/1,1") if self.is_turn() else response


class NeverAnswers(Double):
    async def respond(self, request: Request, send: Send) -> None:
        if self.is_turn():
            # The client has given up and closed by then.
            await asyncio.sleep(0.5)
            raise End
        await super().respond(request, send)


class RunsTwice(Double):
    def content(self, request: Request) -> list[bytes]:
        if self.is_turn():
            super().content(request)
        return super().content(request)


class DropsMessages(Double):
    async def message(self, number: str, send: Send) -> None:
        if self.is_turn():
            self.runs.append(int(number))
            await send(close_frame(1012))
            raise End
        await super().message(number, send)


class DropsMessagesUnseen(Double):
    async def message(self, number: str, send: Send) -> None:
        if self.is_turn():
            await asyncio.sleep(0.6)
            await send(close_frame(1012))
            raise End
        await super().message(number, send)


class CutsWebSockets(Double):
    async def message(self, number: str, send: Send) -> None:
        await super().message(number, send)
        if self.is_turn():
            raise End


class CutsMessages(Double):
    async def message(self, number: str, send: Send) -> None:
        if self.is_turn():
            raise Reset
        await super().message(number, send)


class ClosesWrong(Double):
    async def message(self, number: str, send: Send) -> None:
        await super().message(number, send)
        if self.is_turn():
            await send(close_frame(1011))
            raise End


class AnswersMessagesTwice(Double):
    async def message(self, number: str, send: Send) -> None:
        await super().message(number, send)
        if self.is_turn():
            await send(frame(0x1, f"{number} 1 1".encode()))


class MixesUpMessages(Double):
    async def message(self, number: str, send: Send) -> None:
        await super().message(str(int(number) + 1_000_000) if self.is_turn() else number, send)


FAULTY: list[tuple[type[Double], Kind, Fault]] = [
    (Resets, NEW, Fault.RESET),
    (Resets, STREAMS, Fault.RESET),
    (ResetsBehindResponse, NEW, Fault.RESET),
    (Ends, NEW, Fault.UNANSWERED),
    (EndsOnReuse, KEPT, Fault.LOST_ON_REUSE),
    (ResetsOnReuse, POSTS, Fault.LOST_ON_REUSE),
    (AnswersFirstOfTwo, PAIRS, Fault.UNANSWERED),
    (CutsShort, NEW, Fault.SHORT),
    (CutsShort, KEPT, Fault.SHORT),
    (CutsShort, STREAMS, Fault.SHORT),
    (LeavesOutChunks, STREAMS, Fault.SHORT),
    (AnswersTwice, NEW, Fault.DOUBLED),
    (AnswersTwice, KEPT, Fault.DOUBLED),
    (AnswersTwice, PAIRS, Fault.DOUBLED),
    (AnswersTwice, POSTS, Fault.DOUBLED),
    (MixesUp, NEW, Fault.MIXED_UP),
    (MixesUp, PAIRS, Fault.MIXED_UP),
    (SwapsChunks, STREAMS, Fault.MIXED_UP),
    (MixesUpWorkers, STREAMS, Fault.MIXED_UP),
    (MixesUpBodies, POSTS, Fault.MIXED_UP),
    (ClosesIdle, KEPT, Fault.CLOSED_IDLE),
    (Fails, KEPT, Fault.FAILED),
    (Garbles, NEW, Fault.MALFORMED),
    (RunsTwice, POSTS, Fault.RUN_TWICE),
    (DropsMessages, MESSAGES, Fault.DROPPED_MESSAGE),
    (DropsMessagesUnseen, MESSAGES, Fault.DROPPED_MESSAGE),
    (CutsMessages, MESSAGES, Fault.DROPPED_MESSAGE),
    (CutsWebSockets, MESSAGES, Fault.SHORT),
    (ClosesWrong, MESSAGES, Fault.WRONG_CLOSE),
    (AnswersMessagesTwice, MESSAGES, Fault.DOUBLED),
    (MixesUpMessages, MESSAGES, Fault.MIXED_UP),
]


@pytest.mark.parametrize(
    ("double", "kind", "fault"), FAULTY, ids=[f"{double.__name__}-{kind.name}" for double, kind, _ in FAULTY]
)
def test_fault_of_a_server_is_found_and_named(double: type[Double], kind: Kind, fault: Fault) -> None:
    record = loaded(double(), kind)
    assert set(record.lost_by("fault")) == {fault}, record.details


def test_response_that_never_comes_is_late() -> None:
    assert set(loaded(NeverAnswers(), NEW, patience=0.2).lost_by("fault")) == {Fault.LATE}


def test_every_fault_is_shown_by_a_double() -> None:
    assert {fault for _, _, fault in FAULTY} | {Fault.REFUSED, Fault.LATE} == set(Fault)


@pytest.mark.parametrize("kind", [NEW, KEPT, PAIRS, POSTS, STREAMS, MESSAGES], ids=lambda kind: kind.name)
def test_good_server_loses_nothing(kind: Kind) -> None:
    record = loaded(Double(), kind)
    assert record.lost.total() == 0, record.details
    assert record.answered[kind.name] >= ANSWERS


def test_address_that_takes_no_connection_is_refused() -> None:
    async def run(address: str) -> Record:
        load = Load(address, "", [replace(NEW, rate=100.0)], seed=1)
        load.begin()
        while load.record.lost.total() < ANSWERS:
            await asyncio.sleep(0.01)
        await load.end()
        return load.record

    with socket.socket() as bound:
        # Bound and not listening: the port is no other program's.
        bound.bind(("127.0.0.1", 0))
        record = asyncio.run(run(f"http://127.0.0.1:{bound.getsockname()[1]}"))
    assert set(record.lost_by("fault")) == {Fault.REFUSED}


class AnnouncesEnd(Double):
    def response(self, request: Request) -> bytes:
        return super().response(replace(request, is_last=True))

    async def respond(self, request: Request, send: Send) -> None:
        await super().respond(request, send)
        raise End


def test_announced_end_of_a_connection_is_counted_and_no_loss() -> None:
    record = loaded(AnnouncesEnd(), KEPT)
    assert record.lost.total() == 0, record.details
    assert record.announced[KEPT.name] == record.answered[KEPT.name]


class Restarts(Double):
    async def message(self, number: str, send: Send) -> None:
        if self.is_turn():
            # It has not seen the message.
            await send(close_frame(1012))
            raise End
        await super().message(number, send)


def test_message_that_crosses_a_close_frame_is_counted_and_no_loss() -> None:
    record = loaded(Restarts(), MESSAGES)
    assert record.lost.total() == 0, record.details
    assert record.crossed
    assert record.announced[MESSAGES.name] >= len(record.crossed)
