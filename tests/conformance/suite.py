"""Runs all cases against one server, and keeps the score."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import conversations, environs, extremes, mistakes, resources, responses
from tests.conformance.catalogue import Entry, wire_cases
from tests.conformance.exchanges import ProbeCase
from tests.conformance.judge import Miss, Rules
from tests.conformance.replay import replay
from tests.conformance.scripts import SCRIPTS, ScriptCase
from tests.conformance.servers import Launch
from tests.conformance.target import NotStarted, Target

CONVERSATIONS = (conversations, extremes, resources)
"""Each enters its cases into `SCRIPTS` as it is imported."""
PROBES: list[ProbeCase] = [*responses.CASES, *mistakes.CASES, *environs.CASES]
TRANSPORTS = ("tcp", "unix")


@dataclass
class Score:
    """How a server did."""

    name: str
    missed: dict[str, dict[str, Miss]] = field(default_factory=dict)
    """By case and by the setting in which it was missed."""
    not_offered: dict[str, str] = field(default_factory=dict)
    """Cases that need what the server does not have, and what that is."""
    settings: list[str] = field(default_factory=list)
    """What was run: transports and ways of the application."""
    failures: dict[str, str] = field(default_factory=dict)
    """Settings in which the server did not start, and what it said."""
    deaths: int = 0

    def add(self, setting: str, case_id: str, miss: Miss | None) -> None:
        """Notes a miss."""
        if miss is not None:
            self.missed.setdefault(case_id, {})[setting] = miss


def entries() -> list[Entry]:
    """Every case there is."""
    return [*wire_cases(), *PROBES, *SCRIPTS]


class Suite:
    """A run against one server.

    Parameters:
        name: what the score is called.
        launch: how the server is started.
        python: the interpreter of its environment.
        patience: seconds without progress until something counts as hung.
        most: offsets at which each wire case is split; None takes all.
        only: identifiers of the cases to run; none of them means all.
        say: gets a line about each step.
    """

    def __init__(
        self,
        name: str,
        launch: Launch,
        python: Path,
        *,
        patience: float = 5.0,
        most: int | None = None,
        only: Collection[str] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.score = Score(name)
        self.launch, self.python, self.patience, self.most, self.only, self.say = (
            launch, python, patience, most, only, say,
        )  # fmt: skip

    def run(self) -> Score:
        """Runs every case in every setting that it concerns."""
        for transport in TRANSPORTS:
            if not (self.launch.unix if transport == "unix" else self.launch.tcp):
                continue
            self._setting(transport, reads=True, brief=False)
            self._setting(transport, reads=False, brief=False)
        transport = "tcp" if self.launch.tcp else "unix"
        if self.launch.offers:
            self._setting(transport, reads=True, brief=True)
        for case in self._chosen(SCRIPTS):
            if case.needs and case.needs not in self.launch.offers:
                self.score.not_offered[case.id] = case.needs
            if case.linux and sys.platform != "linux":
                self.score.not_offered[case.id] = "/proc"
        return self.score

    def _chosen(self, cases: list[ScriptCase]) -> list[ScriptCase]:
        return [case for case in cases if not self.only or case.id in self.only]

    def _setting(self, transport: str, *, reads: bool, brief: bool) -> None:
        setting = f"{transport}, {'reads' if reads else 'does not read'}{', short times' if brief else ''}"
        self.say(f"{self.score.name}: {setting}")
        try:
            with Target(self.launch, self.python, transport, reads=reads, brief=brief) as target:
                self._run(setting, target)
                self.score.deaths += target.deaths
        except NotStarted as error:
            self.score.failures[setting] = str(error)
            return
        self.score.settings.append(setting)

    def _run(self, setting: str, target: Target) -> None:
        subject = target.subject(Rules(target.reads), self.patience)
        scripts = self._chosen(SCRIPTS)
        if target.brief:
            self._converse(
                setting, target, [case for case in scripts if case.needs in self.launch.offers and case.needs]
            )
            return
        wire = [case for case in wire_cases() if not self.only or case.id in self.only]
        for case_id, miss in replay(subject, wire, self.most).items():
            self.score.add(setting, case_id, miss)
        if target.reads:
            for case in PROBES:
                if not self.only or case.id in self.only:
                    self.score.add(setting, case.id, case.run(target.subject(Rules(True), self.patience)))
            self._converse(setting, target, [case for case in scripts if not case.needs])

    def _converse(self, setting: str, target: Target, cases: list[ScriptCase]) -> None:
        for case in cases:
            if not case.linux or sys.platform == "linux":
                self.score.add(setting, case.id, case.run(target.subject(Rules(True), self.patience)))
