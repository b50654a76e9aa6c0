"""Reads Rust source far enough to see what it imports and defines: a lexer for what is no code, the trees of `use`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_NOT_CODE = re.compile(
    r"""
      //[^\n]*                                   # line comment
    | /\*(?:[^*]|\*(?!/))*\*/                    # block comment
    | \b(?:b|c)?r(?P<hashes>\#*)"[\s\S]*?"(?P=hashes)    # raw string
    | (?:b|c)?"(?:\\[\s\S]|[^"\\])*"          # string
    | b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'    # character, which a lifetime is not
    """,
    re.VERBOSE,
)
# The feature `doubles` compiles stand-ins for tests outside of the crate.
_TEST_ITEM = re.compile(r"#\[cfg\((?:test|all\(test[^\]]*\)|any\(test, feature = \"\"\))\)\]\s*(?:#\[[^\]]*\]\s*)*")
_TEST_FILE = re.compile(
    r'#\[cfg\((?:test|any\(test, feature = "doubles"\))\)\]\s*'
    r'(?:#\[path = "(?P<path>[^"]+)"\]\s*)?(?:pub )?mod (?P<name>\w+);'
)
_USE = re.compile(r"\buse\s+([^;]+);")
_DECLARED = re.compile(r"\bmod\s+(\w+)\s*;")
_VISIBLE_IN = re.compile(r"\bpub\s*\(\s*in\s[^)]*\)")
_INLINE = re.compile(r"\bmod\s+(\w+)\s*(?=\{)")
_EXTERN = re.compile(r"\bextern\s+crate\s+(\w+)")
_PATH = re.compile(r"(?<![\w:.$])(?:::)?((?:[A-Za-z_]\w*)(?:\s*::\s*(?:[A-Za-z_]\w*))+)")
_VISIBLE = r"(?:pub(?:\([^)]*\))?\s+)?"
# An indented `type` is an associated type, which has no name of its own.
_TYPE = re.compile(rf"^(?:\s*{_VISIBLE}(?:unsafe\s+)?(?:struct|enum|union|trait)|{_VISIBLE}type)\s+(\w+)", re.MULTILINE)
_IMPL = re.compile(r"^\s*(?:unsafe\s+)?impl\b", re.MULTILINE)


@cache
def code_of(text: str) -> str:
    """The source without comments, without the content of strings, and without what is compiled for tests alone."""
    # Line ends stay, so that lines can be counted and named.
    text = _NOT_CODE.sub(
        lambda found: '""' + "\n" * found[0].count("\n") if '"' in found[0] else _lines(found[0]), text
    )
    while (found := _TEST_ITEM.search(text)) is not None:
        end = _end_of_item(text, found.end())
        text = text[: found.start()] + _lines(text[found.start() : end]) + text[end:]
    return text


def _lines(text: str) -> str:
    return "\n" * text.count("\n")


def _end_of_item(text: str, start: int) -> int:
    """Where the item that begins at `start` ends: behind its closing brace, or behind its semicolon."""
    depth = 0
    for index in range(start, len(text)):
        character = text[index]
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index + 1
        elif character == ";" and depth == 0:
            return index + 1
    return len(text)


def files_for_tests(source: Path) -> set[Path]:
    """The files that are compiled for tests alone: modules declared below `#[cfg(test)]`, with their folders."""
    found_files: set[Path] = set()
    for path in source.rglob("*.rs"):
        for found in _TEST_FILE.finditer(path.read_text("utf-8")):
            is_beside = path.stem in ("mod", "lib") or found["path"]
            folder = path.parent if is_beside else path.with_suffix("")
            found_files.add(folder / (found["path"] or f"{found['name']}.rs"))
            if not found["path"]:
                found_files.update((folder / found["name"]).rglob("*.rs"))
    return found_files


def module_of(path: Path, source: Path) -> list[str]:
    """`src/engine/connection.rs` is the module `engine::connection`."""
    parts = list(path.relative_to(source).with_suffix("").parts)
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


def paths_in(code: str, module: list[str]) -> Iterator[str]:
    """Every path that the code names, in full: `super`, `self`, and names that the file imports or declares as modules
    are resolved from `module`."""
    code = _VISIBLE_IN.sub("pub", code)
    while (inline := _INLINE.search(code)) is not None:
        end = _end_of_item(code, inline.end())
        yield from paths_in(code[inline.end() : end], [*module, inline[1]])
        code = code[: inline.start()] + code[end:]
    yield from _EXTERN.findall(code)
    names = {name: "::".join(["crate", *module, name]) for name in _DECLARED.findall(code)}
    imported = [leaf for tree in _USE.findall(code) for leaf in _leaves(tree)]
    for path, name in imported:
        names.setdefault(name, _resolved(path, module, {}))
    for path, _ in imported:
        yield _resolved(path, module, names)
    for path in _PATH.findall(_USE.sub("", code)):
        yield _resolved(path, module, names)


def types_defined(code: str) -> list[str]:
    """The names of the structs, enums, unions, traits and type aliases that the code defines."""
    return _TYPE.findall(code)


def types_implemented(code: str) -> list[str]:
    """The names of the types to which the code adds methods of their own: `impl Name`, not `impl Trait for Name`."""
    headers = (code[found.end() : code.index("{", found.end())] for found in _IMPL.finditer(code))
    # `impl dyn Name + Send` adds to Name.
    subjects = (re.split(r"\bwhere\b|\+", _without_generics(header))[0] for header in headers)
    return [
        re.sub(r"^(?:dyn\s+)?(?:\w+\s*::\s*)*", "", subject.strip())
        for subject in subjects
        if not re.search(r"\bfor\b", subject)
    ]


def _without_generics(header: str) -> str:
    header = header.replace("->", "")
    while (shorter := re.sub(r"<[^<>]*>", "", header)) != header:
        header = shorter
    return header


class RustTree:
    """The Rust files below a folder that stands for the crate, without those that are compiled for tests alone.

    Parameters:
        source: the folder with `lib.rs`.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.files = sorted(set(source.rglob("*.rs")) - files_for_tests(source))
        self._modules = {"::".join(["crate", *module_of(path, source)]): path for path in self.files}
        self._code = {path: code_of(path.read_text("utf-8")) for path in self.files}

    def label(self, file: Path) -> str:
        """`src/http/head.rs`, wherever the tree is."""
        return f"src/{file.relative_to(self.source).as_posix()}"

    def code(self, file: Path) -> str:
        """What is compiled of a file outside of tests."""
        return self._code[file]

    def file_of(self, path: str) -> Path | None:
        """The file that a path of the crate leads into: that of the innermost module it names."""
        segments = path.split("::")
        candidates = ("::".join(segments[:count]) for count in range(len(segments), 1, -1))
        return next((self._modules[module] for module in candidates if module in self._modules), None)

    def imports(self, file: Path) -> dict[str, str]:
        """The other files of the tree that the code of a file names, by their labels, each with the first such path.

        A re-export is an import of the file that it stands in. `mod name;` is no import, and `lib.rs` is none of the
        files, because it holds nothing but such declarations.
        """
        found: dict[str, str] = {}
        for path in paths_in(self.code(file), module_of(file, self.source)):
            other = self.file_of(path)
            if other not in (None, file):
                found.setdefault(self.label(other), path)
        return found

    def import_graph(self) -> dict[str, dict[str, str]]:
        """What each file imports."""
        return {self.label(file): self.imports(file) for file in self.files}


