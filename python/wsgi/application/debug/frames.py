"""What an error carries: the calls it came through, the errors before it, the errors inside it."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

__all__ = ["MOST_CALLS", "Frame", "calls", "chain", "ends", "every", "group"]

MOST_CALLS = 40  # of one traceback: half from each end
MOST_ERRORS = 30  # of one page

_LIBRARIES = (
    "<frozen ",
    os.path.join(Path(__file__).parents[1], ""),
    *(os.path.join(sysconfig.get_path(kind), "") for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)
# Those of other environments, and of Debian.
_LIBRARY_DIRECTORIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Frame(NamedTuple):
    """One call of a traceback."""

    trace: TracebackType
    is_library: bool


def calls(trace: TracebackType | None) -> list[Frame]:
    """The calls of a traceback, the innermost first."""
    found = []
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        is_library = path.startswith(_LIBRARIES) or any(directory in path for directory in _LIBRARY_DIRECTORIES)
        found.append(Frame(trace, is_library))
        trace = trace.tb_next
    return found[::-1]


def ends(found: list[Frame]) -> tuple[list[Frame], int, list[Frame]]:
    """The calls that are shown, and how many between them are not: recursion makes thousands."""
    half = MOST_CALLS // 2
    left_out = len(found) - MOST_CALLS
    return (found[:half], left_out, found[-half:]) if left_out > 0 else (found, 0, [])


def chain(error: BaseException, seen: set[int]) -> Iterator[tuple[str, BaseException]]:
    """An error and those before it, each with how the one that came last arose from it.

    Parameters:
        error: the last one.
        seen: the ids of errors that have had their turn, for chains and groups may lead back; it grows.
    """
    link = ""
    following: BaseException | None = error
    while following is not None and id(following) not in seen and len(seen) < MOST_ERRORS:
        seen.add(id(following))
        yield link, following
        if following.__cause__ is not None:
            link, following = "was caused by", following.__cause__
        else:
            link = "was raised while this was handled"
            following = None if following.__suppress_context__ else following.__context__


def group(error: BaseException) -> list[BaseException]:
    """The errors inside an ExceptionGroup (from Python 3.11); none of any other error."""
    members = getattr(error, "exceptions", ())
    return [member for member in members if isinstance(member, BaseException)] if isinstance(members, tuple) else []


def every(error: BaseException, seen: set[int] | None = None) -> Iterator[BaseException]:
    """An error with all those before it and inside it."""
    seen = set() if seen is None else seen
    for _, following in chain(error, seen):
        yield following
        for member in group(following):
            yield from every(member, seen)
