"""The rooms of docs/architecture.md stand as its import table says."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.architecture.rust_source import RustTree, code_of, module_of, paths_in

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
RUST = ROOT / "src"
PYTHON = ROOT / "python"
PACKAGES = {path.name for path in PYTHON.iterdir()}
LONGEST_FILE = 420

TREE = RustTree(RUST)
RUST_FILES = TREE.files
PYTHON_FILES = sorted([*PYTHON.rglob("*.py"), *PYTHON.rglob("*.pyi")])


class Row(NamedTuple):
    may: frozenset[str]
    not_of_std: frozenset[str]


def import_table() -> dict[str, Row]:
    """The table of docs/architecture.md by room."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.partition("## The import table\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    names = [[frozenset(re.findall(r"`([^`]+)`", cell)) for cell in row] for row in cells]
    table = {next(iter(room)): Row(may, not_of_std) for room, may, not_of_std in names}
    assert len(table) == len(names), "a room has two rows"
    return table


TABLE = import_table()


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dependencies() -> set[str]:
    """The crates of Cargo.toml by the name that code gives them."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))
    return {name.replace("-", "_") for name in manifest["dependencies"]}


def rust_room(path: Path) -> str:
    """The most specific room of a file: its own, or that of the innermost folder that has one."""
    folders = [folder.as_posix() for folder in path.relative_to(ROOT).parents]
    return next((room for room in [label(path), *folders] if room in TABLE), folders[0])


def rust_breaches(code: str, module: list[str], room: str) -> Iterator[str]:
    """What the code of one file names although its room may not."""
    row, crates = TABLE[room], dependencies()
    for path in paths_in(code, module):
        first, *rest = path.split("::")
        if first == "crate":
            file = TREE.file_of(path)
            other = rust_room(file) if file else "src"
            if other != room and other not in row.may:
                yield path
        elif first in ("std", "core", "alloc"):
            inner = "::".join(rest)
            if any(inner == banned or inner.startswith(f"{banned}::") for banned in row.not_of_std):
                yield path
        elif first in crates and first not in row.may:
            yield path


def rust_findings(path: Path) -> set[str]:
    """What one file imports although its room may not."""
    breaches = rust_breaches(TREE.code(path), module_of(path, RUST), rust_room(path))
    files = ((breach, TREE.file_of(breach)) for breach in breaches)
    return {f"{label(path)} may not import {label(file) if file else breach}" for breach, file in files}


FILES_IN_ROOMS = [path for path in RUST_FILES if path.name != "lib.rs"]


@pytest.mark.parametrize("path", FILES_IN_ROOMS, ids=label)
def test_rust_file_imports_what_its_room_may(path: Path) -> None:
    assert sorted(rust_findings(path)) == []


@pytest.mark.parametrize("path", RUST_FILES, ids=label)
def test_rust_file_has_at_most_so_many_lines_of_code(path: Path) -> None:
    lines = [line for line in TREE.code(path).splitlines() if line.strip()]
    assert len(lines) <= LONGEST_FILE


@pytest.mark.parametrize("path", RUST_FILES, ids=label)
def test_rust_file_outside_tests_never_panics_on_purpose(path: Path) -> None:
    found = re.findall(
        r"\.\s*unwrap\s*\(\s*\)|\.\s*expect\s*\(|\b(?:panic|unreachable|todo|unimplemented)!", TREE.code(path)
    )
    assert found == []


def test_lib_is_a_list_of_modules() -> None:
    code = TREE.code(RUST / "lib.rs")
    statements = re.sub(r"#!?\[[^\]]*\]", "", code)
    assert re.sub(r"\s*(?:pub )?(?:mod|use) [\w:{}, ]+;", "", statements).strip() == ""


def python_module(path: Path) -> list[str]:
    """`python/wsgi/application/headers.py` is the module wsgi.application.headers."""
    parts = list(path.relative_to(PYTHON).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def python_room(name: str) -> str:
    """The room of a module: the part of one of our packages it is or lies in, or else its distribution's package."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] in PACKAGES else parts[0]


