"""Logs all messages of the server, from Python and from the Rust core, by `report`; and defines the log's format.

Messages of the server go to the logger `wsgi.server`. If the program has configured logging, its handlers get them;
otherwise they go to standard error, one line each. So do the errors of `wsgi.application`, and under the command the
records of every logger. Control characters are escaped, so that data of a client cannot forge a line or control a
terminal.

A faulty logging configuration loses no message. If a handler or a filter raises, if `sys.stderr` is closed, None or
raises, or if either leads back to the server, the message goes to the process's standard error.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from typing import Any

__all__ = ["LOGGER_NAME", "configure", "escaped", "flush_error", "is_reported", "report", "write_error"]

LOGGER_NAME = "wsgi.server"

# DEL, C1 controls, line and paragraph separators, bidirectional controls, lone surrogates.
_REST = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINE = re.compile(f"[\x00-\x1f{_REST}]")
_IN_BLOCK = re.compile(f"[\x00-\x08\x0b-\x1f{_REST}]")


def escaped(text: str, *, block: bool = False) -> str:
    r"""Returns `text` with its control characters written as `\n`, `\x1b`, `\u2028`.

    Parameters:
        text: any text, including bytes decoded as latin-1.
        block: keep line ends and tabs, for a traceback.
    """
    pattern = _IN_BLOCK if block else _IN_LINE
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class _LineFormatter(logging.Formatter):
    """Time, process, level, the logger if it is not the server's, message; then the traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(process)d] %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.name != LOGGER_NAME:
            record.message = f"{record.name}: {record.message.rstrip()}"
        return escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return escaped(super().formatException(ei), block=True)  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:
        return escaped(super().formatStack(stack_info), block=True)


class _Thread(threading.local):
    """The state of one thread, to detect calls that lead back here."""

    writes = False
    """It is inside `write_error` or `flush_error`."""
    reports = False
    """It is inside `report`."""
    failure: BaseException | None = None
    """An exception that a handler of the message raised and caught."""


_thread = _Thread()


def write_error(text: str) -> None:
    """Writes to the current `sys.stderr`, which tests and daemons replace; if that fails, to the process's standard
    error, because an error report must not fail itself. May be called from any thread.

    Parameters:
        text: written in one call; characters that the stream cannot encode are escaped.
    """
    stream = sys.stderr
    if stream is not None and not _thread.writes:
        _thread.writes = True
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            return
        except Exception:
            # The text is still to be written.
            pass
        finally:
            _thread.writes = False
    _write_to_descriptor(text)


def flush_error() -> None:
    """Flushes what `write_error` has written."""
    stream = sys.stderr
    if stream is None or _thread.writes:
        return
    _thread.writes = True
    try:
        stream.flush()
    except Exception:
        # The lost text is unknown.
        pass
    finally:
        _thread.writes = False


def _write_to_descriptor(text: str) -> None:
    # If the process started without standard error, descriptor 2 may be any file.
    if sys.__stderr__ is None:
        return
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass


_formatter = _LineFormatter()


def _write_record(record: logging.LogRecord, failure: BaseException | None = None) -> None:
    """Writes a record in one call, followed by the exception of the program's handlers."""
    try:
        text = _formatter.format(record) + "\n"
    except Exception as problem:
        # The formatting of the exception raised.
        text = f"{record.levelname} {record.getMessage()} (formatting it raised {type(problem).__name__})\n"
    if failure is not None:
        shown = escaped("".join(traceback.format_exception(failure)), block=True)
        text += f"the message above was written here because the program's logging failed:\n{shown}"
    write_error(text)
    flush_error()


# Most handlers catch their exceptions and call `handleError`, which does not print the application's traceback and
# prints nothing with `logging.raiseExceptions` off. There is no other way to notice that a message was lost.
_handle_error = logging.Handler.handleError


def _note_error(self: logging.Handler, record: logging.LogRecord) -> None:
    if _thread.reports:
        _thread.failure = sys.exc_info()[1]
    _handle_error(self, record)


