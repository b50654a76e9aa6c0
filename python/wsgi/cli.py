"""The command `wsgi MODULE:APP [options]`.

Exit codes: 0 after a requested stop, 1 if the start fails (with workers: in each of them) or requests or threads still
ran at the end of a stop, 2 for a wrong command line, 130 after Ctrl-C during the start. A failed start writes one line,
and a traceback only for an exception of the application.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from wsgi import __version__
from wsgi.descriptors import open_standard_descriptors, replace_missing_streams
from wsgi.errors import ConfigError, StartupError, WSGIServerError
from wsgi.option_types import Boolean
from wsgi.settings import OPTIONS, Option, Settings, hint
from wsgi.signals import default_signals_ignored
from wsgi.supervisor.start import UPGRADE_VARIABLE, start_directory

if TYPE_CHECKING:
    from wsgi.process import Process
    from wsgi.server import WSGIServer
    from wsgi.supervisor.channel import WorkerEnd
    from wsgi.supervisor.handover import HandoverQueue
    from wsgi.supervisor.upgrade import UpgradeState

__all__ = ["main"]

_DESCRIPTION = """\
Serves a WSGI or ASGI application.

MODULE:APP names the application: hello:app, shop.web:site.app, hello:create("prod"), path/to/hello.py:app.
MODULE alone selects its 'app' or 'application'."""

_EPILOG = """\
Every option except --check-config has an environment variable, and every option except --check-config and --config a
key in the TOML file (max_body_size = "64k"). A flag overrides a variable, a variable overrides the file, and the file
overrides PORT and the defaults. Sizes: 8190, 64k, 1M, 1GiB. Times: 30, 1.5, 500ms, 2m. Values of a repeatable option
are separated by commas in a variable, and are a list in the file.

'python -m wsgi' runs the same command. In a directory with a file wsgi.py, Python runs that file instead: use
'wsgi wsgi:app' or 'python -m wsgi_server wsgi:app' there."""


CONTROL_COMMANDS = ("reload", "stop")
"""Commands for a running server; a module of that name is served as `reload:app`."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, with a suggestion for an unknown flag."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists the options)\n")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parses the whole command line; an unknown flag ends the process."""
        found, rest = self.parse_known_args(arguments)
        # The rest also has the value of an unknown flag: report the flag.
        flag = next((item.partition("=")[0] for item in rest if item.startswith("-")), None)
        if flag is not None:
            known = [name[2:] for name in self._option_string_actions if name.startswith("--")]
            self.error(f"unknown option {flag!r}{hint(flag, known, prefix='--')}")
        if rest:
            self.error(f"unexpected argument {rest[0]!r}: the command serves one application")
        if not hasattr(found, "target") and not hasattr(found, "config") and not os.environ.get("WSGI_CONFIG"):
            self.error("the following arguments are required: MODULE:APP")
        return found


