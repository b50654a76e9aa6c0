"""Replaces the program of a supervisor while its workers serve (SIGUSR2).

The supervisor executes its own command line again, in the same process: listening sockets, channels and children stay.
Before that, a child process checks that the program starts and reads the configuration and the state. What the program
needs to know is in a file without a name, whose descriptor the variable `_WSGI_SERVER_UPGRADE` carries:
`check:DESCRIPTOR` or `run:DESCRIPTOR`.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NoReturn, TextIO

from wsgi.errors import StartupError
from wsgi.supervisor.configuration import PassedSocket
from wsgi.supervisor.machine import Machine, Phase, Timing, Worker
from wsgi.supervisor.start import UPGRADE_VARIABLE, start_directory

__all__ = ["CONFIRMATION", "Check", "UpgradeState", "execute", "received"]

CONFIRMATION = "wsgi-server: the upgrade can go on"
"""The last line that a check prints."""

# Counts changes of the state, and of the messages between workers and supervisor: former workers stay.
_VERSION = 1
_OUTPUT_BYTES = 64 * 1024


@dataclass
class UpgradeState:
    """What a supervisor leaves to the program that it executes.

    Parameters:
        sockets: the listening sockets.
        named_sockets: name and descriptor, as it was at the start, of each socket that systemd has passed.
        workers: each worker by its pid.
        templates: the pids of templates. The program does not get their channels, and has them end.
        channels: the descriptor of each worker's channel, and what was received of its next message.
        page: the descriptor of the page of counters, and `slots`: each worker's.
        ages: each worker's number in the order of starts, for hooks.
        handover: the descriptors of the queue of connections on their way between workers.
        reloads: those that were begun, are done and have failed.
        loaded: workers that have loaded the application.
        generation: that of the workers which serve.
        last_generation: the highest generation so far.
        target: workers that are wanted.
        configured: workers that the configuration wants.
        has_served: whether a worker has ever served.
        signals: numbers of signals that have come and were not handled.
        ignored: signals that were ignored when the server was started.
        is_check: the program is only to say whether it could go on.
    """

    sockets: list[PassedSocket]
    named_sockets: list[tuple[str, int]] = field(default_factory=list)
    workers: dict[int, Worker] = field(default_factory=dict)
    templates: list[int] = field(default_factory=list)
    channels: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    page: int = -1
    slots: dict[int, int] = field(default_factory=dict)
    ages: dict[int, int] = field(default_factory=dict)
    handover: tuple[int, int] = (-1, -1)
    reloads: tuple[int, int, int] = (0, 0, 0)
    loaded: list[int] = field(default_factory=list)
    generation: int = 1
    last_generation: int = 1
    target: int = 1
    configured: int = 1
    has_served: bool = False
    signals: list[int] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    is_check: bool = False

    def descriptors(self) -> list[int]:
        """Every descriptor that the program inherits."""
        passed = [number for _, number, _ in self.sockets]
        return [*passed, *(number for number, _ in self.channels.values()), self.page, *self.handover]

    def to_json(self) -> str:
        """The state as text."""
        values = asdict(self)
        values["workers"] = {pid: {**asdict(one), "phase": one.phase.value} for pid, one in self.workers.items()}
        values["channels"] = {
            pid: (number, base64.b64encode(data).decode()) for pid, (number, data) in self.channels.items()
        }
        return json.dumps({"version": _VERSION, **values})

    @classmethod
    def from_json(cls, text: str) -> UpgradeState:
        """Reads what `to_json` gave.

        Raises:
            StartupError: it is the state of another version.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            version = values.pop("version")
            if version != _VERSION:
                raise StartupError(
                    f"the running server has version {version} of the state for an upgrade, and this program version "
                    f"{_VERSION}: restart the server"
                )
            values["sockets"] = [(bind, number, file and tuple(file)) for bind, number, file in values["sockets"]]
            values["named_sockets"] = [(name, number) for name, number in values["named_sockets"]]
            values["workers"] = {int(pid): _worker(one) for pid, one in values["workers"].items()}
            values["channels"] = {
                int(pid): (number, base64.b64decode(data)) for pid, (number, data) in values["channels"].items()
            }
            for name in ("slots", "ages"):
                values[name] = {int(pid): number for pid, number in values[name].items()}
            values["reloads"] = tuple(values["reloads"])
            sender, receiver = values["handover"]
            values["handover"] = (sender, receiver)
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StartupError(f"the running server's state for an upgrade cannot be read: {error!r}") from None

    def restore(self, machine: Machine) -> None:
        """Gives a new machine the workers."""
        generations = (self.generation, self.last_generation)
        machine.resume(self.workers, self.templates, generations, self.reloads, has_served=self.has_served)
        machine.target = self.target


def _worker(values: dict[str, Any]) -> Worker:
    return Worker(**{**values, "phase": Phase(values["phase"]), "timing": Timing(**values["timing"])})


