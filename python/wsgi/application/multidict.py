"""Names with several values each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from wsgi.application.errors import BadRequest

__all__ = ["MissingField", "MultiDict"]

V = TypeVar("V", covariant=True)


class MissingField(BadRequest, KeyError):
    """400: a field that the handler needs did not come."""


class MultiDict(Mapping[str, V], Generic[V]):
    """Names with one or more values each, read-only: the query, a form, uploaded files.

    As a mapping it gives the first value of a name. The `KeyError` that `[name]` raises for a name that is missing
    answers with 400 if it is not caught, because the client left out the field.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, V]] = ()) -> None:
        self._values: dict[str, list[V]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> V:
        values = self._values.get(name)
        if values is None:
            raise MissingField(f"the field {name!r} is missing")
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, name: str) -> list[V]:
        """Every value of a name, in order; none for a name that is missing."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, V]]:
        """Every name with every value, grouped by name."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def __repr__(self) -> str:
        return f"MultiDict({self.pairs()!r})"
