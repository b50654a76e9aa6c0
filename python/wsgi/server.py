"""The server: `WSGIServer(host, port, app)`, and wsgiref's way to make one.

    from wsgi.server import WSGIServer

    WSGIServer("localhost", 8000, app).serve_forever()

Applications are WSGI or ASGI ones: `wsgi.interface` tells by their signature, or the option `interface` says it.

The names of `wsgiref.simple_server` keep working, so that a program written for it needs another import and no more:
`make_server` with `server_class` and `handler_class`, `WSGIServer((host, port), handler_class)` with `set_app`,
`WSGIRequestHandler`, `demo_app`. What a subclass asks for and cannot have here is refused in one line
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
from wsgi.descriptors import fill_standard
from wsgi.environ import base_environ
from wsgi.errors import BindError, ConfigError, StartupError, WSGIServerError
from wsgi.interface import WSGI, choose
from wsgi.logging import report
from wsgi.running import Run, require_real_threads
from wsgi.settings import Settings
from wsgi.signals import is_free
from wsgi.simple_server import WSGIRequestHandler, check_handler, check_server, demo_app
from wsgi.stopping import Countdown, aside, say

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    Application = WSGIApplication | Callable[..., Awaitable[object]]

__all__ = ["WSGIRequestHandler", "WSGIServer", "demo_app", "make_server", "serve"]


# The thread in which the command imports the application, while it does.
_importers: set[int] = set()


@contextmanager
def importing() -> Iterator[None]:
    """Within it a program that serves itself while this thread imports it is told so, and does not serve."""
    _importers.add(threading.get_ident())
    try:
        yield
    finally:
        _importers.clear()


def _called(frames: Iterable[tuple[FrameType, int]]) -> tuple[str, str]:
    """The call by which a program came into this package, and its place, such as `run()` and `app.py:9`.

    Parameters:
        frames: with their lines, from the package outwards.
    """
    package = os.path.dirname(__file__) + os.sep
    name = ""
    for frame, line in frames:
        file = frame.f_code.co_filename
        if not file.startswith(package):
            return f"{name}()", f"{os.path.relpath(file)}:{line}"
        name = frame.f_code.co_name
    return f"{name}()", "an unknown place"


def _is_imported() -> bool:
    """Whether the command is importing the program that calls; then one line says where, and what to do."""
    if threading.get_ident() not in _importers:
        return False
    call, place = _called(walk_stack(sys._getframe()))
    what = f"{call} at {place} is ignored while the module is imported, because the command serves the application"
    report(logging.WARNING, f"{what}; put the call under: if __name__ == '__main__'")
    return True


def _end_program(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Says in one line, in the place of a traceback, why a program ends that could not start its server."""
    if not isinstance(error, (BindError, ConfigError)):
        sys.__excepthook__(kind, error, traceback)
        return
    _, place = _called(reversed(list(walk_tb(traceback))))
    report(logging.CRITICAL, f"{place}: {error}")


# Only in the place of Python's own: a program may have one that shows more.
if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _end_program


# Elsewhere than on Unix there is nothing to register.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.forked)


