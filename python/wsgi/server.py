"""The server: `WSGIServer(host, port, app)`, and `make_server` as in wsgiref.

    from wsgi.server import WSGIServer

    WSGIServer("localhost", 8000, app).serve_forever()

Applications are WSGI or ASGI ones: `wsgi.interface` detects it by their signature, or the option `interface` sets it.

The names of `wsgiref.simple_server` work here, so that a program written for it only needs another import:
`make_server` with `server_class` and `handler_class`, `WSGIServer((host, port), handler_class)` with `set_app`,
`WSGIRequestHandler`, `demo_app`. An override in a subclass that would have no effect here is refused in one line
(`wsgi.simple_server`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_stack, walk_tb
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from wsgi import _core
from wsgi.descriptors import open_standard_descriptors
from wsgi.environ import base_environ
from wsgi.errors import BindError, ConfigError, StartupError, WSGIServerError
from wsgi.interface import WSGI, choose
from wsgi.logging import report
from wsgi.run import Run, require_real_threads
from wsgi.settings import Settings
from wsgi.signals import is_default
from wsgi.simple_server import WSGIRequestHandler, check_handler, check_server, demo_app
from wsgi.stopping import Countdown, print_notice, run_in_thread
from wsgi.supervisor.channel import Command, Report, WorkerEnd, WorkerId, encoded
from wsgi.terminal import Terminal

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from wsgi.service import Service
    from wsgi.supervisor.configuration import Configuration
    from wsgi.supervisor.handover import HandoverQueue
    from wsgi.supervisor.recycling import RecyclingLimits
    from wsgi.supervisor.supervisor import Supervisor

    Application = WSGIApplication | Callable[..., Awaitable[object]]

__all__ = ["WSGIRequestHandler", "WSGIServer", "demo_app", "make_server", "serve"]


# The thread in which the command is importing the application.
_importers: set[int] = set()


@contextmanager
def importing() -> Iterator[None]:
    """Within it, calls of this thread that would serve are ignored with a warning: the program is being imported."""
    _importers.add(threading.get_ident())
    try:
        yield
    finally:
        _importers.clear()


def _entry_call(frames: Iterable[tuple[FrameType, int]]) -> tuple[str, str]:
    """The call by which a program entered this package, and its location, such as `run()` and `app.py:9`.

    Parameters:
        frames: frames with their lines, innermost first.
    """
    package = os.path.dirname(__file__) + os.sep
    name = ""
    for frame, line in frames:
        file = frame.f_code.co_filename
        if not file.startswith(package):
            return f"{name}()", f"{os.path.relpath(file)}:{line}"
        name = frame.f_code.co_name
    return f"{name}()", "an unknown location"


def _is_imported() -> bool:
    """Whether the command is importing the calling program; then logs a line with the call and what to do."""
    if threading.get_ident() not in _importers:
        return False
    call, location = _entry_call(walk_stack(sys._getframe()))
    what = f"{call} at {location} is ignored while the module is imported, because the command serves the application"
    report(logging.WARNING, f"{what}; put the call under: if __name__ == '__main__'")
    return True


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Logs one line instead of a traceback for a program that ends because its server could not start."""
    if not isinstance(error, (BindError, ConfigError)):
        sys.__excepthook__(kind, error, traceback)
        return
    _, location = _entry_call(reversed(list(walk_tb(traceback))))
    report(logging.CRITICAL, f"{location}: {error}")


# Replaces only Python's own hook; a program may have one that shows more.
if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _excepthook


# Unix only.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.forked)


