"""`report`: where a message goes, and in what form."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

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
