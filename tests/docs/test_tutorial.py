"""The tutorial does not lie: its programs run, and its commands print what it shows.

A block of code names its file in its first line: `# app.py`, `{# templates/list.html #}`, `/* static/site.css */`. With
`, continued` behind the name it is the next part of that file. In a console block, `$` begins a command; what follows
it is all that the command prints, `…` standing for anything within a line, or for any lines where it is alone. A
command that serves goes on until the next one of its section; if its program changes, it is started again.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clients import CURL, needs_curl
from tests.support import PATIENCE, Command, environment, has_ipv6
from wsgi.application import middleware

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
TEXT = TUTORIAL.read_text("utf-8")
SCRIPT = Path(sysconfig.get_path("scripts")) / "wsgi"

NOT_RUN = {
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "pip install '.[templates]'",
    "docker build -t todo .",
    "docker run -p 8081:8081 -e SECRET_KEY todo",
}
"""What changes the machine. The image of the project has tests of its own."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:# |\{# |/\* )([\w./]+)(, continued)?(?: #\}| \*/)?")
_ADDRESS = re.compile(r"localhost:(\d+)")
_PORT = re.compile(r":\d+(?=[, ])")


@dataclass
class Part:
    """A part of a file."""

    name: str
    continued: bool
    text: str


@dataclass
class Step:
    """A command, and what it prints."""

    command: str
    output: str


@dataclass
class Section:
    """What stands below a heading of the second level."""

    title: str
    text: str
    steps: list[Part | Step] = field(default_factory=list)


def sections() -> list[Section]:
    """The sections of the tutorial, in order."""
    # Headings look like comments: those in the code do not count.
    bare = _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), TEXT)
    starts = [match.start() for match in re.finditer(r"^## ", bare, re.MULTILINE)]
    found = []
    for start, stop in zip(starts, [*starts[1:], len(TEXT)], strict=True):
        text = TEXT[start:stop]
        found.append(Section(text[3 : text.index("\n")], text, [*_steps(text)]))
    return found


def _steps(text: str) -> Iterator[Part | Step]:
    for language, block in _FENCE.findall(text):
        if language == "console":
            for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = re.sub(r"\\\n\s*", "", command).partition("\n")
                yield Step(line, output)
            continue
        first = block.partition("\n")[0]
        named = _FILE.fullmatch(first)
        assert named, f"a block of {language!r} does not name its file: {first!r}"
        yield Part(named[1], named[2] is not None, block)


SECTIONS = sections()


