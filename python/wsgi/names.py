"""The nearest right name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Gives `: did you mean 'threads'?` for a mistyped name, empty text where nothing comes near.

    Parameters:
        name: what was given.
        known: the right names.
        prefix: stands before the right name in the answer.
    """
    known = list(known)
    # A short name has few letters to agree in: 'ap' and 'App' must still find 'app'.
    found = difflib.get_close_matches(name, known, 1) or [other for other in known if other.lower() == name.lower()]
    return f": did you mean {prefix + found[0]!r}?" if found else ""
