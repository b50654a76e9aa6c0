"""`report`: where a message goes, and in what form."""

from __future__ import annotations

import io
import logging
import logging.handlers
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Command, RawClient, environment
from wsgi.environ import ErrorStream
from wsgi.logging import LOGGER_NAME, configure, escaped, is_reported, report


@pytest.fixture(autouse=True)
def program() -> Iterator[logging.Logger]:
    """What stands above the server's logger: that of a program which has configured nothing yet."""
    logger, above, last_resort = logging.getLogger(LOGGER_NAME), logging.RootLogger(logging.WARNING), logging.lastResort
    # The root itself has the test runner's handlers while a test runs.
    parent, logger.parent = logger.parent, above
    yield above
    logging.lastResort = last_resort
    logging.getLogger("py.warnings").handlers.clear()
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


# -- The records of other loggers --------------------------------------------------------------------------------------

STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[\d+\] ")


def stamped(lines: list[str]) -> list[str]:
    """Those of `lines` that are in the server's format, without time and process."""
    return [STAMP.sub("", line) for line in lines if STAMP.match(line)]


def logged(code: str, level: str = "info", *, prelude: str = "") -> list[str]:
    """What a program writes to standard error that sets up logging as the command does, and then runs `code`."""
    program = f"import logging\n{prelude}\nfrom wsgi.logging import configure, report\nconfigure({level!r})\n{code}"
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stderr.splitlines()


SPEAK = """
for logger in (logging.getLogger(name) for name in ("shop.orders", "wsgi.application", "root")):
    logger.info("fine")
    logger.error("bad")
report(logging.INFO, "served")
"""
ALL = [
    "INFO shop.orders: fine",
    "ERROR shop.orders: bad",
    "INFO wsgi.application: fine",
    "ERROR wsgi.application: bad",
    "INFO root: fine",
    "ERROR root: bad",
    "INFO served",
]


def test_records_of_every_logger_have_the_format_of_the_server() -> None:
    lines = logged(SPEAK)
    assert stamped(lines) == ALL
    assert len(lines) == len(ALL)


@pytest.mark.parametrize(("level", "names"), [("debug", "DIWE"), ("info", "IWE"), ("warning", "WE"), ("error", "E")])
def test_log_level_holds_for_the_loggers_of_the_application(level: str, names: str) -> None:
    code = "for level in (10, 20, 30, 40):\n    logging.getLogger('shop').log(level, 'said')"
    assert "".join(line[0] for line in stamped(logged(code, level))) == names


def test_record_with_control_characters_is_one_line_with_its_traceback_and_stack_below() -> None:
    lines = logged(
        """
try:
    raise ValueError("b\\x1b[2J")
except ValueError:
    logging.getLogger("shop").exception("a\\n2026 forged", stack_info=True)
"""
    )
    assert stamped(lines) == [r"ERROR shop: a\n2026 forged"]
    assert lines[1] == "Traceback (most recent call last):"
    assert r"ValueError: b\x1b[2J" in lines
    assert "Stack (most recent call last):" in lines


def test_warnings_that_the_application_captures_are_shown() -> None:
    lines = logged("import warnings\nlogging.captureWarnings(True)\nwarnings.warn('old', UserWarning)")
    assert len(lines) == 1
    assert stamped(lines)[0].startswith("WARNING py.warnings: ")
    assert "UserWarning: old" in lines[0]


@pytest.mark.parametrize("when", ["before", "after", "between"])
@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        # Python's own level, since none is given; the server keeps its own.
        ("logging.basicConfig(format='APP %(message)s')", ["APP bad"] * 3 + ["APP served"]),
        ("logging.basicConfig(format='APP %(message)s', level='INFO')", ["APP fine", "APP bad"] * 3 + ["APP served"]),
        ("logging.basicConfig(format='APP %(message)s', level='ERROR')", ["APP bad"] * 3 + ["APP served"]),
        (
            "import logging.config; logging.config.dictConfig({'version': 1, 'formatters': {'f': {'format': 'APP "
            "%(message)s'}}, 'handlers': {'h': {'class': 'logging.StreamHandler', 'formatter': 'f'}}, 'root': "
            "{'handlers': ['h']}, 'disable_existing_loggers': False})",
            ["APP bad"] * 3 + ["APP served"],
        ),
    ],
)
def test_configuration_of_the_application_wins_entirely(configuration: str, expected: list[str], when: str) -> None:
    if when == "before":
        assert logged(SPEAK, prelude=configuration) == expected
    elif when == "after":
        assert logged(configuration + SPEAK) == expected
    else:
        lines = logged(SPEAK + configuration + SPEAK)
        assert stamped(lines) == ALL
        assert lines[len(ALL) :] == expected


def test_level_that_the_application_gives_the_root_holds_in_the_format_of_the_server() -> None:
    assert stamped(logged("logging.getLogger().setLevel('ERROR')" + SPEAK)) == [
        *(line for line in ALL if line.startswith("ERROR")),
        "INFO served",
    ]
    # The same level as the command's, but the application's own: a handler that comes later must not take it back.
    lines = logged("logging.getLogger().setLevel('INFO')\nlogging.basicConfig(format='APP %(message)s')" + SPEAK)
    assert lines == ["APP fine", "APP bad"] * 3 + ["APP served"]


def test_handler_of_one_logger_gets_its_records_alone() -> None:
    code = "logging.getLogger('shop').addHandler(logging.StreamHandler())" + SPEAK
    lines = logged(code)
    assert lines[:2] == ["fine", "bad"]
    assert stamped(lines) == ALL[2:]


SHOP = """
import logging
import sys

from wsgi.application import WSGIApplication

app = WSGIApplication()
log = logging.getLogger("shop")
log.info("imported")

@app.get("/")
def index(request):
    log.debug("asked")
    return str(1 / 0)

if __name__ == "__main__":
    from wsgi.server import WSGIServer

    server = WSGIServer(port=0, app=app)
    with server:
        import urllib.error
        import urllib.request

        try:
            urllib.request.urlopen(server.addresses[0])
        except urllib.error.HTTPError as error:
            error.close()
    log.warning("over")
"""


def test_command_shows_errors_of_the_framework_and_the_application_in_one_format(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with Command("shop:app", "--log-level", "debug", cwd=tmp_path) as command:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().status == 500
        command.stderr.wait_for("ZeroDivisionError")
    assert stamped(command.stderr.seen)[:3] == [
        "INFO shop: imported",
        "DEBUG shop: asked",
        "ERROR wsgi.application: GET '/' failed",
    ]


def test_program_that_serves_keeps_its_logging_and_shows_errors_of_the_framework_in_one_format(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    words = [sys.executable, "shop.py"]
    run = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    lines = run.stderr.splitlines()
    assert stamped(lines) == ["ERROR wsgi.application: GET '/' failed"]
    # What Python does with a record that no handler gets.
    assert lines[-1] == "over"


def test_is_reported_follows_the_level_also_where_the_logger_was_switched_off() -> None:
    configure("info")
    logging.getLogger(LOGGER_NAME).disabled = True
    assert is_reported(logging.INFO)
    assert not is_reported(logging.DEBUG)


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
