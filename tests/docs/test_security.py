"""SECURITY.md says what is so: its limits are those of the table of options, and the tests it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgi.settings import OPTIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")

GROUPS = ("Concurrency", "Limits", "Time", "WebSockets")
# Options of the same groups that bound nothing a client does.
NO_LIMITS = {
    "threads",
    "stream_bodies",
    "stream_chunked",
    "request_timeout",
    "request_timeout_action",
    "graceful_timeout",
    "websocket_compression",
}


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


LIMITS = {option.strip("`"): (default, answer) for option, default, answer in rows("Limits")}
GUARDS = [(row[0], guard) for row in rows("What has hurt others") for guard in re.findall(r"`([^`]+)`", row[3])]


def test_limits_are_all_options_that_bound_a_client() -> None:
    bounding = {name for name, option in OPTIONS.items() if option.group in GROUPS}
    assert set(LIMITS) == bounding - NO_LIMITS


@pytest.mark.parametrize("name", LIMITS)
def test_limit_has_the_default_and_the_answer_of_the_options_table(name: str) -> None:
    default, answer = LIMITS[name]
    option = OPTIONS[name]
    assert default == option.type.show(option.default)
    told = re.findall("(?:answer(?:ed| is)|ends? with) ([0-9]{3,4})", option.help)
    assert all(status in answer for status in told)


def test_every_class_has_a_guard() -> None:
    assert all(re.search("`[^`]+`", row[3]) for row in rows("What has hurt others"))


@pytest.mark.parametrize(("danger", "guard"), GUARDS, ids=[guard for _, guard in GUARDS])
def test_guard_exists(danger: str, guard: str) -> None:
    path, _, name = guard.partition("::")
    assert (ROOT / path).is_file(), danger
    if name:
        assert f"\ndef {name}(" in (ROOT / path).read_text("utf-8"), danger


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, heading = link.partition("#")
        assert not path or (ROOT / path).is_file()
        assert not heading or f"## {heading.capitalize()}\n" in PAGE
