"""Sends every wire case in every form: whole, byte by byte, and in two at each offset.

Hundreds of connections are open at the same time, so which of them made which call is not known at first. The calls
that the answers of a batch prove must be all that the application logged; where they are not, the batch is repeated
one connection at a time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.conformance.catalogue import WireCase
from tests.conformance.journal import Journal
from tests.conformance.judge import CRASH, LET_THROUGH, LOST, Miss, Rules, judge
from tests.conformance.wire import Exchange, Script, Transcript

SEED = 9112
LARGE = 2000
"""Cases above this size are cut at offsets that are drawn, and near their end, where something is decided."""
EDGE = 150
BETWEEN_BYTES = 0.0003
BETWEEN_HALVES = 0.004
"""Seconds in which the server is to read the first part, so that it sees a cut."""


@dataclass(frozen=True)
class Subject:
    """A server under test that serves the probe."""

    address: str
    journal: Journal
    rules: Rules
    patience: float = 5.0
    width: int = 200
    """Connections at the same time."""
    pipelined: bool = False
    """As for `Forms`."""
    pid: int = 0
    """The process whose memory and time are looked at, with all below it."""
    revive: Callable[[], bool] = lambda: False
    """Starts the server again if it has died, and tells whether it had."""


@dataclass(frozen=True)
class Variant:
    """A case in one form."""

    case: WireCase
    form: str
    script: Script


class Forms:
    """The forms of a case.

    Parameters:
        case: what is sent.
        pipelined: whether the requests that prove the connection to be in step are sent without waiting.
    """

    def __init__(self, case: WireCase, pipelined: bool) -> None:
        self.case = case
        self.data, self.follow = case.requests(pipelined)

    def _variant(self, form: str, parts: Sequence[bytes], pause: float = 0.0) -> Variant:
        return Variant(self.case, form, Script(parts, pause, self.follow, leaves=self.case.is_cut))

    def whole(self) -> Variant:
        """The case in one write."""
        return self._variant("whole", [self.data])

    def by_byte(self) -> Variant:
        """The case in single bytes; the middle of a large one in one write."""
        if len(self.data) > LARGE:
            parts = [*singly(self.data[:EDGE]), self.data[EDGE:-EDGE], *singly(self.data[-EDGE:])]
        else:
            parts = singly(self.data)
        return self._variant("byte by byte", parts, BETWEEN_BYTES)

    def splits(self, most: int | None) -> Iterator[Variant]:
        """The case in two parts.

        Parameters:
            most: how many offsets are drawn; None takes each, and of a large case some and those at its end.
        """
        offsets: Sequence[int] = range(1, len(self.data))
        draw = random.Random(f"{SEED} {self.case.id}")
        if most is None and len(self.data) > LARGE:
            offsets = sorted({*draw.sample(offsets, EDGE), *offsets[-EDGE:]})
        elif most is not None:
            offsets = sorted(draw.sample(offsets, min(most, len(offsets))))
        for at in offsets:
            yield self._variant(f"split at {at}", [self.data[:at], self.data[at:]], BETWEEN_HALVES)


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def replay(subject: Subject, cases: Sequence[WireCase], most: int | None = None) -> dict[str, Miss]:
    """Runs all cases and gives those that were missed, with the form in which it was seen first.

    Parameters:
        subject: the server.
        cases: what is sent.
        most: as for `Forms.splits`.
    """
    missed: dict[str, Miss] = {}
    forms = {case.id: Forms(case, subject.pipelined) for case in cases}
    _stage(subject, [each.whole() for each in forms.values()], missed)
    left = [each for name, each in forms.items() if name not in missed]
    # The longest together, so that few batches wait for one that sends its bytes singly.
    cut = [variant for each in left for variant in (each.by_byte(), *each.splits(most))]
    _stage(subject, sorted(cut, key=lambda variant: -len(variant.script.parts)), missed)
    return missed


def _stage(subject: Subject, variants: Sequence[Variant], missed: dict[str, Miss]) -> None:
    for at in range(0, len(variants), subject.width):
        _batch(subject, variants[at : at + subject.width], missed)


def _batch(subject: Subject, variants: Sequence[Variant], missed: dict[str, Miss]) -> None:
    variants = [variant for variant in variants if variant.case.id not in missed]
    while variants:
        transcripts = _run(subject, variants)
        if transcripts is None:
            _one_by_one(subject, variants, missed)
            return
        made, may, failed = Counter[str](), Counter[str](), False
        for variant, transcript in zip(variants, transcripts, strict=True):
            found = judge(variant.case, transcript, subject.rules)
            if isinstance(found, Miss):
                missed.setdefault(variant.case.id, Miss(found.kind, f"{variant.form}: {found.text}"))
                failed = True
            else:
                made += found.made
                may += found.may
        logged = _logged(subject)
        if not failed:
            if _difference(logged, made, may):
                _one_by_one(subject, variants, missed)
            return
        # Who made which call is not known now: the others are run again without those that failed.
        variants = [variant for variant in variants if variant.case.id not in missed]


def _one_by_one(subject: Subject, variants: Sequence[Variant], missed: dict[str, Miss]) -> None:
    for variant in variants:
        if variant.case.id in missed:
            continue
        subject.revive()
        subject.journal.take()
        transcripts = _run(subject, [variant])
        if transcripts is None:
            missed[variant.case.id] = Miss(CRASH, f"{variant.form}: the server ended or stopped accepting")
            continue
        found = judge(variant.case, transcripts[0], subject.rules)
        miss = found if isinstance(found, Miss) else _difference(_logged(subject), found.made, found.may)
        if miss is not None:
            missed[variant.case.id] = Miss(miss.kind, f"{variant.form}: {miss.text}")


def _run(subject: Subject, variants: Sequence[Variant]) -> list[Transcript] | None:
    try:
        transcripts = Exchange(subject.address, subject.patience).run([variant.script for variant in variants])
    except OSError:
        subject.revive()
        return None
    return None if subject.revive() else transcripts


def _logged(subject: Subject) -> Counter[str]:
    return Counter(line if line.startswith("call ") else line.split(" ")[0] for line in subject.journal.take())


def _difference(logged: Counter[str], made: Counter[str], may: Counter[str]) -> Miss | None:
    """Holds the calls that were logged against those that the answers prove and those that may have been made."""
    if absent := made - logged:
        return Miss(LOST, f"answered, but never called: {', '.join(absent)}")
    if strange := logged - made - may:
        return Miss(LET_THROUGH, f"called, but never answered: {', '.join(strange)}")
    return None
