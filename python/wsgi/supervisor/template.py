"""The life of a template: a process that has imported the application, and forks workers from it (preload).

A worker must be a child of the supervisor, which waits for it and kills it. So the template forks a helper, and the
helper forks the worker, reports its number and ends; the orphan becomes the supervisor's (PR_SET_CHILD_SUBREAPER). The
helper is forked without the handlers of `os.register_at_fork`: they run once for each worker, and what they start, such
as threads, is in the worker only.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

# As it is now: gevent replaces it when it is imported.
from os import fork

from wsgi._core import fork_quietly
from wsgi.errors import StartupError
from wsgi.supervisor.channel import Command, Report, WorkerEnd
from wsgi.supervisor.worker import other_threads

__all__ = ["fork_workers"]

# Exit codes of the helper: it has reported a worker, or why there is none.
_REPORTED = (0, 1)


def fork_workers(supervisor: WorkerEnd, reopen_logs: Callable[[], object]) -> WorkerEnd | None:
    """Forks workers as the supervisor requests them. Returns in each worker, with its way to the supervisor; in the
    template it returns None once the supervisor has no more use for it, or has gone.

    Parameters:
        supervisor: the template's way to the supervisor.
        reopen_logs: reopens the access log of this process, which workers inherit.

    Raises:
        StartupError: the application has started threads; the message names them.
    """
    threads = other_threads()
    if threads:
        raise StartupError(
            f"preload forks workers after the import, which is not safe while other threads run ({threads}): start "
            "them in the application's first request or by os.register_at_fork(after_in_child=...), or do not preload"
        )
    # A service manager signals every process at once; the supervisor says when a template ends.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # Frozen objects are not visited by the workers' collections, which would write to the pages they are on.
    gc.collect()
    gc.freeze()
    supervisor.send(Report.LOADED)
    for command, channel in supervisor.orders():
        if command is Command.REOPEN:
            reopen_logs()
        elif command is not Command.FORK:
            break
        elif channel is not None and _fork_worker(supervisor, channel):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return channel
    return None


def _fork_worker(supervisor: WorkerEnd, channel: WorkerEnd) -> bool:
    """Forks a worker and reports it; True in the worker."""
    # What is buffered would be written by each worker again.
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    try:
        helper = fork_quietly()
    except OSError as error:
        supervisor.send(Report.REFUSED, error.strerror or str(error))
        channel.close()
        return False
    if helper == 0 and _is_worker(supervisor):
        supervisor.close()
        return True
    channel.close()
    # A handler of the application may have taken its status.
    with suppress(ChildProcessError):
        code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
        if code not in _REPORTED:
            supervisor.send(Report.REFUSED, f"a handler of os.register_at_fork ended the process (status {code})")
    return False


def _is_worker(supervisor: WorkerEnd) -> bool:
    """The helper: forks the worker, in which this returns True, reports its number and ends."""
    code = 1
    try:
        pid = fork()
        if pid == 0:
            return True
        supervisor.send(Report.FORKED, str(pid))
        code = 0
    except BaseException as error:
        supervisor.send(Report.REFUSED, getattr(error, "strerror", None) or repr(error))
    os._exit(code)
