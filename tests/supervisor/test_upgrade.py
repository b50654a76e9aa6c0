"""SIGUSR2: the supervisor executes the new program in its place; a program that cannot go on changes nothing."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.supervisor.test_processes import Site, children, is_running, site, wait_until
from tests.support import RawClient, run
from wsgi.errors import StartupError
from wsgi.supervisor.machine import Phase, Timing, Worker
from wsgi.supervisor.upgrade import UpgradeState

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

LAUNCHER = "import sys\nfrom wsgi.cli import main\nsys.exit(main())\n"


def program(site: Site, code: str = LAUNCHER) -> list[str]:
    """The words that start a program of the site's folder, which is the command at first."""
    (site.folder / "program.py").write_text(code)
    return [sys.executable, "program.py"]


def upgrade(site: Site, version: str) -> None:
    """Upgrades, and waits until every worker has the new version."""
    site.version(version)
    before = site.answering()
    site.signal(signal.SIGUSR2)
    site.command.stderr.wait_for("the new program takes over")
    wait_until(lambda: not set(before) & set(site.answering()))
    assert site.ask()[0] == version


def failed_upgrade(site: Site) -> str:
    """Upgrades in vain, and gives the line that says why."""
    before = site.answering()
    site.signal(signal.SIGUSR2)
    line = site.command.stderr.wait_for("upgrade failed: ")
    assert line.endswith("; the present program and its workers go on")
    assert site.ask()[0] == "one"
    wait_until(lambda: site.answering() == before)
    return line


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    return {text for number in os.listdir(folder) if (text := os.readlink(folder / number)).startswith("socket:")}


def test_upgrade_keeps_process_sockets_and_requests(site: Site) -> None:
    path = site.folder / "socket"
    # Answers by the version of the program.
    start = program(site, LAUNCHER + "\n# one")
    with site.served("--workers", "2", "--bind", "127.0.0.1:0", "--bind", f"unix:{path}", start=start) as command:
        pid, identity = command.process.pid, path.stat().st_ino
        client, worker = site.hold()
        (idle,) = set(site.answering()) - {worker}
        program(site, "import os\nos.environ['PROGRAM'] = 'new'\n" + LAUNCHER)
        site.at_import("VERSION += os.environ.get('PROGRAM', '')")
        site.version("two")
        site.signal(signal.SIGUSR2)
        command.stderr.wait_for("generation 2 serves")
        wait_until(lambda: len(site.answering()) == 3 and idle not in site.answering())
        assert site.ask()[0] == "twonew"
        assert all(is_running(one) for one in (pid, worker))
        site.let_go()
        with client:
            assert client.receive().body.decode().split()[:2] == ["one", str(worker)]
        wait_until(lambda: len(site.answering()) == 2)
        assert path.stat().st_ino == identity
        with RawClient(f"unix:{path}") as other:
            other.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert other.receive().body.startswith(b"twonew ")
        assert command.stop() == 0
    assert not path.exists()


def test_upgrades_leave_no_descriptor_and_no_process(site: Site) -> None:
    with site.served("--workers", "1") as command:
        pid = command.process.pid
        upgrade(site, "two")
        before = os.listdir(f"/proc/{pid}/fd")
        for version in ("three", "four"):
            upgrade(site, version)
        wait_until(lambda: len(children(pid)) == 1)
        assert len(os.listdir(f"/proc/{pid}/fd")) == len(before)
        # What is still shared with the check or with former workers would keep them from noticing its end.
        (worker,) = site.answering()
        command.process.kill()
        command.stderr.wait_for(f"worker {worker} stops: its supervisor has gone")
        wait_until(lambda: not is_running(worker))


def test_reload_and_signals_work_after_an_upgrade(site: Site) -> None:
    with site.served("--workers", "1") as command:
        upgrade(site, "two")
        site.signal(signal.SIGTTIN)
        command.stderr.wait_for("2 workers are wanted now")
        wait_until(lambda: len(site.answering()) == 2)
        upgrade(site, "three")
        # The number that the signal has wanted stays.
        wait_until(lambda: len(site.answering()) == 2)
        site.reload("four")
        (victim, *_) = site.answering()
        os.kill(victim, signal.SIGKILL)
        command.stderr.wait_for(f"worker {victim} was killed by SIGKILL; it is replaced")
        wait_until(lambda: len(site.answering()) == 2)
        assert command.stop() == 0


