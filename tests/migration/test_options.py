"""docs/migration.md says what is so: each option of another server is ours, or the command says what does the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from wsgi.cli import _parser
from wsgi.other_servers import COUNTERPARTS, FAMILIES
from wsgi.settings import OPTIONS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "migration.py"
GENERATOR: dict[str, Any] = {"__name__": "migration", "__file__": str(SCRIPT)}
exec(SCRIPT.read_text("utf-8"), GENERATOR)
PARSER = _parser()
PAGE: str = GENERATOR["PAGE"].read_text("utf-8")
SERVERS = ["gunicorn", "uvicorn", "granian", "hypercorn", "waitress", "uwsgi"]
OPTIONS_OF_OTHERS = [(server, option) for server in SERVERS for option in GENERATOR["options"](server)[1]]
TEXTS = {text for texts in (*COUNTERPARTS.values(), *FAMILIES.values()) for text in texts}


def section(heading: str) -> str:
    return PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]


def documented(server: str) -> dict[str, str]:
    """The options in the table of a server, each with its answer."""
    table = PAGE.partition(f"<!-- {server} -->")[2].partition(f"<!-- /{server} -->")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return {name: text.strip() for names, text in rows for name in re.findall(r"`([^`]+)`", names)}


DOCUMENTED = {server: documented(server) for server in SERVERS}


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says to a command line; "" if it takes it."""
    try:
        PARSER.parse(arguments)
    except SystemExit:
        return capsys.readouterr().err
    return ""


def test_tables_of_the_page_are_current() -> None:
    assert GENERATOR["page"](PAGE) == PAGE, "run 'make docs'"


@pytest.mark.parametrize(("server", "option"), OPTIONS_OF_OTHERS)
def test_option_of_another_server_is_ours_or_is_answered_in_one_line(
    server: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = DOCUMENTED[server][option]
    text = said(["hello:app", option], capsys)
    if answer == GENERATOR["SAME"]:
        assert "unknown option" not in text
        return
    assert text == f"wsgi: unknown option {option!r}: {answer} (wsgi --help lists the options)\n"
    assert answer in TEXTS


@pytest.mark.parametrize("server", SERVERS)
def test_page_has_every_option_and_no_other(server: str) -> None:
    assert list(DOCUMENTED[server]) != []
    assert set(DOCUMENTED[server]) == {option for name, option in OPTIONS_OF_OTHERS if name == server}


def test_list_of_gunicorn_is_that_of_the_installed_version() -> None:
    gunicorn = pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    settings = pytest.importorskip("gunicorn.config").KNOWN_SETTINGS
    version, listed = GENERATOR["options"]("gunicorn")
    if version != f"gunicorn {gunicorn.__version__}":
        pytest.skip(f"the list is that of {version}")
    theirs = {name for setting in settings for name in setting.cli or ()}
    assert theirs <= set(listed) <= theirs | {"-h", "--help", "-v", "--version"}


def test_list_of_waitress_is_that_of_the_installed_version() -> None:
    adjustments = pytest.importorskip("waitress.adjustments", reason="waitress is not installed")
    from importlib.metadata import version

    name, listed = GENERATOR["options"]("waitress")
    if name != f"waitress {version('waitress')}":
        pytest.skip(f"the list is that of {name}")
    theirs = {"--" + option.replace("_", "-") for option, _ in adjustments.Adjustments._params}
    assert theirs <= set(listed)


COMMANDS = re.findall(r"`(wsgi [^`]+)`", section("## From gunicorn") + section("## From uvicorn")) + re.findall(
    r"`(wsgi [^`]+)`", section("## From uWSGI, waitress and others")
)


def test_commands_of_the_page_are_there() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_page_is_taken(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(shlex.split(command)[1:], capsys) == ""


def test_options_of_the_same_name_exist() -> None:
    rows = [line.split("|")[1] for line in section("## The same name, another meaning").splitlines() if "| `" in line]
    named = re.findall(r"`(-[^`]+)`", " ".join(rows))
    ours = {flag for option in OPTIONS.values() for flag in (option.flag, option.short)}
    assert len(named) > 8
    assert set(named) <= ours


def test_answer_on_the_page_is_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    command, answer = re.findall(r"\$ wsgi (.+)\n(wsgi: .+)\n", PAGE)[0]
    assert said(shlex.split(command), capsys) == answer + "\n"


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["-w", "4"], "workers", "4"),
        (["-w4"], "workers", "4"),
        (["-b", "127.0.0.1:1", "-b:2"], "bind", ["127.0.0.1:1", ":2"]),
        (["-c", "gunicorn.conf.py"], "config", "gunicorn.conf.py"),
    ],
)
def test_short_option_is_the_long_one(arguments: list[str], name: str, value: object) -> None:
    assert vars(PARSER.parse(["hello:app", *arguments])) == {"target": "hello:app", name: value}


def test_application_may_be_missing_only_if_a_file_may_name_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WSGI_CONFIG", raising=False)
    assert "required: MODULE:APP" in said(["--port", "1"], capsys)
    assert said(["-c", "gunicorn.conf.py"], capsys) == ""
    monkeypatch.setenv("WSGI_CONFIG", "gunicorn.conf.py")
    assert said([], capsys) == ""
    assert "unknown option '--ini'" in said(["--ini", "site.ini"], capsys)
