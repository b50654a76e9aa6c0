"""One attack on one server, with a client that wants to be served meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.attacks.catalogue import Attack
from tests.attacks.probe import Probe, Seen
from tests.attacks.swarm import Swarm
from tests.attacks.victim import MIB, Held, Victim, Watch, held, settled

RETURN = 30.0
"""Seconds in which everything must be given back: a refused client may linger for ten."""
SPOOL_SLACK = 1
"""MiB that a last piece may be above its bound when it is looked at."""


@dataclass
class Outcome:
    """What came of an attack."""

    attack: Attack
    count: int
    connections: int
    """How many the attack made."""
    seen: Seen
    """How the other client was served."""
    before: Held
    peak: Held
    after: Held
    calls: int
    """Requests that the application saw, those of the other client included."""

    @property
    def defeats(self) -> list[str]:
        """What the attack has brought about and must not."""
        found = []
        if self.seen.failures:
            found.append(f"{len(self.seen.failures)} requests of others failed, such as {self.seen.failures[0]}")
        grown = (self.peak.resident - self.before.resident) / MIB
        if grown > self.attack.bound:
            found.append(f"memory grew by {grown:.0f} MiB, its bound is {self.attack.bound}")
        if self.peak.spooled > (self.attack.spool + SPOOL_SLACK) * MIB:
            found.append(f"files took {self.peak.spooled / MIB:.0f} MiB, their bound is {self.attack.spool}")
        for what, before, after in (
            ("descriptors", self.before.descriptors, self.after.descriptors),
            ("threads", self.before.threads, self.after.threads),
        ):
            if after > before:
                found.append(f"{what} are {after} after it, and were {before}")
        return found

    def row(self) -> str:
        """The outcome as a line of the table."""
        seen, before, peak, after = self.seen, self.before, self.peak, self.after
        cells = [
            self.attack.name,
            f"{self.count:,}",
            f"{self.connections:,}",
            f"{100 * seen.availability:.1f} %",
            " / ".join(f"{1000 * seen.quantile(share):.1f}" for share in (0.5, 0.99, 1.0)),
            " / ".join(f"{state.resident / MIB:.0f}" for state in (before, peak, after)),
            f"{self.attack.bound}",
            f"{peak.spooled / MIB:.0f}",
            f"{after.processor - before.processor:.1f}",
            f"{before.descriptors} / {peak.descriptors} / {after.descriptors}",
            f"{before.threads} / {peak.threads} / {after.threads}",
            f"{self.calls:,}",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = """\
| attack | clients | connections made | others served | their ms p50 / p99 / max | memory MiB before / peak / after | \
growth allowed | files MiB | CPU s | descriptors | threads | requests run |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def fight(attack: Attack, count: int, seconds: float) -> Outcome:
    """Attacks a fresh server with `count` clients, for so long after all of them have connected once."""
    with Victim(*attack.options, files=attack.files) as victim:
        victim.state()
        before = held(victim.pid)
        with Watch(victim.pid) as watch:
            with Probe(victim.address) as probe, Swarm(victim.address, attack.habit, count) as swarm:
                end = time.monotonic() + 3 * seconds
                while swarm.connections < count and time.monotonic() < end:
                    swarm.turn()
                swarm.run(seconds)
            after = before
            for after in settled(victim.pid, before, RETURN):  # noqa: B007
                pass
        calls = victim.state()["calls"]
        return Outcome(attack, count, swarm.connections, probe.seen, before, watch.peak, after, calls)
