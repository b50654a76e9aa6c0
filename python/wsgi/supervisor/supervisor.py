"""Runs worker processes: carries out what `machine.py` decides, with real processes and signals.

The supervisor has one thread and never imports the application. It holds the listening sockets, so that no connection
that waits in the kernel's queue is lost while workers come and go.
"""

from __future__ import annotations

import logging
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain

from wsgi._core import Page, adopt_orphans
from wsgi.errors import StartupError
from wsgi.hooks import Hooks
from wsgi.logging import flush_error, report, write_error
from wsgi.service import Service
from wsgi.settings import Settings
from wsgi.signals import is_default
from wsgi.stopping import counted, print_notice
from wsgi.supervisor.channel import Command, Report, SupervisorEnd, WorkerEnd, WorkerId, open_channel
from wsgi.supervisor.ends import MemoryKills, described, work_of
from wsgi.supervisor.error_stream import unblocked_errors
from wsgi.supervisor.handover import HandoverQueue, open_handover
from wsgi.supervisor.machine import Action, Drain, Finish, Hurry, Kill, Log, Machine, Start, StartTemplate, Timing
from wsgi.supervisor.recycling import private_memory
from wsgi.supervisor.status import StatusReporter

__all__ = ["Listeners", "Supervisor", "make_supervisor"]

_COMMANDS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")
# Not the number of a signal: `request_stop` was called.
_STOP = 0
# What a worker may take beside its graceful timeout: the server's own last steps, and its last log lines.
_LAST_STEPS_SECONDS = 8.0
# A SIGHUP that comes so soon after the terminal was closed is that of its hang-up.
_HANG_UP_SECONDS = 2.0
_HANG_UP_LAG_SECONDS = 0.05
# What the page of counters has of the machine's decisions.
_PUBLISHED = ("target", "generation", "reloads_begun", "reloads_done", "reloads_failed")
# The longest wait while a time matters: a turn that comes later shows that the supervisor was stopped (SIGSTOP, a
# frozen cgroup).
_LONGEST_WAIT_SECONDS = 1.0
_LATE_SECONDS = 0.5


@dataclass(frozen=True)
class Listeners:
    """What the supervisor does with the server's listening sockets and logs.

    Parameters:
        addresses: where they listen, for the line at the start.
        close: closes them in this process.
        reopen_logs: reopens the access log of this process, which workers inherit.
    """

    addresses: Iterable[str]
    close: Callable[[], object]
    reopen_logs: Callable[[], object]


def make_supervisor(settings: Settings, listeners: Listeners, *, shards: int, is_command: bool) -> Supervisor:
    """Makes the supervisor that the settings want; `workers` is not None.

    Parameters:
        listeners: the server's sockets and logs.
        shards: pollers of each worker at most.
        is_command: the process belongs to the command `wsgi`: workers import the application anew, and every child
            process is reaped.

    Raises:
        StartupError: the system has no memory or descriptors for what the workers share, or not what `preload` or
            `max_memory` needs.
    """
    if settings.max_memory and not private_memory():
        raise StartupError("max_memory needs /proc/self/statm, which this system does not have")
    if settings.preload and not adopt_orphans():
        raise StartupError("preload needs Linux, where workers of a template can be children of the supervisor")
    count = settings.workers or 1
    if count > 1 and not getattr(sys, "_is_gil_enabled", lambda: True)():
        text = f"workers: one is started, not {count}: without an interpreter lock one process uses every processor"
        report(logging.WARNING, text)
        count = 1
    timing = Timing(boot=settings.boot_timeout, drain=settings.graceful_timeout + _LAST_STEPS_SECONDS)
    machine = Machine(count, timing, preload=settings.preload)
    try:
        # Workers of former generations keep their slots until they have ended.
        page = Page(4 * machine.limit, shards=shards)
    except OSError as error:
        raise StartupError(f"workers cannot share memory: {error.strerror}") from error
    return Supervisor(machine, listeners, page, open_handover(), settings.hooks, is_command=is_command)


class _InChild(BaseException):
    """Leaves the supervisor's code in a worker or template that was forked from it."""

    def __init__(self, channel: WorkerEnd) -> None:
        super().__init__()
        self.channel = channel


