"""Suggests the closest known name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]

# Similarity of names of seven letters that differ in one or two; below it, unrelated names match.
_CLOSE = 0.75


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Returns `: did you mean 'threads'?` for a mistyped name, "" if no known name is close.

    Parameters:
        name: the given name, without the prefix that all names share.
        known: the known names, likewise.
        prefix: put before the known name in the answer.
    """
    plain = {_plain(other): other for other in known}
    found = difflib.get_close_matches(_plain(name), plain, 1, _CLOSE)
    # Swapped letters, 'wbe' for 'web': a frequent slip that this measure rates low.
    found = found or [other for other in plain if sorted(other) == sorted(_plain(name))]
    return f": did you mean {prefix + plain[found[0]]!r}?" if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