class WSGIServer:
    """An HTTP/1.1 server for one WSGI (PEP 3333) or ASGI 3 application. Listens from the moment it is made.

    Parameters:
        host: name or address to listen on; `localhost` listens on both loopback addresses, "" on every IPv4 interface.
            A pair `(host, port)` is wsgiref's way to say both; a handler class may follow in the place of the port.
        port: TCP port; 0 lets the system choose, `server_port` tells.
        app: the application; `set_app` may follow later.
        settings: a ready `Settings` in place of host, port and options.
        options: the options of the settings table, by name; `bind` replaces host and port.

    Raises:
        BindError: an address cannot be listened on; nothing stays open.
        ConfigError: an option has a wrong value.
        TypeError: an option has an unknown name, or the application cannot be called as its interface wants.

    A program that lets one of the first two end it ends with one line and its place, not with a traceback, unless it
    has a `sys.excepthook` of its own.

    Thread-safety: every method may be called from any thread.
    """

    timeout: float | None = None
    """Seconds that `handle_request` waits for a request; None waits for ever."""

    def __init__(
        self,
        host: str | tuple[str, int] = "127.0.0.1",
        port: int | type = 8000,
        app: Application | None = None,
        *,
        settings: Settings | None = None,
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
            raise TypeError("options go into settings or stand beside it, not both")
        self.settings = settings
        self.application: Application | None = None
        self._interface = WSGI
        self._lock = threading.Lock()
        self._run: Run | None = None
        if app is not None:
            self.set_app(app)
        # Before anything is opened that could take their place.
        fill_standard()
        self._core = _core.Server(settings)
        self._environs = [base_environ(place, settings) for place in self._core.places]
        self.addresses: tuple[str, ...] = tuple(self._core.addresses)
        """Every address that the server listens on, such as `http://127.0.0.1:8000` or `unix:/run/app.sock`."""
        self.server_address: tuple[str, int] | str = self._core.places[0]
        """The first address, as `(host, port)` or as a Unix socket's path."""
        self.base_environ: dict[str, Any] = self._environs[0]
        """What every environ of the first address begins with. Changes count from the next start on."""
        self.setup_environ()

    # wsgiref's names.

    def setup_environ(self) -> None:
        """Is called when the server listens, for a subclass that adds to `base_environ`."""

    @property
    def socket(self) -> NoReturn:
        """Not there: the core has the listening sockets."""
        raise AttributeError(
            "the server's core has the listening sockets: server_address and fileno() say what they are; there is no "
            "TLS here, a proxy does it"
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
        """Sets the application that the next start serves.

        Raises:
            TypeError: it cannot be called as its interface wants.
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
        """Serves until `shutdown()`, or until SIGINT or SIGTERM where this is the main thread and the program has no
        handlers of its own for them. Then it stops gracefully: running requests are finished within `graceful_timeout`
        seconds. A second signal stops at once. On the same terms SIGUSR1 reopens the access log, and SIGHUP and SIGUSR2
        are ignored with a line in the log. While the command `wsgi` imports the program, it closes the server and
        returns, since the command serves the application.

        Threads of the application's that are no requests are the program's own: this returns without them, and the
        interpreter waits for those that are not daemons, as it always does.

        Parameters:
            poll_interval: for wsgiref's sake; nothing is polled here.

        Raises:
            RuntimeError: the server is running or closed, or has no application.
            StartupError: an ASGI application failed to start, the system has no threads or memory left, or gevent or
                eventlet have replaced the process' threads.
        """
        if _is_imported():
            # Its port may be the one that the command is about to listen on.
            self.server_close()
            return
        with self._signals() as countdown:
            run = self._start()
            try:
                run.wait(started=lambda: say(self._banner(run)))
            finally:
                if self._owns_process:
                    countdown.begin()
                run.stop()
                self._end(run)

    def run(self) -> None:
        """Serves like `serve_forever`, then closes. A signal closes the listening sockets at once, so that clients turn
        elsewhere while the last requests are finished.
        """
        self._closes = True
        try:
            self.serve_forever()
        finally:
            self.server_close()

    def handle_request(self) -> None:
        """Takes one connection, serves one request on it, and returns; after `timeout` seconds without one, too.

        Raises:
            RuntimeError: the server is running or closed, or has no application.
        """
        run = self._start(once=True)
        try:
            run.wait(self.timeout)
        finally:
            run.stop()
            self._end(run)

    def shutdown(self) -> None:
        """Asks for a graceful stop and returns at once: from any thread, from a signal handler, from the application.

        `serve_forever()` returns when the stop is complete; the server stays bound and can be started again.
        """
        run = self._run
        if run is not None:
            run.stop()

    def server_close(self) -> None:
        """Stops, if it runs, and closes the listening sockets. Waits for the stop, unless it would wait for itself."""
        run = self._run
        if run is not None:
            run.stop()
            if run.is_mine():
                pass
            elif run.background:
                self._end(run)
            else:
                run.ended.wait()
        self._core.close()

    # Embedding.

    def __enter__(self) -> WSGIServer:
        """Serves in the background until the block ends. One that `make_server` made only closes then, as wsgiref's."""
        if self._serves_in_context:
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
        """Names of the worker threads that were still inside the application when the last stop gave up waiting."""
        return self._stuck

    _stuck: tuple[str, ...] = ()
    # A signal ends the server, and not only this run of it.
    _closes = False
    # The process ends with the server, and with its stop's time. Only the command says so.
    _owns_process = False
    _serves_in_context = True
    # The last stop's time.
    _countdown: Countdown | None = None

    def _banner(self, run: Run) -> str:
        threads = f", up to {self.settings.threads} threads" if self._interface == WSGI else ""
        return f"Serving HTTP on {', '.join(self.addresses)} ({run.interface}{threads}, pid {os.getpid()})"

    @contextmanager
    def _signals(self) -> Iterator[Countdown]:
        """Lets SIGINT and SIGTERM stop the server, SIGUSR1 reopen its log, and SIGHUP and SIGUSR2 do nothing, where
        the program has no handlers of its own for them."""
        self._countdown = countdown = Countdown(
            self.settings.graceful_timeout,
            lambda: "" if (run := self._run) is None else run.waits_for(),
            ends_process=self._owns_process,
            close=self._give_up,
        )
        if threading.current_thread() is not threading.main_thread():
            yield countdown
            return

        def stop(number: int, frame: FrameType | None) -> None:
            run = self._run
            if countdown.has_begun:
                countdown.hurry()
                if run is not None:
                    run.abort()
                return
            if run is None:
                raise KeyboardInterrupt
            again = "press Ctrl-C again" if number == signal.SIGINT else "send a second signal"
            countdown.begin(f"{again} to end at once")
            if self._closes:
                # Nobody will accept again: better refused now than reset at the end of the graceful stop.
                self._core.close_listeners()
            run.stop()

        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, **self._other_handlers()}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items() if is_free(number)}
        try:
            yield countdown
        finally:
            # A second signal is heard to the end of a process that is the server's own.
            if not self._owns_process:
                for number, former in before.items():
                    signal.signal(number, former)

    def _other_handlers(self) -> dict[int, Callable[[int, FrameType | None], None]]:
        def reopen(number: int, frame: FrameType | None) -> None:
            aside(self._core.reopen_logs)

        def ignore(number: int, frame: FrameType | None) -> None:
            name = signal.Signals(number).name
            aside(report, logging.WARNING, f"{name} was ignored: there are no worker processes to restart")

        # Elsewhere than on Unix they do not exist.
        named = (("SIGUSR1", reopen), ("SIGHUP", ignore), ("SIGUSR2", ignore))
        return {getattr(signal, name): handler for name, handler in named if hasattr(signal, name)}

    def _start(self, *, once: bool = False, background: bool = False) -> Run:
        with self._lock:
            if self._run is not None:
                raise RuntimeError("the server is running already")
            if self.application is None:
                raise RuntimeError("the server has no application: pass app=… or call set_app()")
            require_real_threads()
            try:
                run = self._run = self._make_run(self.application, once, background)
            except (OSError, MemoryError) as error:
                raise self._no_start(error) from error
            self._stuck = ()
        # Known before its first thread starts: from then on the application may ask for a stop.
        try:
            run.begin()
        except BaseException as error:
            # The system has no more threads, or Ctrl-C came just now.
            run.abort()
            self._end(run)
            if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error)):
                raise self._no_start(error) from error
            raise
        return run

    def _no_start(self, error: BaseException) -> StartupError:
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        threads = f"{self.settings.threads} threads" if self._interface == WSGI else "the server"
        hint = "lower --threads, or raise the limits of processes and memory (ulimit -u, ulimit -v, a container's own)"
        if "open files" in reason:
            hint = "raise the limit of open files (ulimit -n)"
        return StartupError(f"cannot start {threads}: {reason}; {hint}")

    def _make_run(self, app: Application, once: bool, background: bool) -> Run:
        if self._interface == WSGI:
            core = self._core.start(app, self._environs, shards=_shards(), once=once)
            with _ending(core):
                return Run(core, background=background, graceful_timeout=self.settings.graceful_timeout)
        # Imported late: asyncio is large, and nothing to WSGI.
        from wsgi.asgi import LoopRun, single

        app = single(app, self._interface)
        core = self._core.start(app, self._environs, once=once, external_loop=True)
        with _ending(core):
            return LoopRun(core, background=background, app=app, settings=self.settings, servers=self._servers())

    def _give_up(self) -> None:
        """Ends what runs without waiting for anything."""
        run = self._run
        if run is not None:
            run.give_up()
        self._core.close()

    def _servers(self) -> list[object]:
        """The `server` of each listener's scopes: name and port, or a Unix socket's path."""
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
def _ending(core: _core.Run) -> Iterator[None]:
    """Ends the engine's part of a run that fails before it begins: its own threads are running."""
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
    """Makes a server, as `wsgiref.simple_server.make_server` does.

    Parameters:
        host, port, app: as for `WSGIServer`.
        server_class: what makes the server: `WSGIServer`, a subclass, or a function that takes the same and gives one.
            `socketserver.ThreadingMixIn` may be among the bases; the server has threads without it.
        handler_class: a subclass of `WSGIRequestHandler`, of this module or of wsgiref. It is not used: what it changes
            about the log on standard error has nothing to change here.
        options: as for `WSGIServer`.

    Raises:
        TypeError: a class overrides a method that has a meaning for wsgiref and none here, or is not for this server.
    """
    check_handler(handler_class)
    if isinstance(server_class, type) and not issubclass(server_class, WSGIServer):
        raise TypeError(
            f"server_class {server_class.__name__} must be a subclass of wsgi.server.WSGIServer: import WSGIServer "
            "from wsgi.server, where the class is made"
        )
    server = server_class(host, port, app, **options)
    server._serves_in_context = False
    return server


def serve(app: Application, **options: Any) -> None:
    """Serves an application until it is stopped, then closes: a whole program. Where it cannot start, it writes one
    line and ends the program with exit code 1; make a `WSGIServer` to handle that yourself.

    Parameters:
        app: the application.
        options: as for `WSGIServer`, host and port included.

    Raises:
        SystemExit: an option has a wrong value, an address cannot be listened on, or the application failed to start.
        TypeError: an option has an unknown name, or the application cannot be called as its interface wants.
    """
    if _is_imported():
        return
    try:
        WSGIServer(app=app, **options).run()
    except WSGIServerError as error:
        report(logging.CRITICAL, str(error))
        raise SystemExit(1) from error


def _shards() -> int:
    """One poller for each processor where threads run side by side; one where the interpreter lock forbids it."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
