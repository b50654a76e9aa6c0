"""Runs worker processes: carries out what `machine.py` decides, with real processes and signals.

The supervisor has one thread and never imports the application. It holds the listening sockets, so that no connection
that waits in the kernel's queue is lost while workers come and go.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import NamedTuple

from wsgi._core import Page, adopt_orphans
from wsgi.errors import StartupError
from wsgi.hooks import Hooks, count_ages_from
from wsgi.logging import configure, flush_error, report, write_error
from wsgi.service import Service
from wsgi.settings import Settings
from wsgi.signals import disposition_in_child, is_default
from wsgi.stopping import counted, print_notice
from wsgi.supervisor.channel import Command, Report, SupervisorEnd, WorkerEnd, WorkerId, open_channel
from wsgi.supervisor.configuration import Configurations, UnreadableConfiguration, report_addresses
from wsgi.supervisor.ends import MemoryKills, described, parent_of, work_of
from wsgi.supervisor.error_stream import unblocked_errors
from wsgi.supervisor.handover import HandoverQueue, open_handover
from wsgi.supervisor.machine import Action, Drain, Finish, Hurry, Kill, Log, Machine, Start, StartTemplate, Timing
from wsgi.supervisor.recycling import private_memory
from wsgi.supervisor.status import StatusReporter
from wsgi.supervisor.upgrade import Check, UpgradeState, execute
from wsgi.terminal import Terminal

__all__ = ["Supervisor", "make_supervisor", "unmet_need"]

_COMMANDS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")
# Not the number of a signal: `request_stop` was called.
_STOP = 0
# What a worker may take beside its graceful timeout: the server's own last steps, and its last log lines.
_LAST_STEPS_SECONDS = 8.0
# The kernel sends them to background jobs that use the terminal. Such a job never gets past a system call that is
# repeated after a handler: they are blocked except where the supervisor waits.
_OF_JOB_CONTROL = {signal.SIGTTIN, signal.SIGTTOU}
# What the page of counters has of the machine's decisions.
_PUBLISHED = ("target", "generation", "reloads_begun", "reloads_done", "reloads_failed")
# The longest wait while a time matters: a turn that comes later shows that the supervisor was stopped (SIGSTOP, a
# frozen cgroup).
_LONGEST_WAIT_SECONDS = 1.0
_LATE_SECONDS = 0.5


def make_supervisor(configurations: Configurations, *, shards: int, state: UpgradeState | None = None) -> Supervisor:
    """Makes the supervisor that a configuration wants; its option `workers` is not None.

    Parameters:
        configurations: what the workers serve. If it can be read again, the process belongs to the command `wsgi`:
            workers import the application anew, and every child process is reaped.
        shards: pollers of each worker at most.
        state: what the program has left that supervised in this process before; its workers are taken over, and
            replaced by a reload.

    Raises:
        StartupError: the system has no memory or descriptors for what the workers share, or not what `preload` or
            `max_memory` needs.
    """
    settings = configurations.current.settings
    if problem := unmet_need(settings):
        raise StartupError(problem)
    _report_worker_count(settings)
    machine = Machine(_worker_count(settings), _timing(settings), preload=settings.preload)
    page = _open_page(machine.limit, shards, state)
    handover = open_handover() if state is None else HandoverQueue.from_descriptors(*state.handover)
    return Supervisor(machine, configurations, page, handover, state)


def unmet_need(settings: Settings) -> str:
    """Why the system cannot do what the options ask for; "" if it can."""
    if settings.max_memory and not private_memory():
        return "max_memory needs /proc/self/statm, which this system does not have"
    if settings.preload and not adopt_orphans():
        return "preload needs Linux, where workers of a template can be children of the supervisor"
    return ""


def _open_page(limit: int, shards: int, state: UpgradeState | None) -> Page:
    if state is not None:
        page = Page.open(state.page)
        os.close(state.page)
        return page
    try:
        # Workers of former generations keep their slots until they have ended.
        return Page(4 * limit, shards=shards)
    except OSError as error:
        raise StartupError(f"workers cannot share memory: {error.strerror}") from error


def _worker_count(settings: Settings) -> int:
    return (settings.workers or 1) if getattr(sys, "_is_gil_enabled", lambda: True)() else 1


def _report_worker_count(settings: Settings) -> None:
    if _worker_count(settings) != settings.workers:
        why = "without an interpreter lock one process uses every processor"
        report(logging.WARNING, f"workers: one is started, not {settings.workers}: {why}")


def _timing(settings: Settings) -> Timing:
    return Timing(boot=settings.boot_timeout, drain=settings.graceful_timeout + _LAST_STEPS_SECONDS)


class _InChild(BaseException):
    """Leaves the supervisor's code in a worker or template that was forked from it."""

    def __init__(self, channel: WorkerEnd, generation: int) -> None:
        super().__init__()
        self.channel = channel
        self.generation = generation