logging.Handler.handleError = _note_error  # type: ignore[method-assign]


class _FallbackHandler(logging.Handler):
    """Writes records that no other handler gets to the current `sys.stderr`."""

    def filter(self, record: logging.LogRecord) -> Any:
        # Checked for each record: the program may configure its logging at any time, and lines must not be duplicated.
        return not self._has_others(logging.getLogger(record.name)) and super().filter(record)

    def _has_others(self, logger: logging.Logger | None) -> bool:
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False

    def emit(self, record: logging.LogRecord) -> None:
        _write_record(record)


_fallback = _FallbackHandler()
# Errors of the framework have the same format without the command.
logging.getLogger("wsgi.application").addHandler(_fallback)


class _Level(int):
    """A level of the root logger set by the command, not by the application."""


def configure(level: str) -> None:
    """Configures logging for the command: every logger writes to standard error in one format, from this level on.

    If the application configures logging itself, its handlers and level of the root logger apply as if the command had
    set nothing. The server's own logger keeps the level.

    Parameters:
        level: `debug`, `info`, `warning`, `error` or `critical`.
    """
    number = logging.getLevelName(level.upper())
    logging.getLogger(LOGGER_NAME).setLevel(number)
    # `logging` uses it for records that reach no handler, as in an application without logging configuration.
    logging.lastResort = _fallback
    # `captureWarnings` would otherwise add a handler that drops them.
    logging.getLogger("py.warnings").addHandler(_fallback)
    root = logging.getLogger()
    if root.handlers or not (root.level == logging.WARNING or isinstance(root.level, _Level)):
        return
    root.setLevel(_Level(number))

    def add_handler(hdlr: logging.Handler) -> None:
        # `basicConfig()` sets no level by default and expects that of Python.
        del root.addHandler
        if isinstance(root.level, _Level):
            root.setLevel(logging.WARNING)
        root.addHandler(hdlr)

    root.addHandler = add_handler  # type: ignore[method-assign]


def is_reported(level: int) -> bool:
    """Whether messages of `level` (a level of the `logging` module) are logged at present."""
    logger = logging.getLogger(LOGGER_NAME)
    # As `report` does.
    logger.disabled = False
    return logger.isEnabledFor(level)


def report(level: int, message: str, exc_info: BaseException | None = None, stacks: str | None = None) -> None:
    """Logs one message. May be called from any thread that is attached to the interpreter.

    Parameters:
        level: a level of the `logging` module, such as `logging.ERROR` (40).
        message: one line without a trailing newline; control characters are escaped here.
        exc_info: an exception whose traceback is logged whole below the message.
        stacks: lines about threads that are logged below it, as `stack_info` of the record.
    """
    logger = logging.getLogger(LOGGER_NAME)
    # `dictConfig` disables all existing loggers by default, and frameworks call it while the application is imported.
    # An application's traceback must not be lost by that; a level silences the logger.
    logger.disabled = False
    if not logger.isEnabledFor(level):
        return
    line = escaped(message)
    found = (type(exc_info), exc_info, exc_info.__traceback__) if exc_info is not None else None
    record = logging.LogRecord(LOGGER_NAME, level, __file__, 0, "%s", (line,), found, "report", stacks)
    if _thread.reports:
        # Called by a handler of the program.
        _write_record(record)
        return
    _thread.reports, _thread.failure = True, None
    failure: BaseException | None = None
    try:
        # Checked for each message: a handler left on the logger would duplicate lines once the program adds its own.
        if logger.hasHandlers():
            if stacks is None:
                logger.log(level, "%s", line, exc_info=exc_info)
            else:
                logger.handle(record)
            failure = _thread.failure
        elif logger.filter(record):
            _write_record(record)
    except BaseException as problem:
        failure = problem
        if not isinstance(problem, Exception):
            raise
    finally:
        _thread.reports, _thread.failure = False, None
        if failure is not None:
            _write_record(record, failure)
