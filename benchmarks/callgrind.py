"""Callgrind's profiles: how many instructions every function took, and on whose behalf.

The format is that of valgrind's manual, "Callgrind Format Specification", as far as callgrind writes it for one event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(ob|fl|fi|fe|fn|cob|cfi|cfl|cfn)=\((\d+)\)(?: (.*))?$")
_COST = re.compile(r"(?:[+-]?\d+|\*) (\d+)$")
# Names are compressed: the first use says the name, later ones the number alone. Each kind counts for itself.
_KINDS = {"ob": "object", "cob": "object", "fn": "function", "cfn": "function"}


@dataclass
class Function:
    """What a function cost.

    `inclusive` has what the functions it called cost; for a function that comes back to itself by way of others, parts
    are counted more than once, and what exceeds the whole is cut off.
    """

    name: str
    library: str
    own: int = 0
    inclusive: int = 0
    calls: int = 0


class Profile:
    """One thread's profile.

    Parameters:
        lines: of the file that callgrind wrote.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._functions: dict[tuple[str, str], Function] = {}
        self._read(lines)
        self.total = sum(function.own for function in self._functions.values())
        for function in self._functions.values():
            function.inclusive = min(function.inclusive + function.own, self.total)

    @classmethod
    def of(cls, path: Path) -> Profile:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return cls(lines)

    def functions(self) -> list[Function]:
        """All functions, the dearest by itself first."""
        return sorted(self._functions.values(), key=lambda function: (-function.own, function.name))

    def libraries(self) -> dict[str, int]:
        """Instructions by the name of the file that holds them: a shared library, a program."""
        sums: dict[str, int] = {}
        for function in self.functions():
            sums[function.library] = sums.get(function.library, 0) + function.own
        return sums

    def _function(self, library: str, name: str) -> Function:
        return self._functions.setdefault((library, name), Function(name, Path(library).name))

    def _read(self, lines: Iterable[str]) -> None:
        names: dict[tuple[str, str], str] = {}
        library = called_library = ""
        current = called = Function("", "")
        calls = 0
        for line in lines:
            if match := _NAME.match(line):
                key, number, name = match.groups()
                kind = _KINDS.get(key)
                if kind is None:
                    continue
                if name is not None:
                    names[kind, number] = name
                name = names[kind, number]
                match key:
                    case "ob":
                        library = called_library = name
                    case "cob":
                        called_library = name
                    case "fn":
                        current = self._function(library, name)
                    case _:
                        called = self._function(called_library, name)
                        called_library = library
            elif line.startswith("calls="):
                calls = int(line[6:].split()[0])
            elif match := _COST.match(line):
                cost = int(match[1])
                if not calls:
                    current.own += cost
                    continue
                # The line behind `calls=` is what the calls cost.
                called.calls += calls
                if called is not current:
                    current.inclusive += cost
                calls = 0