class Supervisor:
    """Runs workers until it is told to stop.

    Parameters:
        machine: decides.
        listeners: the server's sockets and logs.
        page: the counters of all processes, shared by the workers.
        handover: the queue of connections on their way between workers; the caller closes it.
        hooks: those of the configuration file.
        is_command: the process belongs to the command `wsgi`: workers import the application anew, and every child
            process is reaped.

    Thread-safety: `request_stop` may be called from any thread and any signal handler.
    """

    def __init__(
        self,
        machine: Machine,
        listeners: Listeners,
        page: Page,
        handover: HandoverQueue,
        hooks: Hooks | None = None,
        *,
        is_command: bool,
    ) -> None:
        self.exit_code = 0
        self.last_error = ""
        """Why the last worker that could not begin to serve failed."""
        self.ended = threading.Event()
        self.thread = threading.get_ident()
        self.page = page
        self.handover = handover
        self._machine = machine
        self._listeners = listeners
        self._hooks = hooks or Hooks()
        self._is_command = is_command
        self._kills = MemoryKills()
        self._status = StatusReporter(Service(), page)
        self._terminal = _Terminal()
        self._channels: dict[int, SupervisorEnd] = {}
        # The slots of workers that are not reaped yet.
        self._slots: dict[int, int] = {}
        self._published: tuple[int, ...] = ()
        page.set("pid", os.getpid())
        # Workers and templates that have loaded the application: they may have clients, and carry out commands.
        self._loaded: set[int] = set()
        # The channels of workers that were requested of a template, in the order of its answers.
        self._requested: dict[int, deque[SupervisorEnd]] = {}
        self._selector = selectors.DefaultSelector()
        self._signals = _Signals(_COMMANDS)
        self._is_over = False
        self._was_announced = False
        self._last_turn = time.monotonic()

    def report_to(self, service: Service) -> None:
        """Names whom the supervisor tells what the workers do. Called before `run`."""
        self._status = StatusReporter(service, self.page)

    def run(self) -> WorkerEnd | None:
        """Supervises until every worker has ended after a stop, and gives None then: `exit_code` is the process'. In
        each process that is started it returns at once, with that process' end of the channel: in a worker, or with
        `preload` in a template.
        """
        try:
            with self._signals.handled() as signals, unblocked_errors():
                self._selector.register(signals, selectors.EVENT_READ)
                if self._terminal.is_watched:
                    self._selector.register(self._terminal, selectors.EVENT_READ)
                try:
                    self._carry_out(self._machine.begin(time.monotonic()))
                    self._run_to_the_end(signals)
                except (Exception, SystemExit, KeyboardInterrupt):
                    # A signal handler of the program, most likely: its workers finish their requests first.
                    self._carry_out(self._machine.stop(time.monotonic()))
                    self._run_to_the_end(signals)
                    raise
        except _InChild as child:
            return child.channel
        finally:
            # Workers whose channel is closed end by themselves.
            for channel in [*self._channels.values(), *chain(*self._requested.values())]:
                channel.close()
            self._channels.clear()
            self._requested.clear()
            self._selector.close()
            self._terminal.close()
            self.ended.set()
        return None

    def _run_to_the_end(self, signals: socket.socket) -> None:
        while not self._is_over:
            self._take_turn(signals)

    @property
    def has_served(self) -> bool:
        """Whether a worker has ever served."""
        return self._machine.has_served

    def request_stop(self) -> None:
        """Requests what SIGTERM does."""
        self._signals.send(_STOP)

    def _take_turn(self, signals: socket.socket) -> None:
        deadlines = [due for due in (self._machine.deadline(), self._status.deadline()) if due is not None]
        timeout = None
        if deadlines:
            timeout = min(max(0.0, min(deadlines) - time.monotonic()), _LONGEST_WAIT_SECONDS)
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        now = time.monotonic()
        late = now - self._last_turn - _LONGEST_WAIT_SECONDS
        self._last_turn = now
        if timeout is not None and late > _LATE_SECONDS:
            # This process was stopped, or the whole machine was: the times of its workers were none of theirs.
            self._machine.postpone(late)
        if self._terminal in ready:
            self._selector.unregister(self._terminal)
            self._terminal.note_close()
        # Messages first: what a worker said before its end counts.
        for pid, channel in list(self._channels.items()):
            if channel in ready:
                self._receive(pid)
        if signals in ready:
            with suppress(BlockingIOError):
                for number in signals.recv(4096):
                    self._handle(number)
        self._carry_out(self._machine.tick(time.monotonic()))
        if self._machine.is_stopping:
            # New clients are refused while the last requests are finished.
            self._listeners.close()
        self._status.update(self._machine, time.monotonic())
        if self._machine.has_served:
            self._announce()

    def _receive(self, pid: int) -> None:
        channel = self._channels.get(pid)
        if channel is None:
            return
        messages = channel.receive()
        if messages is None:
            self._forget(pid)
            return
        for kind, text in messages:
            now = time.monotonic()
            if kind is Report.LOADED:
                self._loaded.add(pid)
                self._carry_out(self._machine.template_ready(pid, now))
            elif kind in (Report.FORKED, Report.REFUSED):
                self._take_answer(pid, kind, text)
            elif kind is Report.READY:
                # An error that comes again later is shown again.
                self.last_error = ""
                self._carry_out(self._machine.ready(pid, now))
            elif kind is Report.RECYCLE:
                self._carry_out(self._machine.recycle(pid, text, now))
            else:
                if text != self.last_error:
                    # A worker that fails again and again in the same way is one error.
                    self.last_error = text
                    write_error(text.rstrip("\n") + "\n")
                    flush_error()
                self._carry_out(self._machine.failed(pid, now))

    def _announce(self) -> None:
        if not self._was_announced:
            self._was_announced = True
            count = counted(self._machine.target, "worker")
            with suppress(OSError):
                print_notice(f"Serving HTTP on {', '.join(self._listeners.addresses)} ({count}, pid {os.getpid()})")
            self._hooks.call("ready")

    def _forget(self, pid: int) -> None:
        channel = self._channels.pop(pid, None)
        self._loaded.discard(pid)
        for requested in self._requested.pop(pid, ()):
            requested.close()
            self._release(requested.worker)
        if channel is not None:
            self._selector.unregister(channel)
            channel.close()

    def _handle(self, number: int) -> None:
        now = time.monotonic()
        machine = self._machine
        if number == signal.SIGCHLD:
            self._reap()
        elif number == _STOP:
            self._carry_out(machine.stop(now))
        elif number not in self._signals.taken:
            # The program has a handler of its own for it.
            return
        elif number in (signal.SIGTERM, signal.SIGINT):
            # Ctrl-C before anything was served is no requested stop of a server.
            is_early = number == signal.SIGINT and not machine.has_served
            self._carry_out(machine.stop(now, code=130 if is_early else 0))
        elif number == signal.SIGQUIT:
            self._carry_out(machine.quit(now))
        elif number == signal.SIGHUP:
            self._hang_up_or_reload(now)
        elif number == signal.SIGUSR1:
            self._reopen_logs()
        elif number == signal.SIGUSR2:
            text = "SIGUSR2 was ignored: a running server cannot change to a new version; restart it for that"
            report(logging.WARNING, text)
        else:
            self._carry_out(machine.resize(+1 if number == signal.SIGTTIN else -1, now))

    def _hang_up_or_reload(self, now: float) -> None:
        if self._terminal.take_hang_up():
            if self._signals.was_ignored(signal.SIGHUP):
                # Started by `nohup`: the terminal may close. Later signals are from an operator.
                return
            report(logging.WARNING, "the terminal was closed: the server stops")
            self._carry_out(self._machine.stop(now))
        elif self._is_command:
            self.last_error = ""
            if self._hooks.begin_reload():
                self._carry_out(self._machine.reload(now))
        else:
            self._reopen_logs()
            text = "SIGHUP reopened the logs; restart the program to load its application again"
            report(logging.WARNING, text)

    def _reopen_logs(self) -> None:
        self._listeners.reopen_logs()
        for channel in self._channels.values():
            channel.send(Command.REOPEN)

    def _reap(self) -> None:
        # The first process of a container also inherits processes that are none of its workers.
        if self._is_command or os.getpid() == 1:
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    self._exited(*ended)
            return
        for pid in list(self._machine.workers):
            try:
                ended = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                # A handler of the program has taken its status.
                self._exited(pid, None)
            else:
                if ended[0]:
                    self._exited(*ended)

    def _exited(self, pid: int, status: int | None) -> None:
        if not self._is_known(pid):
            # It may be a worker whose template has reported it a moment ago.
            for template in list(self._requested):
                self._receive(template)
        self._receive(pid)
        # A process that the worker has started may hold its end open.
        self._forget(pid)
        how = described(status, self._kills)
        if pid in self._slots:
            how += work_of(self.page, self._slots[pid])
            self.page.release_slot(self._slots.pop(pid))
        if self._is_known(pid):
            self._hooks.child_exit(pid)
            self._carry_out(self._machine.exited(pid, how, time.monotonic(), is_clean=status == 0))

    def _carry_out(self, actions: Iterable[Action]) -> None:
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            match action:
                case Start() | StartTemplate():
                    problem = self._start(action)
                    if problem is not None:
                        # The system has no room now: the machine tries again later.
                        waiting = deque(action for action in waiting if not isinstance(action, Start))
                        waiting.extend(self._machine.start_failed(problem, time.monotonic()))
                case Drain(pid):
                    self._command(pid, Command.STOP if self._machine.is_stopping else Command.DRAIN)
                case Hurry(pid):
                    self._command(pid, Command.HURRY)
                case Kill(pid):
                    self._signal(pid, signal.SIGKILL)
                case Log(text, is_error):
                    report(logging.ERROR if is_error else logging.INFO, text)
                case Finish(code):
                    self._is_over, self.exit_code = True, code
        self._publish()

    def _publish(self) -> None:
        published = tuple(getattr(self._machine, name) for name in _PUBLISHED)
        if published != self._published:
            self._published = published
            for name, value in zip(_PUBLISHED, published, strict=True):
                self.page.set(name, value)

    def _is_known(self, pid: int) -> bool:
        return pid in self._machine.workers or pid in self._machine.templates

    def _start(self, action: Start | StartTemplate) -> str | None:
        """Starts a process. Gives the reason if the system or a hook refuses; raises `_InChild` in the child."""
        if isinstance(action, Start) and (refusal := self._hooks.begin_worker()):
            return refusal
        worker = None
        try:
            if isinstance(action, Start):
                worker = WorkerId(self.page.take_slot(action.generation), self._hooks.age)
            ours, theirs = open_channel(worker)
        except (OSError, RuntimeError) as error:
            self._release(worker)
            return getattr(error, "strerror", None) or str(error)
        now = time.monotonic()
        try:
            if isinstance(action, StartTemplate):
                self._machine.template_started(self._fork(ours, theirs), action.generation, now)
            elif action.template is None:
                self._machine.started(self._fork(ours, theirs), action.generation, now)
            else:
                self._request(action.template, ours, theirs)
                self._machine.requested(action.template, now)
        except OSError as error:
            ours.close()
            self._release(worker)
            return error.strerror or str(error)
        finally:
            # In a child it has been taken over.
            theirs.close()
        return None

    def _release(self, worker: WorkerId | None) -> None:
        if worker is not None:
            self.page.release_slot(worker.slot)

    def _request(self, template: int, ours: SupervisorEnd, theirs: WorkerEnd) -> None:
        """Requests a worker of a template.

        Raises:
            OSError: the template does not take the request.
        """
        channel = self._channels.get(template)
        if channel is None:
            raise ConnectionError(f"template {template} has closed its channel")
        channel.request_worker(theirs)
        self._requested.setdefault(template, deque()).append(ours)

    def _take_answer(self, template: int, kind: Report, text: str) -> None:
        """A template has forked a worker, or could not."""
        if not self._requested.get(template):
            # The application has written into a descriptor that is not its own.
            return
        channel = self._requested[template].popleft()
        now = time.monotonic()
        if kind is Report.FORKED and text.isascii() and text.isdigit():
            self._watch(int(text), channel)
            self._carry_out(self._machine.forked(template, int(text), now))
        else:
            channel.close()
            self._release(channel.worker)
            self._carry_out(self._machine.refused(template, text, now))

    def _watch(self, pid: int, channel: SupervisorEnd) -> None:
        self._channels[pid] = channel
        if channel.worker is not None:
            self._slots[pid] = channel.worker.slot
            self._hooks.forked(pid, channel.worker.age)
        self._selector.register(channel, selectors.EVENT_READ)

    def _fork(self, ours: SupervisorEnd, theirs: WorkerEnd) -> int:
        """Forks; raises `_InChild` in the child.

        Raises:
            OSError: the system has no room for a process.
        """
        # What is buffered would be written by each worker again.
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        # Until the child has handlers of its own it would pass its signals on to the supervisor, by the socket that
        # they share.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals.numbers)
        try:
            pid = os.fork()
            if pid == 0:
                self._signals.leave()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if pid == 0:
            ours.close()
            raise _InChild(theirs.take_over())
        self._watch(pid, ours)
        return pid

    def _command(self, pid: int, command: Command) -> None:
        if pid in self._channels:
            self._channels[pid].send(command)
            # It may have loaded the application a moment ago.
            self._receive(pid)
        if pid not in self._loaded:
            # It imports the application, and has no client that could be lost.
            self._signal(pid, signal.SIGTERM)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        # A worker that has ended and is not reaped yet still has its number.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class _Signals:
    """The signals that a supervisor handles: SIGCHLD, and those that the program has left to their default.

    Parameters:
        names: those that are commands of an operator.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.taken = {signal.Signals[name] for name in names if self._is_free(signal.Signals[name])}
        """Signals whose handler is the supervisor's."""
        self.numbers = {signal.SIGCHLD, *self.taken}
        self._ignored = {number for number in self.taken if not is_default(number)}
        self._former: dict[int, object] = {}
        self._inside, self._outside = socket.socketpair()
        for end in (self._inside, self._outside):
            end.setblocking(False)

    @staticmethod
    def _is_free(number: signal.Signals) -> bool:
        # A command that was started by `nohup` is reloaded as any other.
        return is_default(number) or (number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN)

    def was_ignored(self, number: signal.Signals) -> bool:
        """Whether the process was started with this signal ignored."""
        return number in self._ignored

    @contextmanager
    def handled(self) -> Iterator[socket.socket]:
        """A socket from which the numbers of handled signals can be read. In a child, its end changes no handler."""
        process = os.getpid()
        for number in self.numbers:
            former = signal.getsignal(number)
            self._former[number] = former
            if number != signal.SIGCHLD or not callable(former):
                signal.signal(number, _do_nothing)
        wakeup = signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        try:
            yield self._inside
        finally:
            if os.getpid() == process:
                signal.set_wakeup_fd(wakeup)
                self._restore()
            self._inside.close()
            self._outside.close()

    def send(self, number: int) -> None:
        """Makes `number` readable, as a signal would be."""
        with suppress(OSError):
            self._outside.send(bytes([number]))

    def leave(self) -> None:
        """Gives a child the handling of signals that this process had. Ctrl-C, which reaches every process of a
        terminal, is the supervisor's: it does nothing in a child. (An ignored signal would be inherited by programs
        that the worker starts.)
        """
        signal.set_wakeup_fd(-1)
        self._restore()
        if signal.SIGINT in self.taken:
            signal.signal(signal.SIGINT, _do_nothing)

    def _restore(self) -> None:
        for number, former in self._former.items():
            # None: a handler that was not installed by Python, which cannot be put back.
            if former is not None:
                signal.signal(number, former)  # type: ignore[arg-type]


