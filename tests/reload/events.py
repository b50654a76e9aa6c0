"""What happens to a server under load: reloads of every kind, and changes of the number of workers."""

from __future__ import annotations

import asyncio
import enum
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.reload.content import IMPORTS, NEXT
from tests.reload.load import Load
from tests.reload.servers import Running

__all__ = ["RELOADS", "Event", "Operator", "plan", "write_next"]

LONGEST_GAP_SECONDS = 2.0
"""Between the end of an event and the next."""
LONGEST_RELOAD_SECONDS = 1.5
"""Between a SIGHUP and another signal during the reload."""
PATIENCE_SECONDS = 40.0
"""What an event may take."""
MOST_WORKERS = 4
AFTERMATH_SECONDS = 5.0
"""In which a server whose import failed may end."""


class Event(enum.Enum):
    """One kind of event."""

    QUICK = "quick import"
    SLOW = "slow import"
    FAILING = "failing import"
    HANGING = "hanging import"
    TWICE = "reload during a reload"
    RESIZED = "another number of workers during a reload"
    UPGRADED = "new program (SIGUSR2)"
    MORE = "a worker more"
    FEWER = "a worker less"


SHARES = {
    Event.QUICK: 10,
    Event.SLOW: 4,
    Event.FAILING: 2,
    Event.HANGING: 1,
    Event.TWICE: 4,
    Event.RESIZED: 2,
    Event.UPGRADED: 2,
    Event.MORE: 2,
    Event.FEWER: 2,
}
RELOADS = {
    Event.QUICK: 1,
    Event.SLOW: 1,
    Event.FAILING: 1,
    Event.HANGING: 1,
    Event.TWICE: 2,
    Event.RESIZED: 1,
    Event.UPGRADED: 1,
}
"""Events that reload, and how often."""


def plan(events: frozenset[Event], reloads: int, chance: random.Random) -> list[Event]:
    """Events until there are so many reloads: each of `events` once, then by their shares."""
    first = [event for event in Event if event in events]
    chance.shuffle(first)
    planned: list[Event] = []
    while first or sum(RELOADS.get(event, 0) for event in planned) < reloads:
        if first:
            planned.append(first.pop())
        else:
            shares = {event: share for event, share in SHARES.items() if event in events}
            planned += chance.choices(list(shares), list(shares.values()))
    return planned