class WSGIServer:
    """An HTTP/1.1 server for one WSGI (PEP 3333) or ASGI application. It listens as soon as it is made.

    Parameters:
        host: name or address to listen on; `localhost` listens on both loopback addresses, "" on every IPv4 interface.
            A pair `(host, port)` as in wsgiref is accepted, with a handler class in the place of the port.
        port: TCP port; 0 lets the system choose one, which is then `server_port`.
        app: the application; may be set later with `set_app`.
        settings: a `Settings` in place of host, port and options.
        options: the options of docs/options.md by name; `bind` replaces host and port.

    Raises:
        BindError: an address cannot be listened on; nothing stays open.
        ConfigError: an option has a wrong value.
        TypeError: an option has an unknown name, or the application does not fit its interface.

    A program that does not catch one of the first two ends with one line and its location, not with a traceback, unless
    it has a `sys.excepthook` of its own.

    Thread-safety: every method may be called from any thread.
    """

    timeout: float | None = None
    """Seconds that `handle_request` waits for a request; None: no limit."""

    def __init__(
        self,
        host: str | tuple[str, int] = "127.0.0.1",
        port: int | type = 8000,
        app: Application | None = None,
        *,
        settings: Settings | None = None,
        _listen: Callable[[Settings], _core.Server] | None = None,
        **options: Any,
    ) -> None:
        check_server(type(self))
        if isinstance(host, tuple):
            if isinstance(port, type):
                check_handler(port)
            host, port = host
            self._serves_in_context = False
        if settings is None:
            settings = Settings.from_keywords(host=host, port=port, **options)
        elif options:
            raise TypeError("options are part of settings: pass either settings or options")
        self.settings = settings
        self.application: Application | None = None
        self._interface = WSGI
        self._lock = threading.Lock()
        self._run: Run | None = None
        if app is not None:
            self.set_app(app)
        # Before any other descriptor is opened, which could get their numbers.
        open_standard_descriptors()
        self._core = (_listen or _core.Server)(settings)
        self._environs = [
            base_environ(place, scheme, settings)
            for place, scheme in zip(self._core.places, self._core.schemes, strict=True)
        ]
        for warning in self._core.warnings:
            report(logging.WARNING, warning)
        self.addresses: tuple[str, ...] = tuple(self._core.addresses)
        """All addresses that the server listens on, such as `http://127.0.0.1:8000` or `unix:/run/app.sock`."""
        self.server_address: tuple[str, int] | str = self._core.places[0]
        """The first address, as `(host, port)` or the path of a Unix socket."""
        self.base_environ: dict[str, Any] = self._environs[0]
        """The part of the environ that all requests to the first address share; changes apply from the next start."""
        self.setup_environ()

    # The names of wsgiref.

    def setup_environ(self) -> None:
        """Called when the server listens; a subclass may add to `base_environ` here."""

    @property
    def socket(self) -> NoReturn:
        """Not available, because the core owns the listening sockets.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(
            "the server's core owns the listening sockets: use server_address or fileno(); TLS is not supported, use a "
            "proxy"
        )

    @property
    def server_name(self) -> str:
        """The host part of the first address."""
        return str(self.base_environ["SERVER_NAME"])

    @property
    def server_port(self) -> int:
        """The port of the first address."""
        return int(self.base_environ["SERVER_PORT"])

    def set_app(self, app: Application) -> None:
        """Sets the application for the next start.

        Raises:
            TypeError: the application does not fit its interface.
        """
        self._interface = choose(app, self.settings.interface)
        self.application = app

    def get_app(self) -> Application | None:
        """The application."""
        return self.application

    def fileno(self) -> int:
        """The descriptor of the first listening socket."""
        return self._core.filenos()[0]

    def serve_forever(self, poll_interval: float | None = None) -> None:
        """Serves until `shutdown()`, or until SIGINT or SIGTERM in the main thread of a program without handlers of its
        own for them. Then it stops gracefully: running requests are finished within `graceful_timeout` seconds. A
        second signal stops at once. Under the same conditions SIGUSR1 and SIGHUP reopen the access log, and SIGUSR2 is
        ignored with a log line; the SIGHUP of a terminal that was closed stops the server. While the command `wsgi`
        imports the program, it closes the server and returns, because the command serves the application.

        It does not wait for threads that the application has started; the interpreter waits at exit for those that are
        not daemons.

        With the option `workers` this process forks worker processes, which serve the application as it is now, and
        supervises them until a stop. The workers do not return from this call: they end when they have served. Other
        threads must not run yet, and the caller must be the main thread.

        Parameters:
            poll_interval: ignored; accepted for compatibility with wsgiref.

        Raises:
            RuntimeError: the server is running or closed, or has no application.
            StartupError: an ASGI application failed to start, the system has no threads or memory left, or gevent or
                eventlet has replaced the threads of the process; with `workers`: the process cannot be forked safely,
                or no worker could start.
        """
        if _is_imported():
            # The command may be about to listen on the same port.
            self.server_close()
            return
        if self.settings.workers is not None and self._channel is None:
            self._serve_by_workers()
            return
        with self._signals() as countdown:
            if self._channel is not None:
                self._channel.send(Report.LOADED)
            run = self._start()
            try:
                if self._channel is not None:
                    # Only now, because the application may fork while it is imported, which is not safe beside another
                    # thread.
                    follow = threading.Thread(target=self._follow, args=[self._channel], name="wsgi-supervisor")
                    follow.daemon = True
                    follow.start()
                run.wait(started=lambda: self._announce(run))
            finally:
                if self._service is not None and self._channel is None:
                    self._service.notifier.stopping("stopping")
                if self._owns_process:
                    countdown.begin()
                run.stop()
                self._end(run)

    def run(self) -> None:
        """Serves like `serve_forever`, then closes. A signal closes the listening sockets at once, so that new clients
        are refused while the last requests are finished.
        """
        self._closes = True
        try:
            self.serve_forever()
        finally:
            self.server_close()

    def handle_request(self) -> None:
        """Accepts one connection, serves one request on it, and returns; returns after `timeout` seconds without one.

        Raises:
            RuntimeError: the server is running or closed, or has no application; or the option `workers` is set.
        """
        self._refuse_workers("handle_request()")
        run = self._start(single_request=True)
        try:
            run.wait(self.timeout)
        finally:
            run.stop()
            self._end(run)

    def shutdown(self) -> None:
        """Requests a graceful stop and returns at once. May be called anywhere, also in a signal handler.

        `serve_forever()` returns when the stop is complete; the server stays bound and can be started again.
        """
        run, supervisor = self._run, self._supervisor
        if run is not None:
            run.stop()
        if supervisor is not None:
            supervisor.request_stop()

    def server_close(self) -> None:
        """Stops a running server and closes the listening sockets. Waits for the stop, except in one of its threads."""
        run, supervisor = self._run, self._supervisor
        if supervisor is not None:
            supervisor.request_stop()
            if supervisor.thread != threading.get_ident():
                supervisor.ended.wait()
        if run is not None:
            run.stop()
            if run.includes_current_thread():
                pass
            elif run.background:
                self._end(run)
            else:
                run.ended.wait()
        self._core.close()

    # Embedding.

    def __enter__(self) -> WSGIServer:
        """Serves in the background until the block ends; a server of `make_server` does not, as in wsgiref."""
        if self._serves_in_context:
            self._refuse_workers("with")
            self._start(background=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops gracefully and closes."""
        self.server_close()

    def __repr__(self) -> str:
        return f"<WSGIServer on {', '.join(self.addresses)}>"

    @property
    def stuck(self) -> tuple[str, ...]:
        """Names of the worker threads that were still inside the application at the end of the last stop."""
        return self._stuck

    _stuck: tuple[str, ...] = ()
    # A signal closes the server, and does not only stop this run.
    _closes = False
    # The process ends with the server, at the latest at the end of its stop. Set by the command only.
    _owns_process = False
    _serves_in_context = True
    # Whether other processes serve the same application: `wsgi.multiprocess` of the next run.
    _multiprocess = False
    # The time limit of the last stop.
    _countdown: Countdown | None = None

    # Tells the system about the server. Set by the command only, as is the next.
    _service: Service | None = None
    # Makes a reopened access log the application's.
    _give_logs: Callable[[], object] | None = None

    # Supervises the workers, in the process that has forked them.
    _supervisor: Supervisor | None = None
    # The way to the supervisor, and the limits after which it is to be asked for a successor, in a worker process.
    _channel: WorkerEnd | None = None
    # The counters of all workers, and the place of this one among them.
    _page: _core.Page | None = None
    _slot = 0
    # The way to the other workers, in a worker process.
    _handover: HandoverQueue | None = None
    _limits: RecyclingLimits | None = None

    def _refuse_workers(self, call: str) -> None:
        if self.settings.workers is not None and self._channel is None:
            raise RuntimeError(f"the option workers needs serve_forever() or run(): {call} serves in this process")

    def _serve_process(self) -> int:
        """Serves until the end of the process, and returns its exit code."""
        self._owns_process = True
        try:
            self.run()
        finally:
            countdown = self._countdown
            if countdown is not None:
                # From here on the interpreter waits for threads of the application.
                countdown.begin()
                countdown.server_stopped()
        if self.stuck and countdown is not None:
            # Threads still inside the application would block or crash the interpreter's exit.
            countdown.exit_process()
        return 0

    def _configuration(
        self, serve: Callable[[WorkerEnd, _core.Page, HandoverQueue], int], *, closes: bool
    ) -> Configuration:
        """What a supervisor needs to know of this server.

        Parameters:
            serve: what a worker does, with the arguments of `_work`; returns the exit code.
            closes: a stop closes the listening sockets.
        """

        # Imported late, because most servers have no workers.
        from wsgi.supervisor.configuration import Configuration

        def close() -> None:
            if closes:
                self._core.close_listeners()

        def reopen_logs() -> None:
            try:
                if self._give_logs is not None:
                    self._give_logs()
            except StartupError as error:
                report(logging.ERROR, f"the access log is not reopened: {error}")
            else:
                self._core.reopen_logs()

        return Configuration(self.settings, self.addresses, close, reopen_logs, self._core.sockets, serve)

    def _serve_by_workers(self) -> None:
        # Imported late, because most servers have no workers.
        from wsgi.supervisor.configuration import Configurations
        from wsgi.supervisor.supervisor import make_supervisor
        from wsgi.supervisor.worker import exit_worker, require_forkable, work

        if self._supervisor is not None:
            raise RuntimeError("the server is already running")
        if not self._core.filenos():
            raise RuntimeError("the server is closed")
        if self.application is None:
            raise RuntimeError("the server has no application: pass app=… or call set_app()")
        require_forkable()

        def serve(channel: WorkerEnd, page: _core.Page, handover: HandoverQueue) -> int:
            return work(channel, lambda: self._work(channel, page, handover))

        configuration = self._configuration(serve, closes=self._closes)
        self._supervisor = supervisor = make_supervisor(Configurations(configuration), shards=shards())
        try:
            body = supervisor.run()
        finally:
            self._supervisor = None
        if body is not None:
            exit_worker(body)
        if supervisor.exit_code == 1 and not supervisor.has_served:
            raise StartupError("no worker could start: its error is above")

    def _import_interface(self) -> None:
        """Imports what the application's interface needs, so that workers that are forked from this process share
        it.
        """
        if self._interface != WSGI:
            from wsgi.asgi import import_loop

            import_loop(self.settings.loop)

    def _work(self, supervisor: WorkerEnd, page: _core.Page, handover: HandoverQueue) -> int:
        """Serves as a worker until its supervisor requests a stop or has gone, and returns the exit code.

        Parameters:
            page: the counters of all workers.
            handover: the way to the other workers.
        """
        # Imported late, because most servers have no workers.
        from wsgi.supervisor.recycling import RecyclingLimits

        self._channel, self._page, self._handover = supervisor, page, handover
        self._slot = (supervisor.worker or WorkerId()).slot
        self._limits = RecyclingLimits(self.settings)
        # During a reload also a single worker is not alone.
        self._multiprocess = True
        return self._serve_process()

    def _follow(self, supervisor: WorkerEnd) -> None:
        """Carries out the commands of the supervisor."""
        from wsgi.supervisor.worker import follow

        assert self._limits is not None
        for command in follow(supervisor, self._limits):
            if command is Command.REOPEN:
                self._core.reopen_logs()
            elif command is Command.HURRY:
                self.settings.call_hook("interrupted")
                self._abort()
            elif command is Command.DRAIN:
                self._retire()
            else:
                self._stop("a second signal to the supervisor ends it at once")
        report(logging.ERROR, f"worker {os.getpid()} stops: its supervisor has gone")
        # From now on signals are the worker's own.
        self._channel = None
        self._stop("a second signal ends it at once")

    def _announce(self, run: Run) -> None:
        """Tells the operator or the supervisor that requests are answered from now on."""
        if self._channel is None:
            if self._service is not None:
                self._service.serves(self._status(run))
                self._service.watch(run.wake_pollers, self._page)
            print_notice(self._banner(run))
            self.settings.call_hook("ready")
            return
        if self._service is not None:
            self._service.watch(run.wake_pollers, None)
        self._channel.send(Report.READY)
        report(logging.INFO, f"worker {os.getpid()} serves ({run.interface})")

    def _retire(self) -> None:
        """Begins to leave the clients to the other workers."""
        run, countdown = self._run, self._countdown
        if run is not None and countdown is not None:
            countdown.begin("other workers serve meanwhile")
            run.retire()

    def _stop(self, again: str) -> None:
        """Begins a graceful stop, be it while the clients are left to other workers; does nothing if one has begun."""
        run, countdown = self._run, self._countdown
        if run is None or countdown is None:
            return
        countdown.begin(again)
        if self._closes:
            # Nothing is accepted any more: refuse new connections now instead of resetting them at the end.
            self._core.close_listeners()
        run.stop()

    def _abort(self) -> None:
        """Ends a stop that has begun without waiting for requests."""
        run, countdown = self._run, self._countdown
        if countdown is not None:
            countdown.expire()
        if run is not None:
            run.abort()

    def _banner(self, run: Run) -> str:
        return f"Serving HTTP on {', '.join(self.addresses)} ({self._status(run)}, pid {os.getpid()})"

    def _status(self, run: Run) -> str:
        return f"{run.interface}, up to {self.settings.threads} threads" if self._interface == WSGI else run.interface

    @contextmanager
    def _signals(self) -> Iterator[Countdown]:
        """Installs signal handlers where the program has none: SIGINT and SIGTERM stop the server, SIGUSR1 and SIGHUP
        reopen its log, SIGUSR2 is ignored. The SIGHUP of a terminal that was closed stops the server."""
        self._countdown = countdown = Countdown(
            self.settings.graceful_timeout,
            lambda: "" if (run := self._run) is None else run.waits_for(),
            ends_process=self._owns_process,
            close=self._give_up,
            name="" if self._channel is None else f"worker {os.getpid()} is ",
        )
        if threading.current_thread() is not threading.main_thread():
            yield countdown
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if countdown.has_begun:
                # In a worker this may be a copy of the signal that its supervisor has passed on already.
                if self._channel is None:
                    self._abort()
            elif self._run is None:
                raise KeyboardInterrupt
            else:
                self._stop(
                    f"{'press Ctrl-C again' if number == signal.SIGINT else 'send a second signal'} to end at once"
                )

        # A worker leaves the terminal to its supervisor.
        terminal = Terminal() if self._channel is None else None
        if terminal is not None:
            terminal.watch()
        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, **self._other_handlers(terminal)}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items() if is_default(number)}
        try:
            yield countdown
        finally:
            # A process that the server owns keeps the handlers until it ends.
            if not self._owns_process:
                for number, former in before.items():
                    signal.signal(number, former)
                if terminal is not None:
                    terminal.close()

    def _other_handlers(self, terminal: Terminal | None) -> dict[int, Callable[[int, FrameType | None], None]]:
        def reopen(number: int, frame: FrameType | None) -> None:
            run_in_thread(self._core.reopen_logs)

        def ignore(number: int, frame: FrameType | None) -> None:
            name = signal.Signals(number).name
            why = "the server has no worker processes to restart"
            if self._channel is not None:
                why = f"it is for the supervisor (pid {os.getppid()})"
            run_in_thread(report, logging.WARNING, f"{name} was ignored: {why}")

        def hang_up() -> None:
            if terminal is not None and terminal.take_hang_up():
                report(logging.WARNING, "the terminal was closed: the server stops")
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self._core.reopen_logs()
                text = "SIGHUP reopened the logs; without worker processes the application is not loaded again"
                report(logging.WARNING, text)
                run, service = self._run, self._service
                if run is not None and service is not None:
                    # systemd waits for an answer to the reload that it has asked for.
                    service.reloaded(self._status(run))

        def hung_up(number: int, frame: FrameType | None) -> None:
            if terminal is None:
                ignore(number, frame)
            else:
                run_in_thread(hang_up)

        # They exist on Unix only.
        named = (("SIGUSR1", reopen), ("SIGHUP", hung_up), ("SIGUSR2", ignore))
        return {getattr(signal, name): handler for name, handler in named if hasattr(signal, name)}

    def _start(self, *, single_request: bool = False, background: bool = False) -> Run:
        with self._lock:
            if self._run is not None:
                raise RuntimeError("the server is already running")
            if self.application is None:
                raise RuntimeError("the server has no application: pass app=… or call set_app()")
            require_real_threads()
            try:
                run = self._run = self._make_run(self.application, single_request, background)
            except (OSError, MemoryError) as error:
                raise self._startup_error(error) from error
            self._stuck = ()
        # Set before its first thread starts: from then on the application may request a stop.
        try:
            run.begin()
        except BaseException as error:
            # The system has no more threads, or Ctrl-C was pressed.
            run.abort()
            self._end(run)
            if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error)):
                raise self._startup_error(error) from error
            raise
        return run

    def _startup_error(self, error: BaseException) -> StartupError:
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        threads = f"{self.settings.threads} threads" if self._interface == WSGI else "the server"
        hint = "lower --threads, or raise the limits of processes and memory (ulimit -u, ulimit -v, or the container's)"
        if "open files" in reason:
            hint = "raise the limit of open files (ulimit -n)"
        return StartupError(f"cannot start {threads}: {reason}; {hint}")

    def _make_run(self, app: Application, single_request: bool, background: bool) -> Run:
        handover = None if self._handover is None else self._handover.descriptors
        limits = self._limits
        request_limit = (limits.requests, limits.signal) if limits is not None and limits.requests else None
        if self._page is None and self._service is not None and self._service.watchdog_seconds is not None:
            # For the heartbeat.
            self._page = _core.Page(1, shards=shards())
            self._slot = self._page.take_slot(1)
        # By this a worker asks its supervisor for a successor.
        successor = None
        if self._channel is not None:
            successor = (self._channel.fileno(), encoded(Report.RECYCLE, "a request is stuck"))
        if self._interface == WSGI:
            core = self._core.start(
                app,
                self._environs,
                shards=shards(),
                single_request=single_request,
                multiprocess=self._multiprocess,
                page=self._page,
                slot=self._slot,
                handover=handover,
                request_limit=request_limit,
                successor=successor,
            )
            with _abort_on_error(core):
                return Run(core, background=background, graceful_timeout=self.settings.graceful_timeout)
        # Imported late, because asyncio is large and WSGI does not need it.
        from wsgi.asgi import LoopRun, as_single_callable

        app = as_single_callable(app, self._interface)
        core = self._core.start(
            app,
            self._environs,
            single_request=single_request,
            external_loop=True,
            page=self._page,
            slot=self._slot,
            handover=handover,
            request_limit=request_limit,
            successor=successor,
        )
        with _abort_on_error(core):
            return LoopRun(core, background=background, app=app, settings=self.settings, servers=self._servers())

    def _give_up(self) -> None:
        """Ends the run without waiting."""
        run = self._run
        if run is not None:
            run.give_up()
        self._core.close()
        if self._service is not None and self._channel is None:
            self._service.end()

    def _servers(self) -> list[object]:
        """The `server` value of each listener's scopes: name and port, or the path of a Unix socket."""
        return [
            (place, None) if isinstance(place, str) else (environ["SERVER_NAME"], int(environ["SERVER_PORT"]))
            for place, environ in zip(self._core.places, self._environs, strict=True)
        ]

    def _end(self, run: Run) -> None:
        stuck = run.finish()
        with self._lock:
            if self._run is run:
                self._run = None
                self._stuck = stuck
        run.ended.set()


