"""Reloads under load, in a short form: nothing is lost, and all is given back. `make reload-test` is the long form."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path

import pytest

from tests.reload.__main__ import ours
from tests.reload.events import RELOADS, Event, plan
from tests.reload.faults import Fault
from tests.reload.load import KINDS
from tests.reload.servers import SERVERS, SITES, offered_options
from tests.reload.tables import INTRODUCTION
from tests.reload.trial import Trial, run_trial

PAGE = Path(__file__).parents[2] / "docs" / "reload.md"
VARIANTS = list(ours(offered_options()))
TRIALS = list(zip(SITES, itertools.cycle(VARIANTS), strict=False))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the server's processes as Linux shows them")
@pytest.mark.parametrize(("interface", "words"), TRIALS, ids=[" ".join((each, *words)) for each, words in TRIALS])
def test_reloads_lose_nothing_and_leave_nothing(interface: str, words: tuple[str, ...]) -> None:
    trial = Trial("wsgi", interface, reloads=1, seed=1, python=sys.executable, options=words)
    # Each event occurs once before any does again.
    report = run_trial(trial)
    assert report.problems == []
    assert set(report.events) == trial.allowed_events()
    assert report.record.lost == {}, report.record.details


@pytest.mark.parametrize("part", INTRODUCTION.read_text("utf-8").split("\n\n"))
def test_page_is_the_generators(part: str) -> None:
    if not part.startswith("{"):
        assert part in PAGE.read_text("utf-8")


def test_page_has_every_server_fault_event_and_kind_of_client() -> None:
    page = PAGE.read_text("utf-8")
    for name, server in SERVERS.items():
        for interface in server.commands:
            assert f"\n| {name} ({interface.upper()}" in page
    for word in [*(fault.value for fault in Fault), *(event.value for event in Event), *(kind.name for kind in KINDS)]:
        assert f"| {word} |" in page


def test_plan_has_every_event_and_enough_reloads() -> None:
    planned = plan(frozenset(Event), 1, random.Random(1))
    assert sorted(planned, key=str) == sorted(Event, key=str)
    planned = plan(frozenset({Event.QUICK, Event.TWICE, Event.MORE}), 200, random.Random(1))
    assert sum(RELOADS.get(event, 0) for event in planned) >= 200
    assert set(planned) == {Event.QUICK, Event.TWICE, Event.MORE}


def test_plan_follows_from_its_seed() -> None:
    plans = [plan(frozenset(Event), 50, random.Random(seed)) for seed in (7, 7, 8)]
    assert plans[0] == plans[1] != plans[2]
