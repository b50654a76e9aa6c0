"""The commands `wsgi reload` and `wsgi stop`: they signal a running server and wait for what comes of it.

A server is known by its page of counters, which it shares with its workers and which also has the results of reloads:
there is no control socket. The process is held by a descriptor, so that the signal never reaches a later process with
the same number.
"""

from __future__ import annotations

import argparse
import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from wsgi import _core
from wsgi.option_types import Seconds

__all__ = ["COMMANDS", "main"]

_PAGE = "/memfd:wsgi-counters"
_MODULE = "/wsgi/_core."
_POLL_SECONDS = 0.02
_SECONDS = Seconds(0.001, 31_536_000.0)


class _Refused(Exception):
    """The command cannot be carried out, or has failed; the message is one line."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({(self.usage or '').strip()})\n")


@dataclass(frozen=True)
class _Command:
    """One command.

    Parameters:
        help: what it does.
        timeout: seconds that it waits by default.
        run: carries it out, and gives the line that says so.
    """

    help: str
    timeout: float
    run: Callable[[_Process, float], str]


class _Process:
    """A process that was found by its number, and no later one with the same number.

    Raises:
        _Refused: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except AttributeError:
            raise _Refused("the command needs Linux 5.3 or later: use kill") from None
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise _Refused("the command needs Linux 5.3 or later: use kill") from None
            raise _Refused(f"there is no process {pid}") from None
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def close(self) -> None:
        """Lets go of the process."""
        os.close(self._descriptor)

    def ends_within(self, seconds: float) -> bool:
        """Waits for the end of the process, and tells whether it has come."""
        return bool(self._poll.poll(max(0.0, seconds) * 1000))

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal.

        Raises:
            _Refused: the process has ended, or is another user's.
        """
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except PermissionError:
            raise self.forbidden() from None
        except OSError:
            raise self.ended() from None

    def forbidden(self) -> _Refused:
        """The error for a process of another user."""
        return _Refused(f"no permission for process {self.pid}: run the command as its user or as root")

    def ended(self) -> _Refused:
        """The error for a process that has ended."""
        return _Refused(f"process {self.pid} has ended")

    @contextmanager
    def _read(self) -> Iterator[Path]:
        """The process' folder in /proc; errors of reading there are refusals."""
        try:
            yield Path(f"/proc/{self.pid}")
        except PermissionError:
            raise self.forbidden() from None
        except OSError:
            raise self.ended() from None
        if self.ends_within(0):
            raise self.ended()

    def page(self) -> _core.Page | None:
        """The counters of the process if it is the supervisor of workers; None if it has none.

        Raises:
            _Refused: it is a worker, or a server of another version.
        """
        with self._read() as folder:
            for name in os.listdir(folder / "fd"):
                with suppress(FileNotFoundError):
                    if not os.readlink(folder / "fd" / name).startswith(_PAGE):
                        continue
                    page = self._open_page(folder / "fd" / name)
                    if page.get("pid") == self._own_pid(folder):
                        return page
                    raise _Refused(f"process {self.pid} is a worker: its supervisor is {page.get('pid')}")
        return None

    def _open_page(self, path: Path) -> _core.Page:
        try:
            return _core.Page.open(str(path))
        except ValueError:
            raise _Refused(f"process {self.pid} runs another version of the server: use kill") from None

    def _own_pid(self, folder: Path) -> int:
        # In a container the process has another number than here.
        for line in (folder / "status").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name == "NSpid" and numbers.split():
                return int(numbers.split()[-1])
        return self.pid

    def require_server(self) -> None:
        """Refuses a process that is no server of this package, such as one that has got its number later.

        Raises:
            _Refused: it is none, or is a worker.
        """
        if self.page() is not None:
            return
        with self._read() as folder:
            maps = (folder / "maps").read_text()
        if _MODULE not in maps:
            raise _Refused(f"process {self.pid} is not a server of this package")


