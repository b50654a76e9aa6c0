"""What the framework's types accept and refuse, by mypy with the project's own settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted([*HERE.glob("right_*.py"), *HERE.glob("wrong_*.py")])

_REPORT = re.compile(r"(?P<file>[^:]+):(?P<line>[0-9]+): error: .*\[(?P<code>[a-z-]+)\]")
_MARK = re.compile(r"# error: (?P<codes>[a-z-]+(?:, [a-z-]+)*)$")


@pytest.fixture(scope="module")
def reported() -> dict[str, set[tuple[int, str]]]:
    """The line and the code of every error in each file."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--hide-error-context", *map(str, FILES)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    # 2 is for what kept mypy from looking: a mistake in the settings, a syntax error.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[tuple[int, str]]] = {file.name: set() for file in FILES}
    for report in _REPORT.finditer(done.stdout):
        name = Path(report["file"]).name
        if name in found:
            found[name].add((int(report["line"]), report["code"]))
    return found


def marked(file: Path) -> set[tuple[int, str]]:
    """The line and the code of every error that a file says it has."""
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    marks = [(number, mark) for number, line in lines if (mark := _MARK.search(line))]
    return {(number, code) for number, mark in marks for code in mark["codes"].split(", ")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_has_the_errors_that_it_says_and_no_other(file: Path, reported: dict[str, set[tuple[int, str]]]) -> None:
    assert reported[file.name] == marked(file)


def test_files_are_as_their_names_say() -> None:
    assert {file.name.partition("_")[0] for file in FILES} == {"right", "wrong"}
    assert [file.name for file in FILES if bool(marked(file)) != file.name.startswith("wrong_")] == []
