"""docs/access-log.md says what is so: its directives are those of the core, its reasons those that the core gives."""

from __future__ import annotations

import re
from pathlib import Path

from wsgi import _core
from wsgi.settings import COMBINED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "access-log.md").read_text("utf-8")


def rows(heading: str) -> list[tuple[str, str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]
    return [(first, second) for first, second in cells]


def test_directives_are_those_of_the_core_in_their_order() -> None:
    assert rows("Directives") == [(f"`{name}`", meaning) for name, meaning in _core.access_log_directives()]


def test_default_format_is_that_of_the_options() -> None:
    assert f"`{COMBINED}`" in PAGE


def test_reasons_are_those_of_the_core() -> None:
    source = (ROOT / "src" / "engine" / "observe.rs").read_text("utf-8")
    texts = re.findall(r"Self::[A-Z][A-Za-z]+ => \"([^\"]+)\",", source)
    assert texts
    assert sorted(reason for reason, _ in rows("Reasons")) == sorted(texts)