def python_imports(source: str, module: list[str], *, is_package: bool) -> Iterator[str]:
    """The modules that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package
            base = module[: len(module) - up] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from wsgi import server` imports a part, `from wsgi import __version__` does not.
                part = f"{name}.{alias.name}"
                yield part if part in TABLE else name


def python_breaches(source: str, module: list[str], *, is_package: bool) -> Iterator[str]:
    room = python_room(".".join(module))
    for name in python_imports(source, module, is_package=is_package):
        other = python_room(name)
        if other not in (room, *TABLE[room].may) and other not in sys.stdlib_module_names:
            yield name


@pytest.mark.parametrize("path", PYTHON_FILES, ids=label)
def test_python_file_imports_what_its_room_may(path: Path) -> None:
    module = python_module(path)
    found = python_breaches(path.read_text("utf-8"), module, is_package=path.name == "__init__.py")
    assert sorted(set(found)) == []


def test_table_names_rooms_that_exist_and_all_of_them() -> None:
    rust = {rust_room(path) for path in RUST_FILES if path.name != "lib.rs"}
    python = {python_room(".".join(python_module(path))) for path in PYTHON_FILES}
    assert set(TABLE) == rust | python


def test_rooms_import_each_other_in_one_direction() -> None:
    above = {room: row.may & TABLE.keys() for room, row in TABLE.items()}
    # A room that imports nothing but rooms that are done is done.
    while done := {room for room, others in above.items() if not others & above.keys()}:
        above = {room: others for room, others in above.items() if room not in done}
    assert above == {}


@pytest.mark.parametrize(
    ("room", "other"),
    [("wsgi.application", "wsgi.server"), ("wsgi.application", "wsgi._core"), ("wsgi.server", "wsgi.application")],
)
def test_application_and_server_know_nothing_of_each_other(room: str, other: str) -> None:
    assert room not in TABLE or other not in TABLE[room].may


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("use crate::net::stream::Stream;", ["crate::net::stream::Stream"]),
        ("use crate::{http::head, net::{self, stream::{Stream as S, Peer}}};",
            ["crate::net", "crate::net::stream::Stream", "crate::net::stream::Peer"]),
        ("use super::super::engine::*;", ["crate::engine"]),
        ("use super::head::Version; use self::inner::X;", []),
        ("fn f() { let a = crate::engine::start ( ); }", ["crate::engine::start"]),
        ("fn f(x: &'static str) -> super::super::net::A { 'x'; todo() }", ["crate::net::A"]),
        ("pub(crate) use pyo3::prelude::*;", ["pyo3::prelude"]),
        ("type A = std::net::TcpStream; use std::{io, thread::{self, spawn}};",
            ["std::thread", "std::thread::spawn", "std::net::TcpStream"]),
        ("mod inner { use super::super::head::X; use super::super::super::net::Y; }", ["crate::net::Y"]),
        ("use std::net; fn f(a: net::TcpStream) {}", ["std::net::TcpStream"]),
        ("use crate::http::{self as other, target}; fn f(a: other::head::X, b: target::Y) {}", []),
        ("mod inner; use inner::deep; fn f() { deep::g(); crate::engine::h() }", ["crate::engine::h"]),
        ("pub(in crate::engine) struct X;", []),
        ("extern crate socket2;", ["socket2"]),
        ('// use crate::net::X;\n/* crate::net::Y */ const A: &str = "crate::net::Z \\" crate::net::W";', []),
        ('const A: &str = r#"crate::net::"q"::Z"#; const B: char = \'"\'; use crate::net::N;', ["crate::net::N"]),
        ("#[cfg(test)]\nmod tests { use crate::net::X; fn f() { if a { b } } }", []),
        ('#[cfg(test)]\n#[path = "x_tests.rs"]\nmod tests;\nuse crate::net::X;', ["crate::net::X"]),
    ],
)  # fmt: skip
def test_scanner_code_of_a_pure_room_gives_its_breaches(code: str, found: list[str]) -> None:
    assert list(rust_breaches(code_of(code), ["http", "head"], "src/http")) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import wsgi.server", ["wsgi.server"]),
        ("from wsgi import _core", ["wsgi._core"]),
        ("from . import server", ["wsgi.server"]),
        ("from .server import WSGIServer", ["wsgi.server"]),
        ("def f():\n    from wsgi.cli import main", ["wsgi.cli"]),
        ("import flask.app", ["flask.app"]),
        ("import os.path\nfrom collections import abc", []),
    ],
)
def test_scanner_python_of_a_low_room_gives_its_breaches(source: str, found: list[str]) -> None:
    assert list(python_breaches(source, ["wsgi", "errors"], is_package=False)) == found
