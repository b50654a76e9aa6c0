"""Every attack in a short form: others are served meanwhile, and what it took is given back.

`make attacks` is the long form.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.attacks.battle import HEAD, fight, time_to_stop
from tests.attacks.catalogue import BOTH, Attack, attacks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the server's process as Linux shows it")

PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
PEERS = Path(__file__).with_name("peers.md")


def named(value: Attack | str) -> str:
    return value if isinstance(value, str) else value.name.replace(" ", "-")


@pytest.mark.parametrize(("attack", "interface"), attacks(), ids=named)
def test_others_are_served_during_an_attack_and_everything_is_given_back(attack: Attack, interface: str) -> None:
    outcome = fight(attack, interface, attack.few, attack.shortest)
    assert outcome.connections >= attack.few
    assert outcome.defeats == []


FLOODS = [
    "chunks of a byte",
    "endless bodies for a deaf application",
    "WebSocket messages",
    "endless WebSocket messages",
]


@pytest.mark.parametrize("name", FLOODS)
def test_server_stops_in_the_midst_of_a_flood(name: str) -> None:
    ((attack, interface),) = [pair for pair in attacks(["asgi"]) if pair[0].name == name]
    taken = time_to_stop(attack, interface, attack.few, grace=0.5, patience=8)
    assert taken is not None


def test_page_names_every_attack_and_explains_it() -> None:
    page = PAGE.read_text("utf-8")
    assert HEAD in page
    for attack, interface in attacks(BOTH):
        assert f"\n| {attack.name} | {interface} | {attack.count:,} | " in page
        assert f"\n{attack.item}\n" in page
    assert page.endswith(PEERS.read_text("utf-8"))
