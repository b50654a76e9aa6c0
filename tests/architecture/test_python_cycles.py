"""No file of the Python packages imports itself through others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.architecture.import_cycles import cycles, shortest_cycle
from tests.architecture.python_source import import_graph

PYTHON = Path(__file__).parents[2] / "python"


def test_python_files_have_no_import_cycle() -> None:
    graph = import_graph(PYTHON)
    assert [shortest_cycle(graph, group[0]) for group in cycles(graph)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import wsgi.server",
        "from wsgi import server",
        "from . import server",
        "from .server import WSGIServer",
        "from wsgi.cli import main",
        "def late():\n    from wsgi.server import serve",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wsgi.server import WSGIServer",
    ],
)
def test_python_file_that_imports_a_file_above_it_makes_a_cycle(statement: str, tmp_path: Path) -> None:
    copy = tmp_path / "python"
    shutil.copytree(PYTHON, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    # Used by the server, and thereby by the command.
    lowest = copy / "wsgi" / "signals.py"
    lowest.write_text(f"{lowest.read_text('utf-8')}\n\n{statement}\n", "utf-8")
    (found,) = cycles(import_graph(copy))
    assert {"wsgi/server.py", "wsgi/signals.py"} <= set(found)


@pytest.mark.parametrize(
    ("files", "graph"),
    [
        ({"a.py": "import b", "b.py": "import os"}, {"a.py": {"b.py"}, "b.py": set()}),
        ({"p/__init__.py": "from p.a import x", "p/a.py": "from . import b", "p/b.py": "import p"},
            {"p/__init__.py": {"p/a.py"}, "p/a.py": {"p/b.py"}, "p/b.py": {"p/__init__.py"}}),
        ({"p/__init__.py": "", "p/q/__init__.py": "from ..a import x", "p/a.py": "from .q import y"},
            {"p/__init__.py": set(), "p/q/__init__.py": {"p/a.py"}, "p/a.py": {"p/q/__init__.py"}}),
        ({"p/__init__.py": "x = 1", "p/a.py": "from p import x", "p/core.pyi": "from p.a import y"},
            {"p/__init__.py": set(), "p/a.py": {"p/__init__.py"}, "p/core.pyi": {"p/a.py"}}),
    ],
)  # fmt: skip
def test_import_graph_has_an_edge_for_each_import(
    files: dict[str, str], graph: dict[str, set[str]], tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert import_graph(tmp_path) == graph