def received() -> UpgradeState | None:
    """The state that this program was given by the one that has executed it, if it was given one. It is given once.

    Raises:
        StartupError: it cannot be read, or is that of another version.
    """
    mode, _, number = os.environ.pop(UPGRADE_VARIABLE, "").partition(":")
    if not number.isdecimal():
        return None
    try:
        with open(int(number), encoding="utf-8") as file:
            file.seek(0)
            state = UpgradeState.from_json(file.read())
        for descriptor in state.descriptors():
            os.set_inheritable(descriptor, False)
    except (OSError, TypeError, OverflowError, ValueError) as error:
        raise StartupError(f"the running server's state for an upgrade cannot be read: {error}") from None
    state.is_check = mode != "run"
    if state.is_check:
        # The files of sockets are not the checking process' to remove.
        state.sockets = [(bind, descriptor, None) for bind, descriptor, _ in state.sockets]
    return state


class Check:
    """A process that checks whether the program could go on.

    Parameters:
        state: as it would be left to the program.
        environ: its environment.
        seconds: what the check may take.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, state: UpgradeState, environ: Mapping[str, str], seconds: float) -> None:
        self.deadline: float | None = time.monotonic() + seconds
        """When the check has taken too long (`time.monotonic()`); None once it has."""
        self._seconds = seconds
        self._output = b""
        self._is_overdue = False
        self._reader, writer = os.pipe()
        try:
            os.set_blocking(self._reader, False)
            # Without the channels: a worker must notice the end of its supervisor.
            with _passed(replace(state, channels={}), environ, "check") as (path, arguments, environment):
                self.pid = os.posix_spawn(
                    path,
                    arguments,
                    environment,
                    file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)],
                    setsigmask=[],
                )
        except BaseException:
            os.close(self._reader)
            raise
        finally:
            os.close(writer)

    def fileno(self) -> int:
        """The descriptor that can be read when the process has written something or has ended."""
        return self._reader

    def receive(self) -> bool:
        """Reads what the process has written; False at the end."""
        try:
            data = os.read(self._reader, _OUTPUT_BYTES)
        except BlockingIOError:
            return True
        self._output = (self._output + data)[-_OUTPUT_BYTES:]
        return bool(data)

    def postpone(self, seconds: float) -> None:
        """The end of its time comes so much later."""
        if self.deadline is not None:
            self.deadline += seconds

    def expire(self) -> None:
        """Ends a check that has taken too long."""
        self._is_overdue, self.deadline = True, None
        self.kill()

    def kill(self) -> None:
        """Ends the process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def problem(self, status: int) -> str:
        """Why the program cannot go on; "" if it can.

        Parameters:
            status: the status with which the process has ended.
        """
        if self._is_overdue:
            return f"it was not ready after {self._seconds:g} s"
        with suppress(OSError):
            self.receive()
        lines = [line.strip() for line in self._output.decode("utf-8", "replace").splitlines() if line.strip()]
        if status == 0 and lines[-1:] == [CONFIRMATION]:
            return ""
        return lines[-1] if lines else f"it ended with status {os.waitstatus_to_exitcode(status)}"

    def close(self) -> None:
        """Closes the pipe."""
        os.close(self._reader)


def execute(state: UpgradeState, environ: Mapping[str, str]) -> NoReturn:
    """Executes the program in the place of this one.

    Raises:
        OSError: it cannot be executed, and nothing has changed.
    """
    with _passed(state, environ, "run") as (path, arguments, environment):
        os.execve(path, arguments, environment)
    raise AssertionError("unreachable")


@contextmanager
def _passed(
    state: UpgradeState, environ: Mapping[str, str], mode: str
) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """The program, its arguments and its environment. Within it the state can be inherited, and the directory is that
    in which the server was started."""
    if not sys.executable or not sys.orig_argv:
        raise OSError(0, "the interpreter does not know how it was started")
    with _unnamed_file() as file, _start_directory():
        file.write(state.to_json())
        file.flush()
        environment = {**environ, UPGRADE_VARIABLE: f"{mode}:{file.fileno()}"}
        with _inheritable([file.fileno(), *state.descriptors()]):
            yield sys.executable, sys.orig_argv, environment


def _unnamed_file() -> TextIO:
    # In memory where that can be: the disk may be full, or there may be none.
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return open(os.memfd_create("wsgi-upgrade"), "w", encoding="utf-8")
    # Imported late, because it is large.
    import tempfile

    return tempfile.TemporaryFile("w", encoding="utf-8")


@contextmanager
def _inheritable(descriptors: Iterable[int]) -> Iterator[None]:
    numbers = [number for number in descriptors if not os.get_inheritable(number)]
    for number in numbers:
        os.set_inheritable(number, True)
    try:
        yield
    finally:
        for number in numbers:
            os.set_inheritable(number, False)


@contextmanager
def _start_directory() -> Iterator[None]:
    before = os.open(os.curdir, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if directory := start_directory():
            with suppress(OSError):
                os.chdir(directory)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
