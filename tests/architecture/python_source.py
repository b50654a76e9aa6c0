"""Reads Python source far enough to see which files of a tree import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path


def import_graph(root: Path) -> dict[str, set[str]]:
    """The files that each file below `root` imports, by their paths relative to it.

    Imports inside functions and under TYPE_CHECKING count. The `__init__.py` of a package counts only where a name is
    imported from it, although Python runs it with every module of the package.

    Parameters:
        root: a directory for `sys.path`; all packages below it are read.
    """
    paths = {
        _module_of(path.relative_to(root)): path
        for suffix in ("*.pyi", "*.py")
        for path in sorted(root.rglob(suffix))
        if "__pycache__" not in path.parts
    }
    return {
        path.relative_to(root).as_posix(): {
            paths[name].relative_to(root).as_posix() for name in _imported(path, module, paths)
        }
        for module, path in paths.items()
    }


def _module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, module: str, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of `known` that a file names in its imports."""
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from wsgi import server` imports wsgi/server.py, `from wsgi import __version__` wsgi/__init__.py.
            parts = [f"{source}.{alias.name}" for alias in node.names]
            names = [part if part in known else source for part in parts]
        else:
            continue
        yield from (name for name in names if name in known)