def _parser() -> _Parser:
    parser = _Parser(
        prog="wsgi",
        usage="wsgi MODULE:APP [options]\n       wsgi reload | stop  PID | --pidfile FILE [--timeout TIME]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    # A configuration file of gunicorn may name it.
    parser.add_argument("target", metavar="MODULE:APP", nargs="?", help=argparse.SUPPRESS)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in OPTIONS.values():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add(groups[option.group], option)
    last = groups["Command"]
    last.add_argument("--version", action="version", version=f"wsgi-server {__version__}", help="print the version")
    last.add_argument("-h", "--help", action="help", help="print this help")
    return parser


def _add(group: argparse._ArgumentGroup, option: Option[object]) -> None:
    """Adds one option. Its value stays text here, because the settings parse it and record its origin."""
    variables = " or ".join(name for name in (option.variable, option.fallback) if name)
    notes = [] if option.variable is None else [f"default {option.type.show(option.default)}", variables]
    text = f"{option.help} ({'; '.join(notes)})" if notes else option.help
    text = text.replace("%", "%%")
    flags = [flag for flag in (option.short, option.flag) if flag]
    if not isinstance(option.type, Boolean):
        action = "append" if option.type.repeatable else "store"
        group.add_argument(*flags, metavar=option.type.metavar, action=action, help=text)
    elif option.variable is None:
        group.add_argument(*flags, action="store_true", help=text)
    else:
        group.add_argument(*flags, action=argparse.BooleanOptionalAction, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Parameters:
        arguments: the arguments after the program's name; default: those of the process.
    """
    open_standard_descriptors()
    replace_missing_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in CONTROL_COMMANDS:
        from wsgi.control import main as control

        try:
            return control(words[0], words[1:])
        except KeyboardInterrupt:
            return 130
    # Before an option changes it.
    start_directory()
    try:
        state = None
        if UPGRADE_VARIABLE in os.environ:
            from wsgi.supervisor.upgrade import received

            state = received()
        parser = _parser()
        flags = vars(parser.parse(words))
        target: str | None = flags.pop("target", None)
        if target in CONTROL_COMMANDS:
            parser.error(f"the command {target} comes first; a module of that name is {target}:app")
        with default_signals_ignored(are_blocked=state is not None):
            return _run(target, flags, state)
    except WSGIServerError as error:
        # Imported late, as in `_run`.
        from wsgi.loading import explained

        print(explained(error), file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN):
            raise
        print(f"wsgi: cannot start: {error.strerror}; raise the limits (ulimit -n, ulimit -v)", file=sys.stderr)
        return 1
    except MemoryError:
        print("wsgi: cannot start: out of memory; raise the limit (ulimit -v, or the container's)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(target: str | None, flags: dict[str, object], state: UpgradeState | None) -> int:
    # Imported late, because --help, --version and errors on the command line do not need them.
    import logging
    from functools import partial
    from pathlib import Path

    from wsgi import _core
    from wsgi.loading import load
    from wsgi.logging import configure, report
    from wsgi.process import Process
    from wsgi.systemd import close_unused, take_sockets

    warnings: list[str] = []
    # The descriptors of the sockets that systemd has passed are not what they were at the start.
    named_sockets = take_sockets(os.environ, warnings.append) if state is None else state.named_sockets
    settings = Settings.from_command(flags, warn=warnings.append, sockets=named_sockets)
    if state is not None and settings.workers is None:
        raise ConfigError("workers: the running server has worker processes; restart it to serve without them")
    application = _application(target, settings)

    # Before the application, because a user's wsgi.py may replace names in `from wsgi import …`.
    from wsgi.server import WSGIServer, importing

    configure(settings.log_level)
    if state is None:
        close_unused(named_sockets, _inherited(settings), warnings.append)
    # A supervisor that goes on reads the configuration once more below.
    for warning in warnings if state is None else ():
        report(logging.WARNING, warning)
    process = Process(settings)
    _begin(application, settings, is_first=state is None)

    def load_application(settings: Settings) -> Any:
        process.become_application(settings)
        if settings.request_timeout:
            from wsgi.stalls import register_dump

            register_dump()
        if settings.gunicorn is not None:
            settings.gunicorn.apply()
        with importing():
            return load(_application(target, settings), Path(settings.app_dir))

    if settings.check_config:
        load_application(settings)
        settings.hooks.load(None)
        settings.hooks.load_worker()
        table = _table(application, "command line" if target else f"{settings.config}: wsgi_app", settings)
        # A path may contain bytes that standard output cannot encode.
        encoding = sys.stdout.encoding or "utf-8"
        print(table.encode(encoding, "backslashreplace").decode(encoding))
        return 0
    process.set_title()
    # A check is made beside the running server, which has the pidfile.
    service = process.make_service(os.getppid() if state is not None and state.is_check else None)
    if state is None:
        _say_limits(settings)
        settings.call_hook("starting")
    is_single = settings.workers is None

    def load_alone() -> Any:
        # The modules of a worker's hooks may be the application's: not before the user is changed.
        process.become_application(settings)
        settings.hooks.load_worker()
        return load_application(settings)

    app: Any = load_alone() if is_single and not process.listens_first else None
    listen = None
    if state is not None:
        # What the workers of the former program have; a reload brings what is wanted now.
        settings = settings.listening_on(bind for bind, _, _ in state.sockets)
        listen = partial(_core.Server, passed=state.sockets)
    process.give_logs(settings)
    try:
        server = WSGIServer(app=app, settings=settings, _listen=listen)
        if state is None:
            _close_inherited(settings)
        else:
            for _, descriptor, _ in state.sockets:
                os.close(descriptor)
        process.give_files(server.addresses, settings)
        if is_single and app is None:
            server.set_app(load_alone())
    except (OSError, TypeError, ValueError) as error:
        # Errors that only the core finds: an address, a log file, a format, the application's signature.
        print(f"wsgi: {error}", file=sys.stderr)
        return 1
    server._service, server._give_logs = service, partial(process.give_logs, settings)
    try:
        if is_single:
            settings.call_hook("loaded")
            code = server._serve_process()
            settings.call_hook("exit")
            return code
        return _supervise(server, process, target, flags, load_application, named_sockets, state)
    finally:
        service.end()


def _supervise(
    server: WSGIServer,
    process: Process,
    target: str | None,
    flags: dict[str, object],
    load_application: Callable[[Settings], Any],
    named_sockets: list[tuple[str, int]],
    state: UpgradeState | None,
) -> int:
    """Runs worker processes until a stop, and returns the exit code. Workers end in here.

    Parameters:
        server: has the listening sockets, and no application.
        process: this one.
        target, flags: those of the command line, which count again at a reload.
        load_application: imports the application.
        named_sockets: name and descriptor of each socket that systemd has passed at the start.
        state: what the program has left that supervised in this process before.
    """
    import logging
    from functools import partial

    from wsgi import _core
    from wsgi.logging import configure, report
    from wsgi.server import WSGIServer, shards

    # Before the application: a library that it imports may replace `os.fork`.
    from wsgi.supervisor.channel import WorkerId
    from wsgi.supervisor.configuration import Configuration, Configurations
    from wsgi.supervisor.supervisor import make_supervisor, unmet_need
    from wsgi.supervisor.template import fork_workers
    from wsgi.supervisor.upgrade import CONFIRMATION
    from wsgi.supervisor.worker import exit_worker, work

    servers, service = [server], server._service

    def configuration(server: WSGIServer) -> Configuration:
        settings = server.settings

        def serve(channel: WorkerEnd, page: _core.Page, handover: HandoverQueue) -> int:
            configure(settings.log_level)
            if not settings.preload:
                return serve_as(channel, page, handover)
            server.set_app(load_application(settings))
            server._import_interface()
            own = fork_workers(channel, server._core.reopen_logs)
            # The template has ended, or this is one of its workers.
            return 0 if own is None else work(own, lambda: serve_as(own, page, handover))

        def serve_as(channel: WorkerEnd, page: _core.Page, handover: HandoverQueue) -> int:
            # The hooks of a worker are the application's code.
            process.become_application(settings)
            with settings.hooks.in_worker((channel.worker or WorkerId()).age):
                if not settings.preload:
                    server.set_app(load_application(settings))
                settings.call_hook("loaded")
                return server._work(channel, page, handover)

        def serve_as_child(channel: WorkerEnd, page: _core.Page, handover: HandoverQueue) -> int:
            return work(channel, lambda: serve(channel, page, handover))

        return server._configuration(serve_as_child, closes=True)

    def reread() -> Configuration:
        servers[:] = [server for server in servers if server._core.filenos()]
        former = configurations.current.settings
        settings = Settings.from_command(
            flags, process.start_environ, partial(report, logging.WARNING), sockets=named_sockets
        )
        settings, notes = settings.reloaded(former)
        passed = {bind for server in servers for bind, _, _ in server._core.sockets()}
        for address in settings.addresses:
            bare = address.removeprefix("https://").removeprefix("http://")
            if bare.startswith("fd://") and bare not in passed:
                raise ConfigError(f"bind {address}: a running server takes over no other descriptors; restart it")
        _begin(_application(target, settings), settings)
        process.give_logs(settings)
        server = WSGIServer(
            settings=settings, _listen=partial(_core.Server, inherit=[server._core for server in servers])
        )
        try:
            process.give_files(server.addresses, settings)
        except WSGIServerError:
            server._core.close_listeners()
            raise
        server._service, server._give_logs = service, partial(process.give_logs, settings)
        servers.append(server)
        for note in notes:
            report(logging.WARNING, note)
        return configuration(server)

    configurations = Configurations(
        configuration(server),
        reread,
        1 if state is None else state.generation,
        environ=process.start_environ,
        named_sockets=named_sockets,
    )
    if state is not None and state.is_check:
        wanted = configurations.read()
        wanted.close()
        if problem := unmet_need(wanted.settings):
            raise StartupError(problem)
        try:
            _core.Page.open(state.page)
        except (OSError, ValueError) as error:
            raise StartupError(f"the running server's counters cannot be taken over: {error}; restart it") from None
        print(CONFIRMATION)
        return 0
    supervisor = make_supervisor(configurations, shards=shards(), state=state)
    if service is not None:
        supervisor.report_to(service)
    body = supervisor.run()
    if body is not None:
        exit_worker(body)
    configurations.current.settings.call_hook("exit")
    return supervisor.exit_code


def _application(given: str | None, settings: Settings) -> str:
    """The application to serve: the one of the command line, or that of a configuration file of gunicorn."""
    named = settings.gunicorn.application if settings.gunicorn is not None else None
    if given is None and named is None:
        raise ConfigError("neither the command line nor the configuration file names an application: write MODULE:APP")
    return given or named or ""


def _begin(application: str, settings: Settings, *, is_first: bool = True) -> None:
    """Prepares this process for the hooks and settings of the configuration file.

    Parameters:
        is_first: the notes on the file are not logged yet.
    """
    import logging

    from wsgi.logging import report

    if settings.gunicorn is not None:
        for note in settings.gunicorn.notes.values() if is_first else ():
            report(logging.INFO, f"{settings.gunicorn.path}: {note}")
        settings.gunicorn.apply()
    settings.hooks.load(None if settings.workers is None else application)


def _say_limits(settings: Settings) -> None:
    """Logs what the system allows less of than the options."""
    import logging

    from wsgi.logging import is_reported, report
    from wsgi.resources import connection_limit, memory_limit

    found = connection_limit(settings.max_connections, settings.workers or 1)
    if found is not None:
        text = (
            f"max_connections: {found[0]} can be open, not {settings.max_connections}, because the limit of open files "
            f"is {found[1]}; raise it (ulimit -n, LimitNOFILE= in systemd), or lower max_connections"
        )
        # The default was not asked for.
        is_default = settings.origin("max_connections") == "default"
        report(logging.INFO if is_default else logging.WARNING, text)
    if is_reported(logging.DEBUG) and (limit := memory_limit()) is not None:
        report(logging.DEBUG, f"the cgroup allows {limit / (1 << 20):.0f} MiB of memory")


def _inherited(settings: Settings) -> set[int]:
    """The descriptors of `fd://N`."""
    return {int(address.rpartition("fd://")[2]) for address in settings.addresses if "fd://" in address}


def _close_inherited(settings: Settings) -> None:
    """Closes the descriptors of `fd://N`; the server has duplicates of them.

    An open descriptor, here or inherited by a child process, would keep the socket listening while the server stops:
    clients would wait for an answer instead of being refused.
    """
    for number in _inherited(settings):
        if number > 2:
            os.close(number)
        else:
            # The next opened file must not become standard input or output.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            os.close(null)


def _table(application: str, origin: str, settings: Settings) -> str:
    """All effective values with their origins, in columns."""
    rows = [("application", application, origin)]
    rows += [(name, settings.shown(name), settings.origin(name)) for name in OPTIONS if name != "check_config"]
    from wsgi.resources import memory_limit, open_files_limit

    files, memory = open_files_limit(), memory_limit()
    rows.append(("open_files_limit", "none" if files is None else str(files), "process"))
    rows.append(("memory_limit", "none" if memory is None else f"{memory / (1 << 20):.0f} MiB", "cgroup"))
    name_width = max(len(name) for name, _, _ in rows)
    # One long value, such as the log format, must not widen the column.
    value_width = min(32, max(len(value) for _, value, _ in rows))
    return "\n".join(f"{name:<{name_width}}  {value:<{value_width}}  {origin}" for name, value, origin in rows)
