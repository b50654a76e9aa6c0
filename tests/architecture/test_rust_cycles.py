"""No file of the crate imports itself through others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.architecture.import_cycles import cycles, shortest_cycle
from tests.architecture.rust_source import RustTree

RUST = Path(__file__).parents[2] / "src"


def files_in_cycles(source: Path) -> dict[str, str]:
    """Each file of an import cycle, with the shortest way around."""
    graph = RustTree(source).import_graph()
    files = [file for group in cycles(graph) for file in group]
    return {f"{file} is in an import cycle": shortest_cycle(graph, file) for file in files}


def test_rust_files_have_no_import_cycle() -> None:
    assert files_in_cycles(RUST) == {}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(RUST, tmp_path / "src")
    return tmp_path / "src"


def append(file: Path, code: str) -> None:
    file.write_text(f"{file.read_text('utf-8')}\n{code}\n", "utf-8")


# src/http/head.rs imports src/http/status.rs.
@pytest.mark.parametrize(
    "code",
    [
        "use crate::http::head::Version;",
        "use super::head;",
        "use super::head::*;",
        "pub use super::head::Version;",
        "use crate::{http::{date, head::{self as other, Version}}};",
        "fn late() -> Option<crate::http::head::Version> { None }",
        "fn late() { use super::head::Version; }",
        "mod inner { use super::super::head::Version; }",
        "use crate::http; type Late = http::head::Version;",
        "use crate::http as other; type Late = other::head::Version;",
        "pub(in crate::http) type Late = super::head::Version;",
    ],
)
def test_rust_file_that_imports_a_file_above_it_makes_a_cycle(code: str, copy: Path) -> None:
    append(copy / "http" / "status.rs", code)
    found = files_in_cycles(copy).keys()
    assert {"src/http/head.rs is in an import cycle", "src/http/status.rs is in an import cycle"} <= found


@pytest.mark.parametrize(
    "code",
    [
        "// use crate::http::head::Version;",
        'const TEXT: &str = "use crate::http::head::Version;";',
        "#[cfg(test)]\nmod more_tests { use crate::http::head::Version; }",
        "pub(in crate::http::head) struct Late;",
    ],
)
def test_rust_file_that_imports_nothing_more_makes_no_cycle(code: str, copy: Path) -> None:
    append(copy / "http" / "status.rs", code)
    assert files_in_cycles(copy) == {}


def test_rust_file_that_imports_a_re_export_of_its_own_folder_makes_a_cycle(copy: Path) -> None:
    append(copy / "http" / "mod.rs", "pub use head::Version;")
    append(copy / "http" / "status.rs", "use super::Version;")
    ways = files_in_cycles(copy)
    assert ways["src/http/mod.rs is in an import cycle"] == (
        "src/http/mod.rs -> src/http/head.rs -> src/http/status.rs -> src/http/mod.rs"
    )


def test_cycles_groups_files_and_leaves_out_those_that_only_lead_to_a_cycle() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": set[str]()}
    assert cycles(graph) == [["b", "c"], ["d"]]


@pytest.mark.parametrize(("file", "way"), [("a", "a -> b -> a"), ("c", "c -> d -> b -> c"), ("e", "")])
def test_shortest_cycle_leads_from_a_file_back_to_it(file: str, way: str) -> None:
    graph = {"a": {"b", "e"}, "b": {"a", "c"}, "c": {"d"}, "d": {"b"}, "e": set[str]()}
    assert shortest_cycle(graph, file) == way
