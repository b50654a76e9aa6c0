"""Reports where threads are that do not return from the application."""

from __future__ import annotations

import logging
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from types import FrameType

from wsgi.logging import report

__all__ = ["report_stall"]

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# Threads that a report names, one line each.
_MAX_THREADS = 32


def report_stall(message: str, calls: Sequence[tuple[str, int, str, float]]) -> None:
    """Logs `message` as a warning, and below it a line for each call with the code location it is at.

    Parameters:
        message: one line.
        calls: for each a thread's name, its `threading.get_ident()`, the request's method and path, and its age in
            seconds.
    """
    report(logging.WARNING, message)
    frames = sys._current_frames()
    for name, ident, request, age in calls[:_MAX_THREADS]:
        frame = frames.get(ident)
        report(logging.WARNING, f"{name}: {request} for {age:.0f} s{'' if frame is None else f', {_location(frame)}'}")
    if len(calls) > _MAX_THREADS:
        report(logging.WARNING, f"and {len(calls) - _MAX_THREADS} more threads")


def _location(frame: FrameType) -> str:
    """The innermost line of the application, and the library line below it if there is one."""
    own = next((outer for outer in _outer_frames(frame) if not _is_library(outer)), frame)
    called = "" if own is frame else f" (in {_line_of(frame)})"
    return f"at {_line_of(own)}{called}"


def _outer_frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    # `wsgi.run` starts the thread, and is part of every stack.
    return file.startswith(("<", *_LIBRARIES)) or frame.f_globals.get("__name__") == "wsgi.run"


def _line_of(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