def test_signals_that_come_during_the_upgrade_are_handled_by_the_new_program(site: Site) -> None:
    with site.served("--workers", "1") as command:
        site.signal(signal.SIGUSR2)
        command.stderr.wait_for("the new program takes over")
        # The interpreter starts now.
        site.signal(signal.SIGTTIN)
        command.stderr.wait_for("2 workers are wanted now")
        wait_until(lambda: len(site.answering()) >= 2)
        site.signal(signal.SIGUSR2)
        command.stderr.wait_for("the new program takes over")
        assert command.stop() == 0


def test_worker_that_imports_after_an_upgrade_outlives_signals_for_the_server(site: Site) -> None:
    with site.served("--workers", "1") as command:
        before = site.answering()
        site.at_import("while not (HERE / 'go').exists(): time.sleep(0.01)")
        site.signal(signal.SIGUSR2)
        imports = site.folder / "imports"
        wait_until(lambda: len(imports.read_text().splitlines()) == 2 and imports.read_text().endswith("\n"))
        worker = int(imports.read_text().splitlines()[1])
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(worker, number)
        site.let_go()
        command.stderr.wait_for(f"worker {worker} serves (")
        wait_until(lambda: site.answering() == [worker])
        assert before != [worker]
        assert command.stop() == 0


BROKEN = {
    "raise SystemExit('wsgi: this version needs Python 9')": "wsgi: this version needs Python 9",
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    "syntax error": "SyntaxError: invalid syntax",
    "print('hello')": "hello",
    "": "it ended with status 0",
    "import os\nos._exit(3)": "it ended with status 3",
    "import wsgi.supervisor.upgrade as upgrade\nupgrade._VERSION = 0\n" + LAUNCHER: (
        "the running server has version 1 of the state for an upgrade, and this program version 0: restart the server"
    ),
}


def test_program_that_cannot_go_on_changes_nothing(site: Site) -> None:
    with site.served("--workers", "1", start=program(site)) as command:
        descriptors = len(os.listdir(f"/proc/{command.process.pid}/fd"))
        for code, why in BROKEN.items():
            program(site, code)
            assert why in failed_upgrade(site)
            assert len(os.listdir(f"/proc/{command.process.pid}/fd")) == descriptors
        (site.folder / "program.py").unlink()
        assert "No such file or directory" in failed_upgrade(site)
        program(site)
        upgrade(site, "two")
        assert command.stop() == 0


def test_program_that_hangs_changes_nothing(site: Site) -> None:
    with site.served("--workers", "1", "--boot-timeout", "4", start=program(site)) as command:
        program(site, "import time\ntime.sleep(60)")
        assert "it was not ready after 4 s" in failed_upgrade(site)
        wait_until(lambda: len(children(command.process.pid)) == 1)
        assert command.stop() == 0


def test_interpreter_that_was_removed_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # A link outside of the environment finds packages by the variable only.
    packages = [sysconfig.get_path("purelib"), str(Path(__file__).parent.parent.parent / "python")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(packages))
    python = site.folder / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    with site.served("--workers", "1", start=[str(python), "-m", "wsgi_server"]) as command:
        python.unlink()
        assert f"cannot execute {python}: No such file or directory" in failed_upgrade(site)
        python.symlink_to(os.path.realpath(sys.executable))
        upgrade(site, "two")
        assert command.stop() == 0


def test_configuration_is_checked_before_the_upgrade_and_applies_after_it(site: Site) -> None:
    toml, new = site.folder / "site.toml", site.folder / "new.socket"
    toml.write_text("workers = 1\nbind = '127.0.0.1:0'")
    with site.served("--config", "site.toml") as command:
        before = sockets_of(command.process.pid)
        for text, why in {
            "workers = 'many'": "workers must be a whole number from 1 to 512, auto or none",
            "workers = 'none'": "restart it to serve without them",
            "workers = 1\nbind = '192.0.2.1:1'": "cannot listen on 192.0.2.1:1",
            "workers = 1\nbind = 'fd://0'": "a running server takes over no other descriptors",
        }.items():
            toml.write_text(text)
            assert why in failed_upgrade(site)
        assert sockets_of(command.process.pid) == before
        toml.write_text(f"workers = 2\nbind = ['127.0.0.1:0', 'unix:{new}']")
        upgrade(site, "two")
        wait_until(lambda: len(site.answering()) == 2)
        with RawClient(f"unix:{new}") as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.receive().body.startswith(b"two ")
        assert command.stop() == 0
    assert not new.exists()


