"""A name means one type in the whole crate, and the methods of a type stand in the file that defines it."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from tests.architecture.rust_source import RustTree, code_of, types_defined, types_implemented

RUST = Path(__file__).parents[2] / "src"


def shared_names(source: Path) -> set[str]:
    """Type names that more than one file defines, private ones included: a reader meets them all."""
    tree = RustTree(source)
    files = defaultdict[str, list[str]](list)
    for file in tree.files:
        for name in set(types_defined(tree.code(file))):
            files[name].append(tree.label(file))
    return {
        f"{file} defines {name}, and so does another file"
        for name, labels in files.items()
        for file in labels
        if len(labels) > 1
    }


def strayed_methods(source: Path) -> set[str]:
    """Inherent impl blocks outside of the file that defines their type."""
    tree = RustTree(source)
    return {
        f"{tree.label(file)} implements {name}, which another file defines"
        for file in tree.files
        for name in set(types_implemented(tree.code(file))) - set(types_defined(tree.code(file)))
    }


def test_type_names_are_unique_in_the_crate() -> None:
    assert sorted(shared_names(RUST)) == []


def test_methods_of_a_type_stand_in_the_file_that_defines_it() -> None:
    assert sorted(strayed_methods(RUST)) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(RUST, tmp_path / "src")
    return tmp_path / "src"


@pytest.mark.parametrize(
    "code",
    [
        "pub struct RequestHead;",
        "struct RequestHead<'a>(&'a [u8]);",
        "pub(crate) enum RequestHead {}",
        "pub type RequestHead = ();",
        "trait RequestHead {}",
    ],
)
def test_second_type_of_one_name_is_found(code: str, copy: Path) -> None:
    status = copy / "http" / "status.rs"
    status.write_text(f"{status.read_text('utf-8')}\n{code}\n", "utf-8")
    found = shared_names(copy) - shared_names(RUST)
    assert found == {
        "src/http/head.rs defines RequestHead, and so does another file",
        "src/http/status.rs defines RequestHead, and so does another file",
    }


@pytest.mark.parametrize(
    "code",
    [
        "impl super::head::RequestHead { fn more(&self) {} }",
        "use super::head::RequestHead;\nimpl RequestHead {\n    fn more(&self) {}\n}",
        "use super::head::RequestHead;\nmod inner {\n    impl super::RequestHead {\n    }\n}",
    ],
)
def test_method_in_another_file_is_found(code: str, copy: Path) -> None:
    status = copy / "http" / "status.rs"
    status.write_text(f"{status.read_text('utf-8')}\n{code}\n", "utf-8")
    found = strayed_methods(copy) - strayed_methods(RUST)
    assert found == {"src/http/status.rs implements RequestHead, which another file defines"}


@pytest.mark.parametrize(
    ("code", "defined", "implemented"),
    [
        ("pub struct A;\nimpl A {}", ["A"], ["A"]),
        ("enum A<T> { B(T) }\nimpl<T: Into<Vec<u8>>> A<T> where T: for<'a> Fn(&'a u8) -> u8 {}", ["A"], ["A"]),
        ("impl<'py> Iterator for A<'py> {\n    type Item = u8;\n}", [], []),
        ("impl<F> From<F> for A {}\nunsafe impl Send for A {}", [], []),
        ("pub(in crate::x) trait A {}\nimpl dyn A {}\nimpl dyn A + Send {}", ["A"], ["A", "A"]),
        ("fn f(x: impl Fn() -> u8) -> impl Iterator { type Inner = u8; }", [], []),
        ("mod inner {\n    pub(crate) struct A;\n    impl A {}\n}", ["A"], ["A"]),
        ("#[cfg(test)]\nimpl A {\n    fn f() {}\n}", [], []),
    ],
)  # fmt: skip
def test_scanner_tells_types_and_their_methods(code: str, defined: list[str], implemented: list[str]) -> None:
    assert types_defined(code_of(code)) == defined
    assert types_implemented(code_of(code)) == implemented
