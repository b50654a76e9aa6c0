"""The nearest right name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]

# Two names of seven letters that differ in one or two; below it, names meet that mean different things.
_CLOSE = 0.75


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Gives `: did you mean 'threads'?` for a mistyped name, empty text where nothing comes near.

    Parameters:
        name: what was given, without what all names begin with.
        known: the right names, likewise.
        prefix: stands before the right name in the answer.
    """
    plain = {_plain(other): other for other in known}
    found = difflib.get_close_matches(_plain(name), plain, 1, _CLOSE)
    # 'wbe' is far from 'web' by that measure, but a frequent slip.
    found = found or [other for other in plain if sorted(other) == sorted(_plain(name))]
    return f": did you mean {prefix + plain[found[0]]!r}?" if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