def _reload(process: _Process, timeout: float) -> str:
    page = process.page()
    if page is None:
        process.require_server()
        raise _Refused(f"process {process.pid} has no workers to reload: restart it, or start it with --workers")
    before = page.get("reloads_begun")
    process.signal(signal.SIGHUP)
    end = time.monotonic() + timeout
    while True:
        begun, is_settled, has_succeeded = _result(page)
        # The result of a later reload counts, which gives this one up.
        if begun > before and is_settled:
            if has_succeeded:
                return f"process {process.pid} has reloaded"
            raise _Refused(f"the reload of process {process.pid} has failed: its log says why")
        left = end - time.monotonic()
        if left <= 0:
            raise _Refused(f"process {process.pid} has not reloaded within {timeout:g} s: its log may say why")
        if process.ends_within(min(left, _POLL_SECONDS)):
            raise process.ended()


def _result(page: _core.Page) -> tuple[int, bool, bool]:
    """Reloads that were begun, whether none is in progress, and whether the last has succeeded."""
    names = ("reloads_begun", "reloads_done", "reloads_failed", "generation")
    while True:
        values = [page.get(name) for name in names]
        # The cells are written one after the other.
        if values == [page.get(name) for name in names]:
            break
    begun, done, failed, generation = values
    # Each reload has a generation of its own, after that of the start.
    return begun, begun == done + failed, generation == begun + 1


def _stop(process: _Process, timeout: float) -> str:
    process.require_server()
    process.signal(signal.SIGTERM)
    if not process.ends_within(timeout):
        raise _Refused(
            f"process {process.pid} has not ended within {timeout:g} s; a second stop does not wait for requests"
        )
    return f"process {process.pid} has ended"


COMMANDS = {
    "reload": _Command("Reloads a server with workers (SIGHUP) and waits for the result.", 70.0, _reload),
    "stop": _Command("Stops a server (SIGTERM) and waits for its end.", 45.0, _stop),
}
"""The commands by their names."""


def _parser(name: str) -> _Parser:
    command = COMMANDS[name]
    usage = f"wsgi {name} PID | --pidfile FILE [--timeout TIME]"
    parser = _Parser(f"wsgi {name}", usage, command.help, allow_abbrev=False, add_help=False)
    parser.add_argument("pid", nargs="?", metavar="PID", help="the server's process")
    parser.add_argument("--pidfile", metavar="FILE", help="a file with its number")
    text = f"maximum time to wait, such as 30, 1.5 or 2m (default {command.timeout:g})"
    parser.add_argument("--timeout", metavar="TIME", help=text)
    parser.add_argument("-h", "--help", action="help", help="print this help")
    return parser


def _pid_of(text: str, origin: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise _Refused(f"{origin} is not the number of a process")
    return int(text)


def _pid_in(path: str) -> int:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(100)
    except OSError as error:
        raise _Refused(f"cannot read {path!r}: {error.strerror}") from None
    return _pid_of(text.strip(), f"the content of {path!r}")


def main(name: str, arguments: Sequence[str]) -> int:
    """Carries out a command, and returns its exit code: 0 if it has succeeded, 1 if it has not.

    Parameters:
        name: one of `COMMANDS`.
        arguments: those after the command's name.

    Raises:
        SystemExit: the command line is wrong (2), or help was asked for.
    """
    parser = _parser(name)
    given = parser.parse_args(arguments)
    if (given.pid is None) == (given.pidfile is None):
        parser.error("a process is needed" if given.pid is None else "PID and --pidfile exclude each other")
    timeout = COMMANDS[name].timeout
    if given.timeout is not None:
        try:
            timeout = _SECONDS.from_text(given.timeout)
        except ValueError:
            parser.error(f"--timeout must be {_SECONDS.requirement}")
    try:
        pid = _pid_in(given.pidfile) if given.pid is None else _pid_of(given.pid, repr(given.pid))
        process = _Process(pid)
        try:
            print(COMMANDS[name].run(process, timeout))
        finally:
            process.close()
    except _Refused as error:
        print(f"wsgi {name}: {error}", file=sys.stderr)
        return 1
    return 0
