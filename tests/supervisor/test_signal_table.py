"""Every row of the table of signals in docs/deployment.md, sent to a supervisor and to a single process."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.supervisor.test_processes import Site, at_a_terminal, children, exit_code, is_running, site, wait_until
from tests.support import PATIENCE, Command, RawClient

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

PAGE = Path(__file__).parent.parent.parent / "docs" / "deployment.md"


def ask(command: Command) -> None:
    """One request, which is answered."""
    with RawClient(command.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.receive().status == 200


def ends_with_0(site: Site, number: int) -> None:
    site.signal(number)
    assert site.command.process.wait(PATIENCE) == 0


def ends_at_once(site: Site, number: int) -> None:
    workers = site.answering()
    client, _ = site.hold()
    site.signal(number)
    assert site.command.process.wait(PATIENCE) == 0
    assert not any(is_running(worker) for worker in workers)
    client.socket.close()


def is_ended_by_it(site: Site, number: int) -> None:
    site.signal(number)
    assert site.command.process.wait(PATIENCE) == -number


def reloads(site: Site, number: int) -> None:
    site.version("two")
    site.signal(number)
    site.command.stderr.wait_for("generation 2 serves")
    wait_until(lambda: site.ask()[0] == "two")


def reopens_logs(site: Site, number: int) -> None:
    log, moved = site.folder / "access.log", site.folder / "access.log.1"
    log.rename(moved)
    site.signal(number)

    def is_written_anew() -> bool:
        ask(site.command)
        return log.exists() and log.read_text() != ""

    wait_until(is_written_anew)


def reopens_logs_with_a_line(site: Site, number: int) -> None:
    reopens_logs(site, number)
    site.command.stderr.wait_for("without worker processes the application is not loaded again")


def adds_a_worker(site: Site, number: int) -> None:
    before = len(site.answering())
    site.signal(number)
    wait_until(lambda: len(site.answering()) == before + 1)


def removes_a_worker(site: Site, number: int) -> None:
    before = len(site.answering())
    site.signal(number)
    wait_until(lambda: len(site.answering()) == before - 1)


def leaves_a_line(site: Site, number: int) -> None:
    site.signal(number)
    site.command.stderr.wait_for(f"{signal.Signals(number).name} was ignored")
    ask(site.command)


def is_left_to_the_system(site: Site, number: int) -> None:
    before = len(site.command.stderr.seen)
    site.signal(number)
    # Only a process of a job of a terminal is suspended.
    site.signal(signal.SIGCONT)
    ask(site.command)
    assert len(site.command.stderr.seen) == before


Check = Callable[[Site, int], None]
EFFECTS: dict[str, tuple[Check, Check]] = {
    "SIGTERM": (ends_with_0, ends_with_0),
    "SIGINT": (ends_with_0, ends_with_0),
    "SIGQUIT": (ends_at_once, is_ended_by_it),
    "SIGHUP": (reloads, reopens_logs_with_a_line),
    "SIGUSR1": (reopens_logs, reopens_logs),
    "SIGUSR2": (reloads, leaves_a_line),
    "SIGTTIN": (adds_a_worker, is_left_to_the_system),
    "SIGTTOU": (removes_a_worker, is_left_to_the_system),
}


def test_table_has_every_signal() -> None:
    rows = re.findall(r"^\| (SIG[A-Z0-9, ]+)", PAGE.read_text(), re.MULTILINE)
    assert sorted(re.findall("SIG[A-Z0-9]+", " ".join(rows))) == sorted(EFFECTS)


@pytest.mark.parametrize("name", EFFECTS)
def test_signal_to_a_supervisor_does_what_the_table_says(name: str, site: Site) -> None:
    with site.served("--workers", "2", "--access-log", "access.log"):
        EFFECTS[name][0](site, signal.Signals[name])


@pytest.mark.parametrize("name", EFFECTS)
def test_signal_to_a_single_process_does_what_the_table_says(name: str, site: Site) -> None:
    with Command("site_app:app", "--access-log", "access.log", cwd=site.folder) as command:
        site.command = command
        EFFECTS[name][1](site, signal.Signals[name])


def test_terminal_that_closes_ends_a_single_process(site: Site) -> None:
    with at_a_terminal(site) as (pid, terminal, wait_for):
        wait_for("Serving HTTP")
        os.close(terminal)
        assert exit_code(pid) == 0


def test_hang_up_of_a_single_process_whose_terminal_is_open_stops_nothing(site: Site) -> None:
    with at_a_terminal(site) as (pid, terminal, wait_for):
        wait_for("Serving HTTP")
        os.kill(pid, signal.SIGHUP)
        wait_for("SIGHUP reopened the logs")
        os.kill(pid, signal.SIGTERM)
        assert exit_code(pid) == 0
        os.close(terminal)


JOB = """
import os, subprocess, sys, termios
# A job in the background that writes to such a terminal gets SIGTTOU.
mode = termios.tcgetattr(0)
mode[3] |= termios.TOSTOP
termios.tcsetattr(0, termios.TCSANOW, mode)
job = subprocess.Popen([sys.executable, "-m", "wsgi_server", *sys.argv[1:]], process_group=0)
sys.exit(job.wait())
"""


def test_job_in_the_background_of_a_terminal_serves_and_is_not_resized(site: Site) -> None:
    job = JOB if sys.version_info >= (3, 11) else JOB.replace("process_group=0", "preexec_fn=lambda: os.setpgid(0, 0)")
    with at_a_terminal(site, "--workers", "2", start=("-c", job)) as (pid, terminal, wait_for):
        wait_for("serves (")
        wait_for("serves (")
        (supervisor,) = children(pid)
        assert len(children(supervisor)) == 2
        os.kill(supervisor, signal.SIGTTIN)
        wait_for("SIGTTIN was ignored: the kernel sends it to background jobs of a terminal, as this server is")
        # Written in the background, and no worker more or less.
        os.kill(supervisor, signal.SIGHUP)
        wait_for("generation 2 serves")
        wait_until(lambda: len(children(supervisor)) == 2)
        os.kill(supervisor, signal.SIGTERM)
        assert exit_code(pid) == 0
        os.close(terminal)
