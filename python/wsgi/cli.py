"""The command `wsgi MODULE:APP [options]`.

Exit codes: 0 after a stop that was asked for, 1 when the start fails or a stop had to give up requests or threads that
still run, 2 for a command line that cannot be understood, 130 after Ctrl-C during the start. A failed start writes one
line; a traceback is written for the application's own errors alone.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from wsgi import __version__
from wsgi.descriptors import fill_standard, replace_missing_streams
from wsgi.errors import LoadError, WSGIServerError
from wsgi.foreign import counterpart
from wsgi.names import nearest
from wsgi.settings import OPTIONS, Option, Settings
from wsgi.signals import held_off
from wsgi.values import Boolean

__all__ = ["main"]

_DESCRIPTION = """\
Serves a WSGI application.

MODULE:APP names it: hello:app, shop.web:site.app, hello:create("prod"), path/to/hello.py:app.
MODULE alone takes its 'app' or 'application'."""

_EPILOG = """\
Every option but --check-config can be given as a variable too, and every one but these and --config as a key of the
TOML file (max_body_size = "64k"). A flag stands above a variable, a variable above the file, the file above PORT and
the defaults. Sizes: 8190, 64k, 1M, 1GiB. Times: 30, 1.5, 500ms, 2m. Repeated options are separated by commas in a
variable and stand in a list in the file.

'python -m wsgi' does the same, but beside a file of yours called wsgi.py Python runs that file instead: there use
'wsgi wsgi:app' or 'python -m wsgi_server wsgi:app'."""


class _Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one line and the nearest right flag."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists the options)\n")

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Parses the whole command line; a flag that is unknown ends the process."""
        found, rest = self.parse_known_args(arguments)
        # The value of an unknown flag is among the rest as well: the flag is what was mistyped.
        flag = next((item.partition("=")[0] for item in rest if item.startswith("-")), None)
        if flag is not None:
            known = [name[2:] for name in self._option_string_actions if name.startswith("--")]
            hint = counterpart(flag) or nearest(flag.lstrip("-"), known, prefix="--")
            self.error(f"unknown option {flag!r}{hint}")
        if rest:
            self.error(f"one application is enough: what is {rest[0]!r}?")
        return found


def _parser() -> _Parser:
    parser = _Parser(
        prog="wsgi",
        usage="wsgi MODULE:APP [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("target", metavar="MODULE:APP", help=argparse.SUPPRESS)
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
    """Adds one row of the table. Values stay text here: the settings read them, and know their origin."""
    variables = " or ".join(name for name in (option.variable, option.fallback) if name)
    notes = [] if option.variable is None else [f"default {option.kind.show(option.default)}", variables]
    text = f"{option.help} ({'; '.join(notes)})" if notes else option.help
    text = text.replace("%", "%%")
    if not isinstance(option.kind, Boolean):
        action = "append" if option.kind.repeatable else "store"
        group.add_argument(option.flag, metavar=option.kind.metavar, action=action, help=text)
    elif option.variable is None:
        group.add_argument(option.flag, action="store_true", help=text)
    else:
        group.add_argument(option.flag, action=argparse.BooleanOptionalAction, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code.

    Parameters:
        arguments: the command line after the program's name, that of the process by default.
    """
    fill_standard()
    replace_missing_streams()
    flags = vars(_parser().parse(arguments))
    target: str = flags.pop("target")
    try:
        with held_off():
            return _run(target, flags)
    except WSGIServerError as error:
        if isinstance(error, LoadError) and error.__cause__ is not None:
            import traceback

            traceback.print_exception(error.__cause__)
        print(f"wsgi: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN):
            raise
        print(f"wsgi: cannot start: {error.strerror}; raise the limit (ulimit -n, ulimit -v)", file=sys.stderr)
        return 1
    except MemoryError:
        print("wsgi: cannot start: out of memory; raise the limit (ulimit -v, a container's own)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(target: str, flags: dict[str, object]) -> int:
    warnings: list[str] = []
    settings = Settings.from_command(flags, warn=warnings.append)
    # Imported late: --help, --version and mistakes on the command line answer without them.
    import logging
    from pathlib import Path

    from wsgi.loading import load
    from wsgi.logging import configure, report

    # Before the application: a user's wsgi.py may have names that stand for others in `from wsgi import …`.
    from wsgi.server import WSGIServer, importing

    configure(settings.log_level)
    for warning in warnings:
        report(logging.WARNING, warning)
    with importing():
        app: Any = load(target, Path(settings.app_dir))
    if settings.check_config:
        table = _table(target, settings)
        # A path may hold bytes that the encoding of standard output does not have.
        encoding = sys.stdout.encoding or "utf-8"
        print(table.encode(encoding, "backslashreplace").decode(encoding))
        return 0

    try:
        server = WSGIServer(app=app, settings=settings)
    except (OSError, TypeError, ValueError) as error:
        # What the core alone can judge: an address, a log file, a format, the application's kind.
        print(f"wsgi: {error}", file=sys.stderr)
        return 1
    _release(settings)
    server._owns_process = True
    try:
        server.run()
    finally:
        countdown = server._countdown
        if countdown is not None:
            # From here on the interpreter waits for threads of the application's.
            countdown.begin()
            countdown.settle()
    if server.stuck and countdown is not None:
        # Threads that are still inside the application would keep or break the interpreter's own end.
        countdown.leave()
    return 0


def _release(settings: Settings) -> None:
    """Closes the descriptors of `fd://N`, of which the server has duplicates.

    Left open, they would keep the socket listening while the server stops, and in every program that the application
    starts: clients would wait for an answer instead of being refused.
    """
    for number in {int(address[5:]) for address in settings.addresses if address.startswith("fd://")}:
        if number > 2:
            os.close(number)
        else:
            # What opens next must not become standard input or output.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            os.close(null)


def _table(target: str, settings: Settings) -> str:
    """Every effective value with its origin, in columns."""
    rows = [("application", target, "command line")]
    rows += [(name, settings.shown(name), settings.origin(name)) for name in OPTIONS if name != "check_config"]
    name_width = max(len(name) for name, _, _ in rows)
    # One long value, such as the log format, must not push every origin off the screen.
    value_width = min(32, max(len(value) for _, value, _ in rows))
    return "\n".join(f"{name:<{name_width}}  {value:<{value_width}}  {origin}" for name, value, origin in rows)
