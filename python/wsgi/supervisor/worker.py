"""The life of a worker process, from the fork to its end."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from wsgi.errors import StartupError, WSGIServerError
from wsgi.loading import explained
from wsgi.supervisor.channel import Report, WorkerEnd

__all__ = ["LINGER_SECONDS", "exit_worker", "require_forkable", "stop_accepting", "work"]

LINGER_SECONDS = 1.0
"""How long a drained worker waits for the requests of clients that it has accepted a moment before."""


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


def stop_accepting(listeners: Iterable[int]) -> None:
    """Leaves new clients to the other workers: puts a listening socket that has no clients in the place of each shared
    one.

    Closing a shared socket would not do: the engine stops with its listeners, and closes connections whose request has
    not come yet. Without descriptors, or outside of Linux, nothing is changed.

    Parameters:
        listeners: descriptors of listening sockets.
    """
    with suppress(OSError), socket.socket(socket.AF_UNIX) as empty:
        # The kernel gives it an abstract name that is not in use (unix(7)).
        empty.bind("")
        empty.listen(1)
        # The engine accepts until there is no client: with a socket that blocks it would wait.
        empty.setblocking(False)
        for descriptor in listeners:
            os.dup2(empty.fileno(), descriptor, inheritable=False)


def require_forkable() -> None:
    """Refuses a process in which forking is not safe.

    Raises:
        StartupError: the caller is not the main thread, or other threads run; the message names them.
    """
    if threading.current_thread() is not threading.main_thread():
        raise StartupError("workers need the main thread, which handles signals: call serve_forever() there")
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        raise StartupError(
            f"workers are forked, which is not safe while other threads run ({', '.join(others)}): start the threads "
            "in the application's first request, or use the command wsgi, whose workers import the application"
        )


def exit_worker(code: int) -> NoReturn:
    """Ends a process as the interpreter does, without returning into the code that called the server: waits for threads
    that are no daemons, runs the handlers of `atexit`, flushes the standard streams.
    """
    for step in (getattr(threading, "_shutdown"), getattr(atexit, "_run_exitfuncs")):  # noqa: B009
        try:
            step()
        except BaseException:
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
