"""Every row of the table of exit codes in docs/deployment.md, and failures of a lifespan at every moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.test_processes import ASGI_APP, Site, site, wait_until
from tests.support import PATIENCE, environment, run

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

PAGE = Path(__file__).parent.parent.parent / "docs" / "deployment.md"

CODES: dict[str, tuple[list[str], int]] = {
    "help": (["--help"], 0),
    "version": (["--version"], 0),
    "help of a command": (["reload", "--help"], 0),
    "checked configuration": (["site_app:app", "--check-config", "--workers", "2"], 0),
    "wrong value": (["site_app:app", "--workers", "many"], 1),
    "address in use": (["site_app:app", "--bind", "192.0.2.1:1"], 1),
    "address in use, workers": (["site_app:app", "--bind", "192.0.2.1:1", "--workers", "2"], 1),
    "no application": (["site_app:other", "--port", "0"], 1),
    "no application, workers": (["site_app:other", "--port", "0", "--workers", "2"], 1),
    "no such file": (["site_app:app", "--config", "missing"], 1),
    "no such process": (["stop", "2147483647"], 1),
    "no command line": ([], 2),
    "unknown option": (["site_app:app", "--worker", "2"], 2),
    "no process": (["reload"], 2),
}
# Held by the tests that send signals.
BY_SIGNALS = {130, 128 + signal.SIGQUIT}


def test_table_has_every_exit_code() -> None:
    section = PAGE.read_text().partition("## Exit codes")[2].partition("##")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) ", section, re.MULTILINE)}
    assert codes == {code for _, code in CODES.values()} | BY_SIGNALS


@pytest.mark.parametrize("case", CODES)
def test_command_ends_with_the_code_of_the_table(case: str, site: Site) -> None:
    arguments, code = CODES[case]
    done = run(*arguments, cwd=site.folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["single", "workers"])
def test_interrupt_during_the_import_ends_with_130(workers: list[str], site: Site) -> None:
    (site.folder / "site_app.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "wsgi_server", "site_app:app", "--port", "0", *workers],
        cwd=site.folder,
        env=environment(),
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until((site.folder / "begun").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["single", "workers"])
def test_lifespan_that_fails_at_the_first_start_ends_with_1(workers: list[str], tmp_path: Path) -> None:
    site = Site(tmp_path, ASGI_APP)
    (site.folder / "fail").touch()
    done = run("site_app:app", "--port", "0", *workers, cwd=site.folder)
    assert done.returncode == 1
    assert done.stderr.count("no database") == 1


def test_lifespan_that_fails_later_is_a_failed_worker(tmp_path: Path) -> None:
    site = Site(tmp_path, ASGI_APP)
    with site.served("--workers", "2") as command:
        (site.folder / "fail").touch()
        victim, other = site.answering()
        os.kill(victim, signal.SIGKILL)
        # Again and again, ever later; the error is shown once.
        for _ in range(3):
            command.stderr.wait_for("exited with status 1 before it served; another starts in")
        assert sum("no database" in line for line in command.stderr.seen) == 1
        assert site.ask()[1] == other
        # A reload fails by it.
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("reload failed: ")
        assert site.ask()[1] == other
        (site.folder / "fail").unlink()
        site.reload("two")
        wait_until(lambda: len(site.answering()) == 2)
        assert command.stop() == 0
