"""The README's programs run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.clients import session
from tests.support import Command
from wsgi.server import WSGIServer

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def running(program: str, folder: Path) -> Command:
    # Port 8000 may belong to somebody else here.
    assert program.count("port=8000") == 1
    (folder / "app.py").write_text(program.replace("port=8000", "port=0"), "utf-8")
    return Command(cwd=folder, start=[sys.executable, "app.py"])


def test_tutorial_program_serves_what_it_says(tmp_path: Path) -> None:
    program, _, _ = BLOCKS
    with running(program, tmp_path) as command, session() as http:
        assert http.get(f"{command.address}/").text == "Hello, world!"
        assert http.get(f"{command.address}/page").text == "<h1>Hello, world!</h1>"
        assert http.get(f"{command.address}/u/42").json() == {"user": 42}


def test_fastapi_program_serves_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="FastAPI is not installed here")
    _, program, _ = BLOCKS
    with running(program, tmp_path) as command, session() as http:
        assert http.get(f"{command.address}/").json() == {"hello": "world"}


def test_options_are_keywords(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, options = BLOCKS
    exec(compile(options, "README.md", "exec"), {"WSGIServer": WSGIServer, "app": lambda *_: []})
    assert int(capsys.readouterr().out) > 0