def _leaves(tree: str) -> Iterator[tuple[str, str]]:
    """`a::{b, c::{self, d as e}}` has the leaves `a::b`, `a::c`, `a::c::d`, here called `b`, `c`, `e`."""
    tree = re.sub(r"\s+", "", re.sub(r"\s+as\s+", "@", tree)).removeprefix("::")
    head, brace, rest = tree.partition("{")
    if not brace:
        path, _, name = tree.partition("@")
        path = path.removesuffix("::self")
        # `*` brings names that nothing here tells.
        yield path.removesuffix("::*"), name or path.rpartition("::")[2]
        return
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")]
    for index, character in enumerate([*inner, ","]):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            if item := inner[start:index]:
                yield from _leaves(head + item)
            start = index + 1


def _resolved(path: str, module: list[str], names: Mapping[str, str]) -> str:
    segments = re.sub(r"\s+", "", path).split("::")
    here = list(module)
    relative = False
    while segments and segments[0] in ("self", "super"):
        relative = True
        if segments.pop(0) == "super" and here:
            here.pop()
    if relative:
        return "::".join(["crate", *here, *segments])
    # A name may stand for a path that begins with another such name: `mod a; use a::b; b::c()`.
    for _ in range(2):
        if segments[0] in names:
            segments = [*names[segments[0]].split("::"), *segments[1:]]
    return "::".join(segments)
