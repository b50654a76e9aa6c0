"""One attack on one server, with a client that wants to be served meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from tests.attacks.catalogue import Attack
from tests.attacks.probe import Probe, Seen
from tests.attacks.swarm import Swarm
from tests.attacks.victim import MIB, Held, Peer, Victim, Watch, held, settled, state_at

RETURN = 30.0
"""Seconds in which everything must be given back: a refused client may linger for ten."""
SPOOL_SLACK = 1
"""MiB that a last piece may be above its bound when it is looked at."""


@dataclass
class Outcome:
    """What came of an attack."""

    attack: Attack
    interface: str
    count: int
    connections: int
    """How many the attack made."""
    quiet: Seen
    """How the other client was served before it."""
    seen: Seen
    """How it was served meanwhile."""
    before: Held
    peak: Held
    after: Held
    calls: int
    """Requests that the application saw, those of the other client included."""
    broken: list[str] = field(default_factory=list)
    """What the server itself failed to do after the attack."""

    @property
    def defeats(self) -> list[str]:
        """What the attack has brought about and must not."""
        found = list(self.broken)
        if self.seen.availability < self.attack.served:
            failed = len(self.seen.failures)
            found.append(f"{failed} requests of others failed, such as {self.seen.failures[0]}")
        delay = self.seen.quantile(0.5)
        if delay > self.attack.delay:
            found.append(f"half of the others waited for {delay:.1f} s or more, their bound is {self.attack.delay}")
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
            self.interface,
            f"{self.count:,}",
            f"{self.connections:,}",
            f"{100 * seen.availability:.1f} %",
            self.quiet.times(0.5, 0.99),
            seen.times(0.5, 0.99, 1.0),
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
| attack | interface | clients | connections made | others served | quiet ms p50 / p99 | their ms p50 / p99 / max | \
memory MiB before / peak / after | growth allowed | files MiB | CPU s | descriptors | threads | requests run |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def fight(
    attack: Attack, interface: str, count: int, seconds: float, *, quiet: float = 0.0, server: str | None = None
) -> Outcome:
    """Attacks a fresh server.

    Parameters:
        count: the hostile clients.
        seconds: how long it lasts after all of them have connected once.
        quiet: seconds for which the other client is alone before that.
        server: the command line of another server, which is started without the attack's options.
    """
    if server is None:
        victim: Victim | Peer = Victim(*attack.options, files=attack.files, interface=interface)
    else:
        victim = Peer(server, attack.files, interface)
    try:
        outcome = _fight(victim, attack, interface, count, seconds, quiet)
        if victim.process.poll() is not None:
            outcome.broken.append("the server has ended")
    except BaseException:
        with suppress(subprocess.TimeoutExpired):
            victim.stop()
        raise
    try:
        victim.stop()
    except subprocess.TimeoutExpired:
        outcome.broken.append("the server does not stop")
    return outcome


def _fight(victim: Victim | Peer, attack: Attack, interface: str, count: int, seconds: float, quiet: float) -> Outcome:
    pid = victim.process.pid
    with Probe(victim.address, attack.asks) as alone:
        threading.Event().wait(quiet)
    begun = state_at(victim.address)["calls"]
    before = held(pid)
    with Watch(pid) as watch:
        with Probe(victim.address, attack.asks) as probe, Swarm(victim.address, attack.habit, count) as swarm:
            end = time.monotonic() + 3 * seconds
            while swarm.connections < count and time.monotonic() < end:
                swarm.turn()
            swarm.run(seconds)
        after = before
        for after in settled(pid, before, RETURN):  # noqa: B007
            pass
    outcome = Outcome(
        attack, interface, count, swarm.connections, alone.seen, probe.seen, before, watch.peak, after, calls=0
    )
    try:
        outcome.calls = state_at(victim.address)["calls"] - begun
    except (OSError, AssertionError) as failure:
        outcome.broken.append(f"nothing is answered after it: {failure!r}")
    return outcome


def time_to_stop(attack: Attack, interface: str, count: int, grace: float, patience: float) -> float | None:
    """Seconds that a server takes to end when it is told to in the midst of an attack; None beyond `patience`.

    Parameters:
        grace: its `graceful_timeout` in seconds.
    """
    options = (*attack.options, "--graceful-timeout", f"{grace}s")
    victim = Victim(*options, files=attack.files, interface=interface)
    with victim, Swarm(victim.address, attack.habit, count) as swarm:
        swarm.run(0.5)
        victim.process.terminate()
        told = time.monotonic()
        while time.monotonic() < told + patience:
            swarm.turn()
            if victim.process.poll() is not None:
                return time.monotonic() - told
    return None
