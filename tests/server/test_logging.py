"""`report`: where a message goes, and in what form."""

from __future__ import annotations

import io
import logging
import logging.handlers
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsgi.environ import ErrorStream
from wsgi.logging import LOGGER_NAME, configure, escaped, report


@pytest.fixture(autouse=True)
def program() -> Iterator[logging.Logger]:
    """What stands above the server's logger: that of a program which has configured nothing yet."""
    logger, above = logging.getLogger(LOGGER_NAME), logging.RootLogger(logging.WARNING)
    # The root itself has the test runner's handlers while a test runs.
    parent, logger.parent = logger.parent, above
    yield above
    logger.parent = parent
    logger.filters.clear()
    logger.setLevel(logging.NOTSET)
    logger.disabled = False


def raised() -> ZeroDivisionError:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        return error
    raise AssertionError


def test_report_without_configuration_writes_one_line_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    report(logging.ERROR, "the application failed")
    err = capsys.readouterr().err
    assert err.endswith("] ERROR the application failed\n")
    assert err.count("\n") == 1


def test_report_with_an_exception_writes_its_traceback_whole_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    report(logging.ERROR, "GET /a failed", raised())
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert sum("ZeroDivisionError" in line for line in lines) == 1


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_report_with_a_handler_of_the_program_goes_there_alone(
    program: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, error = Kept(), raised()
    program.addHandler(handler)
    report(logging.WARNING, "50% slow", error)
    (record,) = handler.records
    assert (record.getMessage(), record.levelno, record.name) == ("50% slow", 30, LOGGER_NAME)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert capsys.readouterr().err == ""


def test_report_before_and_after_a_configuration_is_not_doubled(
    program: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    report(logging.WARNING, "before")
    handler = Kept()
    program.addHandler(handler)
    report(logging.WARNING, "after")
    assert capsys.readouterr().err.endswith("WARNING before\n")
    assert [record.getMessage() for record in handler.records] == ["after"]


def test_report_survives_a_configuration_that_disables_older_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(LOGGER_NAME).disabled = True  # as dictConfig does
    report(logging.ERROR, "still here")
    assert capsys.readouterr().err.endswith("still here\n")


@pytest.mark.parametrize(("level", "lines"), [("debug", 2), ("info", 2), ("warning", 1), ("error", 0)])
def test_configure_sets_the_least_severe_level(level: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure(level)
    report(logging.INFO, "a")
    report(logging.WARNING, "b")
    assert capsys.readouterr().err.count("\n") == lines


def test_report_heeds_a_filter_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(LOGGER_NAME).addFilter(lambda record: "secret" not in record.getMessage())
    report(logging.ERROR, "secret")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain é 日本", "plain é 日本"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m\x00\x7f\x85", r"\x1b[31m\x00\x7f\x85"),
        ("a\u2028b\u202eb\ud800", r"a\u2028b\u202eb\ud800"),
    ],
)
def test_escaped_leaves_no_control_character(text: str, line: str) -> None:
    assert escaped(text) == line


def test_report_escapes_the_message_and_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    report(logging.ERROR, "a\n2026 forged", ValueError("b\x1b[2J"))
    err = capsys.readouterr().err
    assert r"a\n2026 forged" in err
    assert r"ValueError: b\x1b[2J" in err
    assert "\x1b" not in err


# -- What the program puts in the way ----------------------------------------------------------------------------------


class Raising(logging.Handler):
    """Lets out what it raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


def catching() -> logging.Handler:
    """Catches what it raises, as the handlers of the standard library do."""
    stream = io.StringIO()
    stream.close()
    return logging.StreamHandler(stream)


class Reporting(logging.Handler):
    """Leads back to `report`."""

    def emit(self, record: logging.LogRecord) -> None:
        report(record.levelno, record.getMessage(), record.exc_info[1] if record.exc_info else None)


class Endless(logging.Handler):
    """Logs to the logger that it belongs to."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(LOGGER_NAME).log(record.levelno, record.getMessage())


def with_filter(handler: logging.Handler) -> logging.Handler:
    handler.addFilter(refuse)
    return handler


def refuse(record: logging.LogRecord) -> bool:
    raise LookupError("no such tenant")


