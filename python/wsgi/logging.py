"""The server's one way to say something: `report`, used by Python and by the Rust core alike.

Messages go to the logger `wsgi.server`. Where the program has configured logging they take that way; where it has not,
they go to standard error in one line. Control characters are escaped, so that nothing a client sends can forge a line
or drive a terminal.
"""

from __future__ import annotations

import logging
import re
import sys

__all__ = ["LOGGER_NAME", "configure", "escaped", "report"]

LOGGER_NAME = "wsgi.server"

# DEL, C1, the separators that some viewers break lines at, the marks that reorder text, lone surrogates.
_REST = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINE = re.compile(f"[\x00-\x1f{_REST}]")
_IN_BLOCK = re.compile(f"[\x00-\x08\x0b-\x1f{_REST}]")


def escaped(text: str, *, block: bool = False) -> str:
    r"""Gives `text` with its control characters written as `\n`, `\x1b`, `\u2028`.

    Parameters:
        text: anything, foreign bytes decoded as latin-1 included.
        block: keep line ends and tabs, for a traceback.
    """
    pattern = _IN_BLOCK if block else _IN_LINE
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class _LineFormatter(logging.Formatter):
    """Time, process, level, message; then the traceback whole."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(process)d] %(levelname)s %(message)s")

    def formatException(self, ei: object) -> str:
        return escaped(super().formatException(ei), block=True)  # type: ignore[arg-type]


class _StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, which tests and daemons replace."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if sys.stderr is not None:
                sys.stderr.write(self.format(record) + "\n")
                sys.stderr.flush()
        except Exception:
            self.handleError(record)


_fallback = _StderrHandler()
_fallback.setFormatter(_LineFormatter())


def configure(level: str) -> None:
    """Sets the least severe level that the server reports.

    Parameters:
        level: `debug`, `info`, `warning`, `error` or `critical`.
    """
    logging.getLogger(LOGGER_NAME).setLevel(level.upper())


def report(level: int, message: str, exc_info: BaseException | None = None) -> None:
    """Logs one message. May be called from any thread that is attached to the interpreter.

    Parameters:
        level: a level of the `logging` module, such as `logging.ERROR` (40).
        message: one line without a trailing newline; control characters are escaped here.
        exc_info: an exception whose traceback is logged whole below the message.
    """
    logger = logging.getLogger(LOGGER_NAME)
    # `dictConfig` switches off every logger made before it unless told otherwise, and frameworks call it while the
    # application is imported. An application's traceback must not vanish so; a level is the way to ask for silence.
    logger.disabled = False
    if not logger.isEnabledFor(level):
        return
    line = escaped(message)
    if logger.hasHandlers():
        logger.log(level, "%s", line, exc_info=exc_info)
        return
    # Decided for each message: a handler left on the logger would double the lines once the program configures its own.
    found = (type(exc_info), exc_info, exc_info.__traceback__) if exc_info is not None else None
    record = logger.makeRecord(LOGGER_NAME, level, __file__, 0, "%s", (line,), found)
    if logger.filter(record):
        _fallback.handle(record)