def write_next(folder: Path, mode: str, generation: int) -> None:
    """Says what the next import does."""
    # A worker may read it at this moment.
    new = folder / f"{NEXT}.new"
    new.write_text(f"{mode} {generation}")
    new.replace(folder / NEXT)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Operator:
    """Does to a server what an operator does, and sees what comes of it.

    Parameters:
        server: what is reloaded.
        load: its clients, who see which workers answer.
        workers: the number of workers that the server was started with.
        chance: what moments are drawn from.
    """

    def __init__(self, server: Running, load: Load, workers: int, chance: random.Random) -> None:
        self.done: Counter[Event] = Counter()
        self.reloads = 0
        """Signals that reload."""
        self.problems: list[str] = []
        self.ends = 0
        """Times that the whole server has ended, or did not react any more."""
        self._server = server
        self._load = load
        self._workers = workers
        self._target = workers
        self._chance = chance
        self._generation = 1
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self, events: list[Event]) -> None:
        """Carries them out at random moments; at the end the number of workers is what it was."""
        for event in events:
            await asyncio.sleep(self._chance.uniform(0, LONGEST_GAP_SECONDS))
            await self._start_again_if_ended()
            await self._carry_out(event)
        while self._target != self._workers and not self.problems:
            await self._carry_out(Event.MORE if self._target < self._workers else Event.FEWER)
        await asyncio.gather(*self._leaving)
        await self._start_again_if_ended()

    async def _carry_out(self, event: Event) -> None:
        self._load.record.begin_event(event.value)
        self.done[event] += 1
        act = {
            Event.QUICK: self._reload_quickly,
            Event.SLOW: self._reload_slowly,
            Event.FAILING: self._fail,
            Event.HANGING: self._hang,
            Event.TWICE: self._reload_twice,
            Event.RESIZED: self._reload_and_resize,
            Event.UPGRADED: self._upgrade,
            Event.MORE: self._grow,
            Event.FEWER: self._shrink,
        }[event]
        await act()

    async def _start_again_if_ended(self) -> None:
        if self._server.has_ended():
            self.ends += 1
            self._next("quick")
            await asyncio.to_thread(self._server.start)
            self._target = self._workers

    def _complain(self, problem: str) -> None:
        self.problems.append(f"{self._load.record.event}: {problem}")

    def _next(self, mode: str) -> int:
        self._generation += 1
        write_next(self._server.folder, mode, self._generation)
        return self._generation

    def _signal_reload(self, number: signal.Signals = signal.SIGHUP) -> None:
        self.reloads += 1
        self._server.signal(number)

    def _imports(self) -> Iterator[tuple[str, int, int]]:
        """Mode, generation and pid of each import."""
        for line in (self._server.folder / IMPORTS).read_text().splitlines():
            mode, generation, pid = line.split()
            yield mode, int(generation), int(pid)

    def _running(self) -> set[int]:
        """The workers, as far as they have imported the application or answered."""
        seen = {pid for _, _, pid in self._imports()} | set(self._load.record.workers)
        return {pid for pid in seen if is_running(pid)}

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition() and not self._server.has_ended():
            if time.monotonic() > end:
                self._complain(f"{what} did not come within {PATIENCE_SECONDS:g} s")
                if not self._server.keeps_former:
                    # It may not react to a signal any more, and is started again.
                    await asyncio.to_thread(self._server.stop)
                return
            await asyncio.sleep(0.02)

    async def _replaced(self, former: set[int], generation: int) -> None:
        """Waits until the new workers answer; the former may still finish requests."""
        answering = self._load.record.workers

        def is_replaced() -> bool:
            new = [pid for pid, answered in answering.items() if answered == generation and is_running(pid)]
            return len(new) >= self._target or not former & self._running()

        async def leave() -> None:
            with self._load.reloading():
                await self._until(lambda: not any(map(is_running, former)), "the end of the former workers")

        leaving = asyncio.create_task(leave())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await self._until(is_replaced, "answers of the new workers")

    async def _reload_quickly(self) -> None:
        await self._reload("quick")

    async def _reload_slowly(self) -> None:
        await self._reload("slow")

    async def _reload(self, mode: str) -> None:
        former = self._running()
        generation = self._next(mode)
        self._signal_reload()
        await self._replaced(former, generation)

    async def _upgrade(self) -> None:
        former = self._running()
        generation = self._next("quick")
        self._signal_reload(signal.SIGUSR2)
        await self._replaced(former, generation)

    async def _reload_twice(self) -> None:
        former = self._running()
        # Where a failed import ends the workers, that is an event of its own.
        modes = ["quick", "slow", "fail", "hang"] if self._server.keeps_former else ["quick", "slow"]
        self._next(self._chance.choice(modes))
        with self._load.reloading():
            self._signal_reload()
            await asyncio.sleep(self._chance.uniform(0, LONGEST_RELOAD_SECONDS))
            generation = self._next("quick")
            self._signal_reload()
            await self._replaced(former, generation)

    async def _reload_and_resize(self) -> None:
        former = self._running()
        generation = self._next(self._chance.choice(["quick", "slow"]))
        with self._load.reloading():
            self._signal_reload()
            await asyncio.sleep(self._chance.uniform(0, LONGEST_RELOAD_SECONDS))
            change = -1 if self._target == MOST_WORKERS else 1 if self._target == 1 else self._chance.choice([-1, 1])
            self._target += change
            self._server.signal(signal.SIGTTIN if change > 0 else signal.SIGTTOU)
            await self._replaced(former, generation)

    async def _fail(self) -> None:
        await self._give_up("fail")

    async def _hang(self) -> None:
        await self._give_up("hang")

    async def _give_up(self, mode: str) -> None:
        serving, generation = len(self._serving()), self._next(mode)

        def is_over() -> bool:
            pids = [pid for _, imported, pid in self._imports() if imported == generation]
            return bool(pids) and not any(map(is_running, pids))

        with self._load.reloading():
            self._signal_reload()
            await self._until(is_over, "the end of the worker that does not import")
            self._next("quick")
        if not self._server.keeps_former:
            end = time.monotonic() + AFTERMATH_SECONDS
            while time.monotonic() < end:
                await self._start_again_if_ended()
                await asyncio.sleep(0.05)
        elif not self._server.recycles and len(self._serving()) < min(serving, self._target):
            self._complain(f"{serving} workers served before, {len(self._serving())} after")

    def _serving(self) -> set[int]:
        """The workers that have answered with the newest generation that any has."""
        generations = {pid: number for pid, number in self._load.record.workers.items() if is_running(pid)}
        return {pid for pid, number in generations.items() if number == max(generations.values())}

    async def _grow(self) -> None:
        if self._target == MOST_WORKERS:
            return
        self._target += 1
        before = self._running()
        self._server.signal(signal.SIGTTIN)
        await self._until(lambda: bool(self._running() - before), "the start of one more worker")

    async def _shrink(self) -> None:
        if self._target == 1:
            return
        self._target -= 1
        with self._load.reloading():
            self._server.signal(signal.SIGTTOU)
            # A process that imports the application and serves nothing is no worker.
            answering = self._load.record.workers
            await self._until(lambda: sum(map(is_running, answering)) <= self._target, "the end of a worker")