# A handler of the program, and what it raises.
BROKEN: dict[str, tuple[Callable[[], logging.Handler], str]] = {
    "raises": (lambda: Raising(LookupError("no such tenant")), "LookupError: no such tenant"),
    "catches": (catching, "ValueError: I/O operation on closed file"),
    "filter-raises": (lambda: with_filter(Kept()), "LookupError: no such tenant"),
    "endless": (Endless, "RecursionError"),
}


@pytest.mark.parametrize("raises", [True, False], ids=["told", "silent"])
@pytest.mark.parametrize("name", BROKEN)
def test_report_to_a_handler_that_fails_is_written_whole_with_what_it_raised(
    name: str,
    raises: bool,
    program: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, problem = BROKEN[name]
    monkeypatch.setattr(logging, "raiseExceptions", raises)
    program.addHandler(make())
    report(logging.ERROR, "the application failed at GET /e", raised())
    err = capsys.readouterr().err
    whole = err[err.index("ERROR the application failed at GET /e\n") :].splitlines()
    assert whole[1] == "Traceback (most recent call last):"
    end = whole.index("ZeroDivisionError: division by zero")
    assert whole[end + 1] == "the message above was written here because the program's logging failed:"
    assert any(line.startswith(problem) for line in whole[end + 2 :])


def test_report_is_written_although_another_handler_took_it(
    program: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Kept()
    program.addHandler(handler)
    program.addHandler(Raising(LookupError("no such tenant")))
    report(logging.ERROR, "twice")
    assert [record.getMessage() for record in handler.records] == ["twice"]
    assert "ERROR twice\n" in capsys.readouterr().err


def test_report_after_a_failure_is_as_before(program: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    handler = catching()
    program.addHandler(handler)
    report(logging.ERROR, "first")
    program.removeHandler(handler)
    capsys.readouterr()
    report(logging.ERROR, "second")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("ERROR second")


def test_failure_of_a_handler_of_other_records_is_not_ours(
    program: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("a.program")
    log.propagate, log.handlers = False, [catching()]
    try:
        log.error("of the program")
    finally:
        log.propagate, log.handlers = True, []
    err = capsys.readouterr().err
    # What the standard library says of it, and nothing else.
    assert err.startswith("--- Logging error ---")
    assert "the message above" not in err


def test_report_to_a_filter_of_the_logger_that_raises_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(LOGGER_NAME).addFilter(refuse)
    report(logging.ERROR, "unfiltered", raised())
    err = capsys.readouterr().err
    assert "ERROR unfiltered\nTraceback" in err
    assert "LookupError: no such tenant" in err


def test_report_to_a_handler_that_ends_the_program_is_written_first(
    program: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    program.addHandler(Raising(SystemExit(3)))
    with pytest.raises(SystemExit):
        report(logging.ERROR, "last words")
    assert "ERROR last words\n" in capsys.readouterr().err


def test_report_from_a_handler_of_a_report_is_written_once(
    program: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    program.addHandler(Reporting())
    report(logging.ERROR, "round", raised())
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "round" in line] == lines[:1]
    assert lines[-1] == "ZeroDivisionError: division by zero"


class Relaying(io.StringIO):
    """A stream of the program's that logs what is written to it."""

    def write(self, text: str) -> int:
        logging.getLogger(LOGGER_NAME).error("%s", text.strip())
        return len(text)


# A handler of the program, and what it makes of `sys.stderr`, given `wsgi.errors`.
CIRCLES: dict[str, tuple[Callable[[Any], logging.Handler | None], Callable[[Any], Any]]] = {
    "stderr-is-wsgi-errors": (lambda errors: None, lambda errors: errors),
    "handler-of-wsgi-errors": (logging.StreamHandler, lambda errors: errors),
    "stderr-logs": (lambda errors: None, lambda errors: Relaying()),
    "stderr-logs-to-wsgi-errors": (logging.StreamHandler, lambda errors: Relaying()),
    "stderr-none": (lambda errors: None, lambda errors: None),
    "stderr-none-with-handler": (logging.StreamHandler, lambda errors: None),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_report_that_leads_back_reaches_the_descriptor_in_one_piece(
    name: str, program: logging.Logger, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, stream = CIRCLES[name]
    errors = ErrorStream()
    handler = make(errors)
    if handler is not None:
        program.addHandler(handler)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream(errors))
        report(logging.ERROR, "GET /e failed", raised())
    err = capfd.readouterr().err
    assert err.count("GET /e failed") == 1
    lines = err.splitlines()
    assert "GET /e failed" in lines[0]
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
