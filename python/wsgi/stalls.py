"""Reports where threads are that do not return from the application."""

from __future__ import annotations

import faulthandler
import functools
import itertools
import logging
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from wsgi.logging import report

__all__ = ["register_dump", "report_stall", "stuck_stacks"]

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# Threads that a report names: one line each, or one stack each.
_MAX_THREADS = 32
# Innermost frames of a stack that are shown.
_MAX_FRAMES = 64

RunningThread = tuple[str, int, str, float]
"""A thread that runs the application: its name, its `threading.get_ident()`, the request's method and path, and its age
in seconds."""


def report_stall(message: str, calls: Sequence[RunningThread]) -> None:
    """Logs `message` as a warning, and below it a line for each call with the code location it is at.

    Parameters:
        message: one line.
        calls: the threads that run the application.
    """
    report(logging.WARNING, message)
    frames = sys._current_frames()
    for name, ident, request, age in calls[:_MAX_THREADS]:
        frame = frames.get(ident)
        report(logging.WARNING, f"{name}: {request} for {age:.0f} s{'' if frame is None else f', {_location(frame)}'}")
    if len(calls) > _MAX_THREADS:
        report(logging.WARNING, f"and {len(calls) - _MAX_THREADS} more threads")


def stuck_stacks(calls: Sequence[tuple[str, int, str, Any]], running: Sequence[RunningThread]) -> list[str]:
    """Describes where requests are that take too long, and what the other threads do.

    Parameters:
        calls: for each of these requests its thread's name, that thread's `threading.get_ident()`, its method and path,
            and its asyncio task, if it is one that waits.
        running: the threads that run the application.

    Returns:
        For each request the stack of its thread or task; below that of the first the stacks of all other threads.
    """
    frames = sys._current_frames()
    texts = []
    for name, ident, request, task in calls:
        if task is None:
            texts.append(f"{name}, {request}:\n{_stack(frames.get(ident))}")
        else:
            texts.append(f"task of {request}, waiting:\n{_task_stack(task)}")
    shown = {ident for _, ident, _, task in calls if task is None}
    if texts:
        texts[0] += "".join(_other_stacks(frames, shown | {threading.get_ident()}, running))
    return texts


def _other_stacks(frames: Mapping[int, FrameType], shown: set[int], running: Sequence[RunningThread]) -> Iterator[str]:
    # Not threading.enumerate(): its lock may be held by a thread that is stuck.
    names = {ident: thread.name for ident, thread in list(getattr(threading, "_active", {}).items())}
    requests = {ident: f", {request} for {age:.1f} s" for _, ident, request, age in running}
    # Threads that wait at the same place, as idle workers do, are described once.
    alike: dict[str, list[str]] = {}
    for ident, frame in frames.items():
        if ident not in shown:
            alike.setdefault(_stack(frame), []).append(
                f"{names.get(ident, f'thread {ident}')}{requests.get(ident, '')}"
            )
    for stack, threads in itertools.islice(alike.items(), _MAX_THREADS):
        yield f"\n{'; '.join(threads)}:\n{stack}"
    if len(alike) > _MAX_THREADS:
        yield f"\nand {len(alike) - _MAX_THREADS} more stacks"


def _stack(frame: FrameType | None) -> str:
    """The lines of a stack as in a traceback, innermost last, without the frames that every worker begins with."""
    own = itertools.takewhile(lambda outer: outer.f_globals.get("__name__") != "wsgi.run", _outer_frames(frame))
    frames = [(outer, outer.f_lineno) for outer in itertools.islice(own, _MAX_FRAMES)]
    return _formatted(traceback.StackSummary.extract(reversed(frames)))


def _formatted(stack: traceback.StackSummary) -> str:
    return "".join(stack.format()).rstrip("\n") or "  outside of the application"


def _task_stack(task: Any) -> str:
    """The coroutines that a task is in, each awaiting the next."""
    coroutine: Any = task.get_coro()
    frames = []
    # Bounded, because the chain of awaited objects may contain a cycle.
    for _ in range(_MAX_FRAMES):
        frame = next(
            (
                found
                for name in ("cr_frame", "gi_frame", "ag_frame")
                if (found := getattr(coroutine, name, None)) is not None
            ),
            None,
        )
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        names = ("cr_await", "gi_yieldfrom", "ag_await")
        coroutine = next((found for name in names if (found := getattr(coroutine, name, None)) is not None), None)
        if coroutine is None:
            break
    return _formatted(traceback.StackSummary.extract(frames))


@functools.cache
def register_dump() -> int | None:
    """Makes a signal write the stacks of all threads to standard error, also while C code holds the interpreter lock.
    Called before the application is imported, which may install handlers of its own.

    Returns:
        The number of the signal; None if the system has none, or it has another handler already.
    """
    number = int(getattr(signal, "SIGRTMAX", 0)) - 2
    if number > 0 and sys.__stderr__ is not None and signal.getsignal(number) is signal.SIG_DFL:
        with suppress(OSError, RuntimeError, ValueError):
            faulthandler.register(number, sys.__stderr__, all_threads=True)
            return number
    return None


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
