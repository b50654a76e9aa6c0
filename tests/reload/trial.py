"""A server under load while it is reloaded, and the report of what was lost."""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.victim import children, held
from tests.conformance.__main__ import version_in
from tests.reload.content import LEDGER
from tests.reload.events import Event, Operator, plan, write_next
from tests.reload.load import KINDS, Load, Record
from tests.reload.servers import SERVERS, WORKERS, Running, Server

__all__ = ["Holding", "Report", "Trial", "run_trial"]

QUIET_SECONDS = 1.0
"""What the load runs before the first event."""
SETTLE_SECONDS = 20.0
"""What the server may take to give back what the clients and former workers held."""
PRIVATE_GROWTH_KIB = 1024
"""What the supervisor's own memory may grow by, which its allocator keeps."""


@dataclass(frozen=True)
class Holding:
    """What a server holds while it has no client.

    Parameters:
        processes: the supervisor and all that it has started.
        threads: of all of them.
        descriptors: of all of them.
        supervisor_threads: of the supervisor alone, as the following.
        supervisor_descriptors: open files and sockets.
        pss_kib: its proportional share of memory.
        private_kib: its memory that no other process has.
    """

    processes: int
    threads: int
    descriptors: int
    supervisor_threads: int
    supervisor_descriptors: int
    pss_kib: int
    private_kib: int

    @staticmethod
    def of(pid: int) -> Holding:
        """Looks at a supervisor and its children."""
        everything, place = held(pid), Path(f"/proc/{pid}")
        sizes = re.findall(r"(\w+): +([0-9]+) kB", (place / "smaps_rollup").read_text())
        memory = {name: int(size) for name, size in sizes}
        return Holding(
            processes=1 + len(children(pid)),
            threads=everything.threads,
            descriptors=everything.descriptors,
            supervisor_threads=len(list((place / "task").iterdir())),
            supervisor_descriptors=len(list((place / "fd").iterdir())),
            pss_kib=memory["Pss"],
            private_kib=memory["Private_Clean"] + memory["Private_Dirty"],
        )

    def exceeds(self, before: Holding) -> list[str]:
        """Names of what has grown."""
        names = ["processes", "threads", "descriptors", "supervisor_threads", "supervisor_descriptors"]
        grown = [
            f"{name}: {getattr(before, name)} before, {getattr(self, name)} after"
            for name in names
            if getattr(self, name) > getattr(before, name)
        ]
        if self.private_kib > before.private_kib + PRIVATE_GROWTH_KIB:
            grown.append(f"private memory of the supervisor: {before.private_kib} KiB before, {self.private_kib} after")
        return grown


@dataclass(frozen=True)
class Trial:
    """What is tried.

    Parameters:
        server: a key of `SERVERS`.
        interface: `wsgi` or `asgi`.
        reloads: the number of signals that reload, at least.
        seed: for the events, their moments and the clients.
        python: the interpreter that has the server.
        options: more words for its command line.
    """

    server: str
    interface: str
    reloads: int
    seed: int
    python: str
    options: tuple[str, ...] = ()

    @property
    def kind_of_server(self) -> Server:
        """How it is started."""
        return SERVERS[self.server]

    def allowed_events(self) -> frozenset[Event]:
        """The events that occur."""
        offered = set(Event)
        if not self.kind_of_server.resizes:
            offered -= {Event.MORE, Event.FEWER, Event.RESIZED}
        if not self.kind_of_server.upgrades:
            offered -= {Event.UPGRADED}
        if not self.kind_of_server.keeps_former:
            # Nothing ends an import that hangs.
            offered -= {Event.HANGING}
        return frozenset(offered)


@dataclass
class Report:
    """What came of a trial.

    Parameters:
        trial: what was tried.
        version: of the server.
        record: what the clients saw.
        events: what happened.
        reloads: signals that reload.
        ends: times that the whole server ended, and was started again by hand.
        seconds: how long it lasted.
        before: what the server held before the load.
        after: what it held after it; None if it had ended meanwhile.
        problems: what went wrong beside the losses.
    """

    trial: Trial
    version: str
    record: Record
    events: Counter[Event]
    reloads: int
    ends: int
    seconds: float
    before: Holding
    after: Holding | None
    problems: list[str]

    @property
    def title(self) -> str:
        """Server, interface and options."""
        return f"{self.trial.server} ({', '.join([self.trial.interface.upper(), *self.trial.options])})"


def run_trial(trial: Trial) -> Report:
    """Starts a server, loads and reloads it, and stops it.

    Raises:
        AssertionError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="reload-") as name:
        folder = Path(name)
        write_next(folder, "quick", 1)
        server = Running(trial.server, trial.interface, folder, trial.python, trial.options)
        try:
            return asyncio.run(_run(trial, server))
        finally:
            server.stop()


async def _run(trial: Trial, server: Running) -> Report:
    began, before = time.monotonic(), Holding.of(server.pid)
    chance = random.Random(f"{trial.seed} events")
    has_sockets = trial.interface in trial.kind_of_server.sockets
    kinds = [kind for kind in KINDS if has_sockets or not kind.is_socket]
    load = Load(server.address, server.unix, kinds, trial.seed)
    operator = Operator(server, load, WORKERS, chance)
    load.begin()
    try:
        await asyncio.sleep(QUIET_SECONDS)
        await operator.run(plan(trial.allowed_events(), trial.reloads, chance))
    finally:
        await load.end()
    after = await _settled(server, before)
    record, problems = load.record, operator.problems
    record.check_runs(_runs(server.folder))
    if trial.kind_of_server.keeps_former:
        problems += after.exceeds(before) if after is not None else ["the server has ended"]
    return Report(
        trial=trial,
        version=version_in(Path(trial.python), trial.kind_of_server.package),
        record=record,
        events=operator.done,
        reloads=operator.reloads,
        ends=operator.ends,
        seconds=time.monotonic() - began,
        before=before,
        after=after,
        problems=problems,
    )


async def _settled(server: Running, before: Holding) -> Holding | None:
    end = time.monotonic() + SETTLE_SECONDS
    try:
        while (now := Holding.of(server.pid)).exceeds(before) and time.monotonic() < end:
            await asyncio.sleep(0.1)
    except OSError:
        # It has ended between two looks.
        return None
    return now


def _runs(folder: Path) -> Counter[int]:
    """How often the application ran, by the number of the request."""
    runs = Counter(map(int, (folder / LEDGER).read_text().split()))
    # What the server was asked for until it answered.
    del runs[0]
    return runs
