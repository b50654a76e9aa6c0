"""Says where threads are that do not come back from the application."""

from __future__ import annotations

import logging
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from types import FrameType

from wsgi.logging import report

__all__ = ["report_stall"]

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# Threads that are told of: a line each.
_MOST = 32


def report_stall(message: str, calls: Sequence[tuple[str, int, str, float]]) -> None:
    """Logs `message` as a warning, and below it a line for each call with the place that it has come to.

    Parameters:
        message: one line.
        calls: for each a thread's name, its `threading.get_ident()`, the request's method and path, and its age in
            seconds.
    """
    report(logging.WARNING, message)
    frames = sys._current_frames()
    for name, ident, request, age in calls[:_MOST]:
        frame = frames.get(ident)
        report(logging.WARNING, f"{name}: {request} for {age:.0f} s{'' if frame is None else f', {_place(frame)}'}")
    if len(calls) > _MOST:
        report(logging.WARNING, f"and {len(calls) - _MOST} more threads")


def _place(frame: FrameType) -> str:
    """The application's innermost line, and the one it called if that is the library's."""
    own = next((outer for outer in _outwards(frame) if not _is_library(outer)), frame)
    called = "" if own is frame else f" (in {_shown(frame)})"
    return f"at {_shown(own)}{called}"


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    # `wsgi.running` starts the thread, and is part of every stack.
    return file.startswith(("<", *_LIBRARIES)) or frame.f_globals.get("__name__") == "wsgi.running"


def _shown(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
