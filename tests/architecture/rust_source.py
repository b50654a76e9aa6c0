"""Reads Rust source far enough to see what it imports: a lexer for what is no code, and the trees of `use`."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
_INLINE = re.compile(r"\bmod\s+(\w+)\s*(?=\{)")
_EXTERN = re.compile(r"\bextern\s+crate\s+(\w+)")
_PATH = re.compile(r"(?<![\w:.$])(?:::)?((?:[A-Za-z_]\w*)(?:\s*::\s*(?:[A-Za-z_]\w*))+)")


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
    """Every path that the code names, `crate::…` in full; `super` and `self` are resolved from `module`."""
    while (inline := _INLINE.search(code)) is not None:
        end = _end_of_item(code, inline.end())
        yield from paths_in(code[inline.end() : end], [*module, inline[1]])
        code = code[: inline.start()] + code[end:]
    yield from _EXTERN.findall(code)
    for tree in _USE.findall(code):
        for path in _leaves(re.sub(r"\s+as\s+\w+", "", tree)):
            yield _resolved(path, module)
    for path in _PATH.findall(_USE.sub("", code)):
        yield _resolved(path, module)


def _leaves(tree: str) -> Iterator[str]:
    """`a::{b, c::{self, d}}` has the leaves `a::b`, `a::c`, `a::c::d`."""
    tree = re.sub(r"\s+", "", tree).removeprefix("::")
    head, brace, rest = tree.partition("{")
    if not brace:
        yield tree.removesuffix("::self").removesuffix("::*")
        return
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")]
    for index, character in enumerate([*inner, ","]):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            if item := inner[start:index]:
                yield from (leaf.removesuffix("::self") for leaf in _leaves(head + item))
            start = index + 1


def _resolved(path: str, module: list[str]) -> str:
    segments = re.sub(r"\s+", "", path).split("::")
    here = list(module)
    relative = False
    while segments and segments[0] in ("self", "super"):
        relative = True
        if segments.pop(0) == "super" and here:
            here.pop()
    return "::".join(["crate", *here, *segments]) if relative else "::".join(segments)