def _do_nothing(number: int, frame: object) -> None:
    """Handles a signal whose number is read from the wakeup descriptor."""


class _Terminal:
    """The controlling terminal, and when it was closed. That sends SIGHUP to some processes; later ones are an
    operator's. Without a terminal, and where the system has no epoll, there is no hang-up.
    """

    def __init__(self) -> None:
        self._closed_at: float | None = None
        self._has_hung_up = False
        self._descriptor = -1
        self._poll: select.epoll | None = None
        with suppress(OSError, AttributeError):
            self._descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            self._poll = select.epoll()
            # Its close is reported without being asked for; what is typed is not.
            self._poll.register(self._descriptor, 0)

    @property
    def is_watched(self) -> bool:
        """Whether there is a terminal whose close will be noticed."""
        return self._poll is not None

    def fileno(self) -> int:
        """The descriptor that can be read once the terminal is closed."""
        return self._poll.fileno() if self._poll is not None else -1

    def note_close(self) -> None:
        """The terminal was closed just now."""
        if self._closed_at is None:
            self._closed_at = time.monotonic()

    def take_hang_up(self) -> bool:
        """Whether a SIGHUP that has just come is that of the terminal's close, which is true once."""
        if self._poll is None:
            return False
        # The signal may come a moment before the terminal counts as closed.
        if self._closed_at is None and self._poll.poll(_HANG_UP_LAG_SECONDS):
            self.note_close()
        if self._closed_at is None or self._has_hung_up:
            return False
        self._has_hung_up = True
        return time.monotonic() - self._closed_at < _HANG_UP_SECONDS

    def close(self) -> None:
        """Stops watching."""
        if self._poll is not None:
            self._poll.close()
            self._poll = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