@contextmanager
def _abort_on_error(core: _core.Run) -> Iterator[None]:
    """Ends the engine's side of a run that fails before it begins: its threads are running already."""
    try:
        yield
    except BaseException:
        core.abort()
        core.finish()
        raise


def make_server(
    host: str,
    port: int,
    app: Application,
    server_class: Callable[..., WSGIServer] = WSGIServer,
    handler_class: type = WSGIRequestHandler,
    **options: Any,
) -> WSGIServer:
    """Makes a server like `wsgiref.simple_server.make_server`.

    Parameters:
        host, port, app: as for `WSGIServer`.
        server_class: `WSGIServer`, a subclass, or a function with the same parameters that returns one.
            `socketserver.ThreadingMixIn` may be among the bases; it has no effect.
        handler_class: a subclass of `WSGIRequestHandler`, of this module or of wsgiref. It is not used; overrides of
            the log on standard error are accepted, because the server writes no such log.
        options: as for `WSGIServer`.

    Raises:
        TypeError: a class overrides a method that has an effect in wsgiref and none here, or is not for this server.
    """
    check_handler(handler_class)
    if isinstance(server_class, type) and not issubclass(server_class, WSGIServer):
        raise TypeError(
            f"server_class {server_class.__name__} must be a subclass of wsgi.server.WSGIServer: import WSGIServer "
            "from wsgi.server in the module that defines it"
        )
    server = server_class(host, port, app, **options)
    server._serves_in_context = False
    return server


def serve(app: Application, **options: Any) -> None:
    """Serves an application until it is stopped, then closes: a whole program. If the server cannot start, it logs one
    line and ends the program with exit code 1; make a `WSGIServer` to handle that error.

    Parameters:
        app: the application.
        options: as for `WSGIServer`, host and port included.

    Raises:
        SystemExit: an option has a wrong value, an address cannot be listened on, or the application failed to start.
        TypeError: an option has an unknown name, or the application does not fit its interface.
    """
    if _is_imported():
        return
    try:
        WSGIServer(app=app, **options).run()
    except WSGIServerError as error:
        report(logging.CRITICAL, str(error))
        raise SystemExit(1) from error


def shards() -> int:
    """The number of pollers: one per processor on free-threaded builds, else one."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