def test_application_that_fails_after_an_upgrade_leaves_the_former_workers(site: Site) -> None:
    with site.served("--workers", "2") as command:
        before = site.answering()
        site.at_import("raise LookupError('no settings')")
        site.signal(signal.SIGUSR2)
        command.stderr.wait_for("reload failed: ")
        assert site.answering() == before
        assert site.ask()[0] == "one"
        site.at_import("")
        site.version("two")
        # Replaced by what is there now.
        os.kill(before[0], signal.SIGKILL)
        command.stderr.wait_for("serves (")
        wait_until(lambda: len(site.answering()) == 2)
        site.reload("three")
        assert command.stop() == 0


# As in a shell: the variable PWD has the link, and the process the directory.
COMMAND = 'cd "$0" && python=$1 && shift && exec "$python" -m wsgi_server "$@"'


def test_upgrade_starts_where_the_link_of_the_start_directory_leads(tmp_path: Path) -> None:
    site, releases = Site(tmp_path), []
    for name in ("1", "2"):
        releases.append(tmp_path / name)
        releases[-1].mkdir()
        other = Site(releases[-1])
        other.version(f"release{name}")
    link = tmp_path / "current"
    link.symlink_to("1")
    site.folder = link
    with site.served("--workers", "1", start=["sh", "-c", COMMAND, str(link), sys.executable]):
        assert site.ask()[0] == "release1"
        before = site.answering()
        link.unlink()
        link.symlink_to("2")
        site.signal(signal.SIGUSR2)
        wait_until(lambda: not set(before) & set(site.answering()))
        assert site.ask()[0] == "release2"


def test_stop_during_the_check_of_an_upgrade_ends_with_0(site: Site) -> None:
    with site.served("--workers", "1", start=program(site)) as command:
        program(site, "import time\ntime.sleep(60)")
        site.signal(signal.SIGUSR2)
        wait_until(lambda: len(children(command.process.pid)) == 2)
        checking = children(command.process.pid)
        assert command.stop() == 0
        wait_until(lambda: not any(is_running(pid) for pid in checking))


def test_second_upgrade_during_a_check_gives_the_first_one_up(site: Site) -> None:
    with site.served("--workers", "1", start=program(site)) as command:
        program(site, "import time\ntime.sleep(60)")
        site.signal(signal.SIGUSR2)
        wait_until(lambda: len(children(command.process.pid)) == 2)
        program(site)
        upgrade(site, "two")
        assert command.stop() == 0


STATE = UpgradeState(
    sockets=[("127.0.0.1:0", 3, None), ("unix:/run/app", 4, (5, 6))],
    workers={7: Worker(2, Phase.DRAINING, 1.5, 9.5, has_served=True, timing=Timing(boot=1))},
    channels={7: (8, b"r\0")},
    page=9,
    slots={7: 0},
    handover=(10, 11),
    reloads=(2, 1, 1),
    loaded=[7],
    generation=2,
    last_generation=3,
    target=2,
    configured=1,
    has_served=True,
    signals=[1],
    ignored=[1],
)


def test_state_is_read_as_it_was_written() -> None:
    assert UpgradeState.from_json(STATE.to_json()) == STATE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "sockets": 5}', '{"version": "x"}'])
def test_state_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(StartupError, match="for an upgrade"):
        UpgradeState.from_json(text)


@pytest.mark.parametrize("value", ["run:0", "run:999", "check:99999999999999999999"])
def test_variable_without_a_state_ends_the_start_in_one_line(value: str, tmp_path: Path) -> None:
    done = run("hello:app", cwd=tmp_path, env={"_WSGI_SERVER_UPGRADE": value})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("wsgi: the running server's state for an upgrade cannot be read: ")
