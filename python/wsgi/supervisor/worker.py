"""The life of a worker process, from the fork to its end."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NoReturn

from wsgi.errors import StartupError, WSGIServerError
from wsgi.loading import explained
from wsgi.supervisor.channel import Command, Report, WorkerEnd
from wsgi.supervisor.recycling import RecyclingLimits
from wsgi.wakeup import wait_readable

__all__ = ["exit_worker", "follow", "other_threads", "require_forkable", "work"]


def work(supervisor: WorkerEnd, serve: Callable[[], int]) -> int:
    """Serves until the supervisor requests a stop or has gone; returns the exit code. What keeps the worker from
    serving is reported to the supervisor, which shows it once.

    Parameters:
        serve: sets the application and serves; returns the exit code.
    """
    try:
        return serve()
    except KeyboardInterrupt:
        # A signal came before the server was started.
        return 130
    except (WSGIServerError, TypeError, ValueError) as error:
        text = explained(error)
    except Exception as error:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    supervisor.send(Report.FAILED, text)
    return 1


def follow(supervisor: WorkerEnd, limits: RecyclingLimits) -> Iterator[Command]:
    """Waits for the supervisor's commands, and asks it once for a successor when this worker has reached a limit; ends
    when the supervisor has gone.
    """
    commands = supervisor.commands()
    while not (why := limits.reached()):
        ready = wait_readable([supervisor.fileno(), *limits.descriptors()], limits.due_in())
        if supervisor.fileno() in ready:
            command = next(commands, None)
            if command is None:
                return
            yield command
    supervisor.send(Report.RECYCLE, why)
    limits.close()
    yield from commands


def require_forkable() -> None:
    """Refuses a process in which forking is not safe.

    Raises:
        StartupError: the caller is not the main thread, or other threads run; the message names them.
    """
    if threading.current_thread() is not threading.main_thread():
        raise StartupError("workers need the main thread, which handles signals: call serve_forever() there")
    threads = other_threads()
    if threads:
        raise StartupError(
            f"workers are forked, which is not safe while other threads run ({threads}): start the threads in the "
            "application's first request, or use the command wsgi, whose workers import the application"
        )


def other_threads() -> str:
    """The names of all threads but the main thread."""
    return ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())


def exit_worker(body: Callable[[], int]) -> NoReturn:
    """Runs what a worker or a template does and ends the process as the interpreter does, without returning into the
    code that called the server: waits for threads that are no daemons, runs the handlers of `atexit`, flushes the
    standard streams.

    Parameters:
        body: returns the exit code. What it raises is written to standard error, and the code is 1.
    """
    code = 1
    try:
        code = body()
    except BaseException:
        traceback.print_exc()
    for step in (getattr(threading, "_shutdown"), getattr(atexit, "_run_exitfuncs")):  # noqa: B009
        try:
            step()
        except BaseException:
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