class _Request(NamedTuple):
    """A worker that was requested of a template: the supervisor's end of its channel, and the hooks that it is for."""

    channel: SupervisorEnd
    hooks: Hooks


class Supervisor:
    """Runs workers until it is told to stop.

    Parameters:
        machine: decides.
        configurations: what the workers serve.
        page: the counters of all processes, shared by the workers.
        handover: the queue of connections on their way between workers; `run` closes it.
        state: what the program has left that supervised in this process before.

    Thread-safety: `request_stop` may be called from any thread and any signal handler.
    """

    def __init__(
        self,
        machine: Machine,
        configurations: Configurations,
        page: Page,
        handover: HandoverQueue,
        state: UpgradeState | None = None,
    ) -> None:
        self.exit_code = 0
        self.last_error = ""
        """Why the last worker that could not begin to serve failed."""
        self.ended = threading.Event()
        self.thread = threading.get_ident()
        self.page = page
        self.handover = handover
        self._machine = machine
        self._configurations = configurations
        self._is_command = configurations.is_command
        self._kills = MemoryKills()
        self._status = StatusReporter(Service(), page)
        self._terminal = Terminal()
        self._channels: dict[int, SupervisorEnd] = {}
        # The slots, ages and hooks of workers that are not reaped yet.
        self._slots: dict[int, int] = {}
        self._ages: dict[int, int] = {}
        self._hooks: dict[int, Hooks] = {}
        self._published: tuple[int, ...] = ()
        page.set("pid", os.getpid())
        # Workers and templates that have loaded the application: they may have clients, and carry out commands.
        self._loaded: set[int] = set()
        # The workers that were requested of a template, in the order of its answers.
        self._requested: dict[int, deque[_Request]] = {}
        # The child that was just waited for, which the system does not know any more.
        self._reaped = 0
        self._selector = selectors.DefaultSelector()
        self._signals = _Signals(_COMMANDS)
        # Workers of earlier generations alone have listening sockets that a reload has removed.
        self._first_sharing = 0
        self._is_over = False
        self._was_announced = False
        self._last_turn = time.monotonic()
        self._state = state
        # The new program of an upgrade, which is checked.
        self._check: Check | None = None
        self._executes = False
        if state is not None:
            self._take_over(state)

    def report_to(self, service: Service) -> None:
        """Names whom the supervisor tells what the workers do. Called before `run`."""
        self._status = StatusReporter(service, self.page)

    def run(self) -> Callable[[], int] | None:
        """Supervises until every worker has ended after a stop, and gives None then: `exit_code` is the process'. In
        each process that is started, a worker or with `preload` a template, it returns at once, with what the process
        is to do; that returns the exit code.
        """
        is_child = False
        try:
            with self._signals.handled() as signals, unblocked_errors():
                self._selector.register(signals, selectors.EVENT_READ)
                if self._terminal.is_watched:
                    self._selector.register(self._terminal, selectors.EVENT_READ)
                try:
                    if self._state is None:
                        self._carry_out(self._machine.begin(time.monotonic()))
                    else:
                        self._go_on(self._state)
                    self._run_to_the_end(signals)
                except (Exception, SystemExit, KeyboardInterrupt):
                    # A signal handler of the program, most likely: its workers finish their requests first.
                    self._carry_out(self._machine.stop(time.monotonic()))
                    self._run_to_the_end(signals)
                    raise
        except _InChild as child:
            is_child = True
            configuration = self._configurations[child.generation]
            self._configurations.close_others(configuration)
            if self._check is not None:
                self._check.close()
                self._check = None
            return partial(configuration.serve, child.channel, self.page, self.handover)
        finally:
            # Workers whose channel is closed end by themselves.
            for channel in self._channels.values():
                channel.close()
            for request in chain(*self._requested.values()):
                request.channel.close()
            self._channels.clear()
            self._requested.clear()
            if not is_child:
                self.handover.close()
            self._give_up_check()
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
        check = self._check
        deadlines = [self._machine.deadline(), self._status.deadline(), None if check is None else check.deadline]
        deadline = min((one for one in deadlines if one is not None), default=None)
        timeout = None
        if deadline is not None:
            timeout = min(max(0.0, deadline - time.monotonic()), _LONGEST_WAIT_SECONDS)
        with self._signals.job_control_unblocked():
            ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        now = time.monotonic()
        late = now - self._last_turn - _LONGEST_WAIT_SECONDS
        self._last_turn = now
        if timeout is not None and late > _LATE_SECONDS:
            # This process was stopped, or the whole machine was: the times of its children were none of theirs.
            self._machine.postpone(late)
            if check is not None:
                check.postpone(late)
        if self._terminal in ready:
            self._selector.unregister(self._terminal)
            self._terminal.note_close()
        if check is not None and check in ready and not check.receive():
            # Its end is reported by SIGCHLD.
            self._selector.unregister(check)
        if check is not None and check.deadline is not None and time.monotonic() >= check.deadline:
            check.expire()
        # Messages first: what a worker said before its end counts.
        for pid, channel in list(self._channels.items()):
            if channel in ready:
                self._receive(pid)
        if signals in ready:
            for number in self._signals.take():
                self._handle(number)
        self._carry_out(self._machine.tick(time.monotonic()))
        if self._machine.is_stopping:
            # New clients are refused while the last requests are finished.
            self._configurations.close()
            self._give_up_check()
        elif self._executes and not any(self._requested.values()):
            # The new program could not tell which worker an answer of a former template means.
            self._execute()
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
            addresses = self._configurations.current.addresses
            with suppress(OSError):
                print_notice(f"Serving HTTP on {', '.join(addresses)} ({count}, pid {os.getpid()})")
            self._configurations.current.settings.call_hook("ready")

    def _forget(self, pid: int) -> None:
        self._loaded.discard(pid)
        for channel, _ in self._requested.pop(pid, ()):
            channel.close()
            self._release(channel.worker)
        own = self._channels.pop(pid, None)
        if own is not None:
            self._selector.unregister(own)
            own.close()

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
            self._begin_upgrade()
        elif self._terminal.is_in_background():
            name = signal.Signals(number).name
            why = "the kernel sends it to background jobs of a terminal, as this server is"
            report(logging.WARNING, f"{name} was ignored: {why}")
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
            self._reload(now)
        else:
            self._reopen_logs()
            why = "the logs were reopened; restart the program to load its application again"
            self._carry_out(self._machine.refuse_reload(why, now))

    def _reload(self, now: float, configured: int | None = None) -> None:
        """Begins a generation with the configuration as it is now.

        Parameters:
            configured: workers that the configuration wanted before; default: as it says in this program.
        """
        if self._machine.is_stopping:
            report(logging.INFO, "the reload was ignored: the server is stopping")
            return
        self.last_error = ""
        try:
            configuration = self._configurations.read()
        except UnreadableConfiguration as error:
            self._carry_out(self._machine.refuse_reload(str(error), now))
            return
        settings = configuration.settings
        problem = unmet_need(settings)
        if not problem and not settings.hooks.begin_reload():
            problem = "the hook reload raised"
        if problem:
            configuration.close()
            self._carry_out(self._machine.refuse_reload(problem, now))
            return
        count = _worker_count(settings)
        if configured is None:
            configured = _worker_count(self._configurations.current.settings)
        # A number that signals have changed stays, unless another one is configured.
        target = None if count == configured else count
        if target is not None:
            _report_worker_count(settings)
        actions = self._machine.reload(now, _timing(settings), target)
        self._configurations.add(self._machine.generation, configuration)
        self._carry_out(actions)

    def _begin_upgrade(self) -> None:
        """Checks that the program can be executed in the place of this one."""
        if not self._is_command:
            report(logging.WARNING, "SIGUSR2 was ignored: restart the program to change its version")
            return
        if self._machine.is_stopping:
            report(logging.INFO, "the upgrade was ignored: the server is stopping")
            return
        self._give_up_check()
        report(logging.INFO, "upgrade: the new program is checked")
        try:
            seconds = self._configurations.current.settings.boot_timeout
            self._check = Check(self._leave_state(), self._configurations.environ, seconds)
        except OSError as error:
            self._upgrade_failed(f"cannot execute {sys.executable}: {error.strerror}")
            return
        self._selector.register(self._check, selectors.EVENT_READ)

    def _give_up_check(self) -> Check | None:
        check, self._check = self._check, None
        if check is not None:
            check.kill()
            with suppress(KeyError):
                self._selector.unregister(check)
            check.close()
        return check

    def _end_upgrade(self, check: Check, status: int) -> None:
        problem = check.problem(status)
        self._give_up_check()
        if self._machine.is_stopping:
            return
        if problem:
            self._upgrade_failed(problem)
            return
        # Later, because other signals have come with that of its end.
        self._executes = True

    def _execute(self) -> None:
        self._executes = False
        report(logging.INFO, "upgrade: the new program takes over")
        # What comes from now on waits for the new program.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals.numbers)
        state = self._leave_state()
        state.signals = self._signals.take()
        try:
            execute(state, self._configurations.environ)
        except OSError as error:
            self._upgrade_failed(f"cannot execute {sys.executable}: {error.strerror}")
        finally:
            # This program goes on.
            self._signals.unblock()
            for number in state.signals:
                self._signals.send(number)

    def _upgrade_failed(self, why: str) -> None:
        report(logging.ERROR, f"upgrade failed: {why}; the present program and its workers go on")

    def _leave_state(self) -> UpgradeState:
        machine, configuration = self._machine, self._configurations.current
        return UpgradeState(
            sockets=configuration.sockets(),
            named_sockets=self._configurations.named_sockets,
            workers=dict(machine.workers),
            templates=list(machine.templates),
            channels={
                pid: (channel.fileno(), channel.received)
                for pid, channel in self._channels.items()
                if pid in machine.workers
            },
            page=self.page.fileno(),
            handover=self.handover.descriptors,
            slots=dict(self._slots),
            ages=dict(self._ages),
            loaded=sorted(self._loaded & machine.workers.keys()),
            generation=machine.serving_generation,
            last_generation=machine.last_generation,
            target=machine.target,
            configured=_worker_count(configuration.settings),
            has_served=machine.has_served,
            reloads=(machine.reloads_begun, machine.reloads_done, machine.reloads_failed),
            ignored=sorted(self._signals.ignored),
        )

    def _take_over(self, state: UpgradeState) -> None:
        """Continues what the former program of this process has begun."""
        state.restore(self._machine)
        self._signals.ignored.update(signal.Signals(number) for number in state.ignored)
        self._loaded.update(state.loaded)
        self._slots.update(state.slots)
        self._ages.update(state.ages)
        hooks = self._configurations.current.settings.hooks
        count_ages_from(max(state.ages.values(), default=0) + 1)
        for pid, age in state.ages.items():
            self._hooks[pid] = hooks
            hooks.forked(pid, age)
        self._was_announced = True
        for pid, (descriptor, data) in state.channels.items():
            self._channels[pid] = SupervisorEnd.from_descriptor(descriptor, data)
            self._selector.register(self._channels[pid], selectors.EVENT_READ)

    def _go_on(self, state: UpgradeState) -> None:
        """Starts workers of the new program, and handles the signals that have come meanwhile."""
        self._signals.unblock()
        self._reap()
        self._reload(time.monotonic(), configured=state.configured)
        for number in state.signals:
            self._handle(number)

    def _settle_configurations(self) -> None:
        """Gives up what a reload has replaced, or what a failed one has opened."""
        former = self._configurations.keep(self._machine.generations, self._machine.serving_generation)
        if former is not None:
            current = self._configurations.current
            if report_addresses(former, current):
                self._first_sharing = self._machine.generation
            configure(current.settings.log_level)

    def _reopen_logs(self) -> None:
        self._configurations.reopen_logs()
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
        if self._check is not None and pid == self._check.pid and status is not None:
            self._end_upgrade(self._check, status)
            return
        if not self._is_known(pid):
            # It may be a worker whose template has reported it a moment ago.
            self._reaped = pid
            for template in list(self._requested):
                self._receive(template)
            self._reaped = 0
        self._receive(pid)
        # A process that the worker has started may hold its end open.
        self._forget(pid)
        how = described(status, self._kills)
        if pid in self._slots:
            how += work_of(self.page, self._slots[pid])
            self.page.release_slot(self._slots.pop(pid))
        self._ages.pop(pid, None)
        if self._is_known(pid):
            hooks = self._hooks.pop(pid, None)
            if hooks is not None:
                hooks.child_exit(pid)
            self._carry_out(self._machine.exited(pid, how, time.monotonic(), is_clean=status == 0))

    def _carry_out(self, actions: Iterable[Action]) -> None:
        # Before a worker is drained: it is the last to hold a socket that was removed.
        self._settle_configurations()
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            match action:
                case Start() | StartTemplate():
                    problem = self._start(action)
                    if problem is not None:
                        # The system has no room now: the machine tries again later.
                        waiting = deque(one for one in waiting if not isinstance(one, Start | StartTemplate))
                        now = time.monotonic()
                        waiting.extend(self._machine.start_failed(action.generation, problem, now))
                case Drain(pid):
                    self._command(pid, self._draining_command(pid))
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
        if action.generation not in self._machine.generations:
            # Its reload has failed meanwhile: while an earlier action was carried out.
            return None
        hooks = self._configurations[action.generation].settings.hooks
        if isinstance(action, Start) and (refusal := hooks.begin_worker()):
            return refusal
        worker = None
        try:
            if isinstance(action, Start):
                worker = WorkerId(self.page.take_slot(action.generation), hooks.age)
            ours, theirs = open_channel(worker)
        except (OSError, RuntimeError) as error:
            self._release(worker)
            return getattr(error, "strerror", None) or str(error)
        now = time.monotonic()
        try:
            if isinstance(action, StartTemplate):
                pid = self._fork(ours, theirs, action.generation)
                self._watch(pid, ours, hooks)
                self._machine.template_started(pid, action.generation, now)
            elif action.template is None:
                pid = self._fork(ours, theirs, action.generation)
                self._watch(pid, ours, hooks)
                self._machine.started(pid, action.generation, now)
            else:
                self._request(action.template, _Request(ours, hooks), theirs)
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

    def _request(self, template: int, request: _Request, theirs: WorkerEnd) -> None:
        """Requests a worker of a template.

        Raises:
            OSError: the template does not take the request.
        """
        channel = self._channels.get(template)
        if channel is None:
            raise ConnectionError(f"template {template} has closed its channel")
        channel.request_worker(theirs)
        self._requested.setdefault(template, deque()).append(request)

    def _take_answer(self, template: int, kind: Report, text: str) -> None:
        """A template has forked a worker, or could not."""
        if not self._requested.get(template):
            # The application has written into a descriptor that is not its own.
            return
        channel, hooks = self._requested[template].popleft()
        now = time.monotonic()
        if kind is Report.FORKED:
            pid = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
            if self._is_forked_by(template, pid):
                self._watch(pid, channel, hooks)
                self._carry_out(self._machine.forked(template, pid, now))
                return
            text = "it named a process that it has not forked"
        channel.close()
        self._release(channel.worker)
        self._carry_out(self._machine.refused(template, text, now))

    def _is_forked_by(self, template: int, pid: int) -> bool:
        """Whether a process is a worker that this template has just forked. The application's code runs in the template
        and must not make this process, which may be root's, signal any other.
        """
        if pid <= 0 or self._is_known(pid):
            # 0 would be this process' group.
            return False
        if pid == self._reaped:
            return True
        for _ in range(2):
            # The template's helper, which ends at once; then the worker becomes a child of this process.
            parent = parent_of(pid)
            if parent == os.getpid() or (parent > 0 and parent_of(parent) == template):
                return True
        return False

    def _watch(self, pid: int, channel: SupervisorEnd, hooks: Hooks) -> None:
        self._channels[pid] = channel
        if channel.worker is not None:
            self._slots[pid], self._ages[pid] = channel.worker
            self._hooks[pid] = hooks
            hooks.forked(pid, channel.worker.age)
        self._selector.register(channel, selectors.EVENT_READ)

    def _fork(self, ours: SupervisorEnd, theirs: WorkerEnd, generation: int) -> int:
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
            raise _InChild(theirs.take_over(), generation)
        return pid

    def _draining_command(self, pid: int) -> Command:
        worker = self._machine.workers.get(pid)
        if self._machine.is_stopping or (worker is not None and worker.generation < self._first_sharing):
            return Command.STOP
        return Command.DRAIN

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
        self._job_control = _OF_JOB_CONTROL & self.taken
        self.ignored = {number for number in self.taken if not is_default(number)}
        """Signals that were ignored when the server was started."""
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
        return number in self.ignored

    @contextmanager
    def handled(self) -> Iterator[socket.socket]:
        """A socket from which the numbers of handled signals can be read. In a child, its end changes no handler."""
        process = os.getpid()
        for number in self.numbers:
            former = signal.SIG_IGN if number in self.ignored else disposition_in_child(number)
            self._former[number] = former
            if number != signal.SIGCHLD or not callable(former):
                signal.signal(number, _do_nothing)
        wakeup = signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._job_control)
        try:
            yield self._inside
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._job_control)
            if os.getpid() == process:
                signal.set_wakeup_fd(wakeup)
                self._restore()
            self._inside.close()
            self._outside.close()

    def unblock(self) -> None:
        """Ends a time in which all of `numbers` were blocked."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.numbers - self._job_control)

    @contextmanager
    def job_control_unblocked(self) -> Iterator[None]:
        """Within it SIGTTIN and SIGTTOU are taken, and nothing may be written."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._job_control)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._job_control)

    def send(self, number: int) -> None:
        """Makes `number` readable, as a signal would be."""
        with suppress(OSError):
            self._outside.send(bytes([number]))

    def take(self) -> list[int]:
        """The numbers that can be read."""
        with suppress(BlockingIOError):
            return list(self._inside.recv(4096))
        return []

    def leave(self) -> None:
        """Gives a child the handling of signals that this process had. Ctrl-C, which reaches every process of a
        terminal, is the supervisor's: it does nothing in a child. (An ignored signal would be inherited by programs
        that the worker starts.) SIGTTIN and SIGTTOU are ignored: a worker in the background of a terminal may write to
        it, and is not stopped by a signal that was meant for the supervisor.
        """
        signal.set_wakeup_fd(-1)
        self._restore()
        if signal.SIGINT in self.taken:
            signal.signal(signal.SIGINT, _do_nothing)
        for number in self._job_control:
            signal.signal(number, signal.SIG_IGN)

    def _restore(self) -> None:
        for number, former in self._former.items():
            # None: a handler that was not installed by Python, which cannot be put back.
            if former is not None:
                signal.signal(number, former)  # type: ignore[arg-type]


def _do_nothing(number: int, frame: object) -> None:
    """Handles a signal whose number is read from the wakeup descriptor."""