class Reader:
    """Somebody who follows the tutorial in a directory, with a terminal for the server and one for the rest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server: Command | None = None
        self.serving = ""
        self.changed = False
        self.ran: list[str] = []

    def write(self, part: Part) -> None:
        """Saves a part of a file."""
        path = self.directory / part.name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = f"{path.read_text('utf-8')}\n\n" if part.continued else ""
        path.write_text(before + part.text, "utf-8")
        self.changed = self.changed or part.name.endswith(".py")

    def run(self, step: Step) -> None:
        """Runs a command and compares what it prints."""
        self.ran.append(step.command)
        if step.command in NOT_RUN:
            return
        program, *arguments = _without_variables(step.command)
        if program == "curl":
            self._ask(step, arguments)
        elif program == "wsgi" and "--check-config" in arguments:
            self._finish(step, [str(SCRIPT), *arguments])
        elif program == "wsgi" or (program == "python" and arguments[0].endswith(".py")):
            self.serving = step.command
            self._serve()
            assert self.server is not None
            if step.output:
                shown = step.output if has_ipv6() else step.output.replace(", http://[::1]:8000", "")
                expect(_PORT.sub(":PORT", shown), _PORT.sub(":PORT", self.server.banner), step.command)
        else:
            assert program == "python", f"nobody said how to run {step.command!r}"
            self._finish(step, [sys.executable, *arguments])

    def _serve(self) -> None:
        self.close()
        self.changed = False
        program, *arguments = _without_variables(self.serving)
        if program == "wsgi":
            variables = dict(re.findall(r"(\w+)=(\S*) ", self.serving.partition("wsgi")[0]))
            # The last of several flags counts.
            self.server = Command(*arguments, "--port", "0", cwd=self.directory, env=variables, start=[str(SCRIPT)])
            return
        # Its port is its own: a copy of it takes a free one.
        path = self.directory / arguments[0]
        copy = path.with_name(f"free_{path.name}")
        copy.write_text(path.read_text("utf-8").replace("port=8000", "port=0"), "utf-8")
        self.server = Command("--port", "0", cwd=self.directory, start=[sys.executable, copy.name])

    def _ask(self, step: Step, arguments: list[str]) -> None:
        if self.changed:
            self._serve()
        assert self.server is not None
        assert CURL is not None
        port = self.server.address.rpartition(":")[2]
        (shown,) = {found for word in arguments for found in _ADDRESS.findall(word)}
        command = [_ADDRESS.sub(f"localhost:{port}", word) for word in arguments]
        self._finish(step, [CURL, "--disable", "--silent", "--ipv4", "--noproxy", "*", *command], (port, shown))

    def _finish(self, step: Step, command: list[str], ports: tuple[str, str] = ("", "")) -> None:
        # A pytest within this one: with directories of its own, for it tidies up among those of others.
        variables = environment(PYTEST_DEBUG_TEMPROOT=str(self.directory), PYTEST_ADDOPTS="")
        done = subprocess.run(
            command, cwd=self.directory, env=variables, capture_output=True, timeout=3 * PATIENCE, check=False
        )
        output = done.stdout.decode().replace("\r\n", "\n")
        if ports[0]:
            output = output.replace(f"localhost:{ports[0]}", f"localhost:{ports[1]}")
        assert done.returncode == 0, f"{step.command}\n{output}{done.stderr.decode()}"
        expect(step.output, output, step.command)

    def close(self) -> None:
        """Stops the server, if there is one."""
        if self.server is not None:
            server, self.server = self.server, None
            server.stop()


def _without_variables(command: str) -> list[str]:
    """The words of a command, without the `NAME=value` in front."""
    return shlex.split(re.sub(r"^(\w+=\S* )+", "", command))


def expect(shown: str, printed: str, command: str) -> None:
    """Fails unless a command printed what is shown."""
    lines = [line.rstrip() for line in shown.strip("\n").split("\n")]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"\n" for line in lines
    )
    actual = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").split("\n"))
    assert re.fullmatch(pattern, actual), f"$ {command}\n--- shown\n{shown}\n--- printed\n{actual}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.close()


@needs_curl
@pytest.mark.parametrize("section", SECTIONS, ids=[section.title for section in SECTIONS])
def test_section_does_what_it_says(section: Section, reader: Reader) -> None:
    for earlier in SECTIONS[: SECTIONS.index(section)]:
        for step in earlier.steps:
            if isinstance(step, Part):
                reader.write(step)
    for step in section.steps:
        if isinstance(step, Part):
            reader.write(step)
        else:
            reader.run(step)
    assert not (reader.changed and reader.server), "the last part of a file was never run"
    for program in (step.name for step in section.steps if isinstance(step, Part) and step.name.endswith(".py")):
        module = program.removesuffix(".py")
        assert any(f"{module}:" in command or program in command for command in reader.ran), f"{program} was not run"
    assert set(reader.ran) == set(re.findall(r"^\$ (.+)$", section.text, re.MULTILINE))


def test_sections_hold_every_block_and_every_command() -> None:
    everything = [step for section in SECTIONS for step in section.steps]
    commands = {step.command for step in everything if isinstance(step, Step)}
    assert commands == set(re.findall(r"^\$ (.+)$", TEXT, re.MULTILINE))
    assert {command for command in commands if not _is_run(command)} == NOT_RUN
    assert len([step for step in everything if isinstance(step, Part)]) == sum(
        language != "console" for language, _ in _FENCE.findall(TEXT)
    )
    assert TEXT.count("\n```") == 2 * len(_FENCE.findall(TEXT))


def test_first_program_is_the_example() -> None:
    shown = next(step for section in SECTIONS for step in section.steps if isinstance(step, Part))
    example = (ROOT / "examples" / "app.py").read_text("utf-8")
    assert _statements(shown.text) == _statements(example)


def test_table_lists_all_middleware() -> None:
    listed = re.findall(r"^\| `(\w+Middleware)` \|", TEXT, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in middleware.__all__ if name.endswith("Middleware"))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in {section.title.lower().replace(" ", "-") for section in SECTIONS}
        elif not target.startswith("https://"):
            assert (TUTORIAL.parent / target).exists(), target


def test_image_is_what_the_tutorial_builds_on() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert "docker build -t my-wsgi-server ." in dockerfile
    assert "EXPOSE 8081" in dockerfile
    assert "USER 10001:10001" in dockerfile


def _is_run(command: str) -> bool:
    return _without_variables(command)[0] in ("curl", "wsgi", "python")


def _statements(program: str) -> list[str]:
    """What a program does, whatever it imports and says about itself."""
    body = ast.parse(program).body
    return [ast.dump(node) for node in body if not isinstance(node, (ast.ImportFrom, ast.Expr))]
